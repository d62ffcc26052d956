//! Writing on a thread of its own, behind whoever makes what is written.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

/// Pieces that wait to be written, at most.
const MAX_WAITING: usize = 4;

/// Pieces on their way to what they are written to. One that is dropped before it is finished writes
/// no further piece, and is gone only when nothing is written any more.
#[derive(Debug)]
pub struct Spool<W> {
    pieces: Option<SyncSender<Vec<u8>>>,
    /// Buffers of pieces that are written: fresh memory for each would cost more than its bytes do.
    used: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<io::Result<W>>>,
    is_given_up: Arc<AtomicBool>,
}

impl<W: Write + Send + 'static> Spool<W> {
    /// Writes to `to` from now on.
    pub fn start(to: W) -> io::Result<Self> {
        let (sender, pieces) = sync_channel(MAX_WAITING);
        let (back, used) = sync_channel(MAX_WAITING);
        let is_given_up = Arc::new(AtomicBool::new(false));
        let given_up = Arc::clone(&is_given_up);
        let thread = thread::Builder::new().name("writing".into());
        let thread = thread.spawn(move || write_all(to, &pieces, &back, &given_up))?;
        Ok(Self { pieces: Some(sender), used, thread: Some(thread), is_given_up })
    }

    /// Has a piece written behind those before it. Waits while too many do; an error may be that of
    /// an earlier piece, and is the last thing that this does.
    pub fn write(&mut self, piece: Vec<u8>) -> io::Result<()> {
        let is_taken = self.pieces.as_ref().is_some_and(|pieces| pieces.send(piece).is_ok());
        if is_taken { Ok(()) } else { self.end().and(Err(ended())) }
    }

    /// An empty buffer, of a piece that has been written if there is one.
    pub fn spare(&self) -> Vec<u8> {
        let mut spare = self.used.try_recv().unwrap_or_default();
        spare.clear();
        spare
    }

    /// Waits until all is written, and gives back what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.end()
    }

    fn end(&mut self) -> io::Result<W> {
        self.pieces = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the thread that writes panicked")),
            None => Err(ended()),
        }
    }
}

impl<W> Drop for Spool<W> {
    fn drop(&mut self) {
        self.is_given_up.store(true, Ordering::Relaxed);
        self.pieces = None;
        if let Some(thread) = self.thread.take() {
            // Nobody asks any more what came of it.
            drop(thread.join());
        }
    }
}

fn write_all<W: Write>(
    mut to: W,
    pieces: &Receiver<Vec<u8>>,
    back: &SyncSender<Vec<u8>>,
    is_given_up: &AtomicBool,
) -> io::Result<W> {
    for piece in pieces {
        if is_given_up.load(Ordering::Relaxed) {
            break;
        }
        to.write_all(&piece)?;
        // Where enough are waiting to be used again, one less is none the worse.
        drop(back.try_send(piece));
    }
    to.flush()?;
    Ok(to)
}

fn ended() -> io::Error {
    io::Error::other("writing has ended with an error before")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::Sender;

    fn piece(n: usize) -> Vec<u8> {
        n.to_string().into()
    }

    #[test]
    fn all_is_written_in_order_before_it_is_finished() {
        let mut spool = Spool::start(Vec::new()).unwrap();
        for n in 0..1000 {
            let mut buffer = spool.spare();
            assert!(buffer.is_empty());
            buffer.extend(piece(n));
            spool.write(buffer).unwrap();
        }
        let all: String = (0..1000).map(|n| n.to_string()).collect();
        assert_eq!(spool.finish().unwrap(), all.as_bytes());
    }

    /// A disk that is full after some pieces.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0 -= 1;
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_error_ends_it_whenever_it_is_asked_and_nobody_waits_for_ever() {
        for pieces in [3, 4, 100] {
            let mut spool = Spool::start(Full(2)).unwrap();
            let errors: Vec<_> = (0..pieces).filter_map(|n| spool.write(piece(n)).err()).collect();
            let kinds: Vec<_> = errors.iter().map(io::Error::kind).collect();
            let first = kinds.first().copied();
            let last = spool.finish().err().map(|e| e.kind());
            assert_eq!(first.or(last), Some(io::ErrorKind::StorageFull), "{pieces}");
            assert!(last.is_some(), "what is not whole is not finished");
        }
    }

    /// Waits before each piece until it is let go on, and keeps what it wrote.
    struct Slow(Receiver<()>, Arc<Mutex<Vec<u8>>>, Sender<()>);

    impl Write for Slow {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            self.2.send(()).unwrap();
            self.0.recv().unwrap();
            self.1.lock().unwrap().extend(piece);
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn one_that_is_given_up_writes_no_further_piece() {
        let (go_on, wait) = std::sync::mpsc::channel();
        let (begun, begins) = std::sync::mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let mut spool = Spool::start(Slow(wait, Arc::clone(&written), begun)).unwrap();
        (0..5).for_each(|n| spool.write(piece(n)).unwrap());
        begins.recv().unwrap();
        let is_given_up = Arc::clone(&spool.is_given_up);
        let dropped = thread::spawn(move || drop(spool));
        while !is_given_up.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        // The piece that is being written ends; there is no leave for another.
        go_on.send(()).unwrap();
        dropped.join().unwrap();
        assert_eq!(*written.lock().unwrap(), b"0");
    }
}
