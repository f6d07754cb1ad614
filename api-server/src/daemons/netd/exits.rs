//! Exits, as netd is told of them.

use std::net::SocketAddr;

use cell_api_core::derive::exits::{ExitSpec, ExitWay, FarEnd, Tunnel};
use cell_api_core::derive::openvpn::{Remote, UserTunnel};
use cell_proto::common::v1 as common;
use cell_proto::netd::v1 as wire;
use cell_proto::netd::v1::exit_spec::Way;

use crate::daemons::openvpn::protocol;

/// One way out. A redirect has no table and no interface.
pub(super) fn exit_spec(spec: ExitSpec) -> wire::ExitSpec {
    let ExitSpec { id, mark, way } = spec;
    let (table, interface, way) = match way {
        ExitWay::Wireguard(tunnel) => wireguard(tunnel),
        ExitWay::Tunnel(tunnel) => user_tunnel(tunnel),
        ExitWay::Redirect { port, servers } => {
            let servers = servers.into_iter().map(SocketAddr::into).collect();
            let redirect = wire::RedirectExit {
                port: port.into(),
                servers,
            };
            (0, String::new(), Way::Redirect(redirect))
        }
    };
    wire::ExitSpec {
        id: id.to_string(),
        mark,
        table,
        interface,
        way: Some(way),
    }
}

fn user_tunnel(tunnel: UserTunnel) -> (u32, String, Way) {
    let UserTunnel {
        table,
        interface,
        addresses,
        mtu_bytes,
        servers,
        resolvers: _,
    } = tunnel;
    let server = |remote: Remote| wire::TunnelServer {
        endpoint: Some(remote.server.into()),
        protocol: protocol(&remote),
    };
    let exit = wire::TunnelExit {
        addresses: addresses.into_iter().map(common::IpAddress::from).collect(),
        mtu_bytes: mtu_bytes.into(),
        servers: servers.into_iter().map(server).collect(),
    };
    (table, interface, Way::Tunnel(exit))
}

fn wireguard(tunnel: Tunnel) -> (u32, String, Way) {
    let Tunnel {
        table,
        interface,
        addresses,
        mtu_bytes,
        far_ends,
        resolvers: _,
        secret_revision,
    } = tunnel;
    let exit = wire::WireguardExit {
        addresses: addresses.into_iter().map(common::IpAddress::from).collect(),
        mtu_bytes: mtu_bytes.unwrap_or(0).into(),
        far_ends: far_ends.into_iter().map(far_end).collect(),
        secret_revision,
    };
    (table, interface, Way::Wireguard(exit))
}

fn far_end(end: FarEnd) -> wire::WireguardFarEnd {
    let FarEnd {
        public_key,
        endpoint,
        keepalive_seconds,
        allowed_ips,
        has_preshared_key,
    } = end;
    wire::WireguardFarEnd {
        public_key: public_key.as_bytes().to_vec(),
        endpoint: endpoint.map(common::Endpoint::from),
        persistent_keepalive_seconds: keepalive_seconds.into(),
        allowed_ips: allowed_ips.into_iter().map(common::IpPrefix::from).collect(),
        has_preshared_key,
    }
}
