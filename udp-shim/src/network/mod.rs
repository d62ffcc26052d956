//! A tunnel's part of this host: what captures, what sends, and what the kernel is told for that. It is
//! put in when this is opened and taken out when it is closed or dropped. If the process is killed in
//! between, [`restore`] takes it out: a file says what was put in, and is there before that is.
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
mod inject;
mod kept;
mod left;
mod listeners;
mod namespace;
mod netlink;
mod placed;
mod rules;
mod state;

pub use beacon::{BEACON_PORT, BeaconSocket};
pub use capture::{Capture, Captured};
pub use inject::Injector;
pub use kept::Kept;
pub use left::{LeftOver, left_over, remove_left_over, restore};
pub use namespace::Namespace;
pub use rules::{MARK, Tool};
pub use state::NetworkState;

use crate::interface::Interfaces;
use crate::join::{Join, JoinError};
use crate::spec::{Interface, JoinSpec};
use crate::tunnel::Groups;
use claim::{Claim, ClaimError};
use placed::Placed;
use rustix::thread::{CapabilitySet, capabilities};
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// What redirecting needs.
const NEEDED: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW);

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

/// How datagrams are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By membership.
    Join,
    /// By redirection.
    Redirect,
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
    mode: Mode,
    remarks: Vec<String>,
    captures: Vec<Capture>,
    beacons: Option<BeaconSocket>,
    injector: Arc<Injector>,
    _placed: Option<Placed>,
    /// That nobody else on this host captures the same; given up last.
    _claims: Vec<Claim>,
}

impl Network {
    /// Opens sockets, and puts in what they need.
    pub fn open(spec: &NetworkSpec) -> Result<Self, NetworkError> {
        // What a killed node has left, of which no file of this one's tells, takes what is sent here, too.
        let left = can_redirect().is_ok().then(remove_left_over);
        let claim = |to| Claim::destination(to).map_err(|e| taken(&to.to_string(), e));
        let claims = spec.groups.destinations().into_iter().map(claim).collect::<Result<_, _>>()?;
        let mut network = Self::opened(spec)?;
        network._claims = claims;
        network.remarks.extend(left.and_then(|left| match left {
            Ok(left) if left.is_empty() => None,
            Ok(left) => Some(format!("what a killed node had left here is taken out: {left}")),
            Err(e) => Some(format!("what killed nodes may have left here is not known: {e}")),
        }));
        Ok(network)
    }

    fn opened(spec: &NetworkSpec) -> Result<Self, NetworkError> {
        match spec.capture {
            Some(Mode::Join) => Self::join(spec, Vec::new()),
            Some(Mode::Redirect) => {
                Self::redirect(spec, can_redirect().map_err(NetworkError::Cannot)?)
            }
            None => {
                let why = match can_redirect() {
                    Ok(tool) => match Self::redirect(spec, tool) {
                        Ok(network) => return Ok(network),
                        Err(error) => error.to_string(),
                    },
                    Err(why) => why,
                };
                Self::join(
                    spec,
                    vec![format!("it captures by join, because redirect cannot be: {why}")],
                )
            }
        }
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

    /// What nodes on the segment say to each other by, where it captures by membership and a route
    /// leads to the groups; it is the caller's from here on.
    pub fn take_beacons(&mut self) -> Option<BeaconSocket> {
        self.beacons.take()
    }

    /// Takes everything out. What applications have joined by its route is kept up for them: gives the
    /// groups of which that is so.
    pub fn close(self, kept: &mut Kept) -> Vec<Ipv4Addr> {
        let Self { injector, _placed: placed, .. } = self;
        let groups = placed.as_ref().map(|placed| placed.groups().to_vec()).unwrap_or_default();
        drop(placed);
        injector.leave();
        kept.keep(&groups)
    }

    /// What sends.
    pub fn injector(&self) -> &Arc<Injector> {
        &self.injector
    }

    fn join(spec: &NetworkSpec, mut remarks: Vec<String>) -> Result<Self, NetworkError> {
        let mut captures = Vec::new();
        for to in spec.groups.destinations() {
            let join = match Join::open(&JoinSpec::new(to, Interface::ByRoute)) {
                Err(JoinError::NoRoute(_)) => {
                    remarks.push(format!(
                        "no route leads to {0}: only what is sent to it on lo is heard; `ip route add \
                         {0}/32 dev lo` lets applications that choose no interface send",
                        to.ip()
                    ));
                    Join::open(&JoinSpec::new(to, Interface::Name("lo".into())))?
                }
                join => join?,
            };
            remarks.extend(join.warnings().iter().map(|warning| format!("{to}: {warning}")));
            captures.push(Capture::of(join));
        }
        remarks.dedup();
        let injector = injector(spec, false)?;
        let beacons = match spec.groups.groups().first().map(|group| BeaconSocket::open(*group)) {
            Some(Ok(beacons)) => Some(beacons),
            // Then nobody on a segment hears what is sent here, either.
            None | Some(Err(JoinError::NoRoute(_))) => None,
            Some(Err(error)) => return Err(error.into()),
        };
        let (mode, _claims) = (Mode::Join, Vec::new());
        Ok(Self { mode, remarks, captures, beacons, injector, _placed: None, _claims })
    }

    fn redirect(spec: &NetworkSpec, tool: Tool) -> Result<Self, NetworkError> {
        let opened =
            |to| Capture::redirected(to).map_err(kernel(format!("opening a socket for {to}")));
        let captures: Vec<Capture> =
            spec.groups.destinations().into_iter().map(opened).collect::<Result<_, _>>()?;
        let redirect = |capture: &Capture| Ok((capture.to(), capture.port()?));
        let redirects = captures.iter().map(redirect).collect::<io::Result<Vec<_>>>();
        let redirects = redirects.map_err(kernel("asking for a port"))?;
        let injector = injector(spec, true)?;
        let state = NetworkState {
            tool,
            table: format!("synod_{}", spec.tag),
            namespace: Some(Namespace::here().map_err(kernel("asking for the namespace"))?),
            routes: spec.groups.groups().to_vec(),
            address: spec.address,
        };
        let (placed, remarks) = Placed::put_in(state, &spec.state, &redirects)?;
        let (mode, _placed, _claims) = (Mode::Redirect, Some(placed), Vec::new());
        Ok(Self { mode, remarks, captures, beacons: None, injector, _placed, _claims })
    }
}

/// Whether redirecting is possible, and with what; else why not, and what would help.
fn can_redirect() -> Result<Tool, String> {
    let mine = capabilities(None).map(|mine| mine.effective).unwrap_or(CapabilitySet::empty());
    if !mine.contains(NEEDED) {
        return Err("it needs CAP_NET_ADMIN and CAP_NET_RAW, which \
                    `sudo setcap cap_net_admin,cap_net_raw+ep $(command -v synod)` gives"
            .to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &Tool| {
        std::env::split_paths(&path).any(|folder| folder.join(tool.program()).is_file())
    };
    let tools = [Tool::Nft, Tool::Iptables];
    tools.into_iter().find(is_there).ok_or_else(|| {
        "it needs `nft` or `iptables`, and neither is here: `apt-get install nftables`".to_owned()
    })
}

/// Somebody else of this host has it.
fn taken(what: &str, error: ClaimError) -> NetworkError {
    match error {
        ClaimError::Taken(holder) => {
            let who = holder.map_or("another process".to_owned(), |(process, command)| {
                format!("process {process} ({command})")
            });
            NetworkError::Cannot(format!(
                "{what} is carried on this host already, by {who}: one node of a host carries a group \
                 and port, or it would be carried twice; `synod tunnel rm` takes it off the other"
            ))
        }
        ClaimError::Kernel(why) => NetworkError::Kernel { what: format!("claiming {what}"), why },
    }
}

fn injector(spec: &NetworkSpec, is_redirecting: bool) -> Result<Arc<Injector>, NetworkError> {
    let opened = Injector::open(spec.groups.groups(), lo()?, spec.ttl, is_redirecting);
    opened.map(Arc::new).map_err(kernel("opening the sockets that send"))
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

impl Mode {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Redirect => "redirect",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "join" => Ok(Self::Join),
            "redirect" => Ok(Self::Redirect),
            _ => Err(format!("`{text}` is no way to capture; those are join and redirect")),
        }
    }
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
