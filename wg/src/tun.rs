//! IP packets in and out of the TUN that was handed over.

use std::io;
use std::iter;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use gotatun::packet::{Ip, Packet, PacketBufPool};
use gotatun::tun::{IpRecv, IpSend, MtuWatcher};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Up to this length a packet is padded to a multiple of 16 bytes before it is encrypted, to blur its length.
///
/// The bound should be the link's MTU, which lies in netd's network namespace and cannot be read here. Every IPv6 link
/// carries 1280 bytes (RFC 8200 section 5), so padding up to there never makes a packet that does not fit.
const PADDING_BOUND_BYTES: u16 = 1280;

/// Why a device cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The interface was deleted.
    #[error("the TUN interface is gone; nothing can be carried until netd hands over a new one")]
    Tun,
    /// A UDP socket no longer works.
    #[error("a UDP socket that was handed over no longer works")]
    Udp,
}

/// Where the first [`Lost`] of one device is told, with the number that the device has here; clones share it.
#[derive(Debug, Clone)]
pub struct LostSender {
    device: u64,
    told: Arc<AtomicBool>,
    sender: mpsc::UnboundedSender<(u64, Lost)>,
}

impl LostSender {
    /// For the device of that number.
    pub fn new(device: u64, sender: mpsc::UnboundedSender<(u64, Lost)>) -> Self {
        LostSender {
            device,
            told: Arc::default(),
            sender,
        }
    }

    /// Tells it, if nothing was told before.
    pub fn tell(&self, lost: Lost) {
        if !self.told.swap(true, Ordering::Relaxed) {
            // Nobody listens while the process ends.
            let _ = self.sender.send((self.device, lost));
        }
    }
}

/// One TUN; clones share it.
#[derive(Clone)]
pub struct Tun {
    descriptor: Arc<AsyncFd<OwnedFd>>,
    lost: LostSender,
}

impl Tun {
    /// Takes over the descriptor of a TUN without packet information and virtio-net headers.
    ///
    /// # Errors
    /// When it cannot be made non-blocking or be polled.
    pub fn new(descriptor: OwnedFd, lost: LostSender) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::ERROR;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for the sake of types that are not an OwnedFd"
        )]
        let descriptor = AsyncFd::with_interest(descriptor, interest)?;
        Ok(Tun {
            descriptor: Arc::new(descriptor),
            lost,
        })
    }

    /// Resolves when the interface is deleted, whether or not anybody reads from it (`tun_chr_poll` answers EPOLLERR).
    pub async fn deleted(self) {
        loop {
            match self.descriptor.ready(Interest::ERROR).await {
                Ok(mut guard) if !guard.ready().is_error() => guard.clear_ready(),
                _ => break,
            }
        }
        self.report();
    }

    /// Sees whether the descriptor is still open somewhere.
    pub fn watch(&self) -> Weak<AsyncFd<OwnedFd>> {
        Arc::downgrade(&self.descriptor)
    }

    fn report(&self) {
        self.lost.tell(Lost::Tun);
    }
}

impl IpSend for Tun {
    async fn send(&mut self, packet: Packet<Ip>) -> io::Result<()> {
        let bytes = packet.into_bytes();
        let written = self
            .descriptor
            .async_io(Interest::WRITABLE, |tun| Ok(rustix::io::write(tun, &bytes)?))
            .await;
        match written {
            Err(e) if is_deleted(&e) => {
                self.report();
                Err(e)
            }
            // EIO while the interface is down, EINVAL for what is no IP packet: that packet is dropped, as on any link.
            _ => Ok(()),
        }
    }
}

impl IpRecv for Tun {
    async fn recv<'a>(
        &'a mut self,
        pool: &mut PacketBufPool,
    ) -> io::Result<impl Iterator<Item = Packet<Ip>> + Send + 'a> {
        loop {
            let mut packet = pool.get();
            let read = self
                .descriptor
                .async_io(Interest::READABLE, |tun| {
                    Ok(rustix::io::read(tun, &mut packet[..])?)
                })
                .await;
            match read {
                Ok(length) => packet.truncate(length),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    self.report();
                    return Err(e);
                }
            }
            if let Ok(packet) = packet.try_into_ip() {
                return Ok(iter::once(packet));
            }
        }
    }

    fn mtu(&self) -> MtuWatcher {
        MtuWatcher::new(PADDING_BOUND_BYTES)
    }
}

/// EBADFD is what a TUN descriptor answers once its interface is deleted (drivers/net/tun.c, `tun_get`).
fn is_deleted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::BADFD | Errno::BADF | Errno::NODEV)
    )
}
