//! Nodes that follow the simulated space without being members: the core's observers under a shell like
//! `runtime/node/space/observing`, whose gossip goes over a mesh of bounded degree that loses, delays and reorders;
//! and voters that tell them, as `runtime/node/net/heralding.rs`. Some of the observers lie to the others.

use super::answering::answer_of;
use super::apply::{folder, load, receive};
use super::node::{Running, SPACE};
use super::open::LIMITS;
use super::world::{Event, World};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use synod_core::apply::{Part, State};
use synod_core::command::Batch;
use synod_core::group::observer::{
    Action, Anchor, Answer, Fetched, Heads, Input, MAX_ANNOUNCED, MAX_ANNOUNCED_BYTES, Memory,
    Observer, Piece, Places, Request, Scene, Trouble,
};
use synod_core::group::{Duty, Head, Herald, Place, duty};
use synod_core::log::disk::Disk as _;
use synod_core::log::{Entry, HardState, Log, Position};
use synod_core::order::{self, EntryKind};
use synod_core::time::Time;
use synod_sim::disk::SimDisk;
use synod_sim::rng::Rng;

/// Neighbours of a node in the mesh, as many as gossipsub wants.
const DEGREE: u64 = 6;
/// How often it is looked whether a voter has something to tell.
const LOOK: u64 = 5_000;
/// What watchers are called among members, for the checker.
const MEMBERS: u64 = 1_000;

pub(crate) enum Watched {
    /// Voters tell what there is to tell.
    Heralds,
    Start(usize),
    Tick(usize, u64),
    Heard {
        to: usize,
        from: Bytes,
        number: u64,
        bytes: Bytes,
    },
    Asked {
        by: usize,
        boot: u64,
        number: u64,
        peer: Bytes,
        request: Request,
    },
    Answered {
        to: usize,
        boot: u64,
        number: u64,
        answer: Fetched<Vec<u8>>,
    },
}

struct Watcher {
    peer: Bytes,
    disk: SimDisk,
    log: Log<SimDisk>,
    state: State,
    machine: Observer<Vec<u8>>,
    heads: Heads,
    through: Position,
    boot: u64,
    anchor: Anchor,
    /// What it has kept of what it heard.
    memory: Memory,
    /// Gossip that it has passed on, by its number.
    passed_on: BTreeSet<u64>,
    lies: bool,
    /// Until then it hears nothing.
    cut: Time,
    tick: Time,
}

/// What a member knows of those that follow.
#[derive(Default)]
pub(crate) struct Telling {
    boot: u64,
    herald: Herald,
    pub(crate) places: Places,
    said: u64,
}

pub(crate) struct Watchers {
    all: BTreeMap<usize, Watcher>,
    count: usize,
    pub(crate) telling: BTreeMap<u64, Telling>,
    /// Its own, so that those who follow change nothing for the members.
    rng: Rng,
    numbers: u64,
    boots: u64,
    /// Whether nothing goes wrong.
    pub(crate) is_quiet: bool,
}

fn peer_of(w: usize) -> Bytes {
    format!("watcher {w}").into()
}

fn sign(peer: &[u8], statement: &[u8]) -> Bytes {
    Bytes::copy_from_slice(blake3_of(&[peer, statement].concat()).as_slice())
}

/// The core's own hash of a chain serves as one.
fn blake3_of(bytes: &[u8]) -> [u8; 32] {
    synod_core::apply::link(&[0; 32], 0, 0, bytes)
}

fn is_signed(peer: &[u8], statement: &[u8], signature: &[u8]) -> bool {
    sign(peer, statement) == signature
}

pub(crate) fn place_of(run: &Running) -> Place {
    let order::Position { index, term } = run.apply.through;
    Place { at: Position { term, index }, chain: run.apply.state.place() }
}

/// Whether a member's word counts.
fn may_sign(run: &Running) -> bool {
    let me = run.membership.members().get(&run.me.member);
    let is_right = run.marking.rebuilding.is_none() && !run.is_broken && run.removed.is_none();
    is_right && me.is_some_and(|me| me.part == Part::Voter && me.peer == run.me.peer)
}

impl Watchers {
    pub(crate) fn new(seed: u64, count: usize) -> Self {
        Self {
            all: BTreeMap::new(),
            count,
            telling: BTreeMap::new(),
            rng: Rng::new(seed ^ 0x0b5e_77e5),
            numbers: 0,
            boots: 0,
            is_quiet: false,
        }
    }

    pub(crate) fn head(&mut self, m: u64, run: &Running, place: Place) -> Head {
        let telling = self.telling.entry(m).or_default();
        telling.said = run.wall.max(telling.said + 1);
        let mut head = Head::new(SPACE, 0, place, telling.said, run.me.peer.clone());
        head.signature = sign(&head.voter, &head.statement());
        head
    }

    /// Whom gossip goes to from a node: so many that it reaches all, and no more.
    fn neighbours(&self, of: usize) -> Vec<usize> {
        let count = self.count as u64;
        let next = (1..=DEGREE).map(|n| ((of as u64 + n * n * n) % count.max(1)) as usize);
        let all: BTreeSet<usize> = next.filter(|w| *w != of).collect();
        all.into_iter().collect()
    }
}

impl World {
    /// Lets so many nodes follow the space.
    pub(crate) fn watch(&mut self, seed: u64, count: usize) {
        self.watchers = Watchers::new(seed, count);
        for w in 0..count {
            self.plan(1_200_000 + 10_000 * w as u64, Event::Watched(Watched::Start(w)));
        }
        self.plan(LOOK, Event::Watched(Watched::Heralds));
    }

    pub(crate) fn watched(&mut self, what: Watched) {
        match what {
            Watched::Heralds => {
                for m in self.machines.keys().copied().collect::<Vec<_>>() {
                    self.tell_watchers(m);
                }
                self.plan(LOOK, Event::Watched(Watched::Heralds));
            }
            Watched::Start(w) => self.start_watcher(w),
            Watched::Tick(w, boot) => {
                let is_its = self.watchers.all.get(&w).is_some_and(|watcher| watcher.boot == boot);
                if is_its {
                    self.look_around(w);
                    self.step_watcher(w, Input::Tick);
                }
            }
            Watched::Heard { to, from, number, bytes } => self.pass_on(to, from, number, bytes),
            Watched::Asked { by, boot, number, peer, request } => {
                self.ask_for_watcher((by, boot, number), &peer, request);
            }
            Watched::Answered { to, boot, number, answer } => {
                if self.watchers.all.get(&to).is_some_and(|watcher| watcher.boot == boot) {
                    self.step_watcher(to, Input::Fetched { number, answer });
                }
            }
        }
    }

    /// A member says where the space is, if that falls to it and it is time.
    fn tell_watchers(&mut self, m: u64) {
        let Some(run) = &self.machines[&m].run else { return };
        let (boot, now) = (run.boot, self.now);
        let voters = run.membership.members().iter().filter(|(_, v)| v.part == Part::Voter);
        let is_there = |peer: &Bytes| !run.unconnected.contains(peer);
        let voters: Vec<_> = voters.map(|(&id, v)| (id, is_there(&v.peer))).collect();
        let duty = match may_sign(run) && self.watchers.count > 0 {
            true => duty(run.me.member, run.leader.2, voters),
            false => Duty::None,
        };
        let telling = self.watchers.telling.entry(m).or_default();
        if telling.boot != boot {
            *telling = Telling { boot, said: telling.said, ..Telling::default() };
        }
        if telling.herald.due(duty, run.apply.state.index()).is_none_or(|due| due > now) {
            return;
        }
        let (place, mut entries) = (place_of(run), Vec::new());
        if let (Duty::Tells, Some(told)) = (duty, telling.herald.told()) {
            let (after, last) = (told.at.index, place.at.index);
            if last > after && last - after <= MAX_ANNOUNCED as u64 {
                let read = run.log.read(after + 1, last + 1, MAX_ANNOUNCED_BYTES);
                entries = read.unwrap_or_default();
                let bytes: usize = entries.iter().map(|entry| entry.data.len()).sum();
                let is_all = entries.last().is_some_and(|entry| entry.index == last);
                if !is_all || bytes > MAX_ANNOUNCED_BYTES {
                    entries.clear();
                }
            }
        }
        telling.herald.spoke(now, place);
        let mut watchers = std::mem::replace(&mut self.watchers, Watchers::new(0, 0));
        let head = watchers.head(m, run, place);
        let before = place.at.index - entries.len() as u64;
        let bytes = Piece { head, before, entries }.announcement();
        let from = run.me.peer.clone();
        watchers.numbers += 1;
        let number = watchers.numbers;
        let mut to = watchers.neighbours(m as usize % watchers.count.max(1));
        to.truncate(DEGREE as usize);
        self.watchers = watchers;
        to.iter().for_each(|_| self.costs.of(m, bytes.len()));
        self.checker.count("announcements", 1);
        to.into_iter().for_each(|w| self.gossip(w, &from, number, &bytes));
    }

    fn gossip(&mut self, to: usize, from: &Bytes, number: u64, bytes: &Bytes) {
        let is_calm = self.is_calm() || self.watchers.is_quiet;
        let rng = &mut self.watchers.rng;
        let is_lost = !is_calm && rng.below(100) < 15;
        let far = if !is_calm && rng.one_in(8) { 300_000 } else { 3_000 };
        let pause = 200 + rng.below(far);
        let (from, mut bytes) = (from.clone(), bytes.clone());
        if !is_calm && rng.one_in(200) {
            // What no honest bridge would deliver, but a peer may gossip under its own name.
            let mut garbled = bytes.to_vec();
            let place = rng.below(garbled.len() as u64) as usize;
            garbled[place] ^= 1 << rng.below(8);
            bytes = garbled.into();
        }
        if !is_lost {
            self.plan(pause, Event::Watched(Watched::Heard { to, from, number, bytes }));
        }
    }

    /// Gossip has come to a watcher: it goes on to its neighbours, the first time.
    fn pass_on(&mut self, w: usize, from: Bytes, number: u64, bytes: Bytes) {
        let now = self.now;
        let Some(watcher) = self.watchers.all.get_mut(&w) else { return };
        if watcher.cut > now || !watcher.passed_on.insert(number) {
            return;
        }
        if watcher.passed_on.len() > 1_000 {
            watcher.passed_on.pop_first();
        }
        for to in self.watchers.neighbours(w) {
            self.gossip(to, &from, number, &bytes);
        }
        self.checker.count("gossip heard", 1);
        self.step_watcher(w, Input::Heard { from, bytes });
    }

    // A watcher.

    fn start_watcher(&mut self, w: usize) {
        let again = Event::Watched(Watched::Start(w));
        if let Some(watcher) = self.watchers.all.remove(&w) {
            // Its node starts again, with what is on its disk.
            return self.begin_watcher(w, watcher.disk, watcher.anchor, watcher.memory);
        }
        let running = self.machines.values().filter_map(|machine| machine.run.as_ref());
        let Some(run) =
            running.filter(|run| may_sign(run)).max_by_key(|run| run.apply.state.index())
        else {
            return self.plan(100_000, again);
        };
        let voters = run.membership.members().values().filter(|m| m.part == Part::Voter);
        let voters: BTreeSet<Bytes> = voters.map(|m| m.peer.clone()).collect();
        if voters.is_empty() {
            return self.plan(100_000, again);
        }
        let anchor = Anchor { place: place_of(run), voters };
        let disk = SimDisk::new(w as u64);
        disk.put("begun", b"");
        disk.create_dir(folder()).unwrap();
        disk.create_dir(Path::new("log")).unwrap();
        Log::create(disk.clone(), Path::new("log"), SPACE, Position::default(), LIMITS).unwrap();
        self.begin_watcher(w, disk, anchor, Memory::default());
    }

    fn begin_watcher(&mut self, w: usize, disk: SimDisk, anchor: Anchor, memory: Memory) {
        let (mut state, mut through) = (State::new(SPACE), Position::default());
        let newest = synod_core::snapshot::newest(&disk, folder(), SPACE).unwrap();
        if let Some((path, _)) = newest.whole {
            let (found, at, _) = load(&disk, &path).unwrap();
            (state, through) = (found, Position { term: at.term, index: at.index });
        }
        let (mut log, _) = Log::open(disk.clone(), Path::new("log"), SPACE, LIMITS).unwrap();
        log.install(through).unwrap();
        let last = log.last().index;
        for entry in log.read(through.index + 1, last + 1, usize::MAX).unwrap() {
            apply(&mut state, &entry);
            through = Position { term: entry.term, index: entry.index };
        }
        self.watchers.boots += 1;
        let boot = self.watchers.boots;
        let place = Place { at: through, chain: state.place() };
        let machine = Observer::new(SPACE, anchor.clone(), place, memory.clone(), boot, self.now);
        let lies = !self.watchers.is_quiet && w % 3 == 2;
        let watcher = Watcher {
            peer: peer_of(w),
            disk,
            log,
            state,
            machine,
            heads: Heads::default(),
            through,
            boot,
            anchor,
            memory,
            passed_on: BTreeSet::new(),
            lies,
            cut: Time::ZERO,
            tick: Time::ZERO,
        };
        self.watchers.all.insert(w, watcher);
        self.look_around(w);
        self.step_watcher(w, Input::Tick);
    }

    /// Tells a watcher whom it can ask; and now and then something happens to it.
    fn look_around(&mut self, w: usize) {
        let (now, is_stormy) = (self.now, !self.is_calm() && !self.watchers.is_quiet);
        let others = self.watchers.all.iter().filter(|(other, _)| **other != w);
        let observers: Vec<Bytes> = others.map(|(_, other)| other.peer.clone()).collect();
        let Some(watcher) = self.watchers.all.get_mut(&w) else { return };
        let membership = watcher.state.membership().clone();
        let scene = Scene {
            now,
            membership: &membership,
            applied_entry: watcher.through.index,
            applied: watcher.state.index(),
            is_signed: &is_signed,
        };
        let voters = watcher.machine.voters(&scene).into_iter().filter(|peer| {
            let is_it = |m: &super::world::Machine| m.peer == *peer && m.run.is_some();
            self.machines.values().any(is_it)
        });
        let voters = voters.collect();
        self.step_watcher(w, Input::Reachable { observers, voters });
        let rng = &mut self.watchers.rng;
        if is_stormy && rng.one_in(400) {
            self.checker.count("watchers started again", 1);
            self.plan(1_000, Event::Watched(Watched::Start(w)));
        } else if is_stormy && rng.one_in(300) {
            let until = now + std::time::Duration::from_millis(rng.below(4_000));
            self.watchers.all.entry(w).and_modify(|watcher| watcher.cut = until);
            self.checker.count("watchers cut off", 1);
        }
    }

    fn step_watcher(&mut self, w: usize, input: Input<Vec<u8>>) {
        let now = self.now;
        let Some(mut watcher) = self.watchers.all.remove(&w) else { return };
        let membership = watcher.state.membership().clone();
        let scene = Scene {
            now,
            membership: &membership,
            applied_entry: watcher.through.index,
            applied: watcher.state.index(),
            is_signed: &is_signed,
        };
        watcher.machine.handle(&scene, input);
        while let Some(action) = watcher.machine.poll_action() {
            match action {
                Action::Write { entries, head } => {
                    self.write_for_watcher(w, &mut watcher, entries, head)
                }
                Action::Fetch { number, peer, request } => {
                    self.checker.count("watchers' questions", 1);
                    let (boot, pause) = (watcher.boot, 500 + self.watchers.rng.below(3_000));
                    let asked = Watched::Asked { by: w, boot, number, peer, request };
                    self.plan(pause, Event::Watched(asked));
                }
                Action::Install { head, file } => {
                    let number = 1_000_000 + head.place.at.index;
                    let (path, _) = receive(&watcher.disk, &file, number).unwrap();
                    watcher.state = load(&watcher.disk, &path).unwrap().0;
                    watcher.through = head.place.at;
                    watcher.log.install(head.place.at).unwrap();
                    watcher.log.sync().unwrap();
                    watcher.heads.forget();
                    assert_eq!(watcher.state.place(), head.place.chain);
                    watcher.heads.keep(head, 0);
                    let state = (watcher.state.chain(), watcher.state.digest());
                    self.checker.branch(0).state(MEMBERS + w as u64, watcher.state.index(), state);
                    self.checker.count("watchers' snapshots", 1);
                }
                Action::Remember(memory) => watcher.memory = memory,
                Action::Blame { peer, why } => {
                    self.checker.count("liars found out", 1);
                    self.note(|| format!("watcher {w} does not believe {peer:?}: {why}"));
                }
            }
        }
        let trouble = watcher.machine.status(now).trouble;
        assert_ne!(trouble, Some(Trouble::Apart), "watcher {w} is told of another history");
        let (boot, due) = (watcher.boot, watcher.machine.poll_timeout(now));
        // No busier than it has to be: half a second is as good.
        let due = due.max(now + std::time::Duration::from_millis(10));
        let due = due.min(now + std::time::Duration::from_millis(500));
        if watcher.tick <= now || due < watcher.tick {
            watcher.tick = due;
            let pause = due.since(now).as_micros() as u64;
            self.plan(pause, Event::Watched(Watched::Tick(w, boot)));
        }
        self.watchers.all.insert(w, watcher);
    }

    fn write_for_watcher(
        &mut self,
        w: usize,
        watcher: &mut Watcher,
        entries: Vec<Entry>,
        head: Head,
    ) {
        let commit = head.place.at.index;
        let hard_state = HardState { term: head.place.at.term, vote: 0, commit };
        watcher.log.append(&entries, Some(hard_state)).unwrap();
        watcher.log.sync().unwrap();
        let bytes = entries.iter().map(|entry| entry.data.len() as u64).sum();
        for entry in &entries {
            let first = watcher.state.index() + 1;
            let commands = apply(&mut watcher.state, entry);
            watcher.through = Position { term: entry.term, index: entry.index };
            if !commands.is_empty() {
                self.checker.applied(0, MEMBERS + w as u64, first, &commands);
                let state = (watcher.state.chain(), watcher.state.digest());
                self.checker.branch(0).state(MEMBERS + w as u64, watcher.state.index(), state);
            }
        }
        assert_eq!(watcher.state.place(), head.place.chain, "watcher {w}");
        watcher.heads.keep(head, bytes);
        self.checker.count("pieces written", 1);
    }

    // What is asked.

    fn ask_for_watcher(
        &mut self,
        (by, boot, number): (usize, u64, u64),
        peer: &Bytes,
        request: Request,
    ) {
        let is_calm = self.is_calm() || self.watchers.is_quiet;
        let is_cut = self.watchers.all.get(&by).is_some_and(|watcher| watcher.cut > self.now);
        let is_lost = is_cut || !is_calm && self.watchers.rng.below(100) < 10;
        let of_watcher = self.watchers.all.iter().find(|(_, w)| w.peer == *peer).map(|(&w, _)| w);
        let answer = match (of_watcher, self.machine_of(peer)) {
            _ if is_lost => Fetched::Lost,
            (Some(w), _) => self.asked_of_watcher(w, request),
            (None, Some(m)) => self.asked_of_member(m, request),
            (None, None) => Fetched::Lost,
        };
        let pause = 500 + self.watchers.rng.below(20_000);
        let answered = Watched::Answered { to: by, boot, number, answer };
        self.plan(pause, Event::Watched(answered));
    }

    fn asked_of_watcher(&mut self, w: usize, request: Request) -> Fetched<Vec<u8>> {
        let (Some(watcher), Request::Behind { before, .. }) = (self.watchers.all.get(&w), request)
        else {
            return Fetched::Answer(Answer::Busy);
        };
        let found = watcher.heads.find(&watcher.log.reader(), before).unwrap();
        let Some((entries, head)) = found else { return Fetched::Answer(Answer::Gone) };
        let mut piece = Piece { head, before, entries };
        if watcher.lies {
            self.checker.count("lies", 1);
            let rng = &mut self.watchers.rng;
            let place = rng.below(piece.entries.len() as u64) as usize;
            match rng.below(6) {
                0 => return Fetched::Answer(Answer::Apart),
                1 => return Fetched::Bad("bytes that are no answer".to_owned()),
                2 => piece.head.place.chain.index += 1,
                3 => drop(piece.entries.remove(place)),
                4 => {
                    let batch = Batch {
                        time: 1,
                        tags: Vec::new(),
                        commands: vec![Bytes::from_static(&[1])],
                    };
                    piece.entries[place].data = batch.encode();
                }
                _ => {
                    let me = watcher.peer.clone();
                    piece.head.voter = me.clone();
                    piece.head.signature = sign(&me, &piece.head.statement());
                }
            }
        }
        self.checker.count("watchers' answers", 1);
        Fetched::Answer(Answer::Piece(piece))
    }

    fn asked_of_member(&mut self, m: u64, request: Request) -> Fetched<Vec<u8>> {
        let mut watchers = std::mem::replace(&mut self.watchers, Watchers::new(0, 0));
        let answer = match &self.machines[&m].run {
            Some(run) if may_sign(run) => {
                let begun = self.costs.begin(m);
                let answer = answer_of(&mut watchers, m, run, request);
                let bytes = match &answer {
                    Fetched::Answer(answer) => answer.encode().len(),
                    Fetched::Snapshot(_, file) => file.len(),
                    Fetched::Bad(_) | Fetched::Lost => 0,
                };
                // The question, too.
                self.costs.of(m, 64);
                self.costs.of(m, bytes);
                self.costs.end(m, begun);
                answer
            }
            Some(_) => Fetched::Answer(Answer::Busy),
            None => Fetched::Lost,
        };
        self.watchers = watchers;
        answer
    }

    /// All who follow have come to where the space is.
    pub(crate) fn check_watchers(&mut self) {
        let last = self.checker.last();
        for (w, watcher) in &self.watchers.all {
            let status = watcher.machine.status(self.now);
            if status.trouble == Some(Trouble::Strangers) {
                self.checker.count("watchers left behind", 1);
                continue;
            }
            assert_eq!(watcher.state.index(), last, "watcher {w} lags behind: {status:?}");
        }
        assert_eq!(self.watchers.all.len(), self.watchers.count);
        self.checker.count("watchers checked", self.watchers.all.len() as u64);
    }
}

fn apply(state: &mut State, entry: &Entry) -> Vec<(Bytes, synod_core::apply::Outcome)> {
    let kind = EntryKind::from_number(u64::from(entry.kind)).unwrap();
    let data = order::Entry::batch(kind, &entry.data);
    if data.is_empty() {
        return Vec::new();
    }
    let batch = Batch::decode(&data).unwrap();
    let apply = |command: &Bytes| (command.clone(), state.apply(batch.time, command).outcome);
    batch.commands.iter().map(apply).collect()
}
