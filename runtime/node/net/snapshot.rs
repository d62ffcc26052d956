//! Snapshots that a leader sends to a member that is too far behind for its log.
//!
//! The stream carries what is offered as JSON, the file, and the frame that belongs to it; the receiver
//! answers with one byte when the file is whole, checked and safe on its disk.

use super::incoming::{read_text, timed, write_text};
use super::routes::Routes;
use crate::hex::{fixed, hex};
use crate::space::ReceivedSnapshot;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use synod_bridge::{Bridge, PeerId, Stream};
use synod_core::group::{Frame, MAX_FRAME_BYTES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What the stream is called.
pub(super) const STREAM: &str = "synod/snapshot/1";
/// Bytes that are read or written at a time.
const CHUNK: usize = 256 << 10;
/// The receiver has it.
const TAKEN: u8 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Offered {
    space: String,
    token: String,
    bytes: u64,
    frame: u32,
}

/// Sends a snapshot's file and the frame behind it; returns when both have been taken.
pub(super) async fn send(
    bridge: &Bridge,
    peer: PeerId,
    space: [u8; 32],
    file: &Path,
    frame: &[u8],
) -> io::Result<()> {
    let mut file = tokio::fs::File::open(file).await?;
    let bytes = file.metadata().await?.len();
    let mut stream = bridge.open(peer, STREAM).await.map_err(io::Error::other)?;
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    // What the frame behind it begins with shows at once that a member sends it.
    let token = Frame::token(frame).map_err(io::Error::other)?;
    let (space, token) = (hex(&space), hex(&token));
    write_text(&mut stream, &Offered { space, token, bytes, frame: length }).await?;
    put(&mut stream, &mut file, bytes).await?;
    timed(async {
        stream.write_all(frame).await?;
        stream.flush().await
    })
    .await?;
    let mut taken = [0];
    timed(stream.read_exact(&mut taken)).await?;
    match taken {
        [TAKEN] => Ok(()),
        _ => Err(io::Error::other("the member has refused it")),
    }
}

/// Writes a file of so many bytes.
pub(super) async fn put(
    stream: &mut Stream,
    file: &mut tokio::fs::File,
    bytes: u64,
) -> io::Result<()> {
    let (mut left, mut chunk) = (bytes, vec![0; CHUNK]);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let read = file.read(&mut chunk[..most]).await?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the snapshot has become shorter",
            ));
        }
        timed(stream.write_all(&chunk[..read])).await?;
        left -= read as u64;
    }
    Ok(())
}

/// Reads what [`put`] wrote.
pub(super) async fn take(
    stream: &mut Stream,
    received: &mut ReceivedSnapshot,
    bytes: u64,
) -> io::Result<()> {
    let (mut left, mut chunk) = (bytes, vec![0; CHUNK]);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let read = timed(stream.read(&mut chunk[..most])).await?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it broke off"));
        }
        // A chunk is written in well under a millisecond.
        received.write(&chunk[..read])?;
        left -= read as u64;
    }
    Ok(())
}

/// Takes a snapshot in.
pub(super) async fn receive(routes: &Routes, peer: PeerId, mut stream: Stream) -> io::Result<()> {
    let offered: Offered = read_text(&mut stream).await?;
    let shown = fixed(&offered.token).and_then(|token| routes.shown(peer, &token));
    let Some(space) = shown.filter(|space| hex(&space.id()) == offered.space) else {
        return Err(io::Error::other("it has not shown that it is a member of a space here"));
    };
    if offered.frame as usize > MAX_FRAME_BYTES {
        return Err(io::Error::other("its frame is over the bound"));
    }
    let mut received = ReceivedSnapshot::begin(&space, offered.bytes)?;
    take(&mut stream, &mut received, offered.bytes).await?;
    let mut frame = vec![0; offered.frame as usize];
    timed(stream.read_exact(&mut frame)).await?;
    let taken = tokio::task::spawn_blocking(move || received.finish()).await;
    let (file, meta) = taken.map_err(io::Error::other)??;
    space.receive_snapshot(peer.to_bytes().into(), file, meta, frame.into());
    timed(async {
        stream.write_all(&[TAKEN]).await?;
        stream.flush().await
    })
    .await
}
