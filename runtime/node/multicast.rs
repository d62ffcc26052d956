//! Multicast groups that an agent listens to: what the shim captures becomes triggers.

use crate::agents::{AgentLog, Mailbox};
use crate::api::ErrorBody;
use crate::space::error;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::Arc;
use synod_core::datagrams::Datagram;
use synod_core::term::Term;
use synod_core::term::swi::{self, Swi, SwiError};
use synod_prolog::frame::{Position, Trigger};
use synod_udp_shim::network::monitor::Monitor;
use synod_udp_shim::{Join, JoinSpec, MAX_DATAGRAM_BYTES};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Joins the groups that these specs name: `239.0.0.2:20005%lo`. A monitor can do more: low ports, large buffers.
pub(crate) fn open(specs: &[String], monitor: Option<&Monitor>) -> Result<Vec<Join>, ErrorBody> {
    let open = |text: &String| {
        let spec: JoinSpec =
            text.parse().map_err(|e| error("multicast", format!("--multicast {text}: {e}")))?;
        let joined = match monitor.filter(|monitor| monitor.ended().is_none()) {
            Some(monitor) => monitor.join(&spec),
            None => Join::open(&spec),
        };
        joined.map_err(|e| error("multicast", format!("--multicast {text}: {e}")))
    };
    specs.iter().map(open).collect()
}

/// Delivers what is captured to an agent, until its mailbox is gone; a request of SWI-Prolog's is given to
/// `on_request`, too: whose it is, its id, and what it asks.
pub(crate) fn deliver(
    capture: Join,
    mailbox: &Arc<Mailbox>,
    log: &Arc<AgentLog>,
    on_request: impl Fn(SocketAddr, Term, Term) + Send + 'static,
) {
    for warning in capture.warnings() {
        log.line("warning", &format!("{}: {warning}", capture.spec()));
    }
    let (mailbox, log) = (Arc::downgrade(mailbox), Arc::clone(log));
    tokio::spawn(async move {
        let socket = capture.as_fd().try_clone_to_owned().map(std::net::UdpSocket::from);
        let socket = match socket.and_then(UdpSocket::from_std) {
            Ok(socket) => socket,
            Err(e) => return log.line("error", &format!("{}: {e}", capture.spec())),
        };
        let mut buffer = Box::new([0; MAX_DATAGRAM_BYTES]);
        let group = capture.spec().group();
        loop {
            let taken = socket.async_io(Interest::READABLE, || {
                capture.try_recv(&mut buffer).map(|d| (d.source, d.bytes.to_vec()))
            });
            let Ok((from, bytes)) = taken.await else { continue };
            let Some(mailbox) = mailbox.upgrade() else { return };
            if let Ok(Swi::Request { id, term }) = swi::read(&bytes) {
                on_request(from, id, term);
            }
            mailbox.put(trigger(&group, from.to_string(), bytes, &log));
        }
    });
}

/// What a datagram is to an agent: a term, if SWI-Prolog's `udp_broadcast` sent it, else its bytes.
/// One that says it is and cannot be read comes as bytes too, and the agent's log says why.
pub(crate) fn trigger(
    group: &SocketAddrV4,
    from: String,
    bytes: Vec<u8>,
    log: &AgentLog,
) -> Trigger {
    match term_of(&bytes) {
        Ok(Some(term)) => return Trigger::Udp { scope: group.to_string(), from, term },
        Ok(None) => {}
        Err(why) => log.line("warning", &format!("from {from}: {why}")),
    }
    Trigger::Datagram { group: group.ip().to_string(), port: group.port(), from, bytes }
}

/// As [`trigger`], of a datagram of a tunnel that is an event at this place; and why it was not read, if it says
/// that it is SWI-Prolog's.
pub(crate) fn ordered(position: Position, datagram: Datagram) -> (Trigger, Option<String>) {
    let Datagram { tunnel: _, node: _, to, from, bytes } = datagram;
    let from = from.to_string();
    let why = match term_of(&bytes) {
        Ok(Some(term)) => {
            let scope = to.to_string();
            return (Trigger::OrderedUdp { position, scope, from, term }, None);
        }
        Ok(None) => None,
        Err(why) => Some(format!("from {from}: {why}")),
    };
    let group = Ipv4Addr::from(to.ip).to_string();
    (Trigger::OrderedDatagram { position, group, port: to.port, from, bytes }, why)
}

/// The term, encoded, of a datagram of SWI-Prolog's; nothing, if it is none.
fn term_of(bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
    match swi::read(bytes) {
        Ok(Swi::Send(term) | Swi::Request { term, .. } | Swi::Reply { term, .. }) => {
            term.encode().map(Some).map_err(|e| e.to_string())
        }
        Err(SwiError::NotSwi) => Ok(None),
        Err(e) => Err(format!("SWI-Prolog's, and not read: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_core::datagrams::Endpoint;

    #[test]
    fn one_that_is_an_event_is_a_term_or_bytes_as_any_other() {
        let of = |bytes: &[u8]| {
            let to = Endpoint { ip: [239, 0, 0, 2], port: 20005 };
            let from = Endpoint { ip: [127, 64, 0, 1], port: 7 };
            let (tunnel, node) = ("t".to_owned(), "n".to_owned());
            let bytes = bytes.to_vec();
            ordered(Position { index: 4, n: 2 }, Datagram { tunnel, node, to, from, bytes })
        };
        let position = Position { index: 4, n: 2 };
        let from = "127.64.0.1:7".to_owned();
        let term = Term::atom("caf\u{e9}").encode().unwrap();
        let (trigger, why) = of(b"%-prolog-\nsend('caf\xe9')");
        let scope = "239.0.0.2:20005".to_owned();
        assert_eq!(why, None);
        let expected =
            Trigger::OrderedUdp { position: position.clone(), scope, from: from.clone(), term };
        assert_eq!(trigger, expected);
        for (bytes, is_told) in [(&b"\0\xff"[..], false), (b"", false), (b"%-prolog-\nsend(", true)]
        {
            let (trigger, why) = of(bytes);
            assert_eq!(why.is_some_and(|why| why.starts_with("from 127.64.0.1:7: ")), is_told);
            let (group, port) = ("239.0.0.2".to_owned(), 20005);
            let (position, from, bytes) = (position.clone(), from.clone(), bytes.to_vec());
            assert_eq!(trigger, Trigger::OrderedDatagram { position, group, port, from, bytes });
        }
    }
}
