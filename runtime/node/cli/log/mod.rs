//! `synod log show|tail|export|import|verify`: what a space's log holds. From the node if one runs, else
//! straight from the data folder, which is only read.

mod export;
mod import;
mod show;
mod source;
mod tail;
mod verify;

use super::{Failure, Global, Verdict};
use clap::Subcommand;
pub(super) use source::{Source, chunks, past, path};

/// Show, follow, export, import and verify a space's log
#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    Show(show::Show),
    Tail(tail::Tail),
    Export(export::Export),
    Import(import::Import),
    Verify(verify::Verify),
}

impl Log {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        match self {
            Self::Show(show) => show.run(global).await,
            Self::Tail(tail) => tail.run(global).await,
            Self::Export(export) => export.run(global).await,
            Self::Import(import) => import.run(global).await,
            Self::Verify(verify) => verify.run(global),
        }
    }
}
