//! Where initiations of handshakes wait while it is found out whether they are a dormant peer's, which the device has to have before
//! it hears of them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use gotatun::noise::TunnResult;
use gotatun::noise::handshake::parse_handshake_anon;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::packet::{Packet, WgKind};
use tokio::sync::mpsc;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::dormant::Dormant;
use crate::peers;
use crate::running::{Device, Table};

/// The first byte of `handshake_initiation`, and its length (WireGuard, section 5.4.2). The library looks at nothing else either.
const INITIATION: u8 = 1;
const INITIATION_BYTES: usize = 148;
/// Initiations that wait at most. Whoever comes when it is full is not held up: the device hears of it at once.
const WAITING_MAX: usize = 64;
/// Initiations with a valid first MAC of one address and second, as many as the library takes before it asks for a cookie
/// (`HANDSHAKE_RATE_LIMIT`): with more, all are woken, so that its answers are the ones that count.
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

/// What both sides see.
#[derive(Debug, Default)]
pub struct Shared {
    dormant: Mutex<Dormant>,
    /// More callers than can be asked.
    is_flooded: AtomicBool,
    /// The porter waits for a change of peers, so that many may be before the door.
    is_held_up: AtomicBool,
}

impl Shared {
    /// The peers that the device does without.
    pub fn dormant(&self) -> MutexGuard<'_, Dormant> {
        lock(&self.dormant)
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
        if datagram[0] != INITIATION || self.shared.dormant().is_empty() {
            return false;
        }
        let is_taken = self.calls.try_send(Call { datagram, from }).is_ok();
        if !is_taken && !self.shared.is_held_up.load(Ordering::Relaxed) {
            self.shared.is_flooded.store(true, Ordering::Relaxed);
        }
        is_taken
    }

    /// What is for the device now.
    pub fn poll_answered(&self, cx: &mut Context<'_>) -> Poll<Option<Call>> {
        lock(&self.answered).poll_recv(cx)
    }
}

/// The other side: finds out who calls.
pub struct Porter {
    calls: mpsc::Receiver<Call>,
    answered: mpsc::Sender<Call>,
    shared: Arc<Shared>,
    private_key: StaticSecret,
    public_key: PublicKey,
    limiter: RateLimiter,
}

/// Whose an initiation is.
enum Caller {
    /// Nobody who knows the device's key.
    Nobody,
    /// Of this key, as it says.
    Peer(peers::PublicKey),
    /// There are too many to ask each.
    Many,
}

/// Both sides for a device with that key.
pub fn open(private_key: StaticSecret) -> (Door, Porter) {
    let (calls, at_porter) = mpsc::channel(WAITING_MAX);
    let (answered, at_door) = mpsc::channel(WAITING_MAX);
    let shared = Arc::new(Shared::default());
    let public_key = PublicKey::from(&private_key);
    let door = Door {
        calls,
        answered: Arc::new(Mutex::new(at_door)),
        shared: Arc::clone(&shared),
    };
    let porter = Porter {
        calls: at_porter,
        answered,
        shared,
        limiter: RateLimiter::new(&public_key, PER_SECOND),
        private_key,
        public_key,
    };
    (door, porter)
}

impl Porter {
    /// What its door sees too.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Works until the device or its sockets are gone.
    pub async fn work(mut self, device: Weak<Device>, table: Arc<tokio::sync::Mutex<Table>>) {
        while let Some(call) = self.calls.recv().await {
            let caller = match self.shared.is_flooded.load(Ordering::Relaxed) {
                true => Caller::Many,
                false => self.caller(&call),
            };
            let Some(device) = device.upgrade() else {
                return;
            };
            if matches!(caller, Caller::Nobody) {
                continue;
            }
            self.wake(&device, caller, &table).await;
            drop(device);
            if self.answered.send(call).await.is_err() {
                return;
            }
        }
    }

    async fn wake(&self, device: &Device, caller: Caller, table: &tokio::sync::Mutex<Table>) {
        if matches!(&caller, Caller::Peer(key) if !self.shared.dormant().contains(key)) {
            return;
        }
        self.shared.is_held_up.store(true, Ordering::Relaxed);
        let mut table = table.lock().await;
        self.shared.is_held_up.store(false, Ordering::Relaxed);
        let woken = match caller {
            Caller::Nobody => Ok(()),
            Caller::Peer(key) => table.wake(device, &key).await,
            Caller::Many => table.wake_all(device).await,
        };
        if let Err(error) = woken {
            tracing::error!(%error, "a peer that spoke could not be added");
        }
    }

    fn caller(&self, call: &Call) -> Caller {
        self.limiter.try_reset_count();
        let packet = Packet::copy_from(&call.datagram[..]);
        match self.limiter.verify_packet(call.from, packet) {
            Ok(WgKind::HandshakeInit(packet)) => {
                match parse_handshake_anon(&self.private_key, &self.public_key, &packet) {
                    Ok(half) => Caller::Peer(half.peer_static_public),
                    Err(_) => Caller::Nobody,
                }
            }
            // It would be asked for a cookie.
            Err(TunnResult::WriteToNetwork(_)) => Caller::Many,
            _ => Caller::Nobody,
        }
    }
}
