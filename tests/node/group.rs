//! Several nodes that share a space, as processes on loopback.

use crate::world::{LOOK, Node, World, wait_for};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// How long the group may take to go on when one of it has gone.
pub(crate) const PROMISED: Duration = Duration::from_secs(2);
/// The space.
pub(crate) const SPACE: &str = "shared";

/// A place in the group: a data folder, a name and a port, and the node while it runs.
pub(crate) struct Place {
    pub(crate) world: World,
    pub(crate) name: &'static str,
    address: String,
    running: Option<Node>,
}

impl Place {
    pub(crate) fn new(name: &'static str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("/ip4/127.0.0.1/tcp/{port}");
        Self { world: World::on_loopback(), name, address, running: None }
    }

    /// The flags of its node.
    pub(crate) fn flags(&self) -> [&str; 5] {
        ["--node", self.name, "--no-mdns", "--listen", &self.address]
    }

    /// Where its node listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn start(&mut self) -> &Node {
        let node = self.world.up(&self.flags());
        self.running.insert(node)
    }

    /// Its node as the command that runs a program.
    pub(crate) fn start_with(&mut self, run: &[&str]) {
        let mut command = self.world.command(["run"]);
        command.args(run).args(self.flags());
        self.running = Some(Node::run_with(command, &self.world.data));
    }

    pub(crate) fn node(&self) -> &Node {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn node_mut(&mut self) -> &mut Node {
        self.running.as_mut().unwrap()
    }

    pub(crate) fn kill(&mut self) {
        self.running.take().unwrap().kill();
    }

    pub(crate) fn down(&mut self) {
        self.running.take().unwrap().down();
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn members(&self) -> Value {
        self.node().get("/v1/spaces/members?space=shared")
    }

    /// Joins with a ticket; says how that ended.
    pub(crate) fn join(&self, ticket: &str) -> (u16, Value) {
        self.node().ask("POST", "/v1/spaces/join", &json!({ "ticket": ticket })).unwrap()
    }

    /// A member's part in the space, by its name.
    pub(crate) fn part(&self, name: &str) -> Option<String> {
        let members = self.members();
        let found = members["members"].as_array()?.iter().find(|member| member["node"] == name)?;
        found["part"].as_str().map(str::to_owned)
    }

    pub(crate) fn try_broadcast(&self, term: &str) -> (u16, Value) {
        self.node().ask("POST", "/v1/broadcast", &json!({ "term": term })).unwrap()
    }

    /// Runs a program under a name, and again whenever the node starts.
    pub(crate) fn run(&self, name: &str, program: &str) -> (u16, Value) {
        let path = self.world.program(&format!("{name}.pl"), program);
        let options = json!({"max_time_ms": 60_000});
        let run = json!({"program": path, "name": name, "keep": true, "options": options});
        self.node().ask("POST", "/v1/run", &run).unwrap()
    }
}

/// Nodes, the first of which has founded the space.
pub(crate) struct Group {
    pub(crate) places: Vec<Place>,
}

impl Group {
    /// A space of three voters.
    pub(crate) fn of_three() -> Self {
        let mut places = ["alpha", "beta", "gamma"].map(Place::new);
        places[0].start().post("/v1/spaces", &json!({ "name": SPACE }));
        let ticket = ticket(&places[0], json!({}));
        for place in &mut places[1..] {
            place.start();
            let (status, answer) = place.join(&ticket);
            assert_eq!(status, 200, "{answer}");
        }
        let group = Self { places: places.into() };
        group.wait_voters(3);
        group
    }

    /// As above, with a program that all of them run.
    pub(crate) fn of_three_with(name: &str, program: &str) -> Self {
        let group = Self::of_three();
        for place in &group.places {
            let (status, answer) = place.run(name, program);
            assert_eq!(status, 200, "{answer}");
        }
        group
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| place.is_running())
    }

    /// Waits until every node that runs knows so many voters, and who leads.
    pub(crate) fn wait_voters(&self, count: usize) {
        wait_for("voters", || {
            self.running().all(|place| {
                let members = place.members();
                let all = members["members"].as_array().unwrap();
                let voters = all.iter().filter(|member| member["part"] == "voter").count();
                voters == count && members["leader"].is_u64()
            })
        });
    }

    /// Which of the nodes leads, as one of those that run knows.
    pub(crate) fn leader(&self) -> usize {
        let mut found = None;
        wait_for("a leader", || {
            found = self
                .places
                .iter()
                .position(|place| place.is_running() && place.members()["role"] == "leader");
            found.is_some()
        });
        found.unwrap()
    }

    /// Which of the nodes runs an agent.
    pub(crate) fn holder(&self, agent: &str) -> usize {
        let mut found = None;
        wait_for("a holder", || {
            found = self.places.iter().position(|place| {
                place.is_running() && place.node().agent_if_any(agent)["state"] == "running"
            });
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits until all nodes that run have applied the same, and have the same chain there.
    pub(crate) fn wait_agree(&self) {
        let index = |place: &Place| place.members()["index"].as_u64().unwrap();
        let mut agreed = 0;
        wait_for("the nodes to have applied the same", || {
            let mut all = self.running().map(index);
            agreed = all.next().unwrap();
            all.all(|other| other == agreed)
        });
        let path = format!("/v1/log/place?space={SPACE}&at={agreed}");
        let chains: Vec<Value> = self.running().map(|at| at.node().get(&path)).collect();
        assert!(chains.iter().all(|chain| *chain == chains[0]), "{chains:?}");
    }
}

/// A ticket of the space.
pub(crate) fn ticket(place: &Place, request: Value) -> String {
    let made = place.node().post("/v1/spaces/tickets?space=shared", &request);
    made["ticket"].as_str().unwrap().to_owned()
}

/// Waits for a condition, and gives the time since `since`.
pub(crate) fn time_until(since: Instant, what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    wait_for(what, || {
        let so = is_so();
        if !so {
            std::thread::sleep(LOOK);
        }
        so
    });
    since.elapsed()
}
