//! The node's frames.

use super::shared::{Changes, GoalText, Position};
use super::wire::{wire_enum, wire_struct};

wire_enum! {
    /// A frame from the node to an engine.
    pub enum ToEngine {
        /// The first frame: who the engine is and what it runs.
        0 => Start {
            /// All of it.
            start: Box<Start>,
        },
        /// Answers `Pull`.
        1 => Changes {
            /// Since the version that was asked for.
            changes: Changes,
        },
        /// Answers `Next`: at most [`super::Trigger`]s of one batch.
        2 => Triggers {
            /// The batch's number, which `Propose` repeats.
            batch: u64,
            /// To be applied before the first handler runs.
            changes: Changes,
            /// What happened, in order.
            items: Vec<Trigger>,
        },
        /// Answers `Propose`.
        3 => Outcome {
            /// The proposal's number.
            proposal: u64,
            /// How it ended.
            outcome: Outcome,
            /// To be applied at once; they contain the proposal's own when it was committed.
            changes: Changes,
        },
        /// Asks a side engine to solve a goal.
        4 => Goal {
            /// Repeated in every `Answers`.
            id: u64,
            /// What to solve.
            goal: GoalText,
            /// As a query, a transaction, or for another agent.
            kind: GoalKind,
            /// The most answers in one `Answers`; at least 1.
            chunk: u32,
            /// The version that the knowledge base must have reached first.
            at_least: u64,
        },
        /// Asks for the next answers of a goal.
        5 => More {
            /// The goal.
            id: u64,
        },
        /// Wants no further answers of a goal. One that is running is ended by killing the process.
        6 => Stop {
            /// The goal.
            id: u64,
        },
        /// Answers `Call` and `CallMore`.
        7 => CallAnswers {
            /// The call.
            call: u64,
            /// Encoded `answer(Goal, Residuals)` terms.
            answers: Vec<Vec<u8>>,
            /// Whether `CallMore` may bring more.
            more: bool,
            /// What the goal threw after these answers, or why they cannot be had: an encoded term.
            error: Option<Vec<u8>>,
        },
        /// Answers `Ask`.
        8 => Reply {
            /// An encoded term: what was asked for.
            answer: Option<Vec<u8>>,
            /// An encoded error term, thrown in the program.
            error: Option<Vec<u8>>,
        },
        /// Ends the engine between two goals.
        9 => Shutdown,
    }
}

wire_struct! {
    /// Who an engine is and what it runs.
    pub struct Start {
        /// [`super::VERSION`].
        pub version: u64,
        /// For an agent's triggers or for goals from outside.
        pub role: Role,
        /// The node's name.
        pub node: String,
        /// The space's name.
        pub space: String,
        /// Absolute path of the program.
        pub program: String,
        /// Absolute path of the folder of modules that came from the space.
        pub modules: String,
        /// Absolute path of a base of the knowledge base, to be mapped; none for an empty one.
        pub base: Option<String>,
        /// The version of the space now: the engine pulls up to it before it loads the program.
        pub at: u64,
        /// What it may use.
        pub limits: Limits,
        /// What it may touch.
        pub sandbox: Sandbox,
        /// Look-ups of a predicate after which it gets a native copy, if it is not written to
        /// meanwhile; one of its keys needs an eighth of them. 0 makes none.
        pub copy_after: u64,
    }
}

wire_enum! {
    /// What an engine is for.
    pub enum Role {
        /// Handles the triggers of an agent.
        0 => Agent {
            /// The agent's name.
            name: String,
            /// The epoch of its claim.
            epoch: u64,
            /// Whether `on(start)` has to run: the first engine of the epoch.
            first: bool,
        },
        /// Solves goals with an agent's program.
        1 => Side {
            /// The agent's name.
            agent: String,
        },
    }
}

wire_struct! {
    /// What an engine may use; 0 is without limit.
    pub struct Limits {
        /// Milliseconds that one handler or goal may take; a load has 10 s at least.
        pub time_ms: u64,
        /// Bytes of resident memory.
        pub memory_bytes: u64,
        /// Inferences that one handler or goal may take. Counting costs 10 µs each.
        pub inferences: u64,
    }
}

wire_struct! {
    /// What an engine may touch.
    pub struct Sandbox {
        /// Whether there is a sandbox at all.
        pub on: bool,
        /// Absolute paths of folders that may be read besides the program's own.
        pub read: Vec<String>,
        /// Absolute paths of folders that may be written.
        pub write: Vec<String>,
        /// Whether sockets may be opened.
        pub net: bool,
    }
}

wire_enum! {
    /// What an agent's `on/1` is called for.
    pub enum Trigger {
        /// `start`: the first engine of an epoch.
        0 => Start,
        /// `engine`: every fresh engine. May not write.
        1 => Engine,
        /// `event(Index-N, From, Term)`.
        2 => Event {
            /// Where it stands.
            position: Position,
            /// The agent or client that emitted it.
            from: String,
            /// The encoded term.
            term: Vec<u8>,
        },
        /// `changed(What)`, of a watched predicate.
        3 => Changed {
            /// Where the change stands.
            position: Position,
            /// What was done.
            what: What,
            /// The encoded fact.
            fact: Vec<u8>,
        },
        /// `message(Topic, From, Term)`.
        4 => Message {
            /// The topic.
            topic: String,
            /// The agent or node that published it.
            from: String,
            /// The encoded term.
            term: Vec<u8>,
        },
        /// `sent(From, Term)`.
        5 => Sent {
            /// The agent that sent it.
            from: String,
            /// The encoded term.
            term: Vec<u8>,
        },
        /// `timer(Term)`.
        6 => Timer {
            /// The encoded term.
            term: Vec<u8>,
        },
        /// `datagram(Group:Port, From, bytes(Bytes))`.
        7 => Datagram {
            /// The group's address.
            group: String,
            /// The port.
            port: u16,
            /// The source as `Address:Port` text.
            from: String,
            /// What was in it.
            bytes: Vec<u8>,
        },
        /// `udp(Scope, From, Term)`: SWI-Prolog's udp_broadcast.
        8 => Udp {
            /// The scope.
            scope: String,
            /// The source as `Address:Port` text.
            from: String,
            /// The encoded term.
            term: Vec<u8>,
        },
        /// `gap(From, To)`: the log between was compacted before the agent read it.
        9 => Gap {
            /// The first index that is gone.
            from: u64,
            /// The last index that is gone.
            to: u64,
        },
        /// One that a log tells of.
        10 => Recorded {
            /// The argument of `on/1`, encoded.
            term: Vec<u8>,
        },
        /// `datagram(Position, Group:Port, From, bytes(Bytes))`: one of a tunnel, in the order of the space.
        11 => OrderedDatagram {
            /// Where it stands.
            position: Position,
            /// The group's address.
            group: String,
            /// The port.
            port: u16,
            /// The source as `Address:Port` text.
            from: String,
            /// What was in it.
            bytes: Vec<u8>,
        },
        /// `udp(Position, Scope, From, Term)`: the same, when it is SWI-Prolog's udp_broadcast.
        12 => OrderedUdp {
            /// Where it stands.
            position: Position,
            /// The scope.
            scope: String,
            /// The source as `Address:Port` text.
            from: String,
            /// The encoded term.
            term: Vec<u8>,
        },
    }
}

wire_enum! {
    /// What was done to a watched predicate.
    pub enum What {
        /// A fact was added at the end.
        0 => Assertz,
        /// A fact was added at the front.
        1 => Asserta,
        /// A fact was taken away.
        2 => Retract,
    }
}

wire_enum! {
    /// How a proposal ended.
    pub enum Outcome {
        /// It is committed and applied.
        0 => Committed {
            /// At this index.
            index: u64,
        },
        /// What it read has changed: it can be run again.
        1 => Conflict {
            /// What changed, for people.
            keys: Vec<String>,
        },
        /// It can never commit, and running it again would not help.
        2 => Refused {
            /// An encoded error term.
            error: Vec<u8>,
        },
        /// Nobody knows yet.
        3 => Unknown {
            /// The command's id, which can be asked for later.
            id: String,
        },
        /// It is not this engine's turn any more: another holds the agent. The engine ends.
        4 => Superseded,
    }
}

wire_enum! {
    /// How a goal is to be solved.
    pub enum GoalKind {
        /// All its answers; its writes are transactions of their own.
        0 => Query,
        /// Once, as one transaction.
        1 => Transact,
        /// All its answers, as encoded terms for another agent.
        2 => Call,
    }
}
