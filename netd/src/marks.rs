//! Gives sockets of cell-egress the mark of an exit (listener `mark`, docs/egress.md, ADR 0042), so that what they send goes the way
//! that packets of the exit's peers go: by the mark, the rule and the table. netd makes no socket, sends nothing and reads nothing.

use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::time::Duration;

use cell_netd_core::mark_request;
use cell_netd_core::model::{ExitId, ExitMark};
use cell_proto::ipc::CallerPolicy;
use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::ipproto;
use rustix::net::sockopt::{socket_domain, socket_protocol, socket_type};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketType, recvmsg,
};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// Of the accepted exits that have an interface.
pub type Marks = BTreeMap<ExitId, ExitMark>;

/// The answer's first byte: the socket has its mark.
const MARKED: u8 = 0;
/// The answer's first byte: it has not, and UTF-8 text follows that says why.
const REFUSED: u8 = 1;
/// How long a caller may take to send its message: the next one waits meanwhile.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(1);
/// How long to wait after accept(2) failed, e.g. for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Why a socket gets no mark.
#[derive(Debug, thiserror::Error)]
enum NotMarked {
    /// The connection broke, or the kernel would not.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Not a message of this kind.
    #[error(transparent)]
    Malformed(#[from] mark_request::Malformed),
    /// None, or several.
    #[error("there must be one descriptor")]
    Descriptors,
    /// Not an exit with an interface, of the accepted specification.
    #[error("there is no such exit")]
    NoExit,
    /// A descriptor of another kind.
    #[error("the descriptor is no UDP or TCP socket")]
    Kind,
}

/// Serves for ever, on a thread of its own: what is handed over is closed here too, and close(2) of a socket that lingers (SO_LINGER,
/// socket(7)) takes as long as whoever made it likes. Without `callers` everybody is refused, so that nobody waits for an answer.
///
/// # Errors
/// There is no thread.
pub fn spawn(
    listener: StdListener,
    callers: Option<CallerPolicy>,
    marks: watch::Receiver<Marks>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let serving = move || {
        runtime.block_on(async {
            match UnixListener::from_std(listener) {
                Ok(listener) => serve(listener, callers, marks).await,
                Err(error) => tracing::error!(%error, "exits are not proven by their marks"),
            }
        });
    };
    std::thread::Builder::new()
        .name("marks".to_owned())
        .spawn(serving)
        .map(drop)
}

/// One message of each connection. Whatever a caller sends, the next one is served.
async fn serve(listener: UnixListener, callers: Option<CallerPolicy>, marks: watch::Receiver<Marks>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => answer(&stream, callers.as_ref(), &marks).await,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: &UnixStream, callers: Option<&CallerPolicy>, marks: &watch::Receiver<Marks>) {
    let outcome = match callers.map(|callers| callers.identify(stream)) {
        None => Err("nobody is given marks: netd.toml has no [callers.mark]".to_owned()),
        Some(Err(refusal)) => {
            tracing::warn!(reason = refusal.reason(), %refusal, "caller refused");
            Err(refusal.to_string())
        }
        Some(Ok(_)) => mark(stream, marks).await.map_err(|error| error.to_string()),
    };
    let message = match outcome {
        Ok(()) => vec![MARKED],
        Err(why) => [&[REFUSED], why.as_bytes()].concat(),
    };
    // A caller that does not wait for its answer does not get one.
    if let Err(error) = stream.try_write(&message) {
        tracing::debug!(%error, "answer not delivered");
    }
}

async fn mark(stream: &UnixStream, marks: &watch::Receiver<Marks>) -> Result<(), NotMarked> {
    let received = stream.async_io(Interest::READABLE, || receive(stream));
    let received = tokio::time::timeout(MESSAGE_DEADLINE, received).await;
    let (payload, descriptors) = received.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let id = mark_request::exit_of(&payload)?;
    let socket = only(descriptors)?;
    let mark = marks.borrow().get(&id).copied().ok_or(NotMarked::NoExit)?;
    setsockopt(&socket, sockopt::Mark, &mark.value()).map_err(io::Error::from)?;
    Ok(())
}

/// A longer message comes out empty, which is malformed.
fn receive(socket: impl AsFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut payload = [0; mark_request::BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = recvmsg(socket, &mut [IoSliceMut::new(&mut payload)], &mut control, flags)?;
    // Collected before any check, so that a refused message leaves no descriptor open.
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors = descriptors.flatten().collect();
    let length = match message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        true => 0,
        false => message.bytes,
    };
    Ok((payload[..length].to_vec(), descriptors))
}

/// The one socket.
fn only(descriptors: Vec<OwnedFd>) -> Result<OwnedFd, NotMarked> {
    let [socket] = <[OwnedFd; 1]>::try_from(descriptors).map_err(|_| NotMarked::Descriptors)?;
    speaks_ip(&socket).then_some(socket).ok_or(NotMarked::Kind)
}

/// Whether it is a socket of TCP or UDP: not of what else has segments or datagrams (ping, MPTCP), and never a raw one.
fn speaks_ip(socket: &OwnedFd) -> bool {
    let protocol = socket_protocol(socket).ok().flatten();
    if ![ipproto::TCP, ipproto::UDP].map(Some).contains(&protocol) {
        return false;
    }
    let domain =
        socket_domain(socket).is_ok_and(|is| [AddressFamily::INET, AddressFamily::INET6].contains(&is));
    domain && socket_type(socket).is_ok_and(|is| [SocketType::DGRAM, SocketType::STREAM].contains(&is))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::fs::File;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixDatagram;

    fn udp() -> OwnedFd {
        UdpSocket::bind("127.0.0.1:0").unwrap().into()
    }

    #[test]
    fn one_socket_of_udp_or_tcp_alone_is_taken() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        for socket in [udp(), tcp.into()] {
            only(vec![socket]).unwrap();
        }
        for descriptors in [vec![], vec![udp(), udp()]] {
            assert!(matches!(only(descriptors), Err(NotMarked::Descriptors)));
        }
        let others = [
            OwnedFd::from(File::open("/dev/null").unwrap()),
            UnixDatagram::unbound().unwrap().into(),
        ];
        for other in others {
            assert!(matches!(only(vec![other]), Err(NotMarked::Kind)));
        }
    }

    /// One end of a SOCK_SEQPACKET pair.
    #[test]
    fn what_is_too_long_counts_as_nothing() {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.send(&[1; 1 + mark_request::BYTES_MAX]).unwrap();
        assert_eq!(receive(&far).unwrap().0, b"");
        near.send(b"\x01exit-a").unwrap();
        assert_eq!(receive(&far).unwrap().0, b"\x01exit-a");
    }
}
