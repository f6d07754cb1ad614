//! How the listeners get from the launcher to the program it starts: in one SCM_RIGHTS message on its standard input.
//! So nothing depends on which descriptor has which number on the launcher's side, and nothing else is inherited.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};

/// SD_LISTEN_FDS_START (sd_listen_fds(3)).
const FIRST: RawFd = 3;
/// More listeners than any daemon has.
const MOST: usize = 16;

/// A standard input that holds the message.
///
/// # Errors
/// When the kernel refuses.
pub fn pack(listeners: &[BorrowedFd<'_>]) -> io::Result<OwnedFd> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    let numbers: Vec<RawFd> = listeners.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if numbers.is_empty() {
        &rights[..0]
    } else {
        &rights[..]
    };
    sendmsg::<()>(
        ours.as_raw_fd(),
        &[IoSlice::new(b"L")],
        rights,
        MsgFlags::empty(),
        None,
    )?;
    Ok(theirs)
}

/// Takes `count` listeners from standard input; they are then open, and stay so across execve(2), from descriptor 3 on,
/// as the protocol wants it. The kernel gives the lowest free numbers, so nothing else may be open.
///
/// # Errors
/// When the message holds another number of descriptors, or they did not land there.
pub fn unpack(count: usize) -> io::Result<()> {
    let mut space = cmsg_space!([RawFd; MOST]);
    let mut byte = [0_u8];
    let mut buffer = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(0, &mut buffer, Some(&mut space), MsgFlags::empty())?;
    let mut landed = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            landed.extend(numbers);
        }
    }
    if landed.len() == count && landed.iter().copied().eq((FIRST..).take(count)) {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{count} listeners were to land from descriptor {FIRST} on, and {landed:?} did"
    )))
}
