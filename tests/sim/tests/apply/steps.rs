//! What happens in a space, at random.

use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeSet;
use synod_core::command::{Admit, Claim, Command, Configure, Declaration, IssueTicket, Mode};
use synod_core::kb::{End, Indicator, Position};
use synod_core::term::Term;
use synod_sim::reference::indicator;
use synod_sim::terms;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A goal runs on an engine's replica; what it proposes waits.
    Run { engine: usize, who: Who, script: Script },
    /// Something else is proposed, and waits.
    Other(Other),
    /// One of the proposals that wait, counted around, is applied at this time.
    Submit(usize, u64),
    /// One that was applied is applied again.
    Again(usize, u64),
    /// Bytes that may be no command are applied.
    Junk(Vec<u8>),
    /// An engine follows what was applied, some way.
    Follow(usize, Index),
    /// A replica begins a snapshot.
    BeginSnapshot(usize),
    /// So many items of it are taken.
    TakeSnapshot(usize),
}

/// What a goal does.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) acts: Vec<Act>,
    /// Whether it says that it read in the future.
    pub(crate) is_early: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    Ask(Term),
    TakeFirst(Term),
    Assert(End, Term),
    Emit(Term),
}

impl Act {
    pub(crate) fn predicate(&self) -> Option<Indicator> {
        match self {
            Self::Ask(term) | Self::TakeFirst(term) | Self::Assert(_, term) => {
                Some(indicator(term))
            }
            Self::Emit(_) => None,
        }
    }
}

/// Whose a transaction is.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    Session {
        which: Index,
        skip: u64,
        behind: u64,
    },
    /// With the letter that is handled, of those that there are; or of none that ever was.
    Agent {
        name: String,
        turn: Turn,
        letter: Option<(Index, bool)>,
    },
}

/// What an agent's command says of itself, relative to what would be right.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) is_old: bool,
    pub(crate) back: u64,
    pub(crate) skip: u64,
    pub(crate) is_elsewhere: bool,
    pub(crate) forward: (u64, u32),
}

/// A command that is no transaction.
#[derive(Clone, Debug)]
pub(crate) enum Other {
    Command(Command),
    /// Of a module's text, with whether it is of one who does not know of the last.
    Publish(String, String, bool),
    /// With whether it is of one who does not know the present epoch.
    Claim(Claim, bool),
    Letter {
        agent: String,
        turn: Turn,
        event: Term,
    },
    Release(String),
    /// All but so many of the first.
    DropLetters(String, u8),
    /// To a generation so far ahead, with this member.
    Recover(u64, u64),
    Checkpoint(Agreed),
}

/// What voters say that the log leads to.
#[derive(Clone, Debug)]
pub(crate) struct Agreed {
    /// Of which of the marks that there are.
    pub(crate) which: Index,
    /// Whether it is of a state that nobody had.
    pub(crate) is_wrong: bool,
    /// Whether it is of a generation that is not the space's.
    pub(crate) is_old: bool,
    /// Voters who have not signed it.
    pub(crate) silent: BTreeSet<u64>,
    /// Who has signed it besides, be it a voter or not.
    pub(crate) other: Option<u64>,
    /// Whether one of them signed by another key.
    pub(crate) is_forged: bool,
}

/// A session, an agent and a founder, so that most of what follows can commit.
pub(crate) fn beginning() -> Vec<Step> {
    let open = Command::OpenSession { label: "a client".to_owned(), nonce: [0; 16] };
    let claim = Claim {
        agent: "a".to_owned(),
        node: "x".to_owned(),
        program: [0; 32],
        mode: Mode::One,
        after: 0,
        declared: Vec::new(),
    };
    let (peer, node) = (vec![0].into(), "node 0".to_owned());
    let admit = Command::Admit(Admit { peer, node, nonce: [0; 16], ticket: None, after: 0 });
    let mut steps = vec![
        Step::Other(Other::Command(open)),
        Step::Other(Other::Claim(claim, false)),
        Step::Other(Other::Command(admit)),
    ];
    steps.extend([Step::Submit(0, 1000), Step::Submit(0, 1000), Step::Submit(0, 1000)]);
    steps
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..3usize, who(), script())
            .prop_map(|(engine, who, script)| Step::Run { engine, who, script }),
        2 => other().prop_map(Step::Other),
        14 => (0..64usize, time()).prop_map(|(which, time)| Step::Submit(which, time)),
        3 => (0..64usize, time()).prop_map(|(which, time)| Step::Again(which, time)),
        1 => prop::collection::vec(any::<u8>(), 0..12).prop_map(Step::Junk),
        5 => (0..3usize, any::<Index>()).prop_map(|(engine, far)| Step::Follow(engine, far)),
        1 => (0..3usize).prop_map(Step::BeginSnapshot),
        4 => (1..5usize).prop_map(Step::TakeSnapshot),
    ]
}

/// Clocks of leaders, which need not agree.
fn time() -> impl Strategy<Value = u64> {
    1000u64..2000
}

fn script() -> impl Strategy<Value = Script> {
    let end = prop_oneof![1 => Just(End::First), 2 => Just(End::Last)];
    let act = prop_oneof![
        3 => terms::goal().prop_map(Act::Ask),
        3 => terms::goal().prop_map(Act::TakeFirst),
        5 => (end, terms::fact()).prop_map(|(end, fact)| Act::Assert(end, fact)),
        1 => terms::argument().prop_map(Act::Emit),
    ];
    (prop::collection::vec(act, 0..6), prop::bool::weighted(0.01))
        .prop_map(|(acts, is_early)| Script { acts, is_early })
}

fn who() -> impl Strategy<Value = Who> {
    let mostly =
        |usual: u64, range: std::ops::Range<u64>| prop_oneof![8 => Just(usual), 1 => range];
    prop_oneof![
        3 => (any::<Index>(), mostly(0, 0..9000), mostly(1, 0..5000))
            .prop_map(|(which, skip, behind)| Who::Session { which, skip, behind }),
        2 => (agent(), turn(), letter())
            .prop_map(|(name, turn, letter)| Who::Agent { name, turn, letter }),
    ]
}

fn letter() -> impl Strategy<Value = Option<(Index, bool)>> {
    prop_oneof![3 => Just(None), 1 => (any::<Index>(), prop::bool::weighted(0.1)).prop_map(Some)]
}

fn turn() -> impl Strategy<Value = Turn> {
    let rarely = || prop::bool::weighted(0.05);
    let forward = prop_oneof![2 => Just((0, 0)), 2 => (0..4u64, 0..3u32)];
    (rarely(), rarely(), rarely(), rarely(), forward).prop_map(
        |(is_old, back, skip, is_elsewhere, forward)| Turn {
            is_old,
            back: u64::from(back),
            skip: u64::from(skip),
            is_elsewhere,
            forward,
        },
    )
}

fn agent() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just("a".to_owned()), 1 => Just("b".to_owned())]
}

fn other() -> impl Strategy<Value = Other> {
    let open =
        (0..2u8).prop_map(|n| Command::OpenSession { label: "b".to_owned(), nonce: [n; 16] });
    let publish = (0..3u8, any::<bool>()).prop_map(|(n, is_late)| {
        Other::Publish(format!("m{}", n / 2), format!("p({n})."), is_late)
    });
    prop_oneof![
        2 => open.prop_map(Other::Command),
        1 => publish,
        4 => (claim(), any::<bool>()).prop_map(|(claim, is_late)| Other::Claim(claim, is_late)),
        3 => (agent(), turn(), terms::argument())
            .prop_map(|(agent, turn, event)| Other::Letter { agent, turn, event }),
        1 => agent().prop_map(Other::Release),
        1 => (agent(), 0..2u8).prop_map(|(agent, keep)| Other::DropLetters(agent, keep)),
        1 => agent().prop_map(|agent| {
            let positions = vec![Position { index: 3, n: 0 }];
            Other::Command(Command::DropLetters { agent, positions })
        }),
        6 => membership(),
        4 => agreed().prop_map(Other::Checkpoint),
    ]
}

fn agreed() -> impl Strategy<Value = Agreed> {
    let rarely = || prop::bool::weighted(0.1);
    let silent = prop::collection::btree_set(1..6u64, 0..2);
    let other = prop::option::weighted(0.1, 1..6u64);
    (any::<Index>(), prop::bool::weighted(0.3), rarely(), silent, other, rarely()).prop_map(
        |(which, is_wrong, is_old, silent, other, is_forged)| Agreed {
            which,
            is_wrong,
            is_old,
            silent,
            other,
            is_forged,
        },
    )
}

/// Of a handful of nodes, names, tickets and ids, so that they meet.
fn membership() -> impl Strategy<Value = Other> {
    let hash = || (0..2u8).prop_map(|n| [n; 32]);
    let ids = || prop::collection::btree_set(1..6u64, 0..3);
    let after = || prop_oneof![2 => Just(0), 1 => 0..60u64];
    let admit = (0..3u8, 0..6u8, 0..6u8, prop::option::weighted(0.9, hash()), after()).prop_map(
        |(peer, name, nonce, ticket, after)| {
            // Mostly its own name.
            let node = format!("node {}", if name < 3 { name } else { peer });
            let (peer, nonce) = (vec![peer].into(), [nonce; 16]);
            Command::Admit(Admit { peer, node, nonce, ticket, after })
        },
    );
    // Some are over before others, by the clocks of leaders.
    let issue = (hash(), 1200..2500u64, 0..4u32)
        .prop_map(|(hash, until, uses)| Command::IssueTicket(IssueTicket { hash, until, uses }));
    let after = prop_oneof![Just(u64::MAX), 0..60u64];
    let revoke = (prop::collection::vec(hash(), 0..2), after)
        .prop_map(|(hashes, after)| Command::RevokeTickets { hashes, after });
    let removed = || prop::collection::btree_set(1..6u64, 0..2);
    let configure = (ids(), ids(), removed()).prop_map(|(voters, learners, removed)| {
        Command::Configure(Configure { voters, learners, removed })
    });
    prop_oneof![
        6 => admit.prop_map(Other::Command),
        4 => issue.prop_map(Other::Command),
        1 => revoke.prop_map(Other::Command),
        2 => configure.prop_map(Other::Command),
        1 => (0..3u64, 1..6u64).prop_map(|(ahead, voter)| Other::Recover(ahead, voter)),
    ]
}

fn claim() -> impl Strategy<Value = Claim> {
    let declared = prop::collection::vec(
        (prop::sample::select(terms::PREDICATES), prop::collection::vec(1..4u32, 0..3)),
        0..3,
    );
    (agent(), 0..2u8, any::<bool>(), declared).prop_map(|(agent, n, is_each, declared)| Claim {
        agent,
        node: format!("node {n}"),
        program: [n; 32],
        mode: if is_each { Mode::Each } else { Mode::One },
        after: 0,
        declared: declared
            .into_iter()
            .map(|((name, arity), keys)| Declaration {
                predicate: Indicator::new(name, arity as u32),
                keys,
            })
            .collect(),
    })
}
