//! Any datagram is refused, or a message that is written to a datagram that is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synod_core::term::swi;

fuzz_target!(|bytes: &[u8]| {
    for datagram in [bytes, &[b"%-prolog-\n", bytes].concat()] {
        let Ok(message) = swi::read(datagram) else { continue };
        if let Ok(written) = swi::write(&message) {
            let again = swi::read(&written).expect("what was written is read");
            assert_eq!(swi::write(&again), Ok(written));
        }
    }
});
