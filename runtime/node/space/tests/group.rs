//! Spaces of several nodes in one process: real threads and disks, and a network that is a map.

use super::*;
use crate::space::{FOUNDER, Lane, Links, Offer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, RwLock};
use std::time::Duration;
use synod_core::command::{Admit, IssueTicket};
use synod_core::group;
use synod_core::order::Entry;
use tempfile::TempDir;

const KEY: [u8; 32] = [9; 32];
const TICKET: [u8; 32] = [5; 32];
/// How soon an idle space is marked.
const IDLE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(20);

/// Everybody's ways to everybody.
#[derive(Debug, Default)]
struct Net {
    spaces: RwLock<BTreeMap<Bytes, SpaceOf>>,
    cut: Mutex<BTreeSet<(Bytes, Bytes)>>,
    /// Who has sent whom a snapshot.
    offered: Mutex<Vec<(Bytes, Bytes)>>,
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
        let token = group::token(&KEY, 0, &self.me, peer);
        assert_eq!(group::Frame::token(&frame), Ok(token));
        let spaces = self.net.spaces.read().unwrap();
        spaces.get(&to).map(|space| space.0.receive(self.me.clone(), frame)).is_some()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        [&self.me[..], blake3::hash(message).as_bytes()].concat()
    }

    fn is_signed_by(&self, peer: &[u8], message: &[u8], signature: &[u8]) -> bool {
        signature == [peer, blake3::hash(message).as_bytes()].concat()
    }

    fn offer(&self, peer: &[u8], _space: [u8; 32], offer: Offer) {
        let to = Bytes::copy_from_slice(peer);
        let spaces = self.net.spaces.read().unwrap();
        let Some(space) = spaces.get(&to).map(|space| space.0.clone()) else {
            return (offer.done)(false);
        };
        let (net, me) = (Arc::clone(&self.net), self.me.clone());
        std::thread::spawn(move || {
            let file = std::fs::read(&offer.file).unwrap();
            let mut received = ReceivedSnapshot::begin(&space, file.len() as u64).unwrap();
            received.write(&file).unwrap();
            let (file, meta) = received.finish().unwrap();
            space.receive_snapshot(me.clone(), file, meta, offer.frame);
            net.offered.lock().unwrap().push((me, to));
            (offer.done)(true);
        });
    }
}

struct Cluster {
    net: Arc<Net>,
    folders: BTreeMap<&'static str, TempDir>,
    boots: u8,
    marking: Marking,
}

fn peer(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

impl Cluster {
    fn new() -> Self {
        let marking = Marking::each(50, IDLE);
        Self { net: Arc::default(), folders: BTreeMap::new(), boots: 0, marking }
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
            busy_poll: BUSY_POLL,
            node: name.to_owned(),
            seed: [self.boots; 16],
            me: Me { member, peer: peer(name), key: KEY, generation: 0, contacts },
            observes: None,
            marking: self.marking.clone(),
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
        Self::three_of(Self::new()).await
    }

    async fn three_of(mut cluster: Self) -> (Self, [Space; 3]) {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ended_while_it_recovered_has_recovered_when_it_starts_again() {
    let (mut cluster, [a, b, c]) = Cluster::three().await;
    write(&b, 1, 5).await;
    agree(&[&a, &b, &c]).await;
    ["a", "b", "c"].iter().for_each(|name| cluster.stop(name));
    // The entry is on disk, and nothing that says that it is committed.
    let folder = cluster.folders["b"].path();
    let (limits, id) = (synod_core::log::Limits::default(), [7; 32]);
    let disk = FsDisk::new(folder);
    let (mut log, _) = synod_core::log::Log::open(disk, Path::new("log"), id, limits).unwrap();
    let last = log.last();
    let recover = synod_core::command::Recover {
        generation: 1,
        voter: 2,
        node: "b".to_owned(),
        dropped: [(1, "a".to_owned()), (3, "c".to_owned())].into(),
        words: String::new(),
    };
    let commands = vec![Command::Recover(recover).encode()];
    let batch = synod_core::command::Batch { time: 0, tags: Vec::new(), commands };
    let entry = Entry::recovery(last.term + 1, last.index + 1, 2, batch.encode());
    let kind = entry.kind.number() as u8;
    let entry =
        synod_core::log::Entry { term: entry.term, index: entry.index, kind, data: entry.data };
    log.append(&[entry], None).unwrap();
    log.sync().unwrap();
    drop(log);

    let contacts = [(1, "a"), (2, "b"), (3, "c")];
    let alone = cluster.start("b", 2, &contacts);
    until("it to lead", || alone.leader().role == "leader").await;
    assert_eq!(alone.generation(), 1);
    assert_eq!(alone.membership().members().keys().copied().collect::<Vec<_>>(), [2]);
    write(&alone, 2, 5).await;
    cluster.stop("b");
    let again = cluster.start("b", 2, &contacts);
    until("it to lead again", || again.leader().role == "leader").await;
    assert_eq!(again.generation(), 1);
    write(&again, 3, 5).await;
}

/// The last index that most voters agreed on, as a node knows it, and how many signed that.
fn agreed(space: &Space) -> (u64, usize) {
    let membership = space.membership();
    membership.checkpoint().map_or((0, 0), |made| (made.mark.index, made.signatures.len()))
}

/// Makes a node's state another than the log says, as a broken machine might.
fn break_state(space: &Space) {
    let (name, text) = ("nowhere".to_owned(), "said in the log".to_owned());
    let command = Command::PublishModule { name, text, after: 0 };
    let change = |state: &mut State| {
        let place = state.place();
        state.apply_followed(&place, Some(command));
    };
    space.inner.apply.send(ApplyInput::Inspect(Box::new(change))).unwrap();
}

async fn has_module(space: &Space) -> bool {
    space.look(|state| !state.modules().is_empty()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_agree_on_what_the_log_leads_to_and_an_idle_end_is_agreed_on_too() {
    let (_cluster, [a, b, c]) = Cluster::three().await;
    write(&b, 1, 60).await;
    until("a checkpoint of many", || [&a, &b, &c].iter().all(|space| agreed(space).0 == 50)).await;
    let (last, signed) = (a.feed().applied(), agreed(&c).1);
    assert!(signed >= 2, "{signed} signed");
    until("one of the end", || agreed(&c).0 >= last).await;
    // A checkpoint is nothing that is agreed on again.
    let index = a.feed().applied();
    tokio::time::sleep(4 * IDLE).await;
    assert_eq!(a.feed().applied(), index);
    agree(&[&a, &b, &c]).await;
    assert!([&a, &b, &c].iter().all(|space| space.was_wrong().is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_wrong_is_found_and_made_right() {
    let (_cluster, [a, b, c]) = Cluster::three().await;
    write(&b, 1, 60).await;
    break_state(&b);
    assert!(has_module(&b).await);
    write(&c, 2, 60).await;
    until("it to be found", || b.was_wrong().is_some()).await;
    until("it to serve again", || b.serves_reads(Reading::Newest).is_ok()).await;
    assert!(b.was_wrong().unwrap().contains("2 voters"), "{:?}", b.was_wrong());
    assert!(!has_module(&b).await);
    write(&b, 3, 5).await;
    agree(&[&a, &b, &c]).await;
    assert!(a.was_wrong().is_none() && c.was_wrong().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_history_is_not_what_most_have_signed_votes_no_more() {
    let (_cluster, [a, b, c]) = Cluster::three().await;
    write(&b, 1, 60).await;
    // As if entries of the same terms had been others.
    let change = |state: &mut State| {
        let mut place = state.place();
        place.hash[0] ^= 1;
        state.apply_followed(&place, None);
    };
    b.inner.apply.send(ApplyInput::Inspect(Box::new(change))).unwrap();
    write(&c, 2, 60).await;
    let mut lost = b.inner.shared.follow_lost();
    tokio::time::timeout(PATIENCE, lost.wait_for(|is_so| *is_so)).await.unwrap().unwrap();
    assert!(b.serves_reads(Reading::Newest).is_err() && b.was_wrong().is_none());
    let all_but_it = [&a, &c].iter().all(|space| !*space.inner.shared.follow_lost().borrow());
    assert!(all_but_it, "the others are right");
    write(&a, 3, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_wrong_leads_no_longer_and_is_made_right() {
    let (mut cluster, [a, b, c]) = Cluster::three().await;
    let all = [&a, &b, &c];
    write(&b, 1, 60).await;
    until("a checkpoint", || all.iter().all(|space| agreed(space).0 >= 50)).await;
    let wrong = all.iter().position(|space| space.leader().role == "leader").unwrap();
    let term = all[wrong].leader().term;
    break_state(all[wrong]);
    let other = all[(wrong + 1) % 3];
    // Its own digest is outvoted, and it is the one to put that into the log.
    write(other, 2, 60).await;
    until("it to be found", || all[wrong].was_wrong().is_some()).await;
    until("another term", || other.leader().term > term && other.leader().leader.is_some()).await;
    write(other, 3, 5).await;
    assert!(!has_module(all[wrong]).await);
    agree(&all).await;
    // It stays right when it starts again, from what it has on disk.
    let names = ["a", "b", "c"];
    let member = wrong as u64 + 1;
    cluster.stop(names[wrong]);
    let again = cluster.start(names[wrong], member, &[(1, "a"), (2, "b"), (3, "c")]);
    assert!(!has_module(&again).await);
    write(&again, 4, 5).await;
    agree(&[&again, other]).await;
}

/// Has a node take a snapshot of the state that it has now.
async fn snapshot(space: &Space) {
    let index = space.look(|state| state.index()).await.unwrap();
    space.inner.apply.send(ApplyInput::Snapshot { at_least: index }).unwrap();
    let mut newest = space.inner.snapshots.follow();
    let is_there = |saved: &Option<Arc<snapshots::Saved>>| {
        saved.as_ref().is_some_and(|saved| saved.index >= index)
    };
    tokio::time::timeout(PATIENCE, newest.wait_for(is_there)).await.unwrap().unwrap();
}

/// The first entry of a node's log.
async fn first_entry(space: &Space) -> u64 {
    let (sender, reader) = oneshot::channel();
    space.inner.order.send(OrderInput::Reader(sender)).unwrap();
    reader.await.unwrap().first_index()
}

/// Writes, and takes snapshots, until as little is kept as may be.
async fn forget_the_past(spaces: &[&Space]) {
    for space in spaces {
        let retained = (*space).clone();
        let retain = move || retained.retain(Retention::Bytes(0));
        tokio::task::spawn_blocking(retain).await.unwrap().unwrap();
    }
    for nonce in 100..104 {
        write(spaces[0], nonce, 20).await;
        let last = spaces[0].feed().applied();
        for space in spaces {
            until("all to be agreed on", || agreed(space).0 >= last).await;
            snapshot(space).await;
        }
    }
    for space in spaces {
        let end = Instant::now() + PATIENCE;
        while first_entry(space).await <= 1 {
            assert!(Instant::now() < end, "nothing is cut off the log");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_state_is_made_again_from_outlives_what_is_to_be_forgotten() {
    let (_cluster, [a, b, c]) = Cluster::three().await;
    forget_the_past(&[&a, &b, &c]).await;
    break_state(&b);
    // However many are taken of the wrong state.
    for nonce in 1..4 {
        write(&c, nonce, 5).await;
        snapshot(&b).await;
    }
    until("it to be found", || b.was_wrong().is_some()).await;
    assert!(!has_module(&b).await);
    agree(&[&a, &b, &c]).await;
    assert!(b.inner.shared.agreed() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_the_own_log_does_not_lead_to_is_had_from_who_has_signed_it() {
    let (cluster, [a, b, c]) = Cluster::three().await;
    forget_the_past(&[&a, &b, &c]).await;
    break_state(&b);
    let folder = cluster.folders["b"].path().join("snapshots");
    for file in std::fs::read_dir(&folder).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    write(&c, 1, 60).await;
    until("it to be made right", || b.was_wrong().is_some()).await;
    assert!(!has_module(&b).await);
    let sent = cluster.net.offered.lock().unwrap().clone();
    assert!(sent.iter().any(|(from, to)| *to == peer("b") && *from != peer("b")), "{sent:?}");
    write(&b, 2, 5).await;
    agree(&[&a, &b, &c]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_state_that_was_sent_on_is_found_and_had_from_others() {
    // Nothing is marked while the wrong one spreads.
    let mut cluster = Cluster::new();
    cluster.marking = Marking::each(10_000, Duration::from_secs(3));
    let (mut cluster, spaces) = Cluster::three_of(cluster).await;
    forget_the_past(&spaces.each_ref()).await;
    let wrong = spaces.iter().find(|space| space.leader().role == "leader").unwrap();
    break_state(wrong);
    write(wrong, 1, 5).await;
    snapshot(wrong).await;
    let fourth = cluster.join(wrong, "d").await;
    let until_there = Instant::now() + PATIENCE;
    while !has_module(&fourth).await {
        assert!(Instant::now() < until_there, "the wrong state did not spread");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(fourth.was_wrong().is_none() && wrong.was_wrong().is_none());
    until("the first to be found", || wrong.was_wrong().is_some()).await;
    until("the other to be found", || fourth.was_wrong().is_some()).await;
    assert!(!has_module(&fourth).await && !has_module(wrong).await);
    write(&fourth, 2, 5).await;
    let all: Vec<&Space> = spaces.iter().chain([&fourth]).collect();
    agree(&all).await;
}
