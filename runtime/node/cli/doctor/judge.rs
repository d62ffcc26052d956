//! Whether what was found is well, and how to mend it if not.

use crate::cli::table::bytes;
use std::time::Duration;
use synod::api::{Finding, KnownPeer, MonitorInfo, SpaceInfo};
use synod::node::{CLOSED, JOINING};

pub(super) const OK: &str = "ok";
pub(super) const WARN: &str = "warn";
pub(super) const BAD: &str = "bad";

/// A write waits for the disk once; slower than this and everybody notices.
const SLOW_SYNC: Duration = Duration::from_millis(10);
/// So slow that leaders lose their followers.
const BAD_SYNC: Duration = Duration::from_millis(100);
/// Less free than this is soon full; the node refuses writes below a quarter of it.
const LOW_SPACE: u64 = 1 << 30;
const NO_SPACE: u64 = 256 << 20;
/// A connection, an engine or a log's segment takes one each.
const FEW_FILES: u64 = 4096;
const TOO_FEW_FILES: u64 = 256;
/// Voters speak to those that follow once a second.
const OBSERVED_LATE: u64 = 5_000;
/// Clocks that are so far apart make times in logs hard to compare…
const CLOCK_OFF: i64 = 1_000;
/// …and tickets, which end at a time, of no use.
const CLOCK_WRONG: i64 = 60_000;
/// `CAP_NET_ADMIN` and `CAP_NET_RAW` (capabilities(7)).
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;

fn finding(what: &str, state: &str, found: impl Into<String>, mend: Option<String>) -> Finding {
    Finding { what: what.to_owned(), state: state.to_owned(), found: found.into(), mend }
}

fn mend(text: impl Into<String>) -> Option<String> {
    Some(text.into())
}

pub(super) fn no_folder(folder: &str) -> Finding {
    let how = mend(format!("synod up --data {folder} makes it"));
    finding("data folder", WARN, format!("{folder} is not there yet"), how)
}

pub(super) fn folder(folder: &str, is_dir: bool, mode: u32, unwritable: Option<String>) -> Finding {
    let what = "data folder";
    if !is_dir {
        let how = mend("name another one with --data DIR");
        return finding(what, BAD, format!("{folder} is no folder"), how);
    }
    if let Some(why) = unwritable {
        let how = mend(format!("it has to belong to the node's user: chown -R USER {folder}"));
        return finding(what, BAD, format!("{folder} cannot be written: {why}"), how);
    }
    if mode & 0o022 != 0 {
        let how = mend(format!("chmod go-w {folder}"));
        return finding(what, BAD, format!("{folder}: others may write it (mode {mode:04o})"), how);
    }
    finding(what, OK, folder, None)
}

pub(super) fn no_identity(file: &str) -> Finding {
    finding(
        "identity",
        OK,
        format!("{file} is made when the node first takes part in a network"),
        None,
    )
}

pub(super) fn identity(read: Result<String, String>) -> Finding {
    match read {
        Ok(id) => finding("identity", OK, id, None),
        // It says itself what to do.
        Err(why) => finding("identity", BAD, why, None),
    }
}

/// The times of writes, in order.
pub(super) fn disk(times: Result<Vec<Duration>, String>) -> Finding {
    let what = "disk latency";
    let times = match times {
        Ok(times) if !times.is_empty() => times,
        Ok(_) => {
            return finding(what, BAD, "no write was finished", mend("look at the system's log"));
        }
        Err(why) => {
            let how = mend("look at the disk, and at the system's log");
            return finding(what, BAD, format!("a file cannot be written and synced: {why}"), how);
        }
    };
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let (p50, p99) = (at(50), at(99));
    let found = format!("fdatasync p50 {:.2} ms, p99 {:.2} ms", ms(p50), ms(p99));
    let how = "each write waits for the disk once: put the data folder on a local SSD, not on a network's \
               or a shared disk";
    match p50 {
        p50 if p50 >= BAD_SYNC => finding(what, BAD, found, mend(how)),
        p50 if p50 >= SLOW_SYNC || p99 >= BAD_SYNC => finding(what, WARN, found, mend(how)),
        _ => finding(what, OK, found, None),
    }
}

pub(super) fn free(free: Result<u64, String>) -> Finding {
    let what = "free space";
    let how = mend("make room: below the node's --min-free writes are refused");
    match free {
        Err(why) => finding(what, BAD, why, how),
        Ok(free) if free < NO_SPACE => finding(what, BAD, bytes(free), how),
        Ok(free) if free < LOW_SPACE => finding(what, WARN, bytes(free), how),
        Ok(free) => finding(what, OK, bytes(free), None),
    }
}

/// None is without limit.
pub(super) fn open_files(limit: Option<u64>, most: Option<u64>) -> Finding {
    let what = "open files";
    let Some(limit) = limit else { return finding(what, OK, "without limit", None) };
    let most = most.map_or_else(|| "unlimited".to_owned(), |most| most.to_string());
    let how = mend(format!("ulimit -n {most}, or LimitNOFILE= in the service's unit"));
    let found = format!("{limit} at most");
    match limit {
        limit if limit < TOO_FEW_FILES => finding(what, BAD, found, how),
        limit if limit < FEW_FILES => finding(what, WARN, found, how),
        _ => finding(what, OK, found, None),
    }
}

pub(super) fn privileges(effective: u64) -> Finding {
    let what = "privileges";
    let missing: Vec<&str> = [("CAP_NET_ADMIN", NET_ADMIN), ("CAP_NET_RAW", NET_RAW)]
        .into_iter()
        .filter_map(|(name, bit)| (effective & bit == 0).then_some(name))
        .collect();
    if missing.is_empty() {
        return finding(what, OK, "CAP_NET_ADMIN and CAP_NET_RAW, for tunnels", None);
    }
    let found =
        format!("no {}: tunnels that redirect do not work, all else does", missing.join(" and "));
    let how = "if you want them: setcap cap_net_admin,cap_net_raw+ep $(command -v synod)";
    finding(what, WARN, found, mend(how))
}

/// Those of a node that runs.
pub(super) fn held(monitor: Option<&MonitorInfo>) -> Finding {
    let what = "privileges";
    match monitor {
        None => {
            let found =
                "the node was started without: tunnels that redirect do not work, all else does";
            let how = "if you want them: synod down; setcap cap_net_admin,cap_net_raw+ep \
                       $(command -v synod); synod up";
            finding(what, WARN, found, mend(how))
        }
        Some(MonitorInfo { pid, ended: None }) => {
            let found = format!("held apart from the node, by process {pid}");
            finding(what, OK, found, None)
        }
        Some(MonitorInfo { ended: Some(why), .. }) => {
            let found = format!(
                "the process that held them is gone: {why}. What is sent to the tunnels' groups on this host \
                 is heard by nobody"
            );
            finding(what, BAD, found, mend("start the node again: synod down, synod up"))
        }
    }
}

pub(super) fn ports(tcp: Option<String>, udp: Option<String>) -> Finding {
    let what = "ports";
    let how = "a firewall or a sandbox forbids it: allow the node to listen, or name addresses with --listen";
    match (tcp, udp) {
        (None, None) => finding(what, OK, "TCP and UDP ports can be listened on", None),
        (Some(why), _) => {
            finding(what, BAD, format!("no TCP port can be listened on: {why}"), mend(how))
        }
        (None, Some(why)) => {
            let found = format!("no UDP port can be listened on, so no QUIC: {why}");
            finding(what, WARN, found, mend(how))
        }
    }
}

pub(super) fn nothing_left() -> Finding {
    finding("network", OK, "no node has left anything in the kernel", None)
}

pub(super) fn taken_out(file: &str, restored: Result<bool, String>) -> Finding {
    match restored {
        Ok(_) => finding("network", OK, format!("taken out: what {file} says"), None),
        Err(why) => {
            let how = mend("try again as root: sudo synod doctor --fix-network --data DIR");
            finding("network", BAD, format!("{file}: {why}"), how)
        }
    }
}

/// What nodes have left of whose folders nobody has told; or why that cannot be known.
pub(super) fn others_taken_out(left: Result<String, String>) -> Option<Finding> {
    match left {
        Ok(left) if left.is_empty() => None,
        Ok(left) => Some(finding("network", OK, format!("taken out: {left}"), None)),
        Err(why) => {
            let found =
                format!("what nodes of other data folders may have left is not known: {why}");
            let how = mend("try again as root: sudo synod doctor --fix-network");
            Some(finding("network", WARN, found, how))
        }
    }
}

/// A file of a node that does not run.
pub(super) fn left(file: &str) -> Finding {
    let found = format!(
        "a node was killed, and what it had put into the kernel is there still: {file} says what. \
         What is sent to its groups on this host is heard by nobody"
    );
    finding("network", BAD, found, mend("take it out: sudo synod doctor --fix-network --data DIR"))
}

/// The same, found in the kernel. Whoever may not look has put nothing there.
pub(super) fn left_by_others(left: Result<String, String>) -> Option<Finding> {
    let left = left.ok().filter(|left| !left.is_empty())?;
    let found = format!(
        "a node was killed, and has left {left}: what is sent to its groups on this host is heard by nobody"
    );
    Some(finding("network", BAD, found, mend("take it out: sudo synod doctor --fix-network")))
}

/// A firewall that shuts the loopback. It says itself what mends it.
pub(super) fn shut(found: String) -> Finding {
    finding("network", WARN, found, None)
}

pub(super) fn no_node(data: &str) -> Finding {
    let how = mend(format!("start it with: synod up --data {data}"));
    finding("node", WARN, "it does not run, so its peers were not looked at", how)
}

pub(super) fn no_network() -> Finding {
    let how = mend("if it is to: synod space create NAME, or start it with --listen");
    finding("network", OK, "the node takes no part in one", how)
}

/// Both in microseconds since 1970; `last` is 0 if nothing is in the log.
pub(super) fn clock(now: u64, last: u64) -> Finding {
    let behind = last.saturating_sub(now) / 1000;
    let how = mend("set the clock, and keep it set: timedatectl set-ntp true");
    match i64::try_from(behind).unwrap_or(i64::MAX) {
        behind if behind >= CLOCK_WRONG => {
            let found = format!("it is {} s behind the last entry of a log", behind / 1000);
            finding("clock", BAD, found, how)
        }
        behind if behind >= CLOCK_OFF => {
            let found = format!("it is {} s behind the last entry of a log", behind / 1000);
            finding("clock", WARN, found, how)
        }
        _ => finding("clock", OK, "not behind any log", None),
    }
}

pub(super) fn clock_of(node: &str, ahead_ms: i64) -> Finding {
    let what = format!("clock of {node}");
    let found = format!("{:+.1} s against this one's", ahead_ms as f64 / 1000.0);
    let how = mend(format!("set this clock or that of {node}: timedatectl set-ntp true"));
    match ahead_ms.saturating_abs() {
        off if off >= CLOCK_WRONG => finding(&what, BAD, found, how),
        off if off >= CLOCK_OFF => finding(&what, WARN, found, how),
        _ => finding(&what, OK, found, None),
    }
}

pub(super) fn warning(text: &str) -> Finding {
    finding("node", WARN, text, None)
}

pub(super) fn spaces(spaces: &[SpaceInfo]) -> Vec<Finding> {
    let is_closed = |space: &SpaceInfo| matches!(&*space.role, CLOSED | JOINING);
    let shared = spaces.iter().filter(|space| space.voters > 0 || is_closed(space));
    let judged = shared.map(|space| {
        if is_closed(space) || space.observed.is_some() {
            return without_a_part(space);
        }
        let what = format!("space {}", space.name);
        let found = format!("{} of {} voters reachable", space.voters_reachable, space.voters);
        let has_quorum = space.voters_reachable > space.voters / 2;
        let how = mend(format!("synod space members --space {} shows who is missing", space.name));
        match &space.leader {
            Some(leader) if space.voters_reachable == space.voters => {
                finding(&what, OK, format!("led by {leader}, {found}"), None)
            }
            Some(leader) if has_quorum => {
                finding(&what, WARN, format!("led by {leader}, {found}"), how)
            }
            Some(leader) => finding(&what, BAD, format!("led by {leader}, {found}"), how),
            None => finding(&what, BAD, format!("no leader is known, {found}"), how),
        }
    });
    judged.collect()
}

/// One that is closed here, or only observed: there is no leader to be known.
fn without_a_part(space: &SpaceInfo) -> Finding {
    let what = format!("space {}", space.name);
    if let Some(why) = &space.read_only {
        let how = format!("what it says; or synod space leave {}, and join anew", space.name);
        return finding(&what, BAD, why.clone(), mend(how));
    }
    let (age_ms, lag) = space.observed.map_or((0, 0), |observed| (observed.age_ms, observed.lag));
    let age = age_ms as f64 / 1000.0;
    let found = format!(
        "observed, {lag} commands behind what a voter said {age:.1} s ago, {} of {} voters reachable",
        space.voters_reachable, space.voters
    );
    let how = mend(format!("synod space members --space {} shows whom it can ask", space.name));
    match age_ms {
        _ if space.voters_reachable == 0 => finding(&what, BAD, found, how),
        OBSERVED_LATE.. => finding(&what, WARN, found, how),
        _ => finding(&what, OK, found, None),
    }
}

pub(super) fn peer(peer: &KnownPeer, reached: Result<(), String>) -> Finding {
    let name = peer.node.as_deref().or(peer.peer.as_deref());
    let address = peer.addresses.first().map(|known| known.address.as_str());
    let what = format!("peer {}", name.or(address).unwrap_or("without a name"));
    match reached {
        Ok(()) => finding(&what, OK, "reachable", None),
        Err(why) => {
            // What was asked for by hand is wanted; others come and go.
            let state = if peer.wanted { BAD } else { WARN };
            let id = peer.peer.as_deref().or(address).unwrap_or_default();
            let how = mend(format!(
                "is it running, and may this machine connect to it? synod peer rm {id} forgets it"
            ));
            finding(&what, state, format!("not reachable: {why}"), how)
        }
    }
}

pub(super) fn more_peers(more: usize) -> Finding {
    finding("peers", OK, format!("{more} more are known and were not dialed"), None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod::api::ObservedInfo;

    fn state(finding: Finding) -> String {
        // What is not well says what to do about it.
        assert!(finding.state == OK || finding.mend.is_some(), "{finding:?}");
        finding.state
    }

    #[test]
    fn a_disk_is_judged_by_how_long_it_is_waited_for() {
        let of = |ms: u64| disk(Ok(vec![Duration::from_millis(ms); 50]));
        assert_eq!(
            ["ok", "warn", "bad"],
            [of(1), of(10), of(100)].map(state).each_ref().map(|s| &**s)
        );
        assert_eq!(state(disk(Err("no".into()))), BAD);
        assert_eq!(state(disk(Ok(Vec::new()))), BAD);
        let mut times = vec![Duration::from_millis(1); 99];
        times.push(Duration::from_millis(200));
        assert_eq!(state(disk(Ok(times.clone()))), WARN, "one in a hundred is very slow");
        assert!(disk(Ok(times)).found.contains("p50 1.00 ms, p99 200.00 ms"));
    }

    #[test]
    fn a_clock_is_judged_by_the_log_and_by_others() {
        let day = 24 * 3600 * 1_000_000;
        assert_eq!(state(clock(2 * day, day)), OK);
        assert_eq!(state(clock(day, day + 2_000_000)), WARN);
        assert_eq!(state(clock(day, 2 * day)), BAD);
        assert_eq!(state(clock_of("beta", 500)), OK);
        assert_eq!(state(clock_of("beta", -2_000)), WARN);
        assert_eq!(state(clock_of("beta", -86_400_000)), BAD);
        assert_eq!(state(clock_of("beta", i64::MIN)), BAD);
    }

    #[test]
    fn privileges_are_best_held_apart() {
        let monitor = |ended: Option<&str>| MonitorInfo { pid: 7, ended: ended.map(str::to_owned) };
        assert_eq!(state(held(None)), WARN);
        assert_eq!(state(held(Some(&monitor(None)))), OK);
        let gone = held(Some(&monitor(Some("it has ended"))));
        assert!(gone.found.contains("it has ended"));
        assert_eq!(state(gone), BAD);
    }

    #[test]
    fn a_folder_that_others_may_write_is_bad() {
        assert_eq!(state(folder("/d", true, 0o700, None)), OK);
        assert_eq!(state(folder("/d", true, 0o755, None)), OK);
        assert_eq!(state(folder("/d", true, 0o777, None)), BAD);
        assert_eq!(state(folder("/d", false, 0o700, None)), BAD);
        assert_eq!(state(folder("/d", true, 0o700, Some("denied".into()))), BAD);
    }

    #[test]
    fn a_space_that_is_observed_or_closed_is_judged_by_what_it_is_here() {
        let none = || Finding {
            what: String::new(),
            state: String::new(),
            found: String::new(),
            mend: None,
        };
        let of = |change: fn(&mut SpaceInfo)| {
            let observed = ObservedInfo {
                age_ms: 900,
                lag: 2,
                heads: 9,
                refused: 0,
                old: 0,
                fetched: 1,
                snapshots: 0,
            };
            let mut info = info("observer");
            (info.voters, info.voters_reachable, info.observed) = (3, 1, Some(observed));
            change(&mut info);
            spaces(&[info]).pop().unwrap_or_else(none)
        };
        let well = of(|_| {});
        assert!(well.found.contains("observed, 2 commands behind"), "{well:?}");
        assert_eq!(state(well), OK, "whom it hears from is enough");
        assert_eq!(state(of(|info| info.observed.as_mut().unwrap().age_ms = 6_000)), WARN);
        assert_eq!(state(of(|info| info.voters_reachable = 0)), BAD);
        assert_eq!(state(of(|info| info.read_only = Some("apart".into()))), BAD);
        let closed = of(|info| {
            (info.role, info.voters, info.observed) = (CLOSED.to_owned(), 0, None);
            info.read_only = Some("its log is damaged".into());
        });
        assert!(closed.found.contains("damaged"), "{closed:?}");
        assert_eq!(state(closed), BAD);
    }

    fn info(role: &str) -> SpaceInfo {
        let text = format!(
            r#"{{"name": "s", "id": "", "role": "{role}", "term": 1, "voters": 0, "voters_reachable": 0,
            "index": 1, "facts": 0, "log_bytes": 0, "first": 1, "retain": "everything", "free_bytes": 0,
            "min_free_bytes": 0, "commands_per_s": 0.0, "proposals": 0, "max_proposals": 0,
            "proposal_bytes": 0, "max_proposal_bytes": 0, "refused": 0}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn limits_are_judged() {
        assert_eq!(state(open_files(None, None)), OK);
        assert_eq!(state(open_files(Some(1024), Some(4096))), WARN);
        assert!(open_files(Some(64), Some(4096)).mend.unwrap().contains("ulimit -n 4096"));
        assert_eq!(state(open_files(Some(64), None)), BAD);
        assert_eq!(state(free(Ok(10 << 30))), OK);
        assert_eq!(state(free(Ok(1 << 29))), WARN);
        assert_eq!(state(free(Ok(1 << 20))), BAD);
        assert_eq!(state(privileges(NET_ADMIN | NET_RAW)), OK);
        let half = privileges(NET_ADMIN);
        assert!(half.found.contains("CAP_NET_RAW") && !half.found.contains("CAP_NET_ADMIN"));
        assert_eq!(state(ports(None, None)), OK);
        assert_eq!(state(ports(None, Some("no".into()))), WARN);
        assert_eq!(state(ports(Some("no".into()), None)), BAD);
    }

    #[test]
    fn a_peer_that_was_asked_for_is_missed() {
        let of = |wanted| KnownPeer {
            peer: Some("12D3".to_owned()),
            node: None,
            wanted,
            connected: false,
            addresses: Vec::new(),
        };
        assert_eq!(state(peer(&of(true), Ok(()))), OK);
        assert_eq!(state(peer(&of(true), Err("refused".into()))), BAD);
        assert_eq!(state(peer(&of(false), Err("refused".into()))), WARN);
    }
}
