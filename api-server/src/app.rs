//! What every request can reach.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use cell_api_core::throttle::Quota;
use cell_proto::ipc;
use tokio::sync::{Mutex, Notify, watch};

use crate::accounts::Turns;
use crate::anchor::Head;
use crate::config::Config;
use crate::daemons::activity::ActivityReader;
use crate::daemons::broker::Broker;
use crate::daemons::check::NetworkCheck;
use crate::daemons::confirm::Confirmer;
use crate::daemons::deployments::Deployments;
use crate::daemons::egress::EgressClient;
use crate::daemons::explain::Explainer;
use crate::daemons::key::WireguardKey;
use crate::daemons::openvpn::OpenvpnClient;
use crate::daemons::secrets::Secrets;
use crate::daemons::vault::Vault;
use crate::daemons::watch::BrokerStreams;
use crate::dns::Dns;
use crate::events::Events;
use crate::exits::Exits;
use crate::network::Network;
use crate::password::Hasher;
use crate::peers::{PeerChange, Peers};
use crate::public_http::PublicHttp;
use crate::published::Publisher;
use crate::remote::Remote;
use crate::service::ServiceError;
use crate::service::cell::CellIdentity;
use crate::services::Services;
use crate::sessions::{Lifetimes, Sessions};
use crate::store::transaction::Effects;
use crate::store::{OpenError, Store, peers, sessions, setup};
use crate::throttle::{Failures, Throttle};

/// Failed logins of one household: ten at once, then two a minute.
const LOGIN_QUOTA: Quota = Quota {
    burst: 10,
    interval_ms: 30_000,
};
/// Wrong claim tokens of one household; nobody guesses 160 bits, but a log should not fill up either.
const CLAIM_QUOTA: Quota = Quota {
    burst: 10,
    interval_ms: 10_000,
};

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The process's state.
pub struct App {
    /// What the policy file says.
    pub config: Config,
    /// The database.
    pub store: Arc<Store>,
    /// Open sessions.
    pub sessions: Arc<Sessions>,
    /// Peers.
    pub peers: Arc<Peers>,
    /// What changed.
    pub events: Events,
    /// What netd is to own and what it confirmed.
    pub network: Arc<Network>,
    /// Which connections work.
    pub exits: Arc<Exits>,
    /// What the DNS relay goes by.
    pub dns: Dns,
    /// Names and routes of services.
    pub published: Publisher,
    /// What netd would say.
    pub check: NetworkCheck,
    /// What netd says of the port that the internet reaches.
    pub public_http: PublicHttp,
    /// What netd does with a packet.
    pub explain: Explainer,
    /// netd's word on the change that waits.
    pub confirmer: Confirmer,
    /// Held while a change that waits is settled with netd and in the database together.
    pub change_settling: Mutex<()>,
    /// Live handshakes and traffic.
    pub activity: ActivityReader,
    /// The cell's WireGuard key, public half.
    pub wireguard_key: WireguardKey,
    /// The broker.
    pub broker: Broker,
    /// The broker's verbs.
    pub deployments: Deployments,
    /// What the broker tells by itself.
    pub streams: BrokerStreams,
    /// What moves about services of the store.
    pub services: Arc<Services>,
    /// What moves about remote catalogs.
    pub remote: Remote,
    /// `cell-egress`, where the policy file names it.
    pub egress: Option<EgressClient>,
    /// `cell-openvpn`, where the policy file names it.
    pub openvpn: Option<OpenvpnClient>,
    /// vaultd.
    pub vault: Vault,
    /// vaultd's store of secrets.
    pub secrets: Secrets,
    /// Held while a connection is changed: vaultd and the database are changed together, and nobody looks in between.
    pub connection_changes: Mutex<()>,
    /// Held while the domain of services and its provider's token are changed.
    pub domain_changes: Mutex<()>,
    /// Told when secrets were left at vaultd that nothing refers to.
    pub secrets_left: Notify,
    /// Held while accounts at a service are changed: there and in the database together.
    pub account_turns: Turns,
    /// Told when an account was left half made, or a service has one that the cell does not know.
    pub accounts_left: Notify,
    /// Argon2id.
    pub hasher: Hasher,
    /// Failed logins by address.
    pub login_throttle: Throttle,
    /// How many logins failed.
    pub login_failures: Failures,
    /// Wrong claim tokens by address.
    pub claim_throttle: Throttle,
    /// When the process started.
    pub started: Instant,
    identity: Arc<RwLock<Option<Arc<CellIdentity>>>>,
    audit_head: watch::Sender<Head>,
    identity_made: watch::Sender<bool>,
    clock: Clock,
}

/// A failing start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What it holds.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Puts the cell and its peers, as stored, into memory.
fn recall(store: &Store, shared: &Shared) -> Result<(), StartError> {
    if let Some(cell) = store.read(setup::cell)? {
        let stored = store.read(|connection| peers::list(connection, &cell.range))?;
        let all = stored.into_iter().map(|peer| PeerChange::Put(Arc::new(peer)));
        shared.peers.apply(all);
        shared.set_identity(Arc::new(cell));
    }
    Ok(())
}

impl App {
    /// Opens the database and everything that stands on it. Talks to nobody yet.
    ///
    /// # Errors
    /// [`StartError`].
    #[allow(clippy::too_many_lines, reason = "a line for each field")]
    pub fn open(config: Config, clock: Clock) -> Result<Arc<Self>, StartError> {
        let now = clock();
        let lifetimes = lifetimes(&config);
        let shared = Shared {
            sessions: Arc::new(RwLock::new(None)),
            peers: Arc::default(),
            events: Events::default(),
            network: Arc::new(Network::default()),
            identity: Arc::default(),
            audit_head: watch::Sender::new((0, [0; 32])),
            identity_made: watch::Sender::new(false),
        };
        let sink = shared.clone();
        let store = Store::open(
            &config.state.join("cell.db"),
            now,
            Arc::new(move |effects| sink.take(effects)),
        )?;
        let stored = store.read(sessions::list)?;
        let sessions = Arc::new(Sessions::new(lifetimes, stored));
        sessions.forget_expired(now);
        *shared.sessions.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&sessions));
        recall(&store, &shared)?;
        Ok(Arc::new(App {
            exits: Arc::default(),
            dns: Dns::default(),
            published: Publisher::default(),
            public_http: PublicHttp::default(),
            check: NetworkCheck::new(ipc::connect(&config.netd_socket)),
            explain: Explainer::new(ipc::connect(&config.netd_socket)),
            confirmer: Confirmer::new(ipc::connect(&config.netd_socket)),
            change_settling: Mutex::default(),
            activity: ActivityReader::new(ipc::connect(&config.netd_socket)),
            broker: Broker::new(ipc::connect(&config.broker_socket)),
            deployments: Deployments::new(ipc::connect(&config.broker_socket)),
            streams: BrokerStreams::new(ipc::connect(&config.broker_socket)),
            services: Arc::default(),
            remote: Remote::default(),
            egress: egress(&config),
            openvpn: openvpn(&config),
            vault: Vault::new(ipc::connect(&config.vault_socket)),
            secrets: Secrets::new(ipc::connect(&config.vault_socket)),
            connection_changes: Mutex::default(),
            domain_changes: Mutex::default(),
            secrets_left: Notify::new(),
            account_turns: Turns::default(),
            accounts_left: Notify::new(),
            wireguard_key: WireguardKey::default(),
            hasher: Hasher::new()?,
            login_throttle: Throttle::new(LOGIN_QUOTA),
            login_failures: Failures::default(),
            claim_throttle: Throttle::new(CLAIM_QUOTA),
            started: Instant::now(),
            store: Arc::new(store),
            sessions,
            peers: shared.peers,
            events: shared.events,
            network: shared.network,
            identity: shared.identity,
            audit_head: shared.audit_head,
            identity_made: shared.identity_made,
            config,
            clock,
        }))
    }

    /// Now, milliseconds since 1970-01-01T00:00:00Z.
    pub fn now(&self) -> i64 {
        (self.clock)()
    }

    /// The cell; `None` until setup is complete.
    pub fn identity(&self) -> Option<Arc<CellIdentity>> {
        self.identity
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Heads of the audit chain as they are committed.
    pub fn audit_heads(&self) -> watch::Receiver<Head> {
        self.audit_head.send_replace(crate::anchor::stored_head(self));
        self.audit_head.subscribe()
    }

    /// Waits until setup is complete.
    pub async fn set_up(&self) -> Arc<CellIdentity> {
        let mut made = self.identity_made.subscribe();
        loop {
            if let Some(identity) = self.identity() {
                return identity;
            }
            // The sender lives as long as this.
            let _ = made.changed().await;
        }
    }
}

/// What a commit reaches.
#[derive(Clone)]
struct Shared {
    sessions: Arc<RwLock<Option<Arc<Sessions>>>>,
    peers: Arc<Peers>,
    events: Events,
    network: Arc<Network>,
    identity: Arc<RwLock<Option<Arc<CellIdentity>>>>,
    audit_head: watch::Sender<Head>,
    identity_made: watch::Sender<bool>,
}

impl Shared {
    /// Takes the effects of a commit, on the writer's thread and in commit order.
    fn take(&self, effects: Effects) {
        let Effects {
            generation,
            network,
            audit_head,
            identity,
            peers,
            sessions,
            topics,
        } = effects;
        if !peers.is_empty() {
            self.peers.apply(peers);
        }
        if let Some(open) = &*self.sessions.read().unwrap_or_else(PoisonError::into_inner) {
            sessions.into_iter().for_each(|change| open.apply(change));
        }
        if let Some(identity) = identity {
            self.set_identity(identity);
        }
        if let Some(generation) = generation {
            self.network.changed(generation, network);
        }
        if let Some(head) = audit_head {
            self.audit_head.send_replace(head);
        }
        self.events.publish(topics);
    }

    fn set_identity(&self, identity: Arc<CellIdentity>) {
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = Some(identity);
        self.identity_made.send_replace(true);
    }
}

fn lifetimes(config: &Config) -> Lifetimes {
    Lifetimes {
        idle_ms: millis(config.session_idle),
        absolute_ms: millis(config.session_absolute),
    }
}

fn egress(config: &Config) -> Option<EgressClient> {
    let path = config.egress_socket.as_ref()?;
    Some(EgressClient::new(ipc::connect(path)))
}

fn openvpn(config: &Config) -> Option<OpenvpnClient> {
    let path = config.openvpn_socket.as_ref()?;
    Some(OpenvpnClient::new(ipc::connect(path)))
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
