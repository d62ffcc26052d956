//! What is said is read as it was written, and nothing else is.

use super::*;
use crate::network::Mode;
use crate::tunnel::Groups;
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn open(groups: &[[u8; 4]], ports: &[&str]) -> Open {
    let groups = groups.iter().map(|group| Ipv4Addr::from(*group)).collect();
    let ports = ports.iter().map(|ports| ports.parse().unwrap()).collect();
    Open {
        name: "paxos".to_owned(),
        tag: "1f2e3d4c".to_owned(),
        groups: Groups::new(groups, ports).unwrap(),
        address: Ipv4Addr::new(127, 70, 1, 2),
        capture: Some(Mode::Redirect),
    }
}

fn all() -> Vec<(Message, &'static str)> {
    let request = Message::Request;
    let answer = Message::Answer;
    let opened = |remarks: &[&str]| Answer::Opened {
        id: 7,
        mode: Mode::Join,
        has_raw: true,
        remarks: remarks.iter().map(|remark| (*remark).to_owned()).collect(),
    };
    let restored = vec![("a".to_owned(), Ok(true)), ("b".to_owned(), Err("c".to_owned()))];
    vec![
        (request(Request::Restore), "0100"),
        (
            request(Request::Open(open(&[[239, 0, 0, 2]], &["20005-20006"]))),
            "010100057061786f7300083166326533643463\
             01ef00000200014e254e267f4601020008\
             7265646972656374",
        ),
        (request(Request::Close(7)), "010200000007"),
        (
            request(Request::Join("239.0.0.2:20005%lo".parse().unwrap())),
            "010300123233392e302e302e323a3230303035256c6f",
        ),
        (answer(Answer::More), "0180"),
        (
            answer(opened(&["x"])),
            "01810000000700046a6f696e01010001\
             78",
        ),
        (answer(Answer::Done), "0182"),
        (
            answer(Answer::Restored(restored)),
            "0183020001610100000001620200\
             0163",
        ),
        (answer(Answer::Failed("no".to_owned())), "01ff00026e6f"),
    ]
}

fn refused(bytes: &[u8]) -> String {
    Message::decode(bytes).unwrap_err().to_string()
}

#[test]
fn each_message_has_the_bytes_that_this_version_gives_it() {
    for (message, golden) in all() {
        let bytes = message.encode();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden, "{message:?}: other bytes are another version");
        assert_eq!(Message::decode(&bytes), Ok(message));
    }
    assert!(refused(&[2, 0]).contains("version 2"));
}

#[test]
fn what_nobody_may_ask_for_is_refused() {
    let bytes = |change: &dyn Fn(&mut Open)| {
        let mut open = open(&[[239, 0, 0, 2]], &["20005"]);
        change(&mut open);
        Message::Request(Request::Open(open)).encode()
    };
    assert!(Message::decode(&bytes(&|_| {})).is_ok());
    for name in ["", "..", "../x", "a/b", "a.state", "a b", "\0", "\u{fc}"] {
        let said = refused(&bytes(&|open| open.name = name.to_owned()));
        assert!(said.contains("no name"), "{said}");
    }
    for tag in ["", "a b", "a;flush", "a}", "../x", "1234567890123456789012345"] {
        let said = refused(&bytes(&|open| open.tag = tag.to_owned()));
        assert!(said.contains("rules of ours"), "{tag}: {said}");
    }
    for address in [[127, 0, 0, 1], [10, 0, 0, 1], [239, 0, 0, 2], [127, 128, 0, 1], [0; 4]] {
        let said = refused(&bytes(&|open| open.address = address.into()));
        assert!(said.contains("virtual"), "{said}");
    }
    // What no `Groups` holds is written by hand: one host for the group, the port 0, ports backwards.
    let good = bytes(&|_| {});
    let group = good.windows(4).position(|four| four == [239, 0, 0, 2]).unwrap();
    let with = |at: usize, new: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    for host in [[10, 0, 0, 1], [127, 0, 0, 1], [223, 255, 255, 255], [255; 4], [0; 4]] {
        assert!(refused(&with(group, &host)).contains("is not a multicast group"));
    }
    assert!(refused(&with(group + 6, &[0, 0])).contains("not a port"));
    assert!(refused(&with(group + 6, &[0xff, 0xff])).contains("higher port"));
    // A count that the rest does not bear out.
    assert_eq!(refused(&with(group - 1, &[200])), Refused::Malformed.to_string());
    assert!(Message::decode(&with(group + 4, &[255, 255])).is_err());
    for spec in ["10.0.0.1:7", "239.0.0.2", "239.0.0.2:0", "239.0.0.2:7%a/b"] {
        let mut bytes = vec![VERSION, 3, 0, spec.len() as u8];
        bytes.extend(spec.bytes());
        assert!(matches!(Message::decode(&bytes), Err(Refused::Forbidden(_))), "{spec}");
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_and_no_message_is_too_long() {
    let long = "\u{e4}".repeat(5000);
    let remarks = vec![long.clone(); 300];
    let opened = Answer::Opened { id: 1, mode: Mode::Redirect, has_raw: true, remarks };
    let restored = Answer::Restored(vec![(long.clone(), Err(long.clone())); 300]);
    for answer in [opened, restored, Answer::Failed(long)] {
        let bytes = Message::Answer(answer).encode();
        assert!(bytes.len() <= MAX_MESSAGE_BYTES);
        assert!(Message::decode(&bytes).is_ok());
    }
    let most: Vec<String> = (1..=256_u32).map(|n| (n * 2).to_string()).collect();
    let most: Vec<&str> = most.iter().map(String::as_str).collect();
    let open = Message::Request(Request::Open(open(&[[239, 0, 0, 2]], &most)));
    assert!(open.encode().len() <= MAX_MESSAGE_BYTES);
    assert_eq!(Message::decode(&open.encode()), Ok(open));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_written_as_they_were_read(bytes: Vec<u8>) {
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(message.encode(), bytes);
        }
    }

    #[test]
    fn so_is_what_is_nearly_a_message(which in 0..9_usize, at: prop::sample::Index, byte: u8, cut: bool) {
        let mut bytes = all()[which].0.encode();
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] = byte;
        }
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(message.encode(), bytes);
            if let Message::Request(Request::Open(open)) = message {
                prop_assert!(open.groups.groups().iter().all(Ipv4Addr::is_multicast));
                prop_assert!(crate::tunnel::is_virtual(open.address));
            }
        }
    }
}
