//! Hosts on networks of their own, with a router between them that forwards no multicast: each is a network
//! namespace, made here and gone when this is dropped.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The hosts and their router.
pub(crate) struct Sites {
    prefix: String,
    count: usize,
    is_lan: bool,
}

impl Sites {
    /// Makes as many hosts; none, and why, where the machine does not let us. All of them have the
    /// address 172.21.0.2 besides, on a cable that leads nowhere.
    pub(crate) fn new(count: usize) -> Result<Self, String> {
        Self::make(count, false)
    }

    /// Hosts on one network.
    pub(crate) fn lan(count: usize) -> Result<Self, String> {
        Self::make(count, true)
    }

    fn make(count: usize, is_lan: bool) -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let made = MADE.fetch_add(1, Ordering::Relaxed);
        let sites =
            Self { prefix: format!("syt{}x{made}", std::process::id() % 100_000), count, is_lan };
        let router = sites.router();
        ip(&format!("netns add {router}"))?;
        if is_lan {
            ip(&format!("-n {router} link add br0 type bridge mcast_snooping 0"))?;
            ip(&format!("-n {router} addr add 10.78.0.1/24 dev br0"))?;
            ip(&format!("-n {router} link set br0 up"))?;
        }
        for n in 0..count {
            let host = sites.host(n);
            ip(&format!("netns add {host}"))?;
            ip(&format!("-n {host} link set lo up"))?;
            ip(&format!("-n {router} link add r{n} type veth peer name eth netns {host}"))?;
            match is_lan {
                true => ip(&format!("-n {router} link set r{n} master br0"))?,
                false => ip(&format!("-n {router} addr add 10.78.{n}.1/24 dev r{n}"))?,
            }
            ip(&format!("-n {router} link set r{n} up"))?;
            ip(&format!("-n {host} addr add {}/24 dev eth", sites.ip(n)))?;
            ip(&format!("-n {host} link set eth up"))?;
            let net = if is_lan { 0 } else { n };
            ip(&format!("-n {host} route add default via 10.78.{net}.1"))?;
            ip(&format!("-n {host} link add same type veth peer name end"))?;
            ip(&format!("-n {host} addr add 172.21.0.2/24 dev same"))?;
            ip(&format!("-n {host} link set same up"))?;
            ip(&format!("-n {host} link set end up"))?;
        }
        ip(&format!("netns exec {router} sysctl -qw net.ipv4.ip_forward=1"))?;
        Ok(sites)
    }

    /// Where a node of a host listens.
    pub(crate) fn address(&self, n: usize) -> String {
        format!("/ip4/{}/tcp/4001", self.ip(n))
    }

    /// A command as it runs on a host.
    pub(crate) fn inside(&self, n: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(n), program]).stdin(Stdio::null());
        command
    }

    /// Does something on a host: a socket that is made there stays there.
    pub(crate) fn on<T: Send>(&self, n: usize, make: impl FnOnce() -> T + Send) -> T {
        let host = File::open(format!("/run/netns/{}", self.host(n))).unwrap();
        std::thread::scope(|scope| {
            let there = scope.spawn(move || {
                rustix::thread::move_into_link_name_space(host.as_fd(), None).unwrap();
                make()
            });
            there.join().unwrap()
        })
    }

    /// What a host's kernel has of routes and rules.
    pub(crate) fn kernel(&self, n: usize) -> String {
        let said = |program: &str, arguments: &[&str]| {
            let output = self.inside(n, program).args(arguments).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        said("ip", &["-4", "route", "show", "table", "all"])
            + &said("ip", &["-4", "-o", "addr", "show", "dev", "lo"])
            + &said("nft", &["list", "ruleset"])
    }

    /// Changes a host: what `ip` is told there.
    pub(crate) fn change(&self, n: usize, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.host(n))).unwrap();
    }

    /// A cable is pulled out, or put in again.
    pub(crate) fn cable(&self, n: usize, is_in: bool) {
        let state = if is_in { "up" } else { "down" };
        ip(&format!("-n {} link set r{n} {state}", self.router())).unwrap();
    }

    fn ip(&self, n: usize) -> String {
        if self.is_lan { format!("10.78.0.{}", n + 2) } else { format!("10.78.{n}.2") }
    }

    fn host(&self, n: usize) -> String {
        format!("{}h{n}", self.prefix)
    }

    fn router(&self) -> String {
        format!("{}r", self.prefix)
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        for n in 0..self.count {
            let _ = ip(&format!("netns del {}", self.host(n)));
        }
        let _ = ip(&format!("netns del {}", self.router()));
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("`ip` cannot be run: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            Err(format!("`ip {arguments}`: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
    }
}
