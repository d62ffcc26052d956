//! A space whose log here has lost what this node gave its word for. Under the id that it had, the node
//! could vote twice, or against what it has acknowledged: it is admitted under another, as a learner that
//! has nothing yet, and the one before is a member no more. What was lost is kept aside.

use super::closed::Closed;
use super::spaces::{JOIN_PATIENCE, disk, open_blocking};
use super::{Inner, Node};
use crate::api::ErrorBody;
use crate::folder::{FolderError, MemberFile, random};
use crate::hex::{fixed, hex, unhex};
use crate::net::{Joined, Lost as LostLog, Net, rejoin};
use crate::space::{OpenSpaceError, Space};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};
use synod_core::apply::Membership;

/// How long a node that starts asks the other members before it goes on without the space.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long after all of them were asked they are asked again, at first.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// And at last: each pause is twice as long as the one before.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// What is wrong with a space that [`has_forgotten`] its members.
pub(super) const ALONE_AGAIN: &str =
    "its log goes back to when this node was alone in it, and others were let in since";
/// How often it is looked whether members have come or gone.
const LOOK_EVERY: Duration = Duration::from_secs(2);

impl Node {
    /// Joins a space once more that cannot be opened for what it has lost. If the others do not let it in at
    /// once, the space is closed until they do, and the node goes on without it.
    pub(super) async fn join_anew(
        &self,
        name: &str,
        id: [u8; 32],
        member: MemberFile,
        why: OpenSpaceError,
    ) {
        tracing::error!(
            "the space {name} cannot be opened: {why}; the other members are asked to let it in anew"
        );
        let nonce = match random() {
            Ok(nonce) => nonce,
            Err(e) => return self.close_space(name, Closed::for_good(id, e.to_string())),
        };
        let lost = Lost { name: name.to_owned(), id, member, nonce, why: why.to_string() };
        self.close_space(name, lost.closed("they are being asked"));
        let until = Instant::now() + PATIENCE;
        loop {
            match self.try_to_join_anew(&lost).await {
                Tried::Opened(_) | Tried::Left => return,
                Tried::NotYet(said) if Instant::now() >= until => {
                    let closed = lost.closed(&said);
                    tracing::error!("the space {name} is closed: {}", closed.why);
                    self.close_space(name, closed);
                    break;
                }
                Tried::NotYet(_) => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
        tokio::spawn(go_on_asking(Arc::downgrade(&self.0), lost));
    }

    async fn try_to_join_anew(&self, lost: &Lost) -> Tried {
        let Lost { name, id, member, nonce, .. } = lost;
        let net = match self.net().await {
            Ok(net) => net,
            Err(e) => return Tried::NotYet(e.message),
        };
        let joined = match self.ask_to_rejoin(*id, member, *nonce, &net).await {
            Ok(joined) => joined,
            Err(said) => return Tried::NotYet(said),
        };
        let opened = {
            // Somebody may have left it meanwhile.
            let _only = self.0.importing.lock().await;
            if !self.is_closed(name) {
                return Tried::Left;
            }
            let opened = self.open_anew(name, *id, (joined, *nonce), &net).await;
            if opened.is_ok() {
                self.reopened(name);
            }
            opened
        };
        match opened {
            Ok((space, member)) => {
                has_begun(&space, &member).await;
                Tried::Opened(space)
            }
            Err(e) => Tried::NotYet(e.message),
        }
    }

    /// Opens a space as the member that this node has just become.
    async fn open_anew(
        &self,
        name: &str,
        id: [u8; 32],
        joined: (Joined, [u8; 16]),
        net: &Arc<Net>,
    ) -> Result<(Space, MemberFile), ErrorBody> {
        let (aside, member) = self.begin_anew(name, id, joined).map_err(|e| disk(&e))?;
        say_aside(name, &member, &aside);
        let (folder, _) = self.0.folder.space(name).map_err(|e| disk(&e))?;
        let open = self.opening(name, id, folder, &member, net).map_err(|e| disk(&e))?;
        let space = open_blocking(open).await?;
        self.add(space.clone(), &member, net)?;
        Ok((space, member))
    }

    async fn ask_to_rejoin(
        &self,
        space: [u8; 32],
        member: &MemberFile,
        nonce: [u8; 16],
        net: &Net,
    ) -> Result<Joined, String> {
        let damaged = || "its member.json is not as written".to_owned();
        let contact = |(&id, text): (&u64, &String)| Some((id, Bytes::from(unhex(text)?)));
        let contacts: Option<BTreeMap<u64, Bytes>> = member.contacts.iter().map(contact).collect();
        let contacts = contacts.ok_or_else(damaged)?;
        let key = fixed(&member.key).ok_or_else(damaged)?;
        let lost = LostLog { space, key, generation: member.generation, contacts: &contacts };
        rejoin(net, &self.0.folder.name, lost, nonce).await
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
        let nonce = random().map_err(|e| disk(&e))?;
        let (mut pause, mut is_told) = (ASK_AGAIN, false);
        let joined = loop {
            match self.ask_to_rejoin(id, &member, nonce, &net).await {
                Ok(joined) => break joined,
                Err(said) if is_told => tracing::debug!("{name} is not joined anew yet: {said}"),
                Err(said) => {
                    tracing::warn!(
                        "the space {name} is not joined anew yet: {said}; it goes on asking"
                    );
                    is_told = true;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = self.stopping() => return Ok(()),
            }
            if !self.has_opened(space) {
                return Ok(());
            }
        };
        let why = "it is being joined anew: ask again in a moment".to_owned();
        self.close_space(&name, Closed { id: Some(id), why, is_coming: true });
        self.0.agents.end_all_of(&name).await;
        net.remove_space(id);
        self.forget_space(&name);
        let closing = space.clone();
        drop(tokio::task::spawn_blocking(move || closing.close()).await);
        match self.open_anew(&name, id, (joined, nonce), &net).await {
            Ok((space, member)) => has_begun(&space, &member).await,
            Err(e) => {
                self.close_space(&name, Closed::for_good(id, e.message.clone()));
                return Err(e);
            }
        }
        for run in agents {
            let agent = run.name.clone().unwrap_or_default();
            if let Err(e) = self.run_agent(run).await {
                tracing::error!("the agent {agent} was not started again: {}", e.message);
            }
        }
        // Whoever follows its agents goes on with those that were just started.
        self.reopened(&name);
        Ok(())
    }

    fn forget_space(&self, name: &str) {
        self.0.spaces.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Whether this is one of the spaces that are open.
    pub(super) fn has_opened(&self, space: &Space) -> bool {
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

/// A space that cannot be opened for what it has lost.
struct Lost {
    name: String,
    id: [u8; 32],
    member: MemberFile,
    /// Makes all of its asking one joining.
    nonce: [u8; 16],
    why: String,
}

/// What came of joining a space anew.
enum Tried {
    /// It is open.
    Opened(Space),
    /// It was left meanwhile.
    Left,
    /// The others have not let it in, or it cannot be opened.
    NotYet(String),
}

impl Lost {
    fn closed(&self, said: &str) -> Closed {
        let Self { name, why, .. } = self;
        let why = format!(
            "{why}. Its members are asked to let this node in anew, again and again until a quorum of them can be \
             reached; {said}. `synod space leave {name}` puts it aside"
        );
        Closed { id: Some(self.id), why, is_coming: true }
    }
}

impl Closed {
    fn for_good(id: [u8; 32], why: String) -> Self {
        let why = format!("{why}; mend that and start the node again");
        Self { id: Some(id), why, is_coming: false }
    }
}

/// Asks the other members of a closed space until they let this node in anew, or it is left.
async fn go_on_asking(node: Weak<Inner>, lost: Lost) {
    let mut pause = ASK_AGAIN;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let Some(node) = node.upgrade().map(Node) else { return };
        if !node.is_closed(&lost.name) {
            return;
        }
        match node.try_to_join_anew(&lost).await {
            Tried::Opened(space) => return node.0.agents.start_kept_of(&space).await,
            Tried::Left => return,
            Tried::NotYet(said) => {
                tracing::debug!("{} is not joined anew yet: {said}", lost.name);
                if node.is_closed(&lost.name) {
                    node.close_space(&lost.name, lost.closed(&said));
                }
            }
        }
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
        "the space {name} was joined anew, as member {}; what was there of it is in {}: keep that until you have seen \
         that the space lacks nothing",
        member.member,
        aside.display()
    );
}
