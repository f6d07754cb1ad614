//! Gives `cell-egress` its exits, looks every few seconds at what the daemons saw of connections, and says what of it
//! has changed: to browsers, in the audit, and to the reconciler, for whom a peer may have to go another way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cell_api_core::connection::allocation::Device;
use cell_api_core::connection::choice::ExitFact;
use cell_api_core::connection::config::Config;
use cell_api_core::connection::health::Health;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::judge::{Judged, Obstacle, Seen, judge};
use cell_api_core::connection::moves::{Moment, Move, Moved, moves};
use cell_api_core::derive::exits::{RelaySpec, Source, relay_spec, server_names};
use cell_api_core::derive::openvpn::openvpn_spec;
use cell_api_core::service_network::Egress as ServiceEgress;
use cell_proto::netd::v1::ExitState;
use tokio_util::sync::CancellationToken;

use super::{Egress, Turned};
use crate::app::App;
use crate::daemons::egress::{EgressClient, EgressError, Seen as Relays};
use crate::events::Topic;
use crate::service::{Actor, ServiceError};
use crate::store::connections::{self as table, StoredConnection};
use crate::store::service_networks;
use crate::store::transaction::{Origin, Tx};

/// How often, though nothing changed.
const INTERVAL: Duration = Duration::from_secs(3);

/// Runs until `shutdown`.
pub async fn watch(app: Arc<App>, shutdown: CancellationToken) {
    let mut events = app.events.watch();
    let mut watcher = Watcher {
        app: Arc::clone(&app),
        version: 0,
        connections: Vec::new(),
        told: None,
        refused: BTreeMap::new(),
        moment: Moment::default(),
        unwritten: Vec::new(),
        openvpn: super::openvpn::Told::default(),
    };
    loop {
        if let Err(error) = watcher.look().await {
            tracing::warn!(%error, "connections were not judged");
        }
        app.exits.note_look();
        let version = watcher.version;
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
            () = app.exits.look.notified() => {}
            changed = events.wait_for(|versions| versions.of(Topic::Connections) != version) => if changed.is_err() {
                return;
            }
        }
    }
}

/// How many lines wait for a database that does not take them; those before are lost, and the log says so.
const UNWRITTEN_MAX: usize = 1000;

type Line = (&'static str, String, String);

struct Watcher {
    app: Arc<App>,
    /// Of [`Topic::Connections`], when `connections` was read.
    version: u64,
    connections: Vec<StoredConnection>,
    /// What `cell-egress` took last.
    told: Option<Vec<RelaySpec>>,
    /// What it did not take, when it was told last.
    refused: BTreeMap<ConnectionId, String>,
    /// What decided ways at the last look.
    moment: Moment,
    /// Lines of the audit that could not be written yet, the oldest first: action, target, detail.
    unwritten: Vec<Line>,
    openvpn: super::openvpn::Told,
}

impl Watcher {
    async fn look(&mut self) -> Result<(), ServiceError> {
        let version = self.app.events.watch().borrow().of(Topic::Connections);
        if version != self.version {
            self.connections = self.app.store.read_much(table::list).await?;
            self.version = version;
        }
        if let Some(egress) = self.app.egress.clone() {
            if super::names::resolve(&self.app, &egress, &self.connections).await {
                self.app.network.again();
            }
            let said = self.tell_egress(&egress).await;
            if said.reachable != self.app.exits.egress().reachable {
                self.app.events.publish([Topic::Status]);
            }
            self.app.exits.see_egress(said);
        }
        if let Some(client) = self.app.openvpn.clone() {
            let wanted = self.specs(openvpn_spec);
            self.openvpn.look(&self.app, &client, wanted).await;
        }
        let now = self.app.now();
        self.listen(now);
        let egress = self.app.exits.egress();
        let of = |stored: &StoredConnection| (stored.id, judged(&self.app, stored, &egress, now));
        let judged: BTreeMap<ConnectionId, Judged> = self.connections.iter().map(of).collect();
        let changed = self.app.exits.judge(judged, now);
        let moment = self.moment();
        let before = std::mem::replace(&mut self.moment, moment);
        if changed.is_empty() {
            return self.write().await;
        }
        self.reroute(&changed);
        // What has turned is told once. Whoever could not be asked for is left out of it, and nothing else.
        let moves = self.moves(&before).unwrap_or_else(|error| {
            tracing::warn!(%error, "who has another way now is not told");
            BTreeMap::new()
        });
        let topics = [
            Some(Topic::Connections),
            (!moves.is_empty()).then_some(Topic::Peers),
        ];
        self.app.events.publish(topics.into_iter().flatten());
        // What was published by ourselves needs no other look.
        self.version += 1;
        self.note(changed, moves);
        self.write().await
    }

    /// What decides ways now.
    fn moment(&self) -> Moment {
        let exits = &self.app.exits;
        let fact = |stored: &StoredConnection| {
            let (id, kind) = (stored.id, stored.config.kind());
            let carried = kind.is_carried() && exits.netd_refuses(&id).is_none();
            let health = exits.health(&id);
            (
                id,
                ExitFact {
                    kind,
                    health,
                    carried,
                },
            )
        };
        let seen = |stored: &StoredConnection| (stored.id, exits.seen(&stored.id));
        Moment::new(
            self.connections.iter().map(fact).collect(),
            self.connections.iter().map(seen).collect(),
        )
    }

    /// Who has another way than `before`, of those who may go to the internet.
    fn moves(&self, before: &Moment) -> Result<BTreeMap<Move, Moved>, ServiceError> {
        let peers = self.app.peers.list();
        let devices = peers
            .iter()
            .filter(|stored| stored.peer.access.internet)
            .map(|stored| &stored.peer.exit);
        let networks = self.app.store.read(service_networks::list)?;
        let services = networks.iter().filter_map(|network| match &network.egress {
            ServiceEgress::Exit(choice) => Some(choice),
            ServiceEgress::Nowhere | ServiceEgress::Direct => None,
        });
        Ok(moves(devices, services, before, &self.moment))
    }

    /// What a daemon is to have of all connections.
    fn specs<T>(&self, spec: impl Fn(&Source<'_>) -> Option<T>) -> Vec<T> {
        let (tor, names) = (self.app.config.tor_socks, self.app.exits.names());
        let pushed = self.app.exits.openvpn().pushed;
        let specs = self
            .connections
            .iter()
            .filter_map(|stored| spec(&stored.source(tor, &names, &pushed)));
        specs.collect()
    }

    /// Notes which tunnels wait for a handshake.
    fn listen(&self, now: i64) {
        let exits = &self.app.exits;
        exits.listen_to_none_but(|id| self.connections.iter().any(|stored| stored.id == *id));
        for stored in &self.connections {
            if let Some(exit) = self.app.network.exit(&stored.id.to_string()) {
                let handshake = Some(exit.latest_handshake_unix_ms).filter(|at| *at > 0);
                exits.listen(stored.id, handshake, exit.sent_bytes, now);
            }
        }
    }

    /// Tells `cell-egress` all of it after a change, when it was away, and when it has not what it was told; asks else.
    async fn tell_egress(&mut self, egress: &EgressClient) -> Egress {
        let wanted = self.specs(relay_spec);
        let asked = match &self.told {
            Some(told) if *told == wanted => egress.status().await.ok(),
            Some(_) | None => None,
        };
        let taken = |seen: &Relays| {
            let expected = wanted.iter().filter(|spec| !self.refused.contains_key(&spec.id));
            expected.clone().count() == seen.len() && expected.clone().all(|spec| seen.contains_key(&spec.id))
        };
        let seen = match asked.filter(taken) {
            Some(seen) => Some(seen),
            None => self.apply(egress, wanted).await,
        };
        let proofs = match &seen {
            Some(_) => egress.dns_status().await.map(|status| status.proofs),
            None => Err(EgressError::Away),
        };
        Egress {
            reachable: seen.is_some(),
            refused: self.refused.clone(),
            seen: seen.unwrap_or_default(),
            proofs: proofs.unwrap_or_default(),
        }
    }

    /// Whatever it says of one exit, the others are told.
    async fn apply(&mut self, egress: &EgressClient, wanted: Vec<RelaySpec>) -> Option<Relays> {
        self.told = None;
        self.refused.clear();
        let mut left = wanted.clone();
        loop {
            match egress.apply(&left).await {
                Ok(seen) => {
                    self.told = Some(wanted);
                    return Some(seen);
                }
                Err(EgressError::Away | EgressError::NoDns | EgressError::OtherDns) => return None,
                Err(EgressError::Refuses(violations)) => {
                    let named = violations.iter().filter_map(|violation| {
                        let index = violation.field.strip_prefix("exits[")?.split_once(']')?.0;
                        let spec = left.get(index.parse::<usize>().ok()?)?;
                        Some((spec.id, violation.description.clone()))
                    });
                    let named: BTreeMap<ConnectionId, String> = named.collect();
                    if named.is_empty() {
                        tracing::warn!("cell-egress refuses its exits and names none");
                        return None;
                    }
                    left.retain(|spec| !named.contains_key(&spec.id));
                    self.refused.extend(named);
                }
            }
        }
    }

    /// Peers that are bound to a connection that is relied on now or is not any more, or fall back to it.
    fn reroute(&self, changed: &[Turned]) {
        let is_changed = |id: &ConnectionId| changed.iter().any(|turned| turned.reroutes && turned.id == *id);
        let all = self.app.peers.list();
        let concerned = all.iter().filter(|stored| {
            let exit = &stored.peer.exit;
            exit.bound().as_ref().is_some_and(is_changed) || exit.fallbacks().iter().any(is_changed)
        });
        let names: Vec<String> = concerned.map(|stored| stored.peer.name.to_string()).collect();
        if !names.is_empty() {
            self.app.network.rerouted(names);
        }
        // netd hears of services with the whole alone; they are few.
        let networks = self.app.store.read(service_networks::list).unwrap_or_default();
        let is_concerned = |egress: &ServiceEgress| {
            egress.bound().as_ref().is_some_and(is_changed) || egress.fallbacks().iter().any(is_changed)
        };
        if networks.iter().any(|network| is_concerned(&network.egress)) {
            self.app.network.again();
        }
    }

    fn name_of(&self, id: &ConnectionId) -> String {
        let found = self.connections.iter().find(|stored| stored.id == *id);
        found.map_or_else(|| id.to_string(), |stored| stored.name.to_string())
    }

    /// A line for the audit for each transition, and one for each way that somebody moved to.
    fn note(&mut self, changed: Vec<Turned>, moves: BTreeMap<Move, Moved>) {
        let turns = changed.into_iter().filter_map(|Turned { id, was, is, .. }| {
            let name = self
                .connections
                .iter()
                .find(|stored| stored.id == id)?
                .name
                .to_string();
            let Judged { detail, .. } = self.app.exits.judged(&id)?;
            let turn = match (was == is, is) {
                (false, _) => format!("{} to {}: {detail}", was.as_str(), is.as_str()),
                (true, Health::Working) => "it has worked for long enough: peers go by it again".to_owned(),
                (true, Health::Down | Health::Unknown) => {
                    format!("it has been {} for too long: peers go by it no more", is.as_str())
                }
            };
            Some(("connection.health", name, turn))
        });
        let moves = moves.into_iter().map(|(one, moved)| {
            let told = one.told(moved, |id| self.name_of(id));
            ("connection.failover", self.name_of(&one.bound), told)
        });
        let lines: Vec<Line> = turns.chain(moves).collect();
        self.unwritten.extend(lines);
        let excess = self.unwritten.len().saturating_sub(UNWRITTEN_MAX);
        if excess > 0 {
            tracing::error!(
                excess,
                "the audit takes no lines: the oldest of connections are lost"
            );
            self.unwritten.drain(..excess);
        }
    }

    /// Writes what waits, all of it or nothing.
    async fn write(&mut self) -> Result<(), ServiceError> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let lines = self.unwritten.clone();
        let origin = Origin::new(&Actor::cell(), self.app.now());
        let audit = move |tx: &mut Tx<'_>| {
            for (action, name, detail) in lines {
                tx.audit(action, name, detail);
            }
            Ok(())
        };
        self.app.store.mutate(origin, audit).await?;
        self.unwritten.clear();
        Ok(())
    }
}

/// What is thought of a connection at this moment, by what was seen last and by what it is now, so that who changed it
/// hears of that at once.
pub fn now(app: &App, stored: &StoredConnection) -> Judged {
    judged(app, stored, &app.exits.egress(), app.now())
}

fn judged(app: &App, stored: &StoredConnection, egress: &Egress, now: i64) -> Judged {
    let proof = egress.proofs.get(&stored.id).cloned().unwrap_or_default();
    let seen = seen(app, stored, egress);
    let mut judged = judge(obstacle(app, stored, egress).as_ref(), &seen, &proof, now);
    let names = app.exits.names();
    for name in server_names(&stored.config) {
        if let (Some(address), Some(why)) = (names.address(name), names.trouble(name)) {
            let kept = format!("; {name} is not resolved any more ({why}), and {address} is used as before");
            judged.detail.push_str(&kept);
        }
    }
    judged
}

/// What makes it impossible that a connection works.
fn obstacle(app: &App, stored: &StoredConnection, egress: &Egress) -> Option<Obstacle> {
    if !stored.config.kind().is_carried() {
        return Some(Obstacle::Type);
    }
    if !stored.secrets_whole {
        return Some(Obstacle::Secrets);
    }
    let names = app.exits.names();
    let mut unknown = server_names(&stored.config).into_iter();
    if let Some(name) = unknown.find(|name| names.address(name).is_none()) {
        let why = names.trouble(name).unwrap_or("it has not been asked for yet");
        return Some(Obstacle::Name(format!("{name}: {why}")));
    }
    if let Some(why) = app.exits.netd_refuses(&stored.id) {
        return Some(Obstacle::NetdRefuses(why));
    }
    match stored.allocation.device {
        Device::RedirectPort(_) if app.egress.is_none() => Some(Obstacle::NoEgress),
        Device::RedirectPort(_) => egress
            .refused
            .get(&stored.id)
            .cloned()
            .map(Obstacle::EgressRefuses),
        Device::Interface(_) if is_openvpn(stored) && app.openvpn.is_none() => Some(Obstacle::NoOpenvpn),
        Device::Interface(_) => {
            let refused = app.exits.openvpn().refused.remove(&stored.id);
            refused.map(Obstacle::OpenvpnRefuses)
        }
        Device::Link => None,
    }
}

fn is_openvpn(stored: &StoredConnection) -> bool {
    matches!(stored.config, Config::Openvpn(_))
}

/// What was seen of a connection.
fn seen(app: &App, stored: &StoredConnection, egress: &Egress) -> Seen {
    match stored.allocation.device {
        Device::RedirectPort(_) if !egress.reachable => Seen::Away("cell-egress"),
        Device::RedirectPort(_) => egress
            .seen
            .get(&stored.id)
            .cloned()
            .map(|relayed| match stored.config {
                Config::Tor => relayed.of_tor(),
                Config::WireguardExt(_)
                | Config::Openvpn(_)
                | Config::Sshuttle(_)
                | Config::Proxy(_)
                | Config::CellRelay => relayed,
            })
            .map_or(Seen::Nothing, Seen::Relay),
        Device::Interface(_) => tunnel(app, stored),
        Device::Link => Seen::Nothing,
    }
}

/// What netd says of a tunnel.
fn tunnel(app: &App, stored: &StoredConnection) -> Seen {
    if !app.network.is_reachable() {
        return Seen::Away("cell-netd");
    }
    let Some(exit) = app.network.exit(&stored.id.to_string()) else {
        return Seen::Nothing;
    };
    match exit.state() {
        ExitState::Ready if is_openvpn(stored) => program(app, stored),
        ExitState::Ready => Seen::Tunnel {
            handshake_unix_ms: Some(exit.latest_handshake_unix_ms).filter(|at| *at > 0),
            keeps_alive: match &stored.config {
                Config::WireguardExt(exit) => exit.peers.iter().any(|peer| peer.keepalive_seconds > 0),
                Config::Openvpn(_)
                | Config::Tor
                | Config::Sshuttle(_)
                | Config::Proxy(_)
                | Config::CellRelay => false,
            },
            unanswered: app.exits.is_unanswered(&stored.id),
        },
        ExitState::NoKey | ExitState::Foreign | ExitState::Failed => Seen::NoTunnel(exit.detail),
        ExitState::Unspecified => Seen::Nothing,
    }
}

/// What `cell-openvpn` says of a tunnel that netd has made.
fn program(app: &App, stored: &StoredConnection) -> Seen {
    let mut openvpn = app.exits.openvpn();
    if !openvpn.reachable {
        return Seen::Away("cell-openvpn");
    }
    openvpn
        .seen
        .remove(&stored.id)
        .map_or(Seen::Nothing, Seen::Program)
}
