//! The policy file (`netd.toml`, docs/runtime.md): the ceiling, who may call, where the other daemons are. Unknown keys
//! are refused; every fault of a value is named with its key.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use cell_netd_core::Ceiling;
use cell_netd_core::ceiling::{ExitCeiling, PublicHttp, RelayCeiling, ServiceCeiling, TunnelCeiling};
use cell_netd_core::model::{InterfaceName, Mark, Port};
use cell_netd_core::policy::iptables::EXITS_MAX;
use cell_proto::ipc::CallerPolicy;
use clap::Parser;
use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

use crate::kernel::Renderer;

/// cell-netd: the cell's network, WireGuard and nftables.
#[derive(Debug, Parser)]
#[command(name = "cell-netd", version)]
pub struct Arguments {
    /// Policy file.
    #[arg(long, default_value = "/etc/cell/netd.toml")]
    pub config: PathBuf,
    /// Parse the policy file, print what is in force, and exit.
    #[arg(long)]
    pub check: bool,
}

/// Which WireGuard to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendChoice {
    /// The kernel's where it has one, else cell-wg.
    Auto,
    /// The kernel's.
    Kernel,
    /// cell-wg.
    Userspace,
}

/// What the policy is rendered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RendererChoice {
    /// A table of nftables.
    #[default]
    Nftables,
    /// Chains of legacy iptables, by cell-iptables.
    Iptables,
}

/// What the policy file says, users looked up.
#[derive(Debug, Clone)]
pub struct Config {
    /// What may be asked for.
    pub ceiling: Ceiling,
    /// Which WireGuard.
    pub backend: BackendChoice,
    /// vaultd's socket for netd.
    pub vault_socket: PathBuf,
    /// cell-wg's service.
    pub wg_socket: PathBuf,
    /// Where cell-wg takes descriptors.
    pub wg_device_socket: PathBuf,
    /// What the policy is rendered for.
    pub renderer: Renderer,
    /// Who may use the listener `api`.
    pub api: CallerPolicy,
    /// Who may use the listener `mark`; none: nobody.
    pub mark: Option<CallerPolicy>,
}

/// A policy file that cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// Not readable.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, or not of this shape.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// Values that cannot be.
    #[error("{}", .0.join("\n"))]
    Values(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    interfaces: Vec<String>,
    listen_ports: Vec<(u16, u16)>,
    vpn_prefixes: Vec<String>,
    cell_ports: Vec<String>,
    service_targets: Vec<String>,
    service_addresses: Vec<String>,
    max_peers: usize,
    accept_mark: String,
    table: String,
    backend: BackendChoice,
    vault_socket: PathBuf,
    wg_socket: PathBuf,
    wg_device_socket: PathBuf,
    /// Absent: nftables.
    #[serde(default)]
    renderer: RendererChoice,
    /// Wanted by the renderer iptables alone.
    #[serde(default)]
    iptables_socket: Option<PathBuf>,
    #[serde(default)]
    exits: Option<Exits>,
    #[serde(default)]
    services: Option<Services>,
    callers: Callers,
}

/// Absent: no network of a service may be asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Services {
    bridge_prefix: String,
    subnets: Vec<String>,
    max: usize,
    #[serde(default)]
    entries_max: usize,
    /// Absent: nobody on the machine speaks to containers but the relay.
    #[serde(default)]
    callers: Vec<String>,
    /// Absent: the internet reaches nothing.
    #[serde(default)]
    public_http: Option<PublicHttpTo>,
}

/// Where TCP 80 of the machine may lead from the internet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicHttpTo {
    within: String,
    port: u16,
}

/// Absent: no exit may be asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exits {
    marks: (u32, u32),
    mask: u32,
    tables: (u32, u32),
    interface_prefix: String,
    max: usize,
    /// Absent, as `egress_user`: no exit of the relay may be asked for.
    #[serde(default)]
    redirect_ports: Option<(u16, u16)>,
    #[serde(default)]
    egress_user: Option<String>,
    #[serde(default)]
    local_servers: Vec<String>,
    #[serde(default)]
    local_resolvers: Vec<String>,
    /// Absent, as `tunnel_prefix`: no tunnel that a program carries may be asked for.
    #[serde(default)]
    tunnel_user: Option<String>,
    #[serde(default)]
    tunnel_prefix: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Callers {
    api: Caller,
    /// Absent: nobody's sockets are given marks.
    #[serde(default)]
    mark: Option<Caller>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Caller {
    users: Vec<String>,
    #[serde(default)]
    unit: Option<String>,
}

/// Proto: "at most 20,000".
const PEERS_MAX: usize = 20_000;

impl Config {
    /// Reads a policy file; users are looked up by getpwnam(3).
    ///
    /// # Errors
    /// [`InvalidConfig`].
    pub fn read(path: &Path) -> Result<Self, InvalidConfig> {
        let text = std::fs::read_to_string(path).map_err(|source| InvalidConfig::Read {
            path: path.to_owned(),
            source,
        })?;
        let uid_of = |name: &str| {
            nix::unistd::User::from_name(name)
                .ok()
                .flatten()
                .map(|user| user.uid.as_raw())
        };
        Config::parse(&text, uid_of)
    }

    /// Parses the text of a policy file.
    ///
    /// # Errors
    /// [`InvalidConfig`] with every fault of a value.
    pub fn parse(text: &str, uid_of: impl Fn(&str) -> Option<u32>) -> Result<Self, InvalidConfig> {
        let file: File = toml::from_str(text)?;
        let mut faults = Vec::new();
        let ceiling = ceiling(&file, &uid_of, &mut faults);
        let renderer = renderer(&file, ceiling.as_ref(), &mut faults);
        let api = caller("callers.api", file.callers.api, &uid_of, &mut faults);
        let mark = file.callers.mark;
        let mark = mark.map(|mark| caller("callers.mark", mark, &uid_of, &mut faults));
        match (ceiling, renderer) {
            (Some(ceiling), Some(renderer)) if faults.is_empty() => Ok(Config {
                ceiling,
                backend: file.backend,
                vault_socket: file.vault_socket,
                wg_socket: file.wg_socket,
                wg_device_socket: file.wg_device_socket,
                renderer,
                api,
                mark,
            }),
            _ => Err(InvalidConfig::Values(faults)),
        }
    }
}

fn renderer(file: &File, ceiling: Option<&Ceiling>, faults: &mut Vec<String>) -> Option<Renderer> {
    match (file.renderer, &file.iptables_socket) {
        (RendererChoice::Nftables, _) => Some(Renderer::Nftables),
        (RendererChoice::Iptables, None) => {
            faults.push("iptables_socket: is required where renderer is \"iptables\"".to_owned());
            None
        }
        (RendererChoice::Iptables, Some(socket)) => {
            if ceiling.is_some_and(|ceiling| ceiling.exits.most() > EXITS_MAX) {
                faults.push(format!(
                    "exits.max: at most {EXITS_MAX} where renderer is \"iptables\", for a set of ipset has no more interfaces"
                ));
            }
            Some(Renderer::Iptables(socket.clone()))
        }
    }
}

fn ceiling(file: &File, uid_of: impl Fn(&str) -> Option<u32>, faults: &mut Vec<String>) -> Option<Ceiling> {
    let listen_ports: Vec<_> = file
        .listen_ports
        .iter()
        .map(|(first, last)| *first..=*last)
        .collect();
    if listen_ports
        .iter()
        .any(|range| range.is_empty() || *range.start() == 0)
    {
        faults.push("listen_ports: a range is [first, last], 1-65535, first not above last".to_owned());
    }
    if !(1..=PEERS_MAX).contains(&file.max_peers) {
        faults.push(format!("max_peers: 1-{PEERS_MAX}"));
    }
    let accept_mark = one("accept_mark", &file.accept_mark, faults);
    let exits = exits(file.exits.as_ref(), accept_mark, &uid_of, faults);
    let (service_v4, service_v6) = service_addresses(&file.service_addresses, faults);
    let service_targets: BTreeSet<Port> = all("service_targets", &file.service_targets, faults)
        .into_iter()
        .collect();
    if let Some(relay) = exits.as_ref().and_then(ExitCeiling::relay)
        && let Some(port) = service_targets.iter().find(|port| relay.allows_port(port.number))
    {
        // Every peer may speak to a target; to the relay those alone whose exit it carries.
        faults.push(format!("service_targets: {port} is one of exits.redirect_ports"));
    }
    let interfaces: BTreeSet<InterfaceName> =
        all("interfaces", &file.interfaces, faults).into_iter().collect();
    let services = services(
        file.services.as_ref(),
        &interfaces,
        exits.as_ref(),
        &uid_of,
        faults,
    );
    Some(Ceiling {
        interfaces,
        listen_ports,
        vpn_prefixes: prefixes(&file.vpn_prefixes, faults),
        cell_ports: all("cell_ports", &file.cell_ports, faults).into_iter().collect(),
        service_targets,
        max_peers: file.max_peers,
        accept_mark: accept_mark?,
        exits: exits?,
        services: services?,
        table: one("table", &file.table, faults)?,
        service_v4: service_v4?,
        service_v6: service_v6?,
    })
}

fn services(
    file: Option<&Services>,
    interfaces: &BTreeSet<InterfaceName>,
    exits: Option<&ExitCeiling>,
    uid_of: impl Fn(&str) -> Option<u32>,
    faults: &mut Vec<String>,
) -> Option<Option<ServiceCeiling>> {
    let Some(Services {
        bridge_prefix,
        subnets,
        max,
        entries_max,
        callers,
        public_http,
    }) = file
    else {
        return Some(None);
    };
    let subnets: Vec<Ipv4Net> = all("services.subnets", subnets, faults);
    let callers = callers.iter().filter_map(|user| {
        let uid = uid_of(user);
        if uid.is_none() {
            faults.push(format!(
                "services.callers: there is no user \"{user}\" on this machine"
            ));
        }
        uid
    });
    let callers = callers.collect();
    let public_http = match public_http {
        Some(PublicHttpTo { within, port }) => Some(PublicHttp {
            within: one("services.public_http.within", within, faults)?,
            port: *port,
        }),
        None => None,
    };
    ServiceCeiling::try_new(bridge_prefix, subnets, *max)
        .and_then(|ceiling| ceiling.with_entries(*entries_max))
        .map(|ceiling| ceiling.with_callers(callers))
        .and_then(|ceiling| match public_http {
            Some(to) => ceiling.with_public_http(to),
            None => Ok(ceiling),
        })
        .and_then(|ceiling| match exits {
            Some(exits) => ceiling.beside(interfaces, exits),
            // Their faults are named.
            None => Ok(ceiling),
        })
        .map_err(|error| faults.push(format!("services.{error}")))
        .ok()
        .map(Some)
}

fn exits(
    file: Option<&Exits>,
    accept_mark: Option<Mark>,
    uid_of: impl Fn(&str) -> Option<u32>,
    faults: &mut Vec<String>,
) -> Option<ExitCeiling> {
    let Some(exits) = file else {
        return Some(ExitCeiling::none());
    };
    let relay = relay(exits, &uid_of, faults);
    let tunnel = tunnel(exits, &uid_of, faults);
    let Exits {
        marks,
        mask,
        tables,
        interface_prefix,
        max,
        ..
    } = exits;
    let ceiling = ExitCeiling::try_new(
        marks.0..=marks.1,
        *mask,
        tables.0..=tables.1,
        interface_prefix,
        *max,
        accept_mark?,
    )
    .map_err(|error| faults.push(format!("exits.{error}")))
    .ok()?;
    let ceiling = match relay {
        Some(relay) => ceiling.with_relay(relay),
        None => ceiling,
    };
    match tunnel {
        Some(tunnel) => ceiling
            .with_tunnels(tunnel)
            .map_err(|error| faults.push(format!("exits.{error}")))
            .ok(),
        None => Some(ceiling),
    }
}

fn tunnel(
    file: &Exits,
    uid_of: impl Fn(&str) -> Option<u32>,
    faults: &mut Vec<String>,
) -> Option<TunnelCeiling> {
    let (user, prefix) = match (&file.tunnel_user, &file.tunnel_prefix) {
        (Some(user), Some(prefix)) => (user, prefix),
        (None, None) => return None,
        (Some(_), None) | (None, Some(_)) => {
            faults.push("exits.tunnel_user, exits.tunnel_prefix: set both or neither".to_owned());
            return None;
        }
    };
    let Some(user) = uid_of(user) else {
        faults.push(format!(
            "exits.tunnel_user: there is no user \"{user}\" on this machine"
        ));
        return None;
    };
    TunnelCeiling::try_new(user, prefix)
        .map_err(|error| faults.push(format!("exits.{error}")))
        .ok()
}

fn relay(
    file: &Exits,
    uid_of: impl Fn(&str) -> Option<u32>,
    faults: &mut Vec<String>,
) -> Option<RelayCeiling> {
    let local_servers = all::<SocketAddr>("exits.local_servers", &file.local_servers, faults);
    let local_resolvers = all::<SocketAddr>("exits.local_resolvers", &file.local_resolvers, faults);
    let (ports, user) = match (file.redirect_ports, &file.egress_user) {
        (Some(ports), Some(user)) => (ports, user),
        (None, None) => return None,
        (Some(_), None) | (None, Some(_)) => {
            faults.push("exits.redirect_ports, exits.egress_user: set both or neither".to_owned());
            return None;
        }
    };
    let Some(user) = uid_of(user) else {
        faults.push(format!(
            "exits.egress_user: there is no user \"{user}\" on this machine"
        ));
        return None;
    };
    RelayCeiling::try_new(ports.0..=ports.1, user, local_servers.into_iter().collect())
        .and_then(|relay| relay.with_local_resolvers(local_resolvers.into_iter().collect()))
        .map_err(|error| faults.push(format!("exits.{error}")))
        .ok()
}

fn service_addresses(texts: &[String], faults: &mut Vec<String>) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let (mut v4, mut v6) = (None, None);
    for address in all::<IpAddr>("service_addresses", texts, faults) {
        match address {
            IpAddr::V4(address) => v4 = Some(address),
            IpAddr::V6(address) => v6 = Some(address),
        }
    }
    if texts.len() != 2 || v4.is_none() || v6.is_none() {
        faults.push("service_addresses: one IPv4 and one IPv6 address".to_owned());
    }
    (v4, v6)
}

fn prefixes(texts: &[String], faults: &mut Vec<String>) -> Vec<IpNet> {
    let prefixes: Vec<IpNet> = all("vpn_prefixes", texts, faults);
    if let Some(prefix) = prefixes.iter().find(|prefix| prefix.trunc() != **prefix) {
        faults.push(format!("vpn_prefixes: {prefix} has host bits"));
    }
    prefixes
}

fn one<T: FromStr<Err: ToString>>(key: &str, text: &str, faults: &mut Vec<String>) -> Option<T> {
    text.parse()
        .map_err(|error: T::Err| faults.push(format!("{key}: \"{text}\": {}", error.to_string())))
        .ok()
}

fn all<T: FromStr<Err: ToString>>(key: &str, texts: &[String], faults: &mut Vec<String>) -> Vec<T> {
    texts.iter().filter_map(|text| one(key, text, faults)).collect()
}

fn caller(
    key: &str,
    caller: Caller,
    uid_of: impl Fn(&str) -> Option<u32>,
    faults: &mut Vec<String>,
) -> CallerPolicy {
    if caller.users.is_empty() {
        faults.push(format!("{key}.users: name at least one user"));
    }
    let mut uids = Vec::new();
    for user in &caller.users {
        match uid_of(user) {
            Some(uid) => uids.push(uid),
            None => faults.push(format!(
                "{key}.users: there is no user \"{user}\" on this machine"
            )),
        }
    }
    CallerPolicy {
        uids,
        unit: caller.unit,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// The example of docs/runtime.md, so that the page and the parser cannot part.
    fn documented() -> String {
        let page = include_str!("../../docs/runtime.md");
        let start = page.find("# netd.toml").unwrap();
        page[start..start + page[start..].find("```").unwrap()].to_owned()
    }

    fn parse(text: &str) -> Result<Config, InvalidConfig> {
        Config::parse(text, |user| match user {
            "cell-api" => Some(990),
            "cell-egress" => Some(991),
            "cell-openvpn" => Some(992),
            _ => None,
        })
    }

    #[test]
    fn the_documented_file_is_understood() {
        let config = parse(&documented()).unwrap();
        assert_eq!(config.api.uids, [990]);
        assert_eq!(config.ceiling.accept_mark.to_string(), "0x2000/0x2000");
        assert_eq!(config.ceiling.vpn_prefixes.len(), 5);
        assert_eq!(config.ceiling.exits.most(), 256);
        assert_eq!(config.ceiling.exits.mask(), 0x1ff0);
        assert_eq!(config.ceiling.exits.relay().unwrap().user(), 991);
        assert_eq!(config.ceiling.exits.tunnel().unwrap().user(), 992);
        let services = config.ceiling.services.unwrap();
        assert_eq!((services.prefix().as_str(), services.most()), ("cellsvc", 1024));
        assert_eq!(services.entries(), 4096);
        assert_eq!(*services.callers(), [991].into());
    }

    #[test]
    fn a_file_that_does_not_speak_of_the_relay_allows_no_redirects() {
        let text = documented();
        let without = |keys: &[&str]| {
            let kept = |line: &&str| !keys.iter().any(|key| line.starts_with(key));
            text.lines().filter(kept).collect::<Vec<_>>().join("\n")
        };
        let config = parse(&without(&["redirect_ports", "egress_user"])).unwrap();
        assert_eq!(config.ceiling.exits.relay(), None);
        for key in ["redirect_ports", "egress_user"] {
            let fault = parse(&without(&[key])).unwrap_err().to_string();
            assert!(fault.contains("set both or neither"), "{fault}");
        }
    }

    #[test]
    fn the_renderer_is_nftables_unless_the_file_says_otherwise() {
        let text = documented();
        assert_eq!(parse(&text).unwrap().renderer, Renderer::Nftables);
        let lines = |from: &str, to: &str| text.replace(from, to);
        let silent = lines("renderer = ", "# renderer = ");
        assert_eq!(parse(&silent).unwrap().renderer, Renderer::Nftables);
        // A set of ipset has 64 interfaces at most.
        let legacy = lines("renderer = \"nftables\"", "renderer = \"iptables\"");
        let fault = parse(&legacy).unwrap_err().to_string();
        assert!(fault.starts_with("exits.max: at most 64"), "{fault}");
        let fewer = legacy.replace("max = 256", "max = 64");
        let socket = "/run/cell/iptables/iptables.sock".into();
        assert_eq!(parse(&fewer).unwrap().renderer, Renderer::Iptables(socket));
        let without = fewer.replace("iptables_socket = ", "# iptables_socket = ");
        let fault = parse(&without).unwrap_err().to_string();
        assert!(fault.starts_with("iptables_socket: is required"), "{fault}");
        let unknown = lines("renderer = \"nftables\"", "renderer = \"ufw\"");
        assert!(parse(&unknown).unwrap_err().to_string().contains("ufw"));
    }

    #[test]
    fn a_file_that_does_not_speak_of_exits_allows_none() {
        let text = documented();
        let (start, end) = (text.find("[exits]").unwrap(), text.find("[callers.api]").unwrap());
        let config = parse(&format!("{}{}", &text[..start], &text[end..])).unwrap();
        assert_eq!(config.ceiling.exits.most(), 0);
    }

    #[test]
    fn faults_of_bridges_are_named() {
        for (from, to, key) in [
            ("\"cellsvc\"", "\"wgext_0\"", "services.bridge_prefix"),
            ("\"cellsvc\"", "\"wg0x\"", "services.bridge_prefix"),
            ("\"cellsvc\"", "\"cell svc\"", "services.bridge_prefix"),
            ("172.21.0.0/16", "172.21.0.1/16", "services.subnets"),
            ("[\"172.20.0.0/24\", \"172.21.0.0/16\"]", "[]", "services.subnets"),
            ("max = 1024", "max = 1025", "services.max"),
            ("entries_max = 4096", "entries_max = 4097", "services.entries_max"),
            (
                "callers = [\"cell-egress\"]",
                "callers = [\"nobody-here\"]",
                "services.callers",
            ),
        ] {
            let text = documented();
            assert!(text.contains(from), "{from}");
            let fault = parse(&text.replace(from, to)).unwrap_err().to_string();
            assert!(fault.starts_with(key), "{key}: {fault}");
        }
        let text = documented();
        let (start, end) = (
            text.find("[services]").unwrap(),
            text.find("[callers.api]").unwrap(),
        );
        let config = parse(&format!("{}{}", &text[..start], &text[end..])).unwrap();
        assert_eq!(config.ceiling.services, None, "without the table there are none");
    }

    #[test]
    fn nothing_is_open_to_the_internet_unless_the_file_opens_it() {
        let text = documented();
        let of = |config: Config| config.ceiling.services.unwrap().public_http();
        assert_eq!(of(parse(&text).unwrap()), None);
        let open = text.replace("# public_http", "public_http");
        let to = PublicHttp {
            within: "172.20.0.0/24".parse().unwrap(),
            port: 8480,
        };
        assert_eq!(of(parse(&open).unwrap()), Some(to));
        for (from, to) in [
            (
                "within = \"172.20.0.0/24\", port",
                "within = \"192.168.0.0/24\", port",
            ),
            (
                "within = \"172.20.0.0/24\", port",
                "within = \"172.20.0.9\", port",
            ),
            ("port = 8480", "port = 80"),
        ] {
            let wrong = open.replace(from, to);
            assert_ne!(wrong, open, "{from}");
            let fault = parse(&wrong).unwrap_err().to_string();
            assert!(fault.starts_with("services.public_http"), "{fault}");
        }
        let unknown = open.replace("port = 8480", "port = 8480, open = true");
        assert!(parse(&unknown).is_err());
    }

    #[test]
    fn every_fault_is_named_and_nothing_unknown_passes() {
        let text = documented()
            .replace("\"wg0\"", "\"wg 0\"")
            .replace("0x2000/0x2000", "0x2000")
            .replace("\"fd43:454c:4c00::1\"", "\"169.254.67.2\"")
            .replace("max_peers = 20000", "max_peers = 20001")
            .replace("10.0.0.0/8", "10.0.0.1/8");
        let InvalidConfig::Values(faults) = parse(&text).unwrap_err() else {
            panic!("values")
        };
        for key in [
            "interfaces",
            "accept_mark",
            "service_addresses",
            "max_peers",
            "vpn_prefixes",
        ] {
            assert!(
                faults.iter().any(|fault| fault.starts_with(key)),
                "{key}: {faults:?}"
            );
        }
        for (from, to, key) in [
            (
                "marks = [0x1000, 0x1ff0]",
                "marks = [0x1000, 0x1ff8]",
                "exits.marks",
            ),
            ("mask = 0x1ff0", "mask = 0x3ff0", "exits.mask"),
            ("tables = [1000, 1255]", "tables = [254, 300]", "exits.tables"),
            ("\"wgext_\"", "\"\"", "exits.interface_prefix"),
            ("max = 256", "max = 257", "exits.max"),
            ("[9100, 9199]", "[9199, 9100]", "exits.redirect_ports"),
            ("[9100, 9199]", "[3000, 9199]", "service_targets"),
            ("\"cell-egress\"", "\"cell-nobody\"", "exits.egress_user"),
            ("\"cell-openvpn\"", "\"cell-nobody\"", "exits.tunnel_user"),
            ("\"cell-openvpn\"", "\"cell-egress\"", "exits.tunnel_user"),
            (
                "tunnel_prefix = \"ovpn_\"",
                "tunnel_prefix = \"wgext_x\"",
                "exits.tunnel_prefix",
            ),
            ("tunnel_prefix = \"ovpn_\"", "", "exits.tunnel_user"),
            ("127.0.0.1:9150", "192.0.2.1:9150", "exits.local_servers"),
            ("127.0.0.53:53", "192.0.2.53:53", "exits.local_resolvers"),
        ] {
            let text = documented();
            assert!(text.contains(from), "{from}");
            let fault = parse(&text.replace(from, to)).unwrap_err().to_string();
            assert!(fault.starts_with(key), "{key}: {fault}");
        }
        assert!(
            parse(&documented().replace("table =", "tabel ="))
                .unwrap_err()
                .to_string()
                .contains("tabel")
        );
        assert!(parse(&documented().replace("cell-api\"]", "nobody-here\"]")).is_err());
    }
}
