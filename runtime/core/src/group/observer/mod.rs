//! Following a space without being a member of it: a pure machine.
//!
//! It believes the heads that voters sign, as far as it knows who votes: by what it has applied, or, until it
//! has come as far as that, by what it was told when it was let in. What leads from its own place to such a
//! head by the chain is written and applied, and nothing else ever is. What is missing it asks of one peer at
//! a time, observers first; who cannot help is passed over for a while, who lies for long.

mod serve;
mod sources;
#[cfg(test)]
mod tests;
mod types;
mod vouching;
mod wire;

pub use serve::{Found, Heads, Places, follow};
pub use types::{Action, Anchor, Counts, Fetched, Input, IsSigned, Memory, Scene, Status, Trouble};
pub use wire::{
    Answer, MAX_ANNOUNCED, MAX_ANNOUNCED_BYTES, MAX_ANNOUNCEMENT_BYTES, MAX_ANSWER_BYTES,
    MAX_PIECE_BYTES, MAX_REQUEST_BYTES, Piece, Request, observers_key, proof,
};

use super::head::{Head, Place};
use crate::apply::Part;
use crate::log::Position;
use crate::order::EntryKind;
use crate::time::Time;
use bytes::Bytes;
use sources::Sources;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use vouching::Vouching;

/// Pieces that came before what leads to them, at most.
const MAX_WAITING: usize = 64;
/// Bytes of their entries, at most.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// Bytes of entries that are written and not applied, at most, before more is asked for.
const MAX_UNAPPLIED_BYTES: usize = 16 << 20;
/// How long gossip may take to bring what a later head shows to be missing.
const GAP_PATIENCE: Duration = Duration::from_millis(20);
/// How long nothing is heard before somebody is asked.
const SILENCE: Duration = Duration::from_secs(2);
/// How often it is looked who can be asked, while somebody is wanted.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long only strangers are heard before that is said.
const STRANGERS: Duration = Duration::from_secs(30);
/// Microseconds of a voter's time for which its words are kept as heard before they are: so that it need not be written
/// with each of them. One that ends without having been stopped asks that voter before it believes its gossip again.
const AHEAD: u64 = 10_000_000;
/// Voters whose last words are remembered, at most.
const MAX_VOTERS_HEARD: usize = 64;

/// The machine.
pub struct Observer<F> {
    space: [u8; 32],
    vouching: Vouching,
    place: Place,
    /// The highest generation that a voter has spoken in, and what each voter said last.
    memory: Memory,
    /// What is kept of that.
    kept: Memory,
    /// The newest place that a voter has signed, and when that was heard.
    newest: Option<(Place, Time)>,
    fresh: Option<Time>,
    /// Pieces by the entry before their first.
    waiting: BTreeMap<u64, Piece>,
    waiting_bytes: usize,
    /// The last entry of each piece that is written and not known to be applied, with its bytes.
    unapplied: VecDeque<(u64, usize)>,
    unapplied_bytes: usize,
    /// When a voter was last heard, or the machine was made.
    heard: Time,
    /// Since when strangers are.
    strangers: Option<Time>,
    is_apart: bool,
    /// From when on somebody is to be asked.
    wanted: Option<Time>,
    asked: Option<(u64, Bytes, Request)>,
    number: u64,
    sources: Sources,
    blamed: BTreeSet<Bytes>,
    counts: Counts,
    actions: VecDeque<Action<F>>,
}

/// Peers that were blamed and are remembered, so that each is told of once.
const MAX_BLAMED: usize = 256;

impl<F> Observer<F> {
    /// One that stands at a place of a space, and has heard what it remembers.
    pub fn new(
        space: [u8; 32],
        anchor: Anchor,
        place: Place,
        memory: Memory,
        seed: u64,
        now: Time,
    ) -> Self {
        Self {
            space,
            vouching: Vouching::new(anchor),
            place,
            kept: memory.clone(),
            memory,
            newest: None,
            fresh: None,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            unapplied: VecDeque::new(),
            unapplied_bytes: 0,
            heard: now,
            strangers: None,
            is_apart: false,
            wanted: Some(now),
            asked: None,
            number: 0,
            sources: Sources::new(seed),
            blamed: BTreeSet::new(),
            counts: Counts::default(),
            actions: VecDeque::new(),
        }
    }

    /// Takes an input in.
    pub fn handle(&mut self, scene: &Scene<'_>, input: Input<F>) {
        self.look_at_applied(scene);
        match input {
            Input::Heard { from, bytes } => self.hear(scene, &from, &bytes),
            Input::Reachable { observers, voters } => self.sources.reachable(observers, voters),
            Input::Fetched { number, answer } => self.fetched(scene, number, answer),
            Input::Tick => {}
        }
        self.ask(scene);
    }

    /// What is to be done next.
    pub fn poll_action(&mut self) -> Option<Action<F>> {
        self.actions.pop_front()
    }

    /// When to tick.
    pub fn poll_timeout(&self, now: Time) -> Time {
        if self.asked.is_some() || self.is_apart {
            return now + SILENCE;
        }
        let silent = self.heard + SILENCE;
        let due = self.wanted.map_or(silent, |wanted| wanted.min(silent));
        if due > now { due } else { now + LOOK_AGAIN }
    }

    /// Whom it would believe.
    pub fn voters(&self, scene: &Scene<'_>) -> BTreeSet<Bytes> {
        let anchor = self.vouching.anchor();
        if scene.applied < anchor.place.chain.index {
            return anchor.voters.clone();
        }
        let members = scene.membership.members().values();
        members.filter(|m| m.part == Part::Voter).map(|m| m.peer.clone()).collect()
    }

    /// Where what it has written leads.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What it has come to.
    pub fn status(&self, now: Time) -> Status {
        let newest = self.newest.map_or(0, |(newest, _)| newest.chain.index);
        let only_strangers = self.strangers.is_some_and(|since| now.since(since) >= STRANGERS);
        let is_unvouched = self.vouching.is_before(&self.place) && self.vouching.is_hopeless(now);
        let trouble = match (self.is_apart, only_strangers) {
            (true, _) => Some(Trouble::Apart),
            (false, true) => Some(Trouble::Strangers),
            (false, false) => is_unvouched.then_some(Trouble::Unvouched),
        };
        let lag = newest.saturating_sub(self.place.chain.index);
        Status { fresh: self.fresh, lag, trouble }
    }

    /// What has been heard, to be kept by one that ends in order.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// How often things have happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn look_at_applied(&mut self, scene: &Scene<'_>) {
        while let Some((entry, bytes)) = self.unapplied.front().copied() {
            if entry > scene.applied_entry {
                break;
            }
            self.unapplied.pop_front();
            self.unapplied_bytes -= bytes;
        }
    }

    /// Whether all that was written is applied: only then it is known who votes.
    fn is_settled(&self, scene: &Scene<'_>) -> bool {
        scene.applied_entry >= self.place.at.index
    }

    fn is_voter(&self, scene: &Scene<'_>, peer: &Bytes) -> bool {
        let anchor = self.vouching.anchor();
        if scene.applied < anchor.place.chain.index {
            return anchor.voters.contains(peer);
        }
        let member = scene.membership.of_peer(peer);
        member.is_some_and(|(_, member)| member.part == Part::Voter)
    }

    fn hear(&mut self, scene: &Scene<'_>, from: &Bytes, bytes: &Bytes) {
        let piece = match Piece::read_announcement(bytes) {
            Ok(piece) => piece,
            Err(e) => return self.blame(from, format!("it gossiped what cannot be read: {e}")),
        };
        let head = &piece.head;
        if head.voter != *from {
            return self.blame(from, "it gossiped a head of another's".to_owned());
        }
        if head.space != self.space {
            return self.blame(from, "it gossiped a head of another space".to_owned());
        }
        if !self.is_voter(scene, from) {
            if self.is_settled(scene) {
                self.counts.refused += 1;
                self.strangers.get_or_insert(scene.now);
            }
            return;
        }
        if self.memory.said.get(from).is_some_and(|said| *said >= head.said)
            || head.generation < self.memory.generation
        {
            self.counts.old += 1;
            // Not believed, but a reason to ask: what is kept of what was heard is ahead of what was.
            if head.place.at.index > self.place.at.index {
                self.wanted.get_or_insert(scene.now + GAP_PATIENCE);
            }
            return;
        }
        if !(scene.is_signed)(from, &head.statement(), &head.signature) {
            return self.blame(from, "it gossiped a head that it has not signed".to_owned());
        }
        self.counts.heard += 1;
        if !self.vouching.believes(&self.place, from) {
            // It is asked whether it has come by where this node was let in.
            self.note(scene, head);
            self.wanted.get_or_insert(scene.now + GAP_PATIENCE);
            return;
        }
        self.believe(scene, head);
        let place = head.place;
        if self.unapplied_bytes > MAX_UNAPPLIED_BYTES {
            // It is fetched once there is room.
            return self.look_how_far(scene, &place);
        }
        match self.take(piece) {
            Ok(true) => self.go_on(scene),
            Ok(false) => {}
            Err(why) => self.blame(from, why),
        }
        self.look_how_far(scene, &place);
    }

    /// A voter has just spoken.
    fn note(&mut self, scene: &Scene<'_>, head: &Head) {
        self.heard = scene.now;
        self.strangers = None;
        for said in [&mut self.memory.said, &mut self.kept.said] {
            if said.len() >= MAX_VOTERS_HEARD && !said.contains_key(&head.voter) {
                said.clear();
            }
        }
        self.memory.said.insert(head.voter.clone(), head.said);
        let kept = self.kept.said.entry(head.voter.clone()).or_default();
        if *kept < head.said {
            *kept = head.said.saturating_add(AHEAD);
            self.actions.push_back(Action::Remember(self.kept.clone()));
        }
    }

    /// A voter has just said this, and its word counts.
    fn believe(&mut self, scene: &Scene<'_>, head: &Head) {
        self.note(scene, head);
        if self.memory.generation < head.generation {
            (self.memory.generation, self.kept.generation) = (head.generation, head.generation);
            self.actions.push_back(Action::Remember(self.kept.clone()));
        }
        let place = head.place;
        if self.newest.is_none_or(|(newest, _)| place.at.index >= newest.at.index) {
            self.newest = Some((place, scene.now));
        }
        let (theirs, ours) = (place.at.index, self.place.at.index);
        let is_other = theirs == ours && place.chain.hash != self.place.chain.hash;
        // The log of that generation holds the entry that began it, which is not in this one.
        let is_shorter = theirs < ours
            && self.is_settled(scene)
            && head.generation > scene.membership.generation();
        self.is_apart |= is_other || is_shorter;
    }

    /// A voter was at this place: whether this node is, or has to ask.
    fn look_how_far(&mut self, scene: &Scene<'_>, place: &Place) {
        if place.at.index > self.place.at.index {
            self.wanted.get_or_insert(scene.now + GAP_PATIENCE);
        }
        self.look_how_fresh();
    }

    fn look_how_fresh(&mut self) {
        if let Some((newest, when)) = self.newest
            && newest.at.index <= self.place.at.index
            && !self.is_apart
        {
            self.fresh = self.fresh.max(Some(when));
            self.wanted = None;
        }
    }

    /// Writes what a piece adds, if it leads on from here; keeps it, if what leads to it is missing. Its head
    /// is a voter's. Says whether it was written, or why it cannot be.
    fn take(&mut self, piece: Piece) -> Result<bool, String> {
        let (ours, theirs) = (self.place.at.index, piece.head.place.at.index);
        if theirs <= ours {
            return Ok(false);
        }
        if piece.before > ours {
            self.keep(piece);
            return Ok(false);
        }
        let Piece { head, before, mut entries } = piece;
        // No more than there are: they end where the head is, behind this node's place.
        entries.drain(..usize::try_from(ours - before).unwrap_or(usize::MAX).min(entries.len()));
        let mut place = self.place;
        for entry in &entries {
            let is_known = EntryKind::from_number(u64::from(entry.kind)).is_some();
            if entry.index != place.at.index + 1 || entry.term < place.at.term || !is_known {
                return Err("its entries do not follow one another".to_owned());
            }
            follow(&mut place.chain, entry);
            place.at = Position { term: entry.term, index: entry.index };
            if self.vouching.is_astray(&place) {
                return Err("its entries do not lead by where this node was let in".to_owned());
            }
        }
        if place != head.place {
            return Err(format!(
                "its entries up to {theirs} do not lead to the head that a voter signed"
            ));
        }
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        self.place = place;
        self.is_apart = false;
        self.unapplied.push_back((place.at.index, bytes));
        self.unapplied_bytes += bytes;
        self.actions.push_back(Action::Write { entries, head });
        Ok(true)
    }

    /// Keeps a piece for when what leads to it has come.
    fn keep(&mut self, piece: Piece) {
        let bytes = size(&piece);
        if piece.entries.is_empty() || self.waiting.contains_key(&piece.before) {
            return;
        }
        self.waiting_bytes += bytes;
        self.waiting.insert(piece.before, piece);
        // The farthest go first: they are fetched with what leads to them.
        while self.waiting.len() > MAX_WAITING || self.waiting_bytes > MAX_WAITING_BYTES {
            let Some((_, piece)) = self.waiting.pop_last() else { break };
            self.waiting_bytes -= size(&piece);
        }
    }

    /// Takes what has waited for what was just written.
    fn go_on(&mut self, scene: &Scene<'_>) {
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() > self.place.at.index {
                break;
            }
            let piece = first.remove();
            self.waiting_bytes -= size(&piece);
            let voter = piece.head.voter.clone();
            if let Err(why) = self.take(piece) {
                self.blame(&voter, why);
            }
        }
        self.look_how_fresh();
        if self.newest.is_some_and(|(newest, _)| newest.at.index > self.place.at.index) {
            self.wanted.get_or_insert(scene.now);
        }
    }

    fn fetched(&mut self, scene: &Scene<'_>, number: u64, answer: Fetched<F>) {
        let asked = self.asked.take_if(|(asked, ..)| *asked == number);
        let Some((_, peer, request)) = asked else { return };
        let (now, is_voter) = (scene.now, self.is_voter(scene, &peer));
        let is_before = self.vouching.is_before(&self.place);
        if is_before && request == self.vouching.question() {
            return self.vouched(scene, &peer, answer);
        }
        match answer {
            Fetched::Lost | Fetched::Answer(Answer::Busy) => self.sources.pass_over(&peer, now),
            Fetched::Bad(why) => self.caught(now, &peer, why),
            Fetched::Answer(Answer::Piece(piece)) => self.take_piece(scene, &peer, piece),
            Fetched::Answer(Answer::Gone) if is_voter && request != Request::Snapshot => {
                self.fetch(peer, Request::Snapshot);
            }
            Fetched::Answer(Answer::Apart) if is_voter => {
                // It has this node's word for its chain, and knows another.
                self.is_apart = true;
                self.sources.pass_over(&peer, now);
            }
            Fetched::Answer(Answer::Gone | Answer::Apart) => self.sources.pass_over(&peer, now),
            Fetched::Answer(Answer::Snapshot { .. } | Answer::Index(_)) => {
                self.caught(now, &peer, "it answered what was not asked".to_owned());
            }
            Fetched::Snapshot(head, file) => self.take_snapshot(scene, &peer, head, file),
        }
    }

    /// What a voter answers that is asked whether it has come by where this node was let in.
    fn vouched(&mut self, scene: &Scene<'_>, peer: &Bytes, answer: Fetched<F>) {
        match answer {
            Fetched::Answer(Answer::Piece(piece)) => match self.doubt(scene, &piece.head) {
                Ok(()) if piece.head.voter == *peer && self.vouching.shown(&piece) => {
                    self.believe(scene, &piece.head);
                    self.wanted = Some(scene.now);
                }
                // It has not come as far itself.
                Ok(()) | Err(None) => self.sources.pass_over(peer, scene.now),
                Err(Some(why)) => self.caught(scene.now, peer, why),
            },
            Fetched::Answer(Answer::Apart) => {
                self.vouching.denied(scene.now);
                let why = "its log does not lead by where this node was let in".to_owned();
                self.caught(scene.now, peer, why);
            }
            Fetched::Answer(Answer::Gone) => {
                self.vouching.denied(scene.now);
                self.sources.pass_over(peer, scene.now);
            }
            Fetched::Bad(why) => self.caught(scene.now, peer, why),
            Fetched::Lost | Fetched::Answer(_) | Fetched::Snapshot(..) => {
                self.sources.pass_over(peer, scene.now);
            }
        }
    }

    fn take_piece(&mut self, scene: &Scene<'_>, peer: &Bytes, piece: Piece) {
        let head = &piece.head;
        if let Err(why) = self.doubt(scene, head) {
            return match why {
                Some(why) => self.caught(scene.now, peer, why),
                None => self.sources.pass_over(peer, scene.now),
            };
        }
        if !self.vouching.believes(&self.place, &head.voter) {
            return self.sources.pass_over(peer, scene.now);
        }
        if head.voter == *peer {
            // It says so now, whatever its clock is.
            self.believe(scene, head);
        }
        let is_behind = head.place.at.index > self.place.at.index;
        match self.take(piece) {
            Ok(true) => {
                self.counts.fetched += 1;
                self.sources.helped(peer);
                self.go_on(scene);
            }
            // It has no more than this node, or something from far ahead.
            Ok(false) => {
                if is_behind || !self.is_voter(scene, peer) {
                    self.sources.pass_over(peer, scene.now);
                }
                self.look_how_fresh();
                if self.newest.is_none_or(|(newest, _)| newest.at.index <= self.place.at.index) {
                    self.wanted = None;
                }
            }
            Err(why) => self.caught(scene.now, peer, why),
        }
    }

    fn take_snapshot(&mut self, scene: &Scene<'_>, peer: &Bytes, head: Head, file: F) {
        match self.doubt(scene, &head) {
            Ok(()) if self.vouching.is_astray(&head.place) => {
                let why = "its snapshot does not lead by where this node was let in".to_owned();
                return self.caught(scene.now, peer, why);
            }
            Ok(())
                if head.place.at.index > self.place.at.index
                    && self.vouching.believes(&self.place, &head.voter) => {}
            Ok(()) | Err(None) => return self.sources.pass_over(peer, scene.now),
            Err(Some(why)) => return self.caught(scene.now, peer, why),
        }
        self.place = head.place;
        self.is_apart = false;
        self.counts.snapshots += 1;
        self.unapplied.push_back((head.place.at.index, 0));
        self.actions.push_back(Action::Install { head, file });
        self.go_on(scene);
        self.wanted.get_or_insert(scene.now);
    }

    /// Whether a head that came with an answer is a voter's; if not, why that is its bearer's fault, or none
    /// if it may not be.
    fn doubt(&self, scene: &Scene<'_>, head: &Head) -> Result<(), Option<String>> {
        if head.space != self.space {
            return Err(Some("it answered with a head of another space".to_owned()));
        }
        if !self.is_voter(scene, &head.voter) || head.generation < scene.membership.generation() {
            return Err(None);
        }
        if !(scene.is_signed)(&head.voter, &head.statement(), &head.signature) {
            return Err(Some("it answered with a head that no voter has signed".to_owned()));
        }
        Ok(())
    }

    /// Asks somebody, if there is something to ask for and somebody to ask.
    fn ask(&mut self, scene: &Scene<'_>) {
        let is_silent = scene.now.since(self.heard) >= SILENCE;
        let is_due = self.wanted.is_some_and(|wanted| wanted <= scene.now) || is_silent;
        if !is_due || self.asked.is_some() || self.unapplied_bytes > MAX_UNAPPLIED_BYTES {
            return;
        }
        let said = &self.memory.said;
        let is_heard = |peer: &Bytes| said.contains_key(peer);
        let must_vote = self.is_apart || is_silent || !self.vouching.believes_any(&self.place);
        if let Some(peer) = self.sources.choose(scene.now, is_heard, must_vote) {
            let Place { at, chain } = self.place;
            let is_to_vouch =
                self.is_voter(scene, &peer) && !self.vouching.believes(&self.place, &peer);
            let behind = Request::Behind { before: at.index, chain: chain.hash };
            let request = if is_to_vouch { self.vouching.question() } else { behind };
            self.fetch(peer, request);
        }
    }

    fn fetch(&mut self, peer: Bytes, request: Request) {
        self.number += 1;
        self.asked = Some((self.number, peer.clone(), request));
        self.actions.push_back(Action::Fetch { number: self.number, peer, request });
    }

    /// A peer that was asked has answered what is not so.
    fn caught(&mut self, now: Time, peer: &Bytes, why: String) {
        self.sources.pass_over_for_long(peer, now);
        self.blame(peer, why);
    }

    fn blame(&mut self, peer: &Bytes, why: String) {
        self.counts.refused += 1;
        if self.blamed.len() < MAX_BLAMED && self.blamed.insert(peer.clone()) {
            self.actions.push_back(Action::Blame { peer: peer.clone(), why });
        }
    }
}

fn size(piece: &Piece) -> usize {
    piece.entries.iter().map(|entry| entry.data.len() + 32).sum()
}
