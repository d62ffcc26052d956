//! `synod log verify`

use super::{Failure, Global, Verdict};
use crate::cli::say::say;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use synod::verify::{Verified, verify};

/// Look at the logs on disk
#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    Verify(Verify),
}

/// Check that the logs on disk are what was written; needs no node
#[derive(Debug, Args)]
#[command(after_help = "Exits 0 if all is whole, 1 if something is damaged, which it names.")]
pub(crate) struct Verify {
    /// A space's folder [default: all spaces of the data folder]
    path: Option<PathBuf>,
}

impl Log {
    pub(crate) fn run(self, global: &Global) -> Result<Verdict, Failure> {
        match self {
            Self::Verify(verify) => verify.run(global),
        }
    }
}

impl Verify {
    fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let folders = match self.path {
            Some(path) => vec![path],
            None => spaces(global)?,
        };
        let mut out = global.out();
        let mut verdict = Verdict::Yes;
        for folder in folders {
            match verify(&folder) {
                Ok(verified) if out.is_json() => out.json(&verified)?,
                Ok(verified) => print(&mut out, &verified)?,
                Err(wrong) => {
                    say(format_args!("synod: {wrong}"));
                    verdict = Verdict::No;
                }
            }
        }
        Ok(verdict)
    }
}

fn spaces(global: &Global) -> Result<Vec<PathBuf>, Failure> {
    let root = global.data()?.join("spaces");
    let read = std::fs::read_dir(&root).map_err(|e| {
        Failure::error(format!("{}: {e}; say which data folder with --data", root.display()))
    })?;
    let mut folders: Vec<_> = read.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    if folders.is_empty() {
        return Err(Failure::error(format!("{} holds no space", root.display())));
    }
    Ok(folders)
}

fn print(out: &mut super::Out, verified: &Verified) -> Result<(), Failure> {
    let Verified { space, entries, commands, chain, snapshots, closed, torn, .. } = verified;
    out.line(format!(
        "{space}: whole; index {commands}, {entries} entries, {} snapshots, chain {chain}",
        snapshots.len()
    ))?;
    match torn {
        Some(torn) => out.line(format!(
            "{space}: {torn}, as a crash leaves them: the next start cuts them off. If nothing has \
             crashed, the end of the log was damaged"
        )),
        None if *closed => Ok(()),
        None => out.line(format!("{space}: not closed in order: a node runs on it, or was killed")),
    }
}
