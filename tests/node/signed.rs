//! What voters have signed, as whoever verifies an export is told.

use crate::group::{Group, SPACE};
use crate::world::wait_for;

#[test]
fn an_export_says_how_far_voters_have_signed_it_and_a_forged_one_is_found() {
    let group = Group::of_three();
    assert_eq!(group.places[1].try_broadcast("hello").0, 200);
    // An idle end is agreed on.
    let place = &group.places[2];
    let checkpoint = || -> Option<String> {
        let lines = place.world.yes(["log", "show", "--space", SPACE]);
        lines.lines().find(|line| line.contains(" checkpoint index ")).map(str::to_owned)
    };
    wait_for("a checkpoint", || checkpoint().is_some());
    let said = checkpoint().unwrap();
    let signed = said.split("checkpoint index ").nth(1).unwrap().split(',').next().unwrap();
    let file = place.world.path().join("shared.cbor");
    let file = file.to_str().unwrap();
    place.world.yes(["log", "export", file, "--space", SPACE]);
    let verified = place.world.yes(["log", "verify", file]);
    assert!(verified.contains(&format!("signed up to index {signed} by ")), "{verified}");
    let names = ["alpha", "beta", "gamma"].iter().filter(|name| verified.contains(**name));
    assert!(names.count() >= 2, "{verified}");
    assert!(!verified.contains("whether they were voters"), "{verified}");

    // A part of it knows the keys, and not whose vote they are.
    let part = place.world.path().join("part.cbor");
    let part = part.to_str().unwrap();
    place.world.yes(["log", "export", part, "--space", SPACE, "--from", "4"]);
    let verified = place.world.yes(["log", "verify", part]);
    assert!(
        verified.contains("12D3KooW") && verified.contains("whether they were voters"),
        "{verified}"
    );

    // The chain can be made anew by anybody, the signatures cannot.
    let forged = place.world.path().join("forged.cbor");
    std::fs::write(&forged, forge(&std::fs::read(file).unwrap())).unwrap();
    let ran = place.world.run(["log", "verify", forged.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("is of another chain than the log's"), "{ran:?}");
}

/// The same export with an event that nobody emitted, and a chain that fits.
fn forge(export: &[u8]) -> Vec<u8> {
    use synod_core::apply::Chain;
    use synod_core::export::{Item, Reader, Writer};
    let mut reader = Reader::new();
    reader.push(bytes::Bytes::copy_from_slice(export));
    let (mut out, mut writer) = (Vec::new(), None);
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Header(header) => {
                let place = Chain { index: header.first - 1, time: 0, hash: header.chain };
                writer = Some(Writer::begin(header.space, &header.name, &place, &mut out));
            }
            Item::Envelope(envelope) => {
                let mut command = envelope.command.to_vec();
                if let Some(at) = command.windows(5).position(|part| part == b"hello") {
                    command[at] = b'j';
                }
                writer.as_mut().unwrap().envelope(envelope.time, &command, &mut out);
            }
            Item::End { .. } => writer.take().unwrap().end(&mut out),
        }
    }
    out
}
