//! A node as its users have it: the real program on a data folder of its own, and what they send it.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long anything may take before the test gives it up. The machine is shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at that nothing announces.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// The program under test.
pub(crate) const SYNOD: &str = env!("CARGO_BIN_EXE_synod");

/// A folder with a node's data and the programs of a test.
pub(crate) struct World {
    folder: tempfile::TempDir,
    /// The data folder.
    pub(crate) data: PathBuf,
    is_on_loopback: bool,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit status; -1 if a signal ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Self { folder, data, is_on_loopback: false }
    }

    /// The same, for nodes that meet others: on this machine, and nowhere else.
    pub(crate) fn on_loopback() -> Self {
        Self { is_on_loopback: true, ..Self::new() }
    }

    /// Where the test's own files are.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a program; gives its path.
    pub(crate) fn program(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A command of the program on this data folder.
    pub(crate) fn command<A: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(SYNOD);
        command.args(args).env("SYNOD_DATA", &self.data).stdin(Stdio::null());
        command.env("SYNOD_NO_MDNS", "true");
        if self.is_on_loopback {
            command.env("SYNOD_LISTEN", "/ip4/127.0.0.1/tcp/0");
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub(crate) fn yes<A: AsRef<std::ffi::OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
    ) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.stdout
    }

    /// A node, once it can be spoken to.
    pub(crate) fn up(&self, args: &[&str]) -> Node {
        let mut command = self.command(["up"]);
        command.args(args);
        Node::start(command, &self.data)
    }

    /// A node that gives an agent its program to run, once the agent has been started.
    pub(crate) fn up_with(&self, name: &str, program: &str) -> Node {
        let node = self.up(&[]);
        let path = self.program(&format!("{name}.pl"), program);
        // Loading counts, and this machine is busy.
        node.run_agent(&path, name, json!({"max_time_ms": 60_000}));
        node
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// A running process of ours and the lines that it prints. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    lines: Mutex<Receiver<String>>,
    /// All that was read.
    pub(crate) seen: Vec<String>,
}

impl Process {
    /// Starts a command and follows its stdout; its stderr too, if `with_stderr`.
    pub(crate) fn start(mut command: Command, with_stderr: bool) -> Self {
        let stderr = if with_stderr { Stdio::piped() } else { Stdio::inherit() };
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let (sender, lines) = channel();
        let follow = |stream: Box<dyn Read + Send>| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n') {
                    let Ok(line) = line else { return };
                    let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
                }
            });
        };
        follow(Box::new(child.stdout.take().unwrap()));
        if let Some(stderr) = child.stderr.take() {
            follow(Box::new(stderr));
        }
        Self { child, lines: Mutex::new(lines), seen: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line.
    pub(crate) fn line(&mut self) -> String {
        match self.lines.get_mut().unwrap().recv_timeout(PATIENCE) {
            Ok(line) => {
                self.seen.push(line.clone());
                line
            }
            Err(RecvTimeoutError::Timeout) => panic!("no further line behind {:#?}", self.seen),
            Err(RecvTimeoutError::Disconnected) => panic!("it ended behind {:#?}", self.seen),
        }
    }

    /// Reads lines until one holds this text.
    pub(crate) fn until(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        kill(self.pid(), signal);
    }

    /// Waits for its end; gives its status.
    pub(crate) fn wait(&mut self) -> i32 {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(started.elapsed() < PATIENCE, "it does not end; it said {:#?}", self.rest());
            std::thread::sleep(LOOK);
        }
    }

    /// What it has printed and was not read yet.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        self.seen.extend(self.lines.get_mut().unwrap().try_iter());
        self.seen.clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends a signal to a process that may have ended. One that is to stand still does so from here on: on a busy machine
/// it takes a while until each of its threads hears of it.
pub(crate) fn kill(pid: u32, signal: rustix::process::Signal) {
    let process = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(process, signal);
    if signal == rustix::process::Signal::STOP {
        wait_for("a process to stand still", || stands_still(pid));
    }
}

/// Whether none of a process's threads runs, or there is no such process.
fn stands_still(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // After the name, which is in brackets and may hold anything.
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state.is_none_or(|state| "TtZX".contains(state))
    })
}

/// A running node. Dropping it kills it; its engines end with it.
pub(crate) struct Node {
    process: Process,
    data: PathBuf,
}

impl Node {
    pub(crate) fn start(command: Command, data: &Path) -> Self {
        let mut process = Process::start(command, false);
        process.until("listening on");
        Self { process, data: data.to_owned() }
    }

    /// One that a program is run with, which prints what its agent does.
    pub(crate) fn run_with(command: Command, data: &Path) -> Self {
        let mut process = Process::start(command, true);
        process.until("listening on");
        Self { process, data: data.to_owned() }
    }

    /// Waits until it prints this.
    pub(crate) fn prints(&mut self, text: &str) {
        self.process.until(text);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// kill -9, and the end of all of its engines is waited for, and that of what holds its privileges.
    pub(crate) fn kill(mut self) {
        let mut children = children(self.pid());
        children.extend(monitor(self.pid()));
        self.process.signal(rustix::process::Signal::KILL);
        assert_eq!(self.process.wait(), -1);
        wait_for("the engines to end", || children.iter().all(|pid| !is_running(*pid)));
    }

    /// kill -9, and none of its children is waited for.
    pub(crate) fn die(mut self) {
        self.process.signal(rustix::process::Signal::KILL);
        assert_eq!(self.process.wait(), -1);
    }

    /// As [`Self::kill`], and what holds its privileges is killed first: nobody takes anything out of the kernel.
    pub(crate) fn kill_with_monitor(self) {
        self.process.signal(rustix::process::Signal::STOP);
        if let Some(monitor) = monitor(self.pid()) {
            kill(monitor, rustix::process::Signal::KILL);
        }
        self.kill();
    }

    /// Asks it to go down, and waits.
    pub(crate) fn down(mut self) {
        self.process.signal(rustix::process::Signal::TERM);
        assert_eq!(self.process.wait(), 0);
    }

    /// A request; gives its status and body.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> std::io::Result<(u16, Value)> {
        ask(&self.data, method, path, body)
    }

    /// A request that must succeed.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask("POST", path, body).unwrap();
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, &Value::Null).unwrap();
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Runs an agent that is not kept.
    pub(crate) fn run_agent(&self, program: &str, name: &str, options: Value) -> Value {
        self.post("/v1/run", &json!({"program": program, "name": name, "options": options}))
    }

    pub(crate) fn broadcast(&self, term: &str) -> u64 {
        let answer = self.post("/v1/broadcast", &json!({ "term": term }));
        answer["index"].as_u64().unwrap_or_else(|| panic!("{answer}"))
    }

    /// The texts of a goal's answers.
    pub(crate) fn query(&self, agent: &str, goal: &str) -> Vec<String> {
        let answer = self.post("/v1/query", &json!({"goal": goal, "agent": agent}));
        let text = |answer: &Value| answer["text"].as_str().unwrap().to_owned();
        answer["answers"].as_array().unwrap().iter().map(text).collect()
    }

    /// The agent as `agent list` shows it.
    pub(crate) fn agent(&self, name: &str) -> Value {
        let agent = self.agent_if_any(name);
        assert!(!agent.is_null(), "there is no agent {name}");
        agent
    }

    /// The agent, if it has been started yet.
    pub(crate) fn agent_if_any(&self, name: &str) -> Value {
        let agents = self.get("/v1/agents");
        agents.as_array().unwrap().iter().find(|a| a["name"] == name).cloned().unwrap_or_default()
    }

    /// Waits until a goal has an answer.
    pub(crate) fn wait_query(&self, agent: &str, goal: &str) -> Vec<String> {
        let mut answers = Vec::new();
        wait_for(goal, || {
            answers = self.query(agent, goal);
            !answers.is_empty()
        });
        answers
    }

    /// Waits until an agent is as it should be.
    pub(crate) fn wait_agent(&self, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let agent = self.agent_if_any(name);
            if !agent.is_null() && is_so(&agent) {
                return agent;
            }
            assert!(started.elapsed() < PATIENCE, "it stays {agent}\n{:#?}", self.log(name));
            std::thread::sleep(LOOK);
        }
    }

    /// The lines of an agent's log: `LEVEL TEXT`.
    pub(crate) fn log(&self, name: &str) -> Vec<String> {
        let lines = self.get(&format!("/v1/agents/{name}/logs?tail=1000"));
        let line = |line: &Value| {
            format!("{} {}", line["level"].as_str().unwrap(), line["text"].as_str().unwrap())
        };
        lines.as_array().unwrap().iter().map(line).collect()
    }

    pub(crate) fn letters(&self, name: &str) -> Vec<Value> {
        self.get(&format!("/v1/agents/{name}/letters")).as_array().unwrap().clone()
    }
}

/// A request to the node of a data folder.
pub(crate) fn ask(
    data: &Path,
    method: &str,
    path: &str,
    body: &Value,
) -> std::io::Result<(u16, Value)> {
    let mut socket = UnixStream::connect(data.join("control.sock"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: synod\r\nConnection: close\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes())?;
    socket.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    let broken = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(broken)?, serde_json::from_str(body).map_err(|_| broken())?))
}

/// Says that it is over when it is dropped, so that a test that fails stops what goes on beside it.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits for a condition that nothing announces.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(LOOK);
    }
}

/// The engines that a node has started and that run.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    all_children(pid).into_iter().filter(|pid| !is_monitor(*pid)).collect()
}

/// What holds a node's privileges, if it was started with some.
pub(crate) fn monitor(pid: u32) -> Option<u32> {
    all_children(pid).into_iter().find(|pid| is_monitor(*pid))
}

fn is_monitor(pid: u32) -> bool {
    let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    command.starts_with("synod:")
}

fn all_children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return found };
    for task in tasks.flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    found
}

/// Whether a process is there and has not ended.
pub(crate) fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start().chars().next();
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}
