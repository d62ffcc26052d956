//! The system calls that no safe crate wraps, and all of this crate's unsafe code.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io::{self, IoSlice};
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4};
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

/// Datagrams that one call receives, at most.
pub(crate) const MANY: usize = 32;

/// Receives datagrams that are there, each into the next `each` bytes of the buffer, and none that is not
/// there: the error is `WouldBlock` if there is none at all. Gives their lengths and sources.
pub(crate) fn receive_many(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    each: usize,
    received: &mut Vec<(usize, SocketAddrV4)>,
) -> io::Result<()> {
    // SAFETY: all of them are structures for which zeroes are values.
    let mut names: [libc::sockaddr_in; MANY] = unsafe { mem::zeroed() };
    let mut parts: [libc::iovec; MANY] = unsafe { mem::zeroed() };
    let mut headers: [libc::mmsghdr; MANY] = unsafe { mem::zeroed() };
    let mut count = 0;
    for (n, space) in buffer.chunks_exact_mut(each).take(MANY).enumerate() {
        parts[n] = libc::iovec { iov_base: space.as_mut_ptr().cast(), iov_len: space.len() };
        let header = &mut headers[n].msg_hdr;
        header.msg_name = (&raw mut names[n]).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_iov = &raw mut parts[n];
        header.msg_iovlen = 1;
        count = n + 1;
    }
    // SAFETY: `count` headers are set, and lead to names and to parts of the buffer that outlive the call.
    let got = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    for (header, name) in headers.iter().zip(&names).take(got) {
        let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
        let source = SocketAddrV4::new(ip, u16::from_be(name.sin_port));
        received.push((header.msg_len as usize, source));
    }
    Ok(())
}

/// Sends datagrams, each made of parts, in one call. Gives how many went before one that did not: that
/// one's error is what sending it again gives.
pub(crate) fn send_many(
    socket: BorrowedFd<'_>,
    datagrams: &[(&[IoSlice<'_>], SocketAddrV4)],
) -> usize {
    // SAFETY: both are structures for which zeroes are values.
    let mut names: [libc::sockaddr_in; MANY] = unsafe { mem::zeroed() };
    let mut headers: [libc::mmsghdr; MANY] = unsafe { mem::zeroed() };
    let count = datagrams.len().min(MANY);
    for (n, (parts, to)) in datagrams.iter().take(MANY).enumerate() {
        names[n] = name_of(*to);
        header_of(&mut headers[n].msg_hdr, &raw mut names[n], parts);
    }
    // SAFETY: `count` headers are set, and lead to names and slices that outlive the call, which writes to
    // none of them; a slice for output has the layout of an iovec.
    let sent = unsafe {
        libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as libc::c_uint, 0)
    };
    usize::try_from(sent).unwrap_or(0)
}

/// Sends datagrams of one length, but for the last that may be shorter, as one piece that the kernel takes
/// apart at the receivers.
pub(crate) fn send_segments(
    socket: BorrowedFd<'_>,
    datagrams: &[IoSlice<'_>],
    len: u16,
    to: SocketAddrV4,
) -> io::Result<()> {
    /// Bytes of a control message with two bytes: a header and what is aligned as it is.
    const CONTROL: usize = 24;
    #[repr(align(8))]
    struct Control([u8; CONTROL]);
    let mut control = Control([0; CONTROL]);
    let mut name = name_of(to);
    // SAFETY: it is a structure for which zeroes are values.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header_of(&mut header, &raw mut name, datagrams);
    header.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: the macros of cmsg(3), over a buffer that is aligned and as long as they want it.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as _;
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        (*first).cmsg_level = libc::SOL_UDP;
        (*first).cmsg_type = libc::UDP_SEGMENT;
        (*first).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
        libc::CMSG_DATA(first).cast::<u16>().write_unaligned(len);
    }
    // SAFETY: the header leads to a name, slices and a control message that outlive the call, which writes
    // to none of them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn name_of(to: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*to.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

fn header_of(header: &mut libc::msghdr, name: *mut libc::sockaddr_in, parts: &[IoSlice<'_>]) {
    header.msg_name = name.cast();
    header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // It is written as a pointer to what may be written; sending writes nothing there.
    header.msg_iov = parts.as_ptr().cast_mut().cast();
    header.msg_iovlen = parts.len() as _;
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

/// Makes this process, and its children, deaf to what ends a terminal's processes, or a service's.
pub(crate) fn ignore_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler is none of ours, and nothing else in this process sets one.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
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
