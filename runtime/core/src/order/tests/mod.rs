//! Tests of the machine: one voter alone, scripts of a few, and a network that misbehaves by seed.

#![expect(
    clippy::disallowed_methods,
    reason = "tests compare with files, rewrite them when asked to, and are told seeds"
)]

mod abstain;
mod check;
mod hostile;
mod log;
mod member;
mod notice;
mod recovery;
mod script;
mod sim;
mod sole;
mod start;
mod storm;
mod trace;
mod wire;
