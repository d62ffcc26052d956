use super::*;
use crate::apply::{Effect, State};
use crate::command::Command;
use crate::term::Term;
use crate::time::Time;
use bytes::Bytes;
use proptest::prelude::*;

const GROUP: Endpoint = Endpoint { ip: [239, 0, 0, 2], port: 20_005 };

fn source(port: u16) -> Endpoint {
    Endpoint { ip: [127, 64, 1, 2], port }
}

fn captured(port: u16, bytes: &[u8]) -> Captured {
    Captured { at: Time::ZERO, to: GROUP, from: source(port), bytes: bytes.into() }
}

fn datagram(bytes: Vec<u8>) -> Datagram {
    let (tunnel, node) = ("prices".to_owned(), "n0".to_owned());
    Datagram { tunnel, node, to: GROUP, from: source(5000), bytes }
}

/// A session of the tunnel in a space.
fn open(state: &mut State, nonce: u8) -> u64 {
    let open = Command::OpenSession { label: label("prices"), nonce: [nonce; 16] };
    state.apply(0, &open.encode()).index
}

/// What the datagrams of a command say that was applied.
fn applied(state: &mut State, command: &Bytes) -> (End, Vec<Vec<u8>>) {
    let applied = state.apply(0, command);
    let change = applied.change.iter();
    let said = change.flat_map(|change| {
        change.effects.iter().map(|(_, effect)| match effect {
            Effect::Emitted { event } => Datagram::read(&change.by, event).unwrap().bytes,
            other => panic!("{other:?}"),
        })
    });
    (End::from(&applied.outcome), said.collect())
}

#[test]
fn a_datagram_is_an_event_that_people_can_read_and_comes_back_exactly() {
    let all: Vec<u8> = (0..=255).collect();
    for bytes in [vec![], vec![0], vec![255; 65_507], all] {
        let datagram = datagram(bytes);
        let event = datagram.event().unwrap();
        assert_eq!(Datagram::read("tunnel:prices", &event), Some(datagram));
        assert!(Datagram::is_one("tunnel:prices", &event) && !Datagram::is_one("prices", &event));
    }
    let event = datagram(b"a\xff".to_vec()).event().unwrap();
    let mut text = String::new();
    crate::term::text::write_encoded(&event, &mut text, "_").unwrap();
    let expected =
        "datagram(prices,n0,:(ip(239,0,0,2),20005),:(ip(127,64,1,2),5000),bytes(['a','\u{ff}']))";
    let read = |text| crate::term::text::read(text, crate::term::text::Dialect::Scryer).unwrap();
    assert_eq!(read(&text), read(expected));
}

#[test]
fn what_a_tunnel_has_not_emitted_is_no_datagram() {
    let event = datagram(b"x".to_vec()).event().unwrap();
    for label in ["prices", "tunnel:", "tunnel:other", "tunnel:prices2", "cli", ""] {
        assert_eq!(Datagram::read(label, &event), None, "{label}");
    }
    let (ip, bytes) = ("ip(239,0,0,2)", "bytes(\"x\")");
    for text in [
        "x".to_owned(),
        format!("datagram(prices,n0,:({ip},1),:({ip},2))"),
        format!("datagrams(prices,n0,:({ip},1),:({ip},2),{bytes})"),
        format!("datagram(7,n0,:({ip},1),:({ip},2),{bytes})"),
        format!("datagram(prices,n0,:({ip},65536),:({ip},2),{bytes})"),
        format!("datagram(prices,n0,:({ip},1),:(ip(239,0,0,256),2),{bytes})"),
        format!("datagram(prices,n0,:({ip},1),:({ip},2),bytes(\"\u{100}\"))"),
        format!("datagram(prices,n0,:({ip},1),:({ip},2),bytes([1,2]))"),
    ] {
        let term = crate::term::text::read(&text, crate::term::text::Dialect::Scryer).unwrap();
        assert_eq!(Datagram::read("tunnel:prices", &term.encode().unwrap()), None, "{text}");
    }
    assert_eq!(Datagram::read("tunnel:prices", &[0xff]), None);
    let odd = Datagram { node: "[]".to_owned(), ..datagram(vec![1]) };
    assert_eq!(Datagram::read("tunnel:prices", &odd.event().unwrap()), Some(odd));
    assert_ne!(event, Term::EMPTY.encode().unwrap());
}

#[test]
fn what_does_not_fit_is_counted_and_room_comes_back() {
    let mut publisher = Publisher::default();
    let large = vec![0; MAX_WAITING_BYTES / 2];
    assert!(publisher.offer(captured(1, &large)) && publisher.offer(captured(1, &large)));
    assert!(!publisher.offer(captured(1, &[1])));
    assert!(publisher.offer(captured(1, &[])), "that one takes no bytes");
    publisher.opened(9);
    let first = publisher.give().unwrap();
    assert!(!publisher.offer(captured(1, &[1])), "what is under way is held, too");
    publisher.ended(first.seq, End::Ordered);
    assert!(publisher.offer(captured(1, &[1])));
    let mut publisher = Publisher::default();
    assert!((0..MAX_WAITING).all(|_| publisher.offer(captured(1, &[]))));
    assert!(!publisher.offer(captured(1, &[])));
    assert_eq!((publisher.counts().full, publisher.held()), (1, MAX_WAITING));
}

#[test]
fn many_commands_are_under_way_and_not_more_than_the_bound() {
    let mut publisher = Publisher::default();
    let many = MAX_BATCH * MAX_BATCHES + 1;
    assert!((0..many).all(|_| publisher.offer(captured(1, &[1]))));
    assert!(publisher.give().is_none(), "without a session");
    publisher.opened(3);
    let given: Vec<Batch> = std::iter::from_fn(|| publisher.give()).collect();
    assert_eq!(given.len(), MAX_BATCHES);
    assert_eq!(given.last().map(|batch| (batch.session, batch.seq)), Some((3, MAX_BATCHES as u64)));
    assert!(!publisher.is_due());
    publisher.ended(7, End::Ordered);
    publisher.ended(7, End::Ordered);
    assert_eq!(publisher.counts().ordered, MAX_BATCH as u64);
    assert_eq!(publisher.give().unwrap().seq, MAX_BATCHES as u64 + 1);
    assert!(!publisher.is_idle());
}

#[test]
fn a_command_of_large_datagrams_is_bounded_by_bytes() {
    let mut publisher = Publisher::default();
    let large = vec![0xff; 65_507];
    assert!((0..8).all(|_| publisher.offer(captured(1, &large))));
    publisher.opened(1);
    let (mut state, mut said) = (State::new([0; 32]), 0);
    open(&mut state, 1);
    while let Some(batch) = publisher.give() {
        let command = batch.command("prices", "n0");
        assert!(command.len() < 1 << 20, "{}", command.len());
        Command::decode(&command).unwrap().check_terms().unwrap();
        let (end, datagrams) = applied(&mut state, &command);
        assert!(end == End::Ordered && datagrams.iter().all(|bytes| *bytes == large));
        said += datagrams.len();
        publisher.ended(batch.seq, end);
    }
    assert_eq!((said, publisher.counts().ordered_bytes), (8, 8 * 65_507));
}

#[test]
fn what_waits_too_long_is_dropped_and_what_was_not_taken_waits_again() {
    let mut publisher = Publisher::default();
    publisher.opened(1);
    let at = |ms, bytes: &[u8]| Captured { at: Time::from_millis(ms), ..captured(1, bytes) };
    publisher.offer(at(0, b"a"));
    publisher.offer(at(5, b"b"));
    let batch = publisher.give().unwrap();
    publisher.take_back(batch.clone());
    publisher.take_back(batch);
    assert!(publisher.is_idle() && publisher.held() == 2);
    publisher.expire(Time::ZERO + MAX_WAIT);
    assert_eq!((publisher.counts().late, publisher.held()), (1, 1));
    let batch = publisher.give().unwrap();
    assert_eq!(batch.seq, 1, "its number was not used");
    publisher.ended(1, End::Not);
    assert_eq!((publisher.counts().late, publisher.held()), (2, 0));
}

#[test]
fn a_session_that_is_over_ends_what_it_had_and_another_goes_on() {
    let mut state = State::new([0; 32]);
    let mut publisher = Publisher::default();
    publisher.opened(77);
    publisher.offer(captured(1, b"a"));
    let lost = publisher.give().unwrap();
    publisher.offer(captured(1, b"b"));
    let (end, said) = applied(&mut state, &lost.command("prices", "n0"));
    assert_eq!((end, said), (End::SessionOver, vec![]));
    publisher.ended(lost.seq, end);
    assert_eq!((publisher.session(), publisher.counts().unknown), (None, 1));
    publisher.opened(open(&mut state, 1));
    let next = publisher.give().unwrap();
    let (end, said) = applied(&mut state, &next.command("prices", "n0"));
    assert_eq!((end, said), (End::Ordered, vec![b"b".to_vec()]));
    // What is said of the old session's commands says nothing of the new one.
    publisher.offer(captured(1, b"c"));
    let (old, session) = (publisher.give().unwrap(), publisher.session());
    publisher.opened(session.unwrap() + 1);
    publisher.ended(old.seq, End::SessionOver);
    assert_eq!(publisher.session(), session.map(|n| n + 1));
}

/// What a network and leaders do to commands.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many are captured.
    Capture(u8),
    /// One is given, and from then on there may be any number of copies of it.
    Give,
    /// One was not taken.
    Refuse,
    /// A copy of one reaches the log.
    Apply(prop::sample::Index),
    /// How one ended is told; or that nobody knows.
    Tell(prop::sample::Index, bool),
    /// The node has started again: what it had not given is gone.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6_u8).prop_map(Step::Capture),
        4 => Just(Step::Give),
        1 => Just(Step::Refuse),
        6 => any::<prop::sample::Index>().prop_map(Step::Apply),
        4 => (any::<prop::sample::Index>(), prop::bool::weighted(0.8))
            .prop_map(|(which, is_known)| Step::Tell(which, is_known)),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Whatever a member has written: it is a datagram, whose event has these very bytes, or it is none.
    #[test]
    fn any_bytes_are_a_datagram_written_so_or_none(
        content: Vec<u8>, at: prop::sample::Index, byte: u8, cut: prop::sample::Index
    ) {
        let event = datagram(content).event().unwrap();
        let mut bytes = event.to_vec();
        bytes[at.index(event.len())] = byte;
        for bytes in [&bytes[..], &bytes[..cut.index(event.len())]] {
            if let Some(read) = Datagram::read("tunnel:prices", bytes) {
                prop_assert_eq!(&read.event().unwrap()[..], bytes);
                prop_assert!(Datagram::is_one("tunnel:prices", bytes));
            }
        }
    }

    /// Whatever comes late, twice or never: each datagram is in the order at most once, those of the node stand
    /// there as they were captured, and what is counted as ordered is there.
    #[test]
    fn each_is_ordered_once_or_not_at_all(steps in prop::collection::vec(step(), 1..80)) {
        let mut state = State::new([0; 32]);
        let (mut boots, mut numbered) = (0_u8, 0_u32);
        let mut publisher = Publisher::default();
        publisher.opened(open(&mut state, boots));
        // All commands that were ever given; and those of this boot, with the end that they had first.
        let (mut given, mut pending) = (Vec::<Bytes>::new(), Vec::<(usize, u64, Option<End>)>::new());
        let mut log = Vec::<u32>::new();
        let mut ordered_of_boot = 0;
        for step in steps {
            match step {
                Step::Capture(count) => for _ in 0..count {
                    numbered += 1;
                    publisher.offer(captured(1, &numbered.to_be_bytes()));
                },
                Step::Give => if let Some(batch) = publisher.give() {
                    pending.push((given.len(), batch.seq, None));
                    given.push(batch.command("prices", "n0"));
                },
                Step::Refuse => if let Some(batch) = publisher.give() {
                    publisher.take_back(batch);
                },
                Step::Apply(which) => if !given.is_empty() {
                    let which = which.index(given.len());
                    let (end, said) = applied(&mut state, &given[which]);
                    let said: Vec<u32> =
                        said.iter().map(|n| u32::from_be_bytes(n[..].try_into().unwrap())).collect();
                    if let Some((.., first)) = pending.iter_mut().find(|(at, ..)| *at == which) {
                        first.get_or_insert(end);
                        ordered_of_boot += said.len() as u64;
                    }
                    log.extend(said);
                },
                Step::Tell(which, is_known) => {
                    if pending.is_empty() {
                        continue;
                    }
                    let (_, seq, end) = pending.remove(which.index(pending.len()));
                    match end {
                        Some(end) if is_known => publisher.ended(seq, end),
                        _ => publisher.ended(seq, End::Unknown),
                    }
                }
                Step::Restart => {
                    boots += 1;
                    publisher = Publisher::default();
                    publisher.opened(open(&mut state, boots));
                    pending.clear();
                    ordered_of_boot = 0;
                }
            }
            prop_assert!(publisher.counts().ordered <= ordered_of_boot);
        }
        let mut once = log.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), log.len(), "one is there twice: {:?}", log);
    }

    /// Of one boot, what is in the order stands there as it was captured.
    #[test]
    fn the_order_of_a_node_is_that_of_its_captures(
        steps in prop::collection::vec((1..4_u8, any::<prop::sample::Index>()), 1..60)
    ) {
        let mut state = State::new([0; 32]);
        let mut publisher = Publisher::default();
        publisher.opened(open(&mut state, 0));
        let (mut given, mut log, mut numbered) = (Vec::<Bytes>::new(), Vec::<u32>::new(), 0_u32);
        for (count, which) in steps {
            for _ in 0..count {
                numbered += 1;
                publisher.offer(captured(1, &numbered.to_be_bytes()));
            }
            given.extend(publisher.give().map(|batch| batch.command("prices", "n0")));
            let (_, said) = applied(&mut state, &given[which.index(given.len())]);
            log.extend(said.iter().map(|n| u32::from_be_bytes(n[..].try_into().unwrap())));
        }
        prop_assert!(log.is_sorted_by(|a, b| a < b), "{:?}", log);
    }
}
