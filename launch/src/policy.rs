//! The policy files of this cell: the shipped ones, with the paths of this cell; and what netd's says netd may own.

use std::path::Path;

use serde::Deserialize;

use crate::house::Daemon;
use crate::plan;
use crate::settings::Settings;

/// Where the shipped policies look for sockets.
const SHIPPED_RUN: &str = "\"/run/cell/";
/// Where they look for state.
const SHIPPED_STATE: &str = "\"/var/lib/cell/";
/// Where Caddy's container makes its socket. It is given the folder itself, so the folder outlives the cell's processes.
const SHIPPED_CADDY: &str = "\"/run/cell/caddy";
/// Where images of this machine are listed.
const SHIPPED_LISTS: &str = "\"/etc/cell/";
/// The catalog of services.
const SHIPPED_CATALOG: &str = "\"/usr/share/cell/catalog\"";
/// What is there only for the cell's containers: tables of the broker's policy, keys of the API's.
const OF_CONTAINERS: (&str, [&str; 2]) = ("[deploy", ["core_dns_dir = ", "caddy_socket = "]);

/// The policy of `daemon` for a cell in `home` that has no containers. The lines that name a unit are left out: no unit runs
/// here, and the unit of a package installed on the same machine is not ours.
pub fn render(daemon: Daemon, home: &Path) -> String {
    rendered(daemon, home, SHIPPED_CATALOG, false)
}

/// The same for this cell, with what is there for containers where there can be some.
pub fn render_for(daemon: Daemon, settings: &Settings) -> String {
    let catalog = match settings.catalog {
        Some(_) => format!("\"{}\"", plan::catalog(settings).display()),
        None => SHIPPED_CATALOG.to_owned(),
    };
    let containers = settings.without_containers.is_none();
    rendered(daemon, &settings.home, &catalog, containers)
}

fn rendered(daemon: Daemon, home: &Path, catalog: &str, containers: bool) -> String {
    let home = home.display();
    let (tables, keys) = OF_CONTAINERS;
    let mut in_tables = false;
    daemon
        .shipped_policy()
        .replace(SHIPPED_CADDY, &format!("\"{home}/lib/core/caddy"))
        .replace(SHIPPED_RUN, &format!("\"{home}/run/"))
        .replace(SHIPPED_STATE, &format!("\"{home}/lib/"))
        .replace(SHIPPED_LISTS, &format!("\"{home}/etc/"))
        .replace(SHIPPED_CATALOG, catalog)
        .lines()
        .filter(|line| !line.starts_with("unit = "))
        .filter(|line| {
            if line.starts_with('[') {
                in_tables = line.starts_with(tables);
            }
            containers || !(in_tables || keys.iter().any(|key| line.starts_with(key)))
        })
        .fold(String::new(), |text, line| text + line + "\n")
}

/// What netd owns in the kernel, by its policy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Owned {
    /// Names of links.
    pub interfaces: Vec<String>,
    /// Name of the nftables table, family inet.
    pub table: String,
    /// The hidden service addresses, which only its link bears.
    #[serde(rename = "service_addresses")]
    pub addresses: Vec<String>,
    /// What it may make for exits; none: nothing.
    #[serde(default)]
    pub exits: Option<OwnedExits>,
}

/// What netd may make for exits.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OwnedExits {
    /// How the names of their links begin.
    pub interface_prefix: String,
    /// The same of TUNs that it makes for OpenVPN; none: it makes none.
    #[serde(default)]
    pub tunnel_prefix: Option<String>,
}

impl OwnedExits {
    /// Whether a link of this name may be one of these.
    pub fn names(&self, link: &str) -> bool {
        let prefixes = std::iter::once(&self.interface_prefix).chain(&self.tunnel_prefix);
        prefixes
            .into_iter()
            .any(|prefix| link.starts_with(prefix.as_str()))
    }
}

impl Owned {
    /// Reads the text of a `netd.toml`.
    ///
    /// # Errors
    /// In TOML's words, when it is not one.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::Duration;

    use super::*;
    use crate::settings::Place;

    #[test]
    fn what_netd_owns_is_what_its_policy_says() {
        let shipped = Daemon::Netd.shipped_policy();
        let text = shipped
            .replace("[\"wg0\"]", "[\n  \"wg7\", # one\n  \"wg8\",\n]")
            .replace("table = \"cell\"", "table = \"mine\"");
        let owned = Owned::parse(&text).unwrap();
        assert_eq!(owned.interfaces, ["wg7", "wg8"]);
        assert_eq!(owned.table, "mine");
        let exits = owned.exits.unwrap();
        assert_eq!(
            (exits.interface_prefix.as_str(), exits.tunnel_prefix.as_deref()),
            ("wgext_", Some("ovpn_"))
        );
        let hidden = crate::house::HIDDEN.map(|address| address.ip().to_string());
        assert_eq!(Owned::parse(shipped).unwrap().addresses, hidden);
        assert!(Owned::parse("table = \"mine\"").is_err());
    }

    fn settings(home: &str) -> Settings {
        Settings {
            home: home.into(),
            bin: "/opt/cell".into(),
            catalog: Some("/src/compose/catalog".into()),
            without_containers: None,
            place: Place::Host,
            http: ([127, 0, 0, 1], 3000).into(),
            daemons: Daemon::ALL.into(),
            start_timeout: Duration::from_secs(30),
        }
    }

    #[test]
    fn nothing_points_outside_the_folder() {
        for daemon in Daemon::ALL.into_iter().filter(|daemon| *daemon != Daemon::Tor) {
            let text = render_for(daemon, &settings("/home/a/var"));
            let table: toml::Table = text.parse().unwrap();
            for shipped in ["/run/cell", "/var/lib/cell", "\"/etc/cell", "/usr/share/cell"] {
                assert!(!text.contains(shipped), "{shipped}: {text}");
            }
            for (name, caller) in table["callers"].as_table().unwrap() {
                assert!(caller.get("unit").is_none(), "{name}");
                assert!(caller.get("users").is_some(), "{name}");
            }
        }
    }

    #[test]
    fn tor_keeps_its_state_in_the_folder() {
        let text = render_for(Daemon::Tor, &settings("/home/a b/var"));
        assert!(
            text.contains("DataDirectory \"/home/a b/var/lib/tor\"\n"),
            "{text}"
        );
        assert!(!text.contains("/var/lib/cell"), "{text}");
    }

    #[test]
    fn the_port_of_tor_is_the_same_in_every_policy() {
        let policy = |daemon: Daemon| daemon.shipped_policy().parse::<toml::Table>().unwrap();
        let api = policy(Daemon::Api)["tor_socks"].as_str().unwrap().to_owned();
        assert!(
            Daemon::Tor
                .shipped_policy()
                .lines()
                .any(|line| line == format!("SocksPort {api} IsolateSOCKSAuth")),
            "{api}"
        );
        let servers = |value: &toml::Value| value.as_array().unwrap().clone();
        assert_eq!(
            servers(&policy(Daemon::Egress)["local_servers"]),
            [api.as_str().into()]
        );
        assert_eq!(
            servers(&policy(Daemon::Netd)["exits"]["local_servers"]),
            [api.as_str().into()]
        );
    }

    #[test]
    fn paths_are_this_cells() {
        let api: toml::Table = render_for(Daemon::Api, &settings("/home/a/var")).parse().unwrap();
        assert_eq!(api["state"].as_str(), Some("/home/a/var/lib/api"));
        assert_eq!(
            api["netd_socket"].as_str(),
            Some("/home/a/var/run/netd/netd.sock")
        );
        assert_eq!(api["catalog"].as_str(), Some("/home/a/var/lib/catalog"));
        let socket = api["caddy_socket"].as_str().unwrap();
        let broker: toml::Table = render_for(Daemon::Broker, &settings("/home/a/var"))
            .parse()
            .unwrap();
        let deploy = &broker["deploy"];
        let folder = |root: &str| deploy["bind_roots"][root]["path"].as_str().unwrap();
        assert_eq!(folder("dns"), api["core_dns_dir"].as_str().unwrap());
        assert_eq!(format!("{}/admin.sock", folder("caddy")), socket);
        assert_eq!(deploy["shipped"], api["catalog"]);
        assert_eq!(
            deploy["local_images"].as_str(),
            Some("/home/a/var/etc/images.toml")
        );
    }

    #[test]
    fn without_containers_nothing_is_deployed_and_nobody_waits_for_it() {
        let without = Settings {
            without_containers: Some("no".to_owned()),
            ..settings("/root/var")
        };
        let tables = |daemon: Daemon, settings: &Settings| {
            render_for(daemon, settings).parse::<toml::Table>().unwrap()
        };
        for (daemon, keys) in [
            (Daemon::Broker, &["deploy"][..]),
            (Daemon::Api, &["core_dns_dir", "caddy_socket"][..]),
        ] {
            let (mut with, without) = (tables(daemon, &settings("/root/var")), tables(daemon, &without));
            for key in keys {
                assert!(with.remove(*key).is_some(), "{key}");
            }
            assert_eq!(without, with);
        }
    }

    #[test]
    fn the_rest_is_as_shipped() {
        let shipped: toml::Table = Daemon::Netd.shipped_policy().parse().unwrap();
        let rendered: toml::Table = render_for(Daemon::Netd, &settings("/h")).parse().unwrap();
        for (key, value) in shipped
            .iter()
            .filter(|(key, _)| !key.ends_with("socket") && *key != "callers")
        {
            assert_eq!(rendered.get(key), Some(value), "{key}");
        }
        assert_eq!(rendered.len(), shipped.len());
    }
}
