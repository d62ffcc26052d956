//! Real nodes in network namespaces, at work while they are killed, stopped, cut off and starved; then it
//! is held against what their clients were told.
//!
//! `CHAOS_SECONDS` says for how long (40), `CHAOS_SEED` with what numbers, `CHAOS_NODES` among how many.

mod clock;
mod linear;
mod nemesis;
mod net;
mod watch;
mod work;

use crate::support;
use crate::world::{Node, Over, World, ask, wait_for};
use clock::Clocks;
use nemesis::Nemesis;
use net::Net;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use watch::Watcher;
use work::{CLIENTS_PER_NODE, Client, History};

const TEST: &str = "chaos::nodes_keep_their_word_whatever_befalls_them";

/// The disk of the node whose disk is filled.
const DISK: &str = "size=256m,mode=0700";

/// In seconds.
const A_DAY: i64 = 24 * 3600;
/// Commands that a node is asked for at a time.
const PAGE: u64 = 500;

/// A node of the group, which may not be running.
pub(crate) struct Member {
    pub(crate) world: World,
    name: String,
    node: Mutex<Option<Node>>,
}

/// The nodes and what is between them.
pub(crate) struct Field {
    pub(crate) net: Net,
    pub(crate) members: Vec<Member>,
    pub(crate) clocks: Clocks,
}

impl Field {
    fn new(net: Net, clocks: Clocks, count: usize) -> Self {
        let member = |n: usize| Member {
            world: World::new(),
            name: format!("n{n}"),
            node: Mutex::new(None),
        };
        let field = Self { net, members: (0..count).map(member).collect(), clocks };
        for (n, member) in field.members.iter().enumerate() {
            // One is a day ahead from its beginning.
            let is_ahead = n + 1 == field.members.len();
            field.clocks.set(member.world.path(), if is_ahead { A_DAY } else { 0 });
        }
        field.mount("mount", &["-t", "tmpfs", "-o", DISK, "tmpfs"]);
        field
    }

    /// Where the last node's data are: a disk of its own, which can be full.
    pub(crate) fn small_disk(&self) -> &Path {
        &self.members[self.members.len() - 1].world.data
    }

    fn mount(&self, program: &str, flags: &[&str]) {
        let folder = self.small_disk();
        std::fs::create_dir_all(folder).unwrap();
        let done = std::process::Command::new(program).args(flags).arg(folder).status();
        assert!(done.unwrap().success(), "{program} {}", folder.display());
    }

    fn lock(&self, n: usize) -> std::sync::MutexGuard<'_, Option<Node>> {
        self.members[n].node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a node, if it does not run.
    pub(crate) fn start(&self, n: usize) {
        let mut node = self.lock(n);
        let is_there = node.as_ref().is_some_and(|node| crate::world::is_running(node.pid()));
        if is_there {
            return;
        }
        let member = &self.members[n];
        let mut command = self.net.inside(n, crate::world::SYNOD);
        command.args(["up", "--no-mdns", "--min-free", "16MiB", "--node", &member.name]);
        command.args(["--listen", &Net::address(n)]).env("SYNOD_DATA", &member.world.data);
        self.clocks.give(&mut command, member.world.path());
        command.stdin(std::process::Stdio::null());
        *node = Some(Node::start(command, &member.world.data));
    }

    pub(crate) fn kill(&self, n: usize) {
        if let Some(node) = self.lock(n).take() {
            node.kill();
        }
    }

    pub(crate) fn signal(&self, n: usize, signal: rustix::process::Signal) {
        if let Some(node) = &*self.lock(n) {
            crate::world::kill(node.pid(), signal);
        }
    }

    pub(crate) fn ask(&self, n: usize, path: &str, body: &Value) -> std::io::Result<(u16, Value)> {
        let method = if body.is_null() { "GET" } else { "POST" };
        ask(&self.members[n].world.data, method, path, body)
    }

    fn yes(&self, n: usize, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(n, path, body).unwrap();
        assert_eq!(status, 200, "n{n} {path} {body}: {answer}");
        answer
    }

    /// A space of all nodes, which all run the program.
    fn begin(&self) {
        (0..self.members.len()).for_each(|n| self.start(n));
        self.yes(0, "/v1/spaces", &json!({"name": "chaos"}));
        let ticket = self.yes(0, "/v1/spaces/tickets", &json!({}))["ticket"].clone();
        for n in 1..self.members.len() {
            self.yes(n, "/v1/spaces/join", &json!({ "ticket": ticket }));
        }
        let voters = self.members.len().min(3);
        wait_for("voters", || {
            let members = self.yes(0, "/v1/spaces/members", &Value::Null);
            let all = members["members"].as_array().unwrap();
            all.iter().filter(|member| member["part"] == "voter").count() == voters
        });
        for (n, member) in self.members.iter().enumerate() {
            let path = member.world.program("work.pl", work::PROGRAM);
            let options = json!({"max_time_ms": 60_000});
            let run = json!({"program": path, "name": "work", "keep": true, "options": options});
            self.yes(n, "/v1/run", &run);
        }
        self.yes(0, "/v1/transact", &json!({"goal": "begin", "agent": "work"}));
    }

    /// Waits until all nodes have applied the same, and holds their chains against each other.
    fn agree(&self) -> Vec<String> {
        let all = 0..self.members.len();
        wait_for("an answer of every node", || {
            let event = json!({"term": "e(0)"});
            all.clone().all(|n| self.ask(n, "/v1/broadcast", &event).is_ok_and(|(s, _)| s == 200))
        });
        let index = |n: usize| self.yes(n, "/v1/spaces/members", &Value::Null)["index"].as_u64();
        let mut agreed = None;
        wait_for("the same index everywhere", || {
            agreed = index(0);
            let is_handled = |n: usize| {
                let lag = &self.yes(n, "/v1/agents", &Value::Null)[0]["lag"];
                lag == 0
            };
            all.clone().all(|n| index(n) == agreed) && all.clone().any(is_handled)
        });
        let path = format!("/v1/log/place?at={}", agreed.unwrap_or(0));
        let chains: Vec<Value> = all.map(|n| self.yes(n, &path, &Value::Null)).collect();
        let differ = chains.iter().any(|chain| *chain != chains[0]);
        if differ { vec![format!("the chains differ: {chains:?}")] } else { Vec::new() }
    }
}

impl Field {
    /// Whether time goes back anywhere in the log, or never was what a clock says: then none was wrong.
    fn check_times(&self) -> Vec<String> {
        let last = self.yes(0, "/v1/spaces/members", &Value::Null)["index"].as_u64().unwrap();
        let (mut wrong, mut before) = (Vec::new(), 0);
        for from in (1..=last).step_by(PAGE as usize) {
            let to = last.min(from + PAGE - 1);
            let page = self.yes(0, &format!("/v1/log?from={from}&to={to}"), &Value::Null);
            for entry in page.as_array().unwrap() {
                let time = entry["micros"].as_u64().unwrap();
                if time < before {
                    wrong.push(format!("time goes back from {before} at {}", entry["index"]));
                }
                before = time;
            }
        }
        wrong
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|n| drop(self.lock(n).take()));
        self.mount("umount", &["--lazy"]);
    }
}

fn setting<T: FromStr<Err: Debug>>(name: &str, usual: T) -> T {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

#[test]
fn nodes_keep_their_word_whatever_befalls_them() {
    if !rustix::process::geteuid().is_root() {
        return support::skip(TEST, "only root may make network namespaces that stay");
    }
    let count: usize = setting("CHAOS_NODES", 3);
    let net = match Net::new(count) {
        Ok(net) => net,
        Err(why) => return support::skip(TEST, &why),
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed: u64 = setting("CHAOS_SEED", now.as_secs());
    let time = Duration::from_secs(setting("CHAOS_SECONDS", 40));
    eprintln!("CHAOS_SEED={seed} CHAOS_NODES={count} CHAOS_SECONDS={}", time.as_secs());
    let Some(clocks) = Clocks::new() else {
        return support::skip(TEST, "libfaketime is not installed: the clocks cannot be put wrong");
    };
    let field = Field::new(net, clocks, count);
    let history = History::default();
    field.begin();
    let from = field.yes(0, "/v1/spaces/members", &Value::Null)["index"].as_u64().unwrap();
    let over = AtomicBool::new(false);
    let mut watchers: Vec<Watcher> = std::thread::scope(|scope| {
        let watch = |n| {
            let (field, over) = (&field, &over);
            scope.spawn(move || Watcher::new(n, from).watch(field, over))
        };
        let watchers: Vec<_> = (0..count).map(watch).collect();
        for name in 0..count * CLIENTS_PER_NODE {
            let (field, history, over) = (&field, &history, &over);
            scope.spawn(move || Client::new(field, name, seed).work(history, over));
        }
        let is_over = Over(&over);
        let mut nemesis = Nemesis::new(&field, seed);
        let until = Instant::now() + time;
        while Instant::now() < until {
            let what = nemesis.strike();
            eprintln!("{what}");
            history.note(what);
        }
        drop(is_over);
        watchers.into_iter().map(|watcher| watcher.join().unwrap()).collect()
    });
    history.note("healed".to_owned());
    let mut wrong = field.agree();
    wrong.extend(field.check_times());
    for n in 0..count {
        wrong.extend(history.check(n, |goal| {
            let goal = json!({"goal": goal, "agent": "work"});
            let answer = field.yes(n, "/v1/query", &goal);
            answer["answers"][0]["text"].as_str().unwrap_or_default().to_owned()
        }));
    }
    wrong.extend(history.check_register());
    // Seen last by all who watch, behind everything else.
    field.yes(0, "/v1/transact", &json!({"goal": "last", "agent": "work"}));
    for watcher in &mut watchers {
        wrong.extend(watcher.until(&field, work::LAST));
        eprintln!("{}", watcher.summary());
    }
    wrong.extend(watchers.windows(2).filter_map(|two| two[0].differs(&two[1])));
    eprintln!("{}", history.summary());
    if !wrong.is_empty() {
        let path = std::env::temp_dir().join(format!("synod-chaos-{seed}.txt"));
        std::fs::write(&path, history.text()).unwrap();
        panic!("CHAOS_SEED={seed}; history in {}:\n{}", path.display(), wrong.join("\n"));
    }
}
