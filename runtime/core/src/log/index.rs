//! Which entries stand where: all that is kept in memory of a log.
//!
//! A segment's entries are *runs* of consecutive indices. An entry with an index that has been there
//! supersedes it and all above it, wherever they stand: runs are cut or dropped from the log's end, so
//! what the runs hold is exactly the live log. Inside a run a mark each [`MARK_BYTES`] says where to
//! begin reading.

use super::Position;
use std::path::PathBuf;
use std::sync::Arc;

/// How far apart the marks of a run are, in bytes of the file.
const MARK_BYTES: u64 = 1 << 20;

const SUFFIX: &str = ".log";
/// As wide as the largest number, so that the order of names is the order of numbers.
const DIGITS: usize = 20;

/// One file of a log.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// How much of the file is the log's, in bytes; without what waits to be written.
    pub(super) bytes: u64,
    /// Ascending, without gaps between them.
    pub(super) runs: Vec<Run>,
}

/// Consecutive entries in one segment.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
    /// Index and offset of some of its entries, the first always; ascending.
    marks: Vec<(u64, u64)>,
}

/// The segments of a log, and the ends of what their runs hold.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// Ascending, numbered without gaps. Shared with readers, who keep what they were given.
    pub(super) segments: Vec<Arc<Segment>>,
    /// What lies right before the first live entry. Its term is 0 where nobody knows it: it has been
    /// compacted away, and what followed it was superseded.
    before: Position,
    /// The first of each run of live entries of one term, ascending.
    terms: Vec<Position>,
    /// The last live entry, or the place where the log was restarted or begun.
    pub(super) last: Position,
}

impl Segment {
    /// The name of segment `number`'s file.
    pub(super) fn file_name(number: u64) -> String {
        format!("{number:0DIGITS$}{SUFFIX}")
    }

    /// The number of the segment whose file has this name, if it is a segment's name.
    pub(super) fn number_of(file_name: &str) -> Option<u64> {
        let number = file_name.strip_suffix(SUFFIX)?.parse().ok()?;
        (number > 0 && Self::file_name(number) == file_name).then_some(number)
    }
}

impl Run {
    /// Where to begin reading for `index`, which the run holds.
    pub(super) fn seek(&self, index: u64) -> u64 {
        let mark = self.marks.partition_point(|&(at, _)| at <= index);
        self.marks[mark.saturating_sub(1)].1
    }
}

impl Index {
    pub(super) fn new(after: Position) -> Self {
        Self { segments: Vec::new(), before: after, terms: Vec::new(), last: after }
    }

    /// The first live entry, or the one that will be.
    pub(super) fn first(&self) -> u64 {
        self.before.next()
    }

    /// The last place whose term is known that no live entry but perhaps the first lies before.
    pub(super) fn before(&self) -> Position {
        match self.terms.first() {
            Some(first) if self.before.term == 0 && self.before.index > 0 => *first,
            _ => self.before,
        }
    }

    /// The first of each run of entries of one term after `index`.
    pub(super) fn terms(&self, index: u64) -> Vec<Position> {
        let next = index.saturating_add(1);
        let begun = self.terms.partition_point(|run| run.index <= next);
        let mut terms = self.terms[begun.saturating_sub(1)..].to_vec();
        if let Some(first) = terms.first_mut() {
            first.index = first.index.max(next);
        }
        terms.retain(|run| run.index <= self.last.index);
        terms
    }

    pub(super) fn push(&mut self, number: u64, header: u64) {
        self.segments.push(Arc::new(Segment { number, bytes: header, runs: Vec::new() }));
    }

    /// Notes the entry `at`, whose index is at most one above the last, at `offset` of the last
    /// segment.
    #[inline]
    pub(super) fn entry(&mut self, at: Position, offset: u64) {
        let supersedes = at.index <= self.last.index;
        if supersedes {
            self.cut(at.index);
        }
        self.last = at;
        if self.terms.last().is_none_or(|run| run.term != at.term) {
            self.terms.push(at);
        }
        let Some(segment) = self.segments.last_mut() else { return };
        let segment = Arc::make_mut(segment);
        match segment.runs.last_mut() {
            // Where the last run was cut, what it lost stands between it and this entry.
            Some(run) if !supersedes && run.last + 1 == at.index => {
                run.last = at.index;
                if run.marks.last().is_some_and(|mark| offset - mark.1 >= MARK_BYTES) {
                    run.marks.push((at.index, offset));
                }
            }
            _ => {
                let run = Run { first: at.index, last: at.index, marks: vec![(at.index, offset)] };
                segment.runs.push(run);
            }
        }
    }

    /// Notes that the log goes on after `at`, whatever it held.
    pub(super) fn restart(&mut self, at: Position) {
        self.cut(0);
        (self.before, self.last) = (at, at);
    }

    /// Forgets the oldest segment, of several, and its entries.
    pub(super) fn remove_oldest(&mut self) {
        let oldest = self.segments.remove(0);
        let Some(run) = oldest.runs.last() else { return };
        let of = self.terms.partition_point(|term| term.index <= run.last).saturating_sub(1);
        let term = self.terms.get(of).map_or(0, |term| term.term);
        self.terms = self.terms(run.last);
        self.before = Position { term, index: run.last };
    }

    /// How long the last segment is now.
    pub(super) fn grown(&mut self, bytes: u64) {
        if let Some(segment) = self.segments.last_mut() {
            Arc::make_mut(segment).bytes = bytes;
        }
    }

    /// Drops all entries from `index` on.
    fn cut(&mut self, index: u64) {
        self.terms.retain(|run| run.index < index);
        if index <= self.before.index {
            self.before = Position { term: 0, index: index.saturating_sub(1) };
        }
        for segment in self.segments.iter_mut().rev() {
            let Some(run) = segment.runs.last() else { continue };
            if run.last < index {
                break;
            }
            let segment = Arc::make_mut(segment);
            segment.runs.retain(|run| run.first < index);
            if let Some(run) = segment.runs.last_mut() {
                run.last = run.last.min(index.saturating_sub(1));
                run.marks.retain(|mark| mark.0 < index);
            }
        }
    }
}

/// One file of a log, for those who decide what to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The file's name in the log's folder.
    pub file: PathBuf,
    /// Its live entries, first and last; none if it holds only what has been superseded.
    pub entries: Option<(u64, u64)>,
    /// How long it is, in bytes.
    pub bytes: u64,
}

impl From<&Segment> for SegmentInfo {
    fn from(segment: &Segment) -> Self {
        let first = segment.runs.first().map(|run| run.first);
        let last = segment.runs.last().map(|run| run.last);
        Self {
            file: Segment::file_name(segment.number).into(),
            entries: first.zip(last),
            bytes: segment.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(index: &mut Index, range: std::ops::RangeInclusive<u64>, offset: &mut u64) {
        for n in range {
            index.entry(Position { term: 1, index: n }, *offset);
            *offset += MARK_BYTES / 2;
        }
    }

    fn runs(index: &Index) -> Vec<Vec<(u64, u64)>> {
        let run = |run: &Run| (run.first, run.last);
        index.segments.iter().map(|s| s.runs.iter().map(run).collect()).collect()
    }

    #[test]
    fn a_superseding_entry_cuts_runs_across_segments() {
        let mut index = Index::new(Position::default());
        let mut offset = 0;
        index.push(1, 0);
        entries(&mut index, 1..=10, &mut offset);
        entries(&mut index, 8..=12, &mut offset);
        assert_eq!(runs(&index), [[(1, 7), (8, 12)]]);
        index.push(2, 0);
        entries(&mut index, 13..=20, &mut offset);
        index.push(3, 0);
        entries(&mut index, 4..=5, &mut offset);
        assert_eq!(runs(&index), [vec![(1, 3)], vec![], vec![(4, 5)]]);
        assert_eq!((index.first(), index.last.index), (1, 5));
        index.restart(Position { term: 7, index: 99 });
        assert_eq!(runs(&index), [vec![], vec![], vec![]]);
        assert_eq!((index.first(), index.last.index), (100, 99));
    }

    #[test]
    fn seeking_never_passes_the_entry() {
        let mut index = Index::new(Position::default());
        index.push(1, 0);
        let mut offset = 0;
        entries(&mut index, 1..=9, &mut offset);
        let run = &index.segments[0].runs[0];
        for n in 1..=9 {
            let stands = (n - 1) * MARK_BYTES / 2;
            assert!(run.seek(n) <= stands && stands - run.seek(n) < MARK_BYTES, "{n}");
        }
    }

    #[test]
    fn only_names_that_we_write_are_segments() {
        assert_eq!(Segment::number_of(&Segment::file_name(u64::MAX)), Some(u64::MAX));
        assert_eq!(Segment::number_of("00000000000000000017.log"), Some(17));
        for other in ["17.log", "00000000000000000000.log", "+0000000000000000017.log", "x", ".log"]
        {
            assert_eq!(Segment::number_of(other), None, "{other}");
        }
    }
}
