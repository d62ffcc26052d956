//! Sessions and agents: what is far apart, and that a refusal is for ever.

use super::*;
use crate::apply::Part;
use crate::apply::membership::MAX_REMOVED;
use crate::command::{Admit, Checkpoint, Configure, IssueTicket, Recover, Signature};
use crate::group::Mark;

#[test]
fn an_opening_sent_twice_opens_one_session() {
    let mut space = Space::new();
    let again = space.apply(&open("client", 0));
    assert_eq!(again, Outcome::Committed(space.session));
    assert_ne!(space.apply(&open("client", 1)), again);
    assert_ne!(space.apply(&open("another", 0)), again);
}

#[test]
fn a_session_that_nobody_uses_is_over_and_its_number_never_comes_back() {
    let mut space = Space::new();
    space.state.index = space.session + SESSION_COMMANDS - 1;
    assert!(matches!(space.write(vec![]), Outcome::Committed(_)), "the last moment");
    assert!(space.state.session(space.session).is_some());
    space.state.index += SESSION_COMMANDS + 1;
    assert!(space.state.session(space.session).is_none());
    assert_eq!(space.state.outcome(space.session, 1), None);
    let late = by_session(space.session, 2, 1, nothing(0));
    space.refuses(&late, Refusal::NoSession);
    // The same opening is another session now.
    let index = space.state.index() + 1;
    assert_eq!(space.apply(&open("client", 0)), Outcome::Committed(index));
    space.refuses(&late, Refusal::NoSession);
}

#[test]
fn the_session_that_was_used_longest_ago_makes_room() {
    let mut space = Space::new();
    for nonce in 1..MAX_SESSIONS as u64 {
        space.expect(&open("client", nonce));
    }
    space.write(vec![]);
    space.expect(&open("client", MAX_SESSIONS as u64));
    assert!(space.state.session(space.session).is_some(), "it was used");
    assert!(space.state.session(2).is_none(), "the next one was not");
    assert_eq!(space.state.sessions.iter().len(), MAX_SESSIONS);
}

#[test]
fn a_number_is_one_transaction_and_what_was_acknowledged_is_forgotten() {
    let mut space = Space::new();
    let id = space.session;
    let write = |seq, acked| {
        let ops = vec![assert(p(seq as i64, 0))];
        by_session(id, seq, acked, Draft { version: 1, reads: vec![], ops })
    };
    space.expect(&write(1, 0));
    space.expect(&write(3, 0));
    assert_eq!(space.apply(&write(1, 0)), Outcome::Committed(2));
    assert_eq!(space.state.outcome(id, 1), Some(&Outcome::Committed(2)));
    space.expect(&write(4, 2));
    assert_eq!(space.state.outcome(id, 1), None);
    space.refuses(&write(1, 0), Refusal::OutOfWindow);
    space.refuses(&write(2, 0), Refusal::OutOfWindow);
    assert_eq!(space.apply(&write(3, 0)), Outcome::Committed(3), "whatever a copy acknowledges");
    assert_eq!(space.state.kb().len(), 3);
    space.refuses(&write(5, 5), Refusal::OutOfWindow);
    space.refuses(&write(0, 0), Refusal::OutOfWindow);
}

#[test]
fn what_is_beyond_the_numbers_in_flight_is_refused_for_ever() {
    let mut space = Space::new();
    let (id, most) = (space.session, MAX_IN_FLIGHT as u64);
    let write = |seq, acked| by_session(id, seq, acked, nothing(1));
    for seq in 1..=most {
        space.expect(&write(seq, 0));
    }
    assert_eq!(space.state.session(id).unwrap().outcomes.len(), MAX_IN_FLIGHT);
    let beyond = write(most + 1, 0);
    space.refuses(&beyond, Refusal::OutOfWindow);
    // There is room now; a copy of what was refused must not find it.
    space.expect(&write(most + 2, most));
    space.refuses(&beyond, Refusal::OutOfWindow);
    // The client, who was told, may take the number with what it knows by now.
    space.expect(&write(most + 1, most));
    assert_eq!(space.state.session(id).unwrap().outcomes.len(), 2);
}

/// A space with an agent that has handled nothing.
fn with_agent() -> (Space, u64) {
    let mut space = Space::new();
    space.expect(&Command::Claim(claim("a", 0)));
    let epoch = space.state.index();
    (space, epoch)
}

fn cursor(space: &Space) -> Position {
    space.state.agents()["a"].cursor
}

#[test]
fn a_cursor_moves_with_the_writes_and_never_past_what_has_come() {
    let (mut space, epoch) = with_agent();
    assert_eq!(cursor(&space), position(epoch, 0), "a new agent begins behind its claim");
    let start = cursor(&space);
    let ops = vec![assert(p(1, 1))];
    let draft = Draft { version: epoch, reads: vec![], ops };
    space.expect(&by_agent(epoch, 1, (start, position(epoch, 5)), draft));
    assert_eq!(cursor(&space), position(epoch, 5));
    let here = cursor(&space);
    let back = (here, position(epoch, 4));
    space.refuses(&by_agent(epoch, 2, back, nothing(0)), Refusal::StaleCursor);
    let ahead = (here, position(space.state.index() + 2, 0));
    space.refuses(&by_agent(epoch, 3, ahead, nothing(0)), Refusal::StaleCursor);
    // As far as this very command, but not further.
    let next = (here, position(space.state.index() + 1, 0));
    space.expect(&by_agent(epoch, 4, next, nothing(0)));
    assert_eq!(cursor(&space), position(space.state.index(), 0));
}

#[test]
fn a_conflict_leaves_the_cursor_and_the_rerun_is_another_number() {
    let (mut space, epoch) = with_agent();
    let stale = reading(&space.state, 1);
    space.write(vec![assert(p(1, 1))]);
    let turn = (cursor(&space), position(epoch, 1));
    let run = by_agent(epoch, 1, turn, stale);
    let first = space.apply(&run);
    assert!(matches!(first, Outcome::Refused(_, Refusal::Conflict(_))));
    assert_eq!(cursor(&space), turn.0);
    assert_eq!(space.apply(&run), first, "a copy is told the same");
    let rerun = reading(&space.state, 1);
    space.expect(&by_agent(epoch, 2, turn, rerun));
    assert_eq!(cursor(&space), turn.1);
    space.refuses(&run, Refusal::OutOfWindow);
}

#[test]
fn a_cursor_that_had_not_come_yet_is_refused_for_ever() {
    let (mut space, epoch) = with_agent();
    let (start, middle) = (cursor(&space), position(epoch, 1));
    let early = by_agent(epoch, 2, (middle, position(epoch, 2)), nothing(0));
    space.refuses(&early, Refusal::StaleCursor);
    // The number before it came too late then.
    space.refuses(&by_agent(epoch, 1, (start, middle), nothing(0)), Refusal::OutOfWindow);
    space.expect(&by_agent(epoch, 3, (start, middle), nothing(0)));
    assert_eq!(cursor(&space), middle);
    space.refuses(&early, Refusal::OutOfWindow);
    assert_eq!(cursor(&space), middle);
}

#[test]
fn only_the_holder_of_the_present_epoch_acts() {
    let (mut space, first) = with_agent();
    let turn = |space: &Space| (cursor(space), cursor(space));
    let other = Claim { node: "m".to_owned(), ..claim("a", first) };
    space.refuses(&Command::Claim(Claim { after: 0, ..other.clone() }), Refusal::StaleEpoch);
    space.refuses(&Command::Claim(Claim { after: 99, ..other.clone() }), Refusal::StaleEpoch);
    space.expect(&Command::Claim(other.clone()));
    let second = space.state.index();
    let old = by_agent(first, 1, turn(&space), nothing(0));
    space.refuses(&old, Refusal::StaleEpoch);
    space.refuses(&Command::Release { agent: "a".to_owned(), epoch: first }, Refusal::StaleEpoch);
    let told = space.apply(&Command::Claim(other.clone()));
    assert_eq!(told, Outcome::Committed(second), "sent again");
    let greedy = Claim { declared: vec![declares(p2(), [2])], ..other.clone() };
    space.refuses(&Command::Claim(greedy), Refusal::StaleEpoch);
    let draft = by_agent(second, 1, turn(&space), nothing(0));
    space.expect(&draft);
    let release = Command::Release { agent: "a".to_owned(), epoch: second };
    space.expect(&release);
    space.refuses(&by_agent(second, 2, turn(&space), nothing(0)), Refusal::StaleEpoch);
    space.refuses(&draft, Refusal::StaleEpoch);
    space.refuses(&Command::Claim(other), Refusal::StaleEpoch);
    space.expect(&release);
    space.expect(&Command::Claim(claim("a", second)));
    let third = space.state.index();
    space.refuses(&release, Refusal::StaleEpoch);
    // Numbers are counted from 1 in each epoch.
    space.expect(&by_agent(third, 1, turn(&space), nothing(0)));
    let nobody = Command::Release { agent: "nobody".to_owned(), epoch: 1 };
    space.refuses(&nobody, Refusal::StaleEpoch);
}

fn letter(epoch: u64, seq: u64, turn: (Position, Position), event: Bytes) -> Command {
    let (agent, reason) = ("a".to_owned(), "died three times".to_owned());
    Command::Letter(Letter { agent, epoch, seq, from: turn.0, to: turn.1, event, reason })
}

#[test]
fn a_letter_passes_its_event_over_and_is_kept_until_it_is_dropped() {
    let (mut space, epoch) = with_agent();
    let start = cursor(&space);
    let first = letter(epoch, 1, (start, position(epoch, 1)), p(1, 1));
    space.expect(&first);
    let index = space.state.index();
    assert_eq!(space.apply(&first), Outcome::Committed(index));
    assert_eq!(cursor(&space), position(epoch, 1));
    let here = cursor(&space);
    space.expect(&letter(epoch, 2, (here, here), p(2, 2)));
    let own = position(space.state.index(), 0);
    let kept = |space: &Space| space.state.agents()["a"].letters.clone();
    let reason = "died three times".to_owned();
    let expected = [
        (start, DeadLetter { event: p(1, 1), reason: reason.clone(), index }),
        (own, DeadLetter { event: p(2, 2), reason, index: own.index }),
    ];
    assert_eq!(kept(&space), BTreeMap::from(expected));
    let drop = |positions| Command::DropLetters { agent: "a".to_owned(), positions };
    space.expect(&drop(vec![start, position(999, 0)]));
    assert_eq!(kept(&space).into_keys().collect::<Vec<_>>(), [own]);
    // Another epoch keeps the letters and the cursor.
    space.expect(&Command::Claim(claim("a", epoch)));
    assert_eq!(kept(&space).into_keys().collect::<Vec<_>>(), [own]);
    assert_eq!(cursor(&space), here);
    space.expect(&drop(vec![own]));
    assert!(kept(&space).is_empty());
}

#[test]
fn a_letter_is_handled_once_and_goes_with_what_its_handler_wrote() {
    let (mut space, epoch) = with_agent();
    let here = cursor(&space);
    space.expect(&letter(epoch, 1, (here, here), p(1, 1)));
    let at = position(space.state.index(), 0);
    let retry = |seq, letter, mut draft: Draft, space: &Space| {
        draft.version = space.state.index();
        let Command::Transact(mut transaction) =
            by_agent(epoch, seq, (cursor(space), cursor(space)), draft)
        else {
            panic!("a transaction");
        };
        if let Origin::Agent { letter: of, .. } = &mut transaction.origin {
            *of = Some(letter);
        }
        Command::Transact(transaction)
    };
    let write = |n| {
        let op = Op::Assert { end: End::Last, fact: p(n, n) };
        Draft { version: 0, reads: vec![], ops: vec![op] }
    };
    // What conflicts leaves the letter where it is.
    let gone = Op::Retract { predicate: Indicator::new("p", 2), order: 77 };
    let conflict = Draft { version: 0, reads: vec![], ops: vec![gone] };
    let outcome = space.apply(&retry(2, at, conflict, &space));
    assert!(matches!(outcome, Outcome::Refused(_, Refusal::Conflict(_))), "{outcome:?}");
    assert!(space.state.agents()["a"].letters.contains_key(&at));
    let first = retry(3, at, write(3), &space);
    space.expect(&first);
    assert!(space.state.agents()["a"].letters.is_empty());
    let facts = space.state.kb().len();
    // Its copy is told what came of it, and whoever comes later finds it gone.
    assert!(matches!(space.apply(&first), Outcome::Committed(_)));
    let second = retry(4, at, write(4), &space);
    space.refuses(&second, Refusal::NoLetter);
    assert!(matches!(space.apply(&second), Outcome::Refused(_, Refusal::NoLetter)));
    assert_eq!(space.state.kb().len(), facts);
}

#[test]
fn the_oldest_letters_make_room_by_number_and_by_bytes() {
    let (mut space, epoch) = with_agent();
    let mut seq = 0;
    let mut send = |space: &mut Space, event: &Bytes| {
        seq += 1;
        let here = cursor(space);
        let to = position(here.index, here.n + 1);
        space.expect(&letter(epoch, seq, (here, to), event.clone()));
    };
    let small = p(1, 1);
    for _ in 0..MAX_LETTERS + 2 {
        send(&mut space, &small);
    }
    let kept = |space: &Space| -> Vec<Position> {
        space.state.agents()["a"].letters.keys().copied().collect()
    };
    assert_eq!(kept(&space).len(), MAX_LETTERS);
    assert_eq!(kept(&space).first(), Some(&position(epoch, 2)));
    let large = encoded(&Term::string("x".repeat(MAX_LETTER_BYTES / 5)));
    for _ in 0..6 {
        send(&mut space, &large);
    }
    // Each is a little more than a fifth.
    assert_eq!(kept(&space).len(), 4);
}

#[test]
fn the_log_hands_out_ids_by_tickets_and_never_twice() {
    let mut space = Space::new();
    let admit = |node: &str, nonce: u8, ticket: Option<[u8; 32]>| {
        let (peer, node) = (Bytes::copy_from_slice(node.as_bytes()), node.to_owned());
        Command::Admit(Admit { peer, node, nonce: [nonce; 16], ticket, after: 0 })
    };
    let issue = |until, uses| Command::IssueTicket(IssueTicket { hash: [9; 32], until, uses });
    let good = Some([9; 32]);
    space.expect(&admit("a", 0, None));
    space.refuses(&admit("b", 0, None), Refusal::NoTicket);
    space.refuses(&admit("b", 0, good), Refusal::NoTicket);
    space.expect(&issue(1_000, 2));
    space.expect(&admit("b", 0, good));
    let since = space.state.index();
    let again = space.state.apply(0, &admit("b", 0, good).encode());
    assert_eq!(again.outcome, Outcome::Committed(since), "it has joined");
    space.expect(&issue(1_000, 2));
    space.expect(&admit("b", 1, good));
    space.refuses(&admit("c", 0, good), Refusal::NoTicket);
    let node = |space: &Space, id| space.state.membership().members()[&id].node.clone();
    assert_eq!(
        [1, 2, 3].map(|id| node(&space, id)),
        ["a", "b", "b"],
        "a lost disk is another member"
    );
    assert_eq!(space.state.membership().of_peer(b"b").unwrap().0, 3);

    let ids = |ids: &[u64]| ids.iter().copied().collect();
    let configure = Configure { voters: ids(&[1, 3]), learners: ids(&[]), removed: ids(&[2]) };
    space.expect(&Command::Configure(configure));
    let parts: Vec<_> =
        space.state.membership().members().iter().map(|(&i, m)| (i, m.part)).collect();
    assert_eq!(parts, [(1, Part::Voter), (3, Part::Voter)]);

    space.expect(&Command::RevokeTickets { hashes: vec![], after: u64::MAX });
    space.expect(&issue(1_000, u32::MAX));
    space.state.apply(1_001, &Bytes::new());
    space.refuses(&admit("c", 0, good), Refusal::NoTicket);
    space.expect(&issue(9_000, 5));
    let (peer, name) = (Bytes::from_static(b"x"), "a".to_owned());
    let other = Admit { peer, node: name, nonce: [0; 16], ticket: good, after: 0 };
    space.refuses(&Command::Admit(other), Refusal::NameTaken);
    space.expect(&admit("c", 0, good));
    assert_eq!(node(&space, 4), "c", "2 was handed out, and is never again");

    let recover = |generation| {
        let (node, dropped) = ("b".to_owned(), [(1, "a".to_owned()), (4, "c".to_owned())].into());
        let words = "I know".to_owned();
        Command::Recover(Recover { generation, voter: 3, node, dropped, words })
    };
    space.expect(&recover(1));
    space.refuses(&recover(1), Refusal::Malformed);
    assert_eq!(space.state.membership().members().keys().collect::<Vec<_>>(), [&3]);
    assert_eq!(space.state.membership().generation(), 1);
    let recovery = space.state.membership().recovery().unwrap();
    assert_eq!((&*recovery.node, &*recovery.dropped), ("b", &["a".to_owned(), "c".to_owned()][..]));
    assert_eq!(recovery.index, space.state.index() - 1, "a refused one is none");

    // One whose log removes it on the way to where it goes on alone is the only member all the same.
    let configure = Configure { removed: [3].into(), ..Configure::default() };
    space.expect(&Command::Configure(configure));
    space.expect(&recover(2));
    let members = space.state.membership().members();
    assert_eq!(members.iter().map(|(&id, m)| (id, m.part)).collect::<Vec<_>>(), [(3, Part::Voter)]);
    assert_eq!((&*members[&3].node, members[&3].since), ("b", space.state.index()));
    assert_eq!(space.state.membership().removed_at(3), None);
}

#[test]
fn a_late_copy_opens_no_ticket_again() {
    let mut space = Space::new();
    let admit = |node: &str, ticket: Option<[u8; 32]>| {
        let (peer, node) = (Bytes::copy_from_slice(node.as_bytes()), node.to_owned());
        Command::Admit(Admit { peer, node, nonce: [0; 16], ticket, after: 0 })
    };
    let issue = |n, until| Command::IssueTicket(IssueTicket { hash: [n; 32], until, uses: 1 });
    space.expect(&admit("a", None));
    space.expect(&issue(1, 1_000));
    space.expect(&issue(2, 1_000));
    space.expect(&admit("b", Some([1; 32])));
    space.expect(&Command::RevokeTickets { hashes: vec![[2; 32]], after: u64::MAX });
    for n in [1, 2] {
        space.expect(&issue(n, 1_000));
        space.refuses(&admit("c", Some([n; 32])), Refusal::NoTicket);
    }
    assert!(space.state.membership().tickets().is_empty());
    space.expect(&issue(2, 2_000));
    space.expect(&admit("c", Some([2; 32])));
}

#[test]
fn a_checkpoint_is_what_most_voters_say_of_what_was() {
    let mut space = Space::new();
    let admit = |node: &str, ticket: Option<[u8; 32]>| {
        let (peer, node) = (Bytes::copy_from_slice(node.as_bytes()), node.to_owned());
        Command::Admit(Admit { peer, node, nonce: [0; 16], ticket, after: 0 })
    };
    let issue = IssueTicket { hash: [1; 32], until: 1_000, uses: 9 };
    space.expect(&admit("a", None));
    space.expect(&Command::IssueTicket(issue));
    for node in ["b", "c", "d"] {
        space.expect(&admit(node, Some([1; 32])));
    }
    let (voters, learners, removed) = ([1, 2, 3].into(), [4].into(), [].into());
    space.expect(&Command::Configure(Configure { voters, learners, removed }));
    let checkpoint = |generation, index, by: &[(u64, &'static str)]| {
        let mark = Mark { index, chain: [2; 32], digest: [3; 32] };
        let signature = |&(member, peer): &(u64, &'static str)| Signature {
            member,
            peer: Bytes::from_static(peer.as_bytes()),
            bytes: Bytes::new(),
        };
        let signatures = by.iter().map(signature).collect();
        Command::Checkpoint(Checkpoint { generation, mark, signatures })
    };
    let most = [(1, "a"), (3, "c")];
    for (wrong, why) in [
        (checkpoint(0, 4, &most[..1]), "one of three"),
        (checkpoint(0, 4, &[(1, "a"), (4, "d")]), "a learner"),
        (checkpoint(0, 4, &[(1, "a"), (3, "b")]), "another's key"),
        (checkpoint(0, 99, &most), "of what is to come"),
        (checkpoint(1, 4, &most), "of another generation"),
        (checkpoint(0, 0, &most), "of nothing"),
    ] {
        let applied = space.state.apply(0, &wrong.encode());
        assert_eq!(applied.outcome, Outcome::Refused(applied.index, Refusal::Malformed), "{why}");
    }
    assert!(space.state.membership().checkpoint().is_none());
    space.expect(&checkpoint(0, 4, &most));
    space.refuses(&checkpoint(0, 4, &most), Refusal::Malformed);
    space.refuses(&checkpoint(0, 3, &most), Refusal::Malformed);
    assert_eq!(space.state.membership().checkpoint().unwrap().mark.index, 4);
    space.expect(&checkpoint(0, 5, &[(1, "a"), (2, "b"), (3, "c")]));
}

#[test]
fn a_late_copy_admits_nobody_who_was_removed_since() {
    let mut space = Space::new();
    let admit = |node: &str, nonce, after, ticket: Option<[u8; 32]>| {
        let (peer, node) = (Bytes::copy_from_slice(node.as_bytes()), node.to_owned());
        Command::Admit(Admit { peer, node, nonce: [nonce; 16], ticket, after })
    };
    let good = Some([9; 32]);
    let remove = |id| {
        let removed = [id].into();
        Command::Configure(Configure { removed, ..Configure::default() })
    };
    space.expect(&admit("a", 0, 0, None));
    let (until, uses) = (1_000, u32::MAX);
    space.expect(&Command::IssueTicket(IssueTicket { hash: [9; 32], until, uses }));
    space.expect(&admit("b", 0, 2, good));
    assert_eq!(space.state.membership().removed_at(2), None);
    space.expect(&remove(2));
    let removed_at = space.state.index();
    assert_eq!(space.state.membership().removed_at(2), Some(removed_at));
    assert_eq!(space.state.membership().removed_at(3), None, "it was never handed out");
    // Byte for byte, or of somebody who looked later.
    space.refuses(&admit("b", 0, 2, good), Refusal::Removed);
    space.refuses(&admit("b", 0, removed_at, good), Refusal::Removed);
    // So many are removed that the first are forgotten.
    for n in 0..MAX_REMOVED as u64 {
        let after = space.state.index();
        let node = n.to_string();
        space.expect(&admit(&node, 1, after, good));
        space.expect(&remove(n + 3));
    }
    assert_eq!(space.state.membership().removed().len(), MAX_REMOVED);
    assert_eq!(space.state.membership().removed_at(2), Some(removed_at));
    space.refuses(&admit("b", 0, 2, good), Refusal::Removed);
    let mut restored = space.restored();
    assert_eq!(restored.state.digest(), space.state.digest());
    restored.refuses(&admit("b", 0, 2, good), Refusal::Removed);
    // The same node may join anew.
    space.expect(&admit("b", 7, space.state.index(), good));
}

#[test]
fn a_member_begins_anew_without_a_ticket_and_a_late_copy_of_that_does_nothing() {
    let mut space = Space::new();
    let admit = |node: &str, nonce, after, ticket: Option<[u8; 32]>| {
        let (peer, node) = (Bytes::copy_from_slice(node.as_bytes()), node.to_owned());
        Command::Admit(Admit { peer, node, nonce: [nonce; 16], ticket, after })
    };
    space.expect(&admit("a", 0, 0, None));
    let issue = IssueTicket { hash: [9; 32], until: 1_000, uses: 9 };
    space.expect(&Command::IssueTicket(issue));
    space.expect(&admit("b", 0, 2, Some([9; 32])));
    let since = space.state.index();
    space.refuses(&admit("c", 1, u64::MAX, None), Refusal::NoTicket);
    space.refuses(&admit("b", 1, since - 1, None), Refusal::NoTicket);
    let (peer, node) = (Bytes::from_static(b"b"), "another".to_owned());
    let renamed = Admit { peer, node, nonce: [1; 16], ticket: None, after: since };
    space.refuses(&Command::Admit(renamed), Refusal::NoTicket);
    // Said twice before either is applied: the second is of a joining that is over.
    let (first, second) = (admit("b", 1, since, None), admit("b", 2, since, None));
    space.expect(&first);
    let (id, member) = space.state.membership().of_peer(b"b").unwrap();
    assert_eq!((id, member.part), (3, Part::Admitted), "it votes as little as any that is new");
    space.refuses(&second, Refusal::NoTicket);
    let again = space.state.apply(0, &first.encode());
    assert!(matches!(again.outcome, Outcome::Committed(_)), "it has joined");
    let removed = [2].into();
    space.expect(&Command::Configure(Configure { removed, ..Configure::default() }));
    assert_eq!(space.state.membership().members().keys().copied().collect::<Vec<_>>(), [1, 3]);
    let removed = [3].into();
    space.expect(&Command::Configure(Configure { removed, ..Configure::default() }));
    space.refuses(&first, Refusal::Removed);
    space.refuses(&second, Refusal::NoTicket);
    // The founder, too, and it is no founder any more.
    space.expect(&admit("a", 1, space.state.index(), None));
    assert_eq!(space.state.membership().of_peer(b"a").unwrap().1.part, Part::Admitted);
}

#[test]
fn a_late_copy_takes_no_newer_ticket_back() {
    let mut space = Space::new();
    let issue = |n| Command::IssueTicket(IssueTicket { hash: [n; 32], until: 1_000, uses: 1 });
    let revoke = |hashes: &[u8], after| Command::RevokeTickets {
        hashes: hashes.iter().map(|n| [*n; 32]).collect(),
        after,
    };
    space.expect(&issue(1));
    let first = space.state.index();
    space.expect(&issue(2));
    for hashes in [&[][..], &[1, 2]] {
        space.expect(&revoke(hashes, first));
        let open: Vec<u8> = space.state.membership().tickets().keys().map(|hash| hash[0]).collect();
        assert_eq!(open, [2], "it was issued later");
    }
    let mut restored = space.restored();
    restored.expect(&revoke(&[], first + 1));
    assert!(restored.state.membership().tickets().is_empty());
}
