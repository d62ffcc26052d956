//! A term built from the input's bytes comes back through its encoding, through its text in both
//! styles, and through SWI-Prolog's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use synod_core::term::swi::{self, Swi};
use synod_core::term::text::{self, Dialect, WriteOptions};
use synod_core::term::{BigInt, Term};

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input { bytes, at: 0 };
    let Some(built) = input.term(40) else { return };
    let Ok(encoded) = built.encode() else { return };
    let term = Term::decode(&encoded).expect("what was encoded decodes");
    assert_eq!(term.encode().as_ref(), Ok(&encoded));
    for options in [WriteOptions::CANONICAL, WriteOptions::PRETTY] {
        let mut text = String::new();
        text::write(&term, &mut text, options);
        assert_eq!(text::read(&text, Dialect::Scryer).as_ref(), Ok(&term), "{text}");
    }
    let message = Swi::Send(term);
    if let Ok(datagram) = swi::write(&message) {
        assert_eq!(swi::read(&datagram), Ok(message));
    }
});

/// The bytes as choices.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        self.at += 1;
        self.bytes.get(self.at - 1).copied()
    }

    fn take(&mut self) -> Option<&[u8]> {
        let len = usize::from(self.byte()? % 16);
        let taken = self.bytes.get(self.at..self.at + len)?;
        self.at += len;
        Some(taken)
    }

    fn text(&mut self) -> Option<String> {
        self.take().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn integer(&mut self) -> Option<BigInt> {
        self.take().map(BigInt::from_signed_bytes_be)
    }

    fn terms(&mut self, depth: usize) -> Option<Vec<Term>> {
        let len = self.byte()? % 5;
        (0..=len).map(|_| self.term(depth)).collect()
    }

    fn term(&mut self, depth: usize) -> Option<Term> {
        let depth = depth.checked_sub(1)?;
        Some(match self.byte()? % 9 {
            0 => Term::integer(self.integer()?),
            1 => Term::rational(self.integer()?, self.integer()?).ok()?,
            2 => {
                let mut bits = [0; 8];
                let taken = self.take()?;
                let len = taken.len().min(8);
                bits[..len].copy_from_slice(&taken[..len]);
                Term::float(f64::from_bits(u64::from_be_bytes(bits))).ok()?
            }
            3 => Term::atom(self.text()?),
            4 => Term::string(self.text()?),
            5 => Term::list(self.terms(depth)?),
            6 => Term::partial(self.terms(depth)?, self.term(depth)?),
            7 => Term::compound(self.text()?, self.terms(depth)?).ok()?,
            _ => Term::Var(u32::from(self.byte()?)),
        })
    }
}
