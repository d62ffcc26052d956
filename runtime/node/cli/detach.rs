//! A node in the background: this program again, in a session of its own, with `DATA/node.log` for
//! its stderr.

use super::Failure;
use super::foreground::NodeArgs;
use super::user::User;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// The log's name in the data folder.
const LOG_NAME: &str = "node.log";

/// Starts a node and returns the line that it prints when it can be spoken to.
pub(crate) fn start(
    data: &Path,
    node: &NodeArgs,
    user: Option<&User>,
    verbose: u8,
) -> Result<String, Failure> {
    let at =
        |path: &Path, error: std::io::Error| Failure::error(format!("{}: {error}", path.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|e| at(data, e))?;
    let log_path = data.join(LOG_NAME);
    let log = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(&log_path);
    let mut log = log.map_err(|error| at(&log_path, error))?;
    if let Some(user) = user {
        user.give(&log_path).map_err(|error| at(&log_path, error))?;
    }
    let begins = log.seek(SeekFrom::End(0)).map_err(|error| at(&log_path, error))?;
    let executable = std::env::current_exe()
        .map_err(|error| Failure::error(format!("this program's own path: {error}")))?;
    let mut child = Command::new(&executable)
        .args(["up", "--in-background", "--data"])
        .arg(data)
        .args(node.to_args())
        .args(std::iter::repeat_n("-v", verbose.into()))
        .env_remove("SYNOD_DETACH")
        .env_remove("SYNOD_JSON")
        .env_remove("SYNOD_VERBOSE")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.try_clone().map_err(|error| at(&log_path, error))?)
        .spawn()
        .map_err(|error| at(&executable, error))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.is_empty() {
        drop(child.wait());
        return Err(Failure::error(last_words(&mut log, begins).unwrap_or_else(|| {
            format!("the node ended before it could be spoken to; see {}", log_path.display())
        })));
    }
    Ok(line.trim_end().to_owned())
}

/// Puts this process into a session of its own: it is not ended with the terminal it came from.
pub(crate) fn leave_terminal() -> Result<(), Failure> {
    rustix::process::setsid()
        .map(drop)
        .map_err(|error| Failure::error(format!("a session of its own: {error}")))
}

/// The last error in the log from this place on.
fn last_words(log: &mut File, begins: u64) -> Option<String> {
    log.seek(SeekFrom::Start(begins)).ok()?;
    let mut said = String::new();
    log.read_to_string(&mut said).ok()?;
    said.lines().rev().find_map(|line| line.strip_prefix("synod: ")).map(str::to_owned)
}
