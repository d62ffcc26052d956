use super::*;
use crate::apply::State;
use crate::command::{Admit, Batch, Command, Configure, IssueTicket, Recover, Tag};
use crate::order::Input as ToRaft;

type Machine = Coordinator<&'static str, &'static str>;
type Told = Action<&'static str, &'static str>;

const BOOT: u64 = 77;

/// What Raft says, as a test wants it.
struct Says {
    role: Role,
    leader: Option<u64>,
    members: Members,
}

impl Standing for Says {
    fn role(&self) -> Role {
        self.role
    }

    fn leader(&self) -> Option<u64> {
        self.leader
    }

    fn members(&self) -> &Members {
        &self.members
    }

    fn last(&self) -> u64 {
        10
    }

    fn progress(&self) -> Vec<Progress> {
        let others = self.members.voters.iter().filter(|id| **id != 1);
        others.map(|&id| Progress { id, matched: 10, active: true }).collect()
    }
}

/// Member 1 of a space of three voters, with a fourth that was admitted and is not in Raft yet.
struct Node {
    machine: Machine,
    own: Proposals<&'static str>,
    raft: Says,
    state: State,
    now: Time,
}

impl Node {
    fn new(role: Role, leader: Option<u64>) -> Self {
        let mut state = State::new([1; 32]);
        let mut apply = |command: Command| drop(state.apply(0, &command.encode()));
        for n in 1..=4u8 {
            let (peer, node) = (peer(n.into()), format!("node {n}"));
            let ticket = (n > 1).then_some([5; 32]);
            apply(Command::Admit(Admit { peer, node, nonce: [n; 16], ticket, after: 0 }));
            apply(Command::IssueTicket(IssueTicket { hash: [5; 32], until: 9, uses: 99 }));
        }
        let me = Identity {
            member: 1,
            peer: peer(1),
            boot: BOOT,
            generation: 0,
            contacts: BTreeMap::new(),
        };
        Self {
            machine: Coordinator::new(me, 10),
            own: Proposals::default(),
            raft: Says { role, leader, members: Members::of_voters([1, 2, 3]) },
            state,
            now: Time::from_millis(1),
        }
    }

    fn tell(&mut self, input: Input<&'static str, &'static str>) -> Vec<Told> {
        let Self { machine, own, raft, state, now } = self;
        let membership = state.membership();
        let mut scene = Scene { now: *now, wall: 123, raft, membership, own };
        machine.handle(&mut scene, input);
        std::iter::from_fn(|| self.machine.poll_action()).collect()
    }

    fn propose(&mut self, command: u8, who: &'static str) {
        assert!(self.tell(Input::Propose(vec![command].into(), who)).is_empty());
    }

    fn frame(&mut self, from: u64, frame: Frame) -> Vec<Told> {
        self.tell(Input::Frame { peer: peer(from), frame, with_snapshot: false })
    }

    fn leads(&mut self, role: Role, leader: Option<u64>, term: u64) -> Vec<Told> {
        (self.raft.role, self.raft.leader) = (role, leader);
        self.tell(Input::Role { role, term, leader })
    }
}

fn peer(member: u64) -> Bytes {
    format!("peer {member}").into()
}

fn commands(of: &[u8]) -> Vec<Bytes> {
    of.iter().map(|&n| vec![n].into()).collect()
}

fn give(boot: u64, giving: u64, first: u64, of: &[u8]) -> Frame {
    Frame::Propose { boot, giving, first, commands: commands(of) }
}

/// What goes to Raft, with its ticket; nothing else may be done. What another member gave is hurried.
fn batches(mut actions: Vec<Told>) -> Vec<(u64, Batch)> {
    let is_hurry = |action: &Told| matches!(action, Action::Raft(ToRaft::Hurry));
    let hurried = actions.extract_if(.., |action| is_hurry(action)).count();
    let batches = batches_of(actions);
    let is_foreign = |(_, batch): &&(u64, Batch)| batch.tags.iter().any(|tag| tag.member != 1);
    assert_eq!(hurried, batches.iter().filter(is_foreign).count());
    batches
}

fn batches_of(actions: Vec<Told>) -> Vec<(u64, Batch)> {
    let batch = |action| match action {
        Action::Raft(ToRaft::Propose { ticket, data }) => (ticket, Batch::decode(&data).unwrap()),
        other => panic!("{other:?}"),
    };
    actions.into_iter().map(batch).collect()
}

fn frames(actions: Vec<Told>) -> Vec<(Bytes, Frame)> {
    let frame = |action| match action {
        Action::Send { peer, frame, .. } => (peer, frame),
        other => panic!("{other:?}"),
    };
    actions.into_iter().map(frame).collect()
}

fn answers(actions: Vec<Told>) -> Vec<(&'static str, Result<(), String>)> {
    let answer = |action| match action {
        Action::Answer(who, result) => (who, result),
        other => panic!("{other:?}"),
    };
    actions.into_iter().map(answer).collect()
}

fn tag(place: u32, count: u32, member: u64, boot: u64, first: u64) -> Tag {
    Tag { place, count, member, boot, first }
}

#[test]
fn a_leader_makes_one_batch_of_what_came_together_and_tags_whose_it_is() {
    let mut node = Node::new(Role::Leader, Some(1));
    node.propose(10, "a");
    assert!(node.frame(2, give(5, 1, 40, &[20, 21])).is_empty());
    node.propose(11, "b");
    let got = batches(node.tell(Input::Give));
    let [(_, batch)] = &got[..] else { panic!("{got:?}") };
    assert_eq!((batch.time, &batch.commands), (123, &commands(&[20, 21, 10, 11])));
    assert_eq!(batch.tags, [tag(0, 2, 2, 5, 40), tag(2, 2, 1, BOOT, 1)]);
    assert!(node.tell(Input::Give).is_empty(), "each is given once");
}

#[test]
fn what_raft_did_not_take_goes_back_to_whose_it_is() {
    let mut node = Node::new(Role::Leader, Some(1));
    node.propose(10, "a");
    node.frame(2, give(5, 1, 40, &[20, 21]));
    let (ticket, _) = batches(node.tell(Input::Give)).remove(0);
    let mut actions = node.tell(Input::Dropped(ticket, Why::Busy));
    assert!(matches!(actions.pop(), Some(Action::Ended("a", Unseen::Busy))));
    let dropped = Frame::Dropped { boot: 5, giving: 1, first: 40, count: 2, why: Dropped::Busy };
    assert_eq!(frames(actions), [(peer(2), dropped)]);
    assert!(node.tell(Input::Dropped(ticket, Why::Busy)).is_empty(), "told once");
}

#[test]
fn others_may_have_so_much_waiting_and_one_run_at_least() {
    let mut node = Node::new(Role::Leader, Some(1));
    assert!(node.frame(2, give(5, 1, 1, &[0; 11])).is_empty(), "alone it may be larger");
    let told = frames(node.frame(3, give(6, 1, 1, &[20])));
    let dropped = Frame::Dropped { boot: 6, giving: 1, first: 1, count: 1, why: Dropped::Busy };
    assert_eq!(told, [(peer(3), dropped)]);
    assert_eq!(batches(node.tell(Input::Give)).len(), 1);
    assert!(node.frame(3, give(6, 2, 1, &[20])).is_empty(), "there is room again");
}

#[test]
fn who_does_not_lead_gives_to_the_leader_and_gives_back_what_it_was_given() {
    let mut node = Node::new(Role::Follower, None);
    node.propose(10, "a");
    assert!(node.tell(Input::Give).is_empty(), "nobody leads");
    let told = frames(node.frame(3, give(6, 1, 1, &[20])));
    let dropped = |giving, first| Frame::Dropped {
        boot: 6,
        giving,
        first,
        count: 1,
        why: Dropped::NotLeader,
    };
    assert_eq!(told, [(peer(3), dropped(1, 1))]);
    node.leads(Role::Follower, Some(2), 3);
    let given = |giving| [(peer(2), give(BOOT, giving, 1, &[10]))];
    assert_eq!(frames(node.tell(Input::Give)), given(1));
    // It did not get there: the next leader is given it.
    node.tell(Input::NotSent(give(BOOT, 1, 1, &[10])));
    assert!(node.tell(Input::Give).is_empty());
    node.leads(Role::Follower, Some(2), 4);
    assert_eq!(frames(node.tell(Input::Give)), given(2));
    // What it was given as a leader, and has not put into the log, is not its to give any more.
    node.leads(Role::Leader, Some(1), 5);
    node.frame(3, give(6, 2, 9, &[20]));
    node.leads(Role::Follower, Some(2), 6);
    let told = frames(node.tell(Input::Give));
    assert_eq!(told, [(peer(3), dropped(2, 9)), (peer(2), give(BOOT, 3, 1, &[10]))]);
}

#[test]
fn a_dropped_run_of_an_earlier_start_of_this_node_is_none_of_its() {
    let mut node = Node::new(Role::Follower, Some(2));
    node.propose(10, "a");
    node.tell(Input::Give);
    let dropped =
        |boot| Frame::Dropped { boot, giving: 1, first: 1, count: 1, why: Dropped::TooLarge };
    assert!(node.frame(2, dropped(BOOT - 1)).is_empty());
    let told = node.frame(2, dropped(BOOT));
    assert!(matches!(told[..], [Action::Ended("a", Unseen::TooLarge)]), "{told:?}");
}

#[test]
fn a_proposal_ends_in_time_and_it_is_said_whether_it_can_be_in_the_log() {
    let mut node = Node::new(Role::Follower, None);
    node.propose(10, "never given");
    node.now = node.now + PATIENCE;
    let told = node.tell(Input::Tick);
    assert!(matches!(told[..], [Action::Ended("never given", Unseen::NoQuorum)]), "{told:?}");
    node.leads(Role::Follower, Some(2), 2);
    node.propose(11, "given");
    node.tell(Input::Give);
    node.now = node.now + PATIENCE;
    let told = node.tell(Input::Tick);
    assert!(matches!(told[0], Action::Ended("given", Unseen::Unknown)), "{told:?}");
}

#[test]
fn a_leader_that_was_not_replaced_puts_into_the_log_what_waited_for_that() {
    let mut node = Node::new(Role::Leader, Some(1));
    let told = node.tell(Input::Ask(Ask::Transfer(2), "transfer"));
    assert!(matches!(told[..], [Action::Raft(ToRaft::Transfer { to: 2 })]), "{told:?}");
    let again = answers(node.tell(Input::Ask(Ask::Transfer(3), "again")));
    assert!(again[0].1.as_ref().is_err_and(|why| why.contains("already")), "{again:?}");
    node.propose(10, "a");
    let (ticket, _) = batches(node.tell(Input::Give)).remove(0);
    assert!(node.tell(Input::Dropped(ticket, Why::Transferring)).is_empty());
    assert!(node.tell(Input::Give).is_empty(), "it waits for whoever leads next");
    node.raft.members = Members::of_voters([1, 2, 3, 4]);
    node.now = node.now + Duration::from_secs(3);
    let mut told = node.tell(Input::Tick);
    let Action::Answer("transfer", Err(why)) = told.remove(0) else { panic!("{told:?}") };
    assert!(why.contains("in time"), "{why}");
    assert_eq!(batches(told)[0].1.commands, commands(&[10]));
}

#[test]
fn who_was_to_lead_leads_and_what_waited_is_given_to_it() {
    let mut node = Node::new(Role::Leader, Some(1));
    node.tell(Input::Ask(Ask::Transfer(2), "transfer"));
    node.propose(10, "a");
    let (ticket, _) = batches(node.tell(Input::Give)).remove(0);
    node.tell(Input::Dropped(ticket, Why::Transferring));
    let told = node.leads(Role::Follower, Some(2), 2);
    assert_eq!(answers(told), [("transfer", Ok(()))]);
    assert_eq!(frames(node.tell(Input::Give)), [(peer(2), give(BOOT, 2, 1, &[10]))]);
}

#[test]
fn a_change_that_raft_knows_nothing_of_goes_into_the_log_once() {
    let mut node = Node::new(Role::Leader, Some(1));
    let got = batches(node.tell(Input::Ask(Ask::Remove(4), "remove")));
    let [(ticket, batch)] = &got[..] else { panic!("{got:?}") };
    let Ok(Command::Configure(configure)) = Command::decode(&batch.commands[0]) else {
        panic!("{batch:?}")
    };
    assert_eq!((configure.removed, batch.tags.len()), ([4].into(), 0));
    assert!(node.own.is_empty(), "it is no proposal, which would be given again");
    node.tell(Input::Appended { ticket: *ticket, term: 2, index: 11 });
    assert!(node.tell(Input::Committed { index: 10, term: 2 }).is_empty());
    let told = node.tell(Input::Committed { index: 11, term: 2 });
    assert_eq!(answers(told), [("remove", Ok(()))]);
}

#[test]
fn a_change_is_answered_when_it_is_decided_and_not_as_done_if_another_leads() {
    let mut node = Node::new(Role::Leader, Some(1));
    let told = node.tell(Input::Ask(Ask::Remove(3), "remove"));
    let [Action::Raft(ToRaft::ChangeMembers { ticket, changes, .. })] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(changes, &[order::Change::Remove(3)]);
    node.tell(Input::Appended { ticket: *ticket, term: 2, index: 11 });
    let told = node.tell(Input::Committed { index: 11, term: 3 });
    assert!(matches!(&told[..], [Action::Answer("remove", Err(_))]), "{told:?}");
    // A member that asks is told by a frame.
    let number = 9;
    let told = node.frame(2, Frame::Ask { boot: 5, number, ask: Ask::Remove(3) });
    let [Action::Raft(ToRaft::ChangeMembers { ticket, .. })] = told[..] else { panic!("{told:?}") };
    let why = Why::Members("no".to_owned());
    let told = frames(node.tell(Input::Dropped(ticket, why)));
    let answer = Frame::Answer { boot: 5, number, why: Some("members: no".to_owned()) };
    assert_eq!(told, [(peer(2), answer)]);
}

#[test]
fn the_steward_waits_for_a_change_that_stands_in_the_log() {
    let mut node = Node::new(Role::Leader, Some(1));
    let told = node.tell(Input::Ask(Ask::Remove(3), "remove"));
    let [Action::Raft(ToRaft::ChangeMembers { ticket, .. })] = told[..] else { panic!("{told:?}") };
    node.tell(Input::Appended { ticket, term: 2, index: 11 });
    assert!(node.tell(Input::MembersApplied).is_empty());
    let told = node.leads(Role::Follower, None, 3);
    assert!(matches!(&told[..], [Action::Answer("remove", Err(_))]), "{told:?}");
    node.leads(Role::Leader, Some(1), 4);
    let told = node.tell(Input::MembersApplied);
    let [Action::Raft(ToRaft::ChangeMembers { changes, .. })] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(changes, &[order::Change::Learner(4)]);
}

#[test]
fn a_wish_goes_to_the_leader_and_its_answer_back_to_who_wished() {
    let mut node = Node::new(Role::Follower, Some(2));
    let ask = Ask::Promote(4);
    let told = frames(node.tell(Input::Ask(ask, "first")));
    assert_eq!(told, [(peer(2), Frame::Ask { boot: BOOT, number: 1, ask })]);
    node.tell(Input::Ask(ask, "second"));
    node.tell(Input::Ask(ask, "third"));
    let told = node.frame(2, Frame::Answer { boot: BOOT, number: 1, why: None });
    assert_eq!(answers(told), [("first", Ok(()))]);
    assert!(node.frame(2, Frame::Answer { boot: BOOT, number: 1, why: None }).is_empty());
    let told = answers(node.tell(Input::NotSent(Frame::Ask { boot: BOOT, number: 2, ask })));
    assert!(told[0].0 == "second" && told[0].1.is_err(), "{told:?}");
    node.now = node.now + Duration::from_secs(5);
    let told = answers(node.tell(Input::Tick));
    assert!(told.len() == 1 && told[0].0 == "third" && told[0].1.is_err(), "{told:?}");
    // Another member's wish is not passed on a second time.
    let told = frames(node.frame(3, Frame::Ask { boot: 6, number: 4, ask }));
    assert!(
        matches!(&told[..], [(_, Frame::Answer { boot: 6, number: 4, why: Some(_) })]),
        "{told:?}"
    );
}

#[test]
fn a_peer_speaks_for_itself_alone_and_a_stranger_for_nobody() {
    let mut node = Node::new(Role::Leader, Some(1));
    let refused = |told: Vec<Told>| matches!(told[..], [Action::Refused(_)]);
    let stranger =
        Input::Frame { peer: "somebody".into(), frame: give(1, 1, 1, &[20]), with_snapshot: false };
    assert!(refused(node.tell(stranger)));
    assert!(refused(node.frame(2, Frame::Raft(vec![1, 2, 3].into()))));
    let membership = node.state.membership();
    let may_be =
        |machine: &mut Machine, member, from: &Bytes| machine.may_be(membership, member, from);
    assert!(may_be(&mut node.machine, 2, &peer(2)));
    assert!(!may_be(&mut node.machine, 2, &peer(3)));
    // Who joined later than this node knows may speak, and then nobody else for it.
    assert!(may_be(&mut node.machine, 9, &peer(9)));
    assert!(!may_be(&mut node.machine, 9, &peer(8)));
}

#[test]
fn who_has_not_been_heard_of_lately_is_not_active() {
    let mut node = Node::new(Role::Leader, Some(1));
    node.leads(Role::Leader, Some(1), 2);
    let active = |node: &mut Node| -> Vec<u64> {
        let Node { machine, own, raft, state, now } = node;
        let membership = state.membership();
        let scene = Scene { now: *now, wall: 0, raft, membership, own };
        machine.progress(&scene).iter().filter(|p| p.active).map(|p| p.id).collect()
    };
    assert_eq!(active(&mut node), [2, 3]);
    node.now = node.now + Duration::from_secs(1);
    assert_eq!(active(&mut node), [0; 0]);
    assert_eq!(node.machine.silent(2, node.now), Duration::from_secs(1));
}

#[test]
fn a_frame_that_comes_twice_is_taken_once_and_answered_once() {
    let mut node = Node::new(Role::Leader, Some(1));
    // Were the second refused for want of room, its giver would take it for certain that it is nowhere.
    node.frame(2, give(5, 1, 1, &[0; 11]));
    assert!(node.frame(2, give(5, 1, 1, &[0; 11])).is_empty());
    assert_eq!(batches(node.tell(Input::Give)).len(), 1);
    assert!(node.frame(2, give(5, 1, 1, &[0; 11])).is_empty());
    assert!(node.tell(Input::Give).is_empty(), "it is in the log already");
    // Nor does one who leads no longer say that it has not been taken.
    node.leads(Role::Follower, None, 2);
    assert!(node.frame(2, give(5, 1, 1, &[0; 11])).is_empty());
    assert_eq!(node.frame(2, give(5, 2, 1, &[0; 11])).len(), 1);
    // A wish is granted once.
    node.leads(Role::Leader, Some(1), 3);
    let ask = || Frame::Ask { boot: 5, number: 1, ask: Ask::Transfer(2) };
    assert_eq!(node.frame(2, ask()).len(), 1);
    assert!(node.frame(2, ask()).is_empty(), "it is under way, and not refused for that");
}

/// Node 4 has been removed, as the others know and it does not.
fn removed() -> Node {
    let mut node = Node::new(Role::Leader, Some(1));
    let configure = Configure { removed: [4].into(), ..Configure::default() };
    node.state.apply(0, &Command::Configure(configure).encode());
    node
}

#[test]
fn who_was_removed_and_does_not_know_is_told_but_not_at_each_frame() {
    let mut node = removed();
    let at = node.state.index();
    let told = frames(node.tell(Input::Found(peer(4))));
    assert_eq!(told, [(peer(4), Frame::Removed { member: 4, at })]);
    assert!(node.tell(Input::Found(peer(4))).is_empty(), "it was told just now");
    assert!(node.tell(Input::Found(peer(2))).is_empty(), "a member");
    node.now = node.now + Duration::from_secs(1);
    assert!(node.tell(Input::Found("somebody".into())).is_empty(), "a stranger");
    assert_eq!(frames(node.tell(Input::Found(peer(4)))).len(), 1);
}

#[test]
fn who_is_told_by_a_member_that_it_was_removed_takes_no_more_proposals() {
    let mut node = Node::new(Role::Follower, Some(2));
    node.propose(10, "given");
    node.tell(Input::Give);
    node.propose(11, "waits");
    let stranger = Input::Frame {
        peer: "somebody".into(),
        frame: Frame::Removed { member: 1, at: 9 },
        with_snapshot: false,
    };
    assert!(matches!(node.tell(stranger)[..], [Action::Refused(_)]));
    assert!(node.frame(2, Frame::Removed { member: 3, at: 9 }).is_empty(), "another");
    let told = node.frame(2, Frame::Removed { member: 1, at: 9 });
    assert!(
        matches!(
            told[..],
            [
                Action::Removed(9),
                Action::Ended("given", Unseen::Unknown),
                Action::Ended("waits", Unseen::Removed),
            ]
        ),
        "{told:?}"
    );
    assert!(node.frame(3, Frame::Removed { member: 1, at: 9 }).is_empty(), "it knows");
    let told = node.tell(Input::Propose(vec![12].into(), "later"));
    assert!(matches!(told[..], [Action::Ended("later", Unseen::Removed)]), "{told:?}");
}

#[test]
fn a_node_that_sees_its_removal_applied_knows_it_too() {
    let mut node = Node::new(Role::Follower, Some(2));
    let configure = Configure { removed: [1].into(), ..Configure::default() };
    node.state.apply(0, &Command::Configure(configure).encode());
    let at = node.state.index();
    let told = node.tell(Input::MembersApplied);
    assert!(matches!(told[..], [Action::Removed(index)] if index == at), "{told:?}");
}

#[test]
fn who_hears_that_the_space_has_gone_on_acknowledges_nothing_more_and_does_not_vote() {
    let mut node = Node::new(Role::Leader, Some(1));
    node.propose(10, "given");
    node.tell(Input::Give);
    node.propose(11, "waits");
    assert!(node.frame(2, Frame::Recovered { generation: 0 }).is_empty(), "that is its own");
    // Whoever has the key may say so: it need be no member here.
    let told = node.frame(9, Frame::Recovered { generation: 2 });
    assert!(
        matches!(
            told[..],
            [
                Action::GoneOn(2),
                Action::Raft(ToRaft::Mute),
                Action::Ended("given", Unseen::Unknown),
                Action::Ended("waits", Unseen::GoneOn(2)),
            ]
        ),
        "{told:?}"
    );
    assert!(node.machine.is_told_out());
    assert!(
        node.frame(3, Frame::Recovered { generation: 1 }).is_empty(),
        "it knows of a later one"
    );
    let told = node.tell(Input::Propose(vec![12].into(), "later"));
    assert!(matches!(told[..], [Action::Ended("later", Unseen::GoneOn(2))]), "{told:?}");
}

#[test]
fn who_goes_on_alone_goes_on_though_its_log_removes_it_on_the_way() {
    let mut node = Node::new(Role::Follower, None);
    node.machine.recovered(1);
    let configure = Configure { removed: [1].into(), ..Configure::default() };
    node.state.apply(0, &Command::Configure(configure).encode());
    assert!(node.tell(Input::MembersApplied).is_empty(), "it has not come to where it goes on");
    let (node_name, dropped, words) = (String::new(), BTreeMap::new(), String::new());
    let recover = Recover { generation: 1, voter: 1, node: node_name, dropped, words };
    node.state.apply(0, &Command::Recover(recover).encode());
    assert!(node.tell(Input::MembersApplied).is_empty());
    assert_eq!(node.state.membership().members().keys().collect::<Vec<_>>(), [&1]);
    // Removed by what comes behind that, it is.
    let configure = Configure { removed: [1].into(), ..Configure::default() };
    node.state.apply(0, &Command::Configure(configure).encode());
    assert!(matches!(node.tell(Input::MembersApplied)[..], [Action::Removed(_)]));
}
