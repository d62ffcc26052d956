//! Spaces of several nodes in one process: real threads and disks, and a network that is a map.

use super::*;
use crate::space::{FOUNDER, Lane, Links, Offer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, RwLock};
use std::time::Duration;
use synod_core::command::{Admit, IssueTicket};
use synod_core::group;
use tempfile::TempDir;

const KEY: [u8; 32] = [9; 32];
const TICKET: [u8; 32] = [5; 32];
const PATIENCE: Duration = Duration::from_secs(20);

/// Everybody's ways to everybody.
#[derive(Debug, Default)]
struct Net {
    spaces: RwLock<BTreeMap<Bytes, SpaceOf>>,
    cut: Mutex<BTreeSet<(Bytes, Bytes)>>,
}

struct SpaceOf(Space);

impl std::fmt::Debug for SpaceOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name())
    }
}

#[derive(Debug)]
struct From {
    net: Arc<Net>,
    me: Bytes,
}

impl Links for From {
    fn send(&self, peer: &[u8], _lane: Lane, frame: Bytes) -> bool {
        let to = Bytes::copy_from_slice(peer);
        if self.net.cut.lock().unwrap().contains(&(self.me.clone(), to.clone())) {
            return true;
        }
        let token = group::token(&KEY, &self.me, peer);
        assert_eq!(group::Frame::token(&frame), Ok(token));
        let spaces = self.net.spaces.read().unwrap();
        spaces.get(&to).map(|space| space.0.receive(self.me.clone(), frame)).is_some()
    }

    fn offer(&self, _peer: &[u8], _space: [u8; 32], offer: Offer) {
        (offer.done)(false);
    }
}

struct Cluster {
    net: Arc<Net>,
    folders: BTreeMap<&'static str, TempDir>,
    boots: u8,
}

fn peer(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

impl Cluster {
    fn new() -> Self {
        Self { net: Arc::default(), folders: BTreeMap::new(), boots: 0 }
    }

    fn start(&mut self, name: &'static str, member: u64, contacts: &[(u64, &str)]) -> Space {
        self.boots += 1;
        let folder = self.folders.entry(name).or_insert_with(|| tempfile::tempdir().unwrap());
        let contacts = contacts.iter().map(|(id, name)| (*id, peer(name))).collect();
        let open = OpenSpace {
            name: name.to_owned(),
            id: [7; 32],
            folder: folder.path().to_path_buf(),
            min_free: 0,
            node: name.to_owned(),
            seed: [self.boots; 16],
            me: Me { member, peer: peer(name), key: KEY, generation: 0, contacts },
            links: Arc::new(From { net: Arc::clone(&self.net), me: peer(name) }),
        };
        let space = tokio::task::block_in_place(|| open.open()).unwrap();
        self.net.spaces.write().unwrap().insert(peer(name), SpaceOf(space.clone()));
        space
    }

    fn stop(&self, name: &str) {
        let space = self.net.spaces.write().unwrap().remove(&peer(name)).unwrap();
        tokio::task::block_in_place(|| space.0.close());
    }

    /// Cuts a node off from all others, or heals that.
    fn cut(&self, name: &str, is_cut: bool) {
        let mut cut = self.net.cut.lock().unwrap();
        cut.clear();
        if is_cut {
            for other in self.folders.keys() {
                cut.insert((peer(name), peer(other)));
                cut.insert((peer(other), peer(name)));
            }
        }
    }

    async fn found(&mut self) -> Space {
        let first = self.start("a", FOUNDER, &[]);
        let (peer, node) = (peer("a"), "a".to_owned());
        let admit = Admit { peer, node, nonce: [0; 16], ticket: None, after: 0 };
        committed(first.commit(&Command::Admit(admit)).await);
        let issue = IssueTicket { hash: TICKET, until: u64::MAX, uses: 99 };
        committed(first.commit(&Command::IssueTicket(issue)).await);
        first
    }

    async fn join(&mut self, by: &Space, name: &'static str) -> Space {
        let (peer, node) = (peer(name), name.to_owned());
        let admit =
            Admit { peer: peer.clone(), node, nonce: [0; 16], ticket: Some(TICKET), after: 0 };
        committed(by.commit(&Command::Admit(admit)).await);
        let (member, _) = by.membership().joined(&peer, &[0; 16]).unwrap();
        self.start(name, member, &[(FOUNDER, "a")])
    }

    async fn three() -> (Self, [Space; 3]) {
        let mut cluster = Self::new();
        let a = cluster.found().await;
        let b = cluster.join(&a, "b").await;
        let c = cluster.join(&a, "c").await;
        until("three vote", || {
            let voters = c.membership();
            voters.members().values().filter(|m| m.part == synod_core::apply::Part::Voter).count()
                == 3
        })
        .await;
        (cluster, [a, b, c])
    }
}

fn committed(ended: Option<Ended>) -> u64 {
    match ended {
        Some(Ended::Applied(Outcome::Committed(index))) => index,
        other => panic!("{other:?}"),
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn write(space: &Space, nonce: u8, count: u64) -> u64 {
    let open = Command::OpenSession { label: "test".to_owned(), nonce: [nonce; 16] };
    let id = committed(space.commit(&open).await);
    for seq in 1..=count {
        committed(Some(transact(space, id, seq, vec![fact(i64::from(nonce))]).await));
    }
    id
}

async fn agree(spaces: &[&Space]) {
    let mut reached = 0;
    for space in spaces {
        reached = reached.max(space.read_index().await.unwrap());
    }
    let mut digests = BTreeSet::new();
    for space in spaces {
        space.feed().follow().wait_for(|applied| *applied >= reached).await.unwrap();
        digests.insert(space.look(|state| (state.index(), state.digest())).await.unwrap());
    }
    assert_eq!(digests.len(), 1, "{digests:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_proposed_anywhere_is_applied_everywhere_and_once() {
    let (cluster, [a, b, c]) = Cluster::three().await;
    write(&a, 1, 20).await;
    let session = write(&b, 2, 20).await;
    write(&c, 3, 20).await;
    agree(&[&a, &b, &c]).await;
    assert_eq!(a.look(|state| state.kb().len()).await, Some(60));
    // The same number again, given to another member.
    let again = transact(&c, session, 20, vec![fact(2)]).await;
    assert!(matches!(again, Ended::Applied(Outcome::Committed(_))));
    agree(&[&a, &b, &c]).await;
    assert_eq!(b.look(|state| state.kb().len()).await, Some(60));
    ["a", "b", "c"].into_iter().for_each(|name| cluster.stop(name));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_goes_and_comes_back_and_nothing_is_lost() {
    let (mut cluster, [a, b, c]) = Cluster::three().await;
    write(&b, 1, 5).await;
    assert_eq!(a.leader().role, "leader");
    cluster.stop("a");
    let gone = Instant::now();
    write(&b, 2, 5).await;
    assert!(gone.elapsed() < Duration::from_secs(5), "{:?}", gone.elapsed());
    write(&c, 3, 5).await;
    agree(&[&b, &c]).await;
    let a = cluster.start("a", FOUNDER, &[]);
    agree(&[&a, &b, &c]).await;
    assert_eq!(a.look(|state| state.kb().len()).await, Some(15));
    ["a", "b", "c"].into_iter().for_each(|name| cluster.stop(name));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_cut_off_writes_nothing_and_says_so_and_is_right_again() {
    let (cluster, [a, b, c]) = Cluster::three().await;
    let session = write(&a, 1, 3).await;
    cluster.cut("a", true);
    let before = a.look(|state| state.kb().len()).await;
    let fourth = transaction(session, 4, vec![fact(1)]);
    let (ended, read) = tokio::join!(a.commit(&fourth), a.read_index());
    // It was appended by a leader that could reach nobody: what becomes of it is not known here.
    assert_eq!((ended, read), (None, None));
    assert_eq!(a.look(|state| state.kb().len()).await, before);
    write(&b, 2, 3).await;
    cluster.cut("a", false);
    until("it follows again", || a.leader().leader.is_some_and(|leader| leader != FOUNDER)).await;
    agree(&[&a, &b, &c]).await;
    assert!(matches!(
        transact(&a, session, 4, vec![fact(1)]).await,
        Ended::Applied(Outcome::Committed(_))
    ));
    agree(&[&a, &b, &c]).await;
    assert_eq!(a.look(|state| state.kb().len()).await, Some(7));
    ["a", "b", "c"].into_iter().for_each(|name| cluster.stop(name));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_as_people_wish() {
    let (mut cluster, [a, b, c]) = Cluster::three().await;
    let d = cluster.join(&b, "d").await;
    let part = |space: &Space, id| space.membership().members().get(&id).map(|m| m.part);
    use synod_core::apply::Part;
    until("it learns", || part(&a, 4) == Some(Part::Learner)).await;
    write(&d, 1, 5).await;
    agree(&[&a, &b, &c, &d]).await;
    // A follower is asked, and has the leader do it.
    b.ask(Ask::Transfer(2)).await.unwrap();
    assert_eq!(b.leader().role, "leader");
    assert!(c.ask(Ask::Remove(9)).await.unwrap_err().contains("no member"));
    c.ask(Ask::Remove(1)).await.unwrap();
    cluster.stop("a");
    until("the fourth votes", || part(&d, 4) == Some(Part::Voter)).await;
    cluster.stop("b");
    write(&d, 2, 5).await;
    agree(&[&c, &d]).await;
    ["c", "d"].into_iter().for_each(|name| cluster.stop(name));
}
