//! The way into a thread: what others have for it waits here until it looks.
//!
//! As `std::sync::mpsc`, whose sender wakes the receiver while it holds a lock that the receiver takes first of all: on
//! another processor it is awake at once, finds the lock taken and goes back to sleep, and a message costs two more
//! changes of threads. Here who wakes holds nothing, and wakes only who sleeps.

use std::collections::VecDeque;
use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Both ends of a new mailbox. It has no bound of its own: who sends, keeps to one.
pub(super) fn mailbox<T>() -> (Sender<T>, Receiver<T>) {
    let inner = Inner { waiting: VecDeque::new(), senders: 1, sleeps: false, is_closed: false };
    let shared = Arc::new(Shared { inner: Mutex::new(inner), woken: Condvar::new() });
    let receiver = Receiver { shared: Arc::clone(&shared), taken: VecDeque::new() };
    (Sender { shared }, receiver)
}

struct Shared<T> {
    inner: Mutex<Inner<T>>,
    woken: Condvar,
}

struct Inner<T> {
    waiting: VecDeque<T>,
    senders: usize,
    /// The receiver sleeps, or is about to.
    sleeps: bool,
    /// The receiver has gone.
    is_closed: bool,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // A panic elsewhere leaves nothing half done here.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the receiver if it sleeps, holding nothing.
    fn wake(&self, mut inner: MutexGuard<'_, Inner<T>>) {
        let sleeps = std::mem::take(&mut inner.sleeps);
        drop(inner);
        if sleeps {
            self.woken.notify_one();
        }
    }
}

/// Puts things into a mailbox.
pub(super) struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// # Errors
    /// Where nobody will take it any more.
    pub(super) fn send(&self, thing: T) -> Result<(), SendError<T>> {
        let mut inner = self.shared.lock();
        if inner.is_closed {
            return Err(SendError(thing));
        }
        inner.waiting.push_back(thing);
        self.shared.wake(inner);
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.senders -= 1;
        if inner.senders == 0 {
            self.shared.wake(inner);
        }
    }
}

/// Takes things out of a mailbox.
pub(super) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// Taken out together, and not handed on yet.
    taken: VecDeque<T>,
}

impl<T> Receiver<T> {
    /// What comes next.
    ///
    /// # Errors
    /// Where there is nothing, and nobody left who could send.
    pub(super) fn recv(&mut self) -> Result<T, RecvError> {
        self.wait(None).map_err(|_| RecvError)
    }

    /// What comes within this time, which is short: looks for it again and again, and gives way to whoever has
    /// work, in place of sleeping. None if nothing came, or can.
    pub(super) fn look_for(&mut self, within: Duration) -> Option<T> {
        let started = Instant::now();
        loop {
            match self.try_recv() {
                Ok(thing) => return Some(thing),
                Err(TryRecvError::Empty) if started.elapsed() < within => std::thread::yield_now(),
                Err(_) => return None,
            }
        }
    }

    /// What comes next, and until when to wait for it.
    ///
    /// # Errors
    /// Where nothing came, or there is nobody left who could send.
    pub(super) fn recv_timeout(&mut self, patience: Duration) -> Result<T, RecvTimeoutError> {
        self.wait(Some(patience))
    }

    /// What is there already.
    ///
    /// # Errors
    /// Where nothing is, or there is nobody left who could send.
    pub(super) fn try_recv(&mut self) -> Result<T, TryRecvError> {
        if let Some(thing) = self.taken.pop_front() {
            return Ok(thing);
        }
        let mut inner = self.shared.lock();
        std::mem::swap(&mut self.taken, &mut inner.waiting);
        let has_senders = inner.senders > 0;
        drop(inner);
        self.taken.pop_front().ok_or(match has_senders {
            true => TryRecvError::Empty,
            false => TryRecvError::Disconnected,
        })
    }

    fn wait(&mut self, patience: Option<Duration>) -> Result<T, RecvTimeoutError> {
        if let Some(thing) = self.taken.pop_front() {
            return Ok(thing);
        }
        // Where the clock cannot count that far, there is no end.
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut inner = self.shared.lock();
        loop {
            std::mem::swap(&mut self.taken, &mut inner.waiting);
            if let Some(thing) = self.taken.pop_front() {
                return Ok(thing);
            }
            if inner.senders == 0 {
                return Err(RecvTimeoutError::Disconnected);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(RecvTimeoutError::Timeout);
            }
            inner.sleeps = true;
            inner = match left {
                Some(left) => {
                    let woken = self.shared.woken.wait_timeout(inner, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.shared.woken.wait(inner).unwrap_or_else(PoisonError::into_inner),
            };
            inner.sleeps = false;
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let left = {
            let mut inner = self.shared.lock();
            inner.is_closed = true;
            std::mem::take(&mut inner.waiting)
        };
        // What is dropped may look here again.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_the_order_in_which_they_were_sent() {
        let (sender, mut receiver) = mailbox();
        let other = sender.clone();
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        let patience = Duration::from_millis(1);
        assert_eq!(receiver.recv_timeout(patience), Err(RecvTimeoutError::Timeout));
        assert_eq!(receiver.look_for(patience), None);
        sender.send(0).unwrap();
        assert_eq!(receiver.look_for(Duration::ZERO), Some(0));
        sender.send(1).unwrap();
        other.send(2).unwrap();
        assert_eq!(receiver.try_recv(), Ok(1));
        sender.send(3).unwrap();
        assert_eq!([receiver.recv().unwrap(), receiver.recv().unwrap()], [2, 3]);
        drop(sender);
        other.send(4).unwrap();
        drop(other);
        assert_eq!(receiver.recv(), Ok(4), "what was sent is taken, whoever has gone");
        assert_eq!(receiver.recv(), Err(RecvError));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(receiver.recv_timeout(patience), Err(RecvTimeoutError::Disconnected));
        assert_eq!(receiver.look_for(Duration::MAX), None, "nobody is left who could send");
    }

    #[test]
    fn who_sends_to_nobody_has_it_back_and_what_was_left_is_dropped() {
        let (sender, receiver) = mailbox();
        let thing = Arc::new(());
        sender.send(Arc::clone(&thing)).unwrap();
        drop(receiver);
        assert_eq!(Arc::strong_count(&thing), 1);
        assert!(sender.send(thing).is_err());
    }

    #[test]
    fn a_sleeper_wakes_for_each_of_many_senders_and_for_the_last_that_goes() {
        const EACH: u64 = 5_000;
        let (sender, mut receiver) = mailbox();
        let (back, mut answers) = mailbox();
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let sender = sender.clone();
                std::thread::spawn(move || (0..EACH).for_each(|n| sender.send(n).unwrap()))
            })
            .collect();
        drop(sender);
        let taking = std::thread::spawn(move || {
            let mut sum = 0;
            while let Ok(n) = receiver.recv() {
                sum += n;
                if n % 100 == 0 {
                    back.send(()).unwrap();
                }
            }
            sum
        });
        let mut told = 0;
        while answers.recv_timeout(Duration::from_secs(60)).is_ok() {
            told += 1;
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert_eq!(taking.join().unwrap(), 4 * EACH * (EACH - 1) / 2);
        assert_eq!(told, 4 * EACH / 100);
    }
}
