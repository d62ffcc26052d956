//! Capture and injection of UDP multicast: datagrams in, with the address that each came from, and out,
//! from addresses that stand in for others.
//!
//! - [`Join`] is membership of a group on one interface. It needs no privilege, shares its port with the
//!   applications it listens beside, and takes nothing from them. Several groups are several `Join`s,
//!   so the kernel's bound on groups a socket does not apply.
//! - [`network`] is a tunnel's part of this host: capture by such memberships or by redirection, the
//!   sockets that send, and what the kernel is told for that, put in and taken out again.
//! - [`privileges`] says which of them that takes, gives them up, and hands them on to who needs them.
//! - [`tunnel`] decides what is carried, as whose, and to whom. It has no socket and no clock.
//!
//! ```no_run
//! use synod_udp_shim::{Join, MAX_DATAGRAM_BYTES};
//!
//! let join = Join::open(&"239.0.0.2:20005%lo".parse()?)?;
//! for warning in join.warnings() {
//!     eprintln!("{warning}");
//! }
//! let mut buffer = [0; MAX_DATAGRAM_BYTES];
//! while let Some(datagram) = join.recv(&mut buffer, None)? {
//!     println!("{}: {} bytes", datagram.source, datagram.bytes.len());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is not here: how frames get from node to node, any meaning of the bytes, any of the project's
//! other crates, any thread or runtime. A driver waits with [`Join::recv`], or on the descriptor with a reactor of its own.
//! Linux only: the options it relies on have no portable form.

#![deny(unsafe_code)]

mod interface;
mod join;
pub mod network;
pub mod privileges;
mod spec;
mod sys;
pub mod tunnel;

pub use join::{
    Counters, Datagram, Join, JoinError, MAX_DATAGRAM_BYTES, RECEIVE_BUFFER_BYTES, ReceiveBuffer,
    Warning,
};
pub use spec::{Interface, JoinSpec, ParseJoinSpecError};
