use super::batch::{Batch, Tag};
use super::*;
use crate::apply::{Change, Effect, MAX_LETTERS, Outcome, Refusal};
use crate::cbor::{Reader, What, Writer};
use crate::group::Mark;
use crate::kb::{MAX_KEYS, MAX_ORDER, MAX_PREDICATES};
use crate::term::Term;
use crate::term::samples::{name, term};
use crate::transaction::Draft;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn label() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-zé]{0,6}", 1 => Just("x".repeat(MAX_NAME_BYTES))]
}

fn position() -> impl Strategy<Value = Position> {
    (any::<u64>(), any::<u32>()).prop_map(|(index, n)| Position { index, n })
}

fn encoded() -> impl Strategy<Value = Bytes> {
    term().prop_map(|term| term.encode().unwrap().into())
}

fn fact() -> impl Strategy<Value = Bytes> {
    let fact = (name(), vec(term(), 0..4)).prop_map(|(name, args)| match args.len() {
        0 => Term::atom(name),
        _ => Term::compound(name, args).unwrap(),
    });
    let bytes = fact.prop_map(|fact| Bytes::from(fact.encode().unwrap()));
    bytes.prop_filter("a list or a number", |bytes| Indicator::of(bytes).is_some())
}

fn predicate() -> impl Strategy<Value = Indicator> {
    (prop::sample::select(&["p", "q", ""][..]), 0..3u32).prop_map(|(n, a)| Indicator::new(n, a))
}

fn op() -> impl Strategy<Value = Op> {
    let end = any::<bool>().prop_map(|last| if last { End::Last } else { End::First });
    prop_oneof![
        2 => (end, fact()).prop_map(|(end, fact)| Op::Assert { end, fact }),
        3 => (predicate(), any::<i64>()).prop_map(|(predicate, order)| Op::Retract { predicate, order }),
        1 => encoded().prop_map(|event| Op::Emit { event }),
    ]
}

fn draft() -> impl Strategy<Value = Draft> {
    let reads = btree_set(any::<u64>(), 0..5).prop_map(|keys| keys.into_iter().collect());
    (any::<u64>(), reads, vec(op(), 0..8)).prop_map(|(version, reads, ops)| Draft {
        version,
        reads,
        ops,
    })
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![
        any::<(u64, u64, u64)>().prop_map(|(id, seq, acked)| Origin::Session { id, seq, acked }),
        (label(), any::<(u64, u64)>(), position(), position(), record(), letter_of()).prop_map(
            |(name, (epoch, seq), from, to, record, letter)| Origin::Agent {
                name,
                epoch,
                seq,
                from,
                to,
                record,
                letter
            }
        ),
    ]
}

fn letter_of() -> impl Strategy<Value = Option<Position>> {
    prop::option::of(position())
}

fn record() -> impl Strategy<Value = Record> {
    let terms = || vec(fact(), 0..3);
    (terms(), terms()).prop_map(|(triggers, sent)| Record { triggers, sent })
}

fn claim() -> impl Strategy<Value = Claim> {
    let keys = vec(any::<u32>(), 0..=MAX_KEYS);
    let declaration =
        (predicate(), keys).prop_map(|(predicate, keys)| Declaration { predicate, keys });
    let mode = any::<bool>().prop_map(|each| if each { Mode::Each } else { Mode::One });
    (label(), label(), any::<[u8; 32]>(), mode, any::<u64>(), vec(declaration, 0..4)).prop_map(
        |(agent, node, program, mode, after, declared)| Claim {
            agent,
            node,
            program,
            mode,
            after,
            declared,
        },
    )
}

fn ids() -> impl Strategy<Value = BTreeSet<u64>> {
    btree_set(1..9u64, 0..4)
}

fn membership() -> impl Strategy<Value = Command> {
    let hash = any::<[u8; 32]>;
    let peer = vec(any::<u8>(), 0..=MAX_PEER_BYTES).prop_map(Bytes::from);
    let admit = (peer, label(), any::<[u8; 16]>(), prop::option::of(hash()), any::<u64>());
    let admit = admit.prop_map(|(peer, node, nonce, ticket, after)| Admit {
        peer,
        node,
        nonce,
        ticket,
        after,
    });
    let issue = (hash(), any::<u64>(), any::<u32>()).prop_map(|(hash, until, uses)| IssueTicket {
        hash,
        until,
        uses,
    });
    let configure = (ids(), ids(), ids()).prop_map(|(voters, learners, removed)| Configure {
        voters,
        learners,
        removed,
    });
    let recover = (any::<(u64, u64)>(), ".{0,9}").prop_map(|((generation, voter), words)| {
        let dropped = [(voter / 2, words.clone()), (voter / 2 + 1, String::new())].into();
        Recover { generation, voter, node: "n".to_owned(), dropped, words }
    });
    let bytes = || vec(any::<u8>(), 0..9).prop_map(Bytes::from);
    let signatures = prop::collection::btree_map(1..9u64, (bytes(), bytes()), 0..4);
    let marks = any::<(u64, u64, [u8; 32], [u8; 32])>();
    let checkpoint =
        (marks, signatures).prop_map(|((generation, index, chain, digest), signatures)| {
            let signature = |(member, (peer, bytes))| Signature { member, peer, bytes };
            let signatures = signatures.into_iter().map(signature).collect();
            Checkpoint { generation, mark: Mark { index, chain, digest }, signatures }
        });
    prop_oneof![
        admit.prop_map(Command::Admit),
        issue.prop_map(Command::IssueTicket),
        (vec(hash(), 0..3), any::<u64>())
            .prop_map(|(hashes, after)| Command::RevokeTickets { hashes, after }),
        configure.prop_map(Command::Configure),
        recover.prop_map(Command::Recover),
        checkpoint.prop_map(Command::Checkpoint),
    ]
}

/// Tags of runs that fit so many commands.
fn tags(commands: usize, members: &[u64]) -> Vec<Tag> {
    let places = (0..commands).step_by(2).zip(members);
    let tag = |(place, &member): (usize, &u64)| {
        let (place, count) = (u32::try_from(place).unwrap(), 1);
        Tag { place, count, member, boot: member ^ 7, first: !member }
    };
    places.map(tag).collect()
}

fn command() -> impl Strategy<Value = Command> {
    let transact = (origin(), draft()).prop_map(|(origin, Draft { version, reads, ops })| {
        Command::Transact(Transaction { origin, version, reads, ops })
    });
    let letter = (label(), any::<(u64, u64)>(), position(), position(), encoded(), ".{0,9}");
    prop_oneof![
        1 => (label(), any::<[u8; 16]>())
            .prop_map(|(label, nonce)| Command::OpenSession { label, nonce }),
        5 => transact,
        2 => claim().prop_map(Command::Claim),
        1 => letter.prop_map(|(agent, (epoch, seq), from, to, event, reason)| {
            Command::Letter(Letter { agent, epoch, seq, from, to, event, reason })
        }),
        1 => (label(), any::<u64>()).prop_map(|(agent, epoch)| Command::Release { agent, epoch }),
        1 => (label(), vec(position(), 0..4))
            .prop_map(|(agent, positions)| Command::DropLetters { agent, positions }),
        1 => (label(), any::<String>(), any::<u64>())
            .prop_map(|(name, text, after)| Command::PublishModule { name, text, after }),
        2 => membership(),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let placed = (any::<bool>(), -MAX_ORDER..=MAX_ORDER, fact());
    let effect = prop_oneof![
        2 => placed.prop_map(|(is_new, order, fact)| {
            let predicate = Indicator::of(&fact).unwrap();
            match is_new {
                true => Effect::Asserted { predicate, order, fact },
                false => Effect::Retracted { predicate, order, fact },
            }
        }),
        1 => encoded().prop_map(|event| Effect::Emitted { event }),
    ];
    (any::<u64>(), label(), vec((any::<u32>(), effect), 1..5))
        .prop_map(|(index, by, effects)| Change { index, by, effects })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let refusal = prop_oneof![
        vec(any::<u64>(), 0..4).prop_map(Refusal::Conflict),
        prop::sample::select(vec!["agents", "modules", "predicates"]).prop_map(Refusal::Full),
        prop::sample::select(vec![
            Refusal::TooOld,
            Refusal::NoSession,
            Refusal::OutOfWindow,
            Refusal::StaleEpoch,
            Refusal::StaleCursor,
            Refusal::Malformed,
            Refusal::NoLetter,
        ]),
    ];
    prop_oneof![
        any::<u64>().prop_map(Outcome::Committed),
        (any::<u64>(), refusal).prop_map(|(index, refusal)| Outcome::Refused(index, refusal)),
    ]
}

fn written(write: impl FnOnce(&mut Writer)) -> Bytes {
    let mut w = Writer::new();
    write(&mut w);
    w.into_vec().into()
}

/// Bytes that are nearly those of a command: one is another, some are gone, or come twice.
fn damaged() -> impl Strategy<Value = Bytes> {
    let place = any::<prop::sample::Index>();
    (command(), place, any::<prop::sample::Index>(), any::<u8>(), 0..4u8).prop_map(
        |(command, a, b, byte, how)| {
            let mut bytes = command.encode().to_vec();
            let (a, b) = (a.index(bytes.len()), b.index(bytes.len()));
            let (from, to) = (a.min(b), a.max(b));
            match how {
                0 => bytes[a] = byte,
                1 => bytes[a] = bytes[a].wrapping_add(1),
                2 => drop(bytes.drain(from..to)),
                _ => {
                    let twice = bytes[from..to].to_vec();
                    bytes.splice(to..to, twice);
                }
            }
            bytes.into()
        },
    )
}

proptest! {
    #[test]
    fn a_command_comes_back_and_its_terms_are_canonical(command in command()) {
        let bytes = command.encode();
        prop_assert_eq!(Command::decode(&bytes), Ok(command.clone()));
        prop_assert_eq!(command.check_terms(), Ok(()));
    }

    #[test]
    fn equal_commands_have_equal_bytes_and_others_have_not(a in command(), b in command()) {
        prop_assert_eq!(a == b, a.encode() == b.encode());
        prop_assert_eq!(a.clone().encode(), a.encode());
    }

    #[test]
    fn any_bytes_are_refused_or_are_what_they_are_read_as(
        bytes in prop_oneof![damaged(), vec(any::<u8>(), 0..40).prop_map(Bytes::from)],
    ) {
        if let Ok(command) = Command::decode(&bytes) {
            prop_assert_eq!(command.encode(), bytes.clone());
            let _ = command.check_terms();
        }
        if let Ok(batch) = Batch::decode(&bytes) {
            prop_assert_eq!(batch.encode(), bytes.clone());
        }
        if let Ok(draft) = Draft::read(&bytes) {
            prop_assert_eq!(written(|w| draft.write(w)), bytes.clone());
        }
        let mut r = Reader::new(&bytes);
        if let Ok(change) = Change::read(&mut r) {
            prop_assert_eq!(written(|w| change.write(w)), bytes.slice(..r.position()));
        }
        let mut r = Reader::new(&bytes);
        if let Ok(outcome) = Outcome::read(&mut r) {
            prop_assert_eq!(written(|w| outcome.write(w)), bytes.slice(..r.position()));
        }
    }

    #[test]
    fn no_part_of_a_command_is_one(command in command(), cut in any::<prop::sample::Index>()) {
        let bytes = command.encode();
        prop_assert!(Command::decode(&bytes.slice(..cut.index(bytes.len()))).is_err());
    }

    #[test]
    fn batches_drafts_changes_and_outcomes_come_back(
        (time, commands) in (any::<u64>(), vec(command(), 0..4)),
        members in vec(any::<u64>(), 0..3),
        draft in draft(),
        change in change(),
        outcome in outcome(),
    ) {
        let commands: Vec<_> = commands.iter().map(Command::encode).collect();
        let tags = tags(commands.len(), &members);
        let batch = Batch { time, tags, commands };
        prop_assert_eq!(Batch::decode(&batch.encode()), Ok(batch));
        let bytes = written(|w| draft.write(w));
        prop_assert_eq!(Draft::read(&bytes), Ok(draft));
        let bytes = written(|w| change.write(w));
        let mut r = Reader::new(&bytes);
        prop_assert_eq!(Change::read(&mut r), Ok(change));
        prop_assert!(r.is_at_end());
        let bytes = written(|w| outcome.write(w));
        let mut r = Reader::new(&bytes);
        prop_assert_eq!(Outcome::read(&mut r), Ok(outcome));
        prop_assert!(r.is_at_end());
    }

    #[test]
    fn an_engine_is_sent_what_it_wants_and_nothing_if_that_is_nothing(
        change in change(),
        wanted in fact().prop_map(|fact| Indicator::of(&fact).unwrap()),
    ) {
        let of = |effect: &Effect| match effect {
            Effect::Asserted { predicate, .. } | Effect::Retracted { predicate, .. } => {
                Some(predicate.clone())
            }
            Effect::Emitted { .. } => None,
        };
        let first = change.effects.first().and_then(|(_, effect)| of(effect));
        for wanted in [Some(wanted), first].into_iter().flatten() {
            let bytes = written(|w| change.write_for(w, |predicate| *predicate == wanted));
            let mut some = change.clone();
            some.effects.retain(|(_, effect)| of(effect).as_ref() == Some(&wanted));
            if some.effects.is_empty() {
                prop_assert!(bytes.is_empty());
            } else {
                prop_assert_eq!(Change::read(&mut Reader::new(&bytes)), Ok(some));
            }
        }
    }
}

fn retractions(predicates: u32) -> Command {
    let retract = |n: u32| Op::Retract { predicate: Indicator::new("p", n), order: 0 };
    Command::Transact(Transaction {
        origin: Origin::Session { id: 1, seq: 1, acked: 0 },
        version: 0,
        reads: vec![],
        ops: (0..predicates).map(retract).collect(),
    })
}

#[test]
fn a_table_of_as_many_predicates_as_there_can_be_is_read_in_no_time() {
    // In steps that grow with the square of it this would take minutes.
    let command = retractions(MAX_PREDICATES as u32);
    assert_eq!(Command::decode(&command.encode()), Ok(command));
    let more = Command::decode(&retractions(MAX_PREDICATES as u32 + 1).encode());
    assert_eq!(more.unwrap_err().what, What::TooMany { bound: MAX_PREDICATES, of: "predicates" });
}

#[test]
fn a_table_is_in_the_order_of_use_without_more() {
    let transact = |table: &[&str], places: &[u64]| {
        let bytes = written(|w| {
            w.array(6).uint(1).array(3).uint(1).uint(1).uint(0).uint(0).array(0);
            w.array(table.len());
            for name in table {
                w.array(2).text(name).uint(0);
            }
            w.array(places.len());
            for &place in places {
                w.array(3).uint(2).uint(place).int(0);
            }
        });
        Command::decode(&bytes).map_err(|e| e.what.to_string())
    };
    assert!(transact(&["p", "q"], &[0, 1, 0]).is_ok());
    let too_many = Err("a table of predicates with too many".to_owned());
    assert_eq!(transact(&["p", "q"], &[0, 0]), too_many);
    assert_eq!(transact(&["p"], &[]), too_many);
    assert_eq!(transact(&["p", "p"], &[0, 1]), too_many);
    assert_eq!(
        transact(&["p", "q"], &[1, 0]),
        Err("a table of predicates out of order".to_owned())
    );
    assert_eq!(transact(&["p"], &[1]), Err("a predicate that is not in the table".to_owned()));
}

#[test]
fn what_passes_a_bound_is_refused_by_name() {
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    let declaration = |keys: usize| Declaration {
        predicate: Indicator::new("p", 20),
        keys: (2..).take(keys).collect(),
    };
    let claim = |declared| {
        let (agent, node) = ("a".to_owned(), "n".to_owned());
        Command::Claim(Claim { agent, node, program: [0; 32], mode: Mode::One, after: 0, declared })
    };
    let position = Position::default();
    let letter = |reason: usize| {
        Command::Letter(Letter {
            agent: "a".to_owned(),
            epoch: 1,
            seq: 1,
            from: position,
            to: position,
            event: Bytes::from_static(&[0]),
            reason: "x".repeat(reason),
        })
    };
    let drop_letters = |letters| Command::DropLetters {
        agent: "a".to_owned(),
        positions: vec![position; letters],
    };
    let publish =
        |bytes| Command::PublishModule { name: "m".to_owned(), text: "x".repeat(bytes), after: 0 };
    let admit = |bytes| {
        let (peer, node) = (Bytes::from(vec![0; bytes]), "n".to_owned());
        Command::Admit(Admit { peer, node, nonce: [0; 16], ticket: None, after: 0 })
    };
    let rows = [
        (Command::OpenSession { label: long, nonce: [0; 16] }, MAX_NAME_BYTES, "bytes of a name"),
        (claim(vec![declaration(MAX_KEYS + 1)]), MAX_KEYS, "keys of a predicate"),
        (claim(vec![declaration(0); MAX_DECLARATIONS + 1]), MAX_DECLARATIONS, "declarations"),
        (letter(MAX_REASON_BYTES + 1), MAX_REASON_BYTES, "bytes of a reason"),
        (drop_letters(MAX_LETTERS + 1), MAX_LETTERS, "letters"),
        (publish(MAX_MODULE_BYTES + 1), MAX_MODULE_BYTES, "bytes of a module"),
        (publish(MAX_COMMAND_BYTES), MAX_COMMAND_BYTES, "bytes"),
        (admit(MAX_PEER_BYTES + 1), MAX_PEER_BYTES, "bytes of a peer's id"),
    ];
    for (command, bound, of) in rows {
        let refused = Command::decode(&command.encode()).unwrap_err();
        assert_eq!(refused.what, What::TooMany { bound, of });
    }
    let fitting = [
        claim(vec![declaration(MAX_KEYS)]),
        claim(vec![declaration(0); MAX_DECLARATIONS]),
        letter(MAX_REASON_BYTES),
        drop_letters(MAX_LETTERS),
        publish(MAX_MODULE_BYTES),
    ];
    for command in fitting {
        assert_eq!(Command::decode(&command.encode()), Ok(command));
    }
}

#[test]
fn a_fact_that_is_none_or_not_canonical_does_not_pass() {
    let transact = |fact: Vec<u8>| {
        Command::Transact(Transaction {
            origin: Origin::Session { id: 1, seq: 1, acked: 0 },
            version: 0,
            reads: vec![],
            ops: vec![Op::Assert { end: End::Last, fact: fact.into() }],
        })
    };
    for term in [Term::Integer(1), Term::Var(0), Term::string("ab"), Term::list(vec![1.into()])] {
        assert!(Command::decode(&transact(term.encode().unwrap()).encode()).is_err(), "{term:?}");
    }
    // '[]' has a form of its own, and variables are numbered from 0: well-formed, and no terms.
    let atom = [&[0xd8, 39][..], &[0x62], b"[]"].concat();
    let variable = [&[0xd8, 27, 0x82, 0x61], &b"p"[..], &[0xd8, 27, 0x82, 0xf6, 1]].concat();
    for fact in [atom, variable] {
        let command = transact(fact);
        assert_eq!(Command::decode(&command.encode()), Ok(command.clone()));
        assert!(command.check_terms().is_err());
    }
}
