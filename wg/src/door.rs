//! Where initiations of handshakes wait while it is found out whether they are a dormant peer's, which the device has to have before
//! it hears of them.
//!
//! ```text
//! sockets -> Door::takes --calls--> Porter --> somebody awake ----------- answered --> Door::poll_answered -> device
//!                 |                    \--> somebody dormant --> Waker --/
//!                 \--> all else: to the device at once
//! ```

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use gotatun::noise::TunnResult;
use gotatun::noise::handshake::parse_handshake_anon;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::packet::{Packet, WgKind};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::dormant::Dormant;
use crate::peers;
use crate::running::{Device, Table};

/// The first byte of `handshake_initiation`, and its length (WireGuard, section 5.4.2). The library looks at nothing else either.
const INITIATION: u8 = 1;
const INITIATION_BYTES: usize = 148;
/// Initiations that wait at most: more than the sockets are read for at one go.
const WAITING_MAX: usize = 256;
/// Initiations of one address and second, as many as the library takes before it asks for a cookie (`HANDSHAKE_RATE_LIMIT`): with more,
/// all are woken, so that its answers are the ones that count.
const PER_SECOND: u64 = 100;

/// A datagram, and whom it is from.
#[derive(Debug)]
pub struct Call {
    /// All of it.
    pub datagram: [u8; INITIATION_BYTES],
    /// Its sender.
    pub from: SocketAddr,
}

/// The side of the sockets; clones share it.
#[derive(Clone)]
pub struct Door {
    calls: mpsc::Sender<Call>,
    answered: Arc<Mutex<mpsc::Receiver<Call>>>,
    shared: Arc<Shared>,
}

/// What all sides see.
pub struct Shared {
    dormant: Mutex<Dormant>,
    /// More callers than can be asked.
    is_flooded: AtomicBool,
    limiter: RateLimiter,
}

impl Shared {
    /// The peers that the device does without.
    pub fn dormant(&self) -> MutexGuard<'_, Dormant> {
        lock(&self.dormant)
    }

    /// Whether the device's public key was known to whoever made this, and no more come from there than are to be asked.
    fn is_due(&self, call: &Call) -> bool {
        self.limiter.try_reset_count();
        let packet = Packet::copy_from(&call.datagram[..]);
        match self.limiter.verify_packet(call.from, packet) {
            Ok(_) => true,
            Err(TunnResult::WriteToNetwork(_)) => {
                self.is_flooded.store(true, Ordering::Relaxed);
                true
            }
            Err(_) => false,
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Door {
    /// Whether this datagram is not for the device yet: it comes back by [`Door::poll_answered`], or it is nobody's.
    pub fn takes(&self, datagram: &[u8], from: SocketAddr) -> bool {
        let Ok(datagram) = <[u8; INITIATION_BYTES]>::try_from(datagram) else {
            return false;
        };
        let call = Call { datagram, from };
        if datagram[0] != INITIATION || self.shared.dormant().is_empty() || !self.shared.is_due(&call) {
            return false;
        }
        let is_taken = self.calls.try_send(call).is_ok();
        if !is_taken {
            self.shared.is_flooded.store(true, Ordering::Relaxed);
        }
        is_taken
    }

    /// What is for the device now.
    pub fn poll_answered(&self, cx: &mut Context<'_>) -> Poll<Option<Call>> {
        lock(&self.answered).poll_recv(cx)
    }
}

/// Somebody who waits for the waker; without a key: for all to be woken.
type Waiting = (Option<peers::PublicKey>, Call);

/// Finds out who calls.
struct Porter {
    calls: mpsc::Receiver<Call>,
    answered: mpsc::Sender<Call>,
    waker: mpsc::Sender<Waiting>,
    shared: Arc<Shared>,
    private_key: StaticSecret,
    public_key: PublicKey,
}

/// Gives the device whom it does without.
struct Waker {
    callers: mpsc::Receiver<Waiting>,
    answered: mpsc::Sender<Call>,
    shared: Arc<Shared>,
}

/// The other side, until the device is there.
pub struct Staff {
    porter: Porter,
    waker: Waker,
}

/// Both sides for a device with that key.
pub fn open(private_key: StaticSecret) -> (Door, Staff) {
    let (calls, at_porter) = mpsc::channel(WAITING_MAX);
    let (answered, at_door) = mpsc::channel(WAITING_MAX);
    let (to_waker, callers) = mpsc::channel(WAITING_MAX);
    let public_key = PublicKey::from(&private_key);
    let shared = Arc::new(Shared {
        dormant: Mutex::default(),
        is_flooded: AtomicBool::default(),
        limiter: RateLimiter::new(&public_key, PER_SECOND),
    });
    let door = Door {
        calls,
        answered: Arc::new(Mutex::new(at_door)),
        shared: Arc::clone(&shared),
    };
    let waker = Waker {
        callers,
        answered: answered.clone(),
        shared: Arc::clone(&shared),
    };
    let porter = Porter {
        calls: at_porter,
        answered,
        waker: to_waker,
        shared,
        private_key,
        public_key,
    };
    (door, Staff { porter, waker })
}

impl Staff {
    /// What their door sees too.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.porter.shared)
    }

    /// They work until the device or its sockets are gone, or the set is dropped.
    pub fn work(self, device: Weak<Device>, table: Arc<tokio::sync::Mutex<Table>>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.porter.work());
        tasks.spawn(self.waker.work(device, table));
        tasks
    }
}

impl Porter {
    /// Nobody who is awake waits for anybody.
    async fn work(mut self) {
        while let Some(call) = self.calls.recv().await {
            // Where too many wait already, it sends again.
            if self.shared.is_flooded.load(Ordering::Relaxed) {
                let _ = self.waker.try_send((None, call));
                continue;
            }
            let Some(key) = self.caller(&call) else {
                continue;
            };
            if self.shared.dormant().contains(&key) {
                let _ = self.waker.try_send((Some(key), call));
            } else if self.answered.send(call).await.is_err() {
                return;
            }
        }
    }

    /// The key that an initiation names; none: it was not made for this device.
    fn caller(&self, call: &Call) -> Option<peers::PublicKey> {
        let packet = Packet::copy_from(&call.datagram[..]).try_into_wg().ok()?;
        let WgKind::HandshakeInit(packet) = packet else {
            return None;
        };
        let half = parse_handshake_anon(&self.private_key, &self.public_key, &packet).ok()?;
        Some(half.peer_static_public)
    }
}

impl Waker {
    async fn work(mut self, device: Weak<Device>, table: Arc<tokio::sync::Mutex<Table>>) {
        let mut waiting = Vec::new();
        // All that wait at one go: each turn of the device's lock holds up its packets.
        while self.callers.recv_many(&mut waiting, WAITING_MAX).await > 0 {
            let mut table = table.lock().await;
            let Some(device) = device.upgrade() else {
                return;
            };
            let woken = match self.shared.is_flooded.load(Ordering::Relaxed) {
                true => table.wake_all(&device).await,
                false => {
                    table
                        .wake(&device, waiting.iter().filter_map(|(key, _)| *key))
                        .await
                }
            };
            drop((table, device));
            if let Err(error) = woken {
                tracing::error!(%error, "peers that spoke could not be added");
            }
            for (_, call) in waiting.drain(..) {
                if self.answered.send(call).await.is_err() {
                    return;
                }
            }
        }
    }
}
