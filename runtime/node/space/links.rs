//! What carries frames from one member of a space to another. The space says to whom, by the peer's id in
//! the network; the transport proves to the other side who sent it.

use super::observing::Answered;
use bytes::Bytes;
use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;
use synod_core::group::observer::{Fetched, Request};

/// Whether a frame may wait behind entries on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Short, and of use only if it comes soon: heartbeats, votes, answers.
    Urgent,
    /// In order, one behind the other.
    Normal,
}

/// A snapshot on its way to another member.
pub(crate) struct Offer {
    /// Its file.
    pub(crate) file: PathBuf,
    /// The frame that follows it.
    pub(crate) frame: Bytes,
    /// Told whether both have arrived.
    pub(crate) done: Box<dyn FnOnce(bool) + Send>,
}

/// The way to other members. Nothing here waits.
pub(crate) trait Links: Debug + Send + Sync {
    /// Sends a frame. False if it is known not to arrive: the peer is not connected, or its queue is
    /// full.
    fn send(&self, peer: &[u8], lane: Lane, frame: Bytes) -> bool;

    /// A frame is expected within this time, which is short.
    fn expect(&self, within: Duration) {
        let _ = within;
    }

    /// This node's signature of a message; empty, if it has no key.
    fn sign(&self, message: &[u8]) -> Vec<u8>;

    /// Whether a peer has signed a message.
    fn is_signed_by(&self, peer: &[u8], message: &[u8], signature: &[u8]) -> bool;

    /// Sends a snapshot's file, then the frame.
    fn offer(&self, peer: &[u8], space: [u8; 32], offer: Offer);

    /// Asks a peer about a space that this node follows. `done` is told what came of it, in any case.
    fn ask(&self, peer: &[u8], space: [u8; 32], request: Request, done: Done) {
        let _ = (peer, space, request);
        done(Fetched::Lost);
    }

    /// Connected peers that follow a space, too.
    fn observers(&self, space: [u8; 32]) -> Vec<Bytes> {
        let _ = space;
        Vec::new()
    }

    /// Whether there is a connection to a peer.
    fn is_connected(&self, peer: &[u8]) -> bool {
        let _ = peer;
        false
    }

    /// What people know a peer by.
    fn name_of(&self, peer: &[u8]) -> String {
        crate::hex::hex(peer)
    }
}

/// Told what came of a question.
pub(crate) type Done = Box<dyn FnOnce(Answered) + Send>;

/// For a space that has no other members.
#[derive(Debug)]
pub(crate) struct NoLinks;

impl Links for NoLinks {
    fn send(&self, _peer: &[u8], _lane: Lane, _frame: Bytes) -> bool {
        false
    }

    fn sign(&self, _message: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    fn is_signed_by(&self, _peer: &[u8], _message: &[u8], _signature: &[u8]) -> bool {
        false
    }

    fn offer(&self, _peer: &[u8], _space: [u8; 32], offer: Offer) {
        (offer.done)(false);
    }
}
