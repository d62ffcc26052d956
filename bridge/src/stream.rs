//! A stream to a peer for what is no message: fetches, calls, snapshots. It has a flow control of
//! its own, so neither end can be flooded, and what it carries never delays a lane.

use crate::conn::Conn;
use crate::event::Held;
use libp2p::futures::{AsyncRead as _, AsyncWrite as _};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes to and from a peer. Dropping it ends it for both; [`shutdown`] ends one direction.
///
/// [`shutdown`]: tokio::io::AsyncWriteExt::shutdown
pub struct Stream {
    inner: libp2p::Stream,
    conn: Arc<Conn>,
    _held: Held,
}

impl Stream {
    pub(crate) fn new(inner: libp2p::Stream, conn: Arc<Conn>, held: Held) -> Self {
        Self { inner, conn, _held: held }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("peer", &self.conn.peer).finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buf.initialize_unfilled()))?;
        buf.advance(read);
        self.conn.bytes_in.fetch_add(read as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.conn.bytes_out.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
