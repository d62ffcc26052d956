"""Reads an export with cbor2 from stdin, and says what it holds."""

import io
import sys

import cbor2

data = sys.stdin.buffer.read()
stream = io.BytesIO(data)
decoder = cbor2.CBORDecoder(stream)
header = decoder.decode()
# Tag 55799 says that it is CBOR: some versions of cbor2 take it off.
header = getattr(header, "value", header)
print("header", header[0], header[1], header[2].hex(), header[3], header[4], header[5].hex())
while True:
    item = decoder.decode()
    if item[0] == "end":
        print("end", item[1], item[2].hex())
        break
    print("envelope", item[0], item[1], item[2][0], item[3].hex())
