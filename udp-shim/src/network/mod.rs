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
mod inject;
mod netlink;
mod rules;
mod state;

pub use beacon::{BEACON_PORT, BeaconSocket};
pub use capture::Capture;
pub use inject::Injector;
pub use rules::{MARK, Tool};
pub use state::NetworkState;

use crate::interface::Interfaces;
use crate::join::{Join, JoinError};
use crate::spec::{Interface, JoinSpec};
use crate::tunnel::Groups;
use rules::Step;
use rustix::thread::{
    CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities,
};
use std::fmt;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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
}

impl Network {
    /// Opens sockets, and puts in what they need.
    pub fn open(spec: &NetworkSpec) -> Result<Self, NetworkError> {
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
        Ok(Self { mode: Mode::Join, remarks, captures, beacons, injector, _placed: None })
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
        let placed = Placed {
            state: NetworkState {
                tool,
                table: format!("synod_{}", spec.tag),
                routes: spec.groups.groups().to_vec(),
                address: spec.address,
            },
            path: spec.state.clone(),
        };
        let remarks = placed.put_in(&redirects)?;
        let beacons = None;
        let _placed = Some(placed);
        Ok(Self { mode: Mode::Redirect, remarks, captures, beacons, injector, _placed })
    }
}

/// Takes out what a node has left behind; false if there is nothing.
pub fn restore(state: &Path) -> Result<bool, NetworkError> {
    let error = |why: String| NetworkError::State { path: state.to_owned(), why };
    let text = match std::fs::read_to_string(state) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        text => text.map_err(|e| error(e.to_string()))?,
    };
    // One that is half written was not acted upon: what it would have said was put in after it.
    if let Some(known) = NetworkState::parse(&text) {
        take_out(&known, state)?;
    }
    std::fs::remove_file(state).map_err(|e| error(e.to_string()))?;
    Ok(true)
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

/// What is in the kernel for a tunnel.
#[derive(Debug)]
struct Placed {
    state: NetworkState,
    path: PathBuf,
}

impl Placed {
    /// The file first, then what it says.
    fn put_in(
        &self,
        redirects: &[(std::net::SocketAddrV4, u16)],
    ) -> Result<Vec<String>, NetworkError> {
        let Self { state, path } = self;
        let written = write_durably(path, &state.to_string());
        written.map_err(|e| NetworkError::State { path: path.clone(), why: e.to_string() })?;
        let mut remarks = Vec::new();
        let lo = lo()?;
        for group in &state.routes {
            let added = netlink::add_route(*group, lo, state.address);
            if !added.map_err(kernel(format!("adding a route to {group}")))? {
                remarks.push(format!(
                    "there is a route to {group} already, which is left as it is: applications send \
                     from the address that it says"
                ));
            }
        }
        state.tool.put_in(&state.table, redirects).iter().try_for_each(run)?;
        netlink::forget_flows(&state.routes).map_err(kernel("forgetting old flows"))?;
        Ok(remarks)
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        // What cannot be taken out now is there for the next start, which says so if it fails, too.
        if take_out(&self.state, &self.path).is_ok() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Takes out what a state says, but for the routes that another one beside its file needs, too.
fn take_out(state: &NetworkState, path: &Path) -> Result<(), NetworkError> {
    state.tool.take_out(&state.table).iter().try_for_each(run)?;
    let lo = lo()?;
    let shared = routes_beside(path, &state.table);
    for group in state.routes.iter().filter(|group| !shared.contains(group)) {
        let removed = netlink::remove_route(*group, lo, state.address);
        removed.map_err(kernel(format!("taking out the route to {group}")))?;
    }
    netlink::forget_flows(&state.routes).map_err(kernel("forgetting old flows")).map(drop)
}

/// The groups that the states of other tables in a folder have routes to.
fn routes_beside(path: &Path, table: &str) -> Vec<Ipv4Addr> {
    let files = path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let files = files.into_iter().flatten().flatten().map(|file| file.path());
    let others = files.filter(|file| file != path && file.extension() == path.extension());
    let texts = others.filter_map(|file| std::fs::read_to_string(file).ok());
    let states = texts.filter_map(|text| NetworkState::parse(&text));
    states.filter(|state| state.table != table).flat_map(|state| state.routes).collect()
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

fn run(step: &Step) -> Result<(), NetworkError> {
    let command = || [&[step.program.to_owned()][..], &step.arguments].concat().join(" ");
    let failed = |said: String| NetworkError::Command { command: command(), said };
    let mut command_line = Command::new(step.program);
    command_line
        .args(&step.arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = with_privileges(&mut command_line).map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Whoever does not read it fails, and says why.
        let _ = stdin.write_all(step.input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if output.status.success() || step.may_fail {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Starts a command that has this process's privileges over the network, which are not handed on
/// by themselves. On a thread of its own, for they are a thread's: no other child gets them.
fn with_privileges(command: &mut Command) -> io::Result<Child> {
    let start = || {
        let mut mine = capabilities(None)?;
        mine.inheritable |= NEEDED & mine.permitted;
        set_capabilities(None, mine)?;
        for one in [CapabilitySet::NET_ADMIN, CapabilitySet::NET_RAW] {
            configure_capability_in_ambient_set(one, true)?;
        }
        command.spawn()
    };
    std::thread::scope(|scope| {
        let started = scope.spawn(start).join();
        started.unwrap_or_else(|_| Err(io::Error::other("the thread that starts it has died")))
    })
}

fn write_durably(path: &Path, text: &str) -> io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
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
