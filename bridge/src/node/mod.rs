//! Drives the swarm: one task that owns it, the address book and all decisions.

mod ask;
mod ears;
mod gossip;
mod happen;
mod refuse;
#[cfg(test)]
mod tests;

use crate::awake::Awake;
use crate::batch::{Batcher, MAX_FRAME};
use crate::behaviour::Behaviour;
use crate::book::Book;
use crate::bridge::{Bridge, Command, ConnectError, GossipQueue};
use crate::conn::{Peers, lock};
use crate::event::{Deliver, Inflow};
use crate::frame::Hello;
use crate::gate::Gate;
use crate::handler::Shared;
use crate::limits::{COMMANDS, Limits, MAX_NORMAL, MAX_URGENT};
use crate::links::Links;
use crate::mirror::Mirror;
use crate::policy::{Policy, Target};
use crate::stats::Counters;
use crate::{Config, Error, files, transport};
use ears::Ears;
use libp2p::futures::StreamExt as _;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, Swarm};
use libp2p::{Multiaddr, PeerId};
use refuse::Refused;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot, watch};

/// How often a book that has changed is written.
const SAVE: Duration = Duration::from_secs(10);
/// How long after somebody new has come, or is known at another address: a node that is killed must find
/// them again.
const SAVE_SOON: Duration = Duration::from_millis(500);
/// How long a peer has to read why it is refused.
const LEAVE: Duration = Duration::from_millis(500);
/// How often one of the neighbours is told who else there is.
const TELL: Duration = Duration::from_secs(30);
/// How soon it is when there is news, and how many are told of it.
const TELL_SOON: Duration = Duration::from_millis(600);
const TELLINGS: usize = 16;
/// Room that a gossip router needs around a frame: signature, ids, topic, and what it reads ahead.
const AROUND: usize = 16 << 10;
/// How long a connection that asks nothing of ours is kept.
const IDLE: Duration = Duration::from_secs(20);
/// What the thread of a bridge is called.
const THREAD: &str = "bridge";
/// How long closing may take.
const CLOSE: Duration = Duration::from_secs(2);

pub(crate) struct Node {
    id: PeerId,
    swarm: Swarm<Behaviour>,
    peers: Arc<Peers>,
    counters: Arc<Counters>,
    deliver: Arc<dyn Deliver>,
    gossip: Arc<GossipQueue>,
    /// Frames wait until then, because every neighbour's queue was full.
    gossip_after: Option<Instant>,
    gossip_inflow: Arc<Inflow>,
    gossip_inflows: HashMap<PeerId, Arc<Inflow>>,
    ears: Ears,
    limits: Limits,
    private: bool,
    book: Book,
    book_changed: bool,
    save_at: Instant,
    saving: Option<tokio::task::JoinHandle<()>>,
    folder: PathBuf,
    policy: Policy,
    dial_at: Instant,
    dials: HashMap<ConnectionId, Dial>,
    /// Who waits for a connection with a peer that is being made already, or has not greeted yet.
    waiting: Vec<(PeerId, Dial)>,
    resolved: mpsc::Sender<(Dial, Vec<Multiaddr>)>,
    mirror: Mirror,
    boots: HashMap<PeerId, Vec<u64>>,
    refused: Refused,
    /// Whom to disconnect from, once it has had time to read why.
    leaving: Vec<(Instant, PeerId)>,
    /// How often a neighbour was told of others, and when the next one is.
    told: usize,
    /// How many are told soon, because there is news.
    tellings: usize,
    tell_at: Instant,
    listening: watch::Sender<Vec<Multiaddr>>,
}

/// A connection that is being made, and who waits for it.
#[derive(Debug)]
struct Dial {
    target: Option<Target>,
    address: Option<Multiaddr>,
    replies: Vec<oneshot::Sender<Result<PeerId, ConnectError>>>,
}

pub(crate) fn start(
    config: Config,
    counters: Arc<Counters>,
    deliver: Arc<dyn Deliver>,
    backlog: Option<Arc<Inflow>>,
) -> Result<Bridge, Error> {
    // One thread drives all of it. With more of them, each message that comes or goes wakes one thread to
    // do the work and another to find that there is none left.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name(THREAD)
        .build()
        .map_err(Error::Thread)?;
    // Sockets belong to the runtime that they are made on.
    let entered = runtime.enter();
    let prepared = prepare(config, counters, deliver);
    drop(entered);
    let (bridge, node, commands, resolutions) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            // The caller may be on a runtime, where another's end must not be waited for.
            runtime.shutdown_background();
            return Err(error);
        }
    };
    let awake = Arc::clone(&bridge.awake);
    let drive = move || {
        runtime.spawn(async move { awake.keep().await });
        runtime.block_on(node.run(commands, resolutions, backlog));
        // A name that is still looked up does not keep the thread.
        runtime.shutdown_background();
    };
    std::thread::Builder::new().name(THREAD.into()).spawn(drive).map_err(Error::Thread)?;
    Ok(bridge)
}

/// A bridge that nobody drives yet, and what it is asked for.
type Prepared = (Bridge, Node, mpsc::Receiver<Command>, mpsc::Receiver<(Dial, Vec<Multiaddr>)>);

fn prepare(
    config: Config,
    counters: Arc<Counters>,
    deliver: Arc<dyn Deliver>,
) -> Result<Prepared, Error> {
    let (mut book, seeds) = (files::read(&config.folder)?, files::seeds(&config.folder)?);
    for peer in config.peers.iter().chain(&seeds.peers) {
        book.add(peer)?;
    }
    let hello = Hello { versions: config.versions, boot: chance() };
    let shared = Shared { hello, deliver: Arc::clone(&deliver), counters: Arc::clone(&counters) };
    let gate = Gate::new(config.allow, &config.limits);
    let links = Links::new(gate, Arc::new(shared), config.limits.clone());
    let (transport, relay) = transport::build(&config.identity, config.private)?;
    let behaviour = Behaviour::new(&config.identity, links, relay, &config.limits, config.mdns)?;
    let id = config.identity.id();
    let mut swarm = Swarm::new(
        transport,
        behaviour,
        id,
        libp2p::swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE),
    );
    for address in &config.listen {
        let failed = |why: String| Error::Listen { address: address.clone(), why };
        transport::is_free(address).map_err(|error| failed(error.to_string()))?;
        swarm.listen_on(address.clone()).map_err(|error| failed(explain(&error)))?;
    }
    for relay in seeds.signallers {
        if let Some(peer) = crate::book::split(&relay).1 {
            swarm.behaviour_mut().links.relay(peer);
        }
        if let Err(error) = swarm.listen_on(relay.clone().with(Protocol::P2pCircuit)) {
            return Err(Error::Listen { address: relay, why: error.to_string() });
        }
    }
    let peers = Arc::new(Peers::default());
    let gossip = Arc::new(GossipQueue {
        batcher: Batcher::new(config.limits.gossip_queue).into(),
        changed: tokio::sync::Notify::new(),
    });
    let (commands, asked) = mpsc::channel(COMMANDS);
    let (listening, listens) = watch::channel(Vec::new());
    let (resolved, resolutions) = mpsc::channel(COMMANDS);
    let now = Instant::now();
    let mut node = Node {
        id,
        swarm,
        peers: Arc::clone(&peers),
        counters: Arc::clone(&counters),
        deliver,
        gossip: Arc::clone(&gossip),
        gossip_after: None,
        gossip_inflow: Inflow::new(config.limits.gossip_inflow),
        gossip_inflows: HashMap::new(),
        ears: Ears::new(config.limits.beacon_interval, config.limits.beacons_missed),
        policy: Policy::new(id, config.limits.peers, chance()),
        limits: config.limits,
        private: config.private.is_some(),
        book,
        book_changed: false,
        save_at: now + SAVE,
        saving: None,
        folder: config.folder,
        dial_at: now,
        dials: HashMap::new(),
        waiting: Vec::new(),
        resolved,
        mirror: Mirror::default(),
        boots: HashMap::new(),
        refused: Refused::default(),
        leaving: Vec::new(),
        told: 0,
        tellings: 0,
        tell_at: now + TELL,
        listening,
    };
    node.listen_for_beacons()?;
    let wanted = config.listen.len();
    let awake = Arc::new(Awake::new());
    let runtime = tokio::runtime::Handle::current();
    let bridge = Bridge {
        id,
        asked: wanted,
        peers,
        counters,
        gossip,
        awake,
        runtime,
        listening: listens,
        commands,
    };
    Ok((bridge, node, asked, resolutions))
}

/// Whether a configuration works out.
pub(crate) fn check(config: &Config) -> Result<(), Error> {
    let quic = config.listen.iter().find(|address| transport::is_quic(address));
    if let (Some(_), Some(quic)) = (config.private, quic) {
        return Err(Error::QuicInPrivate(quic.clone()));
    }
    let limits = &config.limits;
    let least = [
        ("queue_normal", limits.queue_normal, MAX_NORMAL),
        ("queue_urgent", limits.queue_urgent, MAX_URGENT),
        ("inflow_normal", limits.inflow_normal, 1),
        ("inflow_urgent", limits.inflow_urgent, 1),
        ("gossip_transmit", limits.gossip_transmit, MAX_FRAME + AROUND),
        ("streams_per_peer", limits.streams_per_peer, 1),
    ];
    match least.into_iter().find(|(_, value, least)| value < least) {
        Some((name, value, least)) => Err(Error::Limit { name, value, least }),
        None => Ok(()),
    }
}

/// A number that nobody can foresee.
fn chance() -> u64 {
    let key = libp2p::identity::ed25519::SecretKey::generate();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&key.as_ref()[..8]);
    u64::from_be_bytes(bytes)
}

impl Node {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut resolutions: mpsc::Receiver<(Dial, Vec<Multiaddr>)>,
        backlog: Option<Arc<Inflow>>,
    ) {
        let gossip = Arc::clone(&self.gossip);
        let closing = loop {
            let wake = tokio::time::Instant::from_std(self.wake());
            // Who reads no events gets no new ones.
            let room = std::future::poll_fn(|cx| match &backlog {
                Some(backlog) if !backlog.has_room(cx.waker()) => std::task::Poll::Pending,
                _ => std::task::Poll::Ready(()),
            });
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Close(reply)) => break Some(reply),
                    Some(command) => self.ask(command),
                    None => break None,
                },
                Some((dial, addresses)) = resolutions.recv() => self.dial(dial, addresses),
                event = async { room.await; self.swarm.select_next_some().await } => {
                    self.happened(event);
                }
                () = gossip.changed.notified() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
            self.due(Instant::now());
        };
        self.close().await;
        if let Some(reply) = closing {
            // Whoever asked may have gone.
            let _ = reply.send(());
        }
    }

    fn wake(&self) -> Instant {
        let now = Instant::now();
        let batch = match self.gossip_after {
            Some(after) => Some(after),
            None => lock(&self.gossip.batcher).due(now),
        };
        let save = self.book_changed.then_some(self.save_at);
        let leave = self.leaving.iter().map(|(at, _)| *at).min();
        [batch, save, leave, self.mirror.due(), self.ears.due(), Some(self.tell_at)]
            .into_iter()
            .flatten()
            .fold(self.dial_at, Instant::min)
    }

    fn due(&mut self, now: Instant) {
        self.send_gossip(now);
        self.beacons(now);
        for address in self.mirror.strangers(now) {
            self.same_identity(self.id, Some(address));
        }
        if self.dial_at <= now {
            self.dial_due(now);
        }
        for (_, peer) in self.leaving.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            self.disconnect(peer);
        }
        if self.tell_at <= now {
            self.tell_at = now + if self.tellings > 0 { TELL_SOON } else { TELL };
            self.tellings = self.tellings.saturating_sub(1);
            self.tell_somebody();
        }
        if self.book_changed && self.save_at <= now {
            self.save(now);
        }
    }

    fn dial_due(&mut self, now: Instant) {
        self.policy.keep_only(&self.book);
        let connected: BTreeSet<PeerId> = self.peers.all().iter().map(|conn| conn.peer).collect();
        for target in self.policy.due(now, &self.book, &connected) {
            let addresses = match &target {
                Target::Peer(peer) => self.book.addresses(peer),
                Target::Seed(address) => vec![address.clone()],
            };
            let dial = Dial { target: Some(target), address: None, replies: Vec::new() };
            self.resolve(dial, addresses);
        }
        self.dial_at = self.policy.wake(now);
    }

    /// Looks names up beside the swarm, which would wait for them.
    fn resolve(&mut self, dial: Dial, addresses: Vec<Multiaddr>) {
        let resolved = self.resolved.clone();
        tokio::spawn(async move {
            let mut found = Vec::new();
            for address in addresses {
                found.extend(transport::resolve(address).await);
            }
            // The swarm has ended if it does not want it.
            let _ = resolved.send((dial, found)).await;
        });
    }

    fn dial(&mut self, dial: Dial, mut addresses: Vec<Multiaddr>) {
        if self.private {
            addresses.retain(|address| !transport::is_quic(address));
        }
        let peer = match &dial.target {
            Some(Target::Peer(peer)) => Some(*peer),
            _ => addresses.first().and_then(|address| crate::book::split(address).1),
        };
        if let Some(conn) = peer.and_then(|peer| self.peers.get(&peer)) {
            return self.dialed(dial, conn.peer);
        }
        let opts = match peer {
            Some(peer) => DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(addresses)
                .build(),
            None => match addresses.into_iter().next() {
                Some(address) => DialOpts::unknown_peer_id().address(address).build(),
                None => return self.not_dialed(dial, "no such host"),
            },
        };
        let id = opts.connection_id();
        self.swarm.behaviour_mut().links.dialing(id);
        match self.swarm.dial(opts) {
            Ok(()) => {
                self.dials.insert(id, dial);
            }
            // The swarm takes out what it listens on itself.
            Err(DialError::NoAddresses) if peer.is_none() => {
                if let Some(Target::Seed(own)) = &dial.target {
                    self.book.remove_address(own);
                    self.book_changed = true;
                }
                self.not_dialed(dial, "this is the node itself");
            }
            // That it comes to an end is told, whatever the end.
            Err(DialError::DialPeerConditionFalse(_)) if let Some(peer) = peer => {
                self.waiting.push((peer, dial));
            }
            Err(error) => self.not_dialed(dial, &explain(&error)),
        }
    }

    /// Those who waited for a connection with a peer.
    fn waited(&mut self, peer: PeerId) -> Vec<Dial> {
        self.waiting.extract_if(.., |(whom, _)| *whom == peer).map(|(_, dial)| dial).collect()
    }

    fn dialed(&mut self, dial: Dial, peer: PeerId) {
        let now = Instant::now();
        self.policy.succeeded(&Target::Peer(peer), now);
        if let Some(target) = &dial.target {
            self.policy.succeeded(target, now);
        }
        for reply in dial.replies {
            let _ = reply.send(Ok(peer));
        }
    }

    fn not_dialed(&mut self, dial: Dial, why: &str) {
        let now = Instant::now();
        self.counters.add(&self.counters.dial_failures, 1);
        if let Some(target) = dial.target {
            let wanted = match &target {
                Target::Peer(peer) => self.wants(peer),
                Target::Seed(_) => true,
            };
            self.policy.failed(target, wanted, now);
            self.dial_at = self.dial_at.min(self.policy.wake(now));
        }
        for reply in dial.replies {
            let address = dial.address.clone().unwrap_or_else(Multiaddr::empty);
            let _ = reply.send(Err(ConnectError::Failed { address, why: why.to_owned() }));
        }
    }

    fn wants(&self, peer: &PeerId) -> bool {
        self.book.peers.get(peer).is_some_and(|known| known.wanted)
    }

    fn changed(&mut self) {
        self.save_soon();
        self.dial_at = Instant::now();
    }

    fn save_soon(&mut self) {
        self.book_changed = true;
        self.save_at = self.save_at.min(Instant::now() + SAVE_SOON);
    }

    /// Writes the book beside the swarm, one writer at a time.
    fn save(&mut self, now: Instant) {
        self.save_at = now + SAVE;
        if self.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            return;
        }
        self.book_changed = false;
        let (folder, book) = (self.folder.clone(), self.book.clone());
        self.saving = Some(tokio::task::spawn_blocking(move || save(&folder, &book)));
    }

    async fn close(mut self) {
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // It fails only where there is nothing left to end.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let ended = async {
            while self.swarm.connected_peers().next().is_some() {
                let event = self.swarm.select_next_some().await;
                self.happened(event);
            }
        };
        let _ = tokio::time::timeout(CLOSE, ended).await;
        if let Some(saving) = self.saving.take() {
            let _ = saving.await;
        }
        save(&self.folder, &self.book);
    }
}

fn save(folder: &std::path::Path, book: &Book) {
    if let Err(error) = files::write(folder, book) {
        let path = folder.join(files::BOOK_FILE);
        tracing::warn!("{}: {error}: the address book is not saved", path.display());
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What went wrong, on one line.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
