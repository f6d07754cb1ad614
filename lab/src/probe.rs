//! Single probes, and servers that answer them.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt, sockopt,
};

use crate::netns::Namespace;

/// How long a server thread waits before it looks whether it is still wanted.
const IDLE: Duration = Duration::from_millis(200);

/// A server on every address of a namespace that sends back what it gets, over TCP and UDP. It lives as long as the
/// test's process: its sockets hold the namespace, its threads sleep.
#[derive(Debug, Clone, Copy)]
pub struct EchoServer {
    /// Its port.
    pub port: u16,
}

impl EchoServer {
    /// Starts it on `port`.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(namespace: &Namespace, port: u16) -> Result<Self> {
        Self::recording(namespace, port).map(|(server, _)| server)
    }

    /// Starts it on `port`, and notes when datagrams arrive.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn recording(namespace: &Namespace, port: u16) -> Result<(Self, Arrivals)> {
        let arrivals = Arrivals::default();
        let noted = arrivals.clone();
        let note = move |heard: Heard| match heard {
            Heard::Datagram(_) => noted.note(),
            Heard::Stream(_) => {}
        };
        Ok((Self::hearing(namespace, port, note)?, arrivals))
    }

    /// Starts it on `port`, and tells `hear` all that comes, as it comes.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn hearing(
        namespace: &Namespace,
        port: u16,
        hear: impl Fn(Heard) + Send + Sync + 'static,
    ) -> Result<Self> {
        let sockets = namespace.inside(|| -> io::Result<_> {
            // An IPv6 socket on `::` serves IPv4 too (ipv6(7), IPV6_V6ONLY off).
            Ok((
                TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?,
                UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?,
            ))
        })?;
        let (tcp, udp) = sockets.with_context(|| format!("echo on port {port} in {}", namespace.name()))?;
        let hear = Arc::new(hear);
        let heard = Arc::clone(&hear);
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let hear = Arc::clone(&heard);
                thread::spawn(move || echo_stream(stream, &*hear));
            }
        });
        setsockopt(&udp, sockopt::Ipv6RecvPacketInfo, &true)?;
        thread::spawn(move || echo_datagrams(&udp, &*hear));
        Ok(EchoServer { port })
    }
}

/// What came to an [`EchoServer`].
#[derive(Debug, Clone, Copy)]
pub enum Heard<'a> {
    /// A datagram.
    Datagram(&'a [u8]),
    /// A piece of what a connection brought.
    Stream(&'a [u8]),
}

/// When datagrams arrived at an [`EchoServer`], in their order.
#[derive(Debug, Clone, Default)]
pub struct Arrivals(Arc<Mutex<Vec<Instant>>>);

impl Arrivals {
    /// How many arrived from `from` on and before `to`.
    pub fn between(&self, from: Instant, to: Instant) -> usize {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = |moment| times.partition_point(|time| *time < moment);
        before(to).saturating_sub(before(from))
    }

    /// Notes one that arrives now.
    pub fn note(&self) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.push(Instant::now());
    }
}

fn echo_stream(mut stream: TcpStream, hear: &dyn Fn(Heard)) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        hear(Heard::Stream(&buffer[..length]));
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

fn echo_datagrams(socket: &UdpSocket, hear: &dyn Fn(Heard)) {
    let mut buffer = [0; 2048];
    loop {
        if echo_datagram(socket, &mut buffer, hear).is_err() {
            thread::sleep(IDLE);
        }
    }
}

/// Answers from the address that was asked (IPV6_PKTINFO, which tells IPv4 addresses as mapped ones): a namespace has
/// several, and a connected asker takes no answer from another.
fn echo_datagram(socket: &UdpSocket, buffer: &mut [u8], hear: &dyn Fn(Heard)) -> nix::Result<()> {
    let mut control = nix::cmsg_space!(nix::libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrIn6>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let (length, from) = (message.bytes, message.address);
    let asked = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(nix::libc::in6_pktinfo {
            ipi6_ifindex: 0,
            ..info
        }),
        _ => None,
    });
    hear(Heard::Datagram(&buffer[..length]));
    let control = asked.as_ref().map(ControlMessage::Ipv6PacketInfo);
    let parts = [IoSlice::new(&buffer[..length])];
    sendmsg(
        socket.as_raw_fd(),
        &parts,
        control.as_slice(),
        MsgFlags::empty(),
        from.as_ref(),
    )?;
    Ok(())
}

/// An established TCP connection to an [`EchoServer`].
#[derive(Debug)]
pub struct Flow {
    stream: TcpStream,
}

impl Flow {
    /// Connects from inside `namespace`.
    ///
    /// # Errors
    /// As connect(2), or after `deadline`.
    pub fn open(namespace: &Namespace, to: SocketAddr, deadline: Duration) -> Result<Self> {
        let stream = namespace.inside(|| TcpStream::connect_timeout(&to, deadline))??;
        stream.set_nodelay(true)?;
        Ok(Flow { stream })
    }

    /// Sends a byte and waits for it to come back.
    ///
    /// # Errors
    /// When it does not within `deadline`; the flow is of no further use then.
    pub fn echo(&mut self, deadline: Duration) -> Result<Duration> {
        let start = Instant::now();
        self.stream.set_read_timeout(Some(deadline))?;
        self.stream.set_write_timeout(Some(deadline))?;
        self.stream.write_all(b"!")?;
        self.stream.read_exact(&mut [0])?;
        Ok(start.elapsed())
    }
}

/// Whether a TCP connection to an echo server can be made and carries something, within `deadline`.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn tcp_echo(namespace: &Namespace, to: SocketAddr, deadline: Duration) -> Result<bool> {
    namespace.path().try_exists()?;
    Ok(Flow::open(namespace, to, deadline)
        .and_then(|mut flow| flow.echo(deadline))
        .is_ok())
}

/// Sends `count` datagrams to an echo server and answers how many came back within `deadline` after the last.
///
/// # Errors
/// When there is no socket.
pub fn udp_echo(namespace: &Namespace, to: SocketAddr, count: u32, deadline: Duration) -> Result<u32> {
    let socket = namespace.inside(|| udp_socket(to))??;
    for number in 0..count {
        // An ICMP error of an earlier datagram is told here once; the datagram is not sent then.
        if socket.send(&number.to_be_bytes()).is_err() {
            let _ = socket.send(&number.to_be_bytes());
        }
    }
    let end = Instant::now() + deadline;
    let mut answered = 0;
    while answered < count {
        let Some(left) = end
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        else {
            break;
        };
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut [0; 8]) {
            Ok(_) => answered += 1,
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) => break,
        }
    }
    Ok(answered)
}

/// A socket connected to `to`, in the namespace of the calling thread.
pub(crate) fn udp_socket(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv6() {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket)
}

/// What ping(8) saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pings {
    /// Echo requests sent.
    pub sent: u32,
    /// Echo replies received.
    pub received: u32,
}

/// Sends `count` ICMP echo requests, one per `interval`, and waits up to `deadline` for the last answer.
///
/// # Errors
/// When ping(8) cannot run.
pub fn ping(
    namespace: &Namespace,
    to: IpAddr,
    count: u32,
    interval: Duration,
    deadline: Duration,
) -> Result<Pings> {
    let mut command = Command::new("ping");
    command
        .args([
            "-n",
            "-q",
            "-c",
            &count.to_string(),
            "-i",
            &format!("{:.3}", interval.as_secs_f64()),
        ])
        .args(["-W", &format!("{:.3}", deadline.as_secs_f64()), &to.to_string()]);
    // Its exit status says whether all were answered, which is not a failure of the probe.
    let output = namespace.inside(|| command.output())??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    pings(&text).with_context(|| format!("ping: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Reads "N packets transmitted, M received, ...".
fn pings(text: &str) -> Option<Pings> {
    let line = text.lines().find(|line| line.contains("packets transmitted"))?;
    let mut numbers = line
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok());
    Some(Pings {
        sent: numbers.next()?,
        received: numbers.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_ping_is_read() {
        let text = "--- ::1 ping statistics ---\n5 packets transmitted, 3 received, +1 errors, 40% packet loss, time 4ms\n";
        assert_eq!(pings(text), Some(Pings { sent: 5, received: 3 }));
        assert_eq!(pings("ping: unknown host"), None);
    }
}
