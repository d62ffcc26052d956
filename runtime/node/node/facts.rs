//! Facts read from a space's state, without an engine.

use super::Node;
use crate::api::{ErrorBody, FactInfo, Facts, FactsRequest};
use crate::json;
use crate::space::{Reading, Space, error};
use bytes::Bytes;
use synod_core::apply::{Goal, ReadError};
use synod_core::term::Term;
use tokio::task::spawn_blocking;

/// Facts of one answer, at most, and if no number is given.
const MAX_FACTS: usize = 10_000;
/// Bytes of the facts of one answer, encoded, but for the first.
const MAX_BYTES: usize = 4 << 20;
/// Readings at once, at most: each takes its time of the thread that applies commands.
pub(super) const AT_ONCE: usize = 8;
/// Facts that are made text of where the request runs; more are, beside it.
const FEW: usize = 64;

impl Node {
    /// The facts that match a pattern.
    pub async fn facts(&self, request: FactsRequest, pattern: Term) -> Result<Facts, ErrorBody> {
        let space = self.space(request.space.as_deref())?;
        let goal = Goal::new(pattern).map_err(|e| error("bad_request", e.to_string()))?;
        let reading = if request.local { Reading::Own } else { Reading::Newest };
        space.serves_reads(reading).map_err(|why| why.body())?;
        reach(&space, request.min_index, request.local).await?;
        let wanted = request.limit.and_then(|limit| usize::try_from(limit).ok());
        let max = wanted.unwrap_or(MAX_FACTS).min(MAX_FACTS);
        let stopping = || error("stopping", "the node is going down: ask again when it is up");
        let _turn = self.0.reading.acquire().await.map_err(|_| stopping())?;
        let read = space.read(move |state| state.read(&goal, max, MAX_BYTES)).await;
        let found = read.ok_or_else(stopping)?.map_err(|e| match e {
            ReadError::Scan(_) => error("too_large", e.to_string()),
            e => error("bad_request", e.to_string()),
        })?;
        let tell = move |facts: Vec<Bytes>| facts.iter().map(|fact| info(fact)).collect::<Vec<_>>();
        let facts = match found.facts.len() {
            0..=FEW => tell(found.facts),
            _ => spawn_blocking(move || tell(found.facts)).await.map_err(|_| stopping())?,
        };
        let stale = space.leaderless_for().filter(|_| request.local);
        Ok(Facts {
            facts,
            more: found.more,
            is_known: found.is_known,
            index: found.index,
            stale_ms: stale.map(|stale| u64::try_from(stale.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}

/// Waits until what is read is recent enough.
async fn reach(space: &Space, min_index: u64, is_local: bool) -> Result<(), ErrorBody> {
    if !is_local && space.read_index().await.is_none() {
        let text = "no leader has answered in time, so that others may have written what this node has not \
                    seen: `synod space members` shows who is connected; with local (--local) it answers \
                    from what it has";
        return Err(error("no_quorum", text));
    }
    if !space.reaches(min_index).await {
        let index = space.feed().applied();
        let text = format!("index {min_index} was asked for, and this node is at {index}");
        return Err(error("behind", text));
    }
    Ok(())
}

fn info(fact: &[u8]) -> FactInfo {
    let args = match Term::decode(fact) {
        Ok(Term::Compound(_, args)) => args.iter().map(json::of).collect(),
        _ => Vec::new(),
    };
    FactInfo { text: json::text_of(fact), args }
}
