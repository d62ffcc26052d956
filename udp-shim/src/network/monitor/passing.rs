//! Messages over a socket pair that keeps them apart, with open files.

use super::message::MAX_MESSAGE_BYTES;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Open files that go with one message, at most; the kernel's own bound is 253.
pub(super) const MAX_FILES: usize = 64;

/// Sends a message.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    files: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many files for one message"));
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}

/// Takes the next message, and the files that came with it; nothing, once the other side is gone. One that is
/// longer than any is gives an empty one: nobody says nothing.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    with_files: bool,
) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    // Without room for them the kernel closes what was sent.
    let room = if with_files { &mut space[..] } else { &mut [] };
    let mut control = RecvAncillaryBuffer::new(room);
    let got = loop {
        let parts = &mut [IoSliceMut::new(&mut bytes)];
        match recvmsg(socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            got => break got?,
        }
    };
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            files.extend(some);
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    let is_whole = !got.flags.contains(ReturnFlags::TRUNC);
    bytes.truncate(if is_whole { got.bytes } else { 0 });
    Ok(Some((bytes, files)))
}
