mod group;

use super::*;
use std::path::Path;
use synod_core::apply::Outcome;
use synod_core::command::{Op, Origin, Transaction};
use synod_core::term::Term;

fn open(folder: &Path) -> Space {
    let open = OpenSpace {
        name: "local".to_owned(),
        id: [7; 32],
        folder: folder.to_path_buf(),
        min_free: 0,
        busy_poll: BUSY_POLL,
        node: "test".to_owned(),
        seed: [3; 16],
        me: Me::alone(),
        observes: None,
        marking: Marking::never(),
        links: Arc::new(NoLinks),
    };
    open.open().unwrap()
}

fn event(n: i64) -> Op {
    Op::Emit { event: Term::Integer(n).encode().unwrap().into() }
}

fn fact(n: i64) -> Op {
    let fact = Term::structure("p", [Term::Integer(n)]).encode().unwrap().into();
    Op::Assert { end: synod_core::kb::End::Last, fact }
}

async fn session(space: &Space) -> u64 {
    let open = Command::OpenSession { label: "test".to_owned(), nonce: [1; 16] };
    let Some(Ended::Applied(Outcome::Committed(id))) = space.commit(&open).await else {
        panic!("no session");
    };
    id
}

async fn transact(space: &Space, id: u64, seq: u64, ops: Vec<Op>) -> Ended {
    space.commit(&transaction(id, seq, ops)).await.unwrap()
}

fn transaction(id: u64, seq: u64, ops: Vec<Op>) -> Command {
    let origin = Origin::Session { id, seq, acked: 0 };
    Command::Transact(Transaction { origin, version: 0, reads: Vec::new(), ops })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart_and_happens_once() {
    let folder = tempfile::tempdir().unwrap();
    let space = open(folder.path());
    let id = session(&space).await;
    let first = transact(&space, id, 1, vec![fact(1), event(2)]).await;
    assert_eq!(first, Ended::Applied(Outcome::Committed(2)));
    let digest = space.look(State::digest).await.unwrap();
    space.close();

    let space = open(folder.path());
    assert_eq!(space.look(State::digest).await.unwrap(), digest);
    assert_eq!(transact(&space, id, 1, vec![fact(1), event(2)]).await, first);
    assert_eq!(space.look(|state| state.kb().len()).await, Some(1));
    let behind = space.feed().behind(0, usize::MAX).unwrap();
    assert_eq!(behind.changes.len(), 1, "the feed knows what the log had");
    space.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_proposed_together_is_written_together() {
    let folder = tempfile::tempdir().unwrap();
    let space = open(folder.path());
    let id = session(&space).await;
    let (sender, mut ended) = tokio::sync::mpsc::unbounded_channel();
    for seq in 1..=1000 {
        let origin = Origin::Session { id, seq, acked: 0 };
        let ops = vec![event(seq as i64)];
        let transaction = Transaction { origin, version: 0, reads: Vec::new(), ops };
        let command = Command::Transact(transaction).encode();
        space.propose(command, Reply::Stream(sender.clone(), seq)).unwrap();
    }
    for seq in 1..=1000 {
        let outcome = Ended::Applied(Outcome::Committed(seq + 1));
        assert_eq!(ended.recv().await, Some((seq, Some(outcome))));
    }
    space.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_comes_back_from_its_snapshot_and_the_past_can_be_told() {
    let folder = tempfile::tempdir().unwrap();
    let space = open(folder.path());
    let id = session(&space).await;
    for seq in 1..=50 {
        transact(&space, id, seq, vec![fact(seq as i64)]).await;
    }
    space.inner.apply.send(ApplyInput::Snapshot { at_least: 0 }).unwrap();
    let mut newest = space.inner.snapshots.follow();
    newest.wait_for(Option::is_some).await.unwrap();
    for seq in 51..=60 {
        transact(&space, id, seq, vec![fact(seq as i64)]).await;
    }
    let digest = space.look(State::digest).await.unwrap();
    space.close();

    let space = open(folder.path());
    assert_eq!(space.look(State::digest).await.unwrap(), digest);
    assert!(space.feed().behind(0, 1).is_none(), "the feed begins at the snapshot");
    let mut history = space.history(30).await.unwrap();
    let indexes: Vec<u64> =
        std::iter::from_fn(|| history.next_change().unwrap()).map(|c| c.index).collect();
    assert_eq!(indexes, (31..=61).collect::<Vec<_>>());
    assert!(space.as_of(31).await.unwrap().exists());
    assert!(matches!(space.as_of(100).await, Err(PastError::Ahead { last: 61, .. })));
    space.close();
}
