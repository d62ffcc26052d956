//! A node that has one engine and one space in memory.

use bytes::Bytes;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use synod_core::apply::{self, Change, Refusal, State};
use synod_core::cbor::Writer;
use synod_core::command::{Claim, Command, Declaration, Mode, Op, Origin, Transaction};
use synod_core::kb::{End as ClauseEnd, Indicator};
use synod_core::snapshot::{Meta, Writer as SnapshotWriter};
use synod_core::term::Term;
use synod_core::term::text::{self, Dialect};
use synod_core::transaction::Draft;
use synod_prolog::frame::*;
use synod_prolog::{Death, Spawned};
use synod_sim::disk::SimDisk;

/// How long any one frame may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    pub(crate) engine: Spawned,
    pub(crate) state: State,
    changes: Vec<Change>,
    session: u64,
    seq: u64,
    folder: tempfile::TempDir,
    stderr: File,
    batch: u64,
    goal: u64,
    /// Refuses so many proposals as conflicts, whatever is in them.
    pub(crate) conflicts: u32,
    /// Refuses what writes, as conflicts.
    pub(crate) conflicts_of_writes: bool,
    /// Ends the next proposal as unknown, with this id.
    pub(crate) unknown: Option<String>,
    /// Answers to `Ask`, in order.
    pub(crate) replies: VecDeque<Result<Term, Term>>,
    /// Answers to `Call` and `CallMore`, in order.
    pub(crate) calls: VecDeque<ToEngine>,
    /// What the engine said besides: in order.
    pub(crate) said: Vec<FromEngine>,
    pub(crate) proposals: Vec<(Run, Vec<Effect>)>,
    /// How many keys the last proposal had read.
    pub(crate) reads: usize,
}

/// What `copy_after` is unless a test says otherwise.
pub(crate) static COPY_AFTER: AtomicU64 = AtomicU64::new(0);

pub(crate) struct Options {
    pub(crate) role: Role,
    pub(crate) limits: Limits,
    pub(crate) copy_after: u64,
    pub(crate) sandbox: Sandbox,
    /// Facts that are there from the start, in a base.
    pub(crate) facts: Vec<Term>,
    pub(crate) files: Vec<(&'static str, String)>,
    /// Answers to `Ask`, in order.
    pub(crate) replies: Vec<Result<Term, Term>>,
    /// The file that is answered as the path of a module.
    pub(crate) module: Option<&'static str>,
}

impl Options {
    pub(crate) fn agent() -> Self {
        Self {
            role: Role::Agent { name: "anna".into(), epoch: 1, first: true },
            limits: Limits { time_ms: 45_000, memory_bytes: 0, inferences: 0 },
            copy_after: COPY_AFTER.load(Ordering::Relaxed),
            sandbox: Sandbox { on: true, read: vec![], write: vec![], net: false },
            facts: vec![],
            files: vec![],
            replies: vec![],
            module: None,
        }
    }

    pub(crate) fn side() -> Self {
        Self { role: Role::Side { agent: "anna".into() }, ..Self::agent() }
    }
}

pub(crate) fn term(text: &str) -> Term {
    text::read(text, Dialect::Scryer).unwrap()
}

pub(crate) fn encoded(text: &str) -> Vec<u8> {
    term(text).encode().unwrap()
}

impl Node {
    /// Starts an engine with a program and waits until it is loaded.
    pub(crate) fn start(program: &str, options: Options) -> Self {
        let mut node = Self::launch(program, options);
        match node.next_said() {
            FromEngine::Loaded { .. } => node,
            other => panic!("not loaded: {other:?}"),
        }
    }

    /// Starts an engine, whatever comes of it.
    pub(crate) fn launch(program: &str, options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program.pl");
        std::fs::write(&path, program).unwrap();
        for (name, text) in &options.files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let stderr = tempfile::tempfile().unwrap();
        let exe = std::env::current_exe().unwrap();
        let engine = synod_prolog::spawn(&exe, ["engine"], stderr.try_clone().unwrap()).unwrap();
        engine.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut node = Self {
            engine,
            state: State::new([7; 32]),
            changes: vec![],
            session: 0,
            seq: 0,
            folder,
            stderr,
            batch: 0,
            goal: 0,
            conflicts: 0,
            conflicts_of_writes: false,
            unknown: None,
            replies: options.replies.into(),
            calls: VecDeque::new(),
            said: vec![],
            proposals: vec![],
            reads: 0,
        };
        let open = Command::OpenSession { label: "anna".into(), nonce: [1; 16] };
        node.state.apply(1, &open.encode());
        node.session = node.state.index();
        for facts in options.facts.chunks(1000) {
            let ops = facts.iter().map(|fact| Op::Assert {
                end: ClauseEnd::Last,
                fact: fact.encode().unwrap().into(),
            });
            node.commit(node.state.index(), vec![], ops.collect());
        }
        if let Some(file) = options.module {
            let path = node.folder.path().join(file);
            node.replies.push_back(Ok(Term::string(path.to_string_lossy())));
        }
        let base = (!options.facts.is_empty()).then(|| node.write_base());
        if base.is_some() {
            node.changes.clear();
        }
        let start = Start {
            version: VERSION,
            role: options.role,
            node: "n1".into(),
            space: "local".into(),
            program: path.to_string_lossy().into_owned(),
            modules: node.folder.path().join("modules").to_string_lossy().into_owned(),
            base: base.map(|path| path.to_string_lossy().into_owned()),
            at: node.state.index(),
            limits: options.limits,
            copy_after: options.copy_after,
            sandbox: options.sandbox,
        };
        node.send(&ToEngine::Start { start: Box::new(start) });
        node
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    /// A base of the state as it is, which is a snapshot of it.
    pub(crate) fn write_base(&mut self) -> PathBuf {
        let path = self.folder.path().join(format!("base-{}", self.state.index()));
        let (disk, dir) = (SimDisk::new(0), Path::new(""));
        let meta = Meta {
            space: [0; 32],
            index: self.state.index(),
            chain: self.state.chain(),
            at: Default::default(),
            members: Default::default(),
        };
        let mut writer = SnapshotWriter::create(&disk, dir, &meta).unwrap();
        self.state.begin_snapshot();
        while let Some(item) = self.state.snapshot_step() {
            writer.chunk(0, &item).unwrap();
        }
        let name = writer.finish().unwrap();
        std::fs::write(&path, disk.contents(name).unwrap()).unwrap();
        path
    }

    pub(crate) fn send(&mut self, frame: &ToEngine) {
        frame.write_to(&mut self.engine.socket).unwrap();
    }

    /// Takes frames, answering those that want an answer of a node, until one that the test is to
    /// see.
    pub(crate) fn next_said(&mut self) -> FromEngine {
        match self.next_or_death() {
            Ok(frame) => frame,
            Err(death) => panic!("{death}: {}", self.stderr()),
        }
    }

    /// As [`Node::next_said`]; how the engine died if it did instead.
    pub(crate) fn next_or_death(&mut self) -> Result<FromEngine, Death> {
        loop {
            let frame = match FromEngine::read_from(&mut self.engine.socket) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Err(self.death()),
                Err(FrameError::Io(e)) if e.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Err(self.death());
                }
                Err(error) => panic!("{error}: {}", self.stderr()),
            };
            match frame {
                FromEngine::Pull { since } => {
                    let changes = self.changes_since(since);
                    self.send(&ToEngine::Changes { changes });
                }
                FromEngine::Wants { .. } => {}
                FromEngine::Propose { proposal, run, draft, effects } => {
                    let draft = Draft::read(&Bytes::from(draft)).unwrap();
                    let since = draft.version;
                    self.reads = draft.reads.len();
                    let outcome = self.decide(draft);
                    if matches!(outcome, Outcome::Committed { .. }) {
                        self.proposals.push((run, effects));
                    }
                    let changes = self.changes_since(since);
                    self.send(&ToEngine::Outcome { proposal, outcome, changes });
                }
                FromEngine::Ask { ask } => {
                    let reply = self.replies.pop_front();
                    let reply = reply.unwrap_or_else(|| panic!("asked {ask:?}"));
                    let bytes = |term: Term| Some(term.encode().unwrap());
                    let (answer, error) = match reply {
                        Ok(term) => (bytes(term), None),
                        Err(term) => (None, bytes(term)),
                    };
                    self.send(&ToEngine::Reply { answer, error });
                }
                FromEngine::Call { .. }
                | FromEngine::UdpRequest { .. }
                | FromEngine::CallMore { .. } => {
                    self.said.push(frame.clone());
                    let answer = self.calls.pop_front();
                    let answer = answer.unwrap_or_else(|| panic!("called {frame:?}"));
                    self.send(&answer);
                }
                FromEngine::CallClose { .. } => self.said.push(frame),
                other => return Ok(other),
            }
        }
    }

    fn death(&mut self) -> Death {
        self.engine.child.wait().unwrap().into()
    }

    pub(crate) fn changes_since(&self, since: u64) -> Changes {
        let mut w = Writer::new();
        let from = self.changes.partition_point(|change| change.index <= since);
        self.changes[from..].iter().for_each(|change| change.write(&mut w));
        Changes { to: self.state.index(), more: false, sequence: w.into_vec() }
    }

    fn decide(&mut self, draft: Draft) -> Outcome {
        if let Some(id) = self.unknown.take() {
            return Outcome::Unknown { id };
        }
        if self.conflicts > 0 || (self.conflicts_of_writes && !draft.ops.is_empty()) {
            self.conflicts = self.conflicts.saturating_sub(1);
            return Outcome::Conflict { keys: vec!["a key".into()] };
        }
        match self.commit(draft.version, draft.reads, draft.ops) {
            apply::Outcome::Committed(index) => Outcome::Committed { index },
            apply::Outcome::Refused(_, Refusal::Conflict(keys)) => {
                Outcome::Conflict { keys: keys.iter().map(u64::to_string).collect() }
            }
            apply::Outcome::Refused(_, why) => panic!("{why}"),
        }
    }

    /// Commits a transaction, of the engine or of somebody else.
    pub(crate) fn commit(&mut self, version: u64, reads: Vec<u64>, ops: Vec<Op>) -> apply::Outcome {
        self.seq += 1;
        let origin = Origin::Session { id: self.session, seq: self.seq, acked: self.seq - 1 };
        let transaction = Transaction { origin, version, reads, ops };
        let applied = self.state.apply(1, &Command::Transact(transaction).encode());
        self.changes.extend(applied.change);
        applied.outcome
    }

    /// Has the space keep stamps of a predicate's further keys, as an agent's claim does.
    pub(crate) fn claim(&mut self, name: &str, arity: u32, keys: &[u32]) {
        let predicate = Indicator::new(name, arity);
        let claim = Claim {
            agent: "a".into(),
            node: "n1".into(),
            program: [1; 32],
            mode: Mode::One,
            after: 0,
            declared: vec![Declaration { predicate, keys: keys.to_vec() }],
        };
        let applied = self.state.apply(1, &Command::Claim(claim).encode());
        assert!(matches!(applied.outcome, apply::Outcome::Committed(_)), "{:?}", applied.outcome);
        self.changes.extend(applied.change);
    }

    /// Writes a fact, as somebody else would.
    pub(crate) fn assert(&mut self, fact: &str) {
        let fact = encoded(fact).into();
        self.commit(self.state.index(), vec![], vec![Op::Assert { end: ClauseEnd::Last, fact }]);
    }

    /// The facts of a predicate, for people.
    pub(crate) fn facts(&self, name: &str, arity: u32) -> Vec<String> {
        let predicate = self.state.kb().predicate(&Indicator::new(name, arity));
        let text = |bytes: &[u8]| Term::decode(bytes).unwrap().to_string();
        predicate
            .map(|p| p.facts_after(None).map(|(_, f)| text(&f.bytes)).collect())
            .unwrap_or_default()
    }

    /// Gives the engine triggers, once it asks, and waits until it asks again. What the runs said
    /// is left in `proposals` and `said`.
    pub(crate) fn handle(&mut self, items: Vec<Trigger>) {
        self.expect_next();
        self.give(items);
        self.expect_next_again();
    }

    /// An event with this term.
    pub(crate) fn event(&self, text: &str) -> Trigger {
        let position = Position { index: self.state.index(), n: 0 };
        Trigger::Event { position, from: "bert".into(), term: encoded(text) }
    }

    /// Handles events with these terms.
    pub(crate) fn events(&mut self, texts: &[&str]) {
        let items = texts.iter().map(|text| self.event(text)).collect();
        self.handle(items);
    }

    pub(crate) fn give(&mut self, items: Vec<Trigger>) {
        self.batch += 1;
        let changes = self.changes_since(0);
        self.send(&ToEngine::Triggers { batch: self.batch, changes, items });
    }

    pub(crate) fn expect_next(&mut self) {
        if self.said.last() == Some(&FromEngine::Next) {
            self.said.pop();
            return;
        }
        self.expect_next_again();
        self.said.pop();
    }

    fn expect_next_again(&mut self) {
        loop {
            match self.next_said() {
                FromEngine::Next => {
                    self.said.push(FromEngine::Next);
                    return;
                }
                FromEngine::Effects { run, effects } => self.proposals.push((run, effects)),
                other => self.said.push(other),
            }
        }
    }

    /// What the handlers that committed printed.
    pub(crate) fn printed(&self) -> String {
        let effects = self.proposals.iter().flat_map(|(_, effects)| effects);
        let bytes = effects.filter_map(|effect| match effect {
            Effect::Output { bytes } => Some(bytes.as_slice()),
            _ => None,
        });
        String::from_utf8(bytes.collect::<Vec<_>>().concat()).unwrap()
    }

    /// What is said of the handlers that failed.
    pub(crate) fn failures(&self) -> Vec<String> {
        let failed = |run: &Run| match run {
            Run::Batch { failed, .. } => failed.clone(),
            Run::Own => vec![],
        };
        self.proposals.iter().flat_map(|(run, _)| failed(run)).map(|f| f.text).collect()
    }

    /// Asks a goal.
    pub(crate) fn ask(&mut self, text: &str, kind: GoalKind, chunk: u32) {
        self.goal += 1;
        let goal = GoalText::Text { text: text.into() };
        let at_least = self.state.index();
        self.send(&ToEngine::Goal { id: self.goal, goal, kind, chunk, at_least });
    }

    /// All answers of a query, as text, and how it ended.
    pub(crate) fn query(&mut self, text: &str) -> (Vec<String>, End) {
        self.solve(text, GoalKind::Query)
    }

    pub(crate) fn transact(&mut self, text: &str) -> (Vec<String>, End) {
        // The read index that a fresh transaction asks for.
        let index = Term::integer(self.state.index());
        self.replies.push_back(Ok(index));
        let solved = self.solve(text, GoalKind::Transact);
        self.replies.clear();
        solved
    }

    fn solve(&mut self, text: &str, kind: GoalKind) -> (Vec<String>, End) {
        self.ask(text, kind, 10);
        let mut all = vec![];
        loop {
            match self.next_said() {
                FromEngine::Answers { id, answers, end, output, .. } if id == self.goal => {
                    all.extend(answers.into_iter().map(|answer| answer.text));
                    if !output.is_empty() {
                        self.proposals.push((Run::Own, vec![Effect::Output { bytes: output }]));
                    }
                    match end {
                        End::Running => {}
                        End::More => self.send(&ToEngine::More { id }),
                        end => return (all, end),
                    }
                }
                FromEngine::Effects { run, effects } => self.proposals.push((run, effects)),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The id of the goal that was asked last.
    pub(crate) fn goal(&self) -> u64 {
        self.goal
    }

    /// What the engine has written to its standard error.
    pub(crate) fn stderr(&mut self) -> String {
        let mut text = String::new();
        self.stderr.rewind().unwrap();
        self.stderr.read_to_string(&mut text).unwrap();
        text
    }

    /// Resident bytes of the engine.
    pub(crate) fn resident(&self) -> u64 {
        let statm = format!("/proc/{}/statm", self.engine.child.id());
        let text = std::fs::read_to_string(statm).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.engine.child.kill();
        let _ = self.engine.child.wait();
    }
}

/// The text of the error that a goal ended with.
pub(crate) fn error_of(end: &End) -> &str {
    match end {
        End::Error { text, .. } => text,
        other => panic!("no error: {other:?}"),
    }
}
