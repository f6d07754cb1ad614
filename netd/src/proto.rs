//! `cell.netd.v1` to and from the domain. No decision is made here: what the wire carried wrongly is handed on as the
//! sentence that says so.

mod services;

use std::net::{IpAddr, SocketAddr};

use cell_netd_core::confirm::{Pending, Reason, Rollback};
use cell_netd_core::desired::{
    Access, Desired, Exit, ExitWay, FarEnd, Peer, Service, Tunnel, UserTunnel, Wireguard, WireguardExit,
};
use cell_netd_core::model::{ExitId, PeerName, Protocol};
use cell_netd_core::plan::{Change, ChangeAction};
use cell_netd_core::redirect::Redirect;
use cell_netd_core::spec::{
    AccessSpec, CellPortSpec, DeltaSpec, ExitSpec, FarEndSpec, NetworkSpec, Parsed, PeerSpec, RedirectSpec,
    ServiceSpec, TunnelServerSpec, UserTunnelSpec, WaySpec, WireguardExitSpec, WireguardSpec,
};
use cell_proto::common::v1 as common;
use cell_proto::net::{self, InvalidNet};
use cell_proto::netd::v1;
use ipnet::IpNet;

use crate::kernel::wireguard::PeerStatistics;
use crate::status::{ExitHealth, ExitState, Holds, Status};

/// A whole spec.
pub fn network_spec(wire: v1::NetworkSpec) -> NetworkSpec {
    let v1::NetworkSpec {
        wireguard,
        peers,
        cell_ports,
        exits,
        dns_upstreams,
        service_networks,
        entries,
        relay_servers,
        public_http,
    } = wire;
    NetworkSpec {
        wireguard: wireguard.map(wireguard_spec),
        peers: peers.into_iter().map(peer_spec).collect(),
        cell_ports: cell_ports.into_iter().map(cell_port).collect(),
        exits: exits.into_iter().map(exit_spec).collect(),
        dns_upstreams: dns_upstreams
            .iter()
            .map(|resolver| said(SocketAddr::try_from(resolver)))
            .collect(),
        relay_servers: relay_servers
            .iter()
            .map(|server| said(SocketAddr::try_from(server)))
            .collect(),
        service_networks: service_networks.into_iter().map(services::network_spec).collect(),
        entries: entries.into_iter().map(services::entry_spec).collect(),
        public_http: public_http.map(|to| said(SocketAddr::try_from(&to))),
    }
}

fn exit_spec(wire: v1::ExitSpec) -> ExitSpec {
    let v1::ExitSpec {
        id,
        mark,
        table,
        interface,
        way,
    } = wire;
    let way = way.map(|way| match way {
        v1::exit_spec::Way::Wireguard(wire) => WaySpec::Wireguard(wireguard_exit(wire)),
        v1::exit_spec::Way::Redirect(wire) => WaySpec::Redirect(redirect(wire)),
        v1::exit_spec::Way::Tunnel(wire) => WaySpec::Tunnel(user_tunnel(wire)),
    });
    ExitSpec {
        id,
        mark,
        table,
        interface,
        way,
    }
}

fn redirect(wire: v1::RedirectExit) -> RedirectSpec {
    let v1::RedirectExit { port, servers } = wire;
    RedirectSpec {
        port,
        servers: servers
            .iter()
            .map(|server| said(SocketAddr::try_from(server)))
            .collect(),
    }
}

fn user_tunnel(wire: v1::TunnelExit) -> UserTunnelSpec {
    let v1::TunnelExit {
        addresses,
        mtu_bytes,
        servers,
    } = wire;
    let server = |wire: v1::TunnelServer| TunnelServerSpec {
        endpoint: match &wire.endpoint {
            Some(endpoint) => said(SocketAddr::try_from(endpoint)),
            None => Err("is required".to_owned()),
        },
        protocol: protocol_of(wire.protocol),
    };
    UserTunnelSpec {
        addresses: addresses
            .iter()
            .map(|address| said(IpAddr::try_from(address)))
            .collect(),
        mtu_bytes,
        servers: servers.into_iter().map(server).collect(),
    }
}

fn wireguard_exit(wire: v1::WireguardExit) -> WireguardExitSpec {
    let v1::WireguardExit {
        addresses,
        mtu_bytes,
        far_ends,
        secret_revision,
    } = wire;
    WireguardExitSpec {
        addresses: addresses
            .iter()
            .map(|address| said(IpAddr::try_from(address)))
            .collect(),
        mtu_bytes,
        far_ends: far_ends.into_iter().map(far_end).collect(),
        secret_revision,
    }
}

fn far_end(wire: v1::WireguardFarEnd) -> FarEndSpec {
    let v1::WireguardFarEnd {
        public_key,
        endpoint,
        persistent_keepalive_seconds,
        allowed_ips,
        has_preshared_key,
    } = wire;
    FarEndSpec {
        public_key,
        endpoint: endpoint
            .as_ref()
            .map(|endpoint| said(SocketAddr::try_from(endpoint))),
        persistent_keepalive_seconds,
        allowed_ips: allowed_ips.iter().map(|net| said(IpNet::try_from(net))).collect(),
        has_preshared_key,
    }
}

/// A change of some peers.
pub fn delta_spec(upserted_peers: Vec<v1::PeerSpec>, removed_peers: Vec<String>) -> DeltaSpec {
    DeltaSpec {
        upserted_peers: upserted_peers.into_iter().map(peer_spec).collect(),
        removed_peers,
    }
}

fn wireguard_spec(wire: v1::WireguardSpec) -> WireguardSpec {
    let v1::WireguardSpec {
        interface,
        listen_port,
        addresses,
        mtu_bytes,
    } = wire;
    let addresses = addresses
        .iter()
        .map(|prefix| said(IpNet::try_from(prefix)))
        .collect();
    WireguardSpec {
        interface,
        listen_port,
        addresses,
        mtu_bytes,
    }
}

fn peer_spec(wire: v1::PeerSpec) -> PeerSpec {
    let v1::PeerSpec {
        name,
        public_key,
        addresses,
        endpoint,
        persistent_keepalive_seconds,
        access,
        exit,
    } = wire;
    PeerSpec {
        name,
        public_key,
        addresses: addresses
            .iter()
            .map(|address| said(IpAddr::try_from(address)))
            .collect(),
        endpoint: endpoint
            .as_ref()
            .map(|endpoint| said(SocketAddr::try_from(endpoint))),
        persistent_keepalive_seconds,
        access: access.map(access_spec),
        exit,
    }
}

fn access_spec(wire: v1::AccessPolicy) -> AccessSpec {
    let v1::AccessPolicy {
        internet,
        peer_to_peer,
        services,
    } = wire;
    AccessSpec {
        internet,
        peer_to_peer,
        services: services.into_iter().map(service_spec).collect(),
    }
}

fn service_spec(wire: v1::Service) -> ServiceSpec {
    let v1::Service {
        address,
        protocol,
        port,
    } = wire;
    ServiceSpec {
        address: said(net::address(address.as_ref())),
        protocol: protocol_of(protocol),
        port,
    }
}

fn cell_port(wire: v1::CellPort) -> CellPortSpec {
    let v1::CellPort {
        protocol,
        port,
        target_port,
        bound_target_port,
    } = wire;
    CellPortSpec {
        protocol: protocol_of(protocol),
        port,
        target_port,
        bound_target_port,
    }
}

fn protocol_of(wire: i32) -> Parsed<Protocol> {
    match common::Protocol::try_from(wire) {
        Ok(common::Protocol::Tcp) => Ok(Protocol::Tcp),
        Ok(common::Protocol::Udp) => Ok(Protocol::Udp),
        Ok(common::Protocol::Unspecified) | Err(_) => Err(InvalidNet::Protocol.to_string()),
    }
}

fn said<T>(value: Result<T, InvalidNet>) -> Parsed<T> {
    value.map_err(|error| error.to_string())
}

/// The accepted state as a spec.
pub fn from_desired(desired: &Desired) -> v1::NetworkSpec {
    let cell_ports = desired.cell_ports().iter().map(|(port, target)| v1::CellPort {
        protocol: from_protocol(port.protocol),
        port: port.number.into(),
        target_port: target.map(|target| target.port).unwrap_or_default().into(),
        bound_target_port: target
            .and_then(|target| target.of_bound)
            .unwrap_or_default()
            .into(),
    });
    let redirects = desired.redirects().values().map(from_redirect);
    let exits = desired.exits().values().map(from_exit).chain(redirects);
    v1::NetworkSpec {
        wireguard: desired.wireguard().map(from_wireguard),
        peers: desired
            .peers()
            .iter()
            .map(|(name, peer)| from_peer(name, peer))
            .collect(),
        cell_ports: cell_ports.collect(),
        exits: exits.collect(),
        dns_upstreams: desired.resolvers().iter().map(|at| (*at).into()).collect(),
        relay_servers: desired.relay_servers().iter().map(|at| (*at).into()).collect(),
        service_networks: desired.services().iter().map(services::from_network).collect(),
        entries: desired.entries().iter().map(services::from_entry).collect(),
        public_http: desired.public_http().map(|to| SocketAddr::V4(to).into()),
    }
}

fn from_exit(exit: &Exit) -> v1::ExitSpec {
    let Exit { way, table, tunnel } = exit;
    let ExitWay { id, mark, interface } = &**way;
    let way = match tunnel {
        Tunnel::Wireguard(exit) => v1::exit_spec::Way::Wireguard(from_wireguard_exit(exit)),
        Tunnel::User(exit) => v1::exit_spec::Way::Tunnel(from_user_tunnel(exit)),
    };
    v1::ExitSpec {
        id: id.to_string(),
        mark: mark.value(),
        table: table.number(),
        interface: interface.to_string(),
        way: Some(way),
    }
}

fn from_wireguard_exit(exit: &WireguardExit) -> v1::WireguardExit {
    let WireguardExit {
        v4,
        v6,
        mtu,
        far_ends,
        secret_revision,
    } = exit;
    let addresses = v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6));
    v1::WireguardExit {
        addresses: addresses.map(Into::into).collect(),
        mtu_bytes: mtu.bytes(),
        far_ends: far_ends.iter().map(from_far_end).collect(),
        secret_revision: *secret_revision,
    }
}

fn from_user_tunnel(exit: &UserTunnel) -> v1::TunnelExit {
    let UserTunnel { v4, v6, mtu, servers } = exit;
    let addresses = v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6));
    let server = |(protocol, endpoint): &(Protocol, SocketAddr)| v1::TunnelServer {
        endpoint: Some((*endpoint).into()),
        protocol: from_protocol(*protocol),
    };
    v1::TunnelExit {
        addresses: addresses.map(Into::into).collect(),
        mtu_bytes: mtu.bytes(),
        servers: servers.iter().map(server).collect(),
    }
}

fn from_redirect(exit: &Redirect) -> v1::ExitSpec {
    let Redirect { way, servers } = exit;
    let redirect = v1::RedirectExit {
        port: way.port.into(),
        servers: servers.iter().map(|server| (*server).into()).collect(),
    };
    v1::ExitSpec {
        id: way.id.to_string(),
        mark: way.mark.value(),
        table: 0,
        interface: String::new(),
        way: Some(v1::exit_spec::Way::Redirect(redirect)),
    }
}

fn from_far_end(far: &FarEnd) -> v1::WireguardFarEnd {
    let FarEnd {
        key,
        endpoint,
        keepalive,
        allowed_ips,
        preshared,
    } = far;
    v1::WireguardFarEnd {
        public_key: key.as_bytes().to_vec(),
        endpoint: endpoint.map(Into::into),
        persistent_keepalive_seconds: u32::from(*keepalive),
        allowed_ips: allowed_ips.iter().map(|net| (*net).into()).collect(),
        has_preshared_key: *preshared,
    }
}

fn from_wireguard(wireguard: &Wireguard) -> v1::WireguardSpec {
    let Wireguard {
        interface,
        listen_port,
        v4,
        v6,
        mtu,
    } = wireguard;
    let addresses = v4.map(IpNet::V4).into_iter().chain(v6.map(IpNet::V6));
    v1::WireguardSpec {
        interface: interface.to_string(),
        listen_port: u32::from(*listen_port),
        addresses: addresses.map(Into::into).collect(),
        mtu_bytes: mtu.bytes(),
    }
}

fn from_peer(name: &PeerName, peer: &Peer) -> v1::PeerSpec {
    let Peer {
        key,
        v4: _,
        v6: _,
        endpoint,
        keepalive,
        access,
        exit,
    } = peer;
    let Access {
        internet,
        peer_to_peer,
        services,
    } = access;
    v1::PeerSpec {
        name: name.to_string(),
        public_key: key.as_bytes().to_vec(),
        addresses: peer.addresses().map(Into::into).collect(),
        endpoint: endpoint.map(Into::into),
        persistent_keepalive_seconds: u32::from(*keepalive),
        access: Some(v1::AccessPolicy {
            internet: *internet,
            peer_to_peer: *peer_to_peer,
            services: services.iter().map(from_service).collect(),
        }),
        exit: exit
            .as_ref()
            .map(|exit| exit.id().to_string())
            .unwrap_or_default(),
    }
}

fn from_service(service: &Service) -> v1::Service {
    let Service {
        address,
        protocol,
        port,
    } = *service;
    v1::Service {
        address: Some(address.into()),
        protocol: from_protocol(protocol),
        port: port.into(),
    }
}

fn from_protocol(protocol: Protocol) -> i32 {
    match protocol {
        Protocol::Tcp => common::Protocol::Tcp.into(),
        Protocol::Udp => common::Protocol::Udp.into(),
    }
}

/// One change.
pub fn from_change(change: Change) -> v1::Change {
    let Change {
        action,
        subject,
        detail,
    } = change;
    let action = match action {
        ChangeAction::Add => v1::ChangeAction::Add,
        ChangeAction::Update => v1::ChangeAction::Update,
        ChangeAction::Remove => v1::ChangeAction::Remove,
    };
    v1::Change {
        action: action.into(),
        subject,
        detail,
    }
}

/// The status.
pub fn from_status(status: &Status) -> v1::NetworkStatus {
    let Status {
        generation,
        observed_generation,
        etag,
        backend,
        public_key,
        peer_count,
        conditions,
        drift_repairs,
        drops,
        exits,
        pending,
        last_rollback,
    } = status;
    v1::NetworkStatus {
        generation: *generation,
        observed_generation: *observed_generation,
        etag: etag.clone(),
        wireguard_backend: (*backend).to_owned(),
        wireguard_public_key: public_key.map(|key| key.as_bytes().to_vec()).unwrap_or_default(),
        peer_count: u32::try_from(*peer_count).unwrap_or(u32::MAX),
        conditions: conditions
            .iter()
            .map(|(kind, condition)| from_condition(kind, condition))
            .collect(),
        drift_repairs: *drift_repairs,
        drops: drops
            .iter()
            .map(|(reason, drops)| v1::DropCounter {
                reason: reason.to_string(),
                packets: drops.packets,
                bytes: drops.bytes,
            })
            .collect(),
        exits: exits
            .iter()
            .map(|(id, health)| from_exit_health(id, health))
            .collect(),
        pending: pending.as_ref().map(from_pending),
        last_rollback: last_rollback.as_ref().map(from_rollback),
    }
}

fn from_exit_health(id: &ExitId, health: &ExitHealth) -> v1::ExitStatus {
    let ExitHealth {
        state,
        detail,
        moving,
    } = health;
    let state = match state {
        ExitState::Ready => v1::ExitState::Ready,
        ExitState::NoKey => v1::ExitState::NoKey,
        ExitState::Foreign => v1::ExitState::Foreign,
        ExitState::Failed => v1::ExitState::Failed,
    };
    v1::ExitStatus {
        id: id.to_string(),
        state: state.into(),
        detail: detail.clone(),
        latest_handshake_unix_ms: moving.latest_handshake_unix_ms,
        received_bytes: moving.received_bytes,
        sent_bytes: moving.sent_bytes,
    }
}

/// A change that waits.
pub fn from_pending(pending: &Pending) -> v1::PendingChange {
    let Pending {
        etag,
        previous_etag,
        deadline: _,
        deadline_unix_ms,
    } = pending;
    v1::PendingChange {
        etag: etag.clone(),
        previous_etag: previous_etag.clone(),
        deadline_unix_ms: *deadline_unix_ms,
    }
}

/// A rollback.
pub fn from_rollback(rollback: &Rollback) -> v1::NetworkRollback {
    let Rollback {
        rejected_etag,
        restored_etag,
        at_unix_ms,
        reason,
    } = rollback;
    let reason = match reason {
        Reason::Expired => v1::RollbackReason::Expired,
        Reason::Requested => v1::RollbackReason::Requested,
        Reason::Restarted => v1::RollbackReason::Restarted,
        Reason::Failed => v1::RollbackReason::Failed,
    };
    v1::NetworkRollback {
        rejected_etag: rejected_etag.clone(),
        restored_etag: restored_etag.clone(),
        at_unix_ms: *at_unix_ms,
        reason: reason.into(),
    }
}

/// A rollback that was kept; none where it names no reason.
pub fn rollback(wire: v1::NetworkRollback) -> Option<Rollback> {
    let v1::NetworkRollback {
        rejected_etag,
        restored_etag,
        at_unix_ms,
        reason,
    } = wire;
    let reason = match v1::RollbackReason::try_from(reason) {
        Ok(v1::RollbackReason::Expired) => Reason::Expired,
        Ok(v1::RollbackReason::Requested) => Reason::Requested,
        Ok(v1::RollbackReason::Restarted) => Reason::Restarted,
        Ok(v1::RollbackReason::Failed) => Reason::Failed,
        Ok(v1::RollbackReason::Unspecified) | Err(_) => return None,
    };
    Some(Rollback {
        rejected_etag,
        restored_etag,
        at_unix_ms,
        reason,
    })
}

fn from_condition(kind: &str, condition: &crate::status::Condition) -> common::Condition {
    let crate::status::Condition {
        holds,
        reason,
        message,
        since_unix_ms,
    } = condition;
    let status = match holds {
        Holds::True => common::ConditionStatus::True,
        Holds::False => common::ConditionStatus::False,
        Holds::Unknown => common::ConditionStatus::Unknown,
    };
    common::Condition {
        r#type: kind.to_owned(),
        status: status.into(),
        reason: (*reason).to_owned(),
        message: message.clone(),
        last_transition_unix_ms: *since_unix_ms,
    }
}

/// What moves about a peer.
pub fn from_statistics(name: String, public_key: &[u8; 32], statistics: &PeerStatistics) -> v1::PeerStatus {
    let PeerStatistics {
        endpoint,
        latest_handshake_unix_ms,
        received_bytes,
        sent_bytes,
    } = *statistics;
    v1::PeerStatus {
        name,
        public_key: public_key.to_vec(),
        endpoint: endpoint.map(Into::into),
        latest_handshake_unix_ms,
        received_bytes,
        sent_bytes,
    }
}
