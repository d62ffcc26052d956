//! Gossip at this node: who listens to which topic, agents and clients alike.

use super::context::Context;
use super::{Agents, Registered};
use crate::api::{ErrorBody, TopicMessage};
use crate::json;
use crate::net::{Net, messages};
use crate::space::error;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use synod_prolog::frame::Trigger;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, error::TrySendError};

/// Clients that listen, at most.
const MAX_LISTENERS: usize = 256;
/// Messages that wait for a client, at most; what comes beyond them is dropped, and it is told.
const WAITING: usize = 1024;

/// Clients that listen to topics.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<BTreeMap<u64, Listener>>, AtomicU64);

#[derive(Debug)]
struct Listener {
    topic: String,
    sender: mpsc::Sender<TopicMessage>,
    missed: u64,
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Listener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, topic: &str, from: &str, node: &str, term: &[u8]) {
        let mut all = self.lock();
        let mut listening = all.values_mut().filter(|listener| listener.topic == topic).peekable();
        if listening.peek().is_none() {
            return;
        }
        let [topic, from, node] = [topic, from, node].map(str::to_owned);
        let message = TopicMessage::Message { topic, from, node, term: json::text_of(term) };
        for listener in listening {
            listener.tell(message.clone());
        }
    }
}

impl Listener {
    fn tell(&mut self, message: TopicMessage) {
        if self.missed > 0 {
            let missed = TopicMessage::Missed { messages: self.missed };
            match self.sender.try_send(missed) {
                Ok(()) => self.missed = 0,
                Err(_) => return self.missed += 1,
            }
        }
        if let Err(TrySendError::Full(_)) = self.sender.try_send(message) {
            self.missed += 1;
        }
    }
}

impl Context {
    /// Gossips a term to everybody who listens to the topic, here and on other nodes; or says why it
    /// cannot be.
    pub(super) fn publish(&self, topic: &str, from: &str, term: &[u8]) -> Result<(), String> {
        messages::check(topic, term)?;
        self.heard(topic, from, &self.node, term);
        match self.net() {
            Some(net) => net.publish(topic, from, term),
            None => Ok(()),
        }
    }

    /// Gives a term to everybody here who listens to the topic.
    fn heard(&self, topic: &str, from: &str, node: &str, term: &[u8]) {
        for agent in self.lock().values().filter(|agent| agent.subscribes(topic)) {
            let (topic, from) = (topic.to_owned(), from.to_owned());
            agent.mailbox.put(Trigger::Message { topic, from, term: term.to_vec() });
        }
        self.listeners.tell(topic, from, node, term);
    }
}

impl Agents {
    /// The other nodes can be reached from here on.
    pub(crate) fn join(&self, net: &Arc<Net>) {
        // Set once: a node takes part in one network.
        drop(self.context.net.set(Arc::downgrade(net)));
    }

    /// Gossips a client's term.
    pub(crate) fn publish(&self, topic: &str, from: &str, term: &[u8]) -> Result<(), ErrorBody> {
        if from.is_empty() || from.len() > messages::MAX_WHO_BYTES {
            let text = format!("whom it is from has 1 to {} bytes", messages::MAX_WHO_BYTES);
            return Err(error("name", text));
        }
        check_topic(topic)?;
        let code = if messages::check(topic, term).is_err() { "too_large" } else { "busy" };
        self.context.publish(topic, from, term).map_err(|why| error(code, why))
    }

    /// The messages of a topic, as they come. Dropping the receiver ends it.
    pub(crate) fn listen(&self, topic: &str) -> Result<mpsc::Receiver<TopicMessage>, ErrorBody> {
        check_topic(topic)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let listeners = &self.context.listeners;
        let number = listeners.1.fetch_add(1, Ordering::Relaxed);
        {
            let mut all = listeners.lock();
            if all.len() >= MAX_LISTENERS {
                let text = format!("{MAX_LISTENERS} clients listen to topics already");
                return Err(error("busy", text));
            }
            let (topic, sender) = (topic.to_owned(), sender.clone());
            all.insert(number, Listener { topic, sender, missed: 0 });
        }
        self.context.topics_changed.notify_one();
        let context = Arc::clone(&self.context);
        tokio::spawn(async move {
            sender.closed().await;
            context.listeners.lock().remove(&number);
            context.topics_changed.notify_one();
        });
        Ok(receiver)
    }

    /// What another node gossips has come.
    pub(crate) fn heard(&self, topic: &str, from: &str, node: &str, term: &[u8]) {
        self.context.heard(topic, from, node, term);
    }

    /// A message of another node's agent has come. Says whether there is who takes it.
    pub(crate) fn sent(&self, to: &str, from: &str, term: &[u8]) -> bool {
        self.context.send(to, from, term)
    }

    /// All topics that somebody here listens to.
    pub(crate) fn topics(&self) -> BTreeSet<String> {
        let of_agents = self.context.agents();
        let alive = of_agents.iter().filter(|agent| agent.view.is_alive());
        let mut all: BTreeSet<String> = alive.flat_map(|agent| agent.topics().clone()).collect();
        all.extend(self.context.listeners.lock().values().map(|listener| listener.topic.clone()));
        all
    }

    /// Told when those change.
    pub(crate) fn topics_changed(&self) -> Arc<Notify> {
        Arc::clone(&self.context.topics_changed)
    }

    /// What other nodes are told of the agents: name, space, whether it runs here.
    pub(crate) fn told(&self) -> Vec<(String, [u8; 32], bool)> {
        let told = |agent: &Registered| {
            (agent.definition.name.clone(), agent.space.id(), agent.view.is_running())
        };
        let all = self.context.agents();
        all.iter().filter(|agent| agent.view.is_alive()).map(told).collect()
    }
}

fn check_topic(topic: &str) -> Result<(), ErrorBody> {
    messages::check(topic, &[]).map_err(|why| error("name", why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_core::term::Term;

    #[test]
    fn who_is_too_slow_is_told_what_it_missed() {
        let listeners = Listeners::default();
        let (sender, mut receiver) = mpsc::channel(2);
        let topic = "news".to_owned();
        listeners.lock().insert(1, Listener { topic, sender, missed: 0 });
        let term = Term::atom("a").encode().unwrap();
        let tell = || listeners.tell("news", "bank", "alpha", &term);
        listeners.tell("other", "bank", "alpha", &term);
        (0..5).for_each(|_| tell());
        assert!(matches!(receiver.try_recv(), Ok(TopicMessage::Message { .. })));
        assert!(matches!(receiver.try_recv(), Ok(TopicMessage::Message { .. })));
        assert!(receiver.try_recv().is_err());
        tell();
        assert_eq!(receiver.try_recv(), Ok(TopicMessage::Missed { messages: 3 }));
        assert!(matches!(receiver.try_recv(), Ok(TopicMessage::Message { .. })));
    }
}
