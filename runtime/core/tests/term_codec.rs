//! The term codec as others see it: golden bytes, and the CDDL that describes them.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a broken file fails the test")]

mod cddl;

use cddl::Schema;
use synod_core::term::text::{self, Dialect, WriteOptions};
use synod_core::term::{DecodeError, Term};

const TERMS: &str = include_str!("golden/terms.txt");
const REFUSED: &str = include_str!("golden/refused.txt");

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect()
}

fn lines(file: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').expect("two columns"))
}

fn schema() -> Schema {
    Schema::parse(include_str!("../term.cddl"))
}

#[test]
fn the_bytes_of_terms_are_what_they_have_always_been() {
    for (hex, canonical) in lines(TERMS) {
        let term = text::read(canonical, Dialect::Scryer).unwrap();
        assert_eq!(term.encode(), Ok(bytes(hex)), "{canonical}");
        assert_eq!(Term::decode(&bytes(hex)), Ok(term), "{hex}");
        let mut written = String::new();
        text::write_encoded(&bytes(hex), &mut written, "_").unwrap();
        assert_eq!(written, canonical, "{hex}");
        let mut written = String::new();
        text::write(&Term::decode(&bytes(hex)).unwrap(), &mut written, WriteOptions::CANONICAL);
        assert_eq!(written, canonical, "{hex}");
    }
}

#[test]
fn what_is_refused_is_refused_for_what_it_is() {
    for (_, rest) in lines(REFUSED) {
        let (hex, why) = rest.split_once(' ').expect("three columns");
        let refused =
            Term::decode(&bytes(hex)).map_err(|DecodeError { what, .. }| what.to_string());
        assert_eq!(refused, Err(why.to_owned()), "{hex}");
    }
}

#[test]
fn the_cddl_describes_every_term_and_little_else() {
    let schema = schema();
    for (hex, canonical) in lines(TERMS) {
        assert!(schema.matches("term", &bytes(hex)), "{canonical}");
    }
    for (who, rest) in lines(REFUSED) {
        let (hex, why) = rest.split_once(' ').expect("three columns");
        // Bytes that are not deterministic, or no single item, are beneath CDDL.
        if who == "cddl" {
            assert!(!schema.matches("term", &bytes(hex)), "{hex}: {why}");
        }
    }
}
