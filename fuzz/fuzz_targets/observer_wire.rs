//! Any bytes are refused, or what observers and voters say, written as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synod_core::group::observer::{Answer, Piece, Request};

fuzz_target!(|bytes: &[u8]| {
    if let Ok((proof, request)) = Request::decode(bytes) {
        assert_eq!(request.encode(&proof), bytes);
    }
    let bytes = bytes.to_vec().into();
    if let Ok(answer) = Answer::decode(&bytes) {
        assert_eq!(answer.encode(), bytes);
    }
    if let Ok(piece) = Piece::read_announcement(&bytes) {
        assert_eq!(piece.announcement(), bytes);
    }
});
