//! A host of a test's own, a network namespace, on which a tunnel's part is opened by each tool that rules
//! are made with.

use super::PATIENCE;
use crate::support::{in_namespace, installed, skip};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use synod_udp_shim::MAX_DATAGRAM_BYTES;
use synod_udp_shim::network::{Capture, Mode, Network, NetworkSpec};
use synod_udp_shim::tunnel::{Groups, virtual_address};

pub(crate) const GROUP: Ipv4Addr = Ipv4Addr::new(239, 0, 0, 2);
pub(crate) const TO: SocketAddrV4 = SocketAddrV4::new(GROUP, 20005);
pub(crate) const NIC: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// Two ends of a cable: what leaves `va` is seen on `vb`.
pub(crate) const CABLE: &str = "ip link add va type veth peer name vb
     ip addr add 10.9.0.1/24 dev va; ip link set va up; ip link set vb up";

/// Names the tool where a test runs with that one alone.
const TOOL: &str = "SYNOD_TEST_TOOL";

/// Runs a test with each tool that is installed, in a namespace where there is no other.
pub(crate) fn by_each_tool(test: &str, setup: &str, body: impl Fn()) {
    let inside = std::env::var(TOOL).ok();
    let tools = ["nft", "iptables"].into_iter().filter(|tool| installed(tool));
    let tools: Vec<&str> =
        tools.filter(|tool| inside.as_ref().is_none_or(|inside| inside == tool)).collect();
    if tools.is_empty() {
        return skip(test, "neither nft nor iptables is installed");
    }
    for tool in tools {
        let folder =
            std::env::temp_dir().join(format!("synod-{test}-{tool}-{}", std::process::id()));
        let path = folder.display();
        // The whole path for the set-up; then one that leads to what is needed alone.
        let setup = format!(
            "{setup}\nmkdir -p {path}
             for program in {tool} ip conntrack; do
                 if command -v $program >/dev/null; then ln -sf $(command -v $program) {path}/; fi
             done
             export PATH={path} {TOOL}={tool}"
        );
        in_namespace(test, &setup, &body);
        let _ = std::fs::remove_dir_all(&folder);
    }
}

/// Whether a program is missing that a test sets its host up with; then it is skipped.
pub(crate) fn lacks(test: &str, program: &str) -> bool {
    // Inside, the host is set up already, and the path leads to little.
    let is_missing = std::env::var_os(TOOL).is_none() && !installed(program);
    if is_missing {
        skip(test, &format!("{program} is not installed"));
    }
    is_missing
}

pub(crate) fn me() -> Ipv4Addr {
    virtual_address(b"me")
}

/// A tunnel of one group and two ports.
pub(crate) fn spec(name: &str, capture: Mode) -> NetworkSpec {
    let file = format!("synod-{name}-{}.network", std::process::id());
    NetworkSpec {
        groups: Groups::new(vec![GROUP], vec!["20005-20006".parse().unwrap()]).unwrap(),
        address: me(),
        capture: Some(capture),
        ttl: 0,
        tag: "test".to_owned(),
        state: state_folder().join(file),
    }
}

fn state_folder() -> PathBuf {
    std::env::temp_dir()
}

/// The next datagram to a group, its source, and where it was sent.
pub(crate) fn next(captures: &[Capture]) -> (Vec<u8>, SocketAddrV4, SocketAddrV4) {
    let mut waiting: Vec<PollFd<'_>> =
        captures.iter().map(|capture| PollFd::new(capture, PollFlags::IN)).collect();
    let ready = poll(&mut waiting, Some(&PATIENCE.try_into().unwrap())).unwrap();
    assert!(ready > 0, "nothing is captured");
    let at = waiting.iter().position(|one| one.revents().contains(PollFlags::IN)).unwrap();
    let mut buffer = Box::new([0; MAX_DATAGRAM_BYTES]);
    let (len, source) = captures[at].try_recv(&mut buffer).unwrap();
    (buffer[..len].to_vec(), source, captures[at].to())
}

/// Whether nothing more was captured.
pub(crate) fn nothing(captures: &[Capture]) -> bool {
    let mut buffer = Box::new([0; MAX_DATAGRAM_BYTES]);
    let is_empty = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
    captures.iter().all(|capture| capture.try_recv(&mut buffer).is_err_and(is_empty))
}

/// Gives the applications here the next datagram, as a node does; gives its source.
pub(crate) fn pass_on(network: &Network, captures: &[Capture]) -> SocketAddrV4 {
    let (bytes, source, to) = next(captures);
    assert_eq!(network.injector().put_back(to, [(source, &bytes[..])].into_iter()), 0);
    source
}

pub(crate) fn heard(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 70_000];
    let (len, source) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..len].to_vec(), source)
}

/// Whether nothing more is there to be heard.
pub(crate) fn silent(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).unwrap();
    let is_silent = socket.recv_from(&mut [0; 9]).is_err();
    socket.set_nonblocking(false).unwrap();
    is_silent
}

/// An application's socket that is bound to this.
pub(crate) fn bound(at: impl std::net::ToSocketAddrs) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Runs `ip`.
pub(crate) fn ip(arguments: &str) {
    assert!(
        Command::new("ip").args(arguments.split(' ')).status().unwrap().success(),
        "{arguments}"
    );
}

/// Sets a switch of the kernel's for all interfaces, those to come, and each.
pub(crate) fn set_for_each_interface(switch: &str, value: u8) {
    for interface in std::fs::read_dir("/proc/sys/net/ipv4/conf").unwrap() {
        std::fs::write(interface.unwrap().path().join(switch), value.to_string()).unwrap();
    }
}
