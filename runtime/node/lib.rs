//! A Synod node: it drives the pure core with threads, disks and clocks, keeps engines going, and
//! answers on a control socket.

pub(crate) mod agents;
pub mod api;
pub(crate) mod check;
pub(crate) mod codes;
pub mod control;
pub mod folder;
pub(crate) mod hex;
pub(crate) mod json;
pub(crate) mod multicast;
pub(crate) mod near;
pub mod net;
pub mod node;
pub mod past;
pub(crate) mod rates;
pub mod replay;
pub mod rfc3339;
pub mod scratch;
pub mod space;
pub(crate) mod stand_in;
pub mod store;
pub mod tunnels;
pub mod verify;
