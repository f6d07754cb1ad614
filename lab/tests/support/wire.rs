//! What cell-api asks netd for, as the wire carries it, and netd's ceiling as the package ships it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cell_api_core::access::Protocol;
use cell_api_core::derive::exits::{ExitSpec as ApiExit, ExitWay, FarEnd};
use cell_api_core::derive::openvpn::Remote;
use cell_api_core::derive::{self, NetworkSettings};
use cell_netd_core::Ceiling;
use cell_netd_core::ceiling::{ExitCeiling, RelayCeiling, ServiceCeiling};
use cell_netd_core::model as netd;
use cell_netd_core::spec::{
    AccessSpec, CellPortSpec, ExitSpec, FarEndSpec, NetworkSpec, PeerSpec, RedirectSpec, ServiceNetworkSpec,
    ServiceSpec, TunnelServerSpec, UserTunnelSpec, WaySpec, WireguardExitSpec, WireguardSpec,
};

/// As the package ships it (`packaging/` and `docs/runtime.md`).
pub fn ceiling() -> Ceiling {
    let prefixes = [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "fc00::/7",
    ];
    Ceiling {
        interfaces: ["wg0".parse().unwrap()].into(),
        listen_ports: vec![1024..=65535],
        vpn_prefixes: prefixes.map(|net| net.parse().unwrap()).into(),
        cell_ports: ["tcp/443", "udp/53", "tcp/53"]
            .map(|port| port.parse().unwrap())
            .into(),
        service_targets: ["tcp/3443", "udp/9053", "tcp/9053", "udp/9054", "tcp/9054"]
            .map(|port| port.parse().unwrap())
            .into(),
        service_v4: "169.254.67.1".parse().unwrap(),
        service_v6: "fd43:454c:4c00::1".parse().unwrap(),
        max_peers: 20_000,
        accept_mark: accept_mark(),
        table: "cell".parse().unwrap(),
        exits: exits(),
        services: Some(
            ServiceCeiling::try_new("cellsvc", vec!["172.21.0.0/16".parse().unwrap()], 1024).unwrap(),
        ),
    }
}

fn accept_mark() -> netd::Mark {
    "0x2000/0x2000".parse().unwrap()
}

fn exits() -> ExitCeiling {
    let local = |at: &str| [at.parse().unwrap()].into();
    let relay = RelayCeiling::try_new(9100..=9199, 999, local("127.0.0.1:9150")).unwrap();
    let relay = relay.with_local_resolvers(local("127.0.0.53:53")).unwrap();
    ExitCeiling::try_new(0x1000..=0x1ff0, 0x1ff0, 1000..=1255, "wgext_", 256, accept_mark())
        .unwrap()
        .with_relay(relay)
}

pub fn settings() -> NetworkSettings {
    NetworkSettings {
        interface: "wg0".to_owned(),
        listen_port: 51820,
        https_port: 443,
        https_target_port: 3443,
    }
}

fn protocol(protocol: Protocol) -> netd::Protocol {
    match protocol {
        Protocol::Tcp => netd::Protocol::Tcp,
        Protocol::Udp => netd::Protocol::Udp,
    }
}

/// As the wire carries it from one to the other.
pub fn carried(spec: derive::NetworkSpec) -> NetworkSpec {
    let peer = |peer: derive::PeerSpec| PeerSpec {
        name: peer.name,
        public_key: peer.public_key.as_bytes().to_vec(),
        addresses: peer.addresses.map(Ok).into(),
        endpoint: None,
        persistent_keepalive_seconds: 0,
        access: Some(AccessSpec {
            internet: peer.access.internet,
            peer_to_peer: peer.access.peer_to_peer,
            services: peer
                .access
                .services
                .iter()
                .map(|service| ServiceSpec {
                    address: Ok(service.address),
                    protocol: Ok(protocol(service.protocol)),
                    port: service.port.into(),
                })
                .collect(),
        }),
        exit: peer.exit.map(|id| id.to_string()).unwrap_or_default(),
    };
    let reached = |service: &cell_api_core::access::Service| ServiceSpec {
        address: Ok(service.address),
        protocol: Ok(protocol(service.protocol)),
        port: service.port.into(),
    };
    let network = |network: derive::services::ServiceSpec| ServiceNetworkSpec {
        name: network.name,
        bridge: network.bridge,
        subnet: Ok(network.subnet.into()),
        internet: network.internet,
        exit: network.exit.map(|id| id.to_string()).unwrap_or_default(),
        reach: network.reach.iter().map(reached).collect(),
        called: network.called.iter().map(|at| Ok((*at).into())).collect(),
    };
    NetworkSpec {
        service_networks: spec.services.into_iter().map(network).collect(),
        entries: vec![],
        exits: spec.exits.into_iter().map(exit).collect(),
        dns_upstreams: spec.dns_upstreams.into_iter().map(Ok).collect(),
        relay_servers: spec.relay_servers.into_iter().map(Ok).collect(),
        public_http: spec.public_http.map(|to| Ok(to.into())),
        wireguard: spec.wireguard.map(|wireguard| WireguardSpec {
            interface: wireguard.interface,
            listen_port: wireguard.listen_port.into(),
            addresses: wireguard.addresses.map(Ok).into(),
            mtu_bytes: wireguard.mtu_bytes,
        }),
        peers: spec.peers.into_iter().map(peer).collect(),
        cell_ports: spec.cell_ports.into_iter().map(cell_port).collect(),
    }
}

fn exit(exit: ApiExit) -> ExitSpec {
    let (table, interface, way) = match exit.way {
        ExitWay::Redirect { port, servers } => {
            let servers = servers.into_iter().map(Ok).collect();
            let port = port.into();
            (
                0,
                String::new(),
                WaySpec::Redirect(RedirectSpec { port, servers }),
            )
        }
        ExitWay::Tunnel(tunnel) => {
            let server = |remote: Remote| TunnelServerSpec {
                endpoint: Ok(remote.server),
                protocol: Ok(if remote.tcp {
                    netd::Protocol::Tcp
                } else {
                    netd::Protocol::Udp
                }),
            };
            let way = UserTunnelSpec {
                addresses: tunnel.addresses.into_iter().map(Ok).collect(),
                mtu_bytes: tunnel.mtu_bytes.into(),
                servers: tunnel.servers.into_iter().map(server).collect(),
            };
            (tunnel.table, tunnel.interface, WaySpec::Tunnel(way))
        }
        ExitWay::Wireguard(tunnel) => {
            let way = WireguardExitSpec {
                addresses: tunnel.addresses.into_iter().map(Ok).collect(),
                mtu_bytes: tunnel.mtu_bytes.unwrap_or_default().into(),
                far_ends: tunnel.far_ends.into_iter().map(far_end).collect(),
                secret_revision: tunnel.secret_revision,
            };
            (tunnel.table, tunnel.interface, WaySpec::Wireguard(way))
        }
    };
    ExitSpec {
        id: exit.id.to_string(),
        mark: exit.mark,
        table,
        interface,
        way: Some(way),
    }
}

fn far_end(end: FarEnd) -> FarEndSpec {
    FarEndSpec {
        public_key: end.public_key.as_bytes().to_vec(),
        endpoint: end.endpoint.map(Ok),
        persistent_keepalive_seconds: end.keepalive_seconds.into(),
        allowed_ips: end.allowed_ips.into_iter().map(Ok).collect(),
        has_preshared_key: end.has_preshared_key,
    }
}

/// One address of each /8 and of each kind that the registries of RFC 6890 know, with their edges.
pub fn addresses() -> impl Iterator<Item = IpAddr> {
    let every_eighth = (0..=255).map(|first| IpAddr::V4(Ipv4Addr::new(first, 254, 3, 9)));
    let every_tenth_bit = (0..=1023u16).map(|first| Ipv6Addr::from_bits(u128::from(first) << 118 | 9).into());
    let named = [
        "0.0.0.0",
        "0.0.0.1",
        "0.255.255.255",
        "1.0.0.0",
        "10.0.5.7",
        "127.0.0.1",
        "169.253.255.255",
        "169.254.0.0",
        "169.254.67.1",
        "169.254.169.254",
        "169.254.255.255",
        "169.255.0.0",
        "192.0.2.1",
        "223.255.255.255",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.254",
        "255.255.255.255",
        "::",
        "::1",
        "::2",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a00:1",
        "2001:db8::1",
        "fd43:454c:4c00::1",
        "fe7f:ffff::1",
        "fe80::",
        "fe80::1",
        "febf:ffff::1",
        "fec0::1",
        "ff02::1",
    ];
    let named = named.into_iter().map(|text| text.parse().unwrap());
    every_eighth.chain(every_tenth_bit).chain(named)
}

fn cell_port(port: derive::CellPort) -> CellPortSpec {
    CellPortSpec {
        protocol: Ok(protocol(port.protocol)),
        port: port.port.into(),
        target_port: port.target_port.into(),
        bound_target_port: port.bound_target_port.unwrap_or_default().into(),
    }
}
