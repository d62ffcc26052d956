//! `synod completions SHELL` and `synod man [DIR]`: what other programs are told of this one's verbs,
//! from the same description that its arguments are read by.

use super::{Failure, Verdict, command};
use clap::Args;
use clap_complete::Shell;
use std::io::{Write, stdout};
use std::path::PathBuf;

/// Print a shell's completion script
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

/// Print this program's manual page, or write those of all verbs to a folder
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The folder; it is made if it is not there
    dir: Option<PathBuf>,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<Verdict, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "synod", &mut script);
        print(&script)
    }
}

impl Man {
    pub(crate) fn run(&self) -> Result<Verdict, Failure> {
        let Some(dir) = &self.dir else {
            let mut page = Vec::new();
            clap_mangen::Man::new(command()).render(&mut page)?;
            return print(&page);
        };
        let written =
            std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(command(), dir));
        written.map_err(|error| Failure::error(format!("{}: {error}", dir.display())))?;
        Ok(Verdict::Yes)
    }
}

fn print(bytes: &[u8]) -> Result<Verdict, Failure> {
    let mut stdout = stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(Verdict::Yes)
}
