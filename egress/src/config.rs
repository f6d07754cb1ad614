//! The policy file (`egress.toml`): who may call, and the ceiling. Unknown keys are refused.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use cell_egress_core::dns::request::DnsCeiling;
use cell_egress_core::policy::{InvalidLimits, Limits, Reach, Timeouts};
use cell_proto::ipc::CallerPolicy;
use cell_proto::ipc::policy::{CallerNames, InvalidCaller};
use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

use crate::engine::Rules;

/// Longest connect and handshake timeouts that may be set, seconds.
const OPENING_MAX: u64 = 300;
/// Longest idle timeout that may be set, seconds.
const IDLE_MAX: u64 = 24 * 3600;

/// What the policy file says, users looked up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who may use the listener `api`.
    pub api: CallerPolicy,
    /// vaultd's socket for egress.
    pub vault_socket: PathBuf,
    /// netd's socket for marks; none: exits are not proven by them.
    pub mark_socket: Option<PathBuf>,
    /// The ceiling.
    pub rules: Rules,
    /// The ceiling of DNS; without it there is none.
    pub dns: Option<DnsCeiling>,
    /// Networks of services, to whose containers cell-api is connected.
    pub services: Vec<Ipv4Net>,
    /// Ports of catalogs, to which cell-api is connected; without one it is to none.
    pub catalog_ports: Vec<u16>,
}

/// A policy file that cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// Not TOML, or not of this shape.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// Nobody may call, or who does not exist.
    #[error(transparent)]
    Callers(#[from] InvalidCaller),
    /// Limits that do not hold each other.
    #[error("limits: {0}")]
    Limits(#[from] InvalidLimits),
    /// A time out of range.
    #[error("timeouts.{name}: is 1 to {most} seconds")]
    Timeout {
        /// The key.
        name: &'static str,
        /// The most, seconds.
        most: u64,
    },
    /// Not where redirected connections can come.
    #[error("listen: at least one address, at most one of each family")]
    Listen,
    /// An address of this kind does not belong in that list.
    #[error("local_servers: {0} is not on loopback; list its prefix under `servers`")]
    NotLocal(SocketAddr),
    /// The same of a resolver.
    #[error("dns.local_upstreams: {0} is not on loopback; list its prefix under `dns.upstreams`")]
    NotLocalUpstream(SocketAddr),
    /// Every name begins with nothing.
    #[error("dns.interface_prefixes: an empty one would be every interface's")]
    EmptyPrefix,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    vault_socket: PathBuf,
    #[serde(default)]
    mark_socket: Option<PathBuf>,
    listen: Vec<IpAddr>,
    peers: Vec<IpNet>,
    servers: Vec<IpNet>,
    local_servers: Vec<SocketAddr>,
    #[serde(default)]
    services: Vec<Ipv4Net>,
    #[serde(default)]
    catalog_ports: Vec<u16>,
    limits: FileLimits,
    timeouts: FileTimeouts,
    #[serde(default)]
    dns: Option<FileDns>,
    callers: Callers,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileLimits {
    total: u32,
    per_exit: u32,
    per_peer: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTimeouts {
    connect_seconds: u64,
    handshake_seconds: u64,
    idle_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileDns {
    upstreams: Vec<IpNet>,
    local_upstreams: Vec<SocketAddr>,
    interface_prefixes: Vec<String>,
    #[serde(default)]
    authorities: Vec<SocketAddr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Callers {
    api: CallerNames,
}

impl Config {
    /// Parses the text of a policy file. `uid_of` finds a user's id, e.g. by getpwnam(3).
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first fault.
    pub fn parse(text: &str, uid_of: impl Fn(&str) -> Option<u32>) -> Result<Self, InvalidConfig> {
        let file: File = toml::from_str(text)?;
        if let Some(address) = file
            .local_servers
            .iter()
            .find(|address| !address.ip().is_loopback())
        {
            return Err(InvalidConfig::NotLocal(*address));
        }
        let families = file.listen.iter().filter(|address| address.is_ipv4()).count();
        let rest = file.listen.len() - families;
        if file.listen.is_empty() || families > 1 || rest > 1 {
            return Err(InvalidConfig::Listen);
        }
        let rules = Rules {
            listen: file.listen,
            reach: Reach {
                peers: file.peers,
                servers: file.servers,
                local_servers: file.local_servers,
            },
            limits: Limits::try_new(file.limits.total, file.limits.per_exit, file.limits.per_peer)?,
            timeouts: Timeouts {
                connect: seconds("connect_seconds", file.timeouts.connect_seconds, OPENING_MAX)?,
                handshake: seconds("handshake_seconds", file.timeouts.handshake_seconds, OPENING_MAX)?,
                idle: seconds("idle_seconds", file.timeouts.idle_seconds, IDLE_MAX)?,
            },
        };
        let api = file.callers.api.resolve("api", uid_of)?;
        let dns = file.dns.map(FileDns::checked).transpose()?;
        Ok(Config {
            api,
            vault_socket: file.vault_socket,
            mark_socket: file.mark_socket,
            rules,
            dns,
            services: file.services,
            catalog_ports: file.catalog_ports,
        })
    }
}

impl FileDns {
    fn checked(self) -> Result<DnsCeiling, InvalidConfig> {
        if let Some(address) = self
            .local_upstreams
            .iter()
            .find(|address| !address.ip().is_loopback())
        {
            return Err(InvalidConfig::NotLocalUpstream(*address));
        }
        if self.interface_prefixes.iter().any(String::is_empty) {
            return Err(InvalidConfig::EmptyPrefix);
        }
        Ok(DnsCeiling {
            upstreams: self.upstreams,
            local_upstreams: self.local_upstreams,
            interface_prefixes: self.interface_prefixes,
            authorities: self.authorities,
        })
    }
}

fn seconds(name: &'static str, value: u64, most: u64) -> Result<Duration, InvalidConfig> {
    if (1..=most).contains(&value) {
        Ok(Duration::from_secs(value))
    } else {
        Err(InvalidConfig::Timeout { name, most })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// As docs/runtime.md writes it.
    const DOCUMENTED: &str = r#"
vault_socket = "/run/cell/exit-keys/vault.sock"
mark_socket = "/run/cell/marks/mark.sock"  # OPTIONAL, default none: where netd gives sockets the marks of exits; without it exits are not proven by them
listen = ["169.254.67.1", "fd43:454c:4c00::1"]
peers = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"]
servers = ["0.0.0.0/0", "::/0"]
local_servers = ["127.0.0.1:9150"]
services = ["172.21.0.0/16"]
catalog_ports = [443]
[limits]
total = 16384
per_exit = 12288
per_peer = 1024
[timeouts]
connect_seconds = 10
handshake_seconds = 60
idle_seconds = 7200
[dns]
upstreams = ["0.0.0.0/0", "::/0"]
local_upstreams = ["127.0.0.53:53"]
interface_prefixes = ["wgext_", "ovpn_"]
authorities = ["172.20.0.3:53"]
[callers.api]
users = ["cell-api"]
unit = "cell-api.service"
"#;

    fn parse(text: &str) -> Result<Config, InvalidConfig> {
        Config::parse(text, |user| (user == "cell-api").then_some(990))
    }

    #[test]
    fn the_documented_file_is_understood() {
        let config = parse(DOCUMENTED).unwrap();
        assert_eq!(config.api.uids, [990]);
        assert_eq!(config.services, ["172.21.0.0/16".parse().unwrap()]);
        let none = parse(&DOCUMENTED.replace("services = [\"172.21.0.0/16\"]\n", "")).unwrap();
        assert_eq!(config.catalog_ports, [443]);
        let without = parse(&DOCUMENTED.replace("catalog_ports = [443]\n", "")).unwrap();
        assert!(without.catalog_ports.is_empty(), "nor to a catalog");
        assert!(
            none.services.is_empty(),
            "nobody is connected unless the file says so"
        );
        assert_eq!(
            config.rules.limits,
            Limits::try_new(16_384, 12_288, 1024).unwrap()
        );
        assert_eq!(config.rules.timeouts.idle, Duration::from_secs(7200));
        let documents = include_str!("../../docs/runtime.md");
        for line in DOCUMENTED.lines() {
            assert!(documents.contains(line), "docs/runtime.md has no line {line}");
        }
    }

    #[test]
    fn what_cannot_be_in_force_is_refused() {
        let fault = |from: &str, to: &str| {
            assert!(DOCUMENTED.contains(from));
            parse(&DOCUMENTED.replace(from, to)).unwrap_err().to_string()
        };
        assert!(fault("\"169.254.67.1\", ", "\"fd00::1\", ").contains("listen"));
        assert!(fault("\"169.254.67.1\", \"fd43:454c:4c00::1\"", "").contains("listen"));
        assert!(fault("total = 16384", "total = 1").contains("limits"));
        assert!(fault("idle_seconds = 7200", "idle_seconds = 0").contains("idle_seconds"));
        assert!(fault("connect_seconds = 10", "connect_seconds = 301").contains("connect_seconds"));
        assert!(fault("127.0.0.1:9150", "192.0.2.1:9150").contains("not on loopback"));
        assert!(fault("127.0.0.53:53", "192.0.2.1:53").contains("dns.local_upstreams"));
        assert!(fault("\"wgext_\"", "\"\"").contains("interface_prefixes"));
        assert!(fault("[\"cell-api\"]", "[\"nobody-here\"]").contains("nobody-here"));
        assert!(fault("[\"cell-api\"]", "[]").contains("at least one"));
        assert!(fault("[limits]", "direct = true\n[limits]").contains("unknown field `direct`"));
    }
}
