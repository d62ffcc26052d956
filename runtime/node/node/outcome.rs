//! How what a node proposes has ended, as whoever asked is told.

use crate::api::ErrorBody;
use crate::space::{Ended, error, not_proposed};
use synod_core::apply::Outcome;

/// The index at which it was committed, or why it was not.
pub(super) fn committed(ended: Option<Ended>) -> Result<u64, ErrorBody> {
    match ended {
        Some(Ended::Applied(Outcome::Committed(index))) => Ok(index),
        Some(Ended::Applied(Outcome::Refused(_, why))) => Err(error("refused", why.to_string())),
        Some(Ended::NotProposed(why)) => Err(not_proposed(&why)),
        None => Err(unseen()),
    }
}

/// What was proposed was not seen to end: it may be in the log, or come into it yet.
pub(crate) fn unseen() -> ErrorBody {
    error(
        "unknown",
        "it is not known what came of it: this node has not seen it in the log in time, and it may come into it \
         yet; look whether it did before you say it again",
    )
}

pub(super) fn stopping() -> ErrorBody {
    error("stopping", "the node is going down: ask again when it is up")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::NotProposed;

    #[test]
    fn what_nobody_has_seen_end_is_unknown() {
        assert_eq!(committed(None).unwrap_err().code, "unknown");
        assert_eq!(committed(Some(Ended::Applied(Outcome::Committed(3)))), Ok(3));
        let stopping = Some(Ended::NotProposed(NotProposed::Stopping));
        assert_eq!(committed(stopping).unwrap_err().code, "stopping");
    }
}
