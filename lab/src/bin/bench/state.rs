//! The state that is measured: a cell with so many peers, each with internet and one service.

use anyhow::{Result, anyhow};
use cell_netd_core::model::Protocol;
use cell_netd_core::policy::{self, Ruleset};
use cell_netd_core::spec::{AccessSpec, CellPortSpec, NetworkSpec, PeerSpec, ServiceSpec, WireguardSpec};
use cell_netd_core::{Ceiling, validate};

/// Rules that one peer of [`ruleset`] takes where each is a rule: internet and service, IPv4 and IPv6.
pub const RULES_PER_PEER: u32 = 4;

/// The compiled policy of a cell with `peers` peers.
pub fn ruleset(peers: u32) -> Result<Ruleset> {
    let ceiling = ceiling()?;
    let desired =
        validate::validate(&spec(peers)?, &ceiling, None).map_err(|refused| anyhow!("{refused:?}"))?;
    policy::compile(&desired, &ceiling, &Default::default()).ok_or_else(|| anyhow!("no policy"))
}

/// VPN addresses of peer `number`, from 0.
pub fn addresses(number: u32) -> [std::net::IpAddr; 2] {
    let host = number + 2;
    let [high, low] = [(host >> 8) as u8, (host & 0xff) as u8];
    [
        [10, 86, high, low].into(),
        std::net::Ipv6Addr::new(0xfd86, 0, 0, 0, 0, 0, 0, host as u16).into(),
    ]
}

fn spec(peers: u32) -> Result<NetworkSpec> {
    Ok(NetworkSpec {
        wireguard: Some(WireguardSpec {
            interface: "wg0".into(),
            listen_port: 51820,
            addresses: vec![Ok("10.86.0.1/16".parse()?), Ok("fd86::1/64".parse()?)],
            mtu_bytes: 0,
        }),
        peers: (0..peers).map(peer).collect(),
        cell_ports: vec![CellPortSpec {
            protocol: Ok(Protocol::Tcp),
            port: 443,
            target_port: 3443,
        }],
    })
}

fn peer(number: u32) -> PeerSpec {
    let mut public_key = vec![0x42; 32];
    public_key[..4].copy_from_slice(&number.to_be_bytes());
    let service = |address: std::net::IpAddr| ServiceSpec {
        address: Ok(address),
        protocol: Ok(Protocol::Tcp),
        port: 443,
    };
    PeerSpec {
        name: format!("peer-{number}"),
        public_key,
        addresses: addresses(number).map(Ok).into(),
        endpoint: None,
        persistent_keepalive_seconds: 0,
        access: Some(AccessSpec {
            internet: true,
            peer_to_peer: false,
            services: vec![
                service([192, 168, 77, 50].into()),
                service(std::net::Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 50).into()),
            ],
        }),
    }
}

fn ceiling() -> Result<Ceiling> {
    Ok(Ceiling {
        interfaces: ["wg0".parse()?].into(),
        listen_ports: vec![1024..=65535],
        vpn_prefixes: vec!["10.0.0.0/8".parse()?, "fc00::/7".parse()?],
        cell_ports: ["tcp/443".parse()?].into(),
        service_targets: ["tcp/3443".parse()?].into(),
        service_v4: [169, 254, 67, 1].into(),
        service_v6: "fd43:454c:4c00::1".parse()?,
        max_peers: 20_000,
        accept_mark: "0x2000/0x2000".parse()?,
        table: "cell".parse()?,
    })
}
