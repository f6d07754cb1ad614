//! What cell-egress does to have a socket marked, done by a test.
#![allow(dead_code, reason = "shared by several test binaries")]

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use cell_lab::activation::seqpacket;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, connect, recv, sendmsg, setsockopt, sockopt};
use nix::sys::time::TimeVal;

/// A connection to netd, whose answer is waited for no longer than `patience`.
pub fn connected(at: &Path, patience: Duration) -> nix::Result<OwnedFd> {
    let connection = seqpacket().map_err(|_| Errno::EMFILE)?;
    let patience = TimeVal::new(patience.as_secs().try_into().map_err(|_| Errno::EINVAL)?, 0);
    setsockopt(&connection, sockopt::ReceiveTimeout, &patience)?;
    connect(connection.as_raw_fd(), &UnixAddr::new(at)?)?;
    Ok(connection)
}

/// Sends the id of an exit, and a socket.
pub fn send(connection: &OwnedFd, exit: &str, socket: &impl AsFd) -> nix::Result<()> {
    let payload = [&[1], exit.as_bytes()].concat();
    sendmsg::<UnixAddr>(
        connection.as_raw_fd(),
        &[IoSlice::new(&payload)],
        &[ControlMessage::ScmRights(&[socket.as_fd().as_raw_fd()])],
        MsgFlags::empty(),
        None,
    )
    .map(drop)
}

/// netd's answer, which is cut off where the message was not read; EAGAIN: it did not come in time.
pub fn answer(connection: &OwnedFd) -> nix::Result<Vec<u8>> {
    let mut answer = [0; 256];
    let length = recv(connection.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    Ok(answer[..length].to_vec())
}

/// Whether it has come.
pub fn is_answered(connection: &OwnedFd) -> bool {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
    recv(connection.as_raw_fd(), &mut [0], flags) != Err(Errno::EAGAIN)
}

/// All of it.
pub fn hand_over(at: &Path, exit: &str, socket: &impl AsFd, patience: Duration) -> nix::Result<Vec<u8>> {
    let connection = connected(at, patience)?;
    send(&connection, exit, socket)?;
    answer(&connection)
}
