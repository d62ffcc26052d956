//! What the user asks of the swarm.

use super::{Dial, Node};
use crate::bridge::{Command, ConnectError};
use crate::event::Refusal;
use crate::policy::Target;
use libp2p::{Multiaddr, PeerId};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

impl Node {
    pub(super) fn ask(&mut self, command: Command) {
        // Who asked and no longer waits for the answer has no use for it.
        match command {
            Command::Connect(address, reply) => self.connect(address, reply),
            Command::Disconnect(peer, reply) => {
                self.policy.leave(peer, Instant::now());
                let _ = reply.send(self.disconnect(peer));
            }
            Command::Add(address, reply) => {
                let added = self.book.add(&address);
                if let Ok(peer) = &added {
                    let target = peer.map_or_else(|| Target::Seed(address), Target::Peer);
                    self.policy.hurry(&target);
                    self.changed();
                }
                let _ = reply.send(added);
            }
            Command::RemovePeer(peer, reply) => {
                let removed = self.book.remove_peer(&peer);
                self.swarm.behaviour_mut().kad.remove_peer(&peer);
                self.changed();
                let _ = reply.send(removed);
            }
            Command::RemoveAddress(address, reply) => {
                let removed = self.book.remove_address(&address);
                self.changed();
                let _ = reply.send(removed);
            }
            Command::Known(reply) => {
                let _ = reply.send(self.book.clone());
            }
            Command::Block(peer, time, reason, reply) => {
                self.block(peer, time, &reason);
                let _ = reply.send(());
            }
            Command::Unblock(peer, reply) => {
                let was = self.swarm.behaviour_mut().links.gate.unblock(&peer);
                self.dial_at = Instant::now();
                let _ = reply.send(was);
            }
            Command::Subscribe(topic, reply) => {
                let _ = reply.send(self.subscribe(&topic));
            }
            Command::Unsubscribe(topic, reply) => {
                let _ = reply.send(self.unsubscribe(&topic));
            }
            // It ends the loop that calls this.
            Command::Close(_) => {}
        }
    }

    fn connect(
        &mut self,
        address: Multiaddr,
        reply: oneshot::Sender<Result<PeerId, ConnectError>>,
    ) {
        let named = crate::book::split(&address).1;
        if let Some(peer) = named {
            self.policy.hurry(&Target::Peer(peer));
            if peer == self.id {
                let why = "this is the node itself".to_owned();
                let _ = reply.send(Err(ConnectError::Failed { address, why }));
                return;
            }
        }
        let dial = Dial { target: None, address: Some(address.clone()), replies: vec![reply] };
        self.resolve(dial, vec![address]);
    }

    fn block(&mut self, peer: PeerId, time: Option<Duration>, reason: &str) {
        tracing::warn!("{peer} is blocked: {reason}");
        self.counters.refuse(Refusal::Blocked.name());
        let until = time.map(|time| Instant::now() + time);
        self.swarm.behaviour_mut().links.gate.block(peer, until);
        self.disconnect(peer);
    }
}
