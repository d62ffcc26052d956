//! `synod log verify`

use super::super::progress::Progress;
use super::super::{Failure, Global, Out, Verdict};
use super::source::spaces;
use crate::cli::say::say;
use clap::Args;
use std::fs::File;
use std::path::{Path, PathBuf};
use synod::verify::{SignedBy, Verified, VerifiedExport, verify, verify_export};

/// Check that the logs on disk, or an export, are what was written; needs no node
#[derive(Debug, Args)]
#[command(after_help = "\
Exits 0 if all is whole, 1 if something is damaged, which it names by its index and its place. An export \
is whole if nothing in it was changed, moved, left out or cut off; how far voters have signed it, and who, \
is said too: without that, whoever wrote it could have made it up.")]
pub(crate) struct Verify {
    /// A space's folder or an export [default: all spaces of the data folder]
    path: Option<PathBuf>,
}

impl Verify {
    pub(super) fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let mut out = global.out();
        if let Some(path) = self.path.as_ref().filter(|path| !path.is_dir()) {
            return of_export(path, &mut out);
        }
        let folders = match self.path {
            Some(path) => vec![path],
            None => spaces(&global.data()?)?,
        };
        let mut verdict = Verdict::Yes;
        for folder in folders {
            match verify(&folder) {
                Ok(verified) if out.is_json() => out.json(&verified)?,
                Ok(verified) => print(&mut out, &verified)?,
                Err(wrong) => {
                    let space = folder.file_name().unwrap_or(folder.as_os_str()).display();
                    say(format_args!("synod: space {space}: {wrong}"));
                    verdict = Verdict::No;
                }
            }
        }
        Ok(verdict)
    }
}

fn of_export(path: &Path, out: &mut Out) -> Result<Verdict, Failure> {
    let file = File::open(path).map_err(|e| Failure::error(format!("{}: {e}", path.display())))?;
    let mut progress = Progress::new("verifying");
    let verified = verify_export(file, |index| progress.at(index));
    progress.clear();
    let verified = match verified {
        Ok(verified) => verified,
        Err(wrong) => {
            say(format_args!("synod: {}: {wrong}", path.display()));
            return Ok(Verdict::No);
        }
    };
    if out.is_json() {
        out.json(&verified)?;
        return Ok(Verdict::Yes);
    }
    let VerifiedExport { space, first, last, chain, signed, forged, .. } = verified;
    let file = path.display();
    if let Some(forged) = forged {
        say(format_args!(
            "synod: {file}: {forged}: it was changed by somebody who has not the voters' keys"
        ));
        return Ok(Verdict::No);
    }
    let signed = of_signatures(signed.as_ref(), last);
    out.line(format_args!(
        "{file}: whole; {space}, index {first} to {last}, chain {chain}; {signed}"
    ))?;
    Ok(Verdict::Yes)
}

/// How far voters have signed a log that goes on to `last`.
fn of_signatures(signed: Option<&SignedBy>, last: u64) -> String {
    let Some(SignedBy { index, by, are_voters, .. }) = signed else {
        return "the end is not signed".to_owned();
    };
    let mut said = format!("signed up to index {index} by {}", by.join(", "));
    if !are_voters {
        said += " (whether they were voters is told by what is left out before)";
    }
    match last - index {
        0 => said,
        1 => said + "; the command behind that is not",
        behind => said + &format!("; the {behind} commands behind that are not"),
    }
}

fn print(out: &mut Out, verified: &Verified) -> Result<(), Failure> {
    let Verified { space, entries, commands, chain, snapshots, signed, closed, torn, .. } =
        verified;
    out.line(format!(
        "{space}: whole; index {commands}, {entries} entries, {} snapshots, chain {chain}; {}",
        snapshots.len(),
        of_signatures(signed.as_ref(), *commands)
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
