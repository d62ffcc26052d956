//! A muxer that is driven by a task of its own.
//!
//! libp2p drives a connection's muxer from the connection's task, and asks the handlers of all protocols each time
//! that bytes come or go. Driven apart, the muxer wakes whoever reads the stream that bytes have come for, and
//! the connection's task only where a stream begins or the connection ends.

use crate::conn::lock;
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::futures::task::AtomicWaker;
use libp2p::{Multiaddr, futures};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Streams that a peer has begun and nobody has taken yet. What comes then waits in the muxer.
const MAX_BEGUN: usize = 64;

/// What libp2p holds of the muxer.
#[derive(Debug)]
pub(crate) struct Driven<S>(Arc<Shared<S>>);

#[derive(Debug)]
struct Shared<S> {
    state: Mutex<State<S>>,
    /// Wakes the task that drives.
    driver: AtomicWaker,
}

#[derive(Debug)]
struct State<S> {
    /// Streams that the peer has begun.
    begun: VecDeque<S>,
    /// There was no room for another.
    is_full: bool,
    /// A stream is wanted; and here it is.
    wanted: bool,
    opened: Option<S>,
    moved: Option<Multiaddr>,
    closing: bool,
    /// The connection is to be let go.
    dropped: bool,
    /// How it ended; by itself or as was asked for.
    ended: Option<Result<(), (io::ErrorKind, String)>>,
    /// Who waits for any of this: there is one task that does.
    waker: Option<Waker>,
}

impl<S: Send + 'static> Driven<S> {
    /// Drives a muxer on a task of the runtime.
    pub(crate) fn start<M>(muxer: M) -> Self
    where
        M: StreamMuxer<Substream = S> + Send + Unpin + 'static,
        M::Error: Send + Sync + 'static,
    {
        let state = State {
            begun: VecDeque::new(),
            is_full: false,
            wanted: false,
            opened: None,
            moved: None,
            closing: false,
            dropped: false,
            ended: None,
            waker: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), driver: AtomicWaker::new() });
        let mut driver = Driver { muxer, shared: Arc::clone(&shared) };
        tokio::spawn(poll_fn(move |cx| driver.poll(cx)));
        Self(shared)
    }

    /// What there is to be taken; the task is woken when there may be.
    fn wait<T>(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut State<S>) -> Option<T>,
    ) -> Poll<io::Result<T>> {
        let mut state = lock(&self.0.state);
        if let Some(taken) = take(&mut state) {
            return Poll::Ready(Ok(taken));
        }
        if let Some(ended) = &state.ended {
            let (kind, why) = match ended {
                Ok(()) => (io::ErrorKind::NotConnected, "the connection is closed".to_owned()),
                Err((kind, why)) => (*kind, why.clone()),
            };
            return Poll::Ready(Err(io::Error::new(kind, why)));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<S> Drop for Driven<S> {
    fn drop(&mut self) {
        lock(&self.0.state).dropped = true;
        self.0.driver.wake();
    }
}

impl<S> StreamMuxer for Driven<S>
where
    S: futures::AsyncRead + futures::AsyncWrite + Send + 'static,
{
    type Substream = S;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<S>> {
        let mut was_full = false;
        let begun = self.wait(cx, |state| {
            let stream = state.begun.pop_front();
            was_full = stream.is_some() && std::mem::take(&mut state.is_full);
            stream
        });
        if was_full {
            self.0.driver.wake();
        }
        begun
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<S>> {
        let mut asks = false;
        let opened = self.wait(cx, |state| {
            let opened = state.opened.take();
            asks = opened.is_none() && !std::mem::replace(&mut state.wanted, opened.is_none());
            opened
        });
        if asks {
            self.0.driver.wake();
        }
        opened
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut asks = false;
        let closed = self.wait(cx, |state| {
            asks = !std::mem::replace(&mut state.closing, true);
            matches!(state.ended, Some(Ok(()))).then_some(())
        });
        if asks {
            self.0.driver.wake();
        }
        closed
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        self.wait(cx, |state| state.moved.take()).map_ok(StreamMuxerEvent::AddressChange)
    }
}

/// What the task does.
struct Driver<M: StreamMuxer> {
    muxer: M,
    shared: Arc<Shared<M::Substream>>,
}

impl<M> Driver<M>
where
    M: StreamMuxer + Unpin,
    M::Error: Send + Sync + 'static,
{
    /// Ends with the connection.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.driver.register(cx.waker());
        let (closing, mut wanted) = {
            let state = lock(&self.shared.state);
            if state.dropped {
                return Poll::Ready(());
            }
            (state.closing, state.wanted && state.opened.is_none())
        };
        if closing {
            return match Pin::new(&mut self.muxer).poll_close(cx) {
                Poll::Ready(closed) => self.end(closed),
                Poll::Pending => Poll::Pending,
            };
        }
        loop {
            match Pin::new(&mut self.muxer).poll(cx) {
                Poll::Ready(Ok(StreamMuxerEvent::AddressChange(address))) => {
                    self.tell(|state| state.moved = Some(address));
                    continue;
                }
                Poll::Ready(Err(error)) => return self.end(Err(error)),
                Poll::Pending => {}
            }
            if wanted {
                match Pin::new(&mut self.muxer).poll_outbound(cx) {
                    Poll::Ready(Ok(stream)) => {
                        wanted = false;
                        self.tell(|state| (state.wanted, state.opened) = (false, Some(stream)));
                        continue;
                    }
                    Poll::Ready(Err(error)) => return self.end(Err(error)),
                    Poll::Pending => {}
                }
            }
            if self.has_room() {
                match Pin::new(&mut self.muxer).poll_inbound(cx) {
                    Poll::Ready(Ok(stream)) => {
                        self.tell(|state| state.begun.push_back(stream));
                        continue;
                    }
                    Poll::Ready(Err(error)) => return self.end(Err(error)),
                    Poll::Pending => {}
                }
            }
            return Poll::Pending;
        }
    }

    /// Whether another stream may be begun; if not, whoever takes one wakes this task.
    fn has_room(&self) -> bool {
        let mut state = lock(&self.shared.state);
        state.is_full = state.begun.len() >= MAX_BEGUN;
        !state.is_full
    }

    fn end(&self, ended: Result<(), M::Error>) -> Poll<()> {
        self.tell(|state| state.ended = Some(ended.map_err(told)));
        Poll::Ready(())
    }

    fn tell(&self, change: impl FnOnce(&mut State<M::Substream>)) {
        let waker = {
            let mut state = lock(&self.shared.state);
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// An error that can be told more than once, as what it was on the socket if it was there.
fn told(error: impl std::error::Error + Send + Sync + 'static) -> (io::ErrorKind, String) {
    let mut kind = io::ErrorKind::Other;
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            kind = io.kind();
        }
        source = cause.source();
    }
    (kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::core::upgrade::{InboundConnectionUpgrade as _, OutboundConnectionUpgrade as _};
    use libp2p::futures::{AsyncReadExt as _, AsyncWriteExt as _};
    use libp2p::{tcp, yamux};

    type Stream = <yamux::Muxer<tcp::tokio::TcpStream> as StreamMuxer>::Substream;
    type End = Driven<Stream>;

    /// Both ends of a connection: who dialed, and who listened.
    async fn ends() -> (End, End) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (dialed, came) =
            tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        let (dialed, came) =
            (tcp::tokio::TcpStream(dialed.unwrap()), tcp::tokio::TcpStream(came.unwrap().0));
        let config = yamux::Config::default;
        let dialed = config().upgrade_outbound(dialed, "").await.unwrap();
        let came = config().upgrade_inbound(came, "").await.unwrap();
        (Driven::start(dialed), Driven::start(came))
    }

    async fn opened(end: &mut End) -> io::Result<Stream> {
        poll_fn(|cx| Pin::new(&mut *end).poll_outbound(cx)).await
    }

    async fn begun(end: &mut End) -> io::Result<Stream> {
        poll_fn(|cx| Pin::new(&mut *end).poll_inbound(cx)).await
    }

    #[tokio::test]
    async fn more_streams_than_may_wait_come_all_the_same() {
        let (mut dialed, mut came) = ends().await;
        let count = u8::try_from(2 * MAX_BEGUN).unwrap();
        let mut kept = Vec::new();
        for n in 0..count {
            let mut stream = opened(&mut dialed).await.unwrap();
            stream.write_all(&[n]).await.unwrap();
            stream.flush().await.unwrap();
            kept.push(stream);
        }
        for n in 0..count {
            let mut stream = begun(&mut came).await.unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).await.unwrap();
            assert_eq!(byte, [n]);
            stream.write_all(&[n]).await.unwrap();
            stream.flush().await.unwrap();
            kept[usize::from(n)].read_exact(&mut byte).await.unwrap();
            assert_eq!(byte, [n]);
        }
    }

    #[tokio::test]
    async fn who_is_let_go_ends_for_both_and_whoever_reads_is_woken() {
        let (mut dialed, mut came) = ends().await;
        let mut stream = opened(&mut dialed).await.unwrap();
        stream.write_all(&[1]).await.unwrap();
        stream.flush().await.unwrap();
        let mut other = begun(&mut came).await.unwrap();
        let reading = tokio::spawn(async move { other.read_to_end(&mut Vec::new()).await });
        drop(dialed);
        assert!(begun(&mut came).await.is_err());
        assert!(opened(&mut came).await.is_err());
        // The first byte was there; then an end, or that the connection is gone.
        assert!(reading.await.unwrap().map_or(true, |read| read == 1));
        let written = async {
            stream.write_all(&[2]).await?;
            stream.flush().await
        };
        assert!(written.await.is_err());
    }

    #[tokio::test]
    async fn closing_is_told_to_both() {
        let (mut dialed, mut came) = ends().await;
        poll_fn(|cx| Pin::new(&mut dialed).poll_close(cx)).await.unwrap();
        assert!(begun(&mut came).await.is_err());
        assert!(opened(&mut dialed).await.is_err());
    }
}
