//! The knowledge base at a point of its history: its facts, or a goal's answers on them.

use super::super::answers::show;
use super::super::log::{Source, chunks, past, path};
use super::super::progress::Progress;
use super::super::{Failure, Global, Out, Verdict};
use super::Replay;
use serde_json::json;
use std::fs::File;
use std::io::Read;
use synod::past::kb::replay;
use synod::past::{At, Filter, Span};
use synod::scratch::{Limits, Scratch, ScratchError};
use synod_core::apply::State;
use synod_core::export::MEDIA_TYPE;
use synod_core::term::Term;
use synod_core::term::text::{WriteOptions, write};

impl Replay {
    pub(super) async fn kb(self, global: &Global) -> Result<Verdict, Failure> {
        let state = self.state(global).await?;
        let mut out = global.out();
        let Some(goal) = &self.query else {
            return print_facts(&state, self.limit, &mut out);
        };
        let executable = std::env::current_exe()
            .map_err(|error| Failure::error(format!("this program's own path: {error}")))?;
        let limits = Limits { time_ms: self.max_time.unwrap_or(0), answers: self.limit };
        let failed = |e: ScratchError| match e {
            ScratchError::Told(error) => Failure::told_of_text(error, goal),
            e => Failure::error(e.to_string()),
        };
        let mut scratch = Scratch::start(&executable, state, limits).map_err(failed)?;
        scratch.ask(goal).map_err(failed)?;
        loop {
            let event = scratch.next_event().map_err(failed)?;
            if let Some(ended) = show(&mut out, goal, event)? {
                return Ok(ended.verdict);
            }
        }
    }

    async fn state(&self, global: &Global) -> Result<State, Failure> {
        let until = self.until;
        let mut progress = Progress::new("replaying");
        if let Some(path) = &self.file {
            let in_file =
                |e: &dyn std::fmt::Display| Failure::error(format!("{}: {e}", path.display()));
            let file = File::open(path).map_err(|e| in_file(&e))?;
            return replayed(file, until, &mut progress).map_err(|e| in_file(&e));
        }
        match Source::find(global, &self.space).await? {
            Source::Folder(folder) => {
                let at = until.unwrap_or(At::Time(u64::MAX));
                past(&folder)?.state_at(at).map_err(|e| Failure::error(e.to_string()))
            }
            Source::Node(client) => {
                let span = match until {
                    // The log's end says whether the index has come.
                    Some(At::Index(index)) => Span { to: Some(index), ..Span::default() },
                    Some(At::Time(time)) => Span { until: Some(time), ..Span::default() },
                    None => Span::default(),
                };
                let path = path(&self.space, &span, &Filter::default(), false);
                let body = chunks(client.get_body(&path, MEDIA_TYPE).await?);
                let work =
                    tokio::task::spawn_blocking(move || replayed(body, until, &mut progress));
                let state = work.await.map_err(|e| Failure::error(e.to_string()))?;
                state.map_err(|e| Failure::error(format!("the node's log: {e}")))
            }
        }
    }
}

fn replayed(
    source: impl Read + Send,
    until: Option<At>,
    progress: &mut Progress,
) -> Result<State, synod::past::kb::ReplayError> {
    Ok(replay(source, until, |index| progress.at(index))?.state)
}

/// All facts, in the order of their predicates and clauses.
fn print_facts(state: &State, limit: Option<u64>, out: &mut Out) -> Result<Verdict, Failure> {
    let mut left = limit.unwrap_or(u64::MAX);
    for (indicator, predicate) in state.kb().predicates() {
        for (_, fact) in predicate.facts_after(None) {
            let Some(less) = left.checked_sub(1) else { return Ok(Verdict::Yes) };
            left = less;
            let unread = |e: synod_core::cbor::Error| Failure::error(format!("{indicator}: {e}"));
            let term = Term::decode(&fact.bytes).map_err(unread)?;
            let mut text = String::new();
            write(&term, &mut text, WriteOptions::PRETTY);
            if out.is_json() {
                out.json(&json!({
                    "fact": text,
                    "predicate": indicator.to_string(),
                    "position": fact.id.to_string(),
                }))?;
            } else {
                // A full stop behind a symbol would be part of it.
                let gap = if text.ends_with(|c: char| "+-*/\\^<>=~:.?@#&$".contains(c)) {
                    " "
                } else {
                    ""
                };
                out.line(format_args!("{text}{gap}."))?;
            }
        }
    }
    Ok(Verdict::Yes)
}
