//! Datagrams that are sent on one host and counted on another.

use super::super::latency::Latencies;
use crate::cli::Failure;
use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nothing more comes once nothing has come for so long.
const QUIET: Duration = Duration::from_millis(400);
/// How often as many are sent as are due.
const PACE: Duration = Duration::from_millis(1);
/// A rate is looked for between these, in datagrams a second.
const LEAST: f64 = 5_000.0;
const MOST: f64 = 1_000_000.0;
/// Halvings of what lies between a rate at which all arrived and one at which some did not.
const HALVINGS: usize = 4;
/// What every datagram has at least: of which measurement it is, and when it was sent.
const HEAD_BYTES: usize = 16;

/// Both ends of what is measured.
pub(super) struct Way<'a> {
    pub(super) sender: &'a UdpSocket,
    pub(super) member: &'a UdpSocket,
    pub(super) to: SocketAddrV4,
}

/// What became of datagrams that were sent.
pub(super) struct Sent {
    pub(super) sent: u64,
    pub(super) arrived: u64,
    took: Duration,
    pub(super) times: Latencies,
}

impl Way<'_> {
    /// The greatest rate at which all arrive, in datagrams a second.
    pub(super) fn greatest(&self, len: usize, time: Duration) -> Result<f64, Failure> {
        let (mut good, mut rate) = (0.0, LEAST);
        let mut bad = loop {
            let sent = self.send(len, rate, time)?;
            if sent.arrived < sent.sent {
                break rate;
            }
            good = sent.sent as f64 / sent.took.as_secs_f64();
            // The sender itself has come to its end.
            if good < rate * 0.9 || rate >= MOST {
                return Ok(good);
            }
            rate *= 2.0;
        };
        for _ in 0..HALVINGS {
            rate = f64::midpoint(good, bad);
            let sent = self.send(len, rate, time)?;
            let reached = sent.sent as f64 / sent.took.as_secs_f64();
            match sent.arrived < sent.sent {
                true => bad = rate,
                false => good = good.max(reached),
            }
        }
        Ok(good)
    }

    /// Sends for a while at a rate, and waits for what arrives.
    pub(super) fn send(&self, len: usize, rate: f64, time: Duration) -> Result<Sent, Failure> {
        let all = (rate * time.as_secs_f64()) as u64;
        self.burst_of(len, all, |started| (started.elapsed().as_secs_f64() * rate) as u64)
    }

    /// Sends so many at once.
    pub(super) fn burst(&self, len: usize, all: u64) -> Result<Sent, Failure> {
        self.burst_of(len, all, |_| all)
    }

    fn burst_of(
        &self,
        len: usize,
        all: u64,
        due: impl Fn(Instant) -> u64,
    ) -> Result<Sent, Failure> {
        let failed = |e: io::Error| Failure::error(format!("a datagram: {e}"));
        // What is late of one measurement is none of the next.
        static MEASURED: AtomicU64 = AtomicU64::new(0);
        let which = MEASURED.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let (epoch, is_over) = (Instant::now(), AtomicBool::new(false));
        self.member.set_read_timeout(Some(QUIET)).map_err(failed)?;
        std::thread::scope(|scope| {
            let heard = scope.spawn(|| hear(self.member, (which, all), epoch, &is_over));
            let mut bytes = vec![0; len.max(HEAD_BYTES)];
            bytes[..8].copy_from_slice(&which);
            let (started, mut sent) = (Instant::now(), 0);
            while sent < all {
                let until = due(started).min(all);
                while sent < until {
                    let now = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    bytes[8..HEAD_BYTES].copy_from_slice(&now.to_le_bytes());
                    self.sender.send_to(&bytes, self.to).map_err(failed)?;
                    sent += 1;
                }
                if sent < all {
                    std::thread::sleep(PACE);
                }
            }
            let took = started.elapsed();
            is_over.store(true, Ordering::Relaxed);
            let heard = heard.join().unwrap_or_else(|_| Err(io::Error::other("its thread died")));
            let (arrived, times) = heard.map_err(failed)?;
            Ok(Sent { sent, arrived, took, times })
        })
    }
}

/// Counts what comes until all is there, or nothing comes any more.
fn hear(
    member: &UdpSocket,
    (which, all): ([u8; 8], u64),
    epoch: Instant,
    is_over: &AtomicBool,
) -> io::Result<(u64, Latencies)> {
    let (mut buffer, mut times, mut arrived) = (vec![0; 1 << 16], Latencies::default(), 0);
    while arrived < all {
        match member.recv(&mut buffer) {
            Ok(len) if len >= HEAD_BYTES && buffer[..8] == which => {
                arrived += 1;
                let mut at = [0; 8];
                at.copy_from_slice(&buffer[8..HEAD_BYTES]);
                let at = Duration::from_nanos(u64::from_le_bytes(at));
                times.add(epoch.elapsed().saturating_sub(at));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok((arrived, times))
}
