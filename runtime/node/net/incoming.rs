//! Streams that peers open here, and how short texts go over them.

use super::{Net, join, observing, reach, snapshot};
use crate::{agents, tunnels};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::time::Duration;
use synod_bridge::{PeerId, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A peer that says nothing for so long on a stream is not waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of one text, at most.
const MAX_TEXT: usize = 1 << 20;

impl Net {
    /// Does what a peer has opened a stream for.
    pub(super) async fn serve(&self, peer: PeerId, name: &str, stream: Stream) {
        let served = match name {
            join::STREAM => join::serve(self, peer, stream).await,
            join::OBSERVE => join::serve_observer(self, peer, stream).await,
            observing::STREAM => observing::serve(self, peer, stream).await,
            snapshot::STREAM => snapshot::receive(&self.routes, peer, stream).await,
            tunnels::STREAM => self.tunnels.serve(peer, stream).await,
            agents::CALL => self.agents.serve_call(self, peer, stream).await,
            reach::SEND => self.receive_messages(peer, stream).await,
            _ => Err(io::Error::other("there is nothing of that name here")),
        };
        if let Err(e) = served {
            self.routes.refuse();
            tracing::debug!("{peer} opened a stream for {name}: {e}");
        }
    }
}

/// Writes a value as JSON, with its length before it as four bytes, big-endian.
pub(super) async fn write_text(stream: &mut Stream, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(value)?;
    let len = u32::try_from(text.len()).map_err(|_| too_long())?;
    let mut bytes = len.to_be_bytes().to_vec();
    bytes.extend_from_slice(&text);
    timed(async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    })
    .await
}

/// Reads what [`write_text`] wrote.
pub(super) async fn read_text<T: DeserializeOwned>(stream: &mut Stream) -> io::Result<T> {
    let mut len = [0; 4];
    timed(stream.read_exact(&mut len)).await?;
    let len = u32::from_be_bytes(len) as usize;
    if len > MAX_TEXT {
        return Err(too_long());
    }
    let mut text = vec![0; len];
    timed(stream.read_exact(&mut text)).await?;
    Ok(serde_json::from_slice(&text)?)
}

pub(super) async fn timed<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the peer is silent")),
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a text of more than {MAX_TEXT} bytes"))
}
