//! The rival of `bench cluster`: three members of etcd on this machine, on the same disk, spoken to by
//! its own HTTP gateway (`POST /v3/kv/put`), a client's request each.

use super::latency::Latencies;
use super::node::Folder;
use crate::cli::Failure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long the members have to elect a leader.
const READY: Duration = Duration::from_secs(30);

/// A cluster of etcd, killed when dropped.
pub(super) struct Etcd {
    members: Vec<Child>,
    /// Where they listen for clients.
    ports: Vec<u16>,
    /// Where the leader does.
    leader: u16,
}

/// One connection.
pub(super) struct EtcdClient {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Etcd {
    /// Starts as many members as Synod has nodes; none if etcd is not installed.
    pub(super) async fn start(folder: &Folder, nodes: usize) -> Result<Option<Self>, Failure> {
        let version = Command::new("etcd").arg("--version").output();
        if version.is_err() {
            return Ok(None);
        }
        let ports = free_ports(2 * nodes)?;
        let name = |n: usize| format!("m{n}");
        let peer = |n: usize| format!("http://127.0.0.1:{}", ports[n]);
        let client = |n: usize| format!("http://127.0.0.1:{}", ports[nodes + n]);
        let all: Vec<_> = (0..nodes).map(|n| format!("{}={}", name(n), peer(n))).collect();
        let mut members = Vec::new();
        for n in 0..nodes {
            let data = folder.path().join(format!("etcd{n}"));
            let log = File::create(folder.path().join(format!("etcd{n}.log"))).map_err(failed)?;
            let member = Command::new("etcd")
                .args(["--name", &name(n), "--initial-cluster-state", "new"])
                .args(["--initial-cluster", &all.join(","), "--data-dir"])
                .arg(&data)
                .args(["--listen-peer-urls", &peer(n), "--initial-advertise-peer-urls", &peer(n)])
                .args(["--listen-client-urls", &client(n), "--advertise-client-urls", &client(n)])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .map_err(failed)?;
            members.push(member);
        }
        let ports = ports.get(nodes..).unwrap_or_default().to_vec();
        let mut etcd = Self { members, ports, leader: 0 };
        etcd.leader = find_leader(&etcd.ports).await?;
        Ok(Some(etcd))
    }

    /// A connection to the leader.
    pub(super) async fn connect(&self) -> Result<EtcdClient, Failure> {
        connect(self.leader).await
    }

    /// A connection to one of the members, another one for each number.
    pub(super) async fn connect_to(&self, n: usize) -> Result<EtcdClient, Failure> {
        let port = self.ports.get(n % self.ports.len().max(1));
        connect(port.copied().unwrap_or(self.leader)).await
    }

    /// Puts from so many clients at once; returns how many a second.
    pub(super) async fn put_many(&self, clients: usize, count: u64) -> Result<f64, Failure> {
        let left = Arc::new(AtomicU64::new(count));
        let mut running = JoinSet::new();
        let start = Instant::now();
        for n in 0..clients {
            let (mut client, left) = (self.connect().await?, Arc::clone(&left));
            running.spawn(async move {
                let take = |left: u64| left.checked_sub(1);
                while let Ok(at) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
                    client.put(n as u64 * 1_000 + at % 1_000).await?;
                }
                Ok::<(), Failure>(())
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.map_err(|error| Failure::error(error.to_string()))??;
        }
        Ok(count as f64 / start.elapsed().as_secs_f64())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            drop(member.kill());
            drop(member.wait());
        }
    }
}

impl EtcdClient {
    /// Puts 256 bytes under a key of so many.
    pub(super) async fn put(&mut self, n: u64) -> Result<(), Failure> {
        // Base64, as the gateway wants it: 256 bytes of value.
        let key = data_encoding::BASE64.encode(format!("key{n}").as_bytes());
        let value = data_encoding::BASE64.encode(&[b'x'; 256]);
        let body = format!(r#"{{"key":"{key}","value":"{value}"}}"#);
        self.post("/v3/kv/put", body).await.map(drop)
    }

    /// Gets what stands under a key: linearizable, as etcd does it if not told otherwise.
    pub(super) async fn get(&mut self, n: u64) -> Result<(), Failure> {
        let key = data_encoding::BASE64.encode(format!("key{n}").as_bytes());
        let bytes = self.post("/v3/kv/range", format!(r#"{{"key":"{key}"}}"#)).await?;
        let found: serde_json::Value = serde_json::from_slice(&bytes).map_err(failed)?;
        match found["count"].as_str() {
            Some("1") => Ok(()),
            _ => Err(Failure::error(format!("etcd: key{n} is not there: {found}"))),
        }
    }

    /// So many puts, one at a time.
    pub(super) async fn run(&mut self, count: u64) -> Result<Latencies, Failure> {
        let mut latencies = Latencies::default();
        for n in 0..count {
            let start = Instant::now();
            self.put(n).await?;
            latencies.add(start.elapsed());
        }
        Ok(latencies)
    }

    async fn post(&mut self, path: &str, body: String) -> Result<Bytes, Failure> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(failed)?;
        let answer = self.sender.send_request(request).await.map_err(failed)?;
        let status = answer.status();
        let bytes = answer.into_body().collect().await.map_err(failed)?.to_bytes();
        if !status.is_success() {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            return Err(Failure::error(format!("etcd: {status}: {text}")));
        }
        Ok(bytes)
    }
}

async fn connect(port: u16) -> Result<EtcdClient, Failure> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(failed)?;
    tokio::spawn(connection);
    Ok(EtcdClient { sender, host: format!("127.0.0.1:{port}") })
}

/// The port of the member that leads.
async fn find_leader(ports: &[u16]) -> Result<u16, Failure> {
    let until = Instant::now() + READY;
    while Instant::now() < until {
        for &port in ports {
            let Ok(mut client) = connect(port).await else { continue };
            let Ok(bytes) = client.post("/v3/maintenance/status", "{}".to_owned()).await else {
                continue;
            };
            let status: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let me = &status["header"]["member_id"];
            if me.is_string() && *me == status["leader"] {
                return Ok(port);
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    Err(Failure::error(
        "etcd has elected nobody in time; its logs are gone with the bench's folder",
    ))
}

fn free_ports(count: usize) -> Result<Vec<u16>, Failure> {
    let bind = || TcpListener::bind(("127.0.0.1", 0)).map_err(failed);
    let listeners = (0..count).map(|_| bind()).collect::<Result<Vec<_>, _>>()?;
    let port = |listener: &TcpListener| Ok(listener.local_addr().map_err(failed)?.port());
    listeners.iter().map(port).collect()
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::error(format!("etcd: {error}"))
}
