//! What is read from a file or a pipe, as the body of a request.

use super::Failure;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::{Body, Frame};
use std::convert::Infallible;
use std::io::{ErrorKind, Read};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;
/// Pieces that wait to be sent, at most.
const PIECES: usize = 4;

/// The reading of a body, which ends with it.
pub(crate) struct Reading(JoinHandle<std::io::Result<()>>);

/// A body of all that a source gives.
pub(crate) fn upload(
    mut source: impl Read + Send + 'static,
) -> (impl Body<Data = Bytes, Error = Infallible> + Send + 'static, Reading) {
    let (sender, mut queue) = mpsc::channel(PIECES);
    let reading = tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE];
            match source.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(len) => piece.truncate(len),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            if sender.blocking_send(Bytes::from(piece)).is_err() {
                // The node has said already what it thinks of it.
                return Ok(());
            }
        }
    });
    let pieces = stream::poll_fn(move |cx| {
        queue.poll_recv(cx).map(|piece| Some(Ok::<_, Infallible>(Frame::data(piece?))))
    });
    (StreamBody::new(pieces), Reading(reading))
}

impl Reading {
    /// Whether it has come to the source's end, or to one of the node's; `name` is the source's.
    pub(crate) async fn ended(self, name: impl FnOnce(&str) -> String) -> Result<(), Failure> {
        let read = self.0.await.map_err(|e| Failure::error(e.to_string()))?;
        read.map_err(|e| Failure::error(name(&e.to_string())))
    }
}
