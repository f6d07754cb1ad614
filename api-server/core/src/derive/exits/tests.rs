#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::connection::import::proxy::ProxyExit;
use crate::connection::import::ssh::SshExit;

fn id() -> ConnectionId {
    ConnectionId::from_random([5; 16])
}

fn allocation(device: Device) -> Allocation {
    Allocation {
        mark: 0x1000,
        table: 1000,
        device,
    }
}

fn source<'a>(allocation: &'a Allocation, config: &'a Config, secrets_whole: bool) -> Source<'a> {
    Source {
        id: id(),
        allocation,
        config,
        secrets_whole,
        revision: 7,
        secret_revision: 5,
        tor: "127.0.0.1:9150".parse().unwrap(),
        names: const { &Names::new() },
        pushed: None,
    }
}

fn wireguard(host: &str) -> Config {
    Config::WireguardExt(WireguardExit {
        addresses: ["10.2.0.2/32", "10.3.0.2/32", "fd00::2/128"]
            .map(|net| net.parse().unwrap())
            .to_vec(),
        resolvers: Vec::new(),
        mtu: Some(1380),
        peers: vec![ExitPeer {
            public_key: PublicKey::from_bytes(&[7; 32]).unwrap(),
            host: EndpointHost::parse(host).unwrap(),
            port: 51820,
            allowed_ips: vec!["0.0.0.0/0".parse().unwrap()],
            keepalive_seconds: 25,
            preshared_key: true,
        }],
    })
}

fn proxy(host: &str) -> Config {
    Config::Proxy(ProxyExit {
        protocol: Protocol::Socks5,
        host: EndpointHost::parse(host).unwrap(),
        port: 1080,
        username: Some("anna".to_owned()),
    })
}

fn endpoint(config: &Config, whole: bool) -> Option<SocketAddr> {
    let allocation = allocation(Device::Interface("wgext_05050505".to_owned()));
    let spec = exit_spec(&source(&allocation, config, whole)).unwrap();
    let ExitWay::Wireguard(tunnel) = spec.way else {
        panic!("a tunnel")
    };
    assert_eq!(
        tunnel.addresses,
        ["10.2.0.2", "fd00::2"].map(|a| a.parse::<IpAddr>().unwrap())
    );
    assert_eq!(
        (tunnel.table, tunnel.mtu_bytes, tunnel.secret_revision),
        (1000, Some(1380), 7)
    );
    tunnel.far_ends[0].endpoint
}

#[test]
fn a_tunnel_is_told_with_its_server_where_that_is_known_and_the_secrets_are_its_own() {
    let known = wireguard("192.0.2.1");
    assert_eq!(endpoint(&known, true), Some("192.0.2.1:51820".parse().unwrap()));
    assert_eq!(endpoint(&known, false), None);
    let named = wireguard("vpn.example.org");
    assert_eq!(endpoint(&named, true), None);
    assert!(!server_names(&named).is_empty() && server_names(&known).is_empty());
}

#[test]
fn a_relay_is_told_to_both_daemons_or_leads_nowhere() {
    let allocation = allocation(Device::RedirectPort(9100));
    let ssh = Config::Sshuttle(SshExit {
        host: EndpointHost::parse("2001:db8::7").unwrap(),
        port: 22,
        user: "anna".to_owned(),
        host_keys: vec!["ssh-ed25519 AAAA".to_owned()],
    });
    let Config::Proxy(anonymous) = proxy("192.0.2.8") else {
        unreachable!()
    };
    let anonymous = Config::Proxy(ProxyExit {
        username: None,
        ..anonymous
    });
    for (config, server, secret) in [
        (Config::Tor, "127.0.0.1:9150", 0),
        (ssh, "[2001:db8::7]:22", 5),
        (proxy("192.0.2.9"), "192.0.2.9:1080", 5),
        (anonymous, "192.0.2.8:1080", 0),
    ] {
        let server: SocketAddr = server.parse().unwrap();
        let source = source(&allocation, &config, true);
        let relay = relay_spec(&source).unwrap();
        assert_eq!((relay.id, relay.port, relay.server), (id(), 9100, server));
        assert_eq!(relay.secret_revision, secret, "{server}");
        let way = exit_spec(&source).unwrap().way;
        assert_eq!(way, redirect(vec![server]));
    }
    for (config, whole) in [(proxy("proxy.example.org"), true), (proxy("192.0.2.9"), false)] {
        let source = source(&allocation, &config, whole);
        assert_eq!(relay_spec(&source), None);
        assert_eq!(exit_spec(&source).unwrap().way, redirect(Vec::new()));
    }
}

fn redirect(servers: Vec<SocketAddr>) -> ExitWay {
    ExitWay::Redirect { port: 9100, servers }
}

#[test]
fn what_is_not_carried_is_told_to_nobody() {
    let link = allocation(Device::Link);
    let relay = source(&link, &Config::CellRelay, true);
    assert_eq!((exit_spec(&relay), relay_spec(&relay)), (None, None));
}
