//! How the listeners get from the launcher to the program it starts: in one SCM_RIGHTS message on its standard input.
//! So nothing depends on which descriptor has which number on the launcher's side, and nothing else is inherited.
//!
//! Between containers the message goes over a connection ([`give`], [`ask`]), with the listeners' names in it.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, send,
    sendmsg, socketpair,
};

/// SD_LISTEN_FDS_START (sd_listen_fds(3)).
const FIRST: RawFd = 3;
/// More listeners than any daemon has.
const MOST: usize = 16;
/// Bytes of a message: names of that many listeners.
const LONGEST: usize = 1024;

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
    send_with(ours.as_fd(), b"L", listeners, MsgFlags::empty())?;
    Ok(theirs)
}

/// Takes `count` listeners from standard input; they are then open, and stay so across execve(2), behind the `taken` ones from
/// descriptor 3 on, as the protocol wants it. The kernel gives the lowest free numbers, so nothing else may be open.
///
/// # Errors
/// When the message holds another number of descriptors, or they did not land there.
pub fn unpack(taken: usize, count: usize) -> io::Result<()> {
    let (_, landed) = receive()?;
    landed_behind(taken, count, &landed)
}

/// Gives listeners with these names to who [`ask`]s at the other end.
///
/// # Errors
/// When nobody is there any more.
pub fn give(connection: BorrowedFd<'_>, names: &[&str], listeners: &[BorrowedFd<'_>]) -> io::Result<()> {
    // Some byte there is, also where there is no listener.
    let names = names.join(":") + "\n";
    send_with(connection, names.as_bytes(), listeners, MsgFlags::MSG_NOSIGNAL)
}

/// One message of this text, with the listeners.
fn send_with(
    to: BorrowedFd<'_>,
    text: &[u8],
    listeners: &[BorrowedFd<'_>],
    flags: MsgFlags,
) -> io::Result<()> {
    let numbers: Vec<RawFd> = listeners.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if numbers.is_empty() {
        &rights[..0]
    } else {
        &rights[..]
    };
    sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(text)], rights, flags, None)?;
    Ok(())
}

/// Waits until somebody asks on the connection; `false` when nobody is there any more.
///
/// # Errors
/// As recv(2).
pub fn is_asked(connection: BorrowedFd<'_>) -> io::Result<bool> {
    let mut byte = [0_u8; 1];
    Ok(recv(connection.as_raw_fd(), &mut byte, MsgFlags::empty())? == 1)
}

/// Asks for the listeners by the connection that is standard input; their names. They land as those of [`unpack`].
///
/// # Errors
/// When who holds them is gone, or gives another number of names than of listeners.
pub fn ask(taken: usize) -> io::Result<Vec<String>> {
    send(0, b"L", MsgFlags::MSG_NOSIGNAL)?;
    let (names, landed) = receive()?;
    let names: Vec<String> = names
        .trim_end()
        .split(':')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    landed_behind(taken, names.len(), &landed)?;
    Ok(names)
}

/// One message from standard input: its text, and the descriptors that came with it.
fn receive() -> io::Result<(String, Vec<RawFd>)> {
    let mut space = cmsg_space!([RawFd; MOST]);
    let mut text = [0_u8; LONGEST];
    let mut buffer = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(0, &mut buffer, Some(&mut space), MsgFlags::empty())?;
    let mut landed = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            landed.extend(numbers);
        }
    }
    let length = message.bytes;
    Ok((String::from_utf8_lossy(&text[..length]).into_owned(), landed))
}

fn landed_behind(taken: usize, count: usize, landed: &[RawFd]) -> io::Result<()> {
    if landed.len() == count && landed.iter().copied().eq((FIRST..).skip(taken).take(count)) {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{count} listeners were to land behind {taken} from descriptor {FIRST} on, and {landed:?} did"
    )))
}
