//! netd: specifications out, statuses in.

mod exits;

use std::net::{IpAddr, SocketAddr};

use cell_api_core::access::{AccessPolicy, Protocol, Service};
use cell_api_core::derive::services::ServiceSpec;
use cell_api_core::derive::{CellPort, NetworkSpec, PeerSpec, WireguardSpec};
use cell_api_core::services::entry::Entry;
use cell_proto::common::v1 as common;
use cell_proto::netd::v1 as wire;
use ipnet::IpNet;

use crate::service::peers::Activity;

/// WireGuard's REJECT_AFTER_TIME, milliseconds: a session whose handshake is older carries nothing.
const REJECT_AFTER_MS: i64 = 180_000;

/// A whole specification.
pub fn network_spec(spec: NetworkSpec) -> wire::NetworkSpec {
    let NetworkSpec {
        wireguard,
        peers,
        cell_ports,
        exits,
        dns_upstreams,
        services,
        entries,
        relay_servers,
        public_http,
    } = spec;
    wire::NetworkSpec {
        wireguard: wireguard.map(wireguard_spec),
        peers: peers.into_iter().map(peer_spec).collect(),
        cell_ports: cell_ports.into_iter().map(cell_port).collect(),
        exits: exits.into_iter().map(exits::exit_spec).collect(),
        dns_upstreams: dns_upstreams.into_iter().map(SocketAddr::into).collect(),
        relay_servers: relay_servers.into_iter().map(SocketAddr::into).collect(),
        public_http: public_http.map(|to| SocketAddr::V4(to).into()),
        service_networks: services.into_iter().map(service_network).collect(),
        entries: entries.into_iter().map(entry).collect(),
    }
}

/// An entry of it.
pub fn entry(entry: Entry) -> wire::ServiceEntry {
    let Entry { at, to, everyone } = entry;
    wire::ServiceEntry {
        at: Some(service(at)),
        to: Some(service(to)),
        everyone,
    }
}

fn service_network(spec: ServiceSpec) -> wire::ServiceNetwork {
    let ServiceSpec {
        name,
        bridge,
        subnet,
        internet,
        exit,
        reach,
        called,
    } = spec;
    wire::ServiceNetwork {
        name,
        bridge,
        subnet: Some(IpNet::V4(subnet).into()),
        internet,
        exit: exit.map(|id| id.to_string()).unwrap_or_default(),
        reach: reach.into_iter().map(service).collect(),
        called: called.into_iter().map(|at| SocketAddr::V4(at).into()).collect(),
    }
}

/// One peer of it.
pub fn peer_spec(spec: PeerSpec) -> wire::PeerSpec {
    let PeerSpec {
        name,
        public_key,
        addresses,
        access,
        exit,
        asks: _,
    } = spec;
    wire::PeerSpec {
        name,
        public_key: public_key.as_bytes().to_vec(),
        addresses: addresses.into_iter().map(common::IpAddress::from).collect(),
        endpoint: None,
        persistent_keepalive_seconds: 0,
        access: Some(access_policy(access)),
        exit: exit.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// What netd has of a peer (`has`) less what it may not have any more, by `wanted`; `None`: nothing is to be taken from it.
pub fn reduced(has: &wire::PeerSpec, wanted: &wire::PeerSpec) -> Option<wire::PeerSpec> {
    let (had, may) = (has.access.clone()?, wanted.access.clone().unwrap_or_default());
    let mut left = had.clone();
    left.internet &= may.internet;
    left.peer_to_peer &= may.peer_to_peer;
    left.services.retain(|service| may.services.contains(service));
    (left != had).then(|| wire::PeerSpec {
        access: Some(left),
        ..has.clone()
    })
}

/// What moves about a peer, as of `now`.
pub fn activity(status: &wire::PeerStatus, now: i64) -> Activity {
    let handshake = Some(status.latest_handshake_unix_ms).filter(|at| *at > 0);
    Activity {
        connected: handshake.is_some_and(|at| now.saturating_sub(at) < REJECT_AFTER_MS),
        latest_handshake_unix_ms: handshake,
        received_bytes: status.received_bytes,
        sent_bytes: status.sent_bytes,
        endpoint: status
            .endpoint
            .as_ref()
            .and_then(|endpoint| SocketAddr::try_from(endpoint).ok()),
    }
}

fn wireguard_spec(spec: WireguardSpec) -> wire::WireguardSpec {
    let WireguardSpec {
        interface,
        listen_port,
        addresses,
        mtu_bytes,
    } = spec;
    wire::WireguardSpec {
        interface,
        listen_port: listen_port.into(),
        addresses: addresses.into_iter().map(common::IpPrefix::from).collect(),
        mtu_bytes,
    }
}

fn access_policy(policy: AccessPolicy) -> wire::AccessPolicy {
    let AccessPolicy {
        internet,
        peer_to_peer,
        services,
    } = policy;
    wire::AccessPolicy {
        internet,
        peer_to_peer,
        services: services.into_iter().map(service).collect(),
    }
}

fn service(service: Service) -> wire::Service {
    let Service {
        address,
        protocol: transport,
        port,
    } = service;
    wire::Service {
        address: Some(IpAddr::into(address)),
        protocol: protocol(transport).into(),
        port: port.into(),
    }
}

fn cell_port(port: CellPort) -> wire::CellPort {
    let CellPort {
        protocol: transport,
        port,
        target_port,
        bound_target_port,
    } = port;
    wire::CellPort {
        protocol: protocol(transport).into(),
        port: port.into(),
        target_port: target_port.into(),
        bound_target_port: bound_target_port.unwrap_or_default().into(),
    }
}

fn protocol(protocol: Protocol) -> common::Protocol {
    match protocol {
        Protocol::Tcp => common::Protocol::Tcp,
        Protocol::Udp => common::Protocol::Udp,
    }
}
