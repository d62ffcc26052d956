//! The behaviour that gives each connection its lanes and streams, and asks the gate about it.

use crate::conn::Conn;
use crate::gate::Gate;
use crate::handler::{Handler, Report, Shared};
use crate::limits::Limits;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// What a connection reports, and which it is.
#[derive(Debug)]
pub(crate) struct LinkEvent {
    pub(crate) conn: Arc<Conn>,
    pub(crate) report: Report,
}

pub(crate) struct Links {
    pub(crate) gate: Gate,
    shared: Arc<Shared>,
    limits: Limits,
    conns: HashMap<ConnectionId, Arc<Conn>>,
    /// The dial that the policy has decided on and that is now to begin.
    dialing: Option<ConnectionId>,
    /// Who makes introductions, and is dialed for that.
    relays: BTreeSet<PeerId>,
    events: VecDeque<LinkEvent>,
    waker: Option<Waker>,
}

impl Links {
    pub(crate) fn new(gate: Gate, shared: Arc<Shared>, limits: Limits) -> Self {
        Self {
            gate,
            shared,
            limits,
            conns: HashMap::new(),
            dialing: None,
            relays: BTreeSet::new(),
            events: VecDeque::new(),
            waker: None,
        }
    }

    pub(crate) fn conn(&self, id: ConnectionId) -> Option<&Arc<Conn>> {
        self.conns.get(&id)
    }

    pub(crate) fn dialing(&mut self, id: ConnectionId) {
        self.dialing = Some(id);
    }

    pub(crate) fn relay(&mut self, peer: PeerId) {
        self.relays.insert(peer);
    }

    fn handler(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        inbound: bool,
    ) -> Result<Handler, ConnectionDenied> {
        self.gate.admits(&peer, Instant::now()).map_err(ConnectionDenied::new)?;
        let conn = Conn::new(id, peer, address.clone(), inbound, &self.limits);
        // Another behaviour may still refuse the connection: it is kept once it is established.
        Ok(Handler::new(conn, Arc::clone(&self.shared)))
    }
}

/// Relays that may be dialed for those behind them.
const MAX_RELAYS: usize = 64;

/// A part of libp2p wished to dial somebody whom the policy has not decided on.
#[derive(Debug, thiserror::Error)]
#[error("nobody asked for a connection")]
struct NotAsked;

fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let mut relay = None;
    for part in address {
        match part {
            Protocol::P2p(peer) => relay = Some(peer),
            Protocol::P2pCircuit => return relay,
            _ => {}
        }
    }
    None
}

/// The host of an address that a connection comes from. Relayed connections have none: the relay's
/// own limits hold for them. This machine's own processes are not a host that others must be
/// protected from one by one, so loopback counts as any other.
fn host(address: &Multiaddr) -> Option<IpAddr> {
    if address.iter().any(|part| matches!(part, Protocol::P2pCircuit)) {
        return None;
    }
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    })
}

impl NetworkBehaviour for Links {
    type ConnectionHandler = Handler;
    type ToSwarm = LinkEvent;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        match host(remote) {
            Some(host) => self.gate.incoming(id, host).map_err(ConnectionDenied::new),
            None => Ok(()),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.gate.established(id);
        self.handler(id, peer, remote, true)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let decided = self.dialing.take() == Some(id);
        let Some(peer) = peer else {
            return if decided { Ok(Vec::new()) } else { Err(ConnectionDenied::new(NotAsked)) };
        };
        self.gate.admits(&peer, Instant::now()).map_err(ConnectionDenied::new)?;
        // Kademlia would connect with everybody it hears of. Whom to dial is the policy's to decide;
        // only to those we are connected with already, a better way may be looked for.
        let connected = self.conns.values().any(|conn| conn.peer == peer);
        if !decided && !connected && !self.relays.contains(&peer) {
            return Err(ConnectionDenied::new(NotAsked));
        }
        if decided {
            // A relayed address makes its relay one that is dialed, too.
            self.relays.extend(addresses.iter().filter_map(relay_of).take(MAX_RELAYS));
            while self.relays.len() > MAX_RELAYS {
                self.relays.pop_first();
            }
        }
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handler(id, peer, address, false)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => {
                self.gate.gone(closed.connection_id);
                self.conns.remove(&closed.connection_id);
            }
            FromSwarm::ListenFailure(failure) => self.gate.gone(failure.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        id: ConnectionId,
        report: THandlerOutEvent<Self>,
    ) {
        let report = match report {
            Report::Established(conn) => {
                self.conns.insert(id, conn);
                return;
            }
            report => report,
        };
        if let Some(conn) = self.conns.get(&id) {
            self.events.push_back(LinkEvent { conn: Arc::clone(conn), report });
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<LinkEvent, THandlerInEvent<Self>>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(event));
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
