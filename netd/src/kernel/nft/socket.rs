//! The nfnetlink socket: transactions, dumps, and single reads. Blocking; calls are made from a thread that may wait.

use std::io;
use std::time::Duration;

use netlink_packet_core::{DecodeError, NLM_F_DUMP, NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::sys::socket::{setsockopt, sockopt};
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

/// A socket of NETLINK_NETFILTER.
#[derive(Debug)]
pub struct NftSocket {
    socket: Socket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl NftSocket {
    /// Opens it.
    ///
    /// # Errors
    /// Of socket(2) and setsockopt(2).
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER)?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        setsockopt(
            &socket,
            sockopt::ReceiveTimeout,
            &TimeVal::new(ANSWER.as_secs() as i64, 0),
        )?;
        Ok(NftSocket {
            socket,
            port,
            sequence: 1,
            buffer: Vec::with_capacity(DATAGRAM),
        })
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
        self.socket.send(&wire.bytes, 0)?;
        loop {
            self.receive()?;
            for message in messages(&self.buffer) {
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
        const ATTEMPTS: usize = 10;
        for _ in 0..ATTEMPTS {
            match self.exchange_with(family, request(), NLM_F_DUMP, read) {
                Err(NftError::Restless) => {}
                Err(error) if error.errno() == Some(libc::EINTR) => {}
                Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(Vec::new()),
                outcome => return outcome,
            }
        }
        Err(NftError::Restless)
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
    fn exchange_with<T>(
        &mut self,
        family: NetfilterProtoFamily,
        request: NfTablesMessage,
        flags: u16,
        read: fn(&[u8], &mut Vec<T>) -> Result<(), DecodeError>,
    ) -> Result<Vec<T>, NftError> {
        self.sequence += 1;
        let mut bytes = Vec::new();
        batch::append(&mut bytes, batch::request(family, request, flags, self.sequence));
        self.socket.send(&bytes, 0)?;
        let mut found = Vec::new();
        let mut interrupted = false;
        loop {
            self.receive()?;
            for message in messages(&self.buffer) {
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

    /// Takes one datagram into the buffer.
    fn receive(&mut self) -> Result<(), NftError> {
        self.buffer.clear();
        self.socket.recv(&mut self.buffer, 0)?;
        Ok(())
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
