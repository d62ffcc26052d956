//! The whole path, on real processes: the program as users start it, its engines, its disk.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod cluster;
mod contention;
mod crash;
mod datagrams;
mod deaths;
mod disk;
mod examples;
mod group;
mod hazards;
mod holders;
mod hostile;
mod hostile_peer;
mod hostile_tunnel;
mod letters;
mod life;
mod members;
mod multicast_apps;
mod observers;
mod ordered;
mod peers;
mod privileges;
mod programs;
mod random;
mod recover;
mod rejoin;
mod reload;
mod replay;
mod retention;
mod signed;
mod stream;
mod tunnels;
mod versions;
mod world;
