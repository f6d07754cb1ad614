//! Has netd give sockets the mark of an exit (netd's listener `mark`, docs/egress.md): only whoever may change the network can.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cell_egress_core::exit::ExitId;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Version of the message.
const VERSION: u8 = 1;
/// The answer's first byte: the socket has its mark.
const MARKED: u8 = 0;
/// netd answers at once, or is not there.
const ANSWER_SECONDS: i64 = 2;
/// How long a socket waits for those before it: netd takes one after the other.
const TURN: Duration = Duration::from_secs(2);
/// Bytes of an answer that are read.
const ANSWER_MAX: usize = 256;

/// netd's socket for marks.
#[derive(Debug, Clone)]
pub struct Marker {
    socket: Arc<Path>,
    /// Held by whose socket is at netd: so there are two descriptors for it at most, and one thread.
    turn: Arc<Mutex<()>>,
}

impl Marker {
    /// Connects for each socket anew.
    pub fn new(socket: PathBuf) -> Self {
        Marker {
            socket: socket.into(),
            turn: Arc::default(),
        }
    }

    /// Gives the socket the exit's mark, before it is connected: from then on the mark says by which way it sends. Takes some seconds
    /// at most, whatever netd does.
    ///
    /// # Errors
    /// When netd is away, or does not know the exit (yet); nothing has been sent then.
    pub async fn mark(&self, exit: &ExitId, socket: BorrowedFd<'_>) -> io::Result<()> {
        let turn = timeout(TURN, Arc::clone(&self.turn).lock_owned()).await;
        let turn = turn.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        let (path, exit, socket) = (
            Arc::clone(&self.socket),
            exit.clone(),
            socket.try_clone_to_owned()?,
        );
        let handed = tokio::task::spawn_blocking(move || {
            let marked = hand_over(&path, &exit, &socket);
            drop(turn);
            marked
        });
        handed.await.map_err(io::Error::other)?
    }
}

fn hand_over(path: &Path, exit: &ExitId, marked: &OwnedFd) -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let connection = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    let patience = TimeVal::new(ANSWER_SECONDS, 0);
    setsockopt(&connection, sockopt::ReceiveTimeout, &patience)?;
    setsockopt(&connection, sockopt::SendTimeout, &patience)?;
    connect(connection.as_raw_fd(), &UnixAddr::new(path)?)?;
    let payload = [&[VERSION], exit.to_string().as_bytes()].concat();
    sendmsg::<UnixAddr>(
        connection.as_raw_fd(),
        &[IoSlice::new(&payload)],
        &[ControlMessage::ScmRights(&[marked.as_fd().as_raw_fd()])],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    let mut answer = [0; ANSWER_MAX];
    let length = recv(connection.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match answer[..length].split_first() {
        Some((&MARKED, _)) => Ok(()),
        Some((_, why)) => Err(io::Error::other(String::from_utf8_lossy(why).into_owned())),
        None => Err(io::ErrorKind::ConnectionReset.into()),
    }
}
