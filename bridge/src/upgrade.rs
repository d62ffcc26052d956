//! How a stream of ours begins: a hello each way on a lane, a name on a stream that was opened.
//!
//! libp2p bounds how many of these run at a time and how long each may take.

use crate::conn::Conn;
use crate::event::{Held, Lane};
use crate::frame::{HELLO_BYTES, Hello};
use crate::limits::MAX_NAME;
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade};
use libp2p::futures::future::BoxFuture;
use libp2p::futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{Stream, StreamProtocol};
use std::io;
use std::sync::Arc;

const URGENT: StreamProtocol = StreamProtocol::new("/synod/urgent");
const NORMAL: StreamProtocol = StreamProtocol::new("/synod/normal");
const OPEN: StreamProtocol = StreamProtocol::new("/synod/open");

/// The answer to a stream that was opened.
const WELCOME: u8 = 0;
const BUSY: u8 = 1;

/// Why a stream did not come about.
#[derive(Debug)]
pub(crate) enum SetupError {
    Io(io::Error),
    /// The other side speaks other versions only.
    Version(Hello),
    /// What came is no hello of ours.
    Garbage,
    /// There are too many streams already.
    Busy,
}

impl From<io::Error> for SetupError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What inbound streams are set up with.
#[derive(Debug)]
pub(crate) struct Accept {
    pub(crate) hello: Hello,
    pub(crate) conn: Arc<Conn>,
}

/// A stream that a peer opened.
pub(crate) enum Accepted {
    Lane(Lane, Stream),
    Open(String, Stream, Held),
}

impl UpgradeInfo for Accept {
    type Info = StreamProtocol;
    type InfoIter = std::array::IntoIter<StreamProtocol, 3>;

    fn protocol_info(&self) -> Self::InfoIter {
        [URGENT, NORMAL, OPEN].into_iter()
    }
}

impl InboundUpgrade<Stream> for Accept {
    type Output = Accepted;
    type Error = SetupError;
    type Future = BoxFuture<'static, Result<Accepted, SetupError>>;

    fn upgrade_inbound(self, mut stream: Stream, protocol: StreamProtocol) -> Self::Future {
        Box::pin(async move {
            if protocol == OPEN {
                let mut length = [0];
                stream.read_exact(&mut length).await?;
                let mut name = vec![0; usize::from(length[0])];
                stream.read_exact(&mut name).await?;
                let name = String::from_utf8(name).map_err(|_| SetupError::Garbage)?;
                let held = self.conn.streams_in.try_hold(1);
                stream.write_all(&[if held.is_some() { WELCOME } else { BUSY }]).await?;
                stream.flush().await?;
                return Ok(Accepted::Open(name, stream, held.ok_or(SetupError::Busy)?));
            }
            let theirs = read_hello(&mut stream).await?;
            // The answer goes out before anything is judged, so that both sides learn of a mismatch.
            stream.write_all(&self.hello.encode()).await?;
            stream.flush().await?;
            if self.hello.common(&theirs).is_none() {
                return Err(SetupError::Version(theirs));
            }
            let lane = if protocol == URGENT { Lane::Urgent } else { Lane::Normal };
            Ok(Accepted::Lane(lane, stream))
        })
    }
}

/// What outbound streams are set up with.
#[derive(Debug)]
pub(crate) enum Open {
    Lane(Lane, Hello),
    Named(String),
}

/// A stream that was opened here.
pub(crate) enum Opened {
    Lane(Lane, Stream, Hello),
    Named(Stream),
}

impl UpgradeInfo for Open {
    type Info = StreamProtocol;
    type InfoIter = std::iter::Once<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(match self {
            Self::Lane(Lane::Urgent, _) => URGENT,
            Self::Lane(Lane::Normal, _) => NORMAL,
            Self::Named(_) => OPEN,
        })
    }
}

impl OutboundUpgrade<Stream> for Open {
    type Output = Opened;
    type Error = SetupError;
    type Future = BoxFuture<'static, Result<Opened, SetupError>>;

    fn upgrade_outbound(self, mut stream: Stream, _: StreamProtocol) -> Self::Future {
        Box::pin(async move {
            match self {
                Self::Lane(lane, ours) => {
                    stream.write_all(&ours.encode()).await?;
                    stream.flush().await?;
                    let theirs = read_hello(&mut stream).await?;
                    if ours.common(&theirs).is_none() {
                        return Err(SetupError::Version(theirs));
                    }
                    Ok(Opened::Lane(lane, stream, theirs))
                }
                Self::Named(name) => {
                    // Its length was checked when it was asked for.
                    let length = u8::try_from(name.len().min(MAX_NAME)).unwrap_or(u8::MAX);
                    stream.write_all(&[length]).await?;
                    stream.write_all(name.as_bytes()).await?;
                    stream.flush().await?;
                    let mut answer = [0];
                    stream.read_exact(&mut answer).await?;
                    if answer[0] != WELCOME {
                        return Err(SetupError::Busy);
                    }
                    Ok(Opened::Named(stream))
                }
            }
        })
    }
}

async fn read_hello(stream: &mut Stream) -> Result<Hello, SetupError> {
    let mut bytes = [0; HELLO_BYTES];
    stream.read_exact(&mut bytes).await?;
    let (hello, more) = Hello::decode(&bytes).map_err(|_| SetupError::Garbage)?;
    stream.read_exact(&mut vec![0; more]).await?;
    Ok(hello)
}
