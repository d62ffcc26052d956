//! Measures what two nodes on one machine do: round trips of a message, messages a second, bytes a
//! second on a stream, gossip a second. Beside each, the floor: the same over a bare TCP socket.
//!
//! ```sh
//! cargo run --release -p synod-bridge --example lanes            # two processes, TCP
//! cargo run --release -p synod-bridge --example lanes -- quic    # or quic, or private
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "it measures, and ends if it cannot")]

use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use synod_bridge::{Bridge, Config, Event, Identity, Lane, PeerId, PrivateKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const ROUNDS: usize = 20_000;
const KEY: &str = "/key/swarm/psk/1.0.0/\n/base16/\n\
    0102030405060708091011121314151617181920212223242526272829303132\n";

#[tokio::main(worker_threads = 2)]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mode = args.first().map_or("tcp", String::as_str);
    if args.get(1).is_some_and(|arg| arg == "echo") {
        return echo(mode).await;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([mode, "echo"])
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let (address, bare) = (lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap());
    measure(mode, &address, &bare).await;
    drop(child.stdin.take());
    child.wait().unwrap();
}

fn config(mode: &str) -> (Config, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new(Identity::generate(), folder.path().into());
    let listen = if mode == "quic" { "udp/0/quic-v1" } else { "tcp/0" };
    config.listen = vec![format!("/ip4/127.0.0.1/{listen}").parse().unwrap()];
    config.private = (mode == "private").then(|| PrivateKey::parse(KEY).unwrap());
    (config, folder)
}

/// Sends back what comes on the urgent lane and swallows everything else.
async fn echo(mode: &str) {
    let (config, _folder) = config(mode);
    let (bridge, mut events) = synod_bridge::start(config).unwrap();
    let address = bridge.listening().await[0].clone().with_p2p(bridge.id()).unwrap();
    println!("{address}");
    let bare = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", bare.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut socket, _) = bare.accept().unwrap();
        socket.set_nodelay(true).unwrap();
        let mut bytes = [0; 256];
        while std::io::Read::read_exact(&mut socket, &mut bytes).is_ok() {
            std::io::Write::write_all(&mut socket, &bytes).unwrap();
        }
    });
    bridge.subscribe("t").await.unwrap();
    std::thread::spawn(|| {
        let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
        std::process::exit(0);
    });
    let (mut normal, mut gossip) = (0u64, 0u64);
    while let Some(event) = events.recv().await {
        match event {
            Event::Message { peer, lane: Lane::Urgent, bytes } => {
                bridge.send(peer, Lane::Urgent, bytes.into_vec()).unwrap();
            }
            Event::Message { peer, bytes, .. } => {
                normal += 1;
                if bytes[0] == 1 {
                    let count = normal.to_be_bytes().to_vec();
                    bridge.send(peer, Lane::Normal, count).unwrap();
                }
            }
            Event::Gossip { from, bytes, .. } => {
                gossip += 1;
                if bytes[0] == 1 {
                    bridge.send(from, Lane::Normal, gossip.to_be_bytes().to_vec()).unwrap();
                    gossip = 0;
                }
            }
            Event::Incoming { mut stream, .. } => {
                let mut buffer = vec![0; 64 << 10];
                tokio::spawn(async move {
                    while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
                    let _ = stream.write_all(&[1]).await;
                    let _ = stream.shutdown().await;
                });
            }
            _ => {}
        }
    }
}

async fn measure(mode: &str, address: &str, bare: &str) {
    let socket = std::net::TcpStream::connect(bare).unwrap();
    socket.set_nodelay(true).unwrap();
    let floor = tokio::task::spawn_blocking(move || {
        let (mut socket, mut bytes) = (socket, [0; 256]);
        round_trips(|| {
            std::io::Write::write_all(&mut socket, &bytes).unwrap();
            std::io::Read::read_exact(&mut socket, &mut bytes).unwrap();
        })
    });
    println!("256 B round trip, bare TCP, blocking     {}", floor.await.unwrap());

    let (config, _folder) = config(mode);
    let (sender, events) = mpsc::channel();
    let deliver = move |event| drop(sender.send(event));
    let bridge = synod_bridge::start_with(config, std::sync::Arc::new(deliver)).unwrap();
    let peer = bridge.connect(address.parse().unwrap()).await.unwrap();
    let there = bridge.clone();
    let figures = tokio::task::spawn_blocking(move || {
        let trips = round_trips(|| {
            there.send(peer, Lane::Urgent, vec![0; 256]).unwrap();
            wait(&events, Lane::Urgent);
        });
        println!("256 B round trip, urgent lane            {trips}");
        messages(&there, peer, &events, 256, 1_000_000);
        messages(&there, peer, &events, 64 << 10, 20_000);
        events
    });
    let events = figures.await.unwrap();
    stream(&bridge, peer).await;
    gossip(&bridge, events).await;
}

fn messages(
    bridge: &Bridge,
    peer: PeerId,
    events: &mpsc::Receiver<Event>,
    size: usize,
    count: u32,
) {
    let start = Instant::now();
    for n in 1..=count {
        let mut bytes = vec![0; size];
        bytes[0] = u8::from(n == count);
        while bridge.send(peer, Lane::Normal, bytes.clone()).is_err() {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    wait(events, Lane::Normal);
    let seconds = start.elapsed().as_secs_f64();
    let (rate, mib) = (f64::from(count) / seconds, f64::from(count) * size as f64 / seconds / 1e6);
    println!("{size} B messages, normal lane, flat out      {rate:.0}/s  {mib:.0} MB/s");
}

async fn stream(bridge: &Bridge, peer: PeerId) {
    let mut stream = bridge.open(peer, "bulk").await.unwrap();
    let (start, chunk) = (Instant::now(), vec![0; 64 << 10]);
    let chunks = 16_000u32;
    for _ in 0..chunks {
        stream.write_all(&chunk).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    let rate = f64::from(chunks) * chunk.len() as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("a stream                                 {rate:.0} MB/s");
}

async fn gossip(bridge: &Bridge, events: mpsc::Receiver<Event>) {
    // The subscription gets about within a heartbeat of the router.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (start, count) = (Instant::now(), 1_000_000u32);
    for n in 1..=count {
        let mut bytes = [0; 100];
        bytes[0] = u8::from(n == count);
        while bridge.publish("t", &bytes).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let came = tokio::task::spawn_blocking(move || count_of(&events)).await.unwrap();
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    println!("100 B gossip, batched and signed         {rate:.0}/s  {came} of {count} came");
}

fn wait(events: &mpsc::Receiver<Event>, on: Lane) {
    while !matches!(events.recv().unwrap(), Event::Message { lane, .. } if lane == on) {}
}

fn count_of(events: &mpsc::Receiver<Event>) -> u64 {
    loop {
        if let Event::Message { lane: Lane::Normal, bytes, .. } = events.recv().unwrap() {
            return u64::from_be_bytes(bytes[..8].try_into().unwrap());
        }
    }
}

fn round_trips(mut trip: impl FnMut()) -> String {
    let mut times: Vec<Duration> = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        trip();
        times.push(start.elapsed());
    }
    times.sort();
    let at = |part: f64| times[(part * ROUNDS as f64) as usize].as_nanos() as f64 / 1000.0;
    format!("p50 {:.1} us  p99 {:.1} us", at(0.5), at(0.99))
}
