//! Marks of the state, which voters sign, and the checkpoints that their leader makes of them.

use super::OrderThread;
use super::acting::micros;
use crate::space::links::Lane;
use bytes::Bytes;
use synod_core::command::{Batch, Checkpoint, Command};
use synod_core::group::{Agreement, Frame, Mark};
use synod_core::order::{Input, Role};

impl OrderThread {
    /// This node's state has come to a mark.
    pub(super) fn mark(&mut self, mark: Mark) {
        if !self.order.members().is_voter(self.coordinator.me().member) {
            return;
        }
        let signature = self.group.sign(&self.id, &mark);
        if !signature.is_empty() {
            self.group.marked = Some((mark, signature));
            self.mark_for(self.order.leader());
        }
    }

    /// Gives this node's newest mark to who leads, perhaps itself.
    pub(super) fn mark_for(&mut self, leader: Option<u64>) {
        let (Some(leader), Some((mark, signature))) = (leader, self.group.marked.clone()) else {
            return;
        };
        let me = self.coordinator.me().member;
        if leader == me {
            self.group.marks.take(me, mark, signature);
            return self.agree();
        }
        if let Some(peer) = self.coordinator.peer_of(&self.shared.membership(), leader) {
            self.group.send(&peer, Lane::Normal, &Frame::Mark { mark, signature });
        }
    }

    /// A member's state has come to a mark.
    pub(super) fn take_mark(&mut self, member: u64, peer: &[u8], mark: Mark, signature: &Bytes) {
        let is_wanted = self.order.role() == Role::Leader
            && self.order.members().is_voter(member)
            && self.group.marks.wants(member, &mark);
        if !is_wanted {
            return;
        }
        if !self.group.is_signed(&self.id, &mark, peer, signature) {
            self.shared.refused();
            return tracing::warn!("member {member} says of its state what it has not signed");
        }
        // A copy, so that the frame does not stay in memory.
        self.group.marks.take(member, mark, Bytes::copy_from_slice(signature));
        self.agree();
    }

    /// Most voters agreed on another history than what this node has applied, its log says: that they are most of
    /// them, the state has looked at. Where they have signed it, the log here goes back to before it was written
    /// over, in terms that are the same.
    pub(super) fn look_apart(&mut self, checkpoint: &Checkpoint) {
        if self.is_mute {
            return;
        }
        let Checkpoint { mark, signatures, .. } = checkpoint;
        if !signatures.iter().all(|s| self.group.is_signed(&self.id, mark, &s.peer, &s.bytes)) {
            return tracing::warn!(
                "the log says of index {} that the voters have another history there, and they have not signed it",
                mark.index
            );
        }
        self.give_up(&format!(
            "{} voters have signed another history than this node's at index {}",
            signatures.len(),
            mark.index
        ));
    }

    /// Puts into the log what most voters agree on. Once, and not again: a newer one does as well.
    fn agree(&mut self) {
        if self.order.role() != Role::Leader {
            return;
        }
        match self.group.marks.agreement(&self.shared.membership()) {
            Some(Agreement::Made(checkpoint)) => {
                let commands = vec![Command::Checkpoint(checkpoint).encode()];
                let batch = Batch { time: micros(), tags: Vec::new(), commands };
                let (ticket, data) = (self.coordinator.ticket(), batch.encode());
                self.order.handle(self.now(), Input::Propose { ticket, data });
            }
            Some(Agreement::None(index)) => tracing::error!(
                "the voters disagree about what the log leads to at index {index}, and there is no majority: \
                 compare `synod log export` of each, and report it"
            ),
            None => {}
        }
    }
}
