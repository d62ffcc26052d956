use super::*;
use proptest::prelude::*;
use std::fmt::Write as _;

/// One of each frame, and inside them one of each type and most variants.
fn samples() -> (Vec<ToEngine>, Vec<FromEngine>) {
    let changes = Changes { to: 7, more: true, sequence: vec![0x80] };
    let position = Position { index: 6, n: 1 };
    let text = || "anna".to_owned();
    let term = || vec![0x01];
    let to_engine = vec![
        ToEngine::Start {
            start: Box::new(Start {
                version: VERSION,
                role: Role::Agent { name: text(), epoch: 3, first: true },
                node: "n1".into(),
                space: "local".into(),
                program: "/p.pl".into(),
                modules: "/m".into(),
                base: Some("/b".into()),
                at: 5,
                limits: Limits { time_ms: 1000, memory_bytes: 1 << 30, inferences: 0 },
                copy_after: 256,
                sandbox: Sandbox { on: true, read: vec!["/r".into()], write: vec![], net: false },
            }),
        },
        ToEngine::Changes { changes: changes.clone() },
        ToEngine::Triggers {
            batch: 2,
            changes: changes.clone(),
            items: vec![
                Trigger::Start,
                Trigger::Engine,
                Trigger::Event { position: position.clone(), from: text(), term: term() },
                Trigger::Changed { position: position.clone(), what: What::Retract, fact: term() },
                Trigger::Message { topic: "t".into(), from: text(), term: term() },
                Trigger::Sent { from: text(), term: term() },
                Trigger::Timer { term: term() },
                Trigger::Datagram {
                    group: "239.0.0.2".into(),
                    port: 20005,
                    from: "10.0.0.1:9".into(),
                    bytes: vec![0, 255],
                },
                Trigger::Udp { scope: "s".into(), from: "10.0.0.1:9".into(), term: term() },
                Trigger::Gap { from: 1, to: 2 },
                Trigger::Recorded { term: vec![1] },
                Trigger::OrderedDatagram {
                    position: position.clone(),
                    group: "239.0.0.2".into(),
                    port: 20005,
                    from: "127.64.0.1:9".into(),
                    bytes: vec![0, 255],
                },
                Trigger::OrderedUdp {
                    position: position.clone(),
                    scope: "s".into(),
                    from: "127.64.0.1:9".into(),
                    term: term(),
                },
            ],
        },
        ToEngine::Outcome {
            proposal: 1,
            outcome: Outcome::Conflict { keys: vec!["a/1".into()] },
            changes,
        },
        ToEngine::Goal {
            id: 1,
            goal: GoalText::Text { text: "p(X)".into() },
            kind: GoalKind::Transact,
            chunk: 10,
            at_least: 7,
        },
        ToEngine::More { id: 1 },
        ToEngine::Stop { id: 1 },
        ToEngine::CallAnswers { call: 4, answers: vec![term()], more: false, error: None },
        ToEngine::Reply { answer: Some(term()), error: None },
        ToEngine::Shutdown,
    ];
    let problem = Problem {
        severity: Severity::Error,
        file: "/p.pl".into(),
        line: 3,
        column: 9,
        text: "incomplete reduction".into(),
    };
    let run = Run::Batch {
        batch: 2,
        first: 0,
        done: 9,
        failed: vec![Failed { item: 3, text: "failed".into() }],
    };
    let from_engine = vec![
        FromEngine::Loaded {
            declared: vec![Declaration { name: "a".into(), arity: 2, keys: vec![2] }],
            mode: Mode::Each,
            records: true,
            datagrams: true,
            warnings: vec![],
            output: vec![],
        },
        FromEngine::NotLoaded { problems: vec![problem.clone()], output: b"x".to_vec() },
        FromEngine::Pull { since: 5 },
        FromEngine::Next,
        FromEngine::Propose {
            proposal: 1,
            run: run.clone(),
            draft: vec![0x80],
            effects: vec![
                Effect::Publish { topic: "t".into(), term: term() },
                Effect::Send { agent: text(), term: term() },
                Effect::After { micros: 50_000, term: term() },
                Effect::Every { micros: 1_000_000, term: term() },
                Effect::Cancel { term: term() },
                Effect::Watch { name: "a".into(), arity: 2, others: true },
                Effect::Unwatch { name: "a".into(), arity: 2 },
                Effect::Subscribe { topic: "t".into() },
                Effect::Unsubscribe { topic: "t".into() },
                Effect::Log { level: Level::Warning, text: "hm".into() },
                Effect::Output { bytes: b"hello\n".to_vec() },
                Effect::UdpSend { scope: "239.0.0.2:20005".into(), term: term() },
            ],
        },
        FromEngine::Effects { run: Run::Own, effects: vec![] },
        FromEngine::Answers {
            id: 1,
            answers: vec![Answer {
                text: "X = 1".into(),
                bindings: vec![Binding { name: "X".into(), text: "1".into(), term: Some(term()) }],
                residuals: vec![],
                term: None,
            }],
            end: End::Syntax { problems: vec![problem] },
            output: vec![],
            at: 7,
        },
        FromEngine::Call { call: 4, agent: text(), goal: term(), chunk: 16, timeout_ms: 0 },
        FromEngine::UdpRequest { call: 5, scope: text(), term: term(), timeout_ms: 250 },
        FromEngine::CallMore { call: 4 },
        FromEngine::CallClose { call: 4 },
        FromEngine::Ask { ask: Ask::Module { name: "m".into() } },
        FromEngine::Renew { why: Renewal::Slow { was: 10, is: 30 } },
        FromEngine::Halted { status: -1 },
        FromEngine::Wants { predicates: vec![] },
    ];
    (to_engine, from_engine)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A change of these bytes is a change of [`VERSION`] and of the file.
#[test]
fn frames_have_the_bytes_of_the_golden_file() {
    let (to_engine, from_engine) = samples();
    let mut text = format!("frames of version {VERSION}\n");
    for frame in &to_engine {
        text += &format!("> {}\n", hex(&frame.encode().unwrap()));
    }
    for frame in &from_engine {
        text += &format!("< {}\n", hex(&frame.encode().unwrap()));
    }
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/frames.golden");
    if std::env::var_os("SYNOD_REWRITE").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(golden).unwrap());
}

#[test]
fn every_frame_comes_back_and_no_piece_of_one_does() {
    fn check<F: Frame + PartialEq + std::fmt::Debug>(frames: &[F]) {
        for frame in frames {
            let bytes = frame.encode().unwrap();
            let mut stream = &bytes[..];
            assert_eq!(&F::read_from(&mut stream).unwrap().unwrap(), frame);
            assert!(F::read_from(&mut stream).unwrap().is_none());
            for cut in PREFIX..bytes.len() {
                assert!(F::decode(&bytes[PREFIX..cut]).is_err());
            }
            assert!(F::decode(&[&bytes[PREFIX..], &[0]].concat()).is_err());
        }
    }
    let (to_engine, from_engine) = samples();
    check(&to_engine);
    check(&from_engine);
}

#[test]
fn a_frame_too_large_is_refused_by_both_sides() {
    let term = vec![0; MAX_FRAME];
    let frame = ToEngine::Reply { answer: Some(term), error: None };
    assert!(matches!(frame.encode(), Err(FrameError::TooLarge(_))));
    let mut stream = &[0xff, 0xff, 0xff, 0xff, 0][..];
    assert!(matches!(ToEngine::read_from(&mut stream), Err(FrameError::TooLarge(_))));
}

proptest! {
    #[test]
    fn any_bytes_are_a_frame_written_so_or_an_error(bytes: Vec<u8>) {
        if let Ok(frame) = ToEngine::decode(&bytes) {
            prop_assert_eq!(&frame.encode().unwrap()[PREFIX..], &bytes[..]);
        }
        if let Ok(frame) = FromEngine::decode(&bytes) {
            prop_assert_eq!(&frame.encode().unwrap()[PREFIX..], &bytes[..]);
        }
    }

    #[test]
    fn a_frame_with_wrong_bytes_in_it_is_another_frame_or_an_error(
        which: prop::sample::Index,
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (to_engine, from_engine) = samples();
        let mut all: Vec<Vec<u8>> = to_engine.iter().map(|f| f.encode().unwrap()).collect();
        all.extend(from_engine.iter().map(|f| f.encode().unwrap()));
        let mut bytes = which.get(&all)[PREFIX..].to_vec();
        for (at, byte) in wrong {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(frame) = ToEngine::decode(&bytes) {
            prop_assert_eq!(&frame.encode().unwrap()[PREFIX..], &bytes[..]);
        }
        if let Ok(frame) = FromEngine::decode(&bytes) {
            prop_assert_eq!(&frame.encode().unwrap()[PREFIX..], &bytes[..]);
        }
    }
}
