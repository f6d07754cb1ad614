//! Flows of a device: young ones that end with the first answer, and such as are gone on with.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use crate::key::Meant;

/// How long a new TCP flow waits for its answer.
const LIFE: Duration = Duration::from_secs(2);

/// A new TCP flow: it says one thing and ends with the first answer.
pub struct Young {
    flow: TcpStream,
    opened: Instant,
    says: Vec<u8>,
    has_spoken: bool,
}

impl Young {
    /// One that is being opened.
    pub fn open(to: SocketAddr, says: Vec<u8>) -> Option<Self> {
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
            match self.flow.write(&self.says) {
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
    letter: char,
    tcp: Option<TcpStream>,
    udp: UdpSocket,
}

impl Long {
    /// To this target; TCP is opened when it is gone on with.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open(meant: Meant, to: SocketAddr, letter: char) -> std::io::Result<Self> {
        let udp = UdpSocket::bind((any(to.is_ipv6()), 0))?;
        udp.connect(to)?;
        udp.set_nonblocking(true)?;
        let tcp = None;
        Ok(Long {
            meant,
            letter,
            tcp,
            udp,
        })
    }

    /// Sends something. A TCP flow that broke is opened anew where it is told to whom.
    pub fn go_on(&mut self, to: Option<SocketAddr>) {
        let _sent = self.udp.send(format!("still{}", self.letter).as_bytes());
        while self.udp.recv(&mut [0; 64]).is_ok() {}
        if self.tcp.is_none() {
            self.tcp = to.and_then(begin);
        }
        let Some(flow) = &mut self.tcp else { return };
        let written = flow.write(self.letter.to_string().as_bytes()).map(drop);
        let read = match flow.read(&mut [0; 64]) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            other => other,
        };
        let errors = [written.err(), read.err()];
        if errors.iter().flatten().any(|error| !waits(error)) {
            self.tcp = None;
        }
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
