//! `synod doctor`: looks at what a node needs, and says of each thing whether it is there and how to mend
//! it. The judgements are in [`judge`], which reads nothing; this file finds out.

mod judge;

use super::client::Client;
use super::{Failure, Global, Out, Verdict};
use clap::Args;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use synod::api::{Finding, KnownPeer, LogEntry, NodeRecord, PeerAnswer, Status};
use synod_bridge::IDENTITY_FILE;

/// Writes to the disk that are timed.
const SYNCS: usize = 50;
/// The file that is written for that.
const PROBE: &str = "doctor.probe";
/// How long all of that may take: a disk that is so slow is slow enough.
const SYNC_TIME: Duration = Duration::from_secs(5);
/// Peers that are dialed, at most.
const MAX_PEERS: usize = 16;
/// How long one may take to answer.
const PEER_TIME: Duration = Duration::from_secs(5);

/// Say what is wrong with this node's setup, and how to mend it
///
/// Looks at the data folder, its disk, the clock, the network and the limits of the system. A line for
/// each: ok, warn or bad. Exit 1 if anything is bad. The node may run or not; while it runs, its peers'
/// clocks are compared with this one's, and each known peer is dialed.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Doctor {
    /// Only take out what a killed node has left in the kernel: routes, rules, tracked flows
    #[arg(long, env = "SYNOD_FIX_NETWORK", hide_env = true,
          value_parser = super::units::switch())]
    fix_network: bool,
}

impl Doctor {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let data = global.data()?;
        let client = Client::new(&data);
        let mut out = global.out();
        if self.fix_network {
            return fix_network(&data, &client, &mut out).await;
        }
        let mut is_well = true;
        let mut tell = |out: &mut Out, finding: Finding| {
            is_well &= finding.state != judge::BAD;
            print(out, &finding)
        };
        tell(&mut out, folder(&data))?;
        tell(&mut out, identity(&data))?;
        if data.is_dir() {
            tell(&mut out, disk(&data))?;
            tell(&mut out, free(&data))?;
        }
        tell(&mut out, open_files())?;
        let is_up = client.is_up().await?;
        if !is_up {
            // Of a node that runs it is told what that one has.
            tell(&mut out, privileges())?;
        }
        tell(&mut out, ports())?;
        if let Some(finding) = judge::left_by_others(synod::tunnels::left_over()) {
            tell(&mut out, finding)?;
        }
        if let Some(found) = synod::tunnels::firewall() {
            tell(&mut out, judge::shut(found))?;
        }
        if is_up {
            tell(&mut out, clock_of_log(&client).await?)?;
            for finding in with_node(&client).await? {
                tell(&mut out, finding)?;
            }
        } else {
            for state in synod::tunnels::states(&data) {
                tell(&mut out, judge::left(&state.display().to_string()))?;
            }
            tell(&mut out, judge::no_node(&data.display().to_string()))?;
        }
        Ok(if is_well { Verdict::Yes } else { Verdict::No })
    }
}

/// A node that runs sees to its own, as long as it has who may.
async fn fix_network(data: &Path, client: &Client, out: &mut Out) -> Result<Verdict, Failure> {
    let sees_to_it = match client.is_up().await? {
        false => false,
        true => {
            let status: Status = client.get("/v1/status").await?;
            status.monitor.is_none_or(|monitor| monitor.ended.is_none())
        }
    };
    if sees_to_it {
        let text = "the node runs, and takes out what is its own when it stops: `synod down`";
        return Err(Failure::error(text));
    }
    let taken_out = synod::tunnels::restore(data);
    let files = taken_out.into_iter().map(|(file, restored)| judge::taken_out(&file, restored));
    let mut found: Vec<Finding> = files.collect();
    // What no file of this folder tells of: that of another one does.
    found.extend(judge::others_taken_out(synod::tunnels::remove_left_over()));
    if found.is_empty() {
        found.push(judge::nothing_left());
    }
    let is_well = found.iter().all(|finding| finding.state != judge::BAD);
    found.iter().try_for_each(|finding| print(out, finding))?;
    Ok(if is_well { Verdict::Yes } else { Verdict::No })
}

fn print(out: &mut Out, finding: &Finding) -> Result<(), Failure> {
    if out.is_json() {
        return out.json(finding);
    }
    let Finding { what, state, found, mend } = finding;
    let mend = mend.as_ref().map(|mend| format!("; {mend}")).unwrap_or_default();
    let line = format!("{state:<4} {what}: {found}{mend}");
    let line = if state == judge::OK { line } else { out.marked(&line) };
    out.line(line)
}

fn folder(data: &Path) -> Finding {
    let shown = data.display().to_string();
    match std::fs::metadata(data) {
        Ok(meta) => {
            let probe = data.join(PROBE);
            let written = File::create(&probe).map(drop).map_err(|e| e.to_string());
            drop(std::fs::remove_file(&probe));
            judge::folder(&shown, meta.is_dir(), meta.mode() & 0o7777, written.err())
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => judge::no_folder(&shown),
        Err(e) => judge::folder(&shown, true, 0o700, Some(e.to_string())),
    }
}

fn identity(data: &Path) -> Finding {
    let path = data.join(IDENTITY_FILE);
    let shown = path.display().to_string();
    if !path.exists() {
        return judge::no_identity(&shown);
    }
    // It is there: it is read, and none is made.
    let read = synod_bridge::Identity::of_folder(data);
    judge::identity(read.map(|identity| identity.id().to_string()).map_err(|e| e.to_string()))
}

/// Removes the file when it is dropped, however the measurement ended.
struct Probe(PathBuf);

impl Drop for Probe {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn disk(data: &Path) -> Finding {
    let probe = Probe(data.join(PROBE));
    let timed = || -> std::io::Result<Vec<Duration>> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&probe.0)?;
        let (mut times, started) = (Vec::new(), Instant::now());
        while times.len() < SYNCS && started.elapsed() < SYNC_TIME {
            let from = Instant::now();
            file.write_all(&[0; 512])?;
            file.sync_data()?;
            times.push(from.elapsed());
        }
        times.sort();
        Ok(times)
    };
    judge::disk(timed().map_err(|e| e.to_string()))
}

fn free(data: &Path) -> Finding {
    let stat = rustix::fs::statvfs(data);
    judge::free(
        stat.map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize)).map_err(|e| e.to_string()),
    )
}

fn open_files() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    judge::open_files(limit.current, limit.maximum)
}

/// Bits of the capabilities that a process has (`CapEff` in proc(5)).
fn privileges() -> Finding {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    judge::privileges(bits.unwrap_or(0))
}

fn ports() -> Finding {
    let tcp = TcpListener::bind(("0.0.0.0", 0)).map(drop).map_err(|e| e.to_string());
    let udp = UdpSocket::bind(("0.0.0.0", 0)).map(drop).map_err(|e| e.to_string());
    judge::ports(tcp.err(), udp.err())
}

async fn clock_of_log(client: &Client) -> Result<Finding, Failure> {
    let status: Status = client.get("/v1/status").await?;
    let mut last = 0;
    for space in status.spaces.iter().filter(|space| space.index > 0) {
        let name = super::client::encode(&space.name);
        let path = format!("/v1/log?space={name}&from={0}&to={0}", space.index);
        let entries: Vec<LogEntry> = client.get(&path).await.unwrap_or_default();
        last = last.max(entries.iter().map(|entry| entry.micros).max().unwrap_or(0));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(judge::clock(u64::try_from(now.as_micros()).unwrap_or(u64::MAX), last))
}

/// What a node that runs can tell.
async fn with_node(client: &Client) -> Result<Vec<Finding>, Failure> {
    let status: Status = client.get("/v1/status").await?;
    let mut found = vec![judge::held(status.monitor.as_ref())];
    found.extend(judge::spaces(&status.spaces));
    found.extend(status.warnings.iter().map(|warning| judge::warning(warning)));
    if status.net.is_none() {
        found.push(judge::no_network());
        return Ok(found);
    }
    let nodes: Vec<NodeRecord> = client.get("/v1/peers/directory").await?;
    found.extend(nodes.iter().map(|node| judge::clock_of(&node.node, node.clock_ahead_ms)));
    let known: Vec<KnownPeer> = client.get("/v1/peers/known").await?;
    for peer in known.iter().take(MAX_PEERS) {
        let why = if peer.connected { Ok(()) } else { dial(client, peer).await };
        found.push(judge::peer(peer, why));
    }
    if known.len() > MAX_PEERS {
        found.push(judge::more_peers(known.len() - MAX_PEERS));
    }
    Ok(found)
}

/// Whether a peer can be reached at one of its addresses; else why not.
async fn dial(client: &Client, peer: &KnownPeer) -> Result<(), String> {
    let mut whys = Vec::new();
    for known in &peer.addresses {
        let address = match &peer.peer {
            Some(id) => format!("{}/p2p/{id}", known.address),
            None => known.address.clone(),
        };
        let request = synod::api::AddressRequest { address };
        let dialed = client.post::<PeerAnswer>("/v1/peers/connect", &request);
        match tokio::time::timeout(PEER_TIME, dialed).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(super::client::CallError::Told(error))) => whys.push(error.message),
            Ok(Err(_)) => return Err("the node does not answer".to_owned()),
            Err(_) => whys.push(format!("{}: no answer", known.address)),
        }
    }
    if whys.is_empty() {
        whys.push("no address of it is known".to_owned());
    }
    Err(whys.join("; "))
}
