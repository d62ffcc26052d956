//! Multicast groups that an agent listens to: what the shim captures becomes triggers.

use crate::agents::{AgentLog, Mailbox};
use crate::api::ErrorBody;
use crate::space::error;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::Arc;
use synod_core::term::Term;
use synod_core::term::swi::{self, Swi, SwiError};
use synod_prolog::frame::Trigger;
use synod_udp_shim::{Join, JoinSpec, MAX_DATAGRAM_BYTES};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Joins the groups that these specs name: `239.0.0.2:20005%lo`.
pub(crate) fn open(specs: &[String]) -> Result<Vec<Join>, ErrorBody> {
    let open = |text: &String| {
        let spec: JoinSpec =
            text.parse().map_err(|e| error("multicast", format!("--multicast {text}: {e}")))?;
        Join::open(&spec).map_err(|e| error("multicast", format!("--multicast {text}: {e}")))
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
    match swi::read(&bytes) {
        Ok(Swi::Send(term) | Swi::Request { term, .. } | Swi::Reply { term, .. }) => {
            match term.encode() {
                Ok(term) => return Trigger::Udp { scope: group.to_string(), from, term },
                Err(e) => log.line("warning", &format!("from {from}: {e}")),
            }
        }
        Err(SwiError::NotSwi) => {}
        Err(e) => log.line("warning", &format!("from {from}: SWI-Prolog's, and not read: {e}")),
    }
    Trigger::Datagram { group: group.ip().to_string(), port: group.port(), from, bytes }
}
