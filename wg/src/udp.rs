//! WireGuard datagrams over the two sockets that were handed over.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use gotatun::packet::{Packet, PacketBufPool};
use gotatun::udp::{UdpRecv, UdpSend, UdpTransportFactory, UdpTransportFactoryParams};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::datagram::{self, Received};
use crate::door::Door;
use crate::sources::Sources;
use crate::tun::{Lost, LostSender};

/// Largest UDP payload.
const DATAGRAM_BYTES: usize = 65_535;
/// How many datagrams are taken at once before they are worked off.
const BATCH: usize = 64;

/// Gives a WireGuard device its sockets. Each device gets duplicates, so that a later one can have the same sockets.
pub struct Sockets {
    v4: std::net::UdpSocket,
    v6: std::net::UdpSocket,
    lost: LostSender,
    /// Where initiations go first; none: to the device.
    door: Option<Door>,
}

impl Sockets {
    /// Takes over bound sockets.
    ///
    /// # Errors
    /// When they cannot be made non-blocking, or do not tell the local address of a datagram.
    pub fn new(v4: std::net::UdpSocket, v6: std::net::UdpSocket, lost: LostSender) -> io::Result<Self> {
        v4.set_nonblocking(true)?;
        v6.set_nonblocking(true)?;
        datagram::ask_for_local_address(&v4, false)?;
        datagram::ask_for_local_address(&v6, true)?;
        Ok(Sockets {
            v4,
            v6,
            lost,
            door: None,
        })
    }

    /// Further descriptors of the same sockets.
    ///
    /// # Errors
    /// As dup(2).
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Sockets {
            v4: self.v4.try_clone()?,
            v6: self.v6.try_clone()?,
            lost: self.lost.clone(),
            door: self.door.clone(),
        })
    }

    /// The same, with a door before the device.
    #[must_use]
    pub fn behind(self, door: Door) -> Self {
        Sockets {
            door: Some(door),
            ..self
        }
    }
}

impl UdpTransportFactory for Sockets {
    type Send = Sender;
    type Recv = Receiver;

    // The parameters (address, port, mark) are netd's business and done already.
    async fn bind(&mut self, _: &UdpTransportFactoryParams) -> io::Result<(Sender, Receiver)> {
        let Sockets { v4, v6, lost, door } = self.try_clone()?;
        let sender = Sender {
            v4: Arc::new(UdpSocket::from_std(v4)?),
            v6: Arc::new(UdpSocket::from_std(v6)?),
            sources: Arc::default(),
        };
        let control = datagram::control_buffer();
        Ok((
            sender.clone(),
            Receiver {
                sockets: sender,
                v6_first: false,
                control,
                lost,
                door,
            },
        ))
    }
}

/// Sends by the socket of the destination's family, from the address that the destination talks to.
#[derive(Clone)]
pub struct Sender {
    v4: Arc<UdpSocket>,
    v6: Arc<UdpSocket>,
    sources: Arc<Mutex<Sources>>,
}

impl Sender {
    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        let known = self.sources().of(&to);
        if let Some(local) = known {
            let sent = socket.async_io(Interest::WRITABLE, || {
                datagram::send_from(&**socket, datagram, to, local)
            });
            match sent.await {
                // EINVAL, ENETUNREACH and the like: the address is gone, so routing decides again.
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => self.sources().forget(&to),
                sent => return sent,
            }
        }
        socket.send_to(datagram, to).await.map(drop)
    }
}

impl UdpSend for Sender {
    type SendManyBuf = ();

    async fn send_to(&self, packet: Packet, destination: SocketAddr) -> io::Result<()> {
        self.send(&packet, destination).await
    }

    fn max_number_of_packets_to_send(&self) -> usize {
        BATCH
    }

    async fn send_many_to(&self, _: &mut (), packets: &mut Vec<(Packet, SocketAddr)>) -> io::Result<()> {
        for (packet, destination) in packets.drain(..) {
            // One unreachable peer must not cost the others their packets, as the provided method would have it.
            if let Err(error) = self.send_to(packet, destination).await {
                tracing::trace!(%error, %destination, "datagram not sent");
            }
        }
        Ok(())
    }

    fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        self.v4.local_addr().map(Some)
    }
}

/// Receives from both sockets, in turn while both have something.
pub struct Receiver {
    sockets: Sender,
    v6_first: bool,
    control: Vec<u8>,
    lost: LostSender,
    door: Option<Door>,
}

impl Receiver {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.v6_first = !self.v6_first;
        let Sender { v4, v6, .. } = &self.sockets;
        let order = if self.v6_first { [v6, v4] } else { [v4, v6] };
        for socket in order {
            while let Poll::Ready(received) = poll_one(socket, cx, buffer, &mut self.control) {
                let Received { length, from, to } = received?;
                if let Some(local) = to {
                    self.sockets.sources().learn(from, local);
                }
                let door = self.door.as_ref();
                if door.is_some_and(|door| door.takes(&buffer[..length], from)) {
                    continue;
                }
                return Poll::Ready(Ok((length, from)));
            }
        }
        Poll::Pending
    }

    /// What the door lets through comes before what is new.
    fn poll_first(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        if let Some(door) = &self.door
            && let Poll::Ready(Some(call)) = door.poll_answered(cx)
            && let Some(room) = buffer.get_mut(..call.datagram.len())
        {
            room.copy_from_slice(&call.datagram);
            return Poll::Ready(Ok((call.datagram.len(), call.from)));
        }
        self.poll_receive(cx, buffer)
    }

    async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        loop {
            match poll_fn(|cx| self.poll_first(cx, buffer)).await {
                Err(e) if is_passing(&e) => {}
                Err(e) => {
                    self.lost.tell(Lost::Udp);
                    return Err(e);
                }
                received => return received,
            }
        }
    }
}

fn poll_one(
    socket: &UdpSocket,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
    control: &mut [u8],
) -> Poll<io::Result<Received>> {
    loop {
        ready!(socket.poll_recv_ready(cx))?;
        let received = socket.try_io(Interest::READABLE, || datagram::receive(socket, buffer, control));
        match received {
            // Not ready after all; asking again leaves a waker.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            received => return Poll::Ready(received),
        }
    }
}

impl UdpRecv for Receiver {
    type RecvManyBuf = Scratch;

    async fn recv_from(&mut self, pool: &mut PacketBufPool) -> io::Result<(Packet, SocketAddr)> {
        let mut packet = pool.get();
        let (length, from) = self.receive(&mut packet).await?;
        packet.truncate(length);
        Ok((packet, from))
    }

    async fn recv_many_from(
        &mut self,
        scratch: &mut Scratch,
        pool: &mut PacketBufPool,
        packets: &mut Vec<(Packet, SocketAddr)>,
    ) -> io::Result<()> {
        let (length, from) = self.receive(&mut scratch.0).await?;
        packets.push((packet(pool, &scratch.0[..length]), from));
        while packets.len() < BATCH {
            let Some(next) = poll_fn(|cx| Poll::Ready(now(self.poll_receive(cx, &mut scratch.0)))).await
            else {
                break;
            };
            let (length, from) = match next {
                Err(e) if is_passing(&e) => continue,
                // The next call meets it again and tells.
                Err(_) => break,
                Ok(received) => received,
            };
            packets.push((packet(pool, &scratch.0[..length]), from));
        }
        Ok(())
    }
}

/// What is there without waiting.
fn now<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Copies a datagram into a buffer of the pool, which grows when the datagram is longer than its buffers.
fn packet(pool: &PacketBufPool, datagram: &[u8]) -> Packet {
    let mut packet = pool.get();
    packet.buf_mut().clear();
    packet.buf_mut().extend_from_slice(datagram);
    packet
}

/// Room for the largest datagram.
pub struct Scratch(Box<[u8]>);

impl Default for Scratch {
    fn default() -> Self {
        Scratch(vec![0; DATAGRAM_BYTES].into_boxed_slice())
    }
}

/// Errors of one datagram or one moment, which say nothing of the socket.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::Interrupted
            | Kind::OutOfMemory
            | Kind::PermissionDenied
            | Kind::InvalidData
    )
}
