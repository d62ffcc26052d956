//! `synod down`

use super::client::{CallError, Client};
use super::{Failure, Global, Verdict};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;
use synod::api::Status;

/// How long a node may take to end after it has closed its log.
const EXIT_S: i64 = 30;

/// Asks the node to stop, and returns when its process has ended: the folder is free then.
pub(crate) async fn run(global: &Global) -> Result<Verdict, Failure> {
    let data = global.data()?;
    let client = Client::new(&data);
    let Status { pid, .. } = client.get("/v1/status").await?;
    // Opened first: a number can be another process's by the time that the node has ended.
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    match client.post::<Value>("/v1/shutdown", &Value::Null).await {
        // It may have ended before its answer was out.
        Ok(_) | Err(CallError::Lost(_)) => {}
        Err(error) => return Err(error.into()),
    }
    match process {
        Some(process) if !has_ended(&process) => Err(Failure::error(format!(
            "process {pid} has been asked to stop and still runs after {EXIT_S} s"
        ))),
        Some(_) => Ok(Verdict::Yes),
        // Seen from another process namespace it has no number to wait for; its socket is gone.
        None if client.is_up().await? => Err(Failure::error("the node still runs".to_owned())),
        None => Ok(Verdict::Yes),
    }
}

fn has_ended(process: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    let timeout = Timespec { tv_sec: EXIT_S, tv_nsec: 0 };
    matches!(poll(&mut polled, Some(&timeout)), Ok(1..))
}
