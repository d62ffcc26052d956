//! `synod log tail`

use super::super::client::{Client, Events};
use super::super::foreground::Signals;
use super::super::space::SpaceArg;
use super::super::{Failure, Global, Verdict};
use super::show::print;
use super::source::{FilterArgs, path};
use clap::Args;
use synod::api::LogEntry;
use synod::past::Span;

/// Print commands as they come, until Ctrl-C
#[derive(Debug, Args)]
#[command(after_help = "\
Whoever has seen index I goes on with --from I+1 and misses nothing.")]
pub(crate) struct Tail {
    #[command(flatten)]
    space: SpaceArg,
    #[command(flatten)]
    filter: FilterArgs,
    /// Begin with this index [default: what comes next]
    #[arg(long, env = "SYNOD_FROM", value_name = "INDEX", hide_env = true)]
    from: Option<u64>,
}

impl Tail {
    pub(super) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let mut signals = Signals::new()?;
        let client = Client::new(&global.data()?);
        let span = Span { from: self.from, ..Span::default() };
        let path = path(&self.space, &span, &self.filter.filter(), true);
        let mut out = global.out();
        let follow = async {
            let mut events: Events<LogEntry> = client.get_events(&path).await?;
            while let Some(entry) = events.next().await? {
                print(&mut out, &entry)?;
            }
            Ok(Verdict::Yes)
        };
        tokio::select! {
            ended = follow => ended,
            () = signals.next() => Ok(Verdict::Yes),
        }
    }
}
