//! The policy file `/etc/cell/api.toml` (`docs/runtime.md`): read once, unknown keys refused.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cell_api_core::derive::NetworkSettings;
use cell_api_core::service_network::{self, Pool};
use cell_api_core::services::core_network::CoreNetwork;
use serde::Deserialize;

use crate::authorities::Authorities;

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Folder of the database and the claim token.
    pub state: PathBuf,
    /// Path of netd's socket.
    pub netd_socket: PathBuf,
    /// Path of the broker's socket.
    pub broker_socket: PathBuf,
    /// Path of vaultd's socket.
    pub vault_socket: PathBuf,
    /// Path of `cell-egress`'s socket; `None`: this cell has none, and connections of its types carry nothing.
    pub egress_socket: Option<PathBuf>,
    /// Path of `cell-openvpn`'s socket; `None`: this cell has none, and connections of its type carry nothing.
    pub openvpn_socket: Option<PathBuf>,
    /// SOCKS port of the cell's Tor, on this machine's loopback; `local_servers` of `netd.toml` and `egress.toml` allow it.
    pub tor_socks: SocketAddr,
    /// Where the cell's own containers lie.
    pub core_network: CoreNetwork,
    /// Where networks of services lie.
    pub service_pool: Pool,
    /// Folder of the catalog of services.
    pub catalog: PathBuf,
    /// Whom servers of remote catalogs are known by.
    pub authorities: Authorities,
    /// Whether time, names and the proxy of services are installed by the cell itself.
    pub core_services: bool,
    /// Folder of CoreDNS' configuration and zones; `None`: this cell has no CoreDNS, and services have no names.
    pub core_dns_dir: Option<PathBuf>,
    /// Path of Caddy's admin socket; `None`: this cell has no Caddy.
    pub caddy_socket: Option<PathBuf>,
    /// Interface and ports.
    pub network: NetworkSettings,
    /// Host values beyond loopback, VPN addresses and the cell's names.
    pub allowed_hosts: Vec<String>,
    /// Longest session without a request.
    pub session_idle: Duration,
    /// Longest session.
    pub session_absolute: Duration,
    /// Who may use the automation socket.
    pub automation: AutomationCallers,
}

/// Callers of the automation socket, by name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutomationCallers {
    /// Users.
    #[serde(default)]
    pub users: Vec<String>,
    /// Groups whose members may.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// A policy file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what `docs/runtime.md` describes.
    #[error("{path} is not a policy file")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// A value is out of its range.
    #[error("{path}: {0} {1}", path = .2.display())]
    Value(&'static str, String, PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    state: PathBuf,
    netd_socket: PathBuf,
    broker_socket: PathBuf,
    vault_socket: PathBuf,
    #[serde(default)]
    egress_socket: Option<PathBuf>,
    #[serde(default)]
    openvpn_socket: Option<PathBuf>,
    #[serde(default = "shipped_tor")]
    tor_socks: SocketAddr,
    core_network: Option<String>,
    #[serde(default = "shipped_service_pool")]
    service_pool: String,
    #[serde(default = "shipped_catalog")]
    catalog: PathBuf,
    #[serde(default = "system_authorities")]
    authorities: PathBuf,
    #[serde(default = "yes")]
    core_services: bool,
    #[serde(default)]
    core_dns_dir: Option<PathBuf>,
    #[serde(default)]
    caddy_socket: Option<PathBuf>,
    wireguard_interface: String,
    wireguard_port: u16,
    vpn_https_port: u16,
    vpn_target_port: u16,
    #[serde(default)]
    allowed_hosts: Vec<String>,
    session_idle_minutes: u32,
    session_absolute_hours: u32,
    callers: BTreeMap<String, AutomationCallers>,
}

fn shipped_service_pool() -> String {
    "172.21.0.0/16".to_owned()
}

fn shipped_catalog() -> PathBuf {
    PathBuf::from("/usr/share/cell/catalog")
}

fn system_authorities() -> PathBuf {
    PathBuf::from("/etc/ssl/certs/ca-certificates.crt")
}

const fn yes() -> bool {
    true
}

/// The port of `cell-tor` as it is shipped.
const fn shipped_tor() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9150)
}

/// Where the cell's own containers and services lie; or a key, and its rule.
fn networks(file: &File) -> Result<(CoreNetwork, Pool), (&'static str, String)> {
    let core = file.core_network.as_deref().map(CoreNetwork::parse);
    let core = core.unwrap_or(Ok(CoreNetwork::SHIPPED));
    let core = core.map_err(|rule| ("core_network", rule.to_string()))?;
    let pool = service_network::pool(&file.service_pool, core);
    let pool = pool.map_err(|rule| ("service_pool", rule.to_string()))?;
    Ok((core, pool))
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let syntax = |source| ConfigError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let mut file: File = toml::from_str(text).map_err(syntax)?;
        let automation = file.callers.remove("automation");
        let wrong = |key, rule: &str| Err(ConfigError::Value(key, rule.to_owned(), path.to_owned()));
        let Some(automation) = automation.filter(|_| file.callers.is_empty()) else {
            return wrong("callers", "must be exactly [callers.automation]");
        };
        let ports = [file.wireguard_port, file.vpn_https_port, file.vpn_target_port];
        if ports.contains(&0) {
            return wrong(
                "wireguard_port, vpn_https_port, vpn_target_port",
                "must be 1-65535",
            );
        }
        if !file.tor_socks.ip().is_loopback() || file.tor_socks.port() == 0 {
            return wrong(
                "tor_socks",
                "must be a port of this machine's loopback, as 127.0.0.1:9150",
            );
        }
        let (core_network, service_pool) = match networks(&file) {
            Ok(networks) => networks,
            Err((key, rule)) => return wrong(key, &rule),
        };
        if !(1..=1_440).contains(&file.session_idle_minutes) {
            return wrong("session_idle_minutes", "must be 1-1440");
        }
        if !(1..=168).contains(&file.session_absolute_hours) {
            return wrong("session_absolute_hours", "must be 1-168");
        }
        Ok(Config {
            state: file.state,
            netd_socket: file.netd_socket,
            broker_socket: file.broker_socket,
            vault_socket: file.vault_socket,
            egress_socket: file.egress_socket,
            openvpn_socket: file.openvpn_socket,
            tor_socks: file.tor_socks,
            core_network,
            service_pool,
            catalog: file.catalog,
            // A machine without them has no remote catalogs but those that bring their own.
            authorities: Authorities::read(&file.authorities).unwrap_or_default(),
            core_services: file.core_services,
            core_dns_dir: file.core_dns_dir,
            caddy_socket: file.caddy_socket,
            network: NetworkSettings {
                interface: file.wireguard_interface,
                listen_port: file.wireguard_port,
                https_port: file.vpn_https_port,
                https_target_port: file.vpn_target_port,
            },
            allowed_hosts: file.allowed_hosts,
            session_idle: Duration::from_secs(u64::from(file.session_idle_minutes) * 60),
            session_absolute: Duration::from_secs(u64::from(file.session_absolute_hours) * 3600),
            automation,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        state = "/var/lib/cell/api"
        netd_socket = "/run/cell/netd/netd.sock"
        broker_socket = "/run/cell/broker/broker.sock"
        vault_socket = "/run/cell/vault/vault.sock"
        wireguard_interface = "wg0"
        wireguard_port = 51820
        vpn_https_port = 443
        vpn_target_port = 3443
        allowed_hosts = []
        session_idle_minutes = 30
        session_absolute_hours = 12
        [callers.automation]
        users = ["root"]
        groups = ["cell-admin"]
    "#;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("api.toml"))
    }

    #[test]
    fn the_documented_file_is_read() {
        assert!(parse(GOOD).is_ok_and(|config| config.session_absolute == Duration::from_secs(43_200)));
        let egress = |text: &str| parse(text).ok().and_then(|config| config.egress_socket);
        assert_eq!(egress(GOOD), None, "a cell may have no cell-egress");
        let with = GOOD.replace(
            "vpn_https_port",
            "egress_socket = \"/run/e.sock\"\n        vpn_https_port",
        );
        assert_eq!(egress(&with), Some(PathBuf::from("/run/e.sock")));
        let core = |text: &str| parse(text).ok().map(|config| config.core_services);
        let without = GOOD.replace("vpn_https_port", "core_services = false\n        vpn_https_port");
        assert_eq!((core(GOOD), core(&without)), (Some(true), Some(false)));
        let tor = |text: &str| parse(text).ok().map(|config| config.tor_socks.to_string());
        let at = |text: &str| parse(text).ok().map(|config| config.core_network);
        let lies = |network: &str| format!("core_network = \"{network}\"\n{GOOD}");
        assert_eq!(at(GOOD), Some(CoreNetwork::SHIPPED));
        assert_eq!(
            at(&lies("10.44.0.0/26"))
                .map(|it| it.bridge().to_string())
                .as_deref(),
            Some("10.44.0.1")
        );
        // No network of a service would be free.
        for wrong in ["10.44.0.0/16", "x"] {
            assert_eq!(at(&lies(wrong)), None);
        }
        assert_eq!(
            at(&format!(
                "core_network = \"172.21.0.0/24\"\nservice_pool = \"172.21.0.0/24\"\n{GOOD}"
            )),
            None
        );
        assert_eq!(tor(GOOD).as_deref(), Some("127.0.0.1:9150"));
        assert_eq!(tor(&with_tor("[::1]:9050")).as_deref(), Some("[::1]:9050"));
    }

    fn with_tor(at: &str) -> String {
        GOOD.replace(
            "wireguard_port",
            &format!("tor_socks = \"{at}\"\n        wireguard_port"),
        )
    }

    #[test]
    fn tor_is_on_this_machine() {
        for elsewhere in ["192.0.2.1:9150", "127.0.0.1:0", "0.0.0.0:9150", "localhost:9150"] {
            assert!(parse(&with_tor(elsewhere)).is_err(), "{elsewhere}");
        }
    }

    #[test]
    fn what_is_unknown_or_out_of_range_is_refused() {
        for (from, to) in [
            ("allowed_hosts", "alowed_hosts"),
            ("51820", "0"),
            ("3443", "70000"),
            ("session_idle_minutes = 30", "session_idle_minutes = 0"),
            ("session_absolute_hours = 12", "session_absolute_hours = 999"),
            ("[callers.automation]", "[callers.api]"),
            ("users =", "uids ="),
        ] {
            assert!(parse(&GOOD.replace(from, to)).is_err(), "{from} -> {to}");
        }
    }
}
