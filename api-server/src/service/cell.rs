//! The cell as a whole: identity, status, configuration, WireGuard.

use std::sync::Arc;
use std::time::Duration;

use cell_api_core::derive::NetworkSettings;
use cell_api_core::derive::dns::Upstreams;
use cell_api_core::domain::Domain;
use cell_api_core::fault::Faults;
use cell_api_core::key::PublicKey;
use cell_api_core::name::{CellName, EndpointHost};
use cell_api_core::range::VpnRange;
use cell_api_core::setup;
use cell_proto::common::v1::Condition;

use super::peers::Activity;
use super::{Actor, ServiceError};
use crate::app::App;
use crate::events::Topic;
use crate::store::transaction::{self, NetworkChange, Origin};
use crate::store::{peers, setup as table};

/// What a cell is once setup is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellIdentity {
    /// Its name.
    pub cell_name: CellName,
    /// How services are found, beside the cell's own domain.
    pub domain: Domain,
    /// Its VPN's addresses.
    pub range: VpnRange,
    /// Where devices connect to, if it is known yet.
    pub endpoint_host: Option<EndpointHost>,
    /// Resolvers that are asked for who has no exit.
    pub dns_upstreams: Upstreams,
}

impl CellIdentity {
    /// The domains that services are found under, the one to tell people first; at least one.
    pub fn service_domains(&self) -> Vec<String> {
        let public = self.domain.public().map(|public| public.domain.to_string());
        public.into_iter().chain([self.cell_name.domain()]).collect()
    }
}

/// A change of the configuration; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct ConfigInput {
    /// Where devices connect to; empty forgets it.
    pub endpoint_host: Option<String>,
    /// Resolvers that are asked for who has no exit; none at all are the default ones.
    pub dns_upstreams: Option<Vec<String>>,
}

impl ConfigInput {
    /// Everything that is wrong with it.
    pub fn faults(&self) -> Faults {
        self.check().err().unwrap_or_default()
    }

    fn check(&self) -> Result<(Option<Option<EndpointHost>>, Option<Upstreams>), Faults> {
        let mut faults = Faults::default();
        let host = self.endpoint_host.as_deref();
        let host = host.map(|text| setup::check_endpoint(Some(text), &mut faults));
        let upstreams = self.dns_upstreams.as_ref().and_then(|texts| {
            let parsed = Upstreams::parse(texts.iter().map(String::as_str));
            let named = |(place, error)| faults.add(format!("dns_upstreams[{place}]"), error);
            parsed.map_err(named).ok()
        });
        if faults.is_empty() {
            Ok((host, upstreams))
        } else {
            Err(faults)
        }
    }
}

/// The cell at a glance.
#[derive(Debug)]
pub struct CellView {
    /// What it is.
    pub identity: Arc<CellIdentity>,
    /// Since the API started.
    pub uptime: Duration,
    /// Counter of accepted changes of the network.
    pub generation: u64,
    /// The generation that netd confirmed.
    pub observed_generation: u64,
    /// Peers that there are.
    pub peer_count: u64,
    /// Peers with a recent handshake; `None` while netd is not reachable.
    pub connected_peer_count: Option<u64>,
    /// `netd`, `broker`, `vault`, and `egress`, `openvpn` and `services` where the policy file names them.
    pub daemons: Vec<DaemonView>,
    /// When this was read, milliseconds since 1970-01-01T00:00:00Z.
    pub now: i64,
}

/// One daemon as the API sees it.
#[derive(Debug, Clone)]
pub struct DaemonView {
    /// Its name.
    pub name: &'static str,
    /// What it says of itself; `None` when it does not answer.
    pub conditions: Option<Vec<Condition>>,
}

/// The WireGuard interface.
#[derive(Debug)]
pub struct WireguardView {
    /// Name and port.
    pub settings: NetworkSettings,
    /// `kernel` or `userspace`; `None` while netd is not reachable.
    pub backend: Option<String>,
    /// The cell's key, when anybody has told it.
    pub public_key: Option<PublicKey>,
    /// Whether netd confirmed the latest generation.
    pub converged: bool,
    /// What moves, by name; `None` while netd is not reachable.
    pub peers: Option<Vec<(String, Activity)>>,
}

/// The cell.
///
/// # Errors
/// [`ServiceError::SetupRequired`].
pub fn identity(app: &App) -> Result<Arc<CellIdentity>, ServiceError> {
    app.identity().ok_or(ServiceError::SetupRequired)
}

/// The cell at a glance. Asks the daemons side by side and waits for none longer than its deadline.
///
/// # Errors
/// [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub async fn status(app: &Arc<App>) -> Result<CellView, ServiceError> {
    let identity = identity(app)?;
    let (generation, peer_count) = app
        .store
        .read_much(|connection| Ok((transaction::generation(connection)?, peers::count(connection)?)))
        .await?;
    let (broker, vault, activity) = tokio::join!(
        app.broker.conditions(),
        app.vault.conditions(),
        app.activity.all(app.now())
    );
    let connected = activity
        .ok()
        .map(|all| all.values().filter(|peer| peer.connected).count() as u64);
    let mut daemons = vec![
        DaemonView {
            name: "netd",
            conditions: app.network.conditions(),
        },
        DaemonView {
            name: "broker",
            conditions: broker.ok(),
        },
        DaemonView {
            name: "vault",
            conditions: vault.ok(),
        },
    ];
    daemons.extend(egress(app));
    daemons.extend(openvpn(app));
    daemons.extend(services(app));
    Ok(CellView {
        identity,
        uptime: app.started.elapsed(),
        generation,
        observed_generation: app.network.observed(),
        peer_count,
        connected_peer_count: connected,
        daemons,
        now: app.now(),
    })
}

/// Whether `cell-egress` answered when it was asked last; it says nothing of itself but of its exits and its DNS.
fn egress(app: &App) -> Option<DaemonView> {
    app.egress.as_ref()?;
    Some(DaemonView {
        name: "egress",
        conditions: app.exits.egress().reachable.then(|| app.dns.conditions()),
    })
}

/// Whether `cell-openvpn` answered when it was asked last; it says nothing of itself but of its exits.
fn openvpn(app: &App) -> Option<DaemonView> {
    app.openvpn.as_ref()?;
    Some(DaemonView {
        name: "openvpn",
        conditions: app.exits.openvpn().reachable.then(Vec::new),
    })
}

/// Whether services are found by their names and opened by them, where the policy file names CoreDNS' folder or Caddy's socket.
fn services(app: &App) -> Option<DaemonView> {
    let conditions = app.published.conditions(&app.config);
    (!conditions.is_empty()).then_some(DaemonView {
        name: "services",
        conditions: Some(conditions),
    })
}

/// Changes the configuration.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::SetupRequired`].
pub async fn configure(
    app: &App,
    actor: &Actor,
    input: ConfigInput,
) -> Result<Arc<CellIdentity>, ServiceError> {
    let (host, upstreams) = input.check()?;
    if host.is_none() && upstreams.is_none() {
        return identity(app);
    }
    let origin = Origin::new(actor, app.now());
    app.store
        .mutate(origin, move |tx| {
            let mut cell = table::cell(tx)?.ok_or(ServiceError::SetupRequired)?;
            if let Some(host) = host {
                table::set_endpoint_host(tx, host.as_ref())?;
                let shown = host.as_ref().map(ToString::to_string).unwrap_or_default();
                tx.audit("config.update", "endpoint_host", shown);
                tx.effects.topics.extend([Topic::Config, Topic::Peers]);
                cell.endpoint_host = host;
            }
            if let Some(upstreams) = upstreams {
                let stored = Some(&upstreams).filter(|all| **all != Upstreams::default());
                table::set_dns_upstreams(tx, stored)?;
                tx.audit("config.update", "dns_upstreams", upstreams.to_string());
                tx.effects.topics.insert(Topic::Config);
                tx.network(NetworkChange::All);
                cell.dns_upstreams = upstreams;
            }
            let after = Arc::new(cell);
            tx.effects.identity = Some(Arc::clone(&after));
            Ok(after)
        })
        .await
}

/// The WireGuard interface and what moves on it.
///
/// # Errors
/// [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub async fn wireguard(app: &Arc<App>) -> Result<WireguardView, ServiceError> {
    identity(app)?;
    let generation = app
        .store
        .read(|connection| Ok(transaction::generation(connection)?))?;
    let status = app.network.status();
    let activity = app.activity.all(app.now()).await.ok();
    Ok(WireguardView {
        settings: app.config.network.clone(),
        backend: status.map(|status| status.wireguard_backend),
        public_key: app.wireguard_key.public_key(app).await.ok(),
        converged: app.network.observed() >= generation,
        peers: activity.map(|all| {
            let mut peers: Vec<_> = all.as_ref().clone().into_iter().collect();
            peers.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            peers
        }),
    })
}
