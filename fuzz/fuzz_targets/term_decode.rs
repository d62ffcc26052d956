//! Any bytes are the canonical form of the term they decode to, or are refused; and the functions
//! on bytes say of them what is so of the term.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synod_core::term::text::{self, WriteOptions};
use synod_core::term::{Term, shape};

fuzz_target!(|bytes: &[u8]| {
    let mut straight = String::new();
    let written = text::write_encoded(bytes, &mut straight, "_");
    let (functor, ground) = (shape::functor(bytes), shape::is_ground(bytes));
    let arguments = shape::arguments(bytes).count();
    let Ok(term) = Term::decode(bytes) else { return };
    assert_eq!(term.encode().as_deref(), Ok(bytes));
    assert_eq!(ground, term.is_ground());
    let mut through = String::new();
    text::write(&term, &mut through, WriteOptions::CANONICAL);
    assert_eq!((written, straight), (Ok(()), through));
    if let Term::Compound(name, args) = &term {
        assert_eq!(functor, Some((&**name, args.len())));
        assert_eq!(arguments, args.len());
    }
});
