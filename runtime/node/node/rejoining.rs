//! A space whose log here has lost what this node gave its word for. Under the id that it had, the node
//! could vote twice, or against what it has acknowledged: it is admitted under another, as a learner that
//! has nothing yet, and the one before is a member no more. What was lost is kept aside.

use super::spaces::{JOIN_PATIENCE, disk, open_blocking};
use super::{Inner, Node, StartError};
use crate::api::ErrorBody;
use crate::folder::{FolderError, MemberFile, random};
use crate::hex::{fixed, hex, unhex};
use crate::net::{Joined, Lost, Net, rejoin};
use crate::space::{OpenSpaceError, Space};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};
use synod_core::apply::Membership;

/// How long a node that starts asks the other members before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long after all of them were asked they are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// What is wrong with a space that [`has_forgotten`] its members.
pub(super) const ALONE_AGAIN: &str =
    "its log goes back to when this node was alone in it, and others were let in since";
/// How often it is looked whether members have come or gone.
const LOOK_EVERY: Duration = Duration::from_secs(2);

impl Node {
    /// Joins a space once more that cannot be opened for what it has lost.
    pub(super) async fn joined_anew(
        &self,
        name: &str,
        id: [u8; 32],
        member: &MemberFile,
        net: &Arc<Net>,
        why: OpenSpaceError,
    ) -> Result<(Space, MemberFile), StartError> {
        tracing::error!(
            "the space {name} cannot be opened: {why}; the other members are asked to let it in anew"
        );
        let until = Instant::now() + PATIENCE;
        let joined = loop {
            match self.ask_to_rejoin(id, member, net).await {
                Ok(joined) => break joined,
                Err(said) if Instant::now() >= until || member.contacts.is_empty() => {
                    let (name, why) = (name.to_owned(), Box::new(why));
                    return Err(StartError::Lost { name, why, said });
                }
                Err(_) => tokio::time::sleep(ASK_AGAIN).await,
            }
        };
        let failed = |e: ErrorBody| StartError::Net(e.message);
        let (aside, member) = self.begin_anew(name, id, joined).map_err(|e| failed(disk(&e)))?;
        say_aside(name, &member, &aside);
        let open = self.opening(name, id, self.0.folder.space(name)?.0, &member, net)?;
        Ok((open_blocking(open).await.map_err(failed)?, member))
    }

    async fn ask_to_rejoin(
        &self,
        space: [u8; 32],
        member: &MemberFile,
        net: &Net,
    ) -> Result<(Joined, [u8; 16]), String> {
        let damaged = || "its member.json is not as written".to_owned();
        let contact = |(&id, text): (&u64, &String)| Some((id, Bytes::from(unhex(text)?)));
        let contacts: Option<BTreeMap<u64, Bytes>> = member.contacts.iter().map(contact).collect();
        let contacts = contacts.ok_or_else(damaged)?;
        let key = fixed(&member.key).ok_or_else(damaged)?;
        let nonce = random().map_err(|e| e.to_string())?;
        let lost = Lost { space, key, generation: member.generation, contacts: &contacts };
        Ok((rejoin(net, &self.0.folder.name, lost, nonce).await?, nonce))
    }

    /// Puts the space's folder aside for one of another member.
    fn begin_anew(
        &self,
        name: &str,
        id: [u8; 32],
        (joined, nonce): (Joined, [u8; 16]),
    ) -> Result<(PathBuf, MemberFile), FolderError> {
        let member = member_file(&joined, &nonce);
        let _only = self.0.member_files.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((self.0.folder.begin_anew(name, id, &member)?, member))
    }

    /// Joins a space once more that runs and has lost what this node gave its word for. Its agents are run
    /// again on what comes.
    async fn replace(&self, space: &Space, member: MemberFile) -> Result<(), ErrorBody> {
        let (name, id, net) = (space.name().to_owned(), space.id(), self.net().await?);
        // Before any of them hears that the member that it has been is one no longer.
        let agents = self.0.agents.runs_of(&name);
        let joined = loop {
            match self.ask_to_rejoin(id, &member, &net).await {
                Ok(joined) => break joined,
                Err(said) => tracing::warn!("the space {name} is not joined anew yet: {said}"),
            }
            tokio::select! {
                () = tokio::time::sleep(ASK_AGAIN) => {}
                () = self.stopping() => return Ok(()),
            }
            if !self.has_opened(space) {
                return Ok(());
            }
        };
        self.0.agents.end_all_of(&name).await;
        net.remove_space(id);
        let closing = space.clone();
        drop(tokio::task::spawn_blocking(move || closing.close()).await);
        let (aside, member) = self.begin_anew(&name, id, joined).map_err(|e| disk(&e))?;
        say_aside(&name, &member, &aside);
        let (folder, _) = self.0.folder.space(&name).map_err(|e| disk(&e))?;
        let open = self.opening(&name, id, folder, &member, &net).map_err(|e| disk(&e))?;
        let space = open_blocking(open).await?;
        self.add(space.clone(), &member, &net)?;
        has_begun(&space, &member).await;
        for run in agents {
            let agent = run.name.clone().unwrap_or_default();
            if let Err(e) = self.run_agent(run).await {
                tracing::error!("the agent {agent} was not started again: {}", e.message);
            }
        }
        Ok(())
    }

    /// Whether this is one of the spaces that are open.
    fn has_opened(&self, space: &Space) -> bool {
        self.spaces().get(space.name()).is_some_and(|open| open.is(space))
    }

    /// Notes in the data folder who else is a member, for when the log cannot be read that says so.
    fn note_members(&self, space: &Space, member: &mut MemberFile) -> Result<(), ErrorBody> {
        let membership = space.membership();
        let contact = |(&id, m): (&u64, &synod_core::apply::Member)| (id, hex(&m.peer));
        let contacts: BTreeMap<u64, String> = membership.members().iter().map(contact).collect();
        let now = MemberFile { contacts, generation: space.generation(), ..member.clone() };
        if now == *member || now.contacts.is_empty() {
            return Ok(());
        }
        // A log that has not come to where they were admitted, or has lost that, says nothing of them.
        if knows_more(member, &membership) {
            return Ok(());
        }
        // Where another has taken the space's place, it is that one's file.
        let _only = self.0.member_files.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has_opened(space) {
            self.0.folder.become_member(space.name(), &now).map_err(|e| disk(&e))?;
            *member = now;
        }
        Ok(())
    }
}

/// What a node notes of a space that it has joined.
pub(super) fn member_file(joined: &Joined, nonce: &[u8; 16]) -> MemberFile {
    MemberFile {
        member: joined.member,
        nonce: hex(nonce),
        key: hex(&joined.key),
        generation: joined.generation,
        contacts: joined.members.iter().map(|(&id, peer)| (id, hex(peer))).collect(),
    }
}

/// Whether members are noted that a log knows nothing of yet.
fn knows_more(member: &MemberFile, membership: &Membership) -> bool {
    member.contacts.keys().any(|id| *id > membership.last_member())
}

/// Whether a space that was just opened leads itself on a log that says nothing of members who are noted: it goes
/// back to when there were none.
pub(super) fn has_forgotten(space: &Space, member: &MemberFile) -> bool {
    space.leader().role == "leader" && knows_more(member, &space.membership())
}

/// Looks after a space for as long as it is open: who its members are is noted, and where it has lost
/// what this node gave its word for, it is joined anew.
pub(super) async fn look_after(node: Weak<Inner>, space: Space, mut member: MemberFile) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = space.is_lost() => {
                let Some(inner) = node.upgrade() else { return };
                if let Err(e) = Node(inner).replace(&space, member).await {
                    tracing::error!("the space {} was not joined anew: {}", space.name(), e.message);
                }
                return;
            }
        }
        let Some(node) = node.upgrade().map(Node) else { return };
        if !node.has_opened(&space) {
            return;
        }
        if let Err(e) = node.note_members(&space, &mut member) {
            tracing::warn!(
                "the members of the space {} are not noted: {}",
                space.name(),
                e.message
            );
        }
    }
}

/// Waits until the log of a space that was joined has come to where this node is a member.
pub(super) async fn has_begun(space: &Space, member: &MemberFile) {
    let mut applied = space.feed().follow();
    let is_in = || space.membership().members().contains_key(&member.member);
    let begun = applied.wait_for(|_| is_in());
    if tokio::time::timeout(JOIN_PATIENCE, begun).await.is_err() {
        let name = space.name();
        tracing::warn!("the space {name} was joined, and its log does not come yet");
    }
}

fn say_aside(name: &str, member: &MemberFile, aside: &std::path::Path) {
    tracing::error!(
        "the space {name} was joined anew, as member {}; what was there of it is in {}, and may be removed",
        member.member,
        aside.display()
    );
}
