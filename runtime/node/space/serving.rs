//! Whether a space serves on this node, and why not if it does not: decided here and nowhere else.
//!
//! Reads of this node's own state go on for as long as that is a state of the space, however old. Reads
//! that must see all that was acknowledged, and writes, also need others who listen to this node.

use crate::api::ErrorBody;

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// This node's own state, as it is.
    Own,
    /// All that was acknowledged anywhere.
    Newest,
}

/// Why a space does not do on this node what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// The node follows the space without being a member of it.
    #[error("{}", super::OBSERVES)]
    Observed,
    /// The node was removed from the space, at this index or one before.
    #[error(
        "this node is a member of the space no longer: it was removed at index {0}, or before; what it has of \
         the space up to there can be read. `synod space leave NAME` puts that aside, and by a new ticket \
         the node can join anew"
    )]
    Removed(u64),
    /// The space goes on without this node, at this generation.
    #[error(
        "this space was recovered at generation {0}, without this node: leave it (synod space leave) and \
         join again by a new ticket"
    )]
    GoneOn(u64),
    /// The log here has lost what this node has given its word for.
    #[error("{0}")]
    Shortened(String),
    /// The state is being made again.
    #[error("{0}")]
    Rebuilding(String),
    /// The disk is nearly full.
    #[error("{0}")]
    DiskFull(String),
}

impl Unserved {
    /// The code of an error that says so.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Observed => "observer",
            Self::Removed(_) => "removed",
            Self::GoneOn(_) => "recovered",
            Self::Shortened(_) => "damaged",
            Self::Rebuilding(_) => "rebuilding",
            Self::DiskFull(_) => "full",
        }
    }

    pub(crate) fn body(&self) -> ErrorBody {
        super::error(self.code(), self.to_string())
    }
}

/// How a space stands on this node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// Whether this node only follows the space.
    pub(crate) observed: bool,
    /// The index at which this node was removed, or one behind that.
    pub(crate) removed: Option<u64>,
    /// The generation to which the space has gone on without this node.
    pub(crate) gone_on: Option<u64>,
    /// Why the log here is shorter than others know it to have been.
    pub(crate) shortened: Option<String>,
    /// Why the state is being made again.
    pub(crate) rebuilding: Option<String>,
    /// Why the disk takes no more.
    pub(crate) full: Option<String>,
}

impl Standing {
    /// Whether commands may be proposed.
    pub(super) fn writes(self) -> Result<(), Unserved> {
        let Self { rebuilding, full, .. } = &self;
        let own = rebuilding.clone().map(Unserved::Rebuilding);
        let own = own.or_else(|| full.clone().map(Unserved::DiskFull));
        let observed = self.observed.then_some(Unserved::Observed);
        observed.or(self.others()).or(own).map_or(Ok(()), Err)
    }

    /// Whether the state may be read.
    pub(super) fn reads(self, reading: Reading) -> Result<(), Unserved> {
        let own = self.rebuilding.clone().map(Unserved::Rebuilding);
        let others = || self.others().filter(|_| reading == Reading::Newest);
        own.or_else(others).map_or(Ok(()), Err)
    }

    /// Whether the leader may be asked to do something that needs nothing of this node's state or disk.
    pub(super) fn asks(self) -> Result<(), Unserved> {
        let observed = self.observed.then_some(Unserved::Observed);
        observed.or(self.others()).map_or(Ok(()), Err)
    }

    /// Why nobody else has to do with this node.
    fn others(self) -> Option<Unserved> {
        // One that joins anew is removed as what it was, and that is no end.
        let shortened = self.shortened.map(Unserved::Shortened);
        let removed = || self.removed.map(Unserved::Removed);
        shortened.or_else(removed).or_else(|| self.gone_on.map(Unserved::GoneOn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(why: &str) -> Option<String> {
        Some(why.to_owned())
    }

    /// Each reason alone: what it stands in the way of.
    #[test]
    fn each_reason_stops_what_it_makes_wrong_and_nothing_else() {
        let shortened = Standing { shortened: said("short"), ..Standing::default() };
        let rebuilding = Standing { rebuilding: said("wrong"), ..Standing::default() };
        let full = Standing { full: said("full"), ..Standing::default() };
        let (own, newest) = (Reading::Own, Reading::Newest);
        let reasons = [
            (Standing { removed: Some(7), ..Standing::default() }, "removed", "-nwa"),
            (Standing { gone_on: Some(2), ..Standing::default() }, "recovered", "-nwa"),
            (shortened, "damaged", "-nwa"),
            (rebuilding, "rebuilding", "onw-"),
            (full, "full", "--w-"),
            (Standing { observed: true, ..Standing::default() }, "observer", "--wa"),
        ];
        for (standing, code, wanted) in reasons {
            let results = [
                ('o', standing.clone().reads(own)),
                ('n', standing.clone().reads(newest)),
                ('w', standing.clone().writes()),
                ('a', standing.asks()),
            ];
            let stopped: String =
                results.iter().map(|(c, result)| if result.is_err() { *c } else { '-' }).collect();
            assert_eq!(stopped, wanted, "{code}");
            for why in results.into_iter().filter_map(|(_, result)| result.err()) {
                assert_eq!(why.code(), code);
            }
        }
        let fine = Standing::default();
        assert_eq!((fine.clone().writes(), fine.clone().asks()), (Ok(()), Ok(())));
        assert_eq!((fine.clone().reads(own), fine.reads(newest)), (Ok(()), Ok(())));
    }

    #[test]
    fn of_several_reasons_the_one_is_said_that_lasts() {
        let all = Standing {
            observed: false,
            removed: Some(7),
            gone_on: Some(2),
            shortened: said("short"),
            rebuilding: said("wrong"),
            full: said("full"),
        };
        assert_eq!(all.clone().writes(), Err(Unserved::Shortened("short".to_owned())));
        let after = Standing { shortened: None, ..all };
        assert_eq!(after.clone().writes(), Err(Unserved::Removed(7)));
        let after = Standing { removed: None, ..after };
        assert_eq!(after.clone().writes(), Err(Unserved::GoneOn(2)));
        let after = Standing { gone_on: None, ..after };
        assert_eq!(after.writes(), Err(Unserved::Rebuilding("wrong".to_owned())));
    }
}
