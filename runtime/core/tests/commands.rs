//! Commands, changes and snapshot items as others see them: golden bytes, and the CDDL that
//! describes them.

#![expect(clippy::unwrap_used, reason = "a broken file fails the test")]

mod cddl;

use bytes::Bytes;
use cddl::Schema;
use synod_core::apply::{Change, Outcome, Refusal, Restore, State};
use synod_core::cbor::{Reader, Writer};
use synod_core::command::{Admit, Checkpoint, Configure, IssueTicket, Recover, Signature, Tag};
use synod_core::command::{
    Batch, Claim, Command, Declaration, Letter, Mode, Op, Origin, Record, Transaction,
};
use synod_core::datagrams::{Datagram, Endpoint};
use synod_core::group::Mark;
use synod_core::kb::{End, Indicator, Position};
use synod_core::term::Term;
use synod_core::transaction::Draft;

const GOLDEN: &str = include_str!("golden/commands.txt");

fn schema() -> Schema {
    Schema::parse(concat!(include_str!("../commands.cddl"), include_str!("../term.cddl")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn term(term: &Term) -> Bytes {
    term.encode().unwrap().into()
}

fn account(name: &str, n: i64) -> Bytes {
    term(&Term::structure("account", [Term::atom(name), Term::Integer(n)]))
}

fn ops() -> Vec<Op> {
    let retract =
        |name, arity, order| Op::Retract { predicate: Indicator::new(name, arity), order };
    vec![
        retract("account", 2, 300),
        Op::Assert { end: End::Last, fact: account("alice", 70_000) },
        retract("halted", 0, -1),
        Op::Assert { end: End::First, fact: term(&Term::EMPTY) },
        retract("account", 2, i64::MIN),
        Op::Assert { end: End::Last, fact: term(&Term::structure("p", [Term::Var(0)])) },
        Op::Emit { event: term(&Term::string("done")) },
        Op::Emit { event: term(&Term::Integer(-1)) },
    ]
}

fn position(index: u64, n: u32) -> Position {
    Position { index, n }
}

fn claim() -> Claim {
    let declaration = |name, arity, keys: &[u32]| Declaration {
        predicate: Indicator::new(name, arity),
        keys: keys.to_vec(),
    };
    Claim {
        agent: "bank".to_owned(),
        node: "älvsborg".to_owned(),
        program: [0xab; 32],
        mode: Mode::Each,
        after: 0,
        declared: vec![declaration("account", 2, &[]), declaration("job", 3, &[3, 2])],
    }
}

/// One of every kind, with what makes each different.
fn commands() -> Vec<(&'static str, Command)> {
    let transaction = |origin, reads, ops| {
        Command::Transact(Transaction { origin, version: 1 << 40, reads, ops })
    };
    let session = Origin::Session { id: 23, seq: 24, acked: 22 };
    let agent = Origin::Agent {
        name: "bank".to_owned(),
        epoch: 2,
        seq: 1,
        from: position(2, 0),
        to: position(9, 65_536),
        record: Record { triggers: vec![term(&Term::atom("start"))], sent: vec![] },
        letter: None,
    };
    let retry = Origin::Agent {
        name: "bank".to_owned(),
        epoch: 2,
        seq: 2,
        from: position(9, 65_536),
        to: position(9, 65_536),
        record: Record { triggers: vec![term(&Term::atom("start"))], sent: vec![] },
        letter: Some(position(8, 0)),
    };
    let letter = Letter {
        agent: "bank".to_owned(),
        epoch: 2,
        seq: 7,
        from: position(9, 0),
        to: position(9, 1),
        event: term(&Term::structure("open", [Term::atom("x")])),
        reason: "killed three times".to_owned(),
    };
    vec![
        ("open-session", Command::OpenSession { label: "cli".to_owned(), nonce: [1; 16] }),
        ("transact-session", transaction(session, vec![1, 256, u64::MAX], ops())),
        ("transact-agent", transaction(agent, vec![], vec![])),
        ("transact-letter", transaction(retry, vec![], vec![])),
        ("claim", Command::Claim(claim())),
        ("claim-plain", Command::Claim(Claim { mode: Mode::One, declared: vec![], ..claim() })),
        ("letter", Command::Letter(letter)),
        ("release", Command::Release { agent: "bank".to_owned(), epoch: 2 }),
        (
            "drop-letters",
            Command::DropLetters {
                agent: "bank".to_owned(),
                positions: vec![position(9, 0), position(3, 1)],
            },
        ),
        (
            "publish-module",
            Command::PublishModule {
                name: "lists_more".to_owned(),
                text: "p(\"x\").\n".to_owned(),
                after: 7,
            },
        ),
        ("admit-founder", Command::Admit(admit(None))),
        ("admit", Command::Admit(admit(Some([4; 32])))),
        (
            "issue-ticket",
            Command::IssueTicket(IssueTicket {
                hash: [4; 32],
                until: 1_700_000_000_000_000,
                uses: 5,
            }),
        ),
        ("revoke-tickets", Command::RevokeTickets { hashes: vec![[4; 32], [5; 32]], after: 9 }),
        (
            "configure",
            Command::Configure(Configure {
                voters: [1, 3].into(),
                learners: [4].into(),
                removed: [2].into(),
            }),
        ),
        (
            "recover",
            Command::Recover(Recover {
                generation: 1,
                voter: 3,
                node: "athens".to_owned(),
                dropped: [(1, "sparta".to_owned()), (2, "corinth".to_owned())].into(),
                words: "I know".to_owned(),
            }),
        ),
        ("checkpoint", Command::Checkpoint(checkpoint())),
    ]
}

fn checkpoint() -> Checkpoint {
    let signature = |member, peer: &'static [u8]| Signature {
        member,
        peer: Bytes::from_static(peer),
        bytes: Bytes::from_static(&[6; 64]),
    };
    Checkpoint {
        generation: 1,
        mark: Mark { index: 65_536, chain: [4; 32], digest: [5; 32] },
        signatures: vec![signature(1, b"\x00\x24peer"), signature(3, b"")],
    }
}

fn admit(ticket: Option<[u8; 32]>) -> Admit {
    let (peer, node) = (Bytes::from_static(b"\x00\x24peer"), "athens".to_owned());
    Admit { peer, node, nonce: [3; 16], ticket, after: 8 }
}

fn outcomes() -> Vec<(&'static str, Outcome)> {
    let refused = |refusal| Outcome::Refused(1000, refusal);
    vec![
        ("outcome-committed", Outcome::Committed(1000)),
        ("outcome-conflict", refused(Refusal::Conflict(vec![1, u64::MAX]))),
        ("outcome-too-old", refused(Refusal::TooOld)),
        ("outcome-no-session", refused(Refusal::NoSession)),
        ("outcome-out-of-window", refused(Refusal::OutOfWindow)),
        ("outcome-stale-epoch", refused(Refusal::StaleEpoch)),
        ("outcome-stale-cursor", refused(Refusal::StaleCursor)),
        ("outcome-full", refused(Refusal::Full("modules"))),
        ("outcome-malformed", refused(Refusal::Malformed)),
        ("outcome-no-letter", refused(Refusal::NoLetter)),
    ]
}

fn draft() -> Draft {
    Draft { version: 9, reads: vec![5, 6], ops: ops() }
}

/// A state that has something of everything, and what made it.
fn state() -> (State, Vec<Change>) {
    let mut state = State::new([3; 32]);
    let mut changes = Vec::new();
    let mut apply = |time, command: Command| {
        let applied = state.apply(time, &command.encode());
        changes.extend(applied.change);
        applied.index
    };
    let open = |label: &str| Command::OpenSession { label: label.to_owned(), nonce: [4; 16] };
    let id = apply(1_700_000_000_000_000, open("cli"));
    apply(1_700_000_000_000_001, open(""));
    let transact = |seq, acked, reads: &[u64], ops: &[Op]| {
        let origin = Origin::Session { id, seq, acked };
        let (reads, ops) = (reads.to_vec(), ops.to_vec());
        Command::Transact(Transaction { origin, version: 2, reads, ops })
    };
    let writes: Vec<_> = ops().into_iter().filter(|op| !matches!(op, Op::Retract { .. })).collect();
    apply(0, transact(1, 0, &[], &writes));
    let retract = Op::Retract { predicate: Indicator::new("p", 1), order: 0 };
    apply(0, transact(2, 1, &[], &[retract]));
    let key = synod_core::kb::key::whole(&Indicator::new("p", 1)).0;
    apply(0, transact(3, 1, &[key], &[]));
    let epoch = apply(0, Command::Claim(claim()));
    let letter = |seq, index| {
        let cursor = position(epoch, 0);
        Command::Letter(Letter {
            agent: "bank".to_owned(),
            epoch,
            seq,
            from: cursor,
            to: position(index, 0),
            event: account("alice", 1),
            reason: "killed".to_owned(),
        })
    };
    let next = apply(0, letter(1, epoch)) + 1;
    apply(0, letter(2, next));
    apply(0, letter(3, next));
    let other = Claim { agent: "audit".to_owned(), ..claim() };
    let epoch = apply(0, Command::Claim(other));
    apply(0, Command::Release { agent: "audit".to_owned(), epoch });
    for (name, command) in commands() {
        if name == "publish-module" {
            apply(0, command);
        }
    }
    apply(
        0,
        Command::Transact(Transaction {
            origin: Origin::Session { id, seq: 4, acked: 1 },
            version: 10_000,
            reads: vec![],
            ops: vec![],
        }),
    );
    (state, changes)
}

fn datagram(bytes: &[u8]) -> Datagram {
    Datagram {
        tunnel: "prices".to_owned(),
        node: "n0".to_owned(),
        to: Endpoint { ip: [239, 0, 0, 2], port: 20_005 },
        from: Endpoint { ip: [127, 64, 1, 2], port: 5000 },
        bytes: bytes.to_vec(),
    }
}

fn items(state: &mut State) -> Vec<Bytes> {
    state.begin_snapshot();
    std::iter::from_fn(|| state.snapshot_step()).collect()
}

fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::new();
    write(&mut w);
    w.into_vec()
}

/// (rule of the grammar, name, bytes) of all that has golden bytes.
fn samples() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut all = Vec::new();
    for (name, command) in commands() {
        all.push(("command", name.to_owned(), command.encode().to_vec()));
    }
    let two = commands().into_iter().take(2).map(|(_, command)| command.encode()).collect();
    let tag = Tag { place: 1, count: 1, member: 2, boot: 77, first: 4 };
    let batch = Batch { time: 1_700_000_000_000_000, tags: vec![tag], commands: two };
    all.push(("batch", "batch".to_owned(), batch.encode().to_vec()));
    let empty = Batch { time: 0, tags: vec![], commands: vec![] };
    all.push(("batch", "batch-empty".to_owned(), empty.encode().to_vec()));
    let mut w = Writer::new();
    w.array(4);
    draft().write(&mut w);
    all.push(("draft", "draft".to_owned(), w.into_vec()));
    for (name, outcome) in outcomes() {
        all.push(("outcome", name.to_owned(), written(|w| outcome.write(w))));
    }
    for (name, bytes) in [("datagram", &b"a\0\xff"[..]), ("datagram-empty", b"")] {
        all.push(("datagram", name.to_owned(), datagram(bytes).event().unwrap().to_vec()));
    }
    let (mut state, changes) = state();
    for (n, change) in changes.iter().enumerate() {
        all.push(("change", format!("change-{n}"), written(|w| change.write(w))));
    }
    for (n, item) in items(&mut state).iter().enumerate() {
        all.push(("item", format!("item-{n}"), item.to_vec()));
    }
    all
}

/// Another byte is another format: it needs a new version of the files and frames that hold it.
#[test]
fn the_bytes_are_what_they_have_always_been() {
    let lines = samples().into_iter().map(|(_, name, bytes)| format!("{name} {}\n", hex(&bytes)));
    let lines: String = lines.collect();
    assert!(lines == GOLDEN, "the golden file would have to be:\n{lines}");
}

#[test]
fn golden_bytes_are_read_as_what_was_written() {
    let golden = |wanted: &str| -> Bytes {
        let line = GOLDEN.lines().find_map(|line| line.strip_prefix(&format!("{wanted} ")));
        let hex = line.unwrap();
        let byte = |n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap();
        (0..hex.len() / 2).map(byte).collect()
    };
    for (name, command) in commands() {
        assert_eq!(Command::decode(&golden(name)), Ok(command.clone()), "{name}");
        command.check_terms().unwrap();
    }
    for (name, outcome) in outcomes() {
        assert_eq!(Outcome::read(&mut Reader::new(&golden(name))), Ok(outcome), "{name}");
    }
    let old = Datagram::read("tunnel:prices", &golden("datagram"));
    assert_eq!(old, Some(datagram(b"a\0\xff")));
    assert_eq!(Draft::read(&golden("draft").slice(1..)), Ok(draft()));
    assert_eq!(Batch::decode(&golden("batch")).unwrap().commands.len(), 2);
    let (mut state, changes) = state();
    for (n, change) in changes.iter().enumerate() {
        let bytes = golden(&format!("change-{n}"));
        assert_eq!(Change::read(&mut Reader::new(&bytes)).as_ref(), Ok(change));
    }
    let mut restore = Restore::whole();
    for n in 0..items(&mut state).len() {
        restore.item(&golden(&format!("item-{n}"))).unwrap();
    }
    assert_eq!(restore.finish().unwrap().digest(), state.digest());
}

#[test]
fn everything_is_what_the_grammar_says_and_nothing_else() {
    let schema = schema();
    let rules = ["command", "batch", "draft", "datagram", "outcome", "change", "item"];
    for (rule, name, bytes) in samples() {
        assert!(schema.matches(rule, &bytes), "{name} is no {rule}");
        // The grammar is read and not waved through: with one byte more, or its head another
        // array's, it is nothing.
        assert!(rules.iter().all(|rule| !schema.matches(rule, &[&bytes[..], &[0]].concat())));
        assert!(!schema.matches(rule, &[&[bytes[0] + 1], &bytes[1..], &[0xf7]].concat()), "{name}");
    }
    let refused = [
        ("command", "830d60"),           // of a kind that there is not
        ("command", "8300636162635001"), // a nonce that is too short
        ("command", "830002500101010101010101010101010101010101"), // a label that is no text
        ("outcome", "82010d"),           // a refusal that there is not
        ("change", "83016080"),          // without effects
        ("item", "820b4100"),            // of a kind that there is not
    ];
    for (rule, hex) in refused {
        let bytes: Bytes = (0..hex.len() / 2)
            .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
            .collect();
        assert!(!schema.matches(rule, &bytes), "{rule} {hex}");
        let is_read = match rule {
            "command" => Command::decode(&bytes).is_ok(),
            "outcome" => Outcome::read(&mut Reader::new(&bytes)).is_ok(),
            "change" => Change::read(&mut Reader::new(&bytes)).is_ok(),
            _ => Restore::whole().item(&bytes).is_ok(),
        };
        assert!(!is_read, "{rule} {hex}");
    }
}
