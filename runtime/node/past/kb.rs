//! The knowledge base as of any point, from an export that is read as a stream.
//!
//! ```text
//! read, take apart ──► follow the chain ──► decode ──► apply
//! ```
//! Each step has a thread of its own. Nobody applies what has not been verified.

use super::At;
use super::pipeline::{Following, Message, QUEUE, Step, StreamError, read};
use bytes::Bytes;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use synod_core::apply::{Chain, State};
use synod_core::command::Command;
use synod_core::export::{End, Envelope, ExportError, Forged, Header, Signed, SignedEnd};

/// What an export leads to.
#[derive(Debug)]
pub struct Replayed {
    /// What the export says of itself.
    pub header: Header,
    /// The state at the point that was asked for.
    pub state: State,
    /// The end, if the export was read so far.
    pub end: Option<End>,
}

/// An export that is whole.
#[derive(Debug)]
pub struct Followed {
    /// What it says of itself.
    pub header: Header,
    /// Where it ends.
    pub end: End,
    /// How far voters have signed it, or why that does not hold.
    pub signed: Result<Option<SignedEnd>, Forged>,
}

/// Why an export leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read, or is not whole.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// It begins in the middle.
    #[error(
        "it begins at index {0}, and the facts before that are not in it: export the whole log"
    )]
    Partial(u64),
    /// It does not go so far.
    #[error("index {asked} has not come: the log ends at index {last}")]
    Ahead {
        /// The index that was asked for.
        asked: u64,
        /// The last index.
        last: u64,
    },
}

impl From<ExportError> for ReplayError {
    fn from(error: ExportError) -> Self {
        Self::Stream(error.into())
    }
}

impl From<io::Error> for ReplayError {
    fn from(error: io::Error) -> Self {
        Self::Stream(error.into())
    }
}

/// Reads an export to its end, follows its chain, and looks for signatures of voters. `progress` is told the index now and then. Blocks.
pub fn verify(
    source: impl Read + Send,
    mut progress: impl FnMut(u64),
) -> Result<Followed, StreamError> {
    thread::scope(|scope| {
        let (parsed, to_verify) = sync_channel(QUEUE);
        let read = move || read(source, &parsed);
        thread::Builder::new().name("read".to_owned()).spawn_scoped(scope, read)?;
        let (mut following, mut found) = (Following::default(), None);
        let (mut signed, mut forged) = (None, None);
        for step in to_verify {
            let (step, failed) = following.step(step);
            if let Some(e) = failed {
                return Err(e);
            }
            match (step, found.take()) {
                (Some(Step::Header(header)), _) => {
                    let index = header.first.saturating_sub(1);
                    let place = Chain { index, time: 0, hash: header.chain };
                    signed = Some(Signed::behind(header.space, &place));
                    found = Some(header);
                }
                (Some(Step::End(end, _)), Some(header)) => {
                    let signed = signed.as_ref().and_then(Signed::end).cloned();
                    let signed = forged.map_or(Ok(signed), Err);
                    return Ok(Followed { header, end, signed });
                }
                (Some(Step::Commands(group)), header) => {
                    for (place, command) in &group {
                        let follow = |signed: &mut Signed| {
                            signed.follow(place, command, crate::net::is_signed_by)
                        };
                        let followed = signed.as_mut().map_or(Ok(()), follow);
                        forged = forged.or(followed.err());
                    }
                    group.last().iter().for_each(|(place, _)| progress(place.index));
                    found = header;
                }
                (_, header) => found = header,
            }
        }
        Err(ExportError::NotAnExport.into())
    })
}

/// Applies an export up to `until`, all of it if none. `progress` is told the index now and then. Blocks.
pub fn replay(
    source: impl Read + Send,
    until: Option<At>,
    mut progress: impl FnMut(u64),
) -> Result<Replayed, ReplayError> {
    thread::scope(|scope| {
        let (parsed, to_follow) = sync_channel(QUEUE);
        let (followed, to_decode) = sync_channel(QUEUE);
        let (decoded, to_apply) = sync_channel(QUEUE);
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        named("read").spawn_scoped(scope, move || read(source, &parsed))?;
        named("follow").spawn_scoped(scope, move || follow(to_follow, &followed))?;
        named("decode").spawn_scoped(scope, move || decode(to_decode, &decoded))?;
        // Returning drops the queue, which ends whoever still works for it.
        apply(to_apply, until, &mut progress)
    })
}

fn follow(from: Receiver<Message<Envelope>>, to: &SyncSender<Message<(Chain, Bytes)>>) {
    let mut following = Following::default();
    for step in from {
        let (step, failed) = following.step(step);
        if step.is_some_and(|step| to.send(Ok(step)).is_err()) {
            return;
        }
        if let Some(e) = failed {
            return drop(to.send(Err(e)));
        }
    }
}

fn decode(
    from: Receiver<Message<(Chain, Bytes)>>,
    to: &SyncSender<Message<(Chain, Option<Command>)>>,
) {
    for step in from {
        let step = step.map(|step| match step {
            Step::Commands(group) => {
                let decode = |(place, bytes): (Chain, Bytes)| (place, Command::decode(&bytes).ok());
                Step::Commands(group.into_iter().map(decode).collect())
            }
            Step::Header(header) => Step::Header(header),
            Step::End(end, offset) => Step::End(end, offset),
        });
        if to.send(step).is_err() {
            return;
        }
    }
}

fn apply(
    from: Receiver<Message<(Chain, Option<Command>)>>,
    until: Option<At>,
    progress: &mut impl FnMut(u64),
) -> Result<Replayed, ReplayError> {
    let mut found: Option<(Header, State)> = None;
    for step in from {
        match (step?, &mut found) {
            (Step::Header(header), found) => {
                if !header.is_whole() {
                    return Err(ReplayError::Partial(header.first));
                }
                let mut state = State::new(header.space);
                state.be_quiet(true);
                *found = Some((header, state));
            }
            (Step::Commands(group), Some((_, state))) => {
                for (place, command) in group {
                    if until.is_some_and(|until| !until.includes(&place)) {
                        return taken(found, None);
                    }
                    state.apply_followed(&place, command);
                }
                progress(state.index());
                if until == Some(At::Index(state.index())) {
                    return taken(found, None);
                }
            }
            (Step::End(end, _), Some(_)) => {
                return match until {
                    Some(At::Index(asked)) if asked > end.index => {
                        Err(ReplayError::Ahead { asked, last: end.index })
                    }
                    _ => taken(found, Some(end)),
                };
            }
            (Step::Commands(_) | Step::End(..), None) => {}
        }
    }
    Err(ExportError::NotAnExport.into())
}

fn taken(found: Option<(Header, State)>, end: Option<End>) -> Result<Replayed, ReplayError> {
    let (header, state) = found.ok_or(ExportError::NotAnExport)?;
    Ok(Replayed { header, state, end })
}
