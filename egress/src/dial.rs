//! Opens the way to a destination through an exit's server.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use cell_egress_core::credentials::Credentials;
use cell_egress_core::destination::Destination;
use cell_egress_core::exit::{Exit, Kind, Server, User};
use cell_egress_core::handshake::{Handshake, Step};
use cell_egress_core::policy::Timeouts;
use russh::ChannelStream;
use russh::client::Msg;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::secrets::{NoSecret, Secrets};
use crate::ssh;

/// The vault's field for the password of a proxy's user.
const PASSWORD: &str = "password";
/// What is read of a handshake at a time.
const PIECE: usize = 512;

/// The exit's side of a connection, and what the destination said while the way was opened.
pub struct Opened {
    /// From here on the destination's bytes.
    pub stream: Far,
    /// The first of them.
    pub early: Vec<u8>,
}

/// See [`Opened`]. It ends with a reset unless all was carried, so that what was cut short does not look finished to the far
/// end; a channel knows no reset, and is closed without an end of file.
pub struct Far {
    way: Way,
    whole: bool,
}

enum Way {
    /// A connection of its own.
    Tcp(TcpStream),
    /// A channel, and the session that it is part of.
    Ssh(ChannelStream<Msg>, ssh::InUse),
}

/// Who dials for one exit.
#[derive(Debug)]
pub enum Dialer {
    /// Each connection anew.
    Proxy,
    /// Over sessions that are kept.
    Ssh(ssh::Sessions),
}

impl Dialer {
    /// Who dials for `exit`.
    pub fn of(exit: &Exit) -> Self {
        match &exit.kind {
            Kind::Socks5(..) | Kind::HttpConnect(..) | Kind::Tor(_) => Dialer::Proxy,
            Kind::Ssh(server, user, pins) => Dialer::Ssh(ssh::Sessions::new(
                exit.secret(ssh::PRIVATE_KEY),
                *server,
                user.clone(),
                pins.clone(),
            )),
        }
    }

    /// Opens the way for a connection of `peer`.
    ///
    /// # Errors
    /// [`Failure`]; nothing is tried in another way.
    pub async fn open(
        &self,
        exit: &Exit,
        peer: IpAddr,
        destination: Destination,
        timeouts: &Timeouts,
        secrets: &dyn Secrets,
    ) -> Result<Opened, Failure> {
        let handshake = match (&exit.kind, self) {
            (_, Dialer::Ssh(sessions)) => return sessions.open(peer, destination, timeouts, secrets).await,
            (Kind::Socks5(_, user), Dialer::Proxy) => {
                Handshake::socks5(destination, login(exit, user.as_ref(), secrets).await?)
            }
            (Kind::HttpConnect(_, user), Dialer::Proxy) => {
                Handshake::http_connect(destination, login(exit, user.as_ref(), secrets).await?.as_ref())
            }
            (Kind::Tor(_), Dialer::Proxy) => {
                Handshake::socks5(destination, Some(Credentials::isolating(&exit.id, peer)))
            }
            (Kind::Ssh(..), Dialer::Proxy) => return Err(Failure::Ssh("no sessions".to_owned())),
        };
        let stream = connect(exit.kind.server(), timeouts).await?;
        match timeout(timeouts.handshake, shake(stream, handshake)).await {
            Ok(opened) => opened,
            Err(_) => Err(Failure::HandshakeTimeout),
        }
    }
}

/// Connects to an exit's own server, which is all that is ever connected to.
///
/// # Errors
/// [`Failure::Connect`], [`Failure::ConnectTimeout`], [`Failure::Local`]
pub async fn connect(server: Server, timeouts: &Timeouts) -> Result<TcpStream, Failure> {
    let stream = match timeout(timeouts.connect, TcpStream::connect(server.address())).await {
        Ok(connected) => connected.map_err(Failure::connecting)?,
        Err(_) => return Err(Failure::ConnectTimeout),
    };
    stream.set_nodelay(true).map_err(Failure::connecting)?;
    Ok(stream)
}

async fn login(
    exit: &Exit,
    user: Option<&User>,
    secrets: &dyn Secrets,
) -> Result<Option<Credentials>, Failure> {
    let Some(user) = user else { return Ok(None) };
    let wanted = exit.secret(PASSWORD);
    let password = secrets.read(&wanted).await?;
    let credentials = Credentials::try_new(user.as_str(), password).map_err(|why| NoSecret::Unusable {
        name: wanted.to_string(),
        why: why.to_string(),
    })?;
    Ok(Some(credentials))
}

async fn shake(mut stream: TcpStream, mut handshake: Handshake) -> Result<Opened, Failure> {
    stream
        .write_all(handshake.start().bytes())
        .await
        .map_err(Failure::talking)?;
    let mut piece = [0; PIECE];
    loop {
        let length = stream.read(&mut piece).await.map_err(Failure::talking)?;
        if length == 0 {
            return Err(Failure::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
        match handshake.receive(&piece[..length])? {
            Step::Wait => {}
            Step::Send(more) => stream.write_all(more.bytes()).await.map_err(Failure::talking)?,
            Step::Open(early) => {
                let stream = Far::tcp(stream);
                return Ok(Opened { stream, early });
            }
        }
    }
}

impl Far {
    fn tcp(stream: TcpStream) -> Self {
        Far {
            way: Way::Tcp(stream),
            whole: false,
        }
    }

    /// Over a channel of a session.
    pub fn ssh(channel: ChannelStream<Msg>, session: ssh::InUse) -> Self {
        Far {
            way: Way::Ssh(channel, session),
            whole: false,
        }
    }

    /// All that was said in both directions has been carried: the connection ends as it is.
    pub fn carried(mut self) {
        self.whole = true;
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        if !self.whole
            && let Way::Tcp(stream) = &self.way
            && let Err(error) = stream.set_zero_linger()
        {
            tracing::debug!(%error, "SO_LINGER");
        }
    }
}

impl AsyncRead for Far {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().way {
            Way::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Way::Ssh(channel, session) => {
                let before = buf.filled().len();
                let polled = Pin::new(channel).poll_read(cx, buf);
                // A session that is lost ends its channels as if they had been finished.
                let at_end = matches!(polled, Poll::Ready(Ok(()))) && buf.filled().len() == before;
                if at_end && session.is_over() {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                polled
            }
        }
    }
}

impl AsyncWrite for Far {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().way {
            Way::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Way::Ssh(channel, _) => poll_messages(channel, cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().way {
            Way::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Way::Ssh(channel, _) => Pin::new(channel).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().way {
            Way::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Way::Ssh(channel, _) => Pin::new(channel).poll_shutdown(cx),
        }
    }
}

/// Writes as many messages as the session takes now. The channel keeps the first that it does not take, which has to be offered
/// again as it was: so each is short.
fn poll_messages<W: AsyncWrite + Unpin>(
    channel: &mut W,
    cx: &mut Context<'_>,
    buf: &[u8],
) -> Poll<io::Result<usize>> {
    let mut taken = 0;
    for message in buf.chunks(ssh::MESSAGE) {
        match Pin::new(&mut *channel).poll_write(cx, message) {
            Poll::Ready(Ok(length)) if length == message.len() => taken += length,
            Poll::Ready(Ok(length)) => return Poll::Ready(Ok(taken + length)),
            Poll::Pending if taken > 0 => break,
            other => return other,
        }
    }
    Poll::Ready(Ok(taken))
}
