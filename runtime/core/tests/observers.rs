//! What voters and observers say to each other, as others see it: the CDDL describes all of it, and little else.

mod cddl;

use bytes::Bytes;
use cddl::Schema;
use proptest::collection::vec;
use proptest::prelude::*;
use synod_core::apply::Chain;
use synod_core::group::observer::{Answer, Piece, Request};
use synod_core::group::{Head, Place};
use synod_core::log::{Entry, MAX_KIND, Position};

fn schema() -> Schema {
    Schema::parse(include_str!("../observers.cddl"))
}

fn heads() -> impl Strategy<Value = Head> {
    let numbers = any::<[u64; 5]>();
    (any::<[u8; 32]>(), numbers, any::<[u8; 32]>(), 0..40usize, 0..80usize).prop_map(
        |(space, [generation, term, index, time, said], hash, voter, signature)| {
            let at = Position { term, index: index >> 1 };
            let place = Place { at, chain: Chain { index, time, hash } };
            let mut head = Head::new(space, generation, place, said, vec![1; voter].into());
            head.signature = vec![2; signature].into();
            head
        },
    )
}

fn pieces() -> impl Strategy<Value = Piece> {
    let entry = (any::<u64>(), 0..=MAX_KIND, vec(any::<u8>(), 0..40));
    (heads(), any::<u32>(), vec(entry, 0..6)).prop_map(|(mut head, before, entries)| {
        let before = u64::from(before);
        let numbered = (before + 1..).zip(entries);
        let entries: Vec<Entry> = numbered
            .map(|(index, (term, kind, data))| Entry { term, index, kind, data: data.into() })
            .collect();
        head.place.at.index = before + entries.len() as u64;
        Piece { head, before, entries }
    })
}

fn requests() -> impl Strategy<Value = Request> {
    prop_oneof![
        (any::<u64>(), any::<[u8; 32]>())
            .prop_map(|(before, chain)| Request::Behind { before, chain }),
        Just(Request::Snapshot),
        Just(Request::Index),
    ]
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![
        pieces().prop_map(Answer::Piece),
        Just(Answer::Busy),
        Just(Answer::Gone),
        Just(Answer::Apart),
        (heads(), any::<u64>()).prop_map(|(head, bytes)| Answer::Snapshot { head, bytes }),
        any::<u64>().prop_map(Answer::Index),
    ]
}

/// Some bytes of an item changed, and some cut off.
fn bent(item: &[u8], changes: &[(usize, u8)], cut: usize) -> Bytes {
    let mut item = item.to_vec();
    for &(at, byte) in changes {
        let at = at % item.len();
        item[at] = byte;
    }
    item.truncate(item.len() - cut.min(item.len()));
    item.into()
}

proptest! {
    #[test]
    fn the_cddl_describes_all_of_it_and_little_else(
        piece in pieces(),
        request in requests(),
        answer in answers(),
        proof: [u8; 16],
        changes in vec((any::<usize>(), any::<u8>()), 0..4),
        cut in prop_oneof![9 => Just(0usize), 1 => 1..9usize],
    ) {
        let schema = schema();
        let [announced, asked, answered] =
            [piece.announcement(), request.encode(&proof), answer.encode()];
        prop_assert!(schema.matches("announcement", &announced));
        prop_assert!(schema.matches("request", &asked));
        prop_assert!(schema.matches("answer", &answered));
        prop_assert!(schema.matches("statement", &piece.head.statement()));
        prop_assert_eq!(&Piece::read_announcement(&announced).unwrap(), &piece);
        prop_assert_eq!(Request::decode(&asked).unwrap(), (proof, request));
        prop_assert_eq!(&Answer::decode(&answered).unwrap(), &answer);

        // What is taken is what the CDDL says, and is written as it was read.
        let announced = bent(&announced, &changes, cut);
        if let Ok(piece) = Piece::read_announcement(&announced) {
            prop_assert!(schema.matches("announcement", &announced));
            prop_assert_eq!(piece.announcement(), announced);
        }
        let asked = bent(&asked, &changes, cut);
        if let Ok((proof, request)) = Request::decode(&asked) {
            prop_assert!(schema.matches("request", &asked));
            prop_assert_eq!(request.encode(&proof), asked);
        }
        let answered = bent(&answered, &changes, cut);
        if let Ok(answer) = Answer::decode(&answered) {
            prop_assert!(schema.matches("answer", &answered));
            prop_assert_eq!(answer.encode(), answered);
        }
    }
}

#[test]
fn what_is_no_such_item_is_refused_by_both() {
    let schema = schema();
    let proof = "50".to_owned() + &"07".repeat(16);
    let refused = [
        ("another version", "request", format!("8302{proof}01")),
        ("a short proof", "request", "83014f".to_owned() + &"07".repeat(15) + "01"),
        ("no such request", "request", format!("8301{proof}03")),
        ("no chain", "request", format!("8401{proof}0005")),
        ("no such answer", "answer", "820106".to_owned()),
        ("an index too many", "answer", "8401050808".to_owned()),
        ("another version", "answer", "820201".to_owned()),
        ("nothing behind it", "announcement", "8101".to_owned()),
    ];
    for (what, kind, hex) in refused {
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
            .collect();
        assert!(!schema.matches(kind, &bytes), "{what}");
        let bytes = Bytes::from(bytes);
        let is_taken = match kind {
            "request" => Request::decode(&bytes).is_ok(),
            "answer" => Answer::decode(&bytes).is_ok(),
            _ => Piece::read_announcement(&bytes).is_ok(),
        };
        assert!(!is_taken, "{what}");
    }
}
