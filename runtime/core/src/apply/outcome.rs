//! What comes of a command, and its bytes: state keeps outcomes, so snapshots hold them.

use crate::cbor::{Error, Reader, Writer};

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was applied as the command of this index. (Sent again, it keeps the index of the first.)
    Committed(u64),
    /// It was refused as the command of this index, and can never commit.
    Refused(u64, Refusal),
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Keys that it read were written since, or facts that it retracts are gone.
    #[error("what it read has changed")]
    Conflict(Vec<u64>),
    /// It read below the floor of the stamps that are kept, or by an argument of which none were.
    #[error("it read too long ago")]
    TooOld,
    /// Its session is not open, or no longer.
    #[error("its session is over; open another")]
    NoSession,
    /// Its number was acknowledged already, or is too far from what was.
    #[error("its number is outside of what the session keeps")]
    OutOfWindow,
    /// Its agent has another holder by now, or none.
    #[error("its agent is held in another epoch")]
    StaleEpoch,
    /// Its agent has handled those events already.
    #[error("its agent's cursor stands elsewhere")]
    StaleCursor,
    /// The letter that it handles is gone: handled by another, or dropped.
    #[error("the letter is gone: it was dropped, or has been handled")]
    NoLetter,
    /// The ticket that it joins by is unknown, used up, over or taken back.
    #[error("its ticket is not, or no longer, good")]
    NoTicket,
    /// Another node of the space has its name.
    #[error("another node of the space has its name")]
    NameTaken,
    /// The member that it would become has been removed, or may have been.
    #[error("the member that it would make was removed since: join anew")]
    Removed,
    /// A module was published since.
    #[error("the module was published by somebody else meanwhile")]
    StaleModule,
    /// A named bound of the space is reached.
    #[error("the space is full: {0}")]
    Full(&'static str),
    /// The command cannot be read, or says that it read at an index that has not come.
    #[error("not a command that can be applied here")]
    Malformed,
}

/// The bounds that [`Refusal::Full`] names.
pub(super) mod bound {
    pub(crate) const AGENTS: &str = "agents";
    pub(crate) const KEYS: &str = "keys of a predicate";
    pub(crate) const MEMBERS: &str = "members";
    pub(crate) const MODULE_BYTES: &str = "bytes of modules";
    pub(crate) const MODULES: &str = "modules";
    pub(crate) const PREDICATES: &str = "predicates";
    pub(crate) const TICKETS: &str = "tickets";
    pub(crate) const ALL: &[&str] =
        &[AGENTS, KEYS, MEMBERS, MODULE_BYTES, MODULES, PREDICATES, TICKETS];
}

const CONFLICT: u64 = 0;
const TOO_OLD: u64 = 1;
const NO_SESSION: u64 = 2;
const OUT_OF_WINDOW: u64 = 3;
const STALE_EPOCH: u64 = 4;
const STALE_CURSOR: u64 = 5;
const FULL: u64 = 6;
const MALFORMED: u64 = 7;
const NO_LETTER: u64 = 8;
const NO_TICKET: u64 = 9;
const NAME_TAKEN: u64 = 10;
const STALE_MODULE: u64 = 11;
const REMOVED: u64 = 12;

impl Outcome {
    /// Appends one item: `[index]`, or `[index, reason, …]`.
    pub fn write(&self, w: &mut Writer) {
        let (index, refusal) = match self {
            Self::Committed(index) => {
                w.array(1).uint(*index);
                return;
            }
            Self::Refused(index, refusal) => (*index, refusal),
        };
        let plain = match refusal {
            Refusal::Conflict(keys) => {
                w.array(3).uint(index).uint(CONFLICT).array(keys.len());
                keys.iter().for_each(|&key| {
                    w.uint(key);
                });
                return;
            }
            Refusal::Full(what) => {
                w.array(3).uint(index).uint(FULL).text(what);
                return;
            }
            Refusal::TooOld => TOO_OLD,
            Refusal::NoSession => NO_SESSION,
            Refusal::OutOfWindow => OUT_OF_WINDOW,
            Refusal::StaleEpoch => STALE_EPOCH,
            Refusal::StaleCursor => STALE_CURSOR,
            Refusal::Malformed => MALFORMED,
            Refusal::NoLetter => NO_LETTER,
            Refusal::NoTicket => NO_TICKET,
            Refusal::NameTaken => NAME_TAKEN,
            Refusal::StaleModule => STALE_MODULE,
            Refusal::Removed => REMOVED,
        };
        w.array(2).uint(index).uint(plain);
    }

    /// What [`Outcome::write`] wrote.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Error> {
        let len = r.array()?;
        let index = r.uint()?;
        if len == 1 {
            return Ok(Self::Committed(index));
        }
        let refusal = match (r.uint()?, len) {
            (CONFLICT, 3) => {
                let keys = (0..r.array()?).map(|_| r.uint()).collect::<Result<_, _>>()?;
                Refusal::Conflict(keys)
            }
            (TOO_OLD, 2) => Refusal::TooOld,
            (NO_SESSION, 2) => Refusal::NoSession,
            (OUT_OF_WINDOW, 2) => Refusal::OutOfWindow,
            (STALE_EPOCH, 2) => Refusal::StaleEpoch,
            (STALE_CURSOR, 2) => Refusal::StaleCursor,
            (FULL, 3) => {
                let what = r.text()?;
                let known = bound::ALL.iter().find(|&&bound| bound == what);
                Refusal::Full(known.ok_or_else(|| r.invalid("an unknown bound"))?)
            }
            (MALFORMED, 2) => Refusal::Malformed,
            (NO_LETTER, 2) => Refusal::NoLetter,
            (NO_TICKET, 2) => Refusal::NoTicket,
            (NAME_TAKEN, 2) => Refusal::NameTaken,
            (STALE_MODULE, 2) => Refusal::StaleModule,
            (REMOVED, 2) => Refusal::Removed,
            _ => return Err(r.invalid("an unknown refusal")),
        };
        Ok(Self::Refused(index, refusal))
    }
}
