//! What a start sets up, as data that can be printed: folders, policies, listeners, processes.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::house::{Daemon, EDGE_FOLDER_MODE, EDGE_SOCKET_MODE, EDGES, HIDDEN, Kind, Network};
use crate::policy;
use crate::settings::{Place, Settings};

/// Everything that is made, in the order in which it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Folders, parents first.
    pub folders: Vec<Folder>,
    /// Policy files, written where they are absent.
    pub policies: Vec<Policy>,
    /// Listeners, bound before any process starts.
    pub listeners: Vec<Listener>,
    /// Processes, in the order of their start.
    pub processes: Vec<Process>,
}

/// A folder and who owns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Where.
    pub path: PathBuf,
    /// Owning user.
    pub owner: &'static str,
    /// Owning group.
    pub group: &'static str,
    /// Permissions.
    pub mode: u32,
}

/// A policy file, root's and readable to all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Where.
    pub path: PathBuf,
    /// What it says when it is written first.
    pub text: String,
}

/// A listener that is handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Who serves it.
    pub server: Daemon,
    /// Its name there.
    pub name: &'static str,
    /// What it is bound to.
    pub address: Address,
}

/// What a listener is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A path, `root:<group> 0660`.
    Unix {
        /// The path.
        path: PathBuf,
        /// Its group.
        group: &'static str,
        /// Its kind.
        kind: Kind,
    },
    /// TCP in the namespace in which the launcher was started.
    Here(SocketAddr),
    /// TCP in the cell's network, on an address that may not exist yet (IP_FREEBIND).
    Hidden(SocketAddr),
    /// A socket of NETLINK_NETFILTER in the cell's network: what it owns stays owned for as long as the launcher holds it.
    Netfilter,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Which.
    pub daemon: Daemon,
    /// Its program.
    pub program: PathBuf,
    /// Its policy.
    pub policy: PathBuf,
    /// Its environment, whole but for what depends on the moment (`RUST_LOG`, `LISTEN_PID`).
    pub environment: Vec<(&'static str, PathBuf)>,
    /// Where it says READY=1.
    pub notify: PathBuf,
    /// Paths that it must reach, also where a folder above them is closed to others.
    pub reach: Vec<PathBuf>,
}

impl Plan {
    /// Decides it.
    pub fn new(settings: &Settings) -> Plan {
        let serves = |daemon: &Daemon| settings.daemons.contains(daemon);
        let started: Vec<Daemon> = Daemon::ALL.into_iter().filter(serves).collect();
        Plan {
            folders: folders(settings, &started),
            policies: Daemon::ALL
                .into_iter()
                .map(|daemon| policy_file(settings, daemon))
                .collect(),
            listeners: listeners(settings, &started),
            processes: started
                .into_iter()
                .map(|daemon| process(settings, daemon))
                .collect(),
        }
    }

    /// The listeners of `daemon`, in their order.
    pub fn listeners_of(&self, daemon: Daemon) -> impl Iterator<Item = (usize, &Listener)> {
        self.listeners
            .iter()
            .enumerate()
            .filter(move |(_, listener)| listener.server == daemon)
    }
}

/// Where a daemon's credentials are copied to.
pub fn credentials(settings: &Settings, daemon: Daemon) -> PathBuf {
    settings.run().join("credentials").join(daemon.name())
}

/// Where the broker keeps secrets of services for their containers, below the run folder.
const BROKER_SECRETS: &str = "broker-secrets";

/// The state folder of a daemon.
pub fn state(settings: &Settings, daemon: Daemon) -> PathBuf {
    settings.home.join("lib").join(daemon.name())
}

/// Where the cell's own containers and `cell-api` meet. It stays when the cell has ended: containers go on running.
fn core(settings: &Settings) -> PathBuf {
    settings.home.join("lib/core")
}

/// Where the catalog of a checkout is copied to, so that it is root's alone.
pub fn catalog(settings: &Settings) -> PathBuf {
    settings.home.join("lib/catalog")
}

/// The user of Caddy's image.
const CADDY_USER: &str = "20002";

fn folders(settings: &Settings, started: &[Daemon]) -> Vec<Folder> {
    let root = |path: PathBuf, mode| Folder {
        path,
        owner: "root",
        group: "root",
        mode,
    };
    let (home, run) = (&settings.home, settings.run());
    let mut folders = vec![
        root(home.clone(), 0o755),
        root(home.join("etc"), 0o755),
        root(home.join("lib"), 0o755),
        root(run.clone(), 0o755),
        root(run.join("pids"), 0o755),
        root(run.join("started"), 0o700),
        root(run.join("notify"), 0o755),
        root(run.join("credentials"), 0o755),
    ];
    let mut edges: Vec<_> = EDGES.iter().map(|edge| (edge.folder, edge.group)).collect();
    edges.dedup();
    folders.extend(edges.into_iter().map(|(folder, group)| Folder {
        path: run.join(folder),
        owner: "root",
        group,
        mode: EDGE_FOLDER_MODE,
    }));
    let own = |path, daemon: Daemon, mode| Folder {
        path,
        owner: daemon.user(),
        group: daemon.user(),
        mode,
    };
    folders.extend(
        started
            .iter()
            .filter(|daemon| daemon.has_state())
            .map(|daemon| own(state(settings, *daemon), *daemon, 0o700)),
    );
    folders.push(own(credentials(settings, Daemon::Vaultd), Daemon::Vaultd, 0o500));
    if started.contains(&Daemon::Broker) {
        folders.push(own(run.join(BROKER_SECRETS), Daemon::Broker, 0o700));
    }
    if settings.without_containers.is_none() {
        let core = core(settings);
        folders.push(root(core.clone(), 0o755));
        // CoreDNS reads it; cell-api alone writes in it.
        folders.push(own(core.join("dns"), Daemon::Api, 0o755));
        // Caddy makes its socket in it, for this group.
        folders.push(Folder {
            path: core.join("caddy"),
            owner: CADDY_USER,
            group: "cell-edge-caddy",
            mode: 0o2750,
        });
    }
    folders
}

fn policy_file(settings: &Settings, daemon: Daemon) -> Policy {
    Policy {
        path: settings.home.join("etc").join(daemon.policy_name()),
        text: policy::render_for(daemon, settings),
    }
}

fn listeners(settings: &Settings, started: &[Daemon]) -> Vec<Listener> {
    let unix = EDGES
        .iter()
        .filter(|edge| started.contains(&edge.server))
        .map(|edge| Listener {
            server: edge.server,
            name: edge.listener,
            address: Address::Unix {
                path: settings.run().join(edge.folder).join(edge.file),
                group: edge.group,
                kind: edge.kind,
            },
        });
    let api = |name, address| Listener {
        server: Daemon::Api,
        name,
        address,
    };
    let policy = started.contains(&Daemon::Netd).then_some(Listener {
        server: Daemon::Netd,
        name: "nft",
        address: Address::Netfilter,
    });
    unix.chain(policy)
        .chain([api("loopback", Address::Here(settings.http))])
        .chain(HIDDEN.map(|address| api("vpn", Address::Hidden(address))))
        .collect()
}

fn process(settings: &Settings, daemon: Daemon) -> Process {
    let notify = settings.run().join("notify").join(daemon.name());
    let mut environment = vec![("NOTIFY_SOCKET", notify.clone())];
    let mut reach = vec![settings.run()];
    if daemon.has_state() {
        let state = state(settings, daemon);
        environment.push(("STATE_DIRECTORY", state.clone()));
        reach.push(state);
    }
    if daemon == Daemon::Vaultd {
        environment.push(("CREDENTIALS_DIRECTORY", credentials(settings, daemon)));
    }
    let policy = policy_file(settings, daemon).path;
    let program = daemon.program(&settings.bin);
    // Only where nothing above is anybody else's: what covers a closed folder is root's, and would say that all of it is.
    if settings.without_containers.is_none() && [Daemon::Api, Daemon::Broker].contains(&daemon) {
        reach.push(core(settings));
    }
    if settings.catalog.is_some() && [Daemon::Api, Daemon::Broker].contains(&daemon) {
        reach.push(catalog(settings));
    }
    reach.extend([policy.clone(), program.clone()]);
    Process {
        daemon,
        program,
        policy,
        environment,
        notify,
        reach,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for folder in &self.folders {
            writeln!(
                f,
                "folder   {:04o} {}:{} {}",
                folder.mode,
                folder.owner,
                folder.group,
                folder.path.display()
            )?;
        }
        for policy in &self.policies {
            writeln!(
                f,
                "policy   0644 root:root {} (kept if it is there)",
                policy.path.display()
            )?;
        }
        for listener in &self.listeners {
            writeln!(
                f,
                "listener {} of {}: {}",
                listener.name,
                listener.server.user(),
                listener.address
            )?;
        }
        for process in &self.processes {
            writeln!(f, "process  {process}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix { path, group, .. } => {
                write!(f, "{EDGE_SOCKET_MODE:04o} root:{group} {}", path.display())
            }
            Address::Here(address) => write!(f, "tcp {address}, where cell-launch was started"),
            Address::Hidden(address) => write!(f, "tcp {address}, in the cell's network"),
            Address::Netfilter => write!(f, "netlink netfilter, in the cell's network"),
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let daemon = self.daemon;
        let groups = [daemon.edges(), daemon.optional_groups()].concat().join(",");
        let capabilities: Vec<String> = daemon.capabilities().iter().map(ToString::to_string).collect();
        let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
        write!(
            f,
            "{} as {}, groups {}, capabilities {}, network {}",
            self.program.display(),
            daemon.user(),
            or_none(groups),
            or_none(capabilities.join(",")),
            match daemon.network() {
                Network::Cell => "the cell's",
                Network::Empty => "empty",
            }
        )
    }
}

/// The paths that are removed when the cell has ended: all that [`Plan::new`] puts below the run folder.
pub fn ephemeral(run: &Path) -> impl Iterator<Item = PathBuf> {
    let folders = EDGES.iter().map(|edge| edge.folder).chain([
        "pids",
        "started",
        "notify",
        "credentials",
        "handover",
        BROKER_SECRETS,
    ]);
    folders.map(move |folder| run.join(folder))
}

/// The namespace's file (ip-netns(8)), if the cell has one.
pub fn netns_path(place: &Place) -> Option<PathBuf> {
    match place {
        Place::Host => None,
        Place::Namespace(name) => Some(Path::new("/run/netns").join(name)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn folders_of_containers_are_there_where_there_can_be_some() {
        let with = settings(&Daemon::ALL);
        let without = Settings {
            without_containers: Some("no".to_owned()),
            ..settings(&Daemon::ALL)
        };
        let core = |settings: &Settings| {
            let plan = Plan::new(settings);
            let ours = plan
                .folders
                .into_iter()
                .filter(|folder| folder.path.starts_with("/srv/cell/lib/core"));
            ours.map(|folder| (folder.owner, folder.group, folder.mode))
                .collect::<Vec<_>>()
        };
        let expected = [
            ("root", "root", 0o755),
            ("cell-api", "cell-api", 0o755),
            ("20002", "cell-edge-caddy", 0o2750),
        ];
        assert_eq!(core(&with), expected);
        assert_eq!(core(&without), []);
    }

    fn settings(daemons: &[Daemon]) -> Settings {
        Settings {
            home: "/srv/cell".into(),
            bin: "/opt/cell".into(),
            catalog: None,
            without_containers: None,
            place: Place::Host,
            http: ([127, 0, 0, 1], 3000).into(),
            daemons: daemons.iter().copied().collect(),
            start_timeout: Duration::from_secs(30),
        }
    }

    #[test]
    fn every_socket_lies_in_a_folder_of_its_group() {
        let plan = Plan::new(&settings(&Daemon::ALL));
        let mut seen = 0;
        for listener in &plan.listeners {
            let Address::Unix { path, group, .. } = &listener.address else {
                continue;
            };
            let folder = plan
                .folders
                .iter()
                .find(|folder| Some(folder.path.as_path()) == path.parent());
            assert_eq!(
                folder.map(|folder| (folder.owner, folder.group, folder.mode)),
                Some(("root", *group, 0o750)),
                "{}",
                path.display()
            );
            seen += 1;
        }
        assert_eq!(seen, EDGES.len());
    }

    #[test]
    fn who_is_left_out_gets_nothing() {
        let plan = Plan::new(&settings(&[Daemon::Vaultd, Daemon::Netd, Daemon::Api]));
        let servers: BTreeSet<Daemon> = plan.listeners.iter().map(|listener| listener.server).collect();
        assert_eq!(servers, [Daemon::Vaultd, Daemon::Netd, Daemon::Api].into());
        assert_eq!(plan.processes.len(), 3);
        assert!(!plan.folders.iter().any(|folder| folder.owner == "cell-broker"));
    }

    #[test]
    fn no_folder_is_made_twice_and_parents_come_first() {
        let plan = Plan::new(&settings(&Daemon::ALL));
        let mut made = BTreeSet::new();
        for folder in &plan.folders {
            let parent = folder.path.parent().map(Path::to_owned);
            assert!(
                made.is_empty() || parent.is_some_and(|parent| made.contains(&parent)),
                "{folder:?}"
            );
            assert!(made.insert(folder.path.clone()), "{folder:?}");
        }
    }

    #[test]
    fn all_that_ends_with_the_cell_is_removed_with_it() {
        let settings = settings(&Daemon::ALL);
        let removed: Vec<PathBuf> = ephemeral(&settings.run()).collect();
        let run = settings.run();
        for folder in Plan::new(&settings)
            .folders
            .iter()
            .filter(|folder| folder.path.parent() == Some(&run))
        {
            assert!(removed.contains(&folder.path), "{}", folder.path.display());
        }
    }

    #[test]
    fn the_plan_can_be_read() {
        let text = Plan::new(&settings(&Daemon::ALL)).to_string();
        for line in [
            "folder   0750 root:cell-edge-keys /srv/cell/run/keys",
            "listener vpn of cell-api: tcp [fd43:454c:4c00::1]:3443, in the cell's network",
            "listener nft of cell-netd: netlink netfilter, in the cell's network",
            "listener netd of cell-vaultd: 0660 root:cell-edge-keys /srv/cell/run/keys/vault.sock",
            "process  /opt/cell/cell-netd as cell-netd, groups cell-edge-keys,cell-edge-wg,cell-edge-iptables, \
             capabilities CAP_NET_ADMIN, network the cell's",
            "process  /opt/cell/cell-api as cell-api, groups \
             cell-edge-netd,cell-edge-egress,cell-edge-openvpn,cell-edge-broker,cell-edge-vault,cell-edge-caddy, capabilities none, network empty",
            "process  /opt/cell/cell-egress as cell-egress, groups cell-edge-exit-keys,cell-edge-marks, capabilities none, network the cell's",
            "process  /opt/cell/cell-openvpn as cell-openvpn, groups cell-edge-openvpn-keys,cell-edge-programs, \
             capabilities none, network the cell's",
            "process  /opt/cell/cell-iptables as cell-iptables, groups none, \
             capabilities CAP_NET_ADMIN,CAP_NET_RAW, network the cell's",
            "process  /usr/bin/tor as cell-tor, groups none, capabilities none, network the cell's",
            "policy   0644 root:root /srv/cell/etc/torrc (kept if it is there)",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
