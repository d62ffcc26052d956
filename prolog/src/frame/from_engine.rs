//! The engine's frames.

use super::shared::Level;
use super::wire::{wire_enum, wire_struct};

wire_enum! {
    /// A frame from an engine to the node.
    pub enum FromEngine {
        /// The program is loaded.
        0 => Loaded {
            /// Its replicated predicates.
            declared: Vec<Declaration>,
            /// One instance in the space, or one a node.
            mode: Mode,
            /// Whether the log is to tell of all that the agent handles and sends.
            records: bool,
            /// Whether it may have a clause for datagrams that are events.
            datagrams: bool,
            /// What the check pass and the load had to say, errors excepted.
            warnings: Vec<Problem>,
            /// What the program printed while it was loaded.
            output: Vec<u8>,
        },
        /// The program cannot be loaded. The engine ends.
        1 => NotLoaded {
            /// All that is wrong with it.
            problems: Vec<Problem>,
            /// What the program printed while it was loaded.
            output: Vec<u8>,
        },
        /// Asks for what changed since a version.
        2 => Pull {
            /// The version that the engine is at.
            since: u64,
        },
        /// Asks for the next batch of triggers.
        3 => Next,
        /// Proposes what a run read, wrote and wants done.
        4 => Propose {
            /// Repeated in `Outcome`.
            proposal: u64,
            /// What ran.
            run: Run,
            /// An encoded `synod_core::transaction::Draft`.
            draft: Vec<u8>,
            /// To be done once it is committed, in order.
            effects: Vec<Effect>,
        },
        /// A run that wrote nothing and whose triggers have no position. Not answered.
        5 => Effects {
            /// What ran.
            run: Run,
            /// To be done at once, in order.
            effects: Vec<Effect>,
        },
        /// Answers of a goal.
        6 => Answers {
            /// The goal.
            id: u64,
            /// In order.
            answers: Vec<Answer>,
            /// What comes after them.
            end: End,
            /// What the goal printed since the last frame.
            output: Vec<u8>,
            /// The version of the knowledge base that they speak of.
            at: u64,
        },
        /// Solves a goal in another agent.
        7 => Call {
            /// Chosen by the engine.
            call: u64,
            /// The agent's name.
            agent: String,
            /// The encoded goal.
            goal: Vec<u8>,
            /// The most answers in one `CallAnswers`.
            chunk: u32,
            /// Milliseconds to wait for an answer; 0 is the node's default.
            timeout_ms: u64,
        },
        /// Asks for further answers of a call.
        8 => CallMore {
            /// The call.
            call: u64,
        },
        /// Wants no further answers of a call. Not answered.
        9 => CallClose {
            /// The call.
            call: u64,
        },
        /// Asks the node something; it answers `Reply`.
        10 => Ask {
            /// What.
            ask: Ask,
        },
        /// The engine should be replaced before the next batch.
        11 => Renew {
            /// Why.
            why: Renewal,
        },
        /// The program called `halt`; its transaction is void. The engine ends.
        12 => Halted {
            /// Its argument, 0 without.
            status: i64,
        },
        /// The predicates that changes are wanted of, as far as is known before the program is
        /// loaded; sent before the first `Pull`, and again when there are more. Not answered.
        13 => Wants {
            /// All of them.
            predicates: Vec<Declaration>,
        },
        /// Asks the programs that listen to a multicast group. Answered as a `Call`.
        14 => UdpRequest {
            /// Chosen by the engine, among those of calls.
            call: u64,
            /// The group.
            scope: String,
            /// The encoded term.
            term: Vec<u8>,
            /// Milliseconds for which answers are taken.
            timeout_ms: u64,
        },
    }
}

wire_struct! {
    /// A replicated predicate.
    pub struct Declaration {
        /// Its name.
        pub name: String,
        /// Its arity.
        pub arity: u32,
        /// The arguments, from 1, that are keys besides the first.
        pub keys: Vec<u32>,
    }
}

wire_enum! {
    /// How many instances of an agent there are.
    pub enum Mode {
        /// One in the space.
        0 => One,
        /// One on every node that runs it.
        1 => Each,
    }
}

wire_struct! {
    /// Something that is wrong with a program or a goal.
    pub struct Problem {
        /// How wrong.
        pub severity: Severity,
        /// The file; empty for a goal's text.
        pub file: String,
        /// From 1; 0 when it is about no line.
        pub line: u32,
        /// From 1; 0 when it is about no column.
        pub column: u32,
        /// One sentence, lower case, without full stop.
        pub text: String,
    }
}

wire_enum! {
    /// How bad a problem is.
    pub enum Severity {
        /// It can be lived with.
        0 => Warning,
        /// It cannot.
        1 => Error,
    }
}

wire_enum! {
    /// What a proposal came from.
    pub enum Run {
        /// Handlers: items `first..first + done` of a batch.
        0 => Batch {
            /// The batch.
            batch: u64,
            /// The first item, from 0.
            first: u32,
            /// How many.
            done: u32,
            /// Those that failed or threw, and left nothing.
            failed: Vec<Failed>,
        },
        /// A transaction of its own.
        1 => Own,
    }
}

wire_struct! {
    /// A handler that did not succeed.
    pub struct Failed {
        /// Which item of the batch, from 0.
        pub item: u32,
        /// `failed`, or the error, as text.
        pub text: String,
    }
}

wire_enum! {
    /// What a run wants done outside of the knowledge base.
    pub enum Effect {
        /// Gossip a term.
        0 => Publish {
            /// On this topic.
            topic: String,
            /// The encoded term.
            term: Vec<u8>,
        },
        /// Send a term to an agent.
        1 => Send {
            /// Its name.
            agent: String,
            /// The encoded term.
            term: Vec<u8>,
        },
        /// `on(timer(Term))` once, later.
        2 => After {
            /// Microseconds from now.
            micros: u64,
            /// The encoded term.
            term: Vec<u8>,
        },
        /// `on(timer(Term))` again and again.
        3 => Every {
            /// Microseconds between two.
            micros: u64,
            /// The encoded term.
            term: Vec<u8>,
        },
        /// Ends the timers of a term.
        4 => Cancel {
            /// The encoded term.
            term: Vec<u8>,
        },
        /// `on(changed(_))` for a predicate.
        5 => Watch {
            /// Its name.
            name: String,
            /// Its arity.
            arity: u32,
            /// Whether the agent's own changes are left out.
            others: bool,
        },
        /// Ends a watch.
        6 => Unwatch {
            /// Its name.
            name: String,
            /// Its arity.
            arity: u32,
        },
        /// `on(message(Topic, _, _))`.
        7 => Subscribe {
            /// The topic.
            topic: String,
        },
        /// Ends a subscription.
        8 => Unsubscribe {
            /// The topic.
            topic: String,
        },
        /// A line of the agent's log.
        9 => Log {
            /// How much it matters.
            level: Level,
            /// The line.
            text: String,
        },
        /// What the program printed.
        10 => Output {
            /// As it was printed.
            bytes: Vec<u8>,
        },
        /// Send a term to those who listen to a multicast group.
        11 => UdpSend {
            /// The group.
            scope: String,
            /// The encoded term.
            term: Vec<u8>,
        },
    }
}

wire_struct! {
    /// One answer of a goal.
    pub struct Answer {
        /// As Scryer's toplevel prints it, without the full stop: `X = 100, Y = f(X)`, `true`.
        pub text: String,
        /// The named variables that are bound, in the goal's order, for [`super::GoalKind::Query`].
        pub bindings: Vec<Binding>,
        /// What constrains the variables that are not, as text.
        pub residuals: Vec<String>,
        /// The encoded `answer(Goal, Residuals)`, for [`super::GoalKind::Call`].
        pub term: Option<Vec<u8>>,
    }
}

wire_struct! {
    /// A variable of a goal and its value.
    pub struct Binding {
        /// The variable's name.
        pub name: String,
        /// Its value as text.
        pub text: String,
        /// The encoded value; none when it cannot be encoded (it is cyclic or too large).
        pub term: Option<Vec<u8>>,
    }
}

wire_enum! {
    /// What comes after some answers of a goal.
    pub enum End {
        /// Perhaps further ones: `More` asks.
        0 => More,
        /// Nothing: the last answer left no choice open.
        1 => Done,
        /// No (further) answer.
        2 => False,
        /// The goal cannot be read.
        3 => Syntax {
            /// Where and why.
            problems: Vec<Problem>,
        },
        /// The goal threw.
        4 => Error {
            /// The ball as text.
            text: String,
            /// The encoded ball; none when it cannot be encoded.
            term: Option<Vec<u8>>,
        },
        /// The goal called `halt`. The engine ends.
        5 => Halted {
            /// With this status.
            status: i64,
        },
        /// The goal runs on: the next frame comes by itself.
        6 => Running,
    }
}

wire_enum! {
    /// What an engine asks the node in the middle of a run.
    pub enum Ask {
        /// The space's version as the leader knows it (a Raft read index): an integer.
        0 => ReadIndex,
        /// The path of a base as of an index: a string.
        1 => AsOf {
            /// The index.
            index: u64,
        },
        /// The space's members: a list of `member(Name, Role)`.
        2 => Members,
        /// The path of a module's file, put in the agent's folder: a string.
        3 => Module {
            /// Its name.
            name: String,
        },
        /// What became of a proposal that ended as unknown: `committed(Index)`, `refused` or `unknown`.
        4 => Fate {
            /// The command's id.
            id: String,
        },
        /// The predicates that an agent offers, so that they can be called as one's own: checks
        /// that the agent is known. Answers `true`.
        5 => Agent {
            /// Its name.
            name: String,
        },
    }
}

wire_enum! {
    /// Why an engine wants to be replaced.
    pub enum Renewal {
        /// Its memory has passed three quarters of its limit.
        0 => Memory {
            /// Resident bytes.
            bytes: u64,
        },
        /// It has met too many new atoms, each of which makes the next one slower.
        1 => Atoms {
            /// How many.
            count: u64,
        },
        /// Its handlers have become twice as slow as they were.
        2 => Slow {
            /// Microseconds a handler, early on.
            was: u64,
            /// Microseconds a handler, lately.
            is: u64,
        },
    }
}
