//! What nodes have left in the kernel that were killed: named by the file of the node's own folder, or by
//! nobody, where it has another folder now.

use super::claim::Claimed;
use super::namespace::Whereabouts;
use super::open::can_redirect;
use super::placed::{done, run, take_out};
use super::rules::Tool;
use super::state::is_ours;
use super::{NetworkError, NetworkState, kernel, lo, netlink};
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

/// Takes out what a node has left behind; false if there is nothing.
pub fn restore(state: &Path) -> Result<bool, NetworkError> {
    let error = |why: String| NetworkError::State { path: state.to_owned(), why };
    let text = match std::fs::read_to_string(state) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        text => text.map_err(|e| error(e.to_string()))?,
    };
    // One that is half written was not acted upon: what it would have said was put in after it.
    if let Some(known) = NetworkState::parse(&text) {
        let namespace = known.namespace.as_ref();
        let found = namespace.map_or(Ok(Whereabouts::Here), |one| one.whereabouts());
        match found.map_err(|e| error(e.to_string()))? {
            Whereabouts::Here => take_out(&known, state)?,
            Whereabouts::Gone => {}
            Whereabouts::Elsewhere(path) => {
                let path = path.map(|path| path.display().to_string());
                return Err(error(format!(
                    "it tells of another network namespace, and can be taken out from there alone: \
                     nsenter --net={} synod doctor --fix-network --data DIR",
                    path.as_deref().unwrap_or("FILE")
                )));
            }
        }
    }
    match std::fs::remove_file(state) {
        // Whoever put it in has taken it out meanwhile, too.
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(error(e.to_string())),
        _ => Ok(true),
    }
}

/// Tables or chains, and routes, that bear our name and that no process uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOver {
    tables: Vec<String>,
    routes: Vec<(Ipv4Addr, Ipv4Addr)>,
}

impl LeftOver {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.routes.is_empty()
    }
}

impl fmt::Display for LeftOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.tables.iter().cloned();
        let routes = self.routes.iter().map(|(group, _)| format!("the route to {group}"));
        f.write_str(&tables.chain(routes).collect::<Vec<_>>().join(", "))
    }
}

/// What is left over in this namespace, whatever file told of it. It needs the privileges that redirecting
/// needs.
pub fn left_over() -> Result<LeftOver, NetworkError> {
    left_over_by(can_redirect().map_err(NetworkError::Cannot)?)
}

fn left_over_by(tool: Tool) -> Result<LeftOver, NetworkError> {
    // First what is there, then who has it: who puts something in claims it before.
    let shown = tool.show().iter().map(run).collect::<Result<String, _>>()?;
    let routes = netlink::our_routes().map_err(kernel("listing the routes"))?;
    let claimed = Claimed::now().map_err(kernel("listing who uses what"))?;
    let is_left = |table: &&str| is_ours(table) && !claimed.has_table(table);
    let mut tables: Vec<String> = tool.tables(&shown).filter(is_left).map(str::to_owned).collect();
    tables.sort();
    tables.dedup();
    let routes = routes.into_iter().filter(|(group, _)| !claimed.has_group(*group)).collect();
    Ok(LeftOver { tables, routes })
}

/// Takes that out. Gives what it was.
pub fn remove_left_over() -> Result<LeftOver, NetworkError> {
    let tool = can_redirect().map_err(NetworkError::Cannot)?;
    let left = left_over_by(tool)?;
    for table in &left.tables {
        tool.take_out(table).iter().try_for_each(done)?;
    }
    let lo = if left.routes.is_empty() { 0 } else { lo()? };
    for (group, from) in &left.routes {
        let removed = netlink::remove_route(*group, lo, *from);
        removed.map_err(kernel(format!("taking out the route to {group}")))?;
    }
    if !left.is_empty() {
        let groups: Vec<Ipv4Addr> = left.routes.iter().map(|(group, _)| *group).collect();
        netlink::forget_flows(&groups).map_err(kernel("forgetting old flows"))?;
    }
    Ok(left)
}
