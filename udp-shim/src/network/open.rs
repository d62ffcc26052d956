//! What opening a tunnel's part of this host needs privileges for, and what else only they who have told the
//! kernel can keep: sockets that capture and send, routes and rules, claims.

use super::claim::{Claim, ClaimError};
use super::inject::raw_sender;
use super::placed::Placed;
use super::{
    Capture, Mode, Namespace, NetworkError, NetworkSpec, NetworkState, Tool, kernel,
    remove_left_over,
};
use crate::join::{Join, JoinError};
use crate::privileges;
use crate::spec::{Interface, JoinSpec};
use socket2::Socket;
use std::io;
use std::time::{Duration, Instant};

/// How long a killed node's part of this host may take to be taken out, before somebody else is refused it.
pub(super) const CLEANING: Duration = Duration::from_secs(10);

/// What is open. Dropping it takes everything out.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) mode: Mode,
    pub(super) remarks: Vec<String>,
    /// One for each destination, in order.
    pub(super) captures: Vec<Capture>,
    /// What puts back what was taken.
    pub(super) raw: Option<Socket>,
    pub(super) placed: Option<Placed>,
    /// That nobody else on this host captures the same; given up last.
    pub(super) claims: Vec<Claim>,
}

impl Opened {
    pub(super) fn open(spec: &NetworkSpec) -> Result<Self, NetworkError> {
        let until = Instant::now() + CLEANING;
        let claim = |to| Claim::destination(to, until).map_err(|e| taken(&to.to_string(), e));
        // What a killed node has left, of which no file of this one's tells, takes what is sent here, too.
        let left = can_redirect().is_ok().then(remove_left_over);
        let claims = spec.groups.destinations().into_iter().map(claim).collect::<Result<_, _>>()?;
        let mut opened = Self::best(spec)?;
        opened.claims = claims;
        opened.remarks.extend(left.and_then(|left| match left {
            Ok(left) if left.is_empty() => None,
            Ok(left) => Some(format!("what a killed node had left here is taken out: {left}")),
            Err(e) => Some(format!("what killed nodes may have left here is not known: {e}")),
        }));
        Ok(opened)
    }

    /// As it is wanted, or as well as it can be.
    fn best(spec: &NetworkSpec) -> Result<Self, NetworkError> {
        if let Some(mode) = spec.capture {
            return Self::by(mode, spec);
        }
        match Self::by(Mode::Redirect, spec) {
            Ok(opened) => Ok(opened),
            Err(why) => {
                let mut opened = Self::by(Mode::Join, spec)?;
                let remark = format!("it captures by join, because redirect cannot be: {why}");
                opened.remarks.insert(0, remark);
                Ok(opened)
            }
        }
    }

    /// By one of the ways.
    pub(super) fn by(mode: Mode, spec: &NetworkSpec) -> Result<Self, NetworkError> {
        match mode {
            Mode::Join => Self::join(spec),
            Mode::Redirect => Self::redirect(spec),
        }
    }

    fn join(spec: &NetworkSpec) -> Result<Self, NetworkError> {
        let (mut captures, mut remarks) = (Vec::new(), Vec::new());
        for to in spec.groups.destinations() {
            let join = match Join::open(&JoinSpec::new(to, Interface::ByRoute)) {
                Err(JoinError::NoRoute(_)) => {
                    remarks.push(format!(
                        "no route led to {0} when the tunnel was opened: until one does only what is sent \
                         to it on lo is heard; `ip route add {0}/32 dev lo` lets applications that choose \
                         no interface send",
                        to.ip()
                    ));
                    Join::open(&JoinSpec::new(to, Interface::Name("lo".into())))?
                }
                join => join?,
            };
            remarks.extend(join.warnings().iter().map(|warning| format!("{to}: {warning}")));
            captures.push(Capture::new(to, Mode::Join, join.into_socket()));
        }
        remarks.dedup();
        let claims = Vec::new();
        Ok(Self { mode: Mode::Join, remarks, captures, raw: None, placed: None, claims })
    }

    fn redirect(spec: &NetworkSpec) -> Result<Self, NetworkError> {
        let tool = can_redirect().map_err(NetworkError::Cannot)?;
        let opened =
            |to| Capture::redirected(to).map_err(kernel(format!("opening a socket for {to}")));
        let captures: Vec<Capture> =
            spec.groups.destinations().into_iter().map(opened).collect::<Result<_, _>>()?;
        let redirect = |capture: &Capture| Ok((capture.to(), capture.port()?));
        let redirects = captures.iter().map(redirect).collect::<io::Result<Vec<_>>>();
        let redirects = redirects.map_err(kernel("asking for a port"))?;
        let raw = raw_sender().map_err(kernel("opening the sockets that send"))?;
        let state = NetworkState {
            tool,
            table: table(&spec.tag),
            namespace: Some(Namespace::here().map_err(kernel("asking for the namespace"))?),
            routes: spec.groups.groups().to_vec(),
            address: spec.address,
        };
        let (placed, remarks) = Placed::put_in(state, &spec.state, redirects)?;
        let (mode, raw, placed) = (Mode::Redirect, Some(raw), Some(placed));
        Ok(Self { mode, remarks, captures, raw, placed, claims: Vec::new() })
    }
}

/// The table or chains of a tunnel with this tag.
pub(super) fn table(tag: &str) -> String {
    format!("synod_{tag}")
}

/// Whether redirecting is possible, and with what; else why not, and what would help.
pub(super) fn can_redirect() -> Result<Tool, String> {
    if !privileges::are_held() {
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
pub(super) fn taken(what: &str, error: ClaimError) -> NetworkError {
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
        ClaimError::Ending(process) => NetworkError::Cannot(format!(
            "{what} is still being taken out of the kernel for a node that was killed, by process {process}: \
             try again; if that process hangs, end it, and then `synod doctor --fix-network`"
        )),
        ClaimError::Kernel(why) => NetworkError::Kernel { what: format!("claiming {what}"), why },
    }
}
