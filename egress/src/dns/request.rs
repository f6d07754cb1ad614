//! Requests about DNS from the wire to the core, which checks them, and answers back.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use cell_egress_core::dns::name::Name;
use cell_egress_core::dns::request::{
    self as checked, AskedData, AskedDns, AskedExitDns, AskedPeer, AskedReached, AskedRecord, DnsCeiling,
};
use cell_egress_core::dns::table::Table;
use cell_egress_core::exit::ExitId;
use cell_egress_core::request::Violation as Fault;
use cell_proto::common::v1::{Endpoint, IpAddress};
use cell_proto::egress::v1;
use cell_proto::egress::v1::dns_exit::Reached;
use cell_proto::egress::v1::dns_record::Data;
use cell_proto::fault::Violation;

use super::relay::{Relay, Resolved};

/// Most names of one request.
const NAMES_MAX: usize = 64;

/// `ApplyDnsRequest`, checked.
///
/// # Errors
/// The faults of the request.
pub fn apply_dns(request: &v1::ApplyDnsRequest, ceiling: &DnsCeiling) -> Result<Table, Vec<Violation>> {
    let Some(spec) = &request.dns else {
        return Err(vec![Violation::new("dns", "is required")]);
    };
    checked::table(&asked(spec), ceiling).map_err(|faults| {
        let told = |fault: Fault| Violation::new(format!("dns.{}", fault.field), fault.description);
        faults.into_iter().map(told).collect()
    })
}

/// `LeadPeersRequest`, checked against the table that it is a change of.
///
/// # Errors
/// The faults of the request.
pub fn lead_peers(request: &v1::LeadPeersRequest, table: &Table) -> Result<Table, Vec<Violation>> {
    let asked: Vec<_> = request.peers.iter().map(peer).collect();
    checked::led(table, &asked).map_err(|faults| {
        let told = |fault: Fault| Violation::new(fault.field, fault.description);
        faults.into_iter().map(told).collect()
    })
}

fn asked(spec: &v1::DnsSpec) -> AskedDns<'_> {
    AskedDns {
        zones: spec.zones.iter().map(String::as_str).collect(),
        records: spec.records.iter().map(record).collect(),
        upstreams: spec.upstreams.iter().map(endpoint).collect(),
        exits: spec.exits.iter().map(exit).collect(),
        peers: spec.peers.iter().map(peer).collect(),
        authority: spec.authority.as_ref().map(endpoint),
        authority_zones: spec.authority_zones.iter().map(String::as_str).collect(),
    }
}

fn record(record: &v1::DnsRecord) -> AskedRecord<'_> {
    AskedRecord {
        name: &record.name,
        ttl: record.ttl_seconds,
        data: record.data.as_ref().map(|data| match data {
            Data::Address(wire) => AskedData::Address(address(wire)),
            Data::Alias(target) => AskedData::Alias(target),
        }),
    }
}

fn exit(exit: &v1::DnsExit) -> AskedExitDns<'_> {
    AskedExitDns {
        id: &exit.id,
        upstreams: exit.upstreams.iter().map(endpoint).collect(),
        reached: exit.reached.as_ref().map(|reached| match reached {
            Reached::Interface(name) => AskedReached::Interface(name),
            Reached::Redirect(v1::DnsByRedirect {}) => AskedReached::Redirect,
        }),
    }
}

fn peer(peer: &v1::DnsPeer) -> AskedPeer<'_> {
    AskedPeer {
        addresses: peer.addresses.iter().map(address).collect(),
        exit: &peer.exit_id,
    }
}

fn endpoint(wire: &Endpoint) -> Result<SocketAddr, String> {
    SocketAddr::try_from(wire).map_err(|error| error.to_string())
}

fn address(wire: &IpAddress) -> Result<IpAddr, String> {
    IpAddr::try_from(wire).map_err(|error| error.to_string())
}

/// `ResolveRequest`, checked.
///
/// # Errors
/// Every fault of the request.
pub fn resolve(request: &v1::ResolveRequest) -> Result<(Vec<Name>, Option<ExitId>), Vec<Violation>> {
    let count = request.names.len();
    if !(1..=NAMES_MAX).contains(&count) {
        let rule = format!("are 1 to {NAMES_MAX}, not {count}");
        return Err(vec![Violation::new("names", rule)]);
    }
    let (mut names, mut faults) = (Vec::new(), Vec::new());
    for (index, text) in request.names.iter().enumerate() {
        match Name::of_host(text) {
            Ok(name) => names.push(name),
            Err(why) => faults.push(Violation::new(format!("names[{index}]"), why)),
        }
    }
    let by = match request.exit_id.as_str() {
        "" => None,
        id => ExitId::parse(id)
            .map_err(|why| faults.push(Violation::new("exit_id", why)))
            .ok(),
    };
    if faults.is_empty() {
        Ok((names, by))
    } else {
        Err(faults)
    }
}

/// What a name leads to, as it is told.
pub fn resolved(name: &str, resolved: Resolved) -> v1::ResolvedName {
    v1::ResolvedName {
        name: name.to_owned(),
        addresses: resolved.addresses.into_iter().map(IpAddress::from).collect(),
        ttl_seconds: resolved.ttl,
        failure: resolved.failure.unwrap_or_default().to_owned(),
    }
}

/// The relay as it is told.
pub fn status(relay: &Relay) -> v1::DnsStatus {
    let (seen, counters) = (relay.seen(), relay.counters());
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let ways = seen.ways.into_iter().map(|(id, way)| {
        let counters = &way.counters;
        let (last_failure_unix_ms, last_failure_detail) = counters.last_failure();
        let (last_proof_failure_unix_ms, last_proof_failure) = counters.last_proof_failure();
        let (last_marked_failure_unix_ms, last_marked_failure) = counters.last_marked_failure();
        v1::DnsWayStatus {
            exit_id: id.map(|id| id.to_string()).unwrap_or_default(),
            asked: counters.asked.load(Ordering::Relaxed),
            cached: counters.cached.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
            withheld: counters.withheld.load(Ordering::Relaxed),
            last_success_unix_ms: counters.last_success(),
            last_failure_unix_ms,
            last_failure_detail,
            last_proven_unix_ms: counters.last_proven(),
            last_proof_failure_unix_ms,
            last_proof_failure,
            last_marked_proven_unix_ms: counters.last_marked_proven(),
            last_marked_failure_unix_ms,
            last_marked_failure,
            lost_proofs: counters.lost_proofs(),
            lost_marked_proofs: counters.lost_marked_proofs(),
        }
    });
    v1::DnsStatus {
        names: number(seen.names),
        peer_addresses: number(seen.peers),
        answered_here: counters.answered.load(Ordering::Relaxed),
        refused: counters.refused.load(Ordering::Relaxed),
        dropped: counters.dropped.load(Ordering::Relaxed),
        without_way: counters.without_way.load(Ordering::Relaxed),
        ways: ways.collect(),
        authority_asked: counters.authority_asked.load(Ordering::Relaxed),
        authority_failed: counters.authority_failed.load(Ordering::Relaxed),
        revision: seen.revision,
    }
}
