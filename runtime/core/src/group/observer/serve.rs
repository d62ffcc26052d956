//! Giving observers what they lack: pieces of a log, each to where the chain is known.
//!
//! A voter knows the chain at the end of any piece by following it from a place that it knows, and signs that.
//! It never goes by what who asks says of the chain: that would be signing for others. An observer gives on
//! what ends at a head that it was given itself.

use super::wire::{MAX_PIECE, MAX_PIECE_BYTES};
use crate::apply::Chain;
use crate::command::Batch;
use crate::group::{Head, Place};
use crate::log::disk::Disk;
use crate::log::{Entry, Position, ReadError, Reader};
use crate::order::{self, EntryKind};
use std::collections::BTreeMap;

/// Places that a voter remembers, at most.
const MAX_PLACES: usize = 4096;
/// Heads that an observer keeps for others, at most.
const MAX_HEADS: usize = 4096;
/// Bytes of entries from one of them to the next, at least.
const HEADS_APART: u64 = 64 << 10;

/// Goes on with what an entry of the log holds. What is no batch changes nothing, on every replica alike.
pub fn follow(chain: &mut Chain, entry: &Entry) {
    let kind = EntryKind::from_number(u64::from(entry.kind)).unwrap_or(EntryKind::Normal);
    let data = order::Entry::batch(kind, &entry.data);
    if data.is_empty() {
        return;
    }
    let mut commands = Vec::new();
    if let Ok((time, _)) = Batch::find(&data, |range| commands.push(range)) {
        for range in commands {
            chain.follow(time, data.get(range).unwrap_or_default());
        }
    }
}

/// What there is for who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// These entries lead to that place; none, if who asks has all.
    Entries(Vec<Entry>, Place),
    /// It is not there any more.
    Gone,
    /// The chain was another there.
    Apart,
}

/// Places of a log whose chain is known.
#[derive(Clone, Debug, Default)]
pub struct Places {
    known: BTreeMap<u64, Place>,
}

impl Places {
    /// Remembers one.
    pub fn note(&mut self, place: Place) {
        self.known.insert(place.at.index, place);
        if self.known.len() > MAX_PLACES {
            self.known.pop_first();
        }
    }

    /// Whether that of the end of an entry is known.
    pub fn contains(&self, entry: u64) -> bool {
        self.known.contains_key(&entry)
    }

    fn nearest(&self, entry: u64) -> Option<Place> {
        self.known.range(..=entry).next_back().map(|(_, place)| *place)
    }

    /// What of a log lies behind an entry: as far as `last`, or a piece of it. `others` are further places
    /// that are known, as those of snapshots.
    pub fn find<D: Disk>(
        &mut self,
        reader: &Reader<D>,
        others: &[Place],
        (before, chain): (u64, &[u8; 32]),
        last: &Place,
    ) -> Result<Found, ReadError> {
        if before > last.at.index {
            // It has heard of more than this node has applied.
            return Ok(Found::Entries(Vec::new(), *last));
        }
        if before == last.at.index {
            let is_same = last.chain.hash == *chain;
            return Ok(if is_same { Found::Entries(Vec::new(), *last) } else { Found::Apart });
        }
        let others = others.iter().filter(|place| place.at.index <= before).copied();
        let nearest = self.nearest(before).into_iter().chain(others);
        let Some(start) = nearest.max_by_key(|place| place.at.index) else {
            return Ok(Found::Gone);
        };
        if start.at.index + 1 < reader.first_index() {
            return Ok(Found::Gone);
        }
        let (mut place, mut entries, mut bytes) = (start, Vec::new(), 0usize);
        for entry in reader.entries(start.at.index + 1, last.at.index + 1)? {
            if place.at.index == before && place.chain.hash != *chain {
                return Ok(Found::Apart);
            }
            let entry = entry?;
            if entry.index > before {
                bytes = bytes.saturating_add(entry.data.len());
                let is_full = bytes > MAX_PIECE_BYTES || entries.len() >= MAX_PIECE;
                if is_full && !entries.is_empty() {
                    break;
                }
                entries.push(entry.clone());
            }
            follow(&mut place.chain, &entry);
            place.at = Position { term: entry.term, index: entry.index };
        }
        if entries.is_empty() {
            // What was applied is not read yet.
            let is_there = place.at.index == before;
            let is_same = place.chain.hash == *chain;
            return Ok(match (is_there, is_same) {
                (true, true) => Found::Entries(entries, place),
                (true, false) => Found::Apart,
                (false, _) => Found::Gone,
            });
        }
        self.note(place);
        Ok(Found::Entries(entries, place))
    }
}

/// The heads that an observer was given, for others that follow.
#[derive(Clone, Debug, Default)]
pub struct Heads {
    /// By their entry, each with the bytes of all entries up to it since this was made.
    kept: BTreeMap<u64, (Head, u64)>,
}

impl Heads {
    /// Keeps one, to which entries of so many bytes lead from the one before.
    pub fn keep(&mut self, head: Head, bytes: u64) {
        let upto = self.kept.last_key_value().map_or(0, |(_, (_, upto))| *upto) + bytes;
        // The newest is always there, and those before it are not too many.
        let mut newest = self.kept.iter().rev().map(|(entry, (_, upto))| (*entry, *upto));
        if let (Some((last, _)), Some((_, before))) = (newest.next(), newest.next())
            && upto.saturating_sub(before) < HEADS_APART
        {
            self.kept.remove(&last);
        }
        self.kept.insert(head.place.at.index, (head, upto));
        if self.kept.len() > MAX_HEADS {
            self.kept.pop_first();
        }
    }

    /// They lead nowhere any more: the log goes on from elsewhere.
    pub fn forget(&mut self) {
        self.kept.clear();
    }

    /// The newest.
    pub fn newest(&self) -> Option<&Head> {
        self.kept.last_key_value().map(|(_, (head, _))| head)
    }

    /// Where a piece that begins behind an entry can end.
    pub fn behind(&self, before: u64) -> Option<&Head> {
        let from = self.kept.range(..=before).next_back();
        let (_, (_, from)) = from?;
        let most = from + MAX_PIECE_BYTES as u64;
        let mut behind = self.kept.range(before.saturating_add(1)..);
        let first = behind.next()?;
        let fits = behind.take_while(|(_, (_, upto))| *upto <= most).last();
        Some(&fits.unwrap_or(first).1.0)
    }

    /// What lies behind an entry, up to one of the heads; none if it is not for this node to tell.
    pub fn find<D: Disk>(
        &self,
        reader: &Reader<D>,
        before: u64,
    ) -> Result<Option<(Vec<Entry>, Head)>, ReadError> {
        let Some(head) = self.behind(before) else { return Ok(None) };
        if before + 1 < reader.first_index() {
            return Ok(None);
        }
        let mut entries = Vec::new();
        let mut bytes = 0usize;
        for entry in reader.entries(before + 1, head.place.at.index + 1)? {
            let entry = entry?;
            bytes = bytes.saturating_add(entry.data.len());
            let is_over = bytes > MAX_PIECE_BYTES || entries.len() >= MAX_PIECE;
            if is_over && !entries.is_empty() {
                return Ok(None);
            }
            entries.push(entry);
        }
        let is_whole = entries.last().is_some_and(|entry| entry.index == head.place.at.index);
        Ok(is_whole.then(|| (entries, head.clone())))
    }
}
