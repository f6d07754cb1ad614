//! Asks a resolver, by the one way that the question has.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cell_egress_core::dns::address::Resolver;
use cell_egress_core::dns::table::{Interface, Reached};
use cell_egress_core::exit::ExitId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use super::marker::Marker;
use super::socket::{self, Via};
use super::wire::{Asked, DATAGRAM_MAX, Heard, Outgoing, Reply, Transport};
use crate::engine::Engine;
use crate::failure::{Failure, is_shortage};

/// How long a resolver may take over UDP.
pub(super) const UDP_PATIENCE: Duration = Duration::from_millis(1500);
/// And over TCP, with the connection.
pub(super) const TCP_PATIENCE: Duration = Duration::from_secs(4);
/// And through an exit that carries connections: Tor takes its time.
const EXIT_PATIENCE: Duration = Duration::from_secs(15);
/// Datagrams that are read for one question: whoever guesses has no more tries than these.
const DATAGRAMS_MAX: usize = 8;

/// By which way resolvers are asked. There is no going from one to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// As the machine's routes lead.
    Default,
    /// Out of an interface.
    Interface(Interface),
    /// Through a redirect exit.
    Redirect(ExitId),
}

impl Path {
    /// The way of an exit.
    pub fn of(id: &ExitId, reached: &Reached) -> Self {
        match reached {
            Reached::Interface(interface) => Path::Interface(interface.clone()),
            Reached::Redirect => Path::Redirect(id.clone()),
        }
    }
}

/// Why a resolver gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing came.
    #[error("it did not answer in time")]
    Timeout,
    /// The question could not be sent, or what came back says that nobody is there.
    #[error("it cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// It was not asked: this machine has no socket for the question, or no memory to send it.
    #[error("this machine has no socket for the question: {0}")]
    Local(#[source] io::Error),
    /// It was not asked: netd gave the socket no mark.
    #[error("netd gives no mark: {0}")]
    NoMark(io::Error),
    /// The exit did not carry the connection.
    #[error("the exit did not carry the question: {0}")]
    Exit(#[from] Failure),
    /// The exit is none that runs.
    #[error("the exit does not run")]
    NoExit,
    /// It said something else.
    #[error("{0}")]
    Unwilling(&'static str),
    /// What came was no answer to the question.
    #[error("what came was no answer to the question")]
    Nonsense,
    /// The name cannot be written, or there is no randomness.
    #[error("the question cannot be asked")]
    Unspeakable,
}

impl NoAnswer {
    /// Whether it says something of the way or the resolver. An exit that is not told of yet does not: after a start it comes by another
    /// message than DNS. Nor does what this machine lacks by itself (descriptors, memory, a mark, randomness): nothing was sent, and an exit for which that counted would be called down, and its devices moved to
    /// another, for a shortage that all exits have.
    pub fn is_of_the_way(&self) -> bool {
        match self {
            NoAnswer::Timeout | NoAnswer::Unreachable(_) | NoAnswer::Unwilling(_) | NoAnswer::Nonsense => {
                true
            }
            NoAnswer::Exit(failure) => !failure.is_local(),
            NoAnswer::NoExit | NoAnswer::Local(_) | NoAnswer::NoMark(_) | NoAnswer::Unspeakable => false,
        }
    }
}

/// Of a socket that was made: what it says of the far side, unless the machine runs short meanwhile.
impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> Self {
        match is_shortage(&error) {
            true => NoAnswer::Local(error),
            false => NoAnswer::Unreachable(error),
        }
    }
}

/// Who asks: everything that reaches resolvers.
#[derive(Clone)]
pub struct Asker {
    /// The exits that carry connections.
    pub engine: Arc<Engine>,
    /// Who marks sockets; none: nobody.
    pub marker: Option<Marker>,
}

impl Asker {
    /// Asks one resolver.
    ///
    /// # Errors
    /// [`NoAnswer`]; nothing is tried by another way.
    pub async fn ask(
        &self,
        path: &Path,
        resolver: Resolver,
        asked: &Asked,
        peer: IpAddr,
    ) -> Result<Reply, NoAnswer> {
        let outgoing = outgoing(asked)?;
        let via = match path {
            Path::Default => Via::Routes,
            Path::Interface(interface) => Via::Interface(interface),
            Path::Redirect(exit) => {
                let carried = self.through(exit, resolver, &outgoing, peer);
                return in_time(EXIT_PATIENCE, carried).await;
            }
        };
        by(via, resolver, &outgoing).await
    }

    async fn through(
        &self,
        exit: &ExitId,
        resolver: Resolver,
        outgoing: &Outgoing,
        peer: IpAddr,
    ) -> Result<Reply, NoAnswer> {
        let destination = resolver.destination().ok_or(NoAnswer::NoExit)?;
        let opened = self.engine.open(exit, peer, destination).await;
        let opened = opened.ok_or(NoAnswer::NoExit)??;
        exchange(opened.early.as_slice(), opened.stream, outgoing).await
    }
}

/// Asks one resolver by the mark of an exit.
///
/// # Errors
/// [`NoAnswer`]; [`NoAnswer::NoMark`] before anything was sent.
pub(super) async fn ask_by_mark(
    marker: &Marker,
    exit: &ExitId,
    resolver: Resolver,
    asked: &Asked,
) -> Result<Reply, NoAnswer> {
    by(Via::Mark(marker, exit), resolver, &outgoing(asked)?).await
}

fn outgoing(asked: &Asked) -> Result<Outgoing, NoAnswer> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(|_| NoAnswer::Unspeakable)?;
    Outgoing::new(asked, u16::from_be_bytes(id)).ok_or(NoAnswer::Unspeakable)
}

/// What netd takes for a mark is not the resolver's time.
async fn by(via: Via<'_>, resolver: Resolver, outgoing: &Outgoing) -> Result<Reply, NoAnswer> {
    let socket = socket::udp(via, resolver.address()).await?;
    if let Some(reply) = in_time(UDP_PATIENCE, over_udp(socket, resolver, outgoing, &[])).await? {
        return Ok(reply);
    }
    let socket = socket::tcp(via, resolver.address()).await?;
    in_time(TCP_PATIENCE, over_tcp(socket, resolver, outgoing, &[])).await
}

pub(super) async fn in_time<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, NoAnswer>>,
) -> Result<T, NoAnswer> {
    timeout(patience, answer).await.unwrap_or(Err(NoAnswer::Timeout))
}

/// None: the answer comes by TCP alone. The port is the kernel's choice, a random one; only what comes from the resolver's
/// address is read. `header` stands before the question.
pub(super) async fn by_udp(
    via: Via<'_>,
    resolver: Resolver,
    outgoing: &Outgoing,
    header: &[u8],
) -> Result<Option<Reply>, NoAnswer> {
    let socket = socket::udp(via, resolver.address()).await?;
    over_udp(socket, resolver, outgoing, header).await
}

async fn over_udp(
    socket: UdpSocket,
    resolver: Resolver,
    outgoing: &Outgoing,
    header: &[u8],
) -> Result<Option<Reply>, NoAnswer> {
    socket.connect(resolver.address()).await?;
    socket.send(&[header, &outgoing.bytes].concat()).await?;
    let mut buffer = [0; DATAGRAM_MAX as usize + 1];
    for _ in 0..DATAGRAMS_MAX {
        let length = socket.recv(&mut buffer).await?;
        match outgoing.hear(&buffer[..length], Transport::Udp) {
            Heard::Reply(reply) => return Ok(Some(reply)),
            Heard::Truncated => return Ok(None),
            Heard::Unwilling(why) => return Err(NoAnswer::Unwilling(why)),
            Heard::Other => {}
        }
    }
    // Somebody guesses: over TCP that is of no use.
    Ok(None)
}

pub(super) async fn by_tcp(
    via: Via<'_>,
    resolver: Resolver,
    outgoing: &Outgoing,
    header: &[u8],
) -> Result<Reply, NoAnswer> {
    let socket = socket::tcp(via, resolver.address()).await?;
    over_tcp(socket, resolver, outgoing, header).await
}

async fn over_tcp(
    socket: TcpSocket,
    resolver: Resolver,
    outgoing: &Outgoing,
    header: &[u8],
) -> Result<Reply, NoAnswer> {
    let mut stream = socket.connect(resolver.address()).await?;
    if !header.is_empty() {
        stream.write_all(header).await?;
    }
    exchange([].as_slice(), stream, outgoing).await
}

/// One question and one answer over a connection of their own; `early` is what came before the connection was ours.
async fn exchange(
    early: &[u8],
    stream: impl AsyncRead + AsyncWrite + Unpin,
    outgoing: &Outgoing,
) -> Result<Reply, NoAnswer> {
    let (reading, mut writing) = tokio::io::split(stream);
    let length = u16::try_from(outgoing.bytes.len()).map_err(|_| NoAnswer::Unspeakable)?;
    // In one piece: some servers take two as two messages.
    let framed = [length.to_be_bytes().as_slice(), outgoing.bytes.as_slice()].concat();
    writing.write_all(&framed).await?;
    writing.flush().await?;
    let mut reading = early.chain(reading);
    let length = reading.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    reading.read_exact(&mut answer).await?;
    match outgoing.hear(&answer, Transport::Tcp) {
        Heard::Reply(reply) => Ok(reply),
        Heard::Unwilling(why) => Err(NoAnswer::Unwilling(why)),
        Heard::Truncated | Heard::Other => Err(NoAnswer::Nonsense),
    }
}
