//! How much of a space's past a node keeps: what may be cut off the beginning of its log.
//!
//! The past is told by a snapshot and the log behind it, so a log is cut at a snapshot, which then is the
//! first thing that is known; the snapshots before it go with the commands that led to them. The
//! newest two snapshots and the log behind them stay in any case: one of the two may turn out to be damaged.
//! So do a snapshot of when this state was last known to be right, and the log behind it: should it turn
//! out to be wrong, it is made again from those.
//! A member that needs what was cut is sent a snapshot, an agent that has not handled it gets a gap.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Snapshots that stay whatever is to be kept.
const KEPT_SNAPSHOTS: usize = 2;
/// Bytes of commands between two snapshots, at least, however little is to be kept.
const MIN_SNAPSHOT_BYTES: u64 = 256 << 10;
/// The least that may be asked for: less is less than a snapshot costs.
pub const MIN_BYTES: u64 = 1 << 20;
/// As above.
pub const MIN_AGE: Duration = Duration::from_secs(60);
/// So many snapshots are taken while what is to be kept comes in: the log is never longer than it is
/// to be by more than a few of these parts.
const PARTS: u32 = 4;

const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const TIMES: [(&str, u64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// All of it.
    #[default]
    Everything,
    /// The newest commands, so many bytes of log at least.
    Bytes(u64),
    /// The commands that are younger than that, at least.
    Age(Duration),
}

/// A snapshot that is on disk, for the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The index of its state.
    pub index: u64,
    /// The last entry of Raft's log that it contains.
    pub raft_index: u64,
    /// The time of its state, in microseconds since 1970 (UTC).
    pub time: u64,
}

/// Why a text is no retention.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// It is neither.
    #[error("`{0}` is neither `everything`, nor a size like 64MiB, nor an age like 30d")]
    Neither(String),
    /// It is too little.
    #[error("{0} is too little to keep: at least 1MiB, or 60s")]
    TooLittle(String),
}

impl Retention {
    /// The snapshot before which nothing is kept any more: all commands behind it are, and those up to it
    /// are not. None if nothing may go. `now` is in microseconds since 1970 (UTC), snapshots come newest
    /// first, `bytes_behind` says how much of the log lies behind an entry, and up to `agreed` most voters
    /// have the same state.
    pub fn cut(
        self,
        now: u64,
        snapshots: &[Kept],
        agreed: u64,
        bytes_behind: impl Fn(u64) -> u64,
    ) -> Option<Kept> {
        let is_enough = |kept: &&Kept| match self {
            Self::Everything => false,
            Self::Bytes(bytes) => bytes_behind(kept.raft_index) >= bytes,
            Self::Age(age) => now.saturating_sub(kept.time) >= micros(age),
        };
        let is_right = |kept: &&Kept| kept.index <= agreed;
        snapshots.iter().skip(KEPT_SNAPSHOTS - 1).filter(is_right).find(is_enough).copied()
    }

    /// After how many bytes of commands a snapshot is taken, if it is to be after `usual` otherwise.
    pub fn snapshot_bytes(self, usual: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => (bytes / u64::from(PARTS)).clamp(MIN_SNAPSHOT_BYTES, usual),
            Self::Everything | Self::Age(_) => usual,
        }
    }

    /// Whether a snapshot is due though few commands have come since the last: what is older than it
    /// should be would otherwise stay for as long as a space is quiet. `last` is the time of the
    /// newest snapshot, `newest` that of the state.
    pub fn is_snapshot_due(self, now: u64, last: Option<u64>, newest: u64) -> bool {
        let Self::Age(age) = self else { return false };
        let part = micros(age / PARTS);
        match last {
            // Two are kept in any case: a state that is old is worth a second one.
            Some(last) => newest > last && now.saturating_sub(last) >= part,
            None => newest > 0 && now.saturating_sub(newest) >= part,
        }
    }
}

fn micros(age: Duration) -> u64 {
    u64::try_from(age.as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, units) = match *self {
            Self::Everything => return f.write_str("everything"),
            Self::Bytes(bytes) => (bytes, UNITS),
            Self::Age(age) => (age.as_secs(), TIMES),
        };
        let unit = units.iter().find(|(_, unit)| n % unit == 0 && n > 0);
        let (name, unit) = unit.copied().unwrap_or((units[4].0, 1));
        write!(f, "{}{name}", n / unit)
    }
}

impl FromStr for Retention {
    type Err = RetentionError;

    fn from_str(text: &str) -> Result<Self, RetentionError> {
        let neither = || RetentionError::Neither(text.to_owned());
        if text == "everything" {
            return Ok(Self::Everything);
        }
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| neither())?;
        let of = |units: &[(&str, u64)]| {
            let found = units.iter().find(|(name, _)| *name == unit);
            found.and_then(|(_, unit)| number.checked_mul(*unit))
        };
        let (kept, least) = match (of(&UNITS), of(&TIMES)) {
            (Some(bytes), _) => (Self::Bytes(bytes), bytes >= MIN_BYTES),
            (None, Some(seconds)) => {
                let age = Duration::from_secs(seconds);
                (Self::Age(age), age >= MIN_AGE)
            }
            (None, None) => return Err(neither()),
        };
        if least { Ok(kept) } else { Err(RetentionError::TooLittle(text.to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000_000;

    /// Newest first, one a minute, 10 bytes of log between them.
    fn snapshots(n: u64) -> Vec<Kept> {
        let kept = |n| Kept { index: 100 * n, raft_index: 10 * n, time: n * MINUTE };
        (1..=n).rev().map(kept).collect()
    }

    fn cut(retention: Retention, n: u64) -> Option<u64> {
        let last = 10 * n;
        let kept = retention.cut(n * MINUTE, &snapshots(n), u64::MAX, |raft| last - raft);
        kept.map(|kept| kept.index)
    }

    #[test]
    fn a_state_that_was_agreed_on_stays_with_the_log_behind_it() {
        let cut = |agreed| Retention::Bytes(0).cut(0, &snapshots(9), agreed, |_| 1);
        assert_eq!(cut(900).map(|kept| kept.index), Some(800), "the newest two stay");
        assert_eq!(cut(799).map(|kept| kept.index), Some(700));
        assert_eq!(cut(700).map(|kept| kept.index), Some(700));
        assert_eq!(cut(99), None);
    }

    #[test]
    fn what_is_to_be_kept_lies_behind_the_cut_and_no_snapshot_more() {
        assert_eq!(cut(Retention::Everything, 9), None);
        assert_eq!(cut(Retention::Bytes(30), 9), Some(600));
        assert_eq!(cut(Retention::Bytes(31), 9), Some(500));
        assert_eq!(cut(Retention::Bytes(1000), 9), None);
        assert_eq!(cut(Retention::Age(Duration::from_secs(3 * 60)), 9), Some(600));
        assert_eq!(cut(Retention::Age(Duration::from_secs(3 * 60 + 1)), 9), Some(500));
    }

    #[test]
    fn the_newest_two_snapshots_stay() {
        assert_eq!(cut(Retention::Bytes(0), 9), Some(800));
        assert_eq!(cut(Retention::Age(Duration::ZERO), 2), Some(100));
        assert_eq!(cut(Retention::Bytes(0), 1), None);
        assert_eq!(cut(Retention::Bytes(0), 0), None);
    }

    #[test]
    fn a_quiet_space_forgets_by_age_too() {
        let age = Retention::Age(Duration::from_secs(4 * 60));
        assert!(!age.is_snapshot_due(5 * MINUTE, Some(5 * MINUTE), 5 * MINUTE), "nothing came");
        assert!(!age.is_snapshot_due(5 * MINUTE, Some(5 * MINUTE - 1), 5 * MINUTE));
        assert!(age.is_snapshot_due(5 * MINUTE, Some(4 * MINUTE), 5 * MINUTE));
        assert!(age.is_snapshot_due(5 * MINUTE, None, 4 * MINUTE));
        assert!(!age.is_snapshot_due(5 * MINUTE, None, 0), "an empty space has no past");
        assert!(!Retention::Bytes(1).is_snapshot_due(5 * MINUTE, None, 1));
    }

    #[test]
    fn the_less_is_kept_the_smaller_are_the_parts() {
        let usual = 64 << 20;
        assert_eq!(Retention::Everything.snapshot_bytes(usual), usual);
        assert_eq!(Retention::Bytes(u64::MAX).snapshot_bytes(usual), usual);
        assert_eq!(Retention::Bytes(16 << 20).snapshot_bytes(usual), 4 << 20);
        assert_eq!(Retention::Bytes(1 << 20).snapshot_bytes(usual), 256 << 10);
    }

    #[test]
    fn people_write_sizes_and_ages() {
        let read = |text: &str| text.parse::<Retention>();
        let age = |seconds| Ok(Retention::Age(Duration::from_secs(seconds)));
        assert_eq!(read("everything"), Ok(Retention::Everything));
        assert_eq!(read("64MiB"), Ok(Retention::Bytes(64 << 20)));
        assert_eq!(read("2097153B"), Ok(Retention::Bytes((2 << 20) + 1)));
        assert_eq!(read("30d"), age(30 * 86_400));
        assert_eq!(read("90m"), age(5_400));
        for text in ["1023KiB", "59s", "0d"] {
            assert_eq!(read(text), Err(RetentionError::TooLittle(text.to_owned())), "{text}");
        }
        for text in
            ["", "64", "MiB", "64MB", "-1d", "1.5d", "99999999999999TiB", "9 d", "Everything"]
        {
            assert_eq!(read(text), Err(RetentionError::Neither(text.to_owned())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(n in any::<u64>(), is_age in any::<bool>()) {
            let kept = match is_age {
                true => Retention::Age(Duration::from_secs(n.max(60))),
                false => Retention::Bytes(n.max(MIN_BYTES)),
            };
            prop_assert_eq!(kept.to_string().parse(), Ok(kept));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,12}") {
            drop(text.parse::<Retention>());
        }
    }
}
