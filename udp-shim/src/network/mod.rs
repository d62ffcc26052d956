//! A tunnel's part of this host: what captures, what sends, and what the kernel is told for that. It is
//! put in when this is opened and taken out when it is closed or dropped. If the process is killed in
//! between, [`restore`] takes it out: a file says what was put in, and is there before that is.
//!
//! What needs privileges (`open.rs`) may be done in this process or by a [`monitor`], a process of its own that
//! hands over the sockets.
//!
//! - **Redirect** takes what this host's applications send to a group, whatever interface, address or
//!   options they send with, before it goes anywhere, and puts it back for the applications here. It
//!   needs CAP_NET_ADMIN and CAP_NET_RAW, and `nft` or `iptables`. Nothing of it leaves by a card.
//!   While its rules are in place and nobody serves them, nothing sent to the group arrives here.
//! - **Join** is a membership like an application's, and takes nothing from anybody. It needs no
//!   privilege, hears what the interface hears, and a route to the group has to be there already.
//!
//! Tried on Linux 6.18: a datagram with a source of 127.64.0.0/10 reaches members on `lo` and on cards
//! alike, with `rp_filter` 0, 1 and 2; one that is put back with the addresses it had is redirected
//! again for ever unless it is untracked; an application that is bound to a card's address may answer
//! such a source, and it may answer that.

mod beacon;
mod capture;
mod claim;
mod firewall;
mod follow;
mod inject;
mod kept;
mod left;
mod listeners;
mod mode;
pub mod monitor;
mod namespace;
mod netlink;
mod open;
mod placed;
mod rules;
mod state;
mod upkeep;

pub use beacon::{BEACON_PORT, BeaconSocket};
pub use capture::{Capture, Captured};
pub use firewall::lo_is_shut;
pub use inject::Injector;
pub use kept::Kept;
pub use left::{LeftOver, left_over, remove_left_over, restore};
pub use mode::Mode;
pub use namespace::Namespace;
pub use rules::{MARK, Tool};
pub use state::NetworkState;
pub use upkeep::{UPKEEP_EVERY, Upkeep};

use crate::interface::Interfaces;
use crate::join::JoinError;
use crate::spec::Interface;
use crate::tunnel::Groups;
use claim::Claim;
use follow::Follower;
use monitor::Lease;
use open::Opened;
use placed::Placed;
use socket2::Socket;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// What is wanted of a tunnel here.
#[derive(Clone, Debug)]
pub struct NetworkSpec {
    /// What it carries.
    pub groups: Groups,
    /// The node's virtual address.
    pub address: Ipv4Addr,
    /// How to capture; the best that is possible, if left out.
    pub capture: Option<Mode>,
    /// The time-to-live of what is sent here: 0, unless an application looks at it.
    pub ttl: u8,
    /// What tells this tunnel's rules from all others on this host; letters and digits.
    pub tag: String,
    /// The file that says what was put into the kernel.
    pub state: PathBuf,
}

/// Why a tunnel has no part of this host.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Something that redirecting needs is missing.
    #[error("{0}")]
    Cannot(String),
    /// A group cannot be joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The kernel refused.
    #[error("{what}: {why}")]
    Kernel {
        /// What was asked of it.
        what: String,
        /// Its answer.
        why: io::Error,
    },
    /// A command failed.
    #[error("`{command}` failed: {said}")]
    Command {
        /// The command.
        command: String,
        /// What it said.
        said: String,
    },
    /// The file that says what was put in.
    #[error("{}: {why}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A tunnel's part of this host. Dropping it takes everything out.
#[derive(Debug)]
pub struct Network {
    /// What the kernel was told, which goes first: nothing is redirected to who no longer listens.
    held: Held,
    mode: Mode,
    groups: Vec<Ipv4Addr>,
    remarks: Vec<String>,
    captures: Vec<Capture>,
    beacons: Option<BeaconSocket>,
    injector: Arc<Injector>,
}

/// Who has told the kernel, and keeps others of this host from capturing the same.
#[derive(Debug)]
enum Held {
    /// This process. The claims go last.
    Here { placed: Arc<Mutex<Option<Placed>>>, _claims: Vec<Claim> },
    /// A process of its own.
    Apart { _lease: Lease },
}

impl Network {
    /// Opens sockets, and puts in what they need, in this process.
    pub fn open(spec: &NetworkSpec) -> Result<Self, NetworkError> {
        let members = members_of(spec)?;
        let Opened { mode, remarks, captures, raw, placed, claims } = Opened::open(spec)?;
        let held = Held::Here { placed: Arc::new(Mutex::new(placed)), _claims: claims };
        Self::with(spec, mode, (remarks, captures), (members, raw), held)
    }

    /// Adds what needs no privileges.
    fn with(
        spec: &NetworkSpec,
        mode: Mode,
        (mut remarks, captures): (Vec<String>, Vec<Capture>),
        (members, raw): (Vec<Socket>, Option<Socket>),
        held: Held,
    ) -> Result<Self, NetworkError> {
        let groups = spec.groups.groups();
        let injector = Arc::new(Injector::new(members, spec.ttl, raw));
        if let Some(group) = groups.first() {
            remarks.extend(lo_is_shut(*group)?);
        }
        let on_segment = groups.first().filter(|_| mode.is_on_segment());
        let beacons = on_segment.map(|group| BeaconSocket::open(*group)).transpose()?;
        let groups = groups.to_vec();
        Ok(Self { held, mode, groups, remarks, captures, beacons, injector })
    }

    /// How it captures.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What a person should know: why it captures as it does, what may keep datagrams from coming.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The sockets that capture; they are the caller's from here on.
    pub fn take_captures(&mut self) -> Vec<Capture> {
        std::mem::take(&mut self.captures)
    }

    /// What keeps it as it is. To be had before the captures and the beacons are taken.
    pub fn upkeep(&self) -> io::Result<Upkeep> {
        let mut followers = Vec::new();
        if self.mode.is_on_segment() {
            let captures = self.captures.iter().map(|one| (one.as_fd(), *one.to().ip()));
            let beacons = self.beacons.iter().map(|one| (one.as_fd(), one.group()));
            for (socket, group) in captures.chain(beacons) {
                followers.push(Follower::new(socket, group)?);
            }
        }
        let placed = match &self.held {
            Held::Here { placed, .. } => Arc::clone(placed),
            // Who holds the privileges sees to it.
            Held::Apart { .. } => Arc::default(),
        };
        Ok(Upkeep::new(followers, placed))
    }

    /// What nodes on the segment say to each other by, where it captures by membership; it is the caller's
    /// from here on.
    pub fn take_beacons(&mut self) -> Option<BeaconSocket> {
        self.beacons.take()
    }

    /// Takes everything out. What applications have joined by its route is kept up for them: gives the
    /// groups of which that is so.
    pub fn close(self, kept: &mut Kept) -> Vec<Ipv4Addr> {
        let Self { held, mode, groups, injector, .. } = self;
        drop(held);
        injector.leave();
        kept.keep(if mode.has_routes() { &groups } else { &[] })
    }

    /// What sends.
    pub fn injector(&self) -> &Arc<Injector> {
        &self.injector
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Self::Here { placed, .. } = self {
            // Whoever keeps it up has it, too.
            drop(upkeep::lock(placed).take());
        }
    }
}

/// What is held for its memberships on `lo`.
fn members_of(spec: &NetworkSpec) -> Result<Vec<Socket>, NetworkError> {
    inject::members(spec.groups.groups(), lo()?).map_err(kernel("opening the sockets that send"))
}

fn lo() -> Result<u32, NetworkError> {
    let interfaces = Interfaces::list().map_err(kernel("listing the interfaces"))?;
    let lo = interfaces.find(&Interface::Name("lo".into()));
    let lo = lo.filter(|lo| lo.up).map(|lo| lo.index);
    lo.ok_or_else(|| {
        NetworkError::Cannot("interface lo is down: `ip link set dev lo up`".to_owned())
    })
}

fn kernel(what: impl Into<String>) -> impl FnOnce(io::Error) -> NetworkError {
    let what = what.into();
    move |why| NetworkError::Kernel { what, why }
}

/// The addresses of this host: what a membership hears of others is theirs to capture.
#[derive(Debug, Default)]
pub struct LocalAddresses(Vec<Ipv4Addr>);

impl LocalAddresses {
    /// Asks the kernel.
    pub fn now() -> io::Result<Self> {
        Ok(Self(Interfaces::list()?.addresses()))
    }

    /// Whether an address is this host's.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.is_loopback() || self.0.contains(&address)
    }
}
