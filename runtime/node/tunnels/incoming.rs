//! What peers send: frames over streams that they open, and by gossip.

use super::Tunnels;
use super::running::Shared;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use synod_bridge::{PeerId, Stream};
use synod_udp_shim::tunnel::{MAX_FRAME_BYTES, read_frame};
use tokio::io::{AsyncReadExt, BufReader};
use tokio::time::timeout;

/// How long a stream may take to say of which tunnel it is.
const GREETING: Duration = Duration::from_secs(10);
/// What a stream is read by.
const READ_BYTES: usize = 128 << 10;

impl Tunnels {
    /// Takes a peer's frames.
    ///
    /// The first of them says of which tunnel; one that is none ends the stream.
    pub(crate) async fn serve(&self, peer: PeerId, stream: Stream) -> io::Result<()> {
        let mut stream = BufReader::with_capacity(READ_BYTES, stream);
        let mut bytes = Vec::new();
        let greeting = read(&mut stream, &mut bytes);
        timeout(GREETING, greeting).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let first = read_frame(&bytes).map_err(io::Error::other)?;
        let shared = self.welcome(peer, first.head.tunnel).map_err(io::Error::other)?;
        shared.received(peer, &first);
        let receive = async {
            loop {
                read(&mut stream, &mut bytes).await?;
                let frame = read_frame(&bytes).ok().filter(|frame| shared.is(frame.head.tunnel));
                let Some(frame) = frame else {
                    shared.malformed();
                    return Err(io::Error::other("what it sent is no frame of the tunnel"));
                };
                shared.received(peer, &frame);
                if !shared.has(peer) {
                    return Err(io::Error::other("the directory does not know of its tunnel"));
                }
            }
        };
        tokio::select! {
            ended = receive => ended,
            () = shared.closed() => Ok(()),
        }
    }

    /// Takes what a peer has gossiped for a tunnel. An error says what is wrong with it.
    pub(crate) fn hear(&self, peer: PeerId, name: &str, bytes: &[u8]) -> Result<(), String> {
        let shared = {
            let running = self.lock();
            let open = running.get(name).and_then(|running| running.open.as_ref().ok());
            let Some(open) = open else { return Ok(()) };
            Arc::clone(&open.shared)
        };
        if !shared.admits(peer) {
            return Err("it is not among the peers of the tunnel".to_owned());
        }
        match read_frame(bytes) {
            Ok(frame) if shared.is(frame.head.tunnel) => {
                shared.gossiped(peer, &frame);
                Ok(())
            }
            Ok(_) => {
                shared.malformed();
                Err("it is a frame of another tunnel".to_owned())
            }
            Err(e) => {
                shared.malformed();
                Err(e.to_string())
            }
        }
    }

    fn welcome(&self, peer: PeerId, name: &str) -> Result<Arc<Shared>, String> {
        let running = self.lock();
        let open = running.get(name).and_then(|running| running.open.as_ref().ok());
        let shared = &open.ok_or("there is no such tunnel here")?.shared;
        if !shared.admits(peer) {
            return Err("it is not among the peers of the tunnel".to_owned());
        }
        shared.welcome(peer).map(|()| Arc::clone(shared))
    }
}

/// The next frame's bytes.
async fn read(stream: &mut BufReader<Stream>, bytes: &mut Vec<u8>) -> io::Result<()> {
    let len = stream.read_u32().await? as usize;
    if len > MAX_FRAME_BYTES {
        return Err(io::Error::other("a frame that is too long"));
    }
    bytes.resize(len, 0);
    stream.read_exact(bytes).await.map(drop)
}
