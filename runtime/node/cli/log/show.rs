//! `synod log show`

use super::super::client::Events;
use super::super::progress::Progress;
use super::super::space::SpaceArg;
use super::super::{Failure, Global, Out, Verdict};
use super::source::{FilterArgs, Source, SpanArgs, past, path};
use clap::Args;
use synod::api::LogEntry;
use synod::past::Told;

/// Print the commands of a space's log, one a line
#[derive(Debug, Args)]
#[command(after_help = "\
Each line has the time, the index, who, and what was done: +fact was asserted, -fact retracted, !event \
emitted. Exits 1 if no command is as wanted. Works with a node and without one.")]
pub(crate) struct Show {
    #[command(flatten)]
    space: SpaceArg,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    span: SpanArgs,
}

impl Show {
    pub(super) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let (span, filter) = (self.span.span(), self.filter.filter());
        let mut out = global.out();
        let mut verdict = Verdict::No;
        let mut progress = Progress::new("looking");
        match Source::find(global, &self.space).await? {
            Source::Node(client) => {
                let path = path(&self.space, &span, &filter, false);
                let mut events: Events<LogEntry> = client.get_events(&path).await?;
                while let Some(entry) = events.next().await? {
                    verdict = Verdict::Yes;
                    print(&mut out, &entry)?;
                }
            }
            Source::Folder(folder) => {
                let failed = |e: synod::past::PastError| Failure::error(e.to_string());
                let mut told = Told::open(&past(&folder)?, span, filter).map_err(failed)?;
                while let Some(entry) = told.next_entry().map_err(failed)? {
                    verdict = Verdict::Yes;
                    progress.clear();
                    print(&mut out, &entry)?;
                    progress.at(told.index());
                }
                told.must_have_begun().map_err(failed)?;
            }
        }
        Ok(verdict)
    }
}

/// One command.
pub(super) fn print(out: &mut Out, entry: &LogEntry) -> Result<(), Failure> {
    if out.is_json() { out.json(entry) } else { out.line(entry.line()) }
}
