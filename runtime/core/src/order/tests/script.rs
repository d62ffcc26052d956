//! Interaction scripts, as etcd's raft has them: `testdata/order/*.txt` hold blocks of commands, a
//! line `----`, and all that follows from them, up to an empty line. `REWRITE=1` writes what does
//! follow; the difference is for a reader to judge.
//!
//! Writes reach the disk and commits are applied at once, unless a member's disk is held; a crash
//! keeps the hard state of the write that it tears. Messages wait in the order sent until they are
//! delivered.

use super::member::{Member, Parcel, Tear};
use super::trace;
use crate::order::message::{self, Mark};
use crate::order::*;
use crate::time::Time;
use raft::eraftpb::{Message, MessageType};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

const GROUP: [u8; 32] = [7; 32];

macro_rules! scripts {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(concat!(stringify!($name), ".txt"));
        })*

        #[test]
        fn every_script_is_run() {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/order");
            let names = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
            let found: BTreeSet<_> = names.map(|name| name.into_string().unwrap()).collect();
            let run = [$(concat!(stringify!($name), ".txt"),)* super::wire::GOLDEN];
            assert_eq!(found, run.into_iter().map(str::to_owned).collect());
        }
    };
}

scripts! {
    change_of_members
    conflicting_suffix
    election
    fetch
    learner
    partition
    read_index
    refused
    snapshot
    sole_voter
    transfer
    writes
}

fn run(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/order").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut world = World::default();
    let mut followed = String::new();
    for block in text.trim_end().split("\n\n") {
        let (commands, _) = block.split_once("----").unwrap_or((block, ""));
        followed.push_str(commands.trim_end());
        let mut trace = Vec::new();
        for line in commands.lines().filter(|line| !line.starts_with('#')) {
            world.command(line);
            trace.append(&mut world.trace);
        }
        if commands.lines().any(|line| !line.starts_with('#')) {
            followed.push_str("\n----\n");
            followed.push_str(if trace.is_empty() { "nothing" } else { "" });
            followed.push_str(&trace.join("\n"));
        }
        followed.push_str("\n\n");
    }
    let followed = followed.trim_end().to_owned() + "\n";
    if std::env::var_os("REWRITE").is_some() {
        std::fs::write(&path, followed).unwrap();
    } else {
        assert!(text == followed, "{name}: what follows differs\n\n{followed}");
    }
}

#[derive(Default)]
struct World {
    now: Time,
    members: BTreeMap<u64, Member>,
    wire: VecDeque<Parcel>,
    /// Sides of a cut network; a member that none lists is on a side with all such.
    sides: Vec<BTreeSet<u64>>,
    held: BTreeSet<u64>,
    cache_bytes: Option<usize>,
    tickets: u64,
    quiet: bool,
    trace: Vec<String>,
}

impl World {
    fn command(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let mut name = words.next().unwrap();
        self.quiet = name == "quiet";
        if self.quiet {
            name = words.next().unwrap();
        }
        let words: Vec<_> = words.collect();
        let id = words.first().map_or(0, |word| word.parse().unwrap_or(0));
        let text = words.get(1..).unwrap_or(&[]).join(" ");
        match name {
            "cache" => self.cache_bytes = Some(words[0].parse().unwrap()),
            "campaign" => self.handle(id, Input::Campaign),
            "change" => {
                let changes = words[1..].iter().map(|word| change(word)).collect();
                let (ticket, context) = (self.ticket(), Bytes::from_static(b"why"));
                self.handle(id, Input::ChangeMembers { ticket, changes, context });
            }
            "compact" => {
                self.member(id).compact(Time::ZERO, words[1].parse().unwrap());
                self.settle();
            }
            "copy" => {
                let copies: Vec<_> = self.wire.iter().filter(|p| p.to == id).cloned().collect();
                self.wire.extend(copies);
            }
            "crash" => self.member(id).crash(0, Tear { entries: 0, hard_state: true }),
            "cut" => self.sides = line[3..].split('|').map(ids).collect(),
            "deliver" => self.deliver(|parcel| id == 0 || parcel.to == id),
            "disk" => {
                let now = self.now;
                self.member(id).write(now, 1);
                self.settle();
            }
            "heal" => self.sides.clear(),
            "hold" => drop(self.held.insert(id)),
            "log" => self.show_log(id),
            "lose" => self.lose(|parcel| id == 0 || parcel.to == id),
            "propose" => {
                for word in &words[1..] {
                    let data = match word.split_once('*') {
                        Some((c, n)) => c.repeat(n.parse().unwrap()),
                        None => (*word).to_owned(),
                    };
                    let (now, ticket, data) = (self.now, self.ticket(), Bytes::from(data));
                    self.member(id).handle(now, Input::Propose { ticket, data });
                }
                self.settle();
            }
            "read" => {
                let ticket = self.ticket();
                self.handle(id, Input::ReadIndex { ticket });
            }
            "receive" => self.receive(id, &words[1..]),
            "restart" => {
                let now = self.now;
                self.member(id).start(now);
                self.settle();
            }
            "show" => self.show(id),
            "start" => {
                let ids = ids(&words.join(" "));
                ids.iter().for_each(|&id| self.start(id, &Members::of_voters(ids.clone())));
                self.settle();
            }
            "start-as" => {
                self.start(id, &Members::of_voters(ids(&text)));
                self.settle();
            }
            "tick" => {
                for _ in 0..text.parse().unwrap_or(1) {
                    let due = self.order(id).poll_timeout();
                    self.now = due.expect("nothing to wait for").0.max(self.now);
                    self.handle(id, Input::Timeout);
                }
            }
            "transfer" => self.handle(id, Input::Transfer { to: text.parse().unwrap() }),
            "unhold" => {
                self.held.remove(&id);
                self.settle();
            }
            other => panic!("no command {other}"),
        }
    }

    fn start(&mut self, id: u64, genesis: &Members) {
        let mut config = Config::new(id, GROUP, 0);
        config.cache_bytes = self.cache_bytes.unwrap_or(config.cache_bytes);
        self.members.insert(id, Member::new(config, genesis.clone(), self.now));
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).unwrap()
    }

    fn order(&mut self, id: u64) -> &mut Order {
        self.member(id).order.as_mut().unwrap()
    }

    fn handle(&mut self, id: u64, input: Input) {
        let now = self.now;
        self.member(id).handle(now, input);
        self.settle();
    }

    /// Lets every member and its disk go on until all wait for messages or time.
    fn settle(&mut self) {
        let mut busy = true;
        while busy {
            busy = false;
            for (&id, member) in &mut self.members {
                for output in member.take_outputs() {
                    busy = true;
                    let shown = !matches!(output, Output::Send { .. } | Output::Persist(_));
                    if shown || !self.quiet {
                        self.trace.push(trace::output(id, &output));
                    }
                }
                let raft_index = member.committed.index;
                member.handle(self.now, Input::Applied { raft_index });
                busy |= !self.held.contains(&id) && member.write(self.now, 1);
                busy |= member.fetch_one(self.now);
                self.wire.append(&mut member.outbox);
            }
        }
    }

    fn deliver(&mut self, which: impl Fn(&Parcel) -> bool) {
        while let Some(at) = self.wire.iter().position(&which) {
            let parcel = self.wire.remove(at).unwrap();
            if self.is_cut(parcel.from, parcel.to) {
                self.lost(&parcel);
                continue;
            }
            let Parcel { from, to, message, snapshot, .. } = parcel;
            self.handle(to, Input::Message { from, bytes: message });
            if snapshot.is_some() {
                self.handle(from, Input::SnapshotSent { to, ok: true });
            }
        }
    }

    fn lose(&mut self, which: impl Fn(&Parcel) -> bool) {
        while let Some(at) = self.wire.iter().position(&which) {
            let parcel = self.wire.remove(at).unwrap();
            self.lost(&parcel);
        }
    }

    fn lost(&mut self, parcel: &Parcel) {
        if !self.quiet {
            let text = trace::sent(&parcel.message);
            self.trace.push(format!("lost: {} -> {} {text}", parcel.from, parcel.to));
        }
        if parcel.snapshot.is_some() {
            self.handle(parcel.from, Input::SnapshotSent { to: parcel.to, ok: false });
        }
    }

    fn is_cut(&self, a: u64, b: u64) -> bool {
        let side = |id| self.sides.iter().position(|side| side.contains(&id));
        let down = self.members.get(&b).is_none_or(|member| member.order.is_none());
        down || side(a) != side(b)
    }

    /// `from=2 claims=3 group=8 … heartbeat`: a message as somebody might make it.
    fn receive(&mut self, id: u64, words: &[&str]) {
        let (mut from, mut mark) = (0, Mark { group: GROUP, generation: 0 });
        let mut m = Message { to: id, term: 1, ..Message::default() };
        let mut bytes = None;
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, "0"));
            let n: u64 = value.parse().unwrap();
            match key {
                "from" => (from, m.from) = (n, n),
                "claims" => m.from = n,
                "to" => m.to = n,
                "group" => mark.group = [u8::try_from(n).unwrap(); 32],
                "generation" => mark.generation = n,
                "term" => m.term = n,
                "commit" => m.commit = n,
                "index" => m.index = n,
                "bytes" => bytes = Some(Bytes::from(vec![0; usize::try_from(n).unwrap()])),
                "heartbeat" => m.set_msg_type(MessageType::MsgHeartbeat),
                "append-answer" => m.set_msg_type(MessageType::MsgAppendResponse),
                "pre-vote-answer" => m.set_msg_type(MessageType::MsgRequestPreVoteResponse),
                "vote-answer" => m.set_msg_type(MessageType::MsgRequestVoteResponse),
                "election-now" => m.set_msg_type(MessageType::MsgTimeoutNow),
                "read" => m.set_msg_type(MessageType::MsgReadIndex),
                other => panic!("no such part of a message: {other}"),
            }
        }
        let bytes = bytes.unwrap_or_else(|| message::encode(&mark, &m).remove(0));
        self.handle(id, Input::Message { from, bytes });
    }

    fn show(&mut self, id: u64) {
        let order = self.order(id);
        let (members, last) = (order.members().to_string(), order.last());
        let mut line = format!("{id} {:?}: {members}; log to {}", order.role(), last.index);
        for Progress { id, matched, active } in order.progress() {
            line += &format!("; {id} has {matched}{}", if active { "" } else { " (silent)" });
        }
        self.trace.push(line);
    }

    fn show_log(&mut self, id: u64) {
        let disk = &self.members[&id].disk;
        let HardState { term, vote, commit } = disk.hard_state;
        let entries = trace::entries(&disk.entries);
        let before = disk.before.index;
        self.trace.push(format!(
            "{id} on disk: term {term} vote {vote} commit {commit}, log after {before}{entries}"
        ));
    }
}

fn ids(words: &str) -> BTreeSet<u64> {
    words.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

fn change(word: &str) -> Change {
    let id = word[1..].parse().unwrap();
    match &word[..1] {
        "v" => Change::Voter(id),
        "l" => Change::Learner(id),
        "r" => Change::Remove(id),
        other => panic!("no such change: {other}"),
    }
}
