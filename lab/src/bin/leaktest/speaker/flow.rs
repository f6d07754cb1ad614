//! Flows of a device: young ones that end with the first answer, and such as are gone on with.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use crate::key::Meant;
use crate::said::Said;

/// How long a new TCP flow waits for its answer.
const LIFE: Duration = Duration::from_secs(2);

/// A new TCP flow: it says one thing and ends with the first answer.
pub struct Young {
    flow: TcpStream,
    opened: Instant,
    /// What it says first, once it can.
    says: Says,
    has_spoken: bool,
}

/// What a new flow says.
pub enum Says {
    /// This.
    Question(Vec<u8>),
    /// Who speaks, and when: as soon as there is a connection, not when one is asked for.
    Speaker(usize, bool),
}

impl Says {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Says::Question(bytes) => bytes.clone(),
            Says::Speaker(speaker, v6) => Said::text(*speaker, *v6).into(),
        }
    }
}

impl Young {
    /// One that is being opened.
    pub fn open(to: SocketAddr, says: Says) -> Option<Self> {
        Some(Young {
            flow: begin(to)?,
            opened: Instant::now(),
            says,
            has_spoken: false,
        })
    }

    /// Whether there is something to wait for still.
    pub fn goes_on(&mut self) -> bool {
        if !self.has_spoken {
            match self.flow.write(&self.says.bytes()) {
                Ok(_) => self.has_spoken = true,
                Err(error) if waits(&error) => {}
                Err(_refused) => return false,
            }
        }
        let read = self.flow.read(&mut [0; 512]);
        read.is_err_and(|error| waits(&error)) && self.opened.elapsed() < LIFE
    }
}

/// Flows that were opened while one exit was assigned, and are gone on with.
pub struct Long {
    /// The exit.
    pub meant: Meant,
    speaker: usize,
    v6: bool,
    tcp: Option<TcpStream>,
    udp: UdpSocket,
}

impl Long {
    /// To this target; TCP is opened when it is gone on with.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open(meant: Meant, to: SocketAddr, speaker: usize) -> std::io::Result<Self> {
        let udp = UdpSocket::bind((any(to.is_ipv6()), 0))?;
        udp.connect(to)?;
        udp.set_nonblocking(true)?;
        let tcp = None;
        Ok(Long {
            meant,
            speaker,
            v6: to.is_ipv6(),
            tcp,
            udp,
        })
    }

    /// Sends something. A TCP flow that broke is opened anew where it is told to whom.
    pub fn go_on(&mut self, to: Option<SocketAddr>) {
        let _sent = self.udp.send(self.text().as_bytes());
        while self.udp.recv(&mut [0; 64]).is_ok() {}
        if self.tcp.is_none() {
            self.tcp = to.and_then(begin);
        }
        let says = self.text();
        let Some(flow) = &mut self.tcp else { return };
        let written = flow.write(says.as_bytes()).map(drop);
        let read = match flow.read(&mut [0; 64]) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            other => other,
        };
        let errors = [written.err(), read.err()];
        if errors.iter().flatten().any(|error| !waits(error)) {
            self.tcp = None;
        }
    }

    fn text(&self) -> String {
        Said::text(self.speaker, self.v6)
    }
}

/// Not connected yet, or nothing there yet.
fn waits(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

/// The address that is none.
pub fn any(v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

/// A TCP flow that is being opened.
fn begin(to: SocketAddr) -> Option<TcpStream> {
    let family = if to.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let flow = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).ok()?;
    match connect(flow.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Some(flow.into()),
        Err(_refused) => None,
    }
}
