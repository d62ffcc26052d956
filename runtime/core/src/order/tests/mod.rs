//! Tests of the machine: one voter alone, scripts of a few, and a network that misbehaves by seed.

mod check;
mod member;
mod script;
mod sim;
mod sole;
mod start;
mod trace;
mod wire;
