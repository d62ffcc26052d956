//! Hosts of one segment, each a network namespace: made here, and gone when this is dropped.

use crate::cli::Failure;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

/// A receive buffer that no measurement fills.
const BUFFER_BYTES: usize = 64 << 20;

pub(super) struct Hosts {
    prefix: String,
    count: usize,
}

impl Hosts {
    /// Each host has a card on the same segment, and its route to all groups leads there.
    pub(super) fn make(count: usize) -> Result<Self, Failure> {
        let hosts = Self { prefix: format!("synb{}", std::process::id() % 1_000_000), count };
        let switch = hosts.switch();
        ip(&format!("netns add {switch}"))?;
        ip(&format!("-n {switch} link add br0 type bridge mcast_snooping 0"))?;
        ip(&format!("-n {switch} link set br0 up"))?;
        for n in 0..count {
            let host = hosts.name(n);
            ip(&format!("netns add {host}"))?;
            ip(&format!("-n {host} link set lo up"))?;
            ip(&format!("-n {switch} link add h{n} type veth peer name eth netns {host}"))?;
            ip(&format!("-n {switch} link set h{n} master br0 up"))?;
            ip(&format!("-n {host} addr add {}/24 dev eth", Self::address(n)))?;
            ip(&format!("-n {host} link set eth up"))?;
            ip(&format!("-n {host} route add 239.0.0.0/8 dev eth"))?;
        }
        Ok(hosts)
    }

    pub(super) fn address(n: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, u8::try_from(n + 1).unwrap_or(u8::MAX))
    }

    /// A command as it runs on a host.
    pub(super) fn inside(&self, n: usize, program: &std::ffi::OsStr) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(n)]).arg(program).stdin(Stdio::null());
        command
    }

    /// An application's socket that is a member of the group.
    pub(super) fn member(&self, n: usize, to: SocketAddrV4) -> Result<UdpSocket, Failure> {
        self.on(n, || {
            let socket = socket()?;
            socket.set_reuse_address(true)?;
            rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES)?;
            socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, to.port()).into())?;
            socket.join_multicast_v4(to.ip(), &Ipv4Addr::UNSPECIFIED)?;
            Ok(socket.into())
        })
    }

    /// An application's socket that sends.
    pub(super) fn sender(&self, n: usize) -> Result<UdpSocket, Failure> {
        self.on(n, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))
    }

    /// Does something on a host: a socket that is made there stays there.
    fn on<T: Send>(
        &self,
        n: usize,
        make: impl FnOnce() -> std::io::Result<T> + Send,
    ) -> Result<T, Failure> {
        let path = format!("/run/netns/{}", self.name(n));
        let made = std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                let host = File::open(&path)?;
                rustix::thread::move_into_link_name_space(host.as_fd(), None)?;
                make()
            });
            there.join().unwrap_or_else(|_| Err(std::io::Error::other("its thread has died")))
        });
        made.map_err(|e| Failure::error(format!("a socket on host {n}: {e}")))
    }

    fn name(&self, n: usize) -> String {
        format!("{}h{n}", self.prefix)
    }

    fn switch(&self) -> String {
        format!("{}s", self.prefix)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // What is not there any more need not go.
        for n in 0..self.count {
            drop(ip(&format!("netns del {}", self.name(n))));
        }
        drop(ip(&format!("netns del {}", self.switch())));
    }
}

fn socket() -> std::io::Result<socket2::Socket> {
    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)
}

fn ip(arguments: &str) -> Result<(), Failure> {
    let output = Command::new("ip").args(arguments.split(' ')).stdin(Stdio::null()).output();
    let output = output.map_err(|e| Failure::error(format!("`ip` cannot be run: {e}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::error(format!("`ip {arguments}`: {said}; hosts are made by root alone")))
}
