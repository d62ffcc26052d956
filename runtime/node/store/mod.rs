//! Where a node keeps what must last: the real disk below the core's logs and snapshots.

pub mod fs_disk;

pub use fs_disk::FsDisk;
