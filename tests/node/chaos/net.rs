//! Network namespaces, joined by a bridge in one more: what nodes run in, and how they are cut apart.
//! No netem here: a packet is lost by a class of packets that no queue takes, one way is cut by a route
//! into nowhere.

use std::process::{Command, Stdio};

/// The port on which every node listens.
const PORT: u16 = 4001;

/// Namespaces; dropped, they are gone.
pub(crate) struct Net {
    prefix: String,
    count: usize,
}

impl Net {
    /// Makes as many as there are nodes; none, and why, where the machine does not let us.
    pub(crate) fn new(count: usize) -> Result<Self, String> {
        let net = Self { prefix: format!("syn{}", std::process::id() % 100_000), count };
        net.make()?;
        Ok(net)
    }

    fn make(&self) -> Result<(), String> {
        let hub = format!("{}h", self.prefix);
        run(&["netns", "add", &hub])?;
        run(&["-n", &hub, "link", "add", "br0", "type", "bridge"])?;
        run(&["-n", &hub, "link", "set", "br0", "up"])?;
        for n in 0..self.count {
            let (space, port) = (self.namespace(n), format!("p{n}"));
            run(&["netns", "add", &space])?;
            run(&["-n", &space, "link", "set", "lo", "up"])?;
            let peer = ["type", "veth", "peer", "name", "eth", "netns", &space];
            run(&[&["-n", &hub, "link", "add", &port][..], &peer].concat())?;
            run(&["-n", &hub, "link", "set", &port, "master", "br0", "up"])?;
            run(&["-n", &space, "addr", "add", &format!("{}/24", ip(n)), "dev", "eth"])?;
            run(&["-n", &space, "link", "set", "eth", "up"])?;
        }
        self.tc(0, "qdisc add dev eth root handle 1: htb default 1")?;
        self.tc(0, "qdisc del dev eth root")
    }

    pub(crate) fn namespace(&self, n: usize) -> String {
        format!("{}n{n}", self.prefix)
    }

    /// Where a node listens.
    pub(crate) fn address(n: usize) -> String {
        format!("/ip4/{}/tcp/{PORT}", ip(n))
    }

    /// A command as it runs in a node's namespace.
    pub(crate) fn inside(&self, n: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(n), program]);
        command
    }

    /// Nothing goes from one node to another any more; the other way is open.
    pub(crate) fn cut(&self, from: usize, to: usize) {
        let _ = run(&["-n", &self.namespace(from), "route", "replace", "blackhole", &ip(to)]);
    }

    /// Loses one of `of` packets that a node sends, by their IP identification.
    pub(crate) fn lose(&self, from: usize, of: u16) -> Result<(), String> {
        debug_assert!(of.is_power_of_two());
        self.tc(from, "qdisc replace dev eth root handle 1: htb default 1 r2q 1000")?;
        self.tc(from, "class replace dev eth parent 1: classid 1:1 htb rate 1gbit")?;
        self.tc(from, "class replace dev eth parent 1: classid 1:2 htb rate 1gbit")?;
        self.tc(from, "qdisc replace dev eth parent 1:2 handle 2: bfifo limit 1")?;
        let chosen = format!("match u16 0x0001 0x{:04x} at 4 flowid 1:2", of - 1);
        self.tc(from, &format!("filter replace dev eth parent 1: protocol ip prio 1 u32 {chosen}"))
    }

    /// Whole again.
    pub(crate) fn heal(&self) {
        for n in 0..self.count {
            for other in (0..self.count).filter(|other| *other != n) {
                let _ = run(&["-n", &self.namespace(n), "route", "del", "blackhole", &ip(other)]);
            }
            let _ = self.tc(n, "qdisc del dev eth root");
        }
    }

    fn tc(&self, n: usize, arguments: &str) -> Result<(), String> {
        let space = self.namespace(n);
        let mut all = vec!["netns", "exec", &space, "tc"];
        all.extend(arguments.split(' '));
        run(&all)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for n in 0..self.count {
            let _ = run(&["netns", "del", &self.namespace(n)]);
        }
        let _ = run(&["netns", "del", &format!("{}h", self.prefix)]);
    }
}

fn ip(n: usize) -> String {
    format!("10.77.0.{}", n + 1)
}

fn run(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("`ip` cannot be run: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("`ip {}`: {why}", arguments.join(" ")))
        }
    }
}
