//! The few things that are asked of the kernel over netlink: routes of our own, flows that it is to
//! forget, and sockets that hear a datagram. What a message holds is written out here, because no crate has conntrack's, and a route takes
//! five attributes.

use rustix::net::Protocol;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use rustix::net::{recv, send, socket_with};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

/// Marks our routes among others', and in what `ip route` prints: `proto 83`, which nobody has taken.
const ROUTE_PROTOCOL: u8 = 83;
/// Bytes of an answer that are read at once: the kernel fills 32 KiB at most.
const ANSWER_BYTES: usize = 64 << 10;

/// NETLINK_ROUTE, which is protocol 0.
const ROUTE: Option<Protocol> = None;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER_BYTES: usize = 16;
const NLA_TYPE_MASK: u16 = 0x3fff;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
/// Bytes of a route's message before its attributes, and where among them its author is.
const ROUTE_BYTES: usize = 12;
const ROUTE_AUTHOR: usize = 5;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
const RT_TABLE_MAIN: u8 = 254;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;

const CT_GET: u16 = 0x101;
const CT_DELETE: u16 = 0x102;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const NLA_F_NESTED: u16 = 0x8000;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Bytes of `inet_diag_req_v2`, and of a cookie that matches every socket.
const DIAG_BYTES: usize = 56;
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// Makes a group lead to `lo`, and whoever chooses no address send to it from this one. False if there
/// is a route to it already, which is then left alone.
pub(super) fn add_route(group: Ipv4Addr, lo: u32, from: Ipv4Addr) -> io::Result<bool> {
    let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    match ask(ROUTE, message(RTM_NEWROUTE, flags, &route(group, lo, from)), |_, _| {}) {
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        answer => answer.map(|()| true),
    }
}

/// The interface that the route to a group leads to; none if there is no route.
pub(super) fn interface_to(group: Ipv4Addr) -> io::Result<Option<u32>> {
    let mut body = vec![0; ROUTE_BYTES];
    (body[0], body[1]) = (libc::AF_INET as u8, 32);
    attribute(&mut body, RTA_DST, &group.octets());
    let mut found = None;
    let request = message(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_ACK, &body);
    let asked = ask(ROUTE, request, |_, body| {
        let by = body.get(ROUTE_BYTES..).and_then(|attributes| find(attributes, RTA_OIF));
        found = by.and_then(|by| by.try_into().ok()).map(u32::from_ne_bytes);
    });
    match asked.map_err(|e| (e.raw_os_error(), e)) {
        Err((Some(libc::ENETUNREACH | libc::EHOSTUNREACH), _)) => Ok(None),
        Err((_, e)) => Err(e),
        Ok(()) => Ok(found),
    }
}

/// Takes out a route that [`add_route`] has put in; false if it is not there.
pub(super) fn remove_route(group: Ipv4Addr, lo: u32, from: Ipv4Addr) -> io::Result<bool> {
    let flags = NLM_F_REQUEST | NLM_F_ACK;
    match ask(ROUTE, message(RTM_DELROUTE, flags, &route(group, lo, from)), |_, _| {}) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        answer => answer.map(|()| true),
    }
}

/// The routes that [`add_route`] has put in, whoever called it: the groups, and where from they are sent to.
pub(super) fn our_routes() -> io::Result<Vec<(Ipv4Addr, Ipv4Addr)>> {
    let mut body = vec![0; ROUTE_BYTES];
    body[0] = libc::AF_INET as u8;
    let mut found = Vec::new();
    let dump = message(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, &body);
    ask(ROUTE, dump, |_, body| found.extend(our_route(body)))?;
    Ok(found)
}

fn our_route(body: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    if *body.get(ROUTE_AUTHOR)? != ROUTE_PROTOCOL {
        return None;
    }
    let attributes = body.get(ROUTE_BYTES..)?;
    let address = |kind| Some(Ipv4Addr::from(<[u8; 4]>::try_from(find(attributes, kind)?).ok()?));
    let (group, from) = (address(RTA_DST)?, address(RTA_PREFSRC)?);
    (group.is_multicast() && from.is_loopback()).then_some((group, from))
}

/// Makes the kernel forget the flows to these groups: it goes on treating a flow as it treated its first
/// packet, whatever the rules say by then.
pub(super) fn forget_flows(groups: &[Ipv4Addr]) -> io::Result<usize> {
    let generic = [libc::AF_INET as u8, 0, 0, 0];
    let mut flows = Vec::new();
    let dump = message(CT_GET, NLM_F_REQUEST | NLM_F_DUMP, &generic);
    let dumped = ask(Some(netlink::NETFILTER), dump, |_, body| {
        let attributes = body.get(generic.len()..).unwrap_or_default();
        flows.extend(flow_to(attributes, groups));
    });
    match dumped {
        // There is no tracking here, so there is nothing to forget.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(0),
        dumped => dumped?,
    }
    for flow in &flows {
        let body = [&generic[..], flow].concat();
        let deleted = ask(
            Some(netlink::NETFILTER),
            message(CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, &body),
            |_, _| {},
        );
        match deleted {
            // It has ended by itself.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            deleted => deleted?,
        }
    }
    Ok(flows.len())
}

/// Where [`has_listener`] asks.
pub(super) fn sockets() -> io::Result<OwnedFd> {
    let kind = SocketType::RAW;
    let protocol = Some(netlink::SOCK_DIAG);
    Ok(socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, protocol)?)
}

/// Whether a UDP socket of this network namespace would hear a datagram that comes in by an interface.
pub(super) fn has_listener(
    socket: &OwnedFd,
    source: SocketAddrV4,
    to: SocketAddrV4,
    interface: u32,
) -> io::Result<bool> {
    let mut body = Vec::with_capacity(DIAG_BYTES);
    body.extend_from_slice(&[libc::AF_INET as u8, libc::IPPROTO_UDP as u8, 0, 0]);
    // All states.
    body.extend_from_slice(&[0xff; 4]);
    // For UDP the kernel takes what the datagram has, not what the socket has: its source is first.
    body.extend_from_slice(&source.port().to_be_bytes());
    body.extend_from_slice(&to.port().to_be_bytes());
    for address in [source.ip(), to.ip()] {
        body.extend_from_slice(&address.octets());
        body.extend_from_slice(&[0; 12]);
    }
    body.extend_from_slice(&interface.to_ne_bytes());
    body.extend_from_slice(&NO_COOKIE);
    send(socket, &message(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, &body), SendFlags::empty())?;
    let mut answer = [0; 512];
    let (_, len) = recv(socket, &mut answer[..], RecvFlags::DONTWAIT)?;
    let answer = &answer[..len.min(512)];
    let kind = answer.get(4..6).ok_or_else(garbled)?;
    match u16::from_ne_bytes([kind[0], kind[1]]) {
        SOCK_DIAG_BY_FAMILY => Ok(true),
        NLMSG_ERROR => {
            let (code, _) = answer
                .get(HEADER_BYTES..)
                .and_then(|body| body.split_first_chunk())
                .ok_or_else(garbled)?;
            match -i32::from_ne_bytes(*code) {
                libc::ENOENT => Ok(false),
                code => Err(io::Error::from_raw_os_error(code)),
            }
        }
        _ => Err(garbled()),
    }
}

fn route(group: Ipv4Addr, lo: u32, from: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![
        libc::AF_INET as u8,
        32,
        0,
        0,
        RT_TABLE_MAIN,
        ROUTE_PROTOCOL,
        RT_SCOPE_LINK,
        RTN_UNICAST,
    ];
    body.extend_from_slice(&[0; 4]);
    attribute(&mut body, RTA_DST, &group.octets());
    attribute(&mut body, RTA_OIF, &lo.to_ne_bytes());
    attribute(&mut body, RTA_PREFSRC, &from.octets());
    body
}

/// The attributes that name a UDP flow to one of the groups, if this is one.
fn flow_to(attributes: &[u8], groups: &[Ipv4Addr]) -> Option<Vec<u8>> {
    let original = find(attributes, CTA_TUPLE_ORIG)?;
    let to: [u8; 4] = find(find(original, CTA_TUPLE_IP)?, CTA_IP_V4_DST)?.try_into().ok()?;
    let protocol = find(find(original, CTA_TUPLE_PROTO)?, CTA_PROTO_NUM)?;
    if protocol != [libc::IPPROTO_UDP as u8] || !groups.contains(&Ipv4Addr::from(to)) {
        return None;
    }
    let mut named = Vec::new();
    attribute(&mut named, CTA_TUPLE_ORIG | NLA_F_NESTED, original);
    if let Some(zone) = find(attributes, CTA_ZONE) {
        attribute(&mut named, CTA_ZONE, zone);
    }
    Some(named)
}

fn attribute(body: &mut Vec<u8>, kind: u16, content: &[u8]) {
    body.extend_from_slice(&(content.len() as u16 + 4).to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(content);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some((head, _)) = attributes.split_first_chunk::<4>() {
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & NLA_TYPE_MASK;
        let content = attributes.get(4..len)?;
        if kind == wanted {
            return Some(content);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
    None
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&((HEADER_BYTES + body.len()) as u32).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    // The sequence and the sender: there is one request on a socket.
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(body);
    bytes
}

/// Sends a request and reads its answers to the end.
fn ask(
    protocol: Option<Protocol>,
    request: Vec<u8>,
    mut each: impl FnMut(u16, &[u8]),
) -> io::Result<()> {
    let kind = SocketType::RAW;
    let socket: OwnedFd =
        socket_with(AddressFamily::NETLINK, kind, SocketFlags::CLOEXEC, protocol)?;
    send(&socket, &request, SendFlags::empty())?;
    let mut buffer = vec![0; ANSWER_BYTES];
    loop {
        let (_, len) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        let mut rest = &buffer[..len.min(ANSWER_BYTES)];
        while rest.len() >= HEADER_BYTES {
            let field = |at: usize| u16::from_ne_bytes([rest[at], rest[at + 1]]);
            let len = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let Some(body) = rest.get(HEADER_BYTES..len) else { return Err(garbled()) };
            match field(4) {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let (code, _) = body.split_first_chunk().ok_or_else(garbled)?;
                    return match i32::from_ne_bytes(*code) {
                        0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(-code)),
                    };
                }
                kind => each(kind, body),
            }
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn garbled() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer over netlink makes no sense")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn our_routes_are_told_from_others() {
        let (group, from) = (Ipv4Addr::new(239, 0, 0, 2), Ipv4Addr::new(127, 70, 1, 2));
        let mut body = route(group, 1, from);
        assert_eq!(our_route(&body), Some((group, from)));
        body[ROUTE_AUTHOR] = 3;
        assert_eq!(our_route(&body), None);
        assert_eq!(our_route(&route(from, 1, from)), None);
    }

    proptest! {
        #[test]
        fn no_answer_is_too_much(bytes: Vec<u8>) {
            drop(flow_to(&bytes, &[Ipv4Addr::new(239, 0, 0, 2)]));
            our_route(&bytes);
        }
    }
}
