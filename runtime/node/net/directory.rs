//! The directory: what each node says of itself every two seconds, as long as it says so.
//!
//! ```text
//! record = [2, time: uint, node: tstr, [* address: tstr], [* [space: bstr .size 32, observed: uint / null]],
//!           [* [name: tstr, space: uint / null, runs: bool]]]
//!        / [3, …as above…, [* tunnel: tstr]]             by who has tunnels
//! ```
//!
//! A space that the node only observes goes with the index that the node has come to.
//!
//! The bridge signs it, so it is its author's. `time` is the author's clock in microseconds since 1970; a
//! record that is not later than the one that is there came by a longer way, and is passed over. An
//! agent's space is a place in the list before it, or none for the node's own. Pure: times are arguments.

use super::messages::who;
use std::collections::BTreeMap;
use std::time::Duration;
use synod_core::cbor::{Error, Reader, What, Writer};

/// The network's name of the topic that records are gossiped under.
pub(crate) const TOPIC: &str = "synod/directory/1";
/// How often a node says what it is.
pub(crate) const EVERY: Duration = Duration::from_secs(2);
/// What a node has not repeated for so long is so no more.
const EXPIRES: Duration = Duration::from_secs(10);
/// Nodes that are kept, at most.
const MAX_NODES: usize = 1024;
/// Addresses of a node, at most.
const MAX_ADDRESSES: usize = 8;
/// Spaces of a node that it tells of, at most.
const MAX_SPACES: usize = 256;
/// Agents of a node that it tells of, at most.
const MAX_AGENTS: usize = 256;
/// Tunnels of a node that it tells of, at most.
const MAX_TUNNELS: usize = 64;
const VERSION: u64 = 2;
/// That of a record with tunnels: who knows of none goes on reading the others.
const WITH_TUNNELS: u64 = 3;

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its clock, in microseconds since 1970.
    pub(crate) time: u64,
    /// Its name.
    pub(crate) node: String,
    /// Where it listens.
    pub(crate) addresses: Vec<String>,
    /// Its spaces.
    pub(crate) spaces: Vec<Held>,
    /// Its agents.
    pub(crate) agents: Vec<Agent>,
    /// The names of its tunnels.
    pub(crate) tunnels: Vec<String>,
}

/// A space of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) id: [u8; 32],
    /// The index that it has come to, if the node only observes it.
    pub(crate) observed: Option<u64>,
}

/// An agent of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) name: String,
    /// The place of its space among the node's; none for the node's own.
    pub(crate) space: Option<usize>,
    /// Whether it runs there; else it stands by.
    pub(crate) runs: bool,
}

impl Record {
    /// The bytes; what is over a bound is left out.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        let addresses = &self.addresses[..self.addresses.len().min(MAX_ADDRESSES)];
        let spaces = &self.spaces[..self.spaces.len().min(MAX_SPACES)];
        let is_told = |agent: &&Agent| agent.space.is_none_or(|space| space < spaces.len());
        let agents: Vec<_> = self.agents.iter().filter(is_told).take(MAX_AGENTS).collect();
        let tunnels = &self.tunnels[..self.tunnels.len().min(MAX_TUNNELS)];
        match tunnels.is_empty() {
            true => w.array(6).uint(VERSION),
            false => w.array(7).uint(WITH_TUNNELS),
        };
        w.uint(self.time).text(&self.node).array(addresses.len());
        for address in addresses {
            w.text(address);
        }
        w.array(spaces.len());
        for space in spaces {
            w.array(2).bytes(&space.id);
            match space.observed {
                Some(index) => w.uint(index),
                None => w.null(),
            };
        }
        w.array(agents.len());
        for agent in agents {
            w.array(3).text(&agent.name);
            match agent.space {
                Some(space) => w.uint(space as u64),
                None => w.null(),
            };
            w.bool(agent.runs);
        }
        if !tunnels.is_empty() {
            w.array(tunnels.len());
            for tunnel in tunnels {
                w.text(tunnel);
            }
        }
        w.into_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        let (items, version) = (r.array()?, r.uint()?);
        let has_tunnels = match (items, version) {
            (6, VERSION) => false,
            (7, WITH_TUNNELS) => true,
            _ => return Err(r.invalid("another version of records")),
        };
        let (time, node) = (r.uint()?, who(&mut r)?);
        let of = array(&mut r, MAX_ADDRESSES, "addresses")?;
        let addresses = (0..of).map(|_| who(&mut r)).collect::<Result<_, _>>()?;
        let of = array(&mut r, MAX_SPACES, "spaces")?;
        let spaces = (0..of).map(|_| held(&mut r)).collect::<Result<Vec<_>, _>>()?;
        let of = array(&mut r, MAX_AGENTS, "agents")?;
        let agents = (0..of).map(|_| agent(&mut r, spaces.len())).collect::<Result<_, _>>()?;
        let of = if has_tunnels { array(&mut r, MAX_TUNNELS, "tunnels")? } else { 0 };
        let tunnels = (0..of).map(|_| who(&mut r)).collect::<Result<_, _>>()?;
        r.end()?;
        Ok(Self { time, node, addresses, spaces, agents, tunnels })
    }
}

fn held(r: &mut Reader<'_>) -> Result<Held, Error> {
    r.array_of(2)?;
    let id = r.fixed()?;
    let observed = if r.null() { None } else { Some(r.uint()?) };
    Ok(Held { id, observed })
}

fn agent(r: &mut Reader<'_>, spaces: usize) -> Result<Agent, Error> {
    r.array_of(3)?;
    let name = who(r)?;
    let space = match r.null() {
        true => None,
        false => Some(r.uint()?),
    };
    let space = space.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    if space.is_some_and(|space| space >= spaces) {
        return Err(r.invalid("an agent of a space that is not there"));
    }
    Ok(Agent { name, space, runs: r.bool()? })
}

fn array(r: &mut Reader<'_>, bound: usize, of: &'static str) -> Result<usize, Error> {
    let len = r.array()?;
    if len > bound { Err(r.error(What::TooMany { bound, of })) } else { Ok(len) }
}

/// A record as it was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) record: Record,
    /// When, on a clock that only rises.
    pub(crate) at: Duration,
    /// By how many microseconds its author's clock was ahead of this node's then.
    pub(crate) ahead: i64,
}

/// The records of other nodes, by their ids in the network.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    nodes: BTreeMap<Vec<u8>, Heard>,
}

impl Directory {
    /// A record has come: `at` is a clock that only rises, `now` this node's time in microseconds. False
    /// if it was passed over: it is an old one, or there is no room.
    pub(crate) fn heard(&mut self, peer: Vec<u8>, record: Record, at: Duration, now: u64) -> bool {
        let known = self.nodes.get(&peer).filter(|heard| is_live(heard, at));
        if known.is_some_and(|heard| heard.record.time >= record.time) {
            return false;
        }
        if !self.nodes.contains_key(&peer) && self.nodes.len() >= MAX_NODES {
            self.nodes.retain(|_, heard| is_live(heard, at));
            if self.nodes.len() >= MAX_NODES {
                return false;
            }
        }
        let micros = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let ahead = micros(record.time).saturating_sub(micros(now));
        self.nodes.insert(peer, Heard { record, at, ahead });
        true
    }

    /// Nodes that have been heard of lately.
    pub(crate) fn live(&self, at: Duration) -> impl Iterator<Item = (&[u8], &Heard)> {
        let live = self.nodes.iter().filter(move |(_, heard)| is_live(heard, at));
        live.map(|(peer, heard)| (peer.as_slice(), heard))
    }

    /// What a peer said of itself lately.
    pub(crate) fn of(&self, peer: &[u8], at: Duration) -> Option<&Heard> {
        self.nodes.get(peer).filter(|heard| is_live(heard, at))
    }

    /// The nodes that observe a space, with the index that each had come to.
    pub(crate) fn observers<'a>(
        &'a self,
        space: &'a [u8; 32],
        at: Duration,
    ) -> impl Iterator<Item = (&'a [u8], &'a Heard, u64)> {
        self.live(at).filter_map(move |(peer, heard)| {
            let held = heard.record.spaces.iter().find(|held| held.id == *space)?;
            Some((peer, heard, held.observed?))
        })
    }

    /// The nodes where an agent runs; in one space, if it is given. `NAME@NODE` is that node's own.
    pub(crate) fn runs(&self, name: &str, space: Option<&[u8; 32]>, at: Duration) -> Vec<Vec<u8>> {
        let runs_at = |heard: &Heard| {
            let Record { node, agents, spaces, .. } = &heard.record;
            let own = name.strip_suffix(node.as_str()).and_then(|name| name.strip_suffix('@'));
            let is_it = |agent: &&Agent| agent.name == name || own == Some(&*agent.name);
            let is_in = |agent: &Agent| {
                space.is_none_or(|space| {
                    agent.space.and_then(|n| spaces.get(n)).map(|held| &held.id) == Some(space)
                })
            };
            agents.iter().filter(is_it).any(|agent| agent.runs && is_in(agent))
        };
        let found = self.live(at).filter(|(_, heard)| runs_at(heard));
        found.map(|(peer, _)| peer.to_vec()).collect()
    }
}

fn is_live(heard: &Heard, at: Duration) -> bool {
    at.saturating_sub(heard.at) < EXPIRES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex::hex;
    use proptest::prelude::*;

    const SPACE: [u8; 32] = [7; 32];

    fn record(time: u64, runs: bool) -> Record {
        Record {
            time,
            node: "beta".to_owned(),
            addresses: vec!["/ip4/127.0.0.1/tcp/4001".to_owned()],
            spaces: vec![Held { id: SPACE, observed: None }],
            agents: vec![
                Agent { name: "bank".to_owned(), space: Some(0), runs },
                Agent { name: "own".to_owned(), space: None, runs: true },
            ],
            tunnels: Vec::new(),
        }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_record_has_these_bytes() {
        let small = Record { addresses: vec!["/a".to_owned()], ..record(5, true) };
        let bytes = small.encode();
        assert_eq!(hex(&bytes), GOLDEN);
        assert_eq!(Record::decode(&bytes).unwrap(), small);
        // With tunnels it is of another version, and says the same before them.
        let with = Record { tunnels: vec!["t".to_owned()], ..small };
        let bytes = with.encode();
        assert_eq!(hex(&bytes), format!("8703{}816174", &GOLDEN[4..]));
        assert_eq!(Record::decode(&bytes).unwrap(), with);
    }

    const GOLDEN: &str = concat!(
        "860205646265746181622f6181825820",
        "0707070707070707070707070707070707070707070707070707070707070707f6",
        "82836462616e6b00f583636f776ef6f5",
    );

    #[test]
    fn names_resolve_while_their_nodes_are_heard() {
        let mut all = Directory::default();
        let peer = b"beta".to_vec();
        assert!(all.heard(peer.clone(), record(1, true), s(0), 0));
        let (none, one) = (Vec::<Vec<u8>>::new(), [b"beta".to_vec()]);
        assert_eq!(all.runs("bank", None, s(9)), one);
        assert_eq!(all.runs("bank", Some(&SPACE), s(9)), one);
        assert_eq!(all.runs("bank@beta", None, s(9)), one);
        assert_eq!(all.runs("bank@gamma", None, s(9)), none);
        assert_eq!(all.runs("bank", Some(&[8; 32]), s(9)), none);
        assert_eq!(all.runs("own", Some(&SPACE), s(9)), none);
        assert_eq!(all.runs("own", None, s(9)), one);
        assert_eq!(all.runs("bank", None, s(10)), none, "it has been silent");
        assert!(all.of(&peer, s(10)).is_none());
        assert!(all.heard(peer.clone(), record(2, false), s(11), 0));
        assert_eq!(all.runs("bank", None, s(11)), none, "it stands by");
    }

    #[test]
    fn who_observes_a_space_is_known_while_it_is_heard() {
        let mut all = Directory::default();
        let observed = Held { id: SPACE, observed: Some(7) };
        assert!(all.heard(vec![1], record(1, true), s(0), 0));
        let record = Record { spaces: vec![observed], ..record(1, true) };
        assert_eq!(Record::decode(&record.encode()).unwrap(), record);
        assert!(all.heard(vec![2], record, s(0), 0));
        let at = |all: &Directory, at| {
            let observers = all.observers(&SPACE, at);
            observers.map(|(peer, _, index)| (peer.to_vec(), index)).collect::<Vec<_>>()
        };
        assert_eq!(at(&all, s(9)), [(vec![2], 7)]);
        assert_eq!(all.observers(&[8; 32], s(9)).count(), 0);
        assert!(at(&all, s(10)).is_empty());
    }

    #[test]
    fn an_older_record_does_not_replace_a_later_one_while_that_is_so() {
        let mut all = Directory::default();
        assert!(all.heard(vec![1], record(10, true), s(0), 0));
        assert!(!all.heard(vec![1], record(9, false), s(1), 0));
        assert!(!all.heard(vec![1], record(10, false), s(1), 0));
        assert_eq!(all.runs("bank", None, s(1)).len(), 1);
        assert!(all.heard(vec![1], record(9, false), s(10), 0), "its clock was set back");
        assert_eq!(all.of(&[1], s(10)).unwrap().ahead, 9);
    }

    #[test]
    fn there_is_room_for_so_many_and_the_silent_make_room() {
        let mut all = Directory::default();
        let peer = |n: usize| n.to_be_bytes().to_vec();
        for n in 0..MAX_NODES {
            assert!(all.heard(peer(n), record(1, true), s(0), 0));
        }
        assert!(!all.heard(peer(MAX_NODES), record(1, true), s(1), 0));
        assert!(all.heard(peer(3), record(2, true), s(1), 0), "who is there may go on");
        assert!(all.heard(peer(MAX_NODES), record(1, true), s(10), 0));
        assert_eq!(all.live(s(10)).count(), 2);
    }

    #[test]
    fn what_is_over_a_bound_is_not_told_and_not_heard() {
        let agent = |n| Agent { name: format!("a{n}"), space: Some(n), runs: true };
        let held = Held { id: SPACE, observed: Some(u64::MAX) };
        let spaces = vec![held; MAX_SPACES + 1];
        let agents = (0..MAX_SPACES + 1).map(agent).collect();
        let tunnels = (0..=MAX_TUNNELS).map(|n| format!("{n:064}")).collect();
        let record_of_many = Record { spaces, agents, tunnels, ..record(1, true) };
        let told = Record::decode(&record_of_many.encode()).unwrap();
        let counts = (told.spaces.len(), told.agents.len(), told.tunnels.len());
        assert_eq!(counts, (MAX_SPACES, MAX_AGENTS, MAX_TUNNELS));
        assert!(told.encode().len() < synod_bridge::limits::MAX_GOSSIP);
        let mut w = Writer::new();
        w.array(6).uint(2).uint(1).text("n").array(0).array(0).array(MAX_AGENTS + 1);
        for _ in 0..=MAX_AGENTS {
            w.array(3).text("a").null().bool(true);
        }
        assert!(Record::decode(w.as_slice()).unwrap_err().to_string().contains("256 agents"));
        let mut w = Writer::new();
        w.array(6).uint(2).uint(1).text("n").array(0).array(0).array(1);
        w.array(3).text("a").uint(0).bool(true);
        assert!(Record::decode(w.as_slice()).is_err(), "a space that is not there");
        let good = record(1, true).encode();
        assert!((0..good.len()).all(|cut| Record::decode(&good[..cut]).is_err()));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(bytes: Vec<u8>) {
            drop(Record::decode(&bytes));
        }
    }
}
