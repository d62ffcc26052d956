//! Below the place at which an observer was let in.

use super::*;

/// A space, another that went apart from it early and has gone farther, and one that was let into the first.
fn forked() -> (Space, Space, Follower) {
    let (mut space, mut other) = (Space::new(), Space::new());
    space.write(3);
    other.commit(&[Command::RevokeTickets { hashes: vec![[8; 32]], after: 0 }]);
    other.write(9);
    let follower = Follower::let_in_at(space.places[space.last() as usize]);
    space.write(2);
    other.said = 1000;
    (space, other, follower)
}

#[test]
fn a_voter_with_an_old_folder_leads_nobody_away() {
    let (mut space, mut other, mut follower) = forked();
    let (begun, last, theirs) = (5, space.last(), other.last());
    // What it gossips is not written, though a voter signed it.
    let all = other.piece(3, 0, theirs);
    follower.hear(&all);
    assert_eq!(follower.at(), 0);
    // Nor is what it answers, once it has said that it knows nothing of the place.
    follower.reach(&[], &[3]);
    follower.pass(30);
    follower.answer(Fetched::Answer(Answer::Apart));
    assert_eq!(follower.blamed.len(), 1);
    follower.reach(&[20], &[3]);
    follower.pass(30);
    assert!(follower.fetches.is_empty(), "an observer may have it from that one");
    // Another shows that it has come by there: what it signed is taken, and nothing else.
    follower.vouch(&mut space, 2);
    for before in [0, begun] {
        let piece = other.piece(3, before, theirs);
        follower.answer(Fetched::Answer(Answer::Piece(piece)));
        assert_eq!(follower.at(), 0);
        follower.pass(600);
    }
    follower.answer(Fetched::Answer(Answer::Gone));
    let snapshot = other.head(3, theirs);
    follower.answer(Fetched::Snapshot(snapshot, 1));
    assert!(follower.installed.is_empty());
    follower.hear(&all);
    follower.pass(600);
    let piece = space.piece(2, 0, begun);
    follower.answer(Fetched::Answer(Answer::Piece(piece)));
    let piece = space.piece(2, begun, last);
    follower.answer(Fetched::Answer(Answer::Piece(piece)));
    assert_eq!(follower.state.digest(), space.state.digest());
    assert_eq!(follower.machine.status(follower.now).trouble, None);
}

#[test]
fn nothing_that_comes_by_another_way_is_written_beyond_the_place() {
    let (mut space, mut other, mut follower) = forked();
    let last = space.last();
    // It gives what was never there, and shows a true end.
    follower.vouch(&mut space, 3);
    let piece = other.piece(3, 0, 6);
    follower.answer(Fetched::Answer(Answer::Piece(piece)));
    let reached = follower.at();
    assert!(reached < follower.machine.vouching.anchor().place.at.index);
    for to in [last - 2, last] {
        follower.pass(61_000);
        let piece = other.piece(3, reached, to);
        follower.answer(Fetched::Answer(Answer::Piece(piece)));
        assert_eq!(follower.at(), reached);
    }
    follower.pass(61_000);
    let head = other.head(3, last - 2);
    follower.answer(Fetched::Answer(Answer::Gone));
    follower.answer(Fetched::Snapshot(head, 1));
    assert!(follower.installed.is_empty());
    // And is told so by whoever has the space.
    follower.pass(61_000);
    follower.answer(Fetched::Answer(Answer::Apart));
    assert_eq!(follower.machine.status(follower.now).trouble, Some(Trouble::Apart));
}

#[test]
fn that_no_voter_has_come_by_there_is_said_once_it_goes_on() {
    let (mut space, _, mut follower) = forked();
    let trouble = |follower: &Follower| follower.machine.status(follower.now).trouble;
    follower.reach(&[], &[2]);
    follower.answer(Fetched::Answer(Answer::Gone));
    follower.pass(29_000);
    assert_eq!(trouble(&follower), None);
    follower.pass(2_000);
    assert_eq!(trouble(&follower), Some(Trouble::Unvouched));
    let short = space.piece(2, 2, 3);
    follower.answer(Fetched::Answer(Answer::Piece(short)));
    assert_eq!(trouble(&follower), Some(Trouble::Unvouched), "that voter is behind");
    follower.pass(600);
    follower.vouch(&mut space, 2);
    assert_eq!(trouble(&follower), None);
}
