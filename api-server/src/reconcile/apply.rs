//! How netd is told. Whatever it says of one peer, the others get what they may have and lose what they may not: a peer
//! that netd refuses is left out, and so is off the network, which is the safe side.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cell_api_core::connection::choice::{ExitChoice, Route};
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::derive::dns::Ways;
use cell_api_core::derive::services::{core_network, service_spec};
use cell_api_core::derive::{self, PeerSpec};
use cell_api_core::domain::Domain;
use cell_api_core::range::VpnRange;
use cell_api_core::services::core_network::CoreNetwork;
use cell_api_core::services::entry::{Entries, with_grants};
use cell_proto::fault::{self, Violation};
use cell_proto::netd::v1 as wire;
use tonic::{Response, Status};

use super::refused::{self, Refused};
use super::waiting::Found;
use super::{Accepted, Reconciler, entries, exits};
use crate::app::App;
use crate::daemons::netd;
use crate::dns;
use crate::events::Topic;
use crate::network::{MAX_DELTA, Trouble};
use crate::service::ServiceError;
use crate::service::cell::CellIdentity;
use crate::store::peers as table;
use crate::store::transaction;
use crate::store::waiting::BeforeWhole;

/// How long netd may take for one apply; ten thousand peers take it some seconds. A netd that hangs is lost, and the
/// status says so.
const DEADLINE: Duration = Duration::from_secs(25);

/// What changes, by name; `None` is a removal.
pub(super) type Difference = BTreeMap<String, Option<PeerSpec>>;

/// Peers with the exits that carry them.
#[derive(Default)]
pub(super) struct Routed {
    pub(super) spec: Difference,
    /// Those that no exit carries and that may go no other way, with why. They are on the network without the internet.
    pub(super) nowhere: Refused,
}

/// What a specification lists, as it is named, in its order.
struct Listed {
    exits: Vec<String>,
    services: Vec<String>,
    entries: Vec<String>,
    peers: Vec<String>,
    relay_servers: Vec<SocketAddr>,
}

impl Listed {
    fn of(spec: &derive::NetworkSpec) -> Self {
        Listed {
            exits: spec.exits.iter().map(|exit| exit.id.to_string()).collect(),
            services: spec.services.iter().map(|one| one.name.clone()).collect(),
            entries: spec.entries.iter().map(entries::key).collect(),
            peers: spec.peers.iter().map(|peer| peer.name.clone()).collect(),
            relay_servers: spec.relay_servers.clone(),
        }
    }
}

/// How many are left out next, where a list is too long.
struct Excess {
    exits: usize,
    services: usize,
    entries: usize,
    peers: usize,
}

impl Default for Excess {
    fn default() -> Self {
        Excess {
            exits: 1,
            services: 1,
            entries: 1,
            peers: 1,
        }
    }
}

impl Reconciler {
    /// What is committed and waits.
    pub(super) async fn apply_pending(&mut self) -> Result<(), Status> {
        let pending = self.app.network.take();
        if pending.is_empty() {
            return Ok(());
        }
        match self.settle(self.accepted.is_some()).await? {
            Found::Nothing => {}
            Found::Unsent(waiting) => return self.send_waiting(waiting, pending).await,
            Found::Waits => return self.take_away_beside(pending.generation).await,
            Found::Ended => return self.apply_all().await,
        }
        if pending.all || self.accepted.is_none() {
            return self.apply_all().await;
        }
        let Routed { spec, nowhere } = self.routed(pending.peers);
        match self.apply_difference(spec).await {
            Ok(()) => {
                self.nowhere.extend(nowhere);
                self.settled(pending.generation);
                Ok(())
            }
            // Another etag, or a state that is not as we think: only the whole is the truth.
            Err(status) if has_answered(&status) => {
                tracing::info!(
                    reason = fault::reason(&status),
                    "a difference was refused; applying everything"
                );
                self.apply_all().await
            }
            Err(status) => Err(status),
        }
    }

    /// What is to be told of peers: each as it is now, by the exit that carries it now.
    pub(super) fn routed(&self, names: BTreeSet<String>) -> Routed {
        let mut routed = Routed::default();
        let identity = self.app.identity();
        for name in names {
            let stored = self.app.peers.get(&name);
            let spec = match stored.zip(identity.as_ref()) {
                None => None,
                Some((stored, identity)) => {
                    let (route, why_not) = self.exits.way_of(&stored.peer, &self.app.exits);
                    routed.nowhere.extend(why_not.map(|why| (name.clone(), why)));
                    self.granted(derive::peer_spec(&identity.range, &stored.peer, route))
                }
            };
            routed.spec.insert(name, spec);
        }
        routed
    }

    pub(super) fn tell_what_netd_refuses(&self) {
        self.app.exits.refused_by_netd(&self.exits.refused);
        let networks = &self.exits.refused_services;
        let of_entries = [&self.exits.refused_entries, &self.exits.shut_entries];
        let owners = if of_entries.iter().all(|entries| entries.is_empty()) {
            BTreeMap::new()
        } else {
            self.owners_of_entries()
        };
        let told = entries::told(networks, &of_entries, &owners);
        if self.app.services.refused_by_netd(told) {
            self.app.events.publish([Topic::Services]);
        }
    }

    /// Services by their addresses in the VPN.
    fn owners_of_entries(&self) -> BTreeMap<String, String> {
        let Some(identity) = self.app.identity() else {
            return BTreeMap::new();
        };
        let read = self.app.store.read(crate::store::services::list);
        let all = read.inspect_err(|error| tracing::error!(%error, "services cannot be read"));
        let owners = all.unwrap_or_default().into_iter().filter_map(|one| {
            let address = identity.range.v4_of(one.host?);
            Some((address.to_string(), one.name.to_string()))
        });
        owners.collect()
    }

    /// A peer with what it may reach of services; none when that cannot be read, so that it is off the network.
    fn granted(&self, peer: PeerSpec) -> Option<PeerSpec> {
        granted(&self.app, peer)
            .inspect_err(|error| tracing::error!(%error, "what a peer may reach of services cannot be read"))
            .ok()
    }

    /// Everything that the database holds, but the peers that netd refuses.
    pub(super) async fn apply_all(&mut self) -> Result<(), Status> {
        // What is waiting is in the database already, and so in what is read now.
        drop(self.app.network.take());
        self.refused.clear();
        self.exits = exits::Told::default();
        match self.settle(false).await? {
            Found::Waits => {
                let (generation, _) = self.desired(None).await?;
                return self.take_away_beside(generation).await;
            }
            Found::Nothing | Found::Unsent(_) | Found::Ended => {}
        }
        match self.tell_whole(None).await {
            Ok(generation) => {
                self.tell_what_netd_refuses();
                self.settled(generation);
                Ok(())
            }
            Err((generation, status)) if has_answered(&status) => self.blocked(generation, &status).await,
            Err((_, status)) => Err(status),
        }
    }

    /// Tells netd everything for good, less what it refuses; the generation that it has then. `before`: what takes the place of a change
    /// that is not told yet, since it is to wait.
    ///
    /// # Errors
    /// netd's, with the generation that it would have.
    pub(super) async fn tell_whole(&mut self, before: Option<&BeforeWhole>) -> Result<u64, (u64, Status)> {
        self.refused.clear();
        self.exits = exits::Told::default();
        self.app.dns.forget_refusal();
        self.app.remote.forget_refusal();
        self.app.public_http.forget_refusal();
        let mut excess = Excess::default();
        loop {
            let (generation, spec) = self.desired(before).await.map_err(|status| (0, status))?;
            let listed = Listed::of(&spec);
            let Err(status) = self.send_all(generation, spec).await else {
                return Ok(generation);
            };
            let violations = fault::violations(&status);
            let is_above = fault::reason(&status).as_deref() == Some("ABOVE_CEILING");
            let is_left_out = has_answered(&status)
                && (self.app.dns.note_refusal(&violations, is_above)
                    || self.app.remote.note_refusal(&listed.relay_servers, &violations)
                    || self.app.public_http.note_refusal(&violations)
                    || self.leave_out(&listed, &violations, &mut excess));
            if !is_left_out {
                return Err((generation, status));
            }
        }
    }

    /// Leaves out what netd refuses of one kind; whether there was any. What it says of one kind may be of another that is refused:
    /// of peers for their exits, of entries for networks.
    fn leave_out(&mut self, listed: &Listed, violations: &[Violation], excess: &mut Excess) -> bool {
        let some = |what, names, excess| refused::some(what, names, violations, excess);
        let left_out = some(("spec.exits", "exits"), &listed.exits, &mut excess.exits);
        if !left_out.is_empty() {
            tracing::warn!(count = left_out.len(), "netd refuses some exits");
            self.exits.refused.extend(left_out);
            return true;
        }
        let what = ("spec.service_networks", "networks of services");
        let left_out = some(what, &listed.services, &mut excess.services);
        if !left_out.is_empty() {
            // Such a bridge carries nothing: netd judges it by its name.
            tracing::warn!(?left_out, "netd refuses networks of services");
            self.exits.refused_services.extend(left_out);
            return true;
        }
        let what = ("spec.entries", "ports of services");
        let left_out = some(what, &listed.entries, &mut excess.entries);
        if !left_out.is_empty() {
            tracing::warn!(?left_out, "netd refuses entries of services");
            self.exits.refused_entries.extend(left_out);
            return true;
        }
        let left_out = some(("spec.peers", "peers"), &listed.peers, &mut excess.peers);
        let found = !left_out.is_empty();
        self.refused.extend(left_out);
        found
    }

    /// netd refuses the network itself, or cannot make it now. It still has the one before, and there peers must lose
    /// what they may not have any more.
    async fn blocked(&mut self, generation: u64, status: &Status) -> Result<(), Status> {
        let violations = fault::violations(status);
        let named = violations
            .iter()
            .map(|v| format!("; {}: {}", v.field, v.description));
        let trouble = Trouble {
            reason: fault::reason(status).unwrap_or_else(|| "REFUSED".to_owned()),
            message: format!(
                "netd does not take the network: {}{}",
                status.message(),
                named.collect::<String>()
            ),
        };
        tracing::warn!(
            reason = trouble.reason,
            message = trouble.message,
            "netd refuses the network"
        );
        self.accept(None);
        self.tell(generation, Some(trouble));
        self.retry_later();
        match self.apply_to_what_netd_has().await {
            Err(status) if !has_answered(&status) => Err(status),
            _ => Ok(()),
        }
    }

    /// Brings the peers of netd's own accepted state to ours, leaving the interface as it is.
    async fn apply_to_what_netd_has(&mut self) -> Result<(), Status> {
        let request = wire::GetNetworkRequest { include_spec: true };
        let current = in_time(self.watch.get_network(request)).await?;
        let (Some(status), Some(spec)) = (current.status, current.spec) else {
            return Ok(());
        };
        let (_, wanted) = self.desired(None).await?;
        let mut has: BTreeMap<String, wire::PeerSpec> = spec
            .peers
            .into_iter()
            .map(|peer| (peer.name.clone(), peer))
            .collect();
        let mut changes = Difference::new();
        // An exit that it has not is none that it can take.
        let has_exit = |id: ConnectionId| spec.exits.iter().any(|exit| exit.id == id.to_string());
        for mut peer in wanted.peers.clone() {
            if peer.exit.is_some_and(|id| !has_exit(id)) {
                peer = peer.without_exit();
            }
            if has.remove(&peer.name) != Some(netd::peer_spec(peer.clone())) {
                changes.insert(peer.name.clone(), Some(peer));
            }
        }
        changes.extend(has.into_keys().map(|name| (name, None)));
        self.accept(Some(Accepted {
            etag: status.etag,
            netd_generation: status.generation,
        }));
        let mut done = self.apply_chunks(changes).await;
        if done.is_ok() {
            done = self.close_services(&netd::network_spec(wanted)).await;
        }
        // The network as a whole is still not ours: each change goes this way until it is.
        self.accept(None);
        done
    }

    /// Closes entries of netd's own accepted state that are not wanted, or not for everyone, ports that the cell itself is not to
    /// open, and what containers are not to reach; opens none.
    async fn close_services(&mut self, wanted: &wire::NetworkSpec) -> Result<(), Status> {
        let request = wire::GetNetworkRequest { include_spec: true };
        let current = in_time(self.watch.get_network(request)).await?;
        let (Some(status), Some(mut spec)) = (current.status, current.spec) else {
            return Ok(());
        };
        let left = entries::closed(&spec.entries, &wanted.entries);
        let is_less = entries::close_networks(&mut spec.service_networks, &wanted.service_networks);
        if left.is_none() && !is_less {
            return Ok(());
        }
        spec.entries = left.unwrap_or(spec.entries);
        let request = wire::ApplyNetworkRequest {
            spec: Some(spec),
            etag: status.etag,
            validate_only: false,
            confirm_within_seconds: 0,
        };
        in_time(self.apply.apply_network(request)).await.map(drop)
    }

    async fn apply_chunks(&mut self, mut changes: Difference) -> Result<(), Status> {
        while !changes.is_empty() {
            let mut chunk = Difference::new();
            while chunk.len() < MAX_DELTA
                && let Some((name, spec)) = changes.pop_first()
            {
                chunk.insert(name, spec);
            }
            self.apply_difference(chunk).await?;
        }
        Ok(())
    }

    /// Removals go first and alone, so that nothing that netd says of an addition can hold a revocation up.
    pub(super) async fn apply_difference(&mut self, peers: Difference) -> Result<(), Status> {
        let (mut upserted, mut removed) = (Vec::new(), Vec::new());
        let mut ways = dns::ways_of(peers.values().flatten());
        for (name, spec) in peers {
            self.refused.remove(&name);
            self.nowhere.remove(&name);
            match spec {
                Some(spec) => upserted.push(netd::peer_spec(spec)),
                None => removed.push(name),
            }
        }
        if !removed.is_empty() {
            self.send_difference(Vec::new(), Ways::new(), std::mem::take(&mut removed))
                .await?;
        }
        while !upserted.is_empty() {
            let names: Vec<String> = upserted.iter().map(|peer| peer.name.clone()).collect();
            let Err(status) = self
                .send_difference(upserted.clone(), ways.clone(), removed.clone())
                .await
            else {
                return Ok(());
            };
            let violations = fault::violations(&status);
            let mut left_out = refused::named("upserted_peers", &names, &violations);
            if refused::is_too_long("upserted_peers", &violations) && names.len() == 1 {
                left_out = refused::excess(&names, 1, "peers");
            }
            if left_out.is_empty() {
                return Err(status);
            }
            // What netd had of such a peer before is more than it may have now.
            upserted.retain(|peer| !left_out.contains_key(&peer.name));
            ways.retain(|name, _| !left_out.contains_key(name));
            removed.extend(left_out.keys().cloned());
            self.refused.extend(left_out);
        }
        if removed.is_empty() {
            return Ok(());
        }
        self.send_difference(upserted, ways, removed).await
    }

    /// `ways`: those of the peers that come or change.
    pub(super) async fn send_difference(
        &mut self,
        upserted_peers: Vec<wire::PeerSpec>,
        ways: Ways,
        removed_peers: Vec<String>,
    ) -> Result<(), Status> {
        self.app.dns.before_some(&self.app, &ways).await;
        let gone = removed_peers.clone();
        let base_etag = self.accepted.as_ref().map(|accepted| accepted.etag.clone());
        let request = wire::ApplyNetworkDeltaRequest {
            base_etag: base_etag.ok_or_else(|| Status::aborted("netd has nothing of ours"))?,
            upserted_peers,
            removed_peers,
            validate_only: false,
            confirm_within_seconds: 0,
        };
        let applied = in_time(self.apply.apply_network_delta(request)).await?;
        self.app.dns.after_some(ways, &gone);
        self.accept(Some(Accepted {
            etag: applied.etag,
            netd_generation: applied.generation,
        }));
        Ok(())
    }

    async fn send_all(&mut self, generation: u64, spec: derive::NetworkSpec) -> Result<(), Status> {
        let dns = dns::all_of(&spec);
        let has_interface = spec.wireguard.is_some();
        self.app.dns.before_all(&self.app, &dns).await;
        let mut request = wire::ApplyNetworkRequest {
            spec: Some(netd::network_spec(spec)),
            etag: String::new(),
            validate_only: false,
            confirm_within_seconds: 0,
        };
        let mut sending = in_time(self.apply.apply_network(request.clone())).await;
        // The change that was rolled back is put back here already, or never was ours.
        if let Err(status) = &sending
            && fault::reason(status).as_deref() == Some("ROLLED_BACK")
        {
            request.etag = self.noted_etag().await?;
            sending = in_time(self.apply.apply_network(request)).await;
        }
        let applied = sending?;
        self.app.dns.after_all(dns);
        tracing::info!(
            generation,
            changes = applied.change_count,
            "netd has the whole network"
        );
        self.accept(Some(Accepted {
            etag: applied.etag,
            netd_generation: applied.generation,
        }));
        if !has_interface {
            // A cell that is just being set up: no peer is judged beside a network that knows none.
            self.app.network.set_etag(None);
        }
        Ok(())
    }

    pub(super) fn accept(&mut self, accepted: Option<Accepted>) {
        let etag = accepted.as_ref().map(|accepted| accepted.etag.clone());
        self.app.network.set_etag(etag);
        self.accepted = accepted;
    }

    /// netd has a generation, but perhaps some peers.
    pub(super) fn settled(&mut self, generation: u64) {
        self.retry_never();
        let trouble = refused::trouble(&self.refused).or_else(|| refused::nowhere(&self.nowhere));
        if let Some(trouble) = &trouble {
            tracing::warn!(message = trouble.message, "netd does not take all of it");
        }
        self.tell(generation, trouble);
    }

    fn tell(&self, generation: u64, trouble: Option<Trouble>) {
        if self.app.network.answered(generation, trouble, self.app.now()) {
            self.app.events.publish([Topic::Status]);
        }
    }

    /// The whole of what netd is to own, without what it refused, and the generation that it is. `before` takes the place of what is stored.
    pub(super) async fn desired(
        &mut self,
        before: Option<&BeforeWhole>,
    ) -> Result<(u64, derive::NetworkSpec), Status> {
        let refused_exits = std::mem::take(&mut self.exits.refused);
        let refused_services = std::mem::take(&mut self.exits.refused_services);
        let refused_entries = std::mem::take(&mut self.exits.refused_entries);
        let before = before.cloned().unwrap_or_default();
        let desired = desired(&self.app, self.refused.clone(), refused_exits, before).await;
        let (generation, mut spec, exits, nowhere) =
            desired.map_err(|error| Status::internal(error.to_string()))?;
        let shut_entries = entries::leave_out(&mut spec, &refused_services, &refused_entries);
        self.exits = exits;
        self.exits.shut_entries = shut_entries;
        self.exits.refused_services = refused_services;
        self.exits.refused_entries = refused_entries;
        self.nowhere = nowhere;
        Ok((generation, spec))
    }
}

type Desired = (u64, derive::NetworkSpec, exits::Told, Refused);

async fn desired(
    app: &Arc<App>,
    without: Refused,
    refused_exits: Refused,
    mut before: BeforeWhole,
) -> Result<Desired, ServiceError> {
    let settings = app.config.network.clone();
    let (tor, core) = (app.config.tor_socks, app.config.core_network);
    let (known, own) = (Arc::clone(&app.exits), Arc::clone(app));
    let has_dns = app.egress.is_some() && !app.dns.is_refused_by_netd();
    let has_names = has_dns && app.config.core_dns_dir.is_some();
    app.store
        .read_much(move |connection| {
            let generation = transaction::generation(connection)?;
            let cell = crate::store::setup::cell(connection)?;
            let peers = peers_of(connection, cell.as_ref(), &mut before)?;
            let connections = crate::store::connections::list(connection)?;
            let (told, specs) = exits::Told::of(
                &connections,
                &known.names(),
                &known.openvpn().pushed,
                refused_exits,
                tor,
            );
            let (mut ways, mut nowhere) = (Vec::with_capacity(peers.len()), Refused::new());
            for stored in &peers {
                let name = stored.peer.name.as_str();
                if without.contains_key(name) {
                    continue;
                }
                let (route, why_not) = told.way_of(&stored.peer, &known);
                ways.push((&stored.peer, route));
                nowhere.extend(why_not.map(|why| (name.to_owned(), why)));
            }
            let range = cell.as_ref().map(|cell| &cell.range);
            let dns = cell.as_ref().map(|cell| &cell.dns_upstreams).filter(|_| has_dns);
            let mut spec = derive::network_spec(&settings, range, ways, specs, dns);
            if own.dns.is_bound_port_refused() {
                spec.ask_at_one_port();
            }
            if range.is_some() {
                let urls = match own.egress {
                    Some(_) => crate::store::remote_catalogs::direct(connection)?,
                    None => Vec::new(),
                };
                let servers = derive::relay_servers(&urls, &known.names());
                spec.relay_servers = own.remote.allowed(servers);
                // The relay asks it for services' names.
                spec.dns_upstreams.extend(has_names.then_some(core.coredns()));
                let route = |exit: &ExitChoice| told.route(exit, &known);
                let domain = cell.as_ref().map(|cell| &cell.domain);
                spec.services = services_of(connection, (core, domain), &mut before, route)?;
            }
            if let Some(range) = range {
                let proxy = add_entries(connection, range, &mut spec)?;
                let domain = cell.as_ref().and_then(|cell| cell.domain.public());
                spec.public_http = own.public_http.allowed(domain, proxy);
            }
            Ok((generation, spec, told, nowhere))
        })
        .await
}

/// Where devices find services, and who may; gives the proxy's address, while there is one.
fn add_entries(
    connection: &rusqlite::Connection,
    range: &VpnRange,
    spec: &mut derive::NetworkSpec,
) -> Result<Option<Ipv4Addr>, ServiceError> {
    let Entries {
        all,
        mut grants,
        proxy,
    } = crate::store::services::entries(connection, range)?;
    spec.entries = all;
    for peer in &mut spec.peers {
        if let Some(granted) = grants.remove(&peer.name) {
            peer.access.services = with_grants(&peer.access.services, &granted);
        }
    }
    Ok(proxy)
}

/// All peers, each with the exit that it has for good or, while a change of it waits, had before.
fn peers_of(
    connection: &rusqlite::Connection,
    cell: Option<&CellIdentity>,
    before: &mut BeforeWhole,
) -> Result<Vec<table::StoredPeer>, ServiceError> {
    let mut peers = match cell {
        Some(cell) => table::list(connection, &cell.range)?,
        None => Vec::new(),
    };
    for stored in &mut peers {
        if let Some(exit) = before.peers.remove(stored.peer.name.as_str()) {
            stored.peer.exit = exit;
        }
    }
    Ok(peers)
}

/// The networks of services, with the ports that the cell calls there; that of the cell's own containers among them, where they are.
fn services_of(
    connection: &rusqlite::Connection,
    (core, domain): (CoreNetwork, Option<&Domain>),
    before: &mut BeforeWhole,
    route: impl Fn(&ExitChoice) -> Route + Copy,
) -> Result<Vec<derive::services::ServiceSpec>, ServiceError> {
    let mut networks = crate::store::service_networks::list(connection)?;
    for network in &mut networks {
        if let Some(egress) = before.services.remove(&network.service) {
            network.egress = egress;
        }
    }
    let mut called = crate::store::services::called(connection)?;
    let networks = networks.iter().map(|one| {
        let ports = called.remove(one.service.as_str()).unwrap_or_default();
        service_spec(one, ports, route)
    });
    let mut all: Vec<_> = networks.collect();
    let has_core = crate::store::services::has_core(connection)?;
    if let Some(domain) = domain.filter(|_| has_core) {
        // First: where there is not room for all, it is not the one that is left out.
        all.insert(0, core_network(core, domain));
    }
    Ok(all)
}

/// A peer with what it may reach of services by being named.
///
/// # Errors
/// [`ServiceError::Storage`].
pub(crate) fn granted(app: &App, mut peer: PeerSpec) -> Result<PeerSpec, ServiceError> {
    let Some(identity) = app.identity() else {
        return Ok(peer);
    };
    let granted = app
        .store
        .read(|connection| crate::store::services::granted(connection, &identity.range, &peer.name))?;
    peer.access.services = with_grants(&peer.access.services, &granted);
    Ok(peer)
}

pub(super) async fn in_time<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answered) => Ok(answered?.into_inner()),
        Err(_) => Err(Status::deadline_exceeded("netd did not answer in time")),
    }
}

/// netd said no, or that it cannot now, as opposed to netd being away.
pub(super) fn has_answered(status: &Status) -> bool {
    fault::reason(status).is_some()
        || matches!(
            status.code(),
            tonic::Code::Aborted | tonic::Code::OutOfRange | tonic::Code::ResourceExhausted
        )
}
