//! What frames of both directions are made of.

use super::wire::{wire_enum, wire_struct};

wire_struct! {
    /// What happened to the knowledge base since the version that the engine is at.
    pub struct Changes {
        /// The version that the changes lead to.
        pub to: u64,
        /// Whether more changes wait behind these.
        pub more: bool,
        /// A CBOR sequence of `synod_core::kb::Change`; each says its own index.
        pub sequence: Vec<u8>,
    }
}

wire_struct! {
    /// Where an event stands in its space.
    pub struct Position {
        /// The command's index.
        pub index: u64,
        /// Which of the command's events, from 0.
        pub n: u32,
    }
}

wire_enum! {
    /// A goal, as a person typed it or as another agent sent it.
    pub enum GoalText {
        /// Prolog text, without trust.
        0 => Text {
            /// The text; a full stop at its end may be left out.
            text: String,
        },
        /// An encoded term.
        1 => Term {
            /// By the term codec.
            term: Vec<u8>,
        },
    }
}

wire_enum! {
    /// How much a line of an agent's log matters.
    pub enum Level {
        /// Detail for whoever looks for a fault.
        0 => Debug,
        /// Normal working.
        1 => Info,
        /// Something to look at.
        2 => Warning,
        /// Something failed.
        3 => Error,
    }
}
