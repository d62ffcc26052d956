//! What an observer does, told by hand.

mod anchored;

use super::*;
use crate::apply::{Chain, State};
use crate::command::{Admit, Batch, Command, Configure, IssueTicket};
use crate::log::Entry;

const SPACE: [u8; 32] = [7; 32];

fn peer(id: u64) -> Bytes {
    format!("peer {id}").into()
}

fn sign(peer: &[u8], statement: &[u8]) -> Bytes {
    let hash = blake3::hash(&[peer, statement].concat());
    Bytes::copy_from_slice(hash.as_bytes())
}

/// What members agree on: entries, and the places that they lead to.
struct Space {
    state: State,
    entries: Vec<Entry>,
    places: Vec<Place>,
    said: u64,
}

impl Space {
    /// With voters 1, 2 and 3.
    fn new() -> Self {
        let state = State::new(SPACE);
        let places = vec![Place { at: Position::default(), chain: state.place() }];
        let mut space = Self { state, entries: Vec::new(), places, said: 0 };
        for id in 1..=3 {
            let ticket = (id > 1).then_some([1; 32]);
            let admit =
                Admit { peer: peer(id), node: format!("n{id}"), nonce: [0; 16], ticket, after: 0 };
            let issue = IssueTicket { hash: [1; 32], until: 9, uses: 9 };
            space.commit(&[Command::Admit(admit), Command::IssueTicket(issue)]);
        }
        space.vote([1, 2, 3]);
        space
    }

    fn vote(&mut self, voters: impl IntoIterator<Item = u64>) {
        let voters: BTreeSet<u64> = voters.into_iter().collect();
        let learners = (1..=3).filter(|id| !voters.contains(id)).collect();
        let removed = BTreeSet::new();
        self.commit(&[Command::Configure(Configure { voters, learners, removed })]);
    }

    fn commit(&mut self, commands: &[Command]) {
        let commands: Vec<Bytes> = commands.iter().map(Command::encode).collect();
        let index = self.entries.len() as u64 + 1;
        let batch = Batch { time: index, tags: Vec::new(), commands };
        for command in &batch.commands {
            self.state.apply(batch.time, command);
        }
        self.entries.push(Entry { term: 1, index, kind: 0, data: batch.encode() });
        let at = Position { term: 1, index };
        self.places.push(Place { at, chain: self.state.place() });
    }

    /// So many commands, one an entry, that leave the members as they are.
    fn write(&mut self, count: u64) {
        for n in 0..count {
            let revoke = Command::RevokeTickets { hashes: vec![[9; 32]], after: n };
            self.commit(&[revoke]);
        }
    }

    fn last(&self) -> u64 {
        self.entries.len() as u64
    }

    fn head(&mut self, voter: u64, at: u64) -> Head {
        self.said += 1;
        let place = self.places[at as usize];
        let mut head = Head::new(SPACE, 0, place, self.said, peer(voter));
        head.signature = sign(&head.voter, &head.statement());
        head
    }

    fn piece(&mut self, voter: u64, before: u64, to: u64) -> Piece {
        let entries = self.entries[before as usize..to as usize].to_vec();
        Piece { head: self.head(voter, to), before, entries }
    }
}

/// An observer, and what it has written.
struct Follower {
    machine: Observer<u64>,
    state: State,
    entry: u64,
    now: Time,
    fetches: Vec<(u64, Bytes, Request)>,
    blamed: Vec<(Bytes, String)>,
    installed: Vec<u64>,
    memory: Memory,
    /// Whether what is written is applied at once.
    applies: bool,
}

impl Follower {
    /// One that has nothing yet, and was let in at this place.
    fn let_in_at(anchor: Place) -> Self {
        let state = State::new(SPACE);
        let place = Place { at: Position::default(), chain: state.place() };
        let anchor = Anchor { place: anchor, voters: [1, 2, 3].map(peer).into() };
        Self {
            machine: Observer::new(SPACE, anchor, place, Memory::default(), 1, Time::ZERO),
            memory: Memory::default(),
            state,
            entry: 0,
            now: Time::from_millis(1),
            fetches: Vec::new(),
            blamed: Vec::new(),
            installed: Vec::new(),
            applies: true,
        }
    }

    fn handle(&mut self, input: Input<u64>) {
        let membership = self.state.membership().clone();
        let is_signed =
            |peer: &[u8], statement: &[u8], signature: &[u8]| sign(peer, statement) == signature;
        let scene = Scene {
            now: self.now,
            membership: &membership,
            applied_entry: self.entry,
            applied: self.state.index(),
            is_signed: &is_signed,
        };
        self.machine.handle(&scene, input);
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Write { entries, head } => {
                    for entry in entries.iter().filter(|_| self.applies) {
                        let batch = Batch::decode(&entry.data).unwrap();
                        for command in &batch.commands {
                            self.state.apply(batch.time, command);
                        }
                        self.entry = entry.index;
                    }
                    if self.applies {
                        assert_eq!(self.state.place(), head.place.chain);
                    }
                }
                Action::Fetch { number, peer, request } => {
                    self.fetches.push((number, peer, request));
                }
                Action::Install { file, .. } => self.installed.push(file),
                Action::Remember(memory) => self.memory = memory,
                Action::Blame { peer, why } => self.blamed.push((peer, why)),
            }
        }
    }

    fn hear(&mut self, piece: &Piece) {
        let from = piece.head.voter.clone();
        self.handle(Input::Heard { from, bytes: piece.announcement() });
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
        self.handle(Input::Tick);
    }

    fn answer(&mut self, answer: Fetched<u64>) -> Bytes {
        let (number, peer, _) = self.fetches.pop().expect("it has asked");
        self.handle(Input::Fetched { number, answer });
        peer
    }

    fn reach(&mut self, observers: &[u64], voters: &[u64]) {
        let of = |ids: &[u64]| ids.iter().map(|&id| peer(id)).collect();
        self.handle(Input::Reachable { observers: of(observers), voters: of(voters) });
    }

    fn at(&self) -> u64 {
        self.machine.place().at.index
    }

    /// Starts again, with what it has kept.
    fn restart(&mut self, memory: Memory) {
        let (place, anchor) = (*self.machine.place(), self.machine.vouching.anchor().clone());
        self.fetches.clear();
        self.machine = Observer::new(SPACE, anchor, place, memory, 1, self.now);
    }

    /// Has a voter show that it has come by where this one was let in.
    fn vouch(&mut self, space: &mut Space, voter: u64) {
        self.reach(&[], &[voter]);
        let (_, asked, request) = self.fetches.last().expect("it asks").clone();
        let Place { at, chain } = self.machine.vouching.anchor().place;
        assert_eq!(asked, peer(voter));
        assert_eq!(request, Request::Behind { before: at.index, chain: chain.hash });
        let shown = space.piece(voter, at.index, space.last());
        self.answer(Fetched::Answer(Answer::Piece(shown)));
    }
}

/// One that has come as far as the space.
fn following() -> (Space, Follower) {
    let mut space = Space::new();
    let mut follower = Follower::let_in_at(space.places[space.last() as usize]);
    space.write(3);
    follower.vouch(&mut space, 2);
    let all = space.piece(2, 0, space.last());
    follower.answer(Fetched::Answer(Answer::Piece(all)));
    assert_eq!(follower.at(), space.last());
    follower.reach(&[], &[]);
    (space, follower)
}

#[test]
fn what_is_gossiped_in_order_is_applied_without_a_question() {
    let (mut space, mut follower) = following();
    for _ in 0..5 {
        let before = space.last();
        space.write(2);
        let piece = space.piece(3, before, space.last());
        follower.pass(5);
        follower.hear(&piece);
        assert_eq!(follower.state.place(), space.state.place());
        assert_eq!(follower.state.digest(), space.state.digest());
    }
    let status = follower.machine.status(follower.now);
    assert_eq!((status.fresh, status.lag, status.trouble), (Some(follower.now), 0, None));
    assert!(follower.fetches.is_empty() && follower.blamed.is_empty());
}

#[test]
fn what_comes_early_waits_and_what_is_missing_is_fetched_once_gossip_had_its_time() {
    let (mut space, mut follower) = following();
    let first = space.last();
    space.write(3);
    let late = space.piece(2, first, first + 1);
    let early = space.piece(2, first + 1, first + 3);
    follower.reach(&[], &[2]);
    follower.hear(&early);
    assert_eq!(follower.at(), first);
    assert_eq!(follower.machine.status(follower.now).lag, 2 + 1);
    assert!(follower.fetches.is_empty(), "it may come yet");
    // It was said before, and came by a longer way: that alone does not make it new.
    follower.hear(&late);
    assert_eq!((follower.at(), follower.machine.counts().old), (first, 1));
    let again = space.piece(2, first, first + 1);
    follower.hear(&again);
    assert_eq!(follower.at(), first + 3);
    space.write(2);
    let head = space.piece(2, first + 4, first + 5);
    follower.hear(&head);
    follower.pass(30);
    let [(_, to, Request::Behind { before, chain })] = &follower.fetches[..] else {
        panic!("{:?}", follower.fetches)
    };
    assert_eq!((to, *before), (&peer(2), first + 3));
    assert_eq!(*chain, follower.machine.place().chain.hash);
    let piece = space.piece(2, first + 3, first + 4);
    follower.answer(Fetched::Answer(Answer::Piece(piece)));
    assert_eq!(follower.at(), first + 5, "the rest had waited");
    assert!(follower.fetches.is_empty());
}

#[test]
fn observers_are_asked_before_voters_and_who_cannot_help_is_passed_over() {
    let (mut space, mut follower) = following();
    let first = space.last();
    space.write(4);
    follower.reach(&[20], &[2, 3]);
    let head = space.piece(2, first + 3, first + 4);
    follower.hear(&head);
    follower.pass(30);
    assert_eq!(follower.answer(Fetched::Answer(Answer::Busy)), peer(20));
    assert_eq!(follower.answer(Fetched::Lost), peer(2), "who speaks to observers");
    assert_eq!(follower.answer(Fetched::Answer(Answer::Busy)), peer(3));
    assert!(follower.fetches.is_empty(), "nobody is left to ask");
    follower.pass(600);
    let piece = space.piece(1, first, first + 4);
    assert_eq!(follower.answer(Fetched::Answer(Answer::Piece(piece))), peer(20));
    assert_eq!(follower.at(), first + 4);
    assert!(follower.blamed.is_empty(), "what a voter signed may come from anybody");
}

#[test]
fn liars_are_found_out_told_of_once_and_cost_nothing() {
    let (mut space, mut follower) = following();
    let first = space.last();
    space.write(4);
    let good = space.piece(2, first, first + 4);
    let mut forged = space.piece(2, first, first + 4);
    forged.head.place.chain.hash[0] ^= 1;
    let mut strange = space.piece(9, first, first + 4);
    strange.head.signature = sign(&peer(9), &strange.head.statement());
    let mut elsewhere = space.piece(2, first, first + 4);
    elsewhere.head.space = [8; 32];
    elsewhere.head.signature = sign(&peer(2), &elsewhere.head.statement());
    follower.hear(&forged);
    follower.hear(&strange);
    follower.hear(&elsewhere);
    let bytes = good.announcement();
    follower.handle(Input::Heard { from: peer(9), bytes: bytes.clone() });
    follower.handle(Input::Heard { from: peer(9), bytes: bytes.slice(..bytes.len() - 1) });
    assert_eq!(follower.at(), first);
    assert_eq!(follower.machine.counts().refused, 5);
    assert_eq!(
        follower.blamed.iter().map(|(peer, _)| peer.clone()).collect::<Vec<_>>(),
        [peer(2), peer(9)]
    );

    // Entries that do not lead to the head, though a voter signed it.
    follower.reach(&[20, 21, 22], &[1]);
    let head = space.piece(3, first + 3, first + 4);
    follower.hear(&head);
    follower.pass(30);
    let lies: [fn(&mut Piece); 6] = [
        |p| p.entries[0].kind = 9,
        |p| p.entries[1].data = Batch { time: 9, ..Batch::default() }.encode(),
        |p| p.entries.swap(0, 1),
        |p| p.entries[2].term = 0,
        |p| drop(p.entries.pop()),
        |p| p.head.place.at.term = 9,
    ];
    for lie in lies {
        let mut piece = space.piece(2, first, first + 4);
        lie(&mut piece);
        if follower.fetches.is_empty() {
            follower.pass(61_000);
        }
        follower.answer(Fetched::Answer(Answer::Piece(piece)));
        assert_eq!(follower.at(), first);
    }
    if follower.fetches.is_empty() {
        follower.pass(61_000);
    }
    let piece = space.piece(2, first, first + 4);
    follower.answer(Fetched::Answer(Answer::Piece(piece)));
    assert_eq!(follower.state.digest(), space.state.digest());
}

#[test]
fn voters_are_those_of_the_log_once_it_says_who_they_are() {
    let (mut space, mut follower) = following();
    space.vote([1, 3]);
    let last = space.last();
    let piece = space.piece(2, last - 1, last);
    follower.hear(&piece);
    assert_eq!(follower.at(), last, "it voted until then");
    space.write(1);
    let removed = space.piece(2, last, last + 1);
    follower.hear(&removed);
    assert_eq!(follower.at(), last);
    let piece = space.piece(3, last, last + 1);
    follower.hear(&piece);
    assert_eq!(follower.at(), last + 1);
}

#[test]
fn only_strangers_are_a_trouble_once_they_are_heard_for_long() {
    let (mut space, mut follower) = following();
    let last = space.last();
    space.write(1);
    let trouble = |follower: &Follower| follower.machine.status(follower.now).trouble;
    let stranger = space.piece(8, last, last + 1);
    follower.hear(&stranger);
    follower.pass(29_000);
    assert_eq!(trouble(&follower), None);
    follower.pass(2_000);
    assert_eq!(trouble(&follower), Some(Trouble::Strangers));
    let known = space.piece(1, last, last + 1);
    follower.hear(&known);
    assert_eq!(trouble(&follower), None);
}

#[test]
fn who_is_behind_what_is_kept_takes_a_voters_snapshot_and_goes_on() {
    let (mut space, mut follower) = following();
    let first = space.last();
    space.write(9);
    follower.reach(&[20], &[2]);
    let head = space.piece(2, first + 8, first + 9);
    follower.hear(&head);
    follower.pass(30);
    follower.answer(Fetched::Answer(Answer::Gone));
    assert_eq!(follower.answer(Fetched::Answer(Answer::Gone)), peer(2));
    let [(_, to, Request::Snapshot)] = &follower.fetches[..] else {
        panic!("{:?}", follower.fetches)
    };
    assert_eq!(*to, peer(2));
    let mut forged = space.head(2, first + 6);
    forged.signature = "nobody".into();
    follower.answer(Fetched::Snapshot(forged, 1));
    assert!(follower.installed.is_empty());
    follower.pass(61_000);
    while follower.fetches.last().is_some_and(|(_, _, request)| *request != Request::Snapshot) {
        follower.answer(Fetched::Answer(Answer::Gone));
    }
    let head = space.head(2, first + 6);
    follower.answer(Fetched::Snapshot(head, 2));
    assert_eq!((follower.installed.as_slice(), follower.at()), (&[2][..], first + 6));
}

#[test]
fn another_history_is_found_and_said() {
    let (mut space, mut follower) = following();
    let last = space.last();
    let mut head = space.head(2, last);
    head.place.chain.hash = [9; 32];
    head.signature = sign(&head.voter, &head.statement());
    let other = Piece { head, before: last, entries: Vec::new() };
    follower.hear(&other);
    assert_eq!(follower.machine.status(follower.now).trouble, Some(Trouble::Apart));
    assert_eq!(follower.at(), last);

    // A recovered space that is shorter than this log has another one, too.
    let (mut space, mut follower) = following();
    let mut head = space.head(1, last - 1);
    head.generation = 1;
    head.signature = sign(&head.voter, &head.statement());
    let shorter = Piece { head, before: last - 1, entries: Vec::new() };
    follower.hear(&shorter);
    assert_eq!(follower.machine.status(follower.now).trouble, Some(Trouble::Apart));
    let old = space.piece(2, last, last);
    follower.hear(&old);
    assert_eq!(follower.machine.counts().old, 1, "who has not heard of the recovery");
}

#[test]
fn silence_is_asked_about_and_a_clock_set_back_silences_nobody() {
    let (mut space, mut follower) = following();
    let last = space.last();
    follower.reach(&[20], &[2]);
    follower.pass(2_100);
    let (_, to, _) = follower.fetches.last().expect("it has asked").clone();
    assert_eq!(to, peer(2), "only a voter knows that there is nothing more");
    space.said = 0;
    let nothing = space.piece(2, last, last);
    follower.answer(Fetched::Answer(Answer::Piece(nothing)));
    assert_eq!(follower.machine.status(follower.now).fresh, Some(follower.now));
    space.write(1);
    let piece = space.piece(2, last, last + 1);
    follower.hear(&piece);
    assert_eq!(follower.at(), last + 1);
}

#[test]
fn what_was_said_before_a_restart_is_not_taken_for_new() {
    let (mut space, mut follower) = following();
    let last = space.last();
    let before = space.piece(2, last, last);
    follower.hear(&before);
    let mut recovered = space.head(3, last);
    recovered.generation = 1;
    recovered.signature = sign(&recovered.voter, &recovered.statement());
    let recovered = Piece { head: recovered, before: last, entries: Vec::new() };
    follower.hear(&recovered);
    let fresh = |follower: &Follower| follower.machine.status(follower.now).fresh;
    // It was stopped in order, or ended.
    for memory in [follower.machine.memory().clone(), follower.memory.clone()] {
        follower.restart(memory);
        follower.hear(&recovered);
        let mut old = space.head(1, last);
        old.signature = sign(&old.voter, &old.statement());
        follower.hear(&Piece { head: old, before: last, entries: Vec::new() });
        assert_eq!((fresh(&follower), follower.machine.counts().old), (None, 2));
    }
    // Who is asked is believed, and its gossip from then on.
    follower.reach(&[], &[3]);
    let mut answer = space.piece(3, last, last);
    answer.head.generation = 1;
    answer.head.signature = sign(&answer.head.voter, &answer.head.statement());
    follower.answer(Fetched::Answer(Answer::Piece(answer)));
    assert_eq!(fresh(&follower), Some(follower.now));
    space.write(1);
    let mut piece = space.piece(3, last, last + 1);
    piece.head.generation = 1;
    piece.head.signature = sign(&piece.head.voter, &piece.head.statement());
    follower.hear(&piece);
    assert_eq!(follower.at(), last + 1);
}

#[test]
fn what_is_ahead_and_may_be_old_is_a_reason_to_ask() {
    let (mut space, mut follower) = following();
    let last = space.last();
    follower.restart(follower.memory.clone());
    follower.reach(&[], &[1]);
    let nothing = space.piece(1, last, last);
    follower.answer(Fetched::Answer(Answer::Piece(nothing)));
    assert!(follower.fetches.is_empty());
    space.write(1);
    let ahead = space.piece(2, last, last + 1);
    follower.hear(&ahead);
    assert_eq!((follower.at(), follower.machine.counts().old), (last, 1));
    follower.pass(30);
    let piece = space.piece(1, last, last + 1);
    assert_eq!(follower.answer(Fetched::Answer(Answer::Piece(piece))), peer(1));
    assert_eq!(follower.at(), last + 1);
}

#[test]
fn what_is_kept_is_not_written_with_every_head() {
    let (mut space, mut follower) = following();
    let last = space.last();
    follower.memory = Memory::default();
    space.said += 1;
    let piece = space.piece(2, last, last);
    follower.hear(&piece);
    assert_eq!(follower.memory, Memory::default(), "it is old already, should this one end");
    space.said += AHEAD;
    let piece = space.piece(2, last, last);
    follower.hear(&piece);
    assert!(follower.memory.said[&peer(2)] > piece.head.said);
}

#[test]
fn what_waits_and_what_is_not_applied_is_bounded() {
    let (mut space, mut follower) = following();
    let first = space.last();
    space.write(2 * MAX_WAITING as u64 + 2);
    for n in 1..=2 * MAX_WAITING as u64 {
        let piece = space.piece(2, first + n, first + n + 1);
        follower.hear(&piece);
    }
    assert_eq!(follower.machine.waiting.len(), MAX_WAITING);
    let piece = space.piece(2, first, first + 1);
    follower.hear(&piece);
    assert_eq!(follower.at(), first + 1 + MAX_WAITING as u64);
    assert_eq!(follower.machine.waiting_bytes, 0);

    follower.applies = false;
    follower.reach(&[], &[2]);
    follower.machine.unapplied.push_back((u64::MAX, MAX_UNAPPLIED_BYTES + 1));
    follower.machine.unapplied_bytes += MAX_UNAPPLIED_BYTES + 1;
    follower.pass(3_000);
    assert!(follower.fetches.is_empty(), "nothing more is asked for");
    let at = follower.at();
    let piece = space.piece(2, at, at + 1);
    follower.hear(&piece);
    assert_eq!(follower.at(), at, "nor taken");
}

#[test]
fn pieces_end_where_the_chain_is_known() {
    let mut space = Space::new();
    space.write(40);
    let mut heads = Heads::default();
    for at in 1..=space.last() {
        let head = space.head(1, at);
        heads.keep(head, 40 << 10);
    }
    assert_eq!(heads.newest().unwrap().place.at.index, space.last());
    assert!(heads.behind(space.last()).is_none());
    let kept = heads.behind(0);
    assert!(kept.is_none(), "what lies before the first is not known");
    let end = heads.behind(2).unwrap().place.at.index;
    assert!(end > 10 && end < space.last(), "{end}: as much as a piece holds");

    let mut chain = Chain::of_space(SPACE);
    space.entries.iter().for_each(|entry| follow(&mut chain, entry));
    assert_eq!(chain, space.state.place());
}
