//! The spaces that this node follows without being a member of them.

use super::closed::Closed;
use super::spaces::{JOIN_PATIENCE, check_name, disk, open_blocking};
use super::{Inner, Node, StartError};
use crate::api::{ErrorBody, Members, ObserverInfo};
use crate::folder::{FolderError, ObserverFile, PlaceText, random};
use crate::hex::{fixed, hex, unhex};
use crate::net::Net;
use crate::net::ticket::Ticket;
use crate::space::{Marking, Me, OpenSpace, Space, error};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;
use synod_core::apply::Part;
use synod_core::group::observer::Anchor;
use tokio::task::spawn_blocking;

/// How often it is noted how far a space has been followed.
const NOTE_EVERY: Duration = Duration::from_secs(300);

impl Node {
    /// Opens the spaces that the data folder observes. What cannot be opened is followed anew if it is the log
    /// that is damaged, and is closed otherwise; the node goes on.
    pub(super) async fn open_observations(&self) -> Result<(), StartError> {
        for (name, observer) in self.0.folder.observations()? {
            let net = self.net().await.map_err(|e| StartError::Net(e.message))?;
            let opened = match observer {
                Ok(observer) => self.open_observation(&name, &observer, &net).await,
                Err(e) => Err(e.to_string()),
            };
            if let Err(why) = opened {
                let id = self.0.folder.space(&name).ok().map(|(_, id)| id);
                let why = format!(
                    "{why}; it is only observed here: mend that and start the node again, or `synod space leave \
                     {name}`, and join again by a new ticket"
                );
                tracing::error!("the space {name} is closed: {why}");
                self.close_space(&name, Closed { id, why, is_coming: false });
            }
        }
        Ok(())
    }

    async fn open_observation(
        &self,
        name: &str,
        observer: &ObserverFile,
        net: &Arc<Net>,
    ) -> Result<(), String> {
        let (folder, id) = self.0.folder.space(name).map_err(|e| e.to_string())?;
        let open = |folder: PathBuf| async {
            let (open, key) =
                self.observation(name, id, folder, observer, net).map_err(|e| e.to_string())?;
            let opened = spawn_blocking(move || open.open()).await.map_err(|e| e.to_string())?;
            Ok::<_, String>((opened, key))
        };
        let (opened, key) = match open(folder.clone()).await? {
            (Err(why), _) if why.is_loss() => {
                let aside = self.0.folder.observe_anew(name, id, observer);
                let aside = aside.map_err(|e| format!("{why}; and {e}"))?;
                tracing::error!(
                    "the space {name} cannot be opened: {why}; it is followed anew, and what was there of it is in \
                     {}, and may be removed",
                    aside.display()
                );
                open(folder).await?
            }
            opened => opened,
        };
        self.add_observed(opened.map_err(|e| e.to_string())?, observer, key, net).await;
        Ok(())
    }

    /// Follows the space of a ticket, under its name there or another, without being its member.
    pub async fn observe_space(
        &self,
        ticket: &str,
        name: Option<&str>,
    ) -> Result<Members, ErrorBody> {
        let ticket =
            Ticket::parse(ticket).map_err(|why| error("ticket", format!("the ticket: {why}")))?;
        let name = name.unwrap_or(&ticket.name).to_owned();
        check_name(&name)?;
        let _only = self.0.importing.lock().await;
        if let Some(known) = self.spaces().values().find(|space| space.id() == ticket.space) {
            if !known.is_observed() {
                let text = format!(
                    "this node is a member of the space, as {}, and has all that an observer has",
                    known.name()
                );
                return Err(error("exists", text));
            }
            let known = known.name().to_owned();
            return self.members(Some(&known)).await;
        }
        self.refuse_closed(ticket.space)?;
        self.refuse_if_there(&name)?;
        let net = self.net().await?;
        let followed = crate::net::follow(&net, &ticket, &self.name()).await;
        let followed = followed.map_err(|e| error("join", e.to_string()))?;
        let observer = ObserverFile {
            key: hex(&followed.key),
            at: PlaceText::of(&followed.anchor.place),
            voters: followed.anchor.voters.iter().map(|peer| hex(peer)).collect(),
        };
        let folder = self.0.folder.adopt_space(&name, ticket.space).map_err(|e| disk(&e))?;
        self.0.folder.become_observer(&name, &observer).map_err(|e| disk(&e))?;
        let (open, key) =
            self.observation(&name, ticket.space, folder, &observer, &net).map_err(|e| disk(&e))?;
        let space = open_blocking(open).await?;
        self.add_observed(space.clone(), &observer, key, &net).await;
        let mut applied = space.feed().follow();
        let begun = applied.wait_for(|index| *index >= followed.anchor.place.chain.index);
        if tokio::time::timeout(JOIN_PATIENCE, begun).await.is_err() {
            let generation = followed.generation;
            tracing::warn!(
                "the space {name} (generation {generation}) is observed, and its log comes slowly or not yet"
            );
        }
        self.members(Some(&name)).await
    }

    fn observation(
        &self,
        name: &str,
        id: [u8; 32],
        folder: PathBuf,
        observer: &ObserverFile,
        net: &Arc<Net>,
    ) -> Result<(OpenSpace, [u8; 32]), FolderError> {
        let damaged =
            || FolderError::Damaged(folder.join("observer.json"), "not as written".to_owned());
        let key = fixed(&observer.key).ok_or_else(damaged)?;
        let voter = |text: &String| Some(Bytes::from(unhex(text)?));
        let voters = observer.voters.iter().map(voter).collect::<Option<BTreeSet<_>>>();
        let place = observer.at.read().ok_or_else(damaged)?;
        let anchor = Anchor { place, voters: voters.ok_or_else(damaged)? };
        let peer = net.me().to_bytes().into();
        // Raft gives nobody this id.
        let me = Me { member: 0, peer, key: [0; 32], generation: 0, contacts: BTreeMap::new() };
        let open = OpenSpace {
            name: name.to_owned(),
            id,
            min_free: self.0.min_free,
            busy_poll: self.0.busy_poll,
            node: self.name(),
            seed: random()?,
            me,
            observes: Some(anchor),
            marking: Marking::default(),
            links: Arc::clone(net) as Arc<dyn crate::space::Links>,
            folder,
        };
        Ok((open, key))
    }

    async fn add_observed(
        &self,
        space: Space,
        observer: &ObserverFile,
        key: [u8; 32],
        net: &Arc<Net>,
    ) {
        net.add_observed(space.clone(), key).await;
        let looked_after = look_after(Arc::downgrade(&self.0), space.clone(), observer.clone());
        let mut spaces = self.0.spaces.write().unwrap_or_else(PoisonError::into_inner);
        spaces.insert(space.name().to_owned(), space);
        drop(spaces);
        tokio::spawn(looked_after);
    }

    /// Notes how far this node has followed, and who votes there: from a place that voters still have it can
    /// follow anew, should its log be lost.
    async fn note_place(&self, space: &Space, observer: &mut ObserverFile) -> Result<(), String> {
        if space.follows().is_none_or(|follows| follows.trouble.is_some()) {
            return Ok(());
        }
        let Some((place, membership)) = space.place_and_members().await else { return Ok(()) };
        let voters = membership.members().values().filter(|member| member.part == Part::Voter);
        let voters: Vec<String> = voters.map(|member| hex(&member.peer)).collect();
        if place.chain.index <= observer.at.index || voters.is_empty() {
            return Ok(());
        }
        let now = ObserverFile { at: PlaceText::of(&place), voters, ..observer.clone() };
        let _only = self.0.member_files.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has_opened(space) {
            self.0.folder.become_observer(space.name(), &now).map_err(|e| e.to_string())?;
            *observer = now;
        }
        Ok(())
    }
}

/// Looks after a space that is observed, for as long as it is open.
async fn look_after(node: Weak<Inner>, space: Space, mut observer: ObserverFile) {
    let mut ticks = tokio::time::interval(NOTE_EVERY);
    loop {
        ticks.tick().await;
        let Some(node) = node.upgrade().map(Node) else { return };
        if !node.has_opened(&space) {
            return;
        }
        if let Err(e) = node.note_place(&space, &mut observer).await {
            tracing::warn!("how far the space {} was followed is not noted: {e}", space.name());
        }
    }
}

/// What is said to who wants a goal solved where a space is only observed.
pub(super) fn runs_no_agents(space: &Space) -> ErrorBody {
    let name = space.name();
    let text = format!(
        "this node only observes {name}, and runs no agents of it: ask for a goal on a member of {name}; here, \
         `synod facts PATTERN --space {name}` gives its facts"
    );
    error("observer", text)
}

/// What a node is told that observes a space and wants to join it.
pub(super) fn is_observer(space: &Space) -> ErrorBody {
    let name = space.name();
    let text = format!(
        "this node observes the space, as {name}: `synod space leave {name}` first, then join it"
    );
    error("observer", text)
}

/// What is said of an observer that is taken for a member.
pub(super) fn no_member(what: &str, node: &str, space: &str) -> String {
    if what == "remove" {
        return format!(
            "{node} only observes {space}, and is no member that could be removed: on that node, `synod space \
             leave {space}` ends it"
        );
    }
    format!(
        "{node} only observes {space}, and is no member: on that node, `synod space leave {space}`, then \
         `synod space join TICKET`"
    )
}

/// The nodes that observe a space, as far as this node has heard.
pub(super) fn observers(node: &str, space: &Space, net: &Net, index: u64) -> Vec<ObserverInfo> {
    let text = |peer: &[u8]| {
        synod_bridge::PeerId::from_bytes(peer).map_or_else(|_| hex(peer), |peer| peer.to_string())
    };
    let info = |(node, peer, theirs): (String, Vec<u8>, u64)| ObserverInfo {
        node,
        is_connected: net.is_connected(&peer),
        peer: text(&peer),
        is_here: false,
        index: theirs,
        lag: index.saturating_sub(theirs),
        age_ms: None,
        trouble: None,
    };
    let mut all: Vec<_> = net.observers_of(&space.id()).into_iter().map(info).collect();
    if let Some(follows) = space.follows() {
        all.push(ObserverInfo {
            node: node.to_owned(),
            peer: text(&net.me().to_bytes()),
            is_here: true,
            is_connected: true,
            index,
            lag: follows.lag,
            age_ms: Some(u64::try_from(follows.age.as_millis()).unwrap_or(u64::MAX)),
            trouble: follows.trouble,
        });
    }
    all.sort_by(|a, b| a.node.cmp(&b.node));
    all
}
