//! Any bytes are refused as CBOR, or read as a term that is written to the same bytes ever after.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synod_core::term::{Term, data};

fuzz_target!(|bytes: &[u8]| {
    let Ok((term, end)) = data::decode_next(bytes) else { return };
    assert!(end <= bytes.len());
    let written = data::encode(&term).expect("what was read is data");
    let again = data::decode(&written).expect("what was written is read");
    assert_eq!(data::encode(&again).as_ref(), Ok(&written));
    if let Ok(encoded) = again.encode() {
        assert_eq!(Term::decode(&encoded), Ok(again));
    }
});
