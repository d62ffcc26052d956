//! What the swarm tells of: connections that come and go, and what they report.

use super::{LEAVE, Node, TELL_SOON, TELLINGS, explain, seconds};
use crate::behaviour::BehaviourEvent;
use crate::conn::Conn;
use crate::event::{Event, Lane, Refusal};
use crate::frame::{Hello, Kind};
use crate::handler::Report;
use crate::links::LinkEvent;
use crate::mirror::End;
use crate::tell;
use libp2p::core::ConnectedPoint;
use libp2p::kad;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{ConnectionDenied, ConnectionId, DialError, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, connection_limits, gossipsub, identify, mdns};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Boots of one identity that are remembered, to know one that returns.
const BOOTS: usize = 8;
/// Identities whose boots are remembered.
const BOOTED: usize = 4096;

impl Node {
    pub(super) fn happened(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.behaved(event),
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => {
                self.counters.add(&self.counters.connected, 1);
                if let ConnectedPoint::Dialer { address, .. } = &endpoint {
                    self.book.reached(peer_id, Some(address), seconds());
                    self.save_soon();
                }
            }
            SwarmEvent::ConnectionClosed {
                peer_id, connection_id, cause, num_established, ..
            } => {
                self.counters.add(&self.counters.disconnected, 1);
                let why = cause.map_or_else(|| "closed".to_owned(), |cause| explain(&cause));
                tracing::debug!("a connection with {peer_id} ended: {why}");
                self.closed(peer_id, connection_id, &why);
                if num_established == 0 {
                    self.give_up_waiting(peer_id, &why);
                } else {
                    self.listen_anew(peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.dial_failed(connection_id, peer_id, error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, peer_id, .. } => {
                self.not_let_in(peer_id, send_back_addr, error);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!("listening on {address}");
                self.listening.send_modify(|all| {
                    if !all.contains(&address) {
                        all.push(address);
                    }
                });
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.listening.send_modify(|all| all.retain(|one| *one != address));
            }
            SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => {
                tracing::error!("no longer listening on {addresses:?}: {error}");
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!("a listener failed to accept a connection: {error}");
            }
            _ => {}
        }
    }

    fn behaved(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Links(LinkEvent { conn, report }) => self.reported(&conn, report),
            BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message,
                ..
            }) => self.gossip_came(propagation_source, message),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                // Nobody needs more addresses than the book keeps.
                let known = self.book.peers.contains_key(&peer_id);
                for address in info.listen_addrs.iter().take(crate::book::MAX_ADDRESSES) {
                    self.told_of(peer_id, address);
                }
                if !known {
                    // Those who are here will want to know, but not all at once.
                    self.tellings = self.peers.all().len().min(TELLINGS);
                    self.tell_at = self.tell_at.min(Instant::now() + TELL_SOON);
                }
            }
            BehaviourEvent::Kad(kad::Event::RoutingUpdated { peer, addresses, .. }) => {
                for address in addresses.iter().take(crate::book::MAX_ADDRESSES) {
                    self.told_of(peer, address);
                }
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    self.told_of(peer, &address);
                }
            }
            BehaviourEvent::Ping(ping) => {
                if let (Ok(rtt), Some(conn)) =
                    (ping.result, self.swarm.behaviour().links.conn(ping.connection))
                {
                    let rtt = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX).max(1);
                    conn.rtt.store(rtt, Ordering::Relaxed);
                }
            }
            _ => {}
        }
    }

    /// Somebody says where a peer is.
    fn told_of(&mut self, peer: PeerId, address: &Multiaddr) {
        if peer == self.id {
            return;
        }
        // An address of this very machine is of use to who is on it, and misleads all others.
        if is_loopback(address) && !self.is_local(peer) {
            return;
        }
        let known = self.book.peers.get(&peer).map_or(0, |known| known.addresses.len());
        self.book.learn(peer, address);
        if self.book.peers.get(&peer).map_or(0, |known| known.addresses.len()) != known {
            self.changed();
        }
        let address = crate::book::split(address).0;
        self.swarm.behaviour_mut().kad.add_address(&peer, address);
    }

    /// Whether the loopback is a way to others: we listen on nothing else, or the peer is there.
    fn is_local(&self, peer: PeerId) -> bool {
        self.peers.of(&peer).iter().any(|conn| is_loopback(&conn.address))
            || self.listening.borrow().iter().all(is_loopback)
    }

    fn reported(&mut self, conn: &Arc<Conn>, report: Report) {
        match report {
            Report::Ready(hello) => self.ready(conn, &hello),
            Report::Heard => self.ears.heard(&conn.peer),
            Report::Told(bytes) => match tell::decode(&bytes) {
                Some(told) => {
                    for (peer, address) in told {
                        self.told_of(peer, &address);
                    }
                }
                None => self.offended(conn.peer, conn.address.clone(), Refusal::Garbage),
            },
            Report::Refused(reason @ (Refusal::Garbage | Refusal::Oversized(_))) => {
                self.offended(conn.peer, conn.address.clone(), reason);
            }
            Report::Refused(reason @ Refusal::Version { .. }) => {
                let why = reason.to_string();
                self.refuse(Some(conn.peer), Some(conn.address.clone()), reason);
                self.give_up(conn.peer, conn.id, &why);
                self.give_up_waiting(conn.peer, &why);
                // It is left alone until somebody has upgraded it.
                let now = Instant::now();
                self.policy.leave(conn.peer, now);
                self.leaving.push((now + LEAVE, conn.peer));
            }
            Report::Refused(reason) => {
                self.refuse(Some(conn.peer), Some(conn.address.clone()), reason);
            }
            Report::NotOurs => {
                let why = "it speaks libp2p but is no node of Synod";
                self.give_up(conn.peer, conn.id, why);
                self.give_up_waiting(conn.peer, why);
            }
            Report::Broken(why) => {
                tracing::debug!("a lane of {} broke: {why}", conn.peer);
                self.give_up(conn.peer, conn.id, &why);
                self.swarm.close_connection(conn.id);
            }
            // The behaviour keeps it.
            Report::Established(_) => {}
        }
    }

    /// Both lanes of a connection are up.
    fn ready(&mut self, conn: &Arc<Conn>, hello: &Hello) {
        let now = Instant::now();
        conn.boot.store(hello.boot, Ordering::Release);
        let returned = self.booted(conn.peer, hello.boot);
        if returned {
            self.same_identity(conn.peer, Some(conn.address.clone()));
        }
        let others = self.peers.of(&conn.peer);
        if others.iter().any(|other| other.boot.load(Ordering::Acquire) != hello.boot) {
            // Another process under a known identity. Gossip would take it for the old one and tell
            // it nothing, so everything with that peer begins anew.
            self.counters.add(&self.counters.restarts, 1);
            tracing::info!("{} was restarted: connecting with it anew", conn.peer);
            if let Some(dial) = self.dials.remove(&conn.id) {
                self.not_dialed(dial, "it was restarted: connecting anew");
            }
            self.disconnect(conn.peer);
            self.dial_at = now;
            return;
        }
        let address = conn.address.clone();
        if self.peers.add(Arc::clone(conn)) {
            self.ears.connected(conn.peer, now);
            tracing::info!("connected with {} at {address}", conn.peer);
            self.deliver.deliver(Event::Connected { peer: conn.peer, address: address.clone() });
        }
        conn.open();
        self.book.reached(conn.peer, None, seconds());
        self.save_soon();
        match self.dials.remove(&conn.id) {
            Some(dial) => self.dialed(dial, conn.peer),
            None => self.policy.succeeded(&crate::policy::Target::Peer(conn.peer), now),
        }
        for dial in self.waited(conn.peer) {
            self.dialed(dial, conn.peer);
        }
        if !conn.inbound {
            self.swarm.behaviour_mut().kad.add_address(&conn.peer, crate::book::split(&address).0);
        }
        self.tell(conn);
        self.prune(conn.peer);
    }

    /// Tells a peer where others are.
    pub(super) fn tell(&self, conn: &Conn) {
        let connected = |peer: &PeerId| self.peers.get(peer).is_some();
        let others = self.book.peers.iter().filter(|(peer, known)| {
            **peer != conn.peer && (known.seen.is_some() || connected(peer))
        });
        let told = others.flat_map(|(peer, _)| {
            self.book.addresses(peer).into_iter().take(2).map(|address| (*peer, address))
        });
        let bytes = tell::encode(told);
        // If its queue is full it has other worries.
        let _ = conn.send(Lane::Urgent, Kind::Peers, bytes);
    }

    /// Tells one of the neighbours, another each time.
    pub(super) fn tell_somebody(&mut self) {
        let all = self.peers.all();
        self.told = self.told.wrapping_add(1);
        if let Some(conn) = all.get(self.told % all.len().max(1)) {
            self.tell(conn);
        }
    }

    /// Two that dialed each other at once have two connections. The one with the smaller id closes
    /// all that the other made, so that both agree which one stays.
    fn prune(&mut self, peer: PeerId) {
        let conns = self.peers.of(&peer);
        if self.id > peer || conns.len() < 2 {
            return;
        }
        let keep = conns.iter().find(|conn| !conn.inbound).or_else(|| conns.first());
        let keep = keep.map(|conn| conn.id);
        for conn in conns.iter().filter(|conn| Some(conn.id) != keep) {
            self.swarm.close_connection(conn.id);
        }
    }

    /// Notes a boot of an identity; whether it is an earlier one that has come back.
    fn booted(&mut self, peer: PeerId, boot: u64) -> bool {
        if self.boots.len() >= BOOTED && !self.boots.contains_key(&peer) {
            let peers = Arc::clone(&self.peers);
            self.boots.retain(|peer, _| peers.get(peer).is_some());
        }
        let boots = self.boots.entry(peer).or_default();
        let known = boots.iter().position(|known| *known == boot);
        let returned = known.is_some_and(|at| at + 1 < boots.len());
        if let Some(at) = known {
            boots.remove(at);
        }
        boots.push(boot);
        if boots.len() > BOOTS {
            boots.remove(0);
        }
        returned
    }

    fn closed(&mut self, peer: PeerId, id: ConnectionId, why: &str) {
        self.give_up(peer, id, why);
        let Some((conn, last)) = self.peers.remove(&peer, id) else {
            return;
        };
        self.counters.add(&self.counters.lost, conn.close());
        if last {
            self.ears.gone(&peer);
            self.gossip_inflows.retain(|_, inflow| !inflow.is_unused());
            let now = Instant::now();
            let wanted = self.wants(&peer);
            self.policy.lost(peer, wanted, now);
            self.dial_at = self.dial_at.min(self.policy.wake(now));
            tracing::info!("disconnected from {peer}");
            self.deliver.deliver(Event::Disconnected { peer });
        }
    }

    /// Nothing comes of a connection that somebody may be waiting for. If there is another with the
    /// same peer, which is why this one was closed, that is what they wanted.
    fn give_up(&mut self, peer: PeerId, id: ConnectionId, why: &str) {
        let other = self.peers.of(&peer).iter().any(|conn| conn.id != id);
        match self.dials.remove(&id) {
            Some(dial) if other => self.dialed(dial, peer),
            Some(dial) => self.not_dialed(dial, why),
            None => {}
        }
    }

    /// What somebody waited for has come to nothing.
    fn give_up_waiting(&mut self, peer: PeerId, why: &str) {
        for dial in self.waited(peer) {
            self.not_dialed(dial, why);
        }
    }

    /// One of several connections with a peer is gone, and gossip may have gone by that one: it takes
    /// up another when something is to be sent and that other's task is awake. So there is a beacon.
    fn listen_anew(&mut self, peer: PeerId) {
        self.ears.ask_now(&peer, Instant::now());
    }

    fn dial_failed(&mut self, id: ConnectionId, peer: Option<PeerId>, error: DialError) {
        let now = Instant::now();
        let mut why = explain(&error);
        match error {
            DialError::Transport(tried) => {
                for (address, _) in &tried {
                    self.book.failed(peer, address, seconds());
                }
                let tried: Vec<_> =
                    tried.iter().map(|(at, e)| format!("{at}: {}", explain(e))).collect();
                why = tried.join("; ");
                if self.private {
                    why.push_str(" (is its network key the same as ours?)");
                }
                self.book_changed = true;
            }
            DialError::WrongPeerId { obtained, address } => {
                let address = crate::book::split(&address).0;
                if let Some(peer) = peer {
                    self.book.failed(Some(peer), &address, seconds());
                }
                self.told_of(obtained, &address);
                why = format!("another peer is there: {obtained}");
            }
            DialError::LocalPeerId { address } => {
                why = "this node itself is there".to_owned();
                self.met_self(now, End::Out, address);
            }
            DialError::Denied { cause } => {
                let reason = refusal(cause);
                why = reason.to_string();
                // What others of our parts wished to dial is no news to anybody.
                if self.dials.contains_key(&id) {
                    self.counters.refuse(reason.name());
                }
            }
            _ => {}
        }
        if let Some(dial) = self.dials.remove(&id) {
            self.not_dialed(dial, &why);
        }
        if let Some(peer) = peer.filter(|peer| !self.swarm.is_connected(peer)) {
            self.give_up_waiting(peer, &why);
        }
    }

    fn not_let_in(&mut self, peer: Option<PeerId>, address: Multiaddr, error: ListenError) {
        match error {
            ListenError::LocalPeerId { .. } => self.met_self(Instant::now(), End::In, address),
            ListenError::Denied { cause } => self.refuse(peer, Some(address), refusal(cause)),
            // We gave it up ourselves.
            ListenError::Aborted => {}
            other => {
                self.met_self(Instant::now(), End::Broken, address.clone());
                self.refuse(peer, Some(address), Refusal::Stranger(explain(&other)));
            }
        }
    }

    /// A connection had our own identity at its other end, or may have had.
    fn met_self(&mut self, now: Instant, end: End, at: Multiaddr) {
        if let Some(own) = self.mirror.saw(now, end, at) {
            self.book.remove_address(&crate::book::split(&own).0);
            self.book_changed = true;
        }
    }
}

fn refusal(cause: ConnectionDenied) -> Refusal {
    match cause.downcast::<Refusal>() {
        Ok(refusal) => refusal,
        Err(cause) if cause.downcast_ref::<connection_limits::Exceeded>().is_some() => {
            Refusal::TooMany
        }
        Err(cause) => Refusal::Stranger(explain(&cause)),
    }
}

fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    })
}
