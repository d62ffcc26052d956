//! Any text is refused, or read as a term that its canonical text gives again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synod_core::term::text::{self, Dialect, WriteOptions};

fuzz_target!(|text: &str| {
    let _ = text::read(text, Dialect::Swi);
    let Ok(read) = text::read_named(text, Dialect::Scryer) else { return };
    for options in [WriteOptions::CANONICAL, WriteOptions::PRETTY] {
        let mut written = String::new();
        text::write(&read.term, &mut written, options);
        assert_eq!(text::read(&written, Dialect::Scryer).as_ref(), Ok(&read.term), "{written}");
    }
});
