//! What the agents of one node share: how engines are started, and how agents reach one another.

use super::definition::Definition;
use super::log::AgentLog;
use super::mailbox::Mailbox;
use super::side::Sides;
use super::step::Steps;
use super::task::Order;
use super::topics::Listeners;
use super::udp::{Voice, Voices};
use super::view::View;
use crate::net::Net;
use crate::space::Space;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use synod_prolog::frame::Trigger;
use synod_udp_shim::network::monitor::Monitor;
use tokio::sync::{Notify, mpsc, watch};

/// Topics that one agent may subscribe to, at most.
pub(super) const MAX_TOPICS: usize = 4096;

/// What all agents of a node share.
pub(crate) struct Context {
    /// The node's name.
    pub(super) node: String,
    /// This program, which is also the engines'.
    pub(super) executable: PathBuf,
    /// The folder of the agents' own folders.
    pub(super) folder: PathBuf,
    /// What opens sockets that this process may not.
    pub(super) monitor: Option<Arc<Monitor>>,
    /// Goals that are asked for answer by answer.
    pub(super) steps: Steps,
    /// Clients that listen to topics.
    pub(super) listeners: Listeners,
    /// Told when somebody subscribes to a topic, or does so no more.
    pub(super) topics_changed: Arc<Notify>,
    /// The other nodes, once this one takes part in the network.
    pub(super) net: OnceLock<Weak<Net>>,
    agents: Mutex<BTreeMap<String, Registered>>,
    is_stopping: watch::Sender<bool>,
}

/// An agent as others see it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Registered {
    pub(super) definition: Arc<Definition>,
    pub(super) space: Space,
    pub(super) log: Arc<AgentLog>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) view: Arc<View>,
    pub(super) sides: Arc<Sides>,
    pub(super) orders: mpsc::Sender<Order>,
    topics: Arc<Mutex<BTreeSet<String>>>,
    topics_changed: Arc<Notify>,
    voices: Arc<OnceLock<Voices>>,
}

impl Context {
    pub(super) fn new(
        node: String,
        executable: PathBuf,
        folder: PathBuf,
        monitor: Option<Arc<Monitor>>,
    ) -> Self {
        let (agents, is_stopping) = (Mutex::default(), watch::Sender::new(false));
        Self {
            node,
            executable,
            folder,
            monitor,
            steps: Steps::default(),
            listeners: Listeners::default(),
            topics_changed: Arc::default(),
            net: OnceLock::new(),
            agents,
            is_stopping,
        }
    }

    /// The node's name.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// Whether the node is going down.
    pub(super) fn is_stopping(&self) -> bool {
        *self.is_stopping.borrow()
    }

    pub(super) fn stop(&self) {
        self.is_stopping.send_replace(true);
    }

    /// Resolves when the node goes down.
    pub(super) async fn stopping(&self) {
        // The sender is here: it cannot be gone.
        drop(self.is_stopping.subscribe().wait_for(|is_stopping| *is_stopping).await);
    }

    /// The folder of one agent.
    pub(super) fn folder_of(&self, agent: &str) -> PathBuf {
        self.folder.join(agent)
    }

    /// Takes an agent's name, unless one that is alive has it: that one is the error.
    pub(super) fn register(&self, registered: &Registered) -> Result<(), Box<Registered>> {
        let mut agents = self.lock();
        let name = &registered.definition.name;
        if let Some(known) = agents.get(name).filter(|known| known.view.is_alive()) {
            return Err(Box::new(known.clone()));
        }
        agents.insert(name.clone(), registered.clone());
        Ok(())
    }

    pub(super) fn unregister(&self, agent: &str) {
        self.lock().remove(agent);
    }

    pub(super) fn agent(&self, name: &str) -> Option<Registered> {
        self.lock().get(name).cloned()
    }

    pub(super) fn agents(&self) -> Vec<Registered> {
        self.lock().values().cloned().collect()
    }

    /// The network, once this node takes part in it.
    pub(super) fn net(&self) -> Option<Arc<Net>> {
        self.net.get().and_then(Weak::upgrade)
    }

    /// An agent that runs here, by its name or by `NAME@NODE`.
    pub(super) fn runs(&self, name: &str) -> Option<Registered> {
        let own = name.strip_suffix(&*self.node).and_then(|name| name.strip_suffix('@'));
        let found = self.agent(name).or_else(|| self.agent(own?));
        found.filter(|agent| agent.view.is_running())
    }

    /// Sends a term to an agent of this node. Says whether there is one.
    pub(super) fn send(&self, to: &str, from: &str, term: &[u8]) -> bool {
        let Some(agent) = self.runs(to) else {
            return false;
        };
        agent.mailbox.put(Trigger::Sent { from: from.to_owned(), term: term.to_vec() });
        true
    }

    /// Sends a term to an agent wherever it runs, or says why not.
    pub(super) async fn send_anywhere(
        &self,
        to: &str,
        from: &str,
        term: &[u8],
    ) -> Result<(), String> {
        if self.send(to, from, term) {
            return Ok(());
        }
        let Some((net, places)) = self.elsewhere(to, None).await else {
            return Err(format!("nothing was sent to {to}: no such agent is known"));
        };
        // There is one, at least.
        let sent = places.first().map_or(Ok(()), |place| net.post(place, to, from, term));
        sent.map_err(|why| format!("nothing was sent to {to}: {why}"))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Registered>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    pub(super) fn new(
        context: &Context,
        definition: Arc<Definition>,
        space: Space,
        log: AgentLog,
        orders: mpsc::Sender<Order>,
    ) -> Self {
        Self {
            definition,
            space,
            log: Arc::new(log),
            mailbox: Arc::default(),
            view: Arc::default(),
            sides: Arc::default(),
            orders,
            topics: Arc::default(),
            topics_changed: Arc::clone(&context.topics_changed),
            voices: Arc::default(),
        }
    }

    /// It takes part in its multicast groups from here on.
    pub(super) fn has_voices(&self, voices: Voices) {
        // Nobody starts an agent twice.
        drop(self.voices.set(voices));
    }

    /// Its voice in a group.
    pub(super) fn voice(&self, scope: &str) -> Option<Arc<Voice>> {
        self.voices.get()?.of(scope).cloned()
    }

    /// Sends a term to a group, or says why not.
    pub(super) async fn udp_send(&self, scope: &str, term: &[u8]) -> Result<(), String> {
        let sent = match self.voice(scope) {
            Some(voice) => voice.send(term).await,
            None => Err("the agent has no such group: `--multicast` gives it one".to_owned()),
        };
        sent.map_err(|why| format!("nothing was sent to {scope}: {why}"))
    }

    pub(super) fn subscribe(&self, topic: &str) {
        let mut topics = self.topics();
        if topics.len() < MAX_TOPICS {
            if topics.insert(topic.to_owned()) {
                self.topics_changed.notify_one();
            }
        } else {
            drop(topics);
            let text = format!("no subscription to {topic}: there are {MAX_TOPICS} already");
            self.log.line("error", &text);
        }
    }

    pub(super) fn unsubscribe(&self, topic: &str) {
        if self.topics().remove(topic) {
            self.topics_changed.notify_one();
        }
    }

    pub(super) fn unsubscribe_all(&self) {
        self.topics().clear();
        self.topics_changed.notify_one();
    }

    pub(super) fn subscribes(&self, topic: &str) -> bool {
        self.topics().contains(topic)
    }

    pub(super) fn topics(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
