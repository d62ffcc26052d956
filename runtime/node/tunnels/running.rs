//! One tunnel as it runs: what is captured becomes frames for its peers, what they send is delivered
//! from stand-ins. What is carried is decided by [`Tunnel`]; here sockets and streams are moved.

use super::carriage::Topic;
use super::guests::Guests;
use super::latency::Latency;
use super::link::{Link, Queued};
use super::ordering::Ordering;
use crate::api::TunnelPeer;
use crate::net::{Net, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use synod_bridge::PeerId;
use synod_udp_shim::MAX_DATAGRAM_BYTES;
use synod_udp_shim::network::{Capture, Captured, Injector, LocalAddresses};
use synod_udp_shim::tunnel::segment::{Beacon, Segment};
use synod_udp_shim::tunnel::{
    Carried, Frame, FrameWriter, Head, Reason, StandIn, Tunnel, TunnelCounters,
};
use tokio::io::Interest;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How often it is looked who takes part.
const LOOK: Duration = Duration::from_millis(500);
/// How often this host's addresses are asked for, at most.
const ASK: Duration = Duration::from_secs(1);

/// What the tasks of a tunnel share.
pub(super) struct Shared {
    name: String,
    /// The only ones that take part, if there are any.
    only: BTreeSet<PeerId>,
    injector: Arc<Injector>,
    /// Into the order of a space, if the tunnel orders.
    pub(super) ordering: Option<Arc<Ordering>>,
    /// What all peers listen to.
    topic: Topic,
    net: Weak<Net>,
    /// Where datagrams are moved: on the bridge's thread, so that between a socket here and the network no thread
    /// is woken.
    mover: Handle,
    started: Instant,
    pub(super) latency: Arc<Latency>,
    state: Mutex<State>,
    /// Room for what is captured together, while nobody uses it: no more than threads that capture.
    spare: Mutex<Vec<Captured>>,
    /// Who hears this node's segment, where it captures by membership.
    segment: Mutex<Segment>,
    is_closed: watch::Sender<bool>,
}

struct State {
    tunnel: Tunnel,
    sockets: BTreeMap<StandIn, StandInSocket>,
    links: BTreeMap<Ipv4Addr, Link>,
    /// Who takes part without being in the directory.
    guests: Guests,
    /// Why somebody does not take part.
    refused: BTreeMap<PeerId, String>,
}

/// A socket that stands in for a source, and the task that hears what is sent to it.
struct StandInSocket {
    socket: Arc<UdpSocket>,
    ears: AbortHandle,
}

impl Drop for StandInSocket {
    fn drop(&mut self) {
        self.ears.abort();
    }
}

/// What `tunnel list` shows of what changes.
pub(super) struct Seen {
    pub(super) counters: TunnelCounters,
    pub(super) address: Ipv4Addr,
    pub(super) stand_ins: usize,
    pub(super) sources: usize,
    pub(super) peers: Vec<TunnelPeer>,
    pub(super) refused: Vec<String>,
}

impl Shared {
    pub(super) fn new(
        name: &str,
        only: BTreeSet<PeerId>,
        injector: Arc<Injector>,
        ordering: Option<Arc<Ordering>>,
        topic: Topic,
        net: &Arc<Net>,
        tunnel: Tunnel,
    ) -> Self {
        let mover = net.bridge().map_or_else(Handle::current, |bridge| bridge.runtime().clone());
        let segment = Mutex::new(Segment::new(&net.me().to_bytes()));
        let state = State {
            tunnel,
            sockets: BTreeMap::new(),
            links: BTreeMap::new(),
            guests: Guests::default(),
            refused: BTreeMap::new(),
        };
        Self {
            name: name.to_owned(),
            only,
            injector,
            ordering,
            topic,
            net: Arc::downgrade(net),
            mover,
            started: Instant::now(),
            latency: Arc::default(),
            state: Mutex::new(state),
            spare: Mutex::default(),
            segment,
            is_closed: watch::Sender::new(false),
        }
    }

    /// Ends what peers have going here.
    pub(super) fn close(&self) {
        self.is_closed.send_replace(true);
    }

    /// What all peers listen to.
    pub(super) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Where datagrams are moved.
    pub(super) fn mover(&self) -> &Handle {
        &self.mover
    }

    /// Resolves once it is closed.
    pub(super) async fn closed(&self) {
        // It cannot fail, since the sender is here.
        drop(self.is_closed.subscribe().wait_for(|is_closed| *is_closed).await);
    }

    pub(super) fn seen(&self) -> Seen {
        let mut state = self.lock();
        let State { tunnel, links, refused, .. } = &mut *state;
        let dropped = links.values().map(Link::take_dropped).sum();
        tunnel.count_drops(Reason::Queue, dropped);
        let (now, segment) = (self.now(), self.segment());
        let peer = |(address, link): (&Ipv4Addr, &Link)| TunnelPeer {
            peer: link.place.peer.to_string(),
            node: link.place.node.clone(),
            address: *address,
            open: link.is_open(),
            near: segment.has(now, &link.place.peer.to_bytes()),
        };
        Seen {
            counters: tunnel.counters().clone(),
            address: tunnel.address(),
            stand_ins: tunnel.stand_ins(),
            sources: tunnel.sources(),
            peers: links.iter().map(peer).collect(),
            refused: refused.values().cloned().collect(),
        }
    }

    /// Whether this is its name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A beacon that its author has signed was heard; whether that is somebody new.
    pub(super) fn is_near(&self, beacon: &Beacon) -> bool {
        let now = self.now();
        self.segment().heard(now, beacon)
    }

    /// Whether a peer may take part.
    pub(super) fn admits(&self, peer: PeerId) -> bool {
        self.only.is_empty() || self.only.contains(&peer)
    }

    /// A peer has opened a stream: it takes part, for a while even if the directory does not know of it.
    pub(super) fn welcome(&self, peer: PeerId) -> Result<(), String> {
        let mut state = self.lock();
        let now = self.now();
        let is_known = state.links.values().any(|link| link.place.peer == peer);
        if !is_known && !state.guests.admit(now, peer) {
            return Err("too many take part of whom the directory does not know".to_owned());
        }
        let added = state.tunnel.add_peer(now, &peer.to_bytes());
        if added.is_err() {
            state.guests.remove(peer);
        }
        added.map(drop).map_err(|e| e.to_string())
    }

    /// Whether a peer takes part.
    pub(super) fn has(&self, peer: PeerId) -> bool {
        self.lock().tunnel.has_peer(&peer.to_bytes())
    }

    /// What came of a peer was no frame.
    pub(super) fn malformed(&self) {
        self.lock().tunnel.count_drops(Reason::Malformed, 1);
    }

    /// A frame of a peer has come: it is delivered.
    pub(super) fn received(self: &Arc<Self>, peer: PeerId, frame: &Frame<'_>) {
        let id = peer.to_bytes();
        let now = self.now();
        let mut deliveries = Vec::with_capacity(frame.datagrams.len());
        {
            let mut state = self.lock();
            for (nth, carried) in frame.datagrams.iter().enumerate() {
                let delivery = state.tunnel.received(now, &id, &frame.head, nth as u64, carried);
                let Some(delivery) = delivery else { continue };
                if let Some(closed) = delivery.close {
                    state.sockets.remove(&closed);
                }
                if let Some(at) = delivery.open {
                    match self.open(delivery.stand_in, at) {
                        Ok(socket) => drop(state.sockets.insert(delivery.stand_in, socket)),
                        Err(e) => {
                            tracing::warn!("tunnel {}: no socket at {at}: {e}", self.name);
                            state.tunnel.remove_stand_in(delivery.stand_in);
                        }
                    }
                }
                match state.sockets.get(&delivery.stand_in) {
                    Some(found) => {
                        deliveries.push((Arc::clone(&found.socket), delivery.to, carried.bytes));
                    }
                    None => state.tunnel.count_drops(Reason::Undelivered, 1),
                }
            }
        }
        let is_same = |one: &(Arc<UdpSocket>, _, _), other: &(Arc<UdpSocket>, SocketAddrV4, _)| {
            Arc::ptr_eq(&one.0, &other.0) && one.1 == other.1
        };
        let mut failed = 0;
        for run in deliveries.chunk_by(is_same) {
            let bytes: Vec<&[u8]> = run.iter().map(|(_, _, bytes)| *bytes).collect();
            let (socket, to, _) = &run[0];
            failed += self.injector.deliver(socket, *to, &bytes);
        }
        if failed > 0 {
            self.lock().tunnel.count_drops(Reason::Undelivered, failed);
        }
    }

    /// A peer has gossiped a frame.
    pub(super) fn gossiped(self: &Arc<Self>, peer: PeerId, frame: &Frame<'_>) {
        let is_near = self.segment().has(self.now(), &peer.to_bytes());
        if is_near {
            // All listen to the topic, and who is on the segment has heard it there.
            let datagrams = frame.datagrams.len() as u64;
            return self.lock().tunnel.count_drops(Reason::Duplicate, datagrams);
        }
        if self.has(peer) || self.welcome(peer).is_ok() {
            self.received(peer, frame);
        }
    }

    fn open(self: &Arc<Self>, stand_in: StandIn, at: SocketAddrV4) -> io::Result<StandInSocket> {
        let socket = self.injector.stand_in(at)?;
        let heard = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
        let ears = tokio::spawn(hear(Arc::downgrade(self), stand_in, heard)).abort_handle();
        Ok(StandInSocket { socket: Arc::new(socket), ears })
    }

    /// Applications have sent to a group.
    fn captured(&self, at: Instant, to: SocketAddrV4, batch: &Captured) {
        let mut state = self.lock();
        let State { tunnel, links, .. } = &mut *state;
        let now = self.now();
        let segment = self.segment();
        // Who is on the segment has heard what was sent there.
        let has_heard = |link: &Link| segment.has(now, &link.place.peer.to_bytes());
        let links: Vec<&Link> = links.values().filter(|link| !has_heard(link)).collect();
        let mut writer: Option<FrameWriter> = None;
        let (by_gossip, most) = (self.topic.is_used(), self.topic.most());
        let mut lost = 0;
        let mut send = |writer: Option<FrameWriter>| {
            let Some(writer) = writer else { return };
            let datagrams = writer.len() as u64;
            if by_gossip {
                match self.topic.publish(&writer.into_vec()) {
                    Ok(()) => self.latency.count(at.elapsed(), datagrams),
                    Err(_) => lost += datagrams,
                }
                return;
            }
            let frame = Queued { bytes: writer.into_vec().into(), datagrams, at };
            links.iter().for_each(|link| link.send(frame.clone()));
        };
        let mut ordered = Vec::new();
        for (source, bytes) in batch.datagrams() {
            let Some(captured) = tunnel.captured(now, source, to, bytes.len()) else { continue };
            if self.ordering.is_some() {
                ordered.push((captured.source, bytes.into()));
            }
            if links.is_empty() {
                continue;
            }
            if writer.as_ref().is_some_and(|frame| !frame.has_room(bytes.len(), most)) {
                send(writer.take());
            }
            let head = || self.head(tunnel, captured.sequence);
            let frame = writer.get_or_insert_with(|| FrameWriter::new(&head()));
            frame.push(&Carried { source: captured.source, to, bytes });
            if frame.is_full() {
                send(writer.take());
            }
        }
        send(writer);
        if lost > 0 {
            tunnel.count_drops(Reason::Queue, lost);
        }
        drop(segment);
        drop(state);
        if let Some(ordering) = self.ordering.as_ref().filter(|_| !ordered.is_empty()) {
            ordering.offer(to, ordered);
        }
    }

    /// An application has sent to a stand-in.
    fn answered(&self, stand_in: StandIn, source: SocketAddrV4, bytes: &[u8]) {
        let at = Instant::now();
        let mut state = self.lock();
        let State { tunnel, links, .. } = &mut *state;
        let Some(answer) = tunnel.answered(self.now(), stand_in, source, bytes.len()) else {
            return;
        };
        let Some(link) = links.get(&answer.capturer) else {
            return tunnel.count_drops(Reason::Queue, 1);
        };
        let mut writer = FrameWriter::new(&self.head(tunnel, answer.sequence));
        writer.push(&Carried { source: answer.source, to: answer.to, bytes });
        link.send(Queued { bytes: writer.into_vec().into(), datagrams: 1, at });
    }

    fn head(&self, tunnel: &Tunnel, sequence: u64) -> Head<'_> {
        Head { capturer: tunnel.address(), boot: tunnel.boot(), tunnel: &self.name, sequence }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Captured>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment(&self) -> MutexGuard<'_, Segment> {
        self.segment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn look(&self, net: &Arc<Net>) {
        let wanted = net.places_of_tunnel(&self.name);
        let wanted: Vec<Place> =
            wanted.into_iter().filter(|place| self.admits(place.peer)).collect();
        let now = self.now();
        let mut state = self.lock();
        let State { tunnel, links, guests, refused, sockets } = &mut *state;
        // Gossip may be late; a peer that has no such tunnel any more ends the stream.
        let is_wanted = |link: &Link| wanted.iter().any(|place| place.peer == link.place.peer);
        let gone = |link: &Link| !link.is_open() && !is_wanted(link);
        let gone: Vec<(Ipv4Addr, PeerId)> = links
            .iter()
            .filter(|(_, link)| gone(link))
            .map(|(address, link)| (*address, link.place.peer))
            .collect();
        for (address, peer) in gone {
            links.remove(&address);
            tunnel.remove_peer(&peer.to_bytes());
        }
        refused.retain(|peer, _| wanted.iter().any(|place| place.peer == *peer));
        for place in wanted {
            match tunnel.add_peer(now, &place.peer.to_bytes()) {
                Ok(address) => {
                    guests.remove(place.peer);
                    let latency = Arc::clone(&self.latency);
                    let greeting = || FrameWriter::new(&self.head(tunnel, 0)).into_vec().into();
                    let start =
                        || Link::start(&self.mover, self.net.clone(), place, latency, greeting());
                    links.entry(address).or_insert_with(start);
                }
                Err(why) => {
                    let text = format!("{} does not take part: {why}", place.node);
                    refused.insert(place.peer, text);
                }
            }
        }
        self.topic.look(links.len());
        for guest in guests.expire(now) {
            tunnel.remove_peer(&guest.to_bytes());
        }
        for stand_in in tunnel.expire(now) {
            sockets.remove(&stand_in);
        }
    }
}

/// Looks who takes part, for as long as the tunnel is there.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(net) = shared.net.upgrade() else { return };
        shared.look(&net);
        drop(net);
        shared.topic.subscribe().await;
    }
}

/// Takes what is captured, for as long as the tunnel is there.
pub(super) async fn capture(shared: Arc<Shared>, capture: Capture) {
    let socket = capture.as_fd().try_clone_to_owned().map(UdpSocket::from);
    let socket = match socket.and_then(tokio::net::UdpSocket::from_std) {
        Ok(socket) => socket,
        Err(e) => return tracing::error!("tunnel {}: {e}", shared.name),
    };
    let mut dropped = capture.dropped();
    let (mut local, mut asked) = (LocalAddresses::now().unwrap_or_default(), Instant::now());
    let to = capture.to();
    loop {
        if let Err(e) = socket.readable().await {
            return tracing::error!("tunnel {}: {e}", shared.name);
        }
        let mut batch = shared.spare().pop().unwrap_or_default();
        let at = Instant::now();
        let taken = socket.try_io(Interest::READABLE, || capture.try_recv_many(&mut batch));
        if taken.is_ok() {
            if !capture.is_taken() {
                // A membership hears other hosts, too; each captures its own.
                let others = batch.retain(|source| {
                    if !local.contains(*source.ip()) && asked.elapsed() >= ASK {
                        local = LocalAddresses::now().unwrap_or_default();
                        asked = Instant::now();
                    }
                    local.contains(*source.ip())
                });
                if others > 0 {
                    shared.lock().tunnel.count_drops(Reason::OtherHost, others);
                }
            }
            shared.captured(at, to, &batch);
            if capture.is_taken() {
                // Whoever writes to the peers goes first: to them it is the longer way.
                tokio::task::yield_now().await;
                let failed = shared.injector.put_back(to, batch.datagrams());
                if failed > 0 {
                    shared.lock().tunnel.count_drops(Reason::Undelivered, failed);
                }
            }
            let now = capture.dropped();
            if now != dropped {
                let more = u64::from(now.wrapping_sub(dropped));
                shared.lock().tunnel.count_drops(Reason::Kernel, more);
                dropped = now;
            }
        }
        let are_several = batch.are_several();
        shared.spare().push(batch);
        tokio::task::yield_now().await;
        if are_several {
            // Where they come fast, who sends them goes on first, if it waits for this processor: what is taken
            // together costs less.
            std::thread::yield_now();
        }
    }
}

/// Hears what is sent to a stand-in, for as long as it is there.
async fn hear(shared: Weak<Shared>, stand_in: StandIn, socket: tokio::net::UdpSocket) {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        // An error tells of something that was sent before, to somebody who is gone.
        let Ok((len, source)) = socket.recv_from(&mut buffer).await else { continue };
        let (Some(shared), SocketAddr::V4(source)) = (shared.upgrade(), source) else { return };
        shared.answered(stand_in, source, &buffer[..len]);
    }
}
