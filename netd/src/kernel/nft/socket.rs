//! The nfnetlink socket: transactions, dumps, and single reads. Blocking; calls are made from a thread that may wait.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{DecodeError, NLM_F_DUMP, NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, connect, getsockname, recv,
    send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::batch::{self, Batch};

/// A transaction is one message: 20,000 peers with services are some 10 MiB.
const SEND_BUFFER: usize = 64 << 20;
const RECEIVE_BUFFER: usize = 8 << 20;
/// The kernel answers at once; longer means that it never will.
const ANSWER: Duration = Duration::from_secs(20);
/// Room for one datagram of a dump (the kernel sends at most 32 KiB).
const DATAGRAM: usize = 1 << 18;

/// What the kernel would not do.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The socket failed.
    #[error("the nftables socket failed")]
    Socket(#[from] io::Error),
    /// An operation was refused; nothing of its transaction was done.
    #[error("nftables refused operation {operation}: {}", io::Error::from_raw_os_error(*.errno))]
    Refused {
        /// Its position, from 0.
        operation: u32,
        /// errno(3).
        errno: i32,
    },
    /// An answer that cannot be read.
    #[error("nftables answered what cannot be read")]
    Decode(#[from] DecodeError),
    /// Other transactions went on and on during a dump.
    #[error("nftables changed again and again while it was read")]
    Restless,
}

impl NftError {
    pub(super) fn errno(&self) -> Option<i32> {
        match self {
            NftError::Refused { errno, .. } => Some(*errno),
            NftError::Socket(_) | NftError::Decode(_) | NftError::Restless => None,
        }
    }
}

/// Reads once more where what is read was changed meanwhile.
pub(super) fn again<T>(mut read: impl FnMut() -> Result<T, NftError>) -> Result<T, NftError> {
    const ATTEMPTS: usize = 10;
    for _ in 0..ATTEMPTS {
        match read() {
            Err(NftError::Restless) => {}
            Err(error) if error.errno() == Some(libc::EINTR) => {}
            outcome => return outcome,
        }
    }
    Err(NftError::Restless)
}

/// The kernel's address; for bind(2), any.
const KERNEL: u32 = 0;

/// A socket of NETLINK_NETFILTER.
#[derive(Debug)]
pub struct NftSocket {
    socket: OwnedFd,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl NftSocket {
    /// Opens one.
    ///
    /// # Errors
    /// Of socket(2) and setsockopt(2).
    pub fn open() -> io::Result<Self> {
        let netfilter = SockProtocol::NetlinkNetFilter;
        let made = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            netfilter,
        )?;
        bind(made.as_raw_fd(), &NetlinkAddr::new(KERNEL, 0))?;
        Self::held(made)
    }

    /// Takes one that somebody else opened and keeps open: what it owns stays owned when this process ends, so that nobody may
    /// change it before the next comes. What an earlier holder did not read is thrown away.
    ///
    /// # Errors
    /// When it is no bound socket of netlink, and of setsockopt(2).
    pub fn held(socket: OwnedFd) -> io::Result<Self> {
        let port = getsockname::<NetlinkAddr>(socket.as_raw_fd())?.pid();
        if port == KERNEL {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the nftables socket is not bound",
            ));
        }
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::empty()))?;
        connect(socket.as_raw_fd(), &NetlinkAddr::new(KERNEL, 0))?;
        setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER)?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        setsockopt(
            &socket,
            sockopt::ReceiveTimeout,
            &TimeVal::new(ANSWER.as_secs() as i64, 0),
        )?;
        let mut taken = NftSocket {
            socket,
            port,
            sequence: 1,
            buffer: vec![0; DATAGRAM],
        };
        taken.drain()?;
        Ok(taken)
    }

    /// Reads what waits, and with it the rest of a dump that nobody ended, during which the kernel begins no other.
    fn drain(&mut self) -> io::Result<()> {
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                // Lost words of an earlier time (ENOBUFS).
                Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The socket's address, which the kernel names as the owner of our table.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Performs a transaction, wholly or not at all.
    pub(super) fn commit(&mut self, batch: Batch) -> Result<(), NftError> {
        if batch.is_empty() {
            return Ok(());
        }
        let wire = batch.serialize(self.sequence + 1);
        self.sequence = wire.last + 1;
        self.send(&wire.bytes)?;
        loop {
            let length = self.receive()?;
            for message in messages(&self.buffer[..length]) {
                let message = message?;
                let header = NetlinkBuffer::new_checked(&message)?;
                let sequence = header.sequence_number();
                if header.message_type() != NLMSG_ERROR
                    || !(wire.first - 1..=wire.last + 1).contains(&sequence)
                {
                    continue;
                }
                match error_code(message)? {
                    Some(errno) => {
                        return Err(NftError::Refused {
                            operation: sequence.saturating_sub(wire.first),
                            errno,
                        });
                    }
                    None if sequence == wire.last => return Ok(()),
                    None => {}
                }
            }
        }
    }

    /// A dump, taken again when a transaction came between (NLM_F_DUMP_INTR).
    pub(super) fn dump<T>(
        &mut self,
        family: NetfilterProtoFamily,
        request: impl Fn() -> NfTablesMessage,
        read: fn(&[u8], &mut Vec<T>) -> Result<(), DecodeError>,
    ) -> Result<Vec<T>, NftError> {
        match again(|| self.exchange_with(family, request(), NLM_F_DUMP, read)) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
            outcome => outcome,
        }
    }

    pub(super) fn exchange(
        &mut self,
        family: NetfilterProtoFamily,
        request: NfTablesMessage,
        flags: u16,
    ) -> Result<Vec<NfTablesMessage>, NftError> {
        self.exchange_with(family, request, flags, parsed)
    }

    /// Sends one request and collects what comes back until its end.
    pub(super) fn exchange_with<T>(
        &mut self,
        family: NetfilterProtoFamily,
        request: impl Into<NetfilterMessageInner>,
        flags: u16,
        mut read: impl FnMut(&[u8], &mut Vec<T>) -> Result<(), DecodeError>,
    ) -> Result<Vec<T>, NftError> {
        self.sequence += 1;
        let mut bytes = Vec::new();
        batch::append(&mut bytes, batch::request(family, request, flags, self.sequence));
        self.send(&bytes)?;
        let mut found = Vec::new();
        let mut interrupted = false;
        loop {
            let length = self.receive()?;
            for message in messages(&self.buffer[..length]) {
                let message = message?;
                let header = NetlinkBuffer::new_checked(&message)?;
                if header.sequence_number() != self.sequence {
                    continue;
                }
                interrupted |= header.flags() & NLM_F_DUMP_INTR != 0;
                match header.message_type() {
                    NLMSG_DONE if interrupted => return Err(NftError::Restless),
                    NLMSG_DONE => return Ok(found),
                    NLMSG_ERROR => {
                        return match error_code(message)? {
                            Some(errno) => Err(NftError::Refused { operation: 0, errno }),
                            None => Ok(found),
                        };
                    }
                    _ => read(message, &mut found)?,
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), bytes, MsgFlags::empty())?;
        Ok(())
    }

    /// Takes one datagram into the buffer, and answers its length.
    fn receive(&mut self) -> io::Result<usize> {
        Ok(recv(
            self.socket.as_raw_fd(),
            &mut self.buffer,
            MsgFlags::empty(),
        )?)
    }
}

/// NLM_F_DUMP_INTR (include/uapi/linux/netlink.h): what was dumped changed meanwhile.
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// The messages of a datagram.
fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<&[u8], DecodeError>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = match NetlinkBuffer::new_checked(rest) {
            Ok(header) => header.length() as usize,
            Err(error) => {
                rest = &[];
                return Some(Err(error));
            }
        };
        let message = &rest[..length];
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(message))
    })
}

/// errno of an NLMSG_ERROR message; none: it is an acknowledgement.
fn error_code(message: &[u8]) -> Result<Option<i32>, DecodeError> {
    match NetlinkMessage::<NetfilterMessage>::deserialize(message)?.payload {
        NetlinkPayload::Error(error) => Ok(error.code.map(|code| -code.get())),
        _ => Ok(None),
    }
}

pub(super) fn parsed(message: &[u8], into: &mut Vec<NfTablesMessage>) -> Result<(), DecodeError> {
    if let NetlinkPayload::InnerMessage(inner) =
        NetlinkMessage::<NetfilterMessage>::deserialize(message)?.payload
        && let NetfilterMessageInner::NfTables(message) = inner.inner
    {
        into.push(message);
    }
    Ok(())
}
