"""Another implementation of CBOR, for the data codec's test: `make N` prints N random items in
hexadecimal, `compare` reads pairs of items and says whether each means the same to cbor2."""

import math
import random
import struct
import sys

import cbor2


def value(rng, depth):
    kinds = 9 if depth else 7
    kind = rng.randrange(kinds)
    if kind == 0:
        return rng.choice([1, -1]) * (rng.getrandbits(rng.choice([4, 8, 16, 32, 64, 65, 200])))
    if kind == 1:
        return rng.choice([0.0, 1.5, math.inf, -math.inf, math.nan, 1e300, 1e-310, rng.random()])
    if kind == 2:
        return rng.randbytes(rng.randrange(30))
    if kind == 3:
        return "".join(chr(rng.choice([0, 65, 233, 0x2603, 0x1F600])) for _ in range(rng.randrange(30)))
    if kind == 4:
        return rng.choice([True, False, None, cbor2.undefined, cbor2.CBORSimpleValue(99)])
    if kind == 5:
        return cbor2.CBORTag(rng.choice([1000, 70000, 2**40]), value(rng, 0))
    if kind == 6:
        return rng.choice(["", b"", [], {}])
    if kind == 7:
        return [value(rng, depth - 1) for _ in range(rng.randrange(6))]
    return {key(rng): value(rng, depth - 1) for _ in range(rng.randrange(6))}


def key(rng):
    return rng.choice([rng.randrange(-500, 500), str(rng.random()), rng.randbytes(3), "a" * rng.randrange(9)])


def loose(rng, v):
    """An item that means v, not always in the shortest form and with indefinite lengths."""
    if isinstance(v, bool) or v is None:
        return cbor2.dumps(v)
    if isinstance(v, int) and 0 <= v < 2**64 and rng.random() < 0.3:
        return b"\x1b" + struct.pack(">Q", v)
    if isinstance(v, list) and rng.random() < 0.5:
        return b"\x9f" + b"".join(loose(rng, x) for x in v) + b"\xff"
    if isinstance(v, dict) and rng.random() < 0.5:
        return b"\xbf" + b"".join(loose(rng, k) + loose(rng, x) for k, x in v.items()) + b"\xff"
    if isinstance(v, bytes) and rng.random() < 0.5:
        cut = rng.randrange(len(v) + 1)
        return b"\x5f" + cbor2.dumps(v[:cut]) + cbor2.dumps(v[cut:]) + b"\xff"
    if isinstance(v, str) and rng.random() < 0.5:
        cut = rng.randrange(len(v) + 1)
        return b"\x7f" + cbor2.dumps(v[:cut]) + cbor2.dumps(v[cut:]) + b"\xff"
    return cbor2.dumps(v)


def same(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, cbor2.CBORTag):
        return isinstance(b, cbor2.CBORTag) and a.tag == b.tag and same(a.value, b.value)
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a == b


if sys.argv[1] == "make":
    rng = random.Random(7)
    for _ in range(int(sys.argv[2])):
        print(loose(rng, value(rng, 4)).hex())
else:
    different = []
    for line in sys.stdin:
        there, back = (bytes.fromhex(item) for item in line.split())
        if not same(cbor2.loads(there), cbor2.loads(back)):
            different.append(line.strip())
    print("\n".join(different) or "same")
