//! SSH exits: direct-tcpip over sessions that are kept, to servers whose host key is pinned. This and what is below it knows russh.
//!
//! Each peer of an exit has a session of its own. Within one session the library hands out what comes in order, so a channel
//! that nobody reads holds the others up: with one session for all, a peer that pauses a download would stop the house.

mod pinned;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cell_egress_core::backoff;
use cell_egress_core::destination::Destination;
use cell_egress_core::exit::{Server, User};
use cell_egress_core::pin::HostKey;
use cell_egress_core::policy::Timeouts;
use cell_egress_core::secret::Wanted;
use russh::client::{self, AuthResult, Handle};
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, decode_secret_key};
use russh::{Error, Preferred};
use tokio::time::{Instant, timeout};

use self::pinned::Pinned;
use crate::dial::{Far, Opened, connect};
use crate::failure::{Failure, is_shortage};
use crate::secrets::{NoSecret, Secret, Secrets};

/// The vault's field for the key that logs in.
pub const PRIVATE_KEY: &str = "private_key";
/// What is told to the server of who asks: nothing of the peer's address is its business.
const ORIGINATOR: (&str, u32) = ("127.0.0.1", 0);
/// How long a session that carries nothing is kept, and how often the sessions are looked through.
const LINGER: Duration = Duration::from_secs(60);
/// Between two signs of life of a session.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How much of one channel's bytes may be under way to here, bytes. The library asks for more when they arrive, not when they are
/// taken: so this sets the pace on a long way, and bounds nothing that is held.
const WINDOW: u32 = 256 * 1024;
/// The longest message of a channel, both ways, bytes. That, and [`HELD_MESSAGES`], bound what the library holds of a channel that is
/// stuck, which nobody counts (ADR 0041): here so many messages and the one that is being read, there one.
pub const MESSAGE: usize = 2 << 10;
/// Messages of one channel that are held until it is read from. The next one holds up the session.
const HELD_MESSAGES: usize = 2;

/// A session, held by each connection that it carries.
pub type InUse = Arc<Session>;

/// A session with the server.
pub struct Session(Handle<Pinned>);

impl Session {
    /// Whether it is over, for whatever reason.
    pub fn is_over(&self) -> bool {
        self.0.is_closed()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session(over: {})", self.is_over())
    }
}

/// All sessions of one exit.
#[derive(Debug)]
pub struct Sessions {
    key: Wanted,
    server: Server,
    user: User,
    pins: Vec<HostKey>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    peers: BTreeMap<IpAddr, Slot>,
    swept: Instant,
    failures: u32,
    again: Instant,
}

#[derive(Debug)]
struct Slot {
    session: Arc<tokio::sync::Mutex<Option<InUse>>>,
    used: Instant,
}

impl Sessions {
    /// Without a session: the first connection makes one, with `key`.
    pub fn new(key: Wanted, server: Server, user: User, pins: Vec<HostKey>) -> Self {
        let now = Instant::now();
        let state = State {
            peers: BTreeMap::new(),
            swept: now,
            failures: 0,
            again: now,
        };
        Sessions {
            key,
            server,
            user,
            pins,
            state: Mutex::new(state),
        }
    }

    /// Opens a channel for a connection of `peer`.
    ///
    /// # Errors
    /// [`Failure`]; a session that could not be made is tried again after a pause that grows.
    pub async fn open(
        &self,
        peer: IpAddr,
        destination: Destination,
        timeouts: &Timeouts,
        secrets: &dyn Secrets,
    ) -> Result<Opened, Failure> {
        let slot = self.slot(peer);
        let session = self.session(&slot, timeouts, secrets).await?;
        let (host, port) = destination.direct_tcpip();
        let (origin, origin_port) = ORIGINATOR;
        let opening = session
            .0
            .channel_open_direct_tcpip(host, port, origin, origin_port);
        match timeout(timeouts.handshake, opening).await {
            Ok(Ok(channel)) => Ok(Opened {
                stream: Far::ssh(channel.into_stream(), session),
                early: Vec::new(),
            }),
            Ok(Err(Error::ChannelOpenFailure(why))) => Err(Failure::SshRefused(format!("{why:?}"))),
            // The session stood, and broke meanwhile: it is one peer's, and the next is made anew.
            Ok(Err(error)) => Err(match told(error) {
                Failure::Ssh(why) => Failure::Closed(std::io::Error::other(why)),
                of_another_kind => of_another_kind,
            }),
            Err(_) => Err(Failure::HandshakeTimeout),
        }
    }

    /// The peer's session, made if there is none. Connections of one peer wait for one and the same.
    async fn session(
        &self,
        slot: &tokio::sync::Mutex<Option<InUse>>,
        timeouts: &Timeouts,
        secrets: &dyn Secrets,
    ) -> Result<InUse, Failure> {
        let mut slot = slot.lock().await;
        if let Some(session) = slot.as_ref().filter(|session| !session.is_over()) {
            return Ok(Arc::clone(session));
        }
        if Instant::now() < self.state().again {
            return Err(Failure::Paused);
        }
        let made = self.make(timeouts, secrets).await;
        match &made {
            Ok(_) => self.pause_after(|_| 0),
            // It says nothing of the server, which is tried again at once.
            Err(failure) if failure.is_local() => {}
            Err(_) => self.pause_after(|failures| failures.saturating_add(1)),
        }
        let session = Arc::new(made?);
        *slot = Some(Arc::clone(&session));
        Ok(session)
    }

    fn pause_after(&self, failures: impl FnOnce(u32) -> u32) {
        let mut state = self.state();
        state.failures = failures(state.failures);
        state.again = Instant::now() + backoff::pause(state.failures);
    }

    async fn make(&self, timeouts: &Timeouts, secrets: &dyn Secrets) -> Result<Session, Failure> {
        let secret = secrets.read(&self.key).await?;
        let key = private_key(&secret).map_err(|why| NoSecret::Unusable {
            name: self.key.to_string(),
            why,
        })?;
        let stream = connect(self.server, timeouts).await?;
        let logging_in = async {
            let pinned = Pinned(self.pins.clone());
            let mut handle = client::connect_stream(Arc::new(self.config()), stream, pinned)
                .await
                .map_err(told)?;
            let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
            match handle
                .authenticate_publickey(self.user.as_str(), key)
                .await
                .map_err(told)?
            {
                AuthResult::Success => Ok(Session(handle)),
                AuthResult::Failure { .. } => Err(Failure::SshLogin),
            }
        };
        match timeout(timeouts.handshake, logging_in).await {
            Ok(made) => made,
            Err(_) => Err(Failure::HandshakeTimeout),
        }
    }

    /// Asks for no other key than the pinned ones, since the server shows one only.
    fn config(&self) -> client::Config {
        let known = Preferred::default();
        let pinned =
            |algorithm: &Algorithm| self.pins.iter().any(|pin| pin.algorithm() == algorithm.as_str());
        let key = known
            .key
            .iter()
            .filter(|algorithm| pinned(algorithm))
            .cloned()
            .collect();
        client::Config {
            preferred: Preferred { key, ..known },
            window_size: WINDOW,
            maximum_packet_size: MESSAGE as u32,
            channel_buffer_size: HELD_MESSAGES,
            keepalive_interval: Some(KEEPALIVE),
            nodelay: true,
            ..client::Config::default()
        }
    }

    /// The peer's place, and from time to time an end to sessions that nobody uses.
    fn slot(&self, peer: IpAddr) -> Arc<tokio::sync::Mutex<Option<InUse>>> {
        let now = Instant::now();
        let mut state = self.state();
        if now > state.swept + LINGER {
            state.swept = now;
            state.peers.retain(|_, slot| slot.is_used(now));
        }
        let slot = state.peers.entry(peer.to_canonical()).or_insert_with(|| Slot {
            session: Arc::default(),
            used: now,
        });
        slot.used = now;
        Arc::clone(&slot.session)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn is_used(&self, now: Instant) -> bool {
        if now < self.used + LINGER {
            return true;
        }
        // Locked: a session is being made.
        self.session.try_lock().map_or(true, |session| {
            session
                .as_ref()
                .is_some_and(|session| Arc::strong_count(session) > 1)
        })
    }
}

fn told(error: Error) -> Failure {
    match error {
        Error::UnknownKey
        | Error::NoCommonAlgo {
            kind: russh::AlgorithmKind::Key,
            ..
        } => Failure::HostKey,
        Error::IO(error) if is_shortage(&error) => Failure::talking(error),
        error => Failure::Ssh(error.to_string()),
    }
}

/// The key that logs in, as ssh-keygen(1) writes it, without a passphrase.
fn private_key(secret: &Secret) -> Result<PrivateKey, String> {
    let text = std::str::from_utf8(secret).map_err(|_| "it is no text".to_owned())?;
    // The library's own words could quote what it read.
    let key =
        decode_secret_key(text, None).map_err(|_| "it is no private key without passphrase".to_owned())?;
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => Ok(key),
        other => Err(format!(
            "a key of {} is not used: make one of ed25519",
            other.as_str()
        )),
    }
}
