//! The pages in `docs/` say what is: the language reference is made from the libraries' own comments,
//! the page of the API names every route, that of the log holds its grammar.
//!
//! `SYNOD_WRITE_DOCS=1 cargo nextest run --workspace --test docs` writes what can be made.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "sim/tests/support/cddl.rs"]
mod cddl;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use synod_core::cbor::Reader;

/// The parts of `library(synod)`, in the order in which the engine has them.
const SYNOD: [&str; 10] = [
    "synod/module",
    "synod/declarations",
    "synod/facts",
    "synod/transactions",
    "synod/events",
    "synod/remote",
    "synod/udp",
    "synod/timers",
    "synod/places",
    "synod/hooks",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Holds a page against what it should be; writes it, if that is asked for.
fn check(path: &str, made: &str) {
    if std::env::var_os("SYNOD_WRITE_DOCS").is_some() {
        fs::write(root().join(path), made).unwrap();
    }
    assert!(
        read(path) == made,
        "{path} is stale: SYNOD_WRITE_DOCS=1 cargo nextest run --workspace --test docs"
    );
}

#[test]
fn the_language_reference_is_what_the_libraries_say() {
    let mut page = String::from(
        "# The language\n\nMade from the comments of the libraries; do not edit. What the modes and \
         determinisms mean is as in SWI-Prolog's manual.\n",
    );
    page.push_str("\n## library(synod)\n");
    for part in SYNOD {
        page.push_str(&documented(&read(&format!("prolog/lib/{part}.pl"))));
    }
    page.push_str("\n## library(cbor)\n");
    page.push_str(&documented(&read("prolog/lib/cbor.pl")));
    check("docs/language.md", &page);
}

/// What a library's text says of itself: its own comment, then each predicate's.
fn documented(text: &str) -> String {
    let mut page = String::new();
    if let Some(own) = text.strip_prefix("/** ") {
        let own = own.split("\n*/").next().unwrap();
        page.push_str(&format!("\n{own}\n"));
    }
    let mut section = None;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("%%%% ") {
            section = title.split(". ").next().map(|title| title.trim_end_matches('.').to_owned());
        } else if let Some(head) = line.strip_prefix("%% ") {
            if let Some(section) = section.take() {
                page.push_str(&format!("\n### {section}\n"));
            }
            page.push_str(&format!("\n#### `{}`\n\n", head.trim_end_matches('.')));
            let mut body = String::new();
            while let Some(line) = lines.next_if(|line| line.starts_with('%')) {
                body.push_str(line.trim_start_matches('%').strip_prefix(' ').unwrap_or_default());
                body.push('\n');
            }
            page.push_str(body.trim_start_matches('\n').trim_end());
            page.push('\n');
        }
    }
    page.replace("\n```\n?-", "\n```prolog\n?-").replace("\n```\n:-", "\n```prolog\n:-")
}

#[test]
fn every_exported_predicate_is_in_the_language_reference() {
    let text = read("prolog/lib/synod/module.pl");
    let exports = text.split(":- module(synod, [").nth(1).unwrap().split("]).").next().unwrap();
    let page = read("docs/language.md");
    for line in exports.lines().filter(|line| line.contains('/') && !line.contains("op(")) {
        let name = line.trim().split('/').next().unwrap().trim_matches(['(', ')']);
        let heads = page.lines().filter(|line| line.starts_with("#### `"));
        assert!(heads.into_iter().any(|head| head.contains(name)), "{name} is not in it");
    }
}

#[test]
fn the_page_of_the_api_names_every_route() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("runtime/node/control");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|is| is == "rs"));
    let routes: String = files.map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut known = BTreeSet::new();
    for route in routes.lines().filter_map(|line| line.split_once(".route(\"").map(|it| it.1)) {
        let (path, methods) = route.split_once("\", ").unwrap();
        for (method, call) in [("GET", "get("), ("POST", "post("), ("DELETE", "delete(")] {
            if methods.starts_with(call) || methods.contains(&format!(".{call}")) {
                known.insert(format!("{method} {path}"));
            }
        }
    }
    assert!(known.len() > 15, "{known:?}");
    let page = read("docs/api.md");
    let named: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`').map(str::to_owned))
        .collect();
    assert_eq!(named, known);
    for part in page.split("\n### `").skip(1) {
        let route = part.lines().next().unwrap();
        assert!(part.contains("curl") && part.contains("--unix-socket"), "{route} has no example");
    }
}

#[test]
fn the_page_of_the_log_holds_its_grammar() {
    const BEGIN: &str = "<!-- runtime/core/log.cddl -->\n";
    const END: &str = "<!-- end -->\n";
    let page = read("docs/log.md");
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let grammar = read("runtime/core/log.cddl");
    check("docs/log.md", &format!("{before}{BEGIN}```cddl\n{grammar}```\n{END}{after}"));
}

#[test]
fn the_grammar_of_frames_says_what_a_frame_is() {
    let grammar = cddl::Grammar::parse(&read("udp-shim/frame.cddl"));
    let frame = fs::read(root().join("udp-shim/tests/golden/frame-v1.cbor")).unwrap();
    let mut items = Reader::new(&frame);
    assert!(grammar.matches("head", &mut items));
    let mut datagrams = 0;
    while items.end().is_err() {
        assert!(grammar.matches("datagram", &mut items), "datagram {datagrams}");
        datagrams += 1;
    }
    assert_eq!(datagrams, 3);
    assert!(!grammar.matches("head", &mut Reader::new(&frame[1..])));
}
