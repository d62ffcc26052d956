//! What the members of a space say and decide among themselves, apart from Raft itself: the frames
//! that they send each other, the proposals that each has under way, who shall vote, the machine that
//! brings all of it together, and what most of them agree that the log leads to; and what they say to
//! observers, which follow the space without being members.

mod checkpoints;
mod claims;
mod coordinator;
mod frame;
mod head;
mod herald;
pub mod observer;
mod proposals;
mod rebuilding;
mod recovery;
mod steward;

pub use checkpoints::{Agreement, Collector, MARK_EVERY, Mark, Marks, Verdict, statement};
pub use claims::{Claims, Standpoint};
pub use coordinator::{
    Action, Arrived, Coordinator, Identity, Input, MAX_ARRIVED, MAX_FOREIGN_BYTES, Scene, Standing,
    Unseen,
};
pub use frame::{
    Ask, Dropped, Frame, MAX_FRAME_BYTES, MAX_WHY_BYTES, VERSION, generation_of, token,
};
pub use head::{Head, Place};
pub use herald::{Duty, Herald, IDLE, MIN_GAP, duty};
pub use proposals::{Proposals, Run};
pub use rebuilding::{Giving, Sent, Signers, mark_of, replay};
pub use recovery::{Recovery, RecoveryError, Survivor, resumed};
pub use steward::{Plan, STEADY, Steward, TARGET_VOTERS, View, Wish, WishError};
