//! DNS, as `cell-egress` is told of it.

use std::net::{IpAddr, SocketAddr};

use cell_api_core::derive::dns::{DnsSpec, ExitDns, Reached, Record, TTL_SECONDS, Way};
use cell_proto::common::v1 as common;
use cell_proto::egress::v1 as wire;
use cell_proto::egress::v1::dns_record::Data;

/// All of it.
pub(super) fn spec(spec: &DnsSpec) -> wire::DnsSpec {
    wire::DnsSpec {
        zones: spec.zones.clone(),
        records: spec.records.iter().map(record).collect(),
        upstreams: endpoints(&spec.upstreams),
        exits: spec.exits.iter().map(exit).collect(),
        peers: spec.peers.values().map(peer).collect(),
        authority: spec.authority.as_ref().map(|authority| authority.at.into()),
        authority_zones: spec
            .authority
            .iter()
            .flat_map(|authority| authority.zones.clone())
            .collect(),
    }
}

fn record(record: &Record) -> wire::DnsRecord {
    wire::DnsRecord {
        name: record.name.clone(),
        ttl_seconds: TTL_SECONDS,
        data: Some(Data::Address(record.address.into())),
    }
}

fn exit(exit: &ExitDns) -> wire::DnsExit {
    let reached = match &exit.reached {
        Reached::Interface(name) => wire::dns_exit::Reached::Interface(name.clone()),
        Reached::Redirect => wire::dns_exit::Reached::Redirect(wire::DnsByRedirect {}),
    };
    wire::DnsExit {
        id: exit.id.to_string(),
        upstreams: endpoints(&exit.upstreams),
        reached: Some(reached),
    }
}

/// One peer.
pub(super) fn peer(way: &Way) -> wire::DnsPeer {
    wire::DnsPeer {
        addresses: way.addresses.iter().copied().map(IpAddr::into).collect(),
        exit_id: way.exit.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn endpoints(addresses: &[SocketAddr]) -> Vec<common::Endpoint> {
    addresses.iter().copied().map(common::Endpoint::from).collect()
}
