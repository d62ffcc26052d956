//! The three system calls that no safe crate wraps, and all of this crate's unsafe code.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// How many datagrams the kernel has dropped at a socket since it was made, modulo 2^32.
pub(crate) fn dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    /// `SK_MEMINFO_DROPS` and `SK_MEMINFO_VARS` of linux/sock_diag.h.
    const DROPS: usize = 8;
    const VARS: usize = 9;
    let mut info = [0_u32; VARS];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which is the size of `info`.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(info[DROPS]) }
}

/// The process at the other end of a Unix socket, where this one can see it.
pub(crate) fn peer_process(socket: BorrowedFd<'_>) -> Option<i32> {
    // Where the process is in a namespace that this one does not see, its number is 0.
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of_val(&peer) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which is the size of `peer`.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut len,
        )
    };
    (status == 0 && peer.pid > 0).then_some(peer.pid)
}

/// One entry of getifaddrs(3): either the interface itself, with its index, or an address of it.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) flags: u32,
    pub(crate) index: Option<u32>,
    pub(crate) address: Option<Ipv4Addr>,
}

/// The interfaces and their IPv4 addresses.
pub(crate) fn interface_entries() -> io::Result<Vec<Entry>> {
    let mut first = ptr::null_mut();
    // SAFETY: the call sets `first` when it succeeds.
    if unsafe { libc::getifaddrs(&raw mut first) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut entries = Vec::new();
    let mut next: *const libc::ifaddrs = first;
    // SAFETY: the list is linked by `ifa_next` up to null and lives until it is freed below.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        // SAFETY: the address is null or lives as long as the list.
        let family = unsafe { entry.ifa_addr.as_ref() }.map(|a| libc::c_int::from(a.sa_family));
        let (index, address) = match family {
            Some(libc::AF_PACKET) => {
                // SAFETY: an address of this family is a sockaddr_ll; it may be unaligned for it.
                let link = unsafe { entry.ifa_addr.cast::<libc::sockaddr_ll>().read_unaligned() };
                (Some(link.sll_ifindex.cast_unsigned()), None)
            }
            Some(libc::AF_INET) => {
                // SAFETY: an address of this family is a sockaddr_in; it may be unaligned for it.
                let inet = unsafe { entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
                (None, Some(Ipv4Addr::from(u32::from_be(inet.sin_addr.s_addr))))
            }
            _ => continue,
        };
        // SAFETY: the name is a C string that lives as long as the list.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
        entries.push(Entry { name, flags: entry.ifa_flags, index, address });
    }
    // SAFETY: `first` came from getifaddrs, and nothing borrowed from the list is left.
    unsafe { libc::freeifaddrs(first) };
    Ok(entries)
}
