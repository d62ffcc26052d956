//! The spaces of a node that have other members: founded, joined, left, and who takes part.

use super::recovering::renew_engines;
use super::rejoining::{ALONE_AGAIN, has_begun, has_forgotten, look_after, member_file};
use super::{LOCAL, Node, StartError, observing, stopping};
use crate::api::{ErrorBody, MemberInfo, Members, Recovered, Retained, TicketInfo};
use crate::folder::{FolderError, MemberFile, random};
use crate::hex::{fixed, hex, unhex};
use crate::net::Net;
use crate::net::ticket::{MAX_ADDRESSES, Ticket};
use crate::rfc3339;
use crate::space::{
    Ended, FOUNDER, Leader, Marking, Me, OBSERVES, OpenSpace, OpenSpaceError, Space, Unserved,
    error, not_proposed,
};
use bytes::Bytes;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use synod_core::apply::{Outcome, Part};
use synod_core::command::{Admit, Command, IssueTicket, MAX_NAME_BYTES};
use synod_core::group::Ask;
use synod_core::retention::{Retention, RetentionError};
use tokio::task::spawn_blocking;

/// How long a ticket is good, if it is not said.
const TICKET_TIME: Duration = Duration::from_secs(24 * 3600);
/// How many nodes a ticket admits, if it is not said.
const TICKET_USES: u32 = 100;
/// How long a node that has joined waits for the space's log to begin to come.
pub(super) const JOIN_PATIENCE: Duration = Duration::from_secs(30);
/// How long this node has to see that a member is gone, once the leader does.
const REMOVE_PATIENCE: Duration = Duration::from_secs(5);

impl Node {
    /// Opens the spaces that the data folder has besides `local`.
    pub(super) async fn open_memberships(&self) -> Result<(), StartError> {
        for (name, member) in self.0.folder.memberships()? {
            let net = self.net().await.map_err(|e| StartError::Net(e.message))?;
            let (folder, id) = self.0.folder.space(&name)?;
            let open = self.opening(&name, id, folder, &member, &net)?;
            let opened = spawn_blocking(move || open.open()).await;
            let opened = opened.map_err(|e| StartError::Net(e.to_string()))?;
            let failed = |e: ErrorBody| StartError::Net(e.message);
            let me = hex(&net.me().to_bytes());
            let is_shared = member.contacts.values().any(|peer| *peer != me);
            let opened = match opened {
                Ok(space) if is_shared && has_forgotten(&space, &member) => {
                    drop(spawn_blocking(move || space.close()).await);
                    Err(OpenSpaceError::Shortened(ALONE_AGAIN.to_owned()))
                }
                opened => opened,
            };
            match opened {
                Ok(space) => self.add(space, &member, &net).map_err(failed)?,
                Err(why) if why.is_loss() && is_shared => {
                    self.join_anew(&name, id, member, why).await;
                }
                Err(why) => return Err(StartError::Space { name, why }),
            }
        }
        self.open_observations().await
    }

    pub(super) fn opening(
        &self,
        name: &str,
        id: [u8; 32],
        folder: std::path::PathBuf,
        member: &MemberFile,
        net: &Arc<Net>,
    ) -> Result<OpenSpace, FolderError> {
        let damaged =
            || FolderError::Damaged(folder.join("member.json"), "not as written".to_owned());
        let contact = |(&id, text): (&u64, &String)| Some((id, Bytes::from(unhex(text)?)));
        let contacts = member.contacts.iter().map(contact).collect::<Option<_>>();
        let me = Me {
            member: member.member,
            peer: net.me().to_bytes().into(),
            key: fixed(&member.key).ok_or_else(damaged)?,
            generation: member.generation,
            contacts: contacts.ok_or_else(damaged)?,
        };
        Ok(OpenSpace {
            name: name.to_owned(),
            id,
            min_free: self.0.min_free,
            busy_poll: self.0.busy_poll,
            node: self.0.folder.name.clone(),
            seed: random()?,
            me,
            observes: None,
            marking: Marking::default(),
            links: Arc::clone(net) as Arc<dyn crate::space::Links>,
            folder,
        })
    }

    pub(super) fn add(
        &self,
        space: Space,
        member: &MemberFile,
        net: &Arc<Net>,
    ) -> Result<(), ErrorBody> {
        let key = fixed(&member.key);
        let key = key.ok_or_else(|| error("damaged", "the space's key is none"))?;
        net.add_space(space.clone(), key);
        tokio::spawn(renew_engines(Arc::downgrade(&self.0), space.clone()));
        if member.member == FOUNDER {
            tokio::spawn(found(
                space.clone(),
                member.clone(),
                net.me().to_bytes().into(),
                self.name(),
            ));
        }
        let looked_after = look_after(Arc::downgrade(&self.0), space.clone(), member.clone());
        let mut spaces = self.0.spaces.write().unwrap_or_else(PoisonError::into_inner);
        spaces.insert(space.name().to_owned(), space);
        drop(spaces);
        tokio::spawn(looked_after);
        Ok(())
    }

    /// Whether this node has a space of this name.
    pub fn has_space(&self, name: &str) -> bool {
        self.spaces().contains_key(name)
    }

    pub(super) fn name(&self) -> String {
        self.0.folder.name.clone()
    }

    /// Founds a space, with this node as its only member.
    pub async fn create_space(&self, name: &str) -> Result<Members, ErrorBody> {
        check_name(name)?;
        let _only = self.0.importing.lock().await;
        self.refuse_if_there(name)?;
        let net = self.net().await?;
        let member = MemberFile {
            member: FOUNDER,
            nonce: hex(&random().map_err(|e| disk(&e))?),
            key: hex(&key().map_err(|e| disk(&e))?),
            generation: 0,
            contacts: Default::default(),
        };
        let (folder, id) = self.0.folder.space(name).map_err(|e| disk(&e))?;
        self.0.folder.become_member(name, &member).map_err(|e| disk(&e))?;
        let open = self.opening(name, id, folder, &member, &net).map_err(|e| disk(&e))?;
        let space = open_blocking(open).await?;
        self.add(space.clone(), &member, &net)?;
        found(space, member, net.me().to_bytes().into(), self.name()).await;
        self.members(Some(name)).await
    }

    /// Makes a ticket of a space.
    pub async fn issue_ticket(
        &self,
        space: Option<&str>,
        uses: Option<u32>,
        seconds: Option<u64>,
    ) -> Result<TicketInfo, ErrorBody> {
        let (space, net) = (self.shared_space(space)?, self.net().await?);
        let secret = random().map_err(|e| disk(&e))?;
        let time = seconds.map_or(TICKET_TIME, Duration::from_secs);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let until = u64::try_from((now + time).as_micros()).unwrap_or(u64::MAX);
        let uses = uses.unwrap_or(TICKET_USES);
        let mut addresses = Vec::new();
        if let Some(bridge) = net.bridge() {
            addresses = bridge.listening().await.iter().map(ToString::to_string).collect();
            addresses.truncate(MAX_ADDRESSES);
        }
        let ticket = Ticket {
            space: space.id(),
            name: space.name().to_owned(),
            secret,
            peer: net.me().to_bytes(),
            addresses,
            network: net.network.clone(),
        };
        let issue = Command::IssueTicket(IssueTicket { hash: ticket.hash(), until, uses });
        super::committed(space.commit(&issue).await)?;
        let (ticket, until) = (ticket.to_text(), rfc3339::format(until));
        Ok(TicketInfo { ticket, space: space.name().to_owned(), uses, until })
    }

    /// Takes all open tickets of a space back.
    pub async fn revoke_tickets(&self, space: Option<&str>) -> Result<(), ErrorBody> {
        let space = self.shared_space(space)?;
        // Those that were issued on other nodes until now, too.
        let after = space.read_index().await.unwrap_or_else(|| space.feed().applied());
        let revoke = Command::RevokeTickets { hashes: Vec::new(), after };
        super::committed(space.commit(&revoke).await).map(drop)
    }

    /// Joins the space of a ticket, under its name there or another.
    pub async fn join_space(&self, ticket: &str, name: Option<&str>) -> Result<Members, ErrorBody> {
        let ticket =
            Ticket::parse(ticket).map_err(|why| error("ticket", format!("the ticket: {why}")))?;
        let name = name.unwrap_or(&ticket.name).to_owned();
        check_name(&name)?;
        let _only = self.0.importing.lock().await;
        if let Some(known) = self.spaces().values().find(|space| space.id() == ticket.space) {
            if known.is_observed() {
                return Err(observing::is_observer(known));
            }
            if let Some(two) = known.is_apart() {
                let name = known.name();
                let text = format!(
                    "this node is a member of the space already, as {name}, and {two}: if the ticket is of the \
                     other, `synod space leave {name}` first, then join it"
                );
                return Err(error("exists", text));
            }
            known.serves_asks().map_err(|why| why.body())?;
            // A program that is run twice with the same ticket has what it wants.
            let known = known.name().to_owned();
            return self.members(Some(&known)).await;
        }
        self.refuse_closed(ticket.space)?;
        self.refuse_if_there(&name)?;
        let net = self.net().await?;
        let nonce = random().map_err(|e| disk(&e))?;
        let joined = crate::net::join(&net, &ticket, &self.name(), nonce).await;
        let joined = joined.map_err(|e| error("join", e.to_string()))?;
        let member = member_file(&joined, &nonce);
        let folder = self.0.folder.adopt_space(&name, ticket.space).map_err(|e| disk(&e))?;
        self.0.folder.become_member(&name, &member).map_err(|e| disk(&e))?;
        let open =
            self.opening(&name, ticket.space, folder, &member, &net).map_err(|e| disk(&e))?;
        let space = open_blocking(open).await?;
        self.add(space.clone(), &member, &net)?;
        has_begun(&space, &member).await;
        self.members(Some(&name)).await
    }

    /// Hands the leadership of a space to any other voter that takes it: those first that follow.
    async fn hand_over(&self, space: &Space, me: u64, net: &Net) -> Result<(), ErrorBody> {
        let (membership, reached) = (space.membership(), space.reached());
        let voters = membership.members().iter().filter(|(_, m)| m.part == Part::Voter);
        let mut others: Vec<_> = voters.filter(|(id, _)| **id != me).collect();
        let follows = |id: &u64| reached.get(id).is_some_and(|reached| reached.active);
        let lag = |id: &u64| reached.get(id).map_or(u64::MAX, |reached| reached.lag);
        others.sort_by_key(|(id, m)| (!follows(id), !net.is_connected(&m.peer), lag(id)));
        let mut refused = Ok(());
        for (&id, _) in others {
            match space.ask(Ask::Transfer(id)).await {
                Ok(()) => return Ok(()),
                Err(why) => refused = Err(error("refused", why)),
            }
        }
        refused
    }

    /// Leaves a space: this node is no member any more, and what it has of the space is put aside.
    pub async fn leave_space(&self, name: &str) -> Result<String, ErrorBody> {
        if self.is_closed(name) && !self.has_space(name) {
            // Nobody else starts to open it meanwhile.
            let _only = self.0.importing.lock().await;
            if self.reopened(name) {
                let aside = self.0.folder.set_aside(name).map_err(|e| disk(&e))?;
                return Ok(aside.display().to_string());
            }
        }
        let space = self.shared_space(Some(name))?;
        let net = self.net().await?;
        if space.is_observed() {
            net.remove_observed(space.id()).await;
            return self.put_aside(name, space).await;
        }
        // Whoever was removed, or left behind by a recovery, has nobody to ask.
        let is_out = matches!(space.serves_asks(), Err(Unserved::Removed(_) | Unserved::GoneOn(_)));
        let is_gone = is_out || space.is_apart().is_some();
        let me = self.me_in(&space, &net).filter(|_| !is_gone);
        if let Some(me) = me {
            let others = space.membership().members().len() > 1;
            if others && space.leader().leader == Some(me) {
                self.hand_over(&space, me, &net).await?;
            }
            if others {
                space.ask(Ask::Remove(me)).await.map_err(|why| error("refused", why))?;
            }
        }
        self.agents_of(name).await?;
        net.remove_space(space.id());
        self.put_aside(name, space).await
    }

    /// Closes a space that is left, and puts its folder away.
    async fn put_aside(&self, name: &str, space: Space) -> Result<String, ErrorBody> {
        self.0.spaces.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        drop(spawn_blocking(move || space.close()).await);
        let _only = self.0.member_files.lock().unwrap_or_else(PoisonError::into_inner);
        let aside = self.0.folder.set_aside(name).map_err(|e| disk(&e))?;
        Ok(aside.display().to_string())
    }

    /// Keeps so much of a space's past on this node from now on.
    pub async fn retain(&self, name: &str, retain: &str) -> Result<Retained, ErrorBody> {
        let space = self.space(Some(name))?;
        let retention: Retention =
            retain.parse().map_err(|e: RetentionError| error("bad_request", e.to_string()))?;
        let done = spawn_blocking(move || space.retain(retention)).await;
        let done = done.map_err(|e| error("disk", e.to_string()))?;
        done.map_err(|e| error("disk", e.to_string()))?;
        Ok(Retained { space: name.to_owned(), retain: retention.to_string() })
    }

    /// Whoever runs in a space that is left ends first.
    async fn agents_of(&self, space: &str) -> Result<(), ErrorBody> {
        for agent in self.agents().await.iter().filter(|agent| agent.space == space) {
            self.stop_agent(&agent.name).await?;
        }
        Ok(())
    }

    /// Who takes part in a space.
    pub async fn members(&self, space: Option<&str>) -> Result<Members, ErrorBody> {
        let space = self.shared_space(space)?;
        let net = self.net().await?;
        let me = self.me_in(&space, &net);
        let Leader { role, term, leader } = space.leader();
        let (membership, reached) = (space.membership(), space.reached());
        let index = space.look(|state| state.index()).await.ok_or_else(stopping)?;
        let info = |(&id, member): (&u64, &synod_core::apply::Member)| {
            let reached = reached.get(&id).filter(|_| Some(id) != me);
            MemberInfo {
                id,
                node: member.node.clone(),
                peer: synod_bridge::PeerId::from_bytes(&member.peer)
                    .map_or_else(|_| hex(&member.peer), |peer| peer.to_string()),
                part: match member.part {
                    Part::Admitted => "admitted",
                    Part::Learner => "learner",
                    Part::Voter => "voter",
                }
                .to_owned(),
                is_leader: leader == Some(id),
                is_here: me == Some(id),
                is_connected: me == Some(id) || net.is_connected(&member.peer),
                lag: reached.map(|reached| reached.lag),
            }
        };
        Ok(Members {
            space: space.name().to_owned(),
            id: hex(&space.id()),
            role: role.to_owned(),
            term,
            leader,
            index,
            generation: membership.generation(),
            recovered: membership.recovery().map(|recovery| Recovered {
                index: recovery.index,
                time: rfc3339::format(recovery.time),
                node: recovery.node.clone(),
                dropped: recovery.dropped.clone(),
            }),
            gone_on: space.gone_on(),
            members: membership.members().iter().map(info).collect(),
            observers: observing::observers(&self.0.folder.name, &space, &net, index),
        })
    }

    /// Has the space's leader change something about a member, named by its id or its node.
    pub async fn ask_leader(
        &self,
        space: Option<&str>,
        what: &str,
        member: &str,
    ) -> Result<Members, ErrorBody> {
        let found = self.shared_space(space)?;
        if found.is_observed() {
            return Err(error("observer", OBSERVES));
        }
        let membership = found.membership();
        let by_name = membership.members().iter().rev().find(|(_, m)| m.node == member);
        let id = member.parse().ok().or(by_name.map(|(&id, _)| id));
        let Some(id) = id else {
            let observers = self.net().await?.observers_of(&found.id());
            if observers.iter().any(|(node, ..)| node == member) {
                return Err(error("observer", observing::no_member(what, member, found.name())));
            }
            let text =
                format!("{member} is no member's node or id: `synod space members` lists them");
            return Err(error("not_found", text));
        };
        let ask = match what {
            "promote" => Ask::Promote(id),
            "remove" => Ask::Remove(id),
            _ => Ask::Transfer(id),
        };
        found.ask(ask).await.map_err(|why| error("refused", why))?;
        if what == "remove" {
            // The leader has it; this node may be a moment behind.
            let mut applied = found.feed().follow();
            let is_gone = |_: &u64| !found.membership().members().contains_key(&id);
            drop(tokio::time::timeout(REMOVE_PATIENCE, applied.wait_for(is_gone)).await);
        }
        self.members(space).await
    }

    pub(super) fn me_in(&self, space: &Space, net: &Net) -> Option<u64> {
        space.membership().of_peer(&net.me().to_bytes()).map(|(id, _)| id)
    }

    /// A space that may have other members.
    pub(super) fn shared_space(&self, name: Option<&str>) -> Result<Space, ErrorBody> {
        let space = self.space(name)?;
        if space.name() == LOCAL {
            let text = "the space local is this node's alone: found one for several nodes with \
                        `synod space create NAME`";
            return Err(error("local", text));
        }
        Ok(space)
    }

    pub(super) fn refuse_if_there(&self, name: &str) -> Result<(), ErrorBody> {
        if self.spaces().contains_key(name) || self.0.folder.has_space(name) {
            let text = format!("there is a space {name} on this node: choose another name");
            return Err(error("exists", text));
        }
        Ok(())
    }
}

/// Says in the log who founded the space. Said twice, it is said once.
async fn found(space: Space, member: MemberFile, peer: Bytes, node: String) {
    let Some(nonce) = fixed(&member.nonce) else { return };
    if space.membership().last_id() > 0 {
        return;
    }
    let admit = Admit { peer, node, nonce, ticket: None, after: 0 };
    match space.commit(&Command::Admit(admit)).await {
        Some(Ended::Applied(Outcome::Committed(_))) | None => {}
        Some(Ended::Applied(Outcome::Refused(_, why))) => {
            tracing::debug!("the space {} has its founder: {why}", space.name());
        }
        Some(Ended::NotProposed(why)) => {
            tracing::error!(
                "the space {} was not founded: {}",
                space.name(),
                not_proposed(&why).message
            );
        }
    }
}

pub(super) async fn open_blocking(open: OpenSpace) -> Result<Space, ErrorBody> {
    let name = open.name.clone();
    let opened = spawn_blocking(move || open.open()).await;
    let opened = opened.map_err(|e| error("disk", e.to_string()))?;
    opened.map_err(|why| error("disk", format!("the space {name} cannot be opened: {why}")))
}

pub(super) fn check_name(name: &str) -> Result<(), ErrorBody> {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(is_plain) {
        let text = format!("{name:?} is no name for a space: give it letters, digits, _ and -");
        return Err(error("name", text));
    }
    if name == LOCAL {
        return Err(error(
            "name",
            "local is the space that every node has for itself: choose another name",
        ));
    }
    Ok(())
}

fn key() -> Result<[u8; 32], FolderError> {
    let (first, second) = (random()?, random()?);
    let mut key = [0; 32];
    key[..16].copy_from_slice(&first);
    key[16..].copy_from_slice(&second);
    Ok(key)
}

pub(super) fn disk(e: &FolderError) -> ErrorBody {
    error("disk", e.to_string())
}
