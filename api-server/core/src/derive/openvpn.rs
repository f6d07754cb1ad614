//! From connections of the type openvpn to what netd and `cell-openvpn` are asked for.

use std::net::{IpAddr, SocketAddr};

use super::exits::{Source, place};
use crate::connection::allocation::Device;
use crate::connection::config::Config;
use crate::connection::id::ConnectionId;
use crate::connection::import::openvpn::OpenvpnExit;

/// What OpenVPN takes a tunnel for whose server does not say, bytes.
const MTU: u16 = 1500;
/// What netd takes, bytes.
const MTUS: std::ops::RangeInclusive<u16> = 1280..=9000;

/// A TUN that netd makes for `cell-openvpn`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserTunnel {
    /// Its routing table.
    pub table: u32,
    /// Its interface.
    pub interface: String,
    /// The cell's addresses in it, as its server gave them; none: not known yet, and it carries nothing.
    pub addresses: Vec<IpAddr>,
    /// Bytes.
    pub mtu_bytes: u16,
    /// Where `cell-openvpn` may send for it.
    pub servers: Vec<Remote>,
    /// Resolvers that its server gave: `cell-egress` asks them through it, and netd does not hear of them.
    pub resolvers: Vec<IpAddr>,
}

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remote {
    /// Where it is.
    pub server: SocketAddr,
    /// Whether it is spoken to by TCP, not UDP.
    pub tcp: bool,
}

/// An exit, as `cell-openvpn` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenvpnSpec {
    /// The connection.
    pub id: ConnectionId,
    /// Its interface.
    pub interface: String,
    /// Its servers whose addresses are known, in the order in which they are tried; at least one.
    pub remotes: Vec<Remote>,
    /// How it speaks with them, each with its words.
    pub directives: Vec<Vec<String>>,
    /// PEM, by block.
    pub certificates: Vec<(String, String)>,
    /// Blocks that the vault has.
    pub sealed: Vec<String>,
    /// Whether it signs in by a name and a password that the vault has.
    pub has_login: bool,
    /// Another number than before: it begins anew.
    pub revision: u64,
    /// Of which import its secrets are.
    pub secret_revision: u64,
}

/// What `cell-openvpn` is to have of a connection; `None` for one that it does not carry, or whose secrets or servers are not
/// known: nothing runs for it then.
pub fn openvpn_spec(source: &Source<'_>) -> Option<OpenvpnSpec> {
    let (Config::Openvpn(exit), Device::Interface(interface)) = (source.config, &source.allocation.device)
    else {
        return None;
    };
    let remotes = remotes(source, exit);
    (!remotes.is_empty()).then(|| OpenvpnSpec {
        id: source.id,
        interface: interface.clone(),
        remotes,
        directives: exit.options.clone(),
        certificates: exit.certificates.clone(),
        sealed: exit.sealed.clone(),
        has_login: exit.user_password,
        revision: source.revision,
        secret_revision: source.secret_revision,
    })
}

/// What netd is to make for it.
pub(super) fn user_tunnel(
    source: &Source<'_>,
    exit: &OpenvpnExit,
    table: u32,
    interface: &str,
) -> UserTunnel {
    let pushed = source.pushed.cloned().unwrap_or_default();
    UserTunnel {
        table,
        interface: interface.to_owned(),
        addresses: pushed.addresses,
        mtu_bytes: pushed.mtu_bytes.filter(|mtu| MTUS.contains(mtu)).unwrap_or(MTU),
        servers: remotes(source, exit),
        resolvers: pushed.resolvers,
    }
}

/// Each once, in the profile's order. None while secrets are missing, so that nothing of one import is sent to the servers of
/// another.
fn remotes(source: &Source<'_>, exit: &OpenvpnExit) -> Vec<Remote> {
    let mut remotes: Vec<Remote> = Vec::with_capacity(exit.remotes.len());
    for remote in exit.remotes.iter().filter(|_| source.secrets_whole) {
        let server = place(&remote.host, remote.port, source.names);
        let remote = server.map(|server| Remote {
            server,
            tcp: remote.tcp,
        });
        remotes.extend(remote.filter(|remote| !remotes.contains(remote)));
    }
    remotes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::connection::allocation::Allocation;
    use crate::connection::driven::Pushed;
    use crate::connection::import::openvpn;
    use crate::connection::names::Names;
    use crate::derive::exits::{ExitWay, exit_spec};

    const PROFILE: &str = include_str!("../../../../fuzz/corpus/openvpn_profile/provider");

    fn config() -> Config {
        let mut exit = openvpn::read(PROFILE, Some(("anna", "pw"))).unwrap().config;
        let remote = |host: &str, tcp| openvpn::Remote {
            host: crate::name::EndpointHost::parse(host).unwrap(),
            port: 1194,
            tcp,
        };
        exit.remotes = vec![
            remote("198.51.100.9", false),
            remote("vpn.example.org", false),
            remote("198.51.100.9", false),
            remote("2001:db8::9", true),
        ];
        Config::Openvpn(exit)
    }

    fn of<T>(pushed: Option<&Pushed>, secrets_whole: bool, look: impl FnOnce(&Source<'_>) -> T) -> T {
        let allocation = Allocation {
            mark: 0x1000,
            table: 1000,
            device: Device::Interface("ovpn_05050505".to_owned()),
        };
        look(&Source {
            id: ConnectionId::from_random([5; 16]),
            allocation: &allocation,
            config: &config(),
            secrets_whole,
            revision: 7,
            secret_revision: 7,
            tor: "127.0.0.1:9150".parse().unwrap(),
            names: const { &Names::new() },
            pushed,
        })
    }

    fn tunnel(pushed: Option<&Pushed>, secrets_whole: bool) -> UserTunnel {
        match of(pushed, secrets_whole, |source| exit_spec(source).unwrap().way) {
            ExitWay::Tunnel(tunnel) => tunnel,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn netd_makes_it_before_its_server_gave_anything() {
        let empty = tunnel(None, true);
        assert_eq!((&empty.addresses[..], empty.mtu_bytes), (&[][..], 1500));
        let servers: Vec<String> = empty
            .servers
            .iter()
            .map(|one| format!("{} {}", one.server, one.tcp))
            .collect();
        assert_eq!(
            servers,
            ["198.51.100.9:1194 false", "[2001:db8::9]:1194 true"],
            "each once, and none whose name is not known"
        );
        let pushed = Pushed {
            addresses: vec!["10.99.0.2".parse().unwrap()],
            resolvers: vec!["10.99.0.1".parse().unwrap()],
            mtu_bytes: Some(1400),
        };
        let given = tunnel(Some(&pushed), true);
        assert_eq!(
            (given.addresses, given.resolvers, given.mtu_bytes),
            (pushed.addresses.clone(), pushed.resolvers.clone(), 1400)
        );
        for odd in [0, 1279, 9001] {
            let odd = Pushed {
                mtu_bytes: Some(odd),
                ..pushed.clone()
            };
            assert_eq!(tunnel(Some(&odd), true).mtu_bytes, 1500);
        }
    }

    #[test]
    fn without_its_secrets_nothing_runs_and_nothing_is_let_out() {
        assert!(tunnel(None, false).servers.is_empty());
        assert_eq!(of(None, false, openvpn_spec), None);
        let spec = of(None, true, openvpn_spec).unwrap();
        assert_eq!((spec.interface.as_str(), spec.revision), ("ovpn_05050505", 7));
        assert!(spec.has_login && spec.remotes.len() == 2);
    }
}
