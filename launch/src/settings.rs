//! Options and facts of the machine, made into settings that cannot contradict each other.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::house::Daemon;
use crate::options::{Optional, RunOptions};

/// The namespace that is made where the machine is not the user's own.
pub const DEFAULT_NETNS: &str = "cell";

/// What one start rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Absolute path of the folder that holds everything.
    pub home: PathBuf,
    /// Absolute path of the programs.
    pub bin: PathBuf,
    /// The catalog of services of the checkout, if the programs were built in one; else it is the package's.
    pub catalog: Option<PathBuf>,
    /// Why this cell can have no containers, where it cannot.
    pub without_containers: Option<String>,
    /// Where the cell's network is.
    pub place: Place,
    /// Address of plain HTTP.
    pub http: SocketAddr,
    /// Who is started.
    pub daemons: BTreeSet<Daemon>,
    /// How long a daemon may take until it serves.
    pub start_timeout: Duration,
}

/// The network that the cell changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The machine's own.
    Host,
    /// A named namespace (ip-netns(8)).
    Namespace(String),
}

/// What was found out about the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Where the command was given; for relative paths.
    pub cwd: PathBuf,
    /// The folder of this program.
    pub own_bin: PathBuf,
    /// The catalog of the checkout that this program was built in, if it is in one.
    pub catalog: Option<PathBuf>,
    /// The first folder above the home that somebody beside root may change.
    pub not_roots: Option<PathBuf>,
    /// Whether the kernel makes WireGuard links.
    pub kernel_wireguard: bool,
    /// Whether Tor is installed.
    pub tor: bool,
    /// `backend` of an existing netd.toml.
    pub backend: Option<String>,
    /// `renderer` of an existing netd.toml.
    pub renderer: Option<String>,
    /// Why the machine is not the user's own, if it seems so: "a container", "CI".
    pub foreign: Option<&'static str>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Host => f.write_str("the host's own network"),
            Place::Namespace(name) => write!(f, "network namespace {name}"),
        }
    }
}

impl Settings {
    /// Decides everything that the options leave open, and answers why the place was chosen if it was not given.
    ///
    /// # Errors
    /// All faults of the options at once.
    pub fn resolve(options: &RunOptions, facts: &Facts) -> Result<(Settings, Option<String>), Vec<String>> {
        let mut faults: Vec<String> = http_faults(options.http).collect();
        let (place, why) = place(options, facts);
        if let Place::Namespace(name) = &place {
            faults.extend(netns_fault(name));
        }
        let home = absolute(facts, &options.home);
        faults.extend(home_fault(&home));
        if !faults.is_empty() {
            return Err(faults);
        }
        let settings = Settings {
            catalog: facts.catalog.clone(),
            without_containers: without_containers(&home, &place, facts.not_roots.as_deref()),
            home,
            bin: options
                .bin
                .as_ref()
                .map_or_else(|| facts.own_bin.clone(), |bin| absolute(facts, bin)),
            place,
            http: options.http,
            daemons: daemons(options, facts),
            start_timeout: Duration::from_secs(options.start_timeout.get().into()),
        };
        Ok((settings, why))
    }

    /// Those of a cell whose daemons run in containers on the machine's own network, this program being in an image with `bin`. What
    /// lies above the home on the machine cannot be seen from there; `compose/host.sh` looks at it.
    ///
    /// # Errors
    /// All faults at once.
    pub fn contained(home: &Path, bin: PathBuf, http: SocketAddr) -> Result<Settings, Vec<String>> {
        let mut faults: Vec<String> = http_faults(http).collect();
        if !home.is_absolute() {
            faults.push(format!("--home {}: give a path from the root on", home.display()));
        }
        faults.extend(home_fault(home));
        faults.extend(without_containers(home, &Place::Host, None));
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Settings {
            home: home.to_owned(),
            bin,
            // The image has it where the shipped policies look for it.
            catalog: None,
            without_containers: None,
            place: Place::Host,
            http,
            daemons: Daemon::ALL.into(),
            start_timeout: Duration::from_secs(30),
        })
    }

    /// The folder of sockets and other things that end with the cell.
    pub fn run(&self) -> PathBuf {
        self.home.join("run")
    }
}

/// Without `.` in it; only an absolute path is asked about, so the file system is not.
pub fn absolute(facts: &Facts, path: &Path) -> PathBuf {
    let joined = facts.cwd.join(path);
    std::path::absolute(&joined).unwrap_or(joined)
}

fn http_faults(http: SocketAddr) -> impl Iterator<Item = String> {
    let far = (!http.ip().is_loopback()).then(|| {
        format!("--http {http}: plain HTTP is for the machine itself; give a loopback address such as 127.0.0.1:3000")
    });
    let none = (http.port() == 0).then(|| "--http: port 0 is not a port".to_owned());
    far.into_iter().chain(none)
}

/// Folders of which the broker gives no container anything, nor of what lies below them.
const NEVER_GIVEN: [&str; 9] = [
    "/etc",
    "/run",
    "/var/run",
    "/var/lib/cell",
    "/var/lib/docker",
    "/boot",
    "/usr",
    "/root",
    "/lib",
];

/// Docker is the machine's, and so are its bridges: netd judges them where it is in the machine's own network alone.
fn without_containers(home: &Path, place: &Place, not_roots: Option<&Path>) -> Option<String> {
    const OTHER: &str = "choose another folder with --home (CELL_HOME), such as /srv/cell";
    let never = NEVER_GIVEN.into_iter().find(|never| home.starts_with(never));
    match (place, never, not_roots) {
        (Place::Namespace(_), _, _) => {
            Some("its network is not the machine's, where Docker has its bridges".to_owned())
        }
        (Place::Host, Some(never), _) => Some(format!("containers are given nothing below {never}: {OTHER}")),
        (Place::Host, None, Some(folder)) => Some(format!(
            "{} is not root's alone, and who may change it would decide what containers are given: {OTHER}",
            folder.display()
        )),
        (Place::Host, None, None) => None,
    }
}

/// The path goes into policy files and into socket addresses (`sun_path` holds 108 bytes, unix(7)).
fn home_fault(home: &Path) -> Option<String> {
    const LONGEST: usize = 107 - "/lib/core/caddy/admin.sock".len();
    let Some(text) = home.to_str() else {
        return Some(format!("--home {}: not UTF-8", home.display()));
    };
    if text.len() > LONGEST {
        return Some(format!(
            "--home {text}: longer than {LONGEST} bytes, and sockets lie below it"
        ));
    }
    let plain = text.chars().all(|c| !c.is_control() && c != '"' && c != '\\');
    (!plain).then(|| format!("--home {text:?}: no quotes, backslashes or control characters, please"))
}

fn place(options: &RunOptions, facts: &Facts) -> (Place, Option<String>) {
    if options.host {
        return (Place::Host, None);
    }
    if let Some(name) = options.netns.as_deref().filter(|name| !name.is_empty()) {
        return (Place::Namespace(name.to_owned()), None);
    }
    let why = match (facts.foreign, facts.kernel_wireguard) {
        (Some(what), _) => format!("this is {what}"),
        (None, false) => "this kernel has no WireGuard".to_owned(),
        (None, true) => return (Place::Host, None),
    };
    (Place::Namespace(DEFAULT_NETNS.to_owned()), Some(why))
}

/// A name becomes a file below /run/netns and an argument of ip(8).
fn netns_fault(name: &str) -> Option<String> {
    let good = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    (!good).then(|| {
        format!("--netns {name:?}: up to 64 letters, digits, '-', '_', '.', and no '.' or '-' first")
    })
}

fn daemons(options: &RunOptions, facts: &Facts) -> BTreeSet<Daemon> {
    let userspace = match facts.backend.as_deref() {
        Some("kernel") => false,
        Some("userspace") => true,
        _ => !facts.kernel_wireguard,
    };
    let left_out = |daemon: &Daemon| match daemon {
        Daemon::Wg => !userspace,
        Daemon::Iptables => facts.renderer.as_deref() != Some("iptables"),
        Daemon::Tor => !facts.tor || options.without.contains(&Optional::Tor),
        Daemon::Broker => options.without.contains(&Optional::Broker),
        Daemon::Vaultd | Daemon::Netd | Daemon::Openvpn | Daemon::Egress | Daemon::Api => false,
    };
    Daemon::ALL
        .into_iter()
        .filter(|daemon| !left_out(daemon))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use clap::Parser;

    use super::*;
    use crate::options::{Command, Options};

    fn options(arguments: &[&str]) -> RunOptions {
        let line = ["cell-launch", "run"].iter().chain(arguments);
        match Options::try_parse_from(line).unwrap().command {
            Command::Run(options) => options,
            other => panic!("{other:?}"),
        }
    }

    fn facts() -> Facts {
        Facts {
            cwd: "/src/cell".into(),
            own_bin: "/src/cell/target/release".into(),
            catalog: Some("/src/cell/compose/catalog".into()),
            not_roots: None,
            kernel_wireguard: true,
            tor: true,
            backend: None,
            renderer: None,
            foreign: None,
        }
    }

    fn resolve(arguments: &[&str], facts: &Facts) -> Settings {
        Settings::resolve(&options(arguments), facts).unwrap().0
    }

    #[test]
    fn a_home_machine_is_used_as_it_is() {
        let settings = resolve(&["--host"], &facts());
        assert_eq!(settings.place, Place::Host);
        assert!(!settings.daemons.contains(&Daemon::Wg));
        assert_eq!(settings.bin, PathBuf::from("/src/cell/target/release"));
        assert_eq!(settings.run(), PathBuf::from("/src/cell/var/run"));
    }

    #[test]
    fn a_foreign_machine_gets_a_namespace_and_is_told_why() {
        for (foreign, kernel_wireguard, reason) in [
            (Some("a container"), true, "a container"),
            (None, false, "no WireGuard"),
        ] {
            let facts = Facts {
                foreign,
                kernel_wireguard,
                ..facts()
            };
            let (settings, why) = Settings::resolve(&options(&["--netns", ""]), &facts).unwrap();
            assert_eq!(settings.place, Place::Namespace("cell".into()));
            assert!(why.unwrap().contains(reason));
            assert_eq!(settings.daemons.contains(&Daemon::Wg), !kernel_wireguard);
            assert_eq!(resolve(&["--host"], &facts).place, Place::Host, "--host decides");
        }
    }

    #[test]
    fn the_policy_decides_whether_wireguard_runs_in_a_process() {
        for (backend, kernel, runs) in [
            ("kernel", false, false),
            ("userspace", true, true),
            ("auto", false, true),
        ] {
            let facts = Facts {
                backend: Some(backend.into()),
                kernel_wireguard: kernel,
                ..facts()
            };
            assert_eq!(
                resolve(&["--host"], &facts).daemons.contains(&Daemon::Wg),
                runs,
                "{backend}"
            );
        }
    }

    #[test]
    fn containers_are_where_netd_sees_their_bridges_and_nothing_of_the_machine_is_given() {
        let why = |arguments: &[&str]| resolve(arguments, &facts()).without_containers;
        assert_eq!(why(&["--host"]), None);
        assert_eq!(why(&["--host", "--home", "/rooted/var"]), None);
        assert!(
            why(&["--host", "--home", "/root/var"])
                .unwrap()
                .contains("below /root")
        );
        assert!(why(&["--netns", "cell"]).unwrap().contains("bridges"));
        let of_a_user = Facts {
            not_roots: Some("/home/a".into()),
            ..facts()
        };
        let why = resolve(&["--host"], &of_a_user).without_containers.unwrap();
        assert!(why.contains("/home/a is not root's alone"), "{why}");
    }

    #[test]
    fn a_cell_in_containers_has_all_daemons_and_a_home_that_they_can_be_given() {
        let http = ([127, 0, 0, 1], 3000).into();
        let contained = |home: &str| Settings::contained(Path::new(home), "/usr/lib/cell".into(), http);
        let settings = contained("/srv/cell").unwrap();
        assert_eq!(settings.place, Place::Host);
        assert_eq!(settings.without_containers, None);
        assert_eq!(settings.daemons.len(), Daemon::ALL.len());
        assert_eq!(contained("srv/cell").unwrap_err().len(), 1);
        assert!(contained("/root/cell").unwrap_err()[0].contains("below /root"));
        let far = Settings::contained(Path::new("/srv/cell"), "/b".into(), ([10, 0, 0, 1], 0).into());
        assert_eq!(far.unwrap_err().len(), 2);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let faults = Settings::resolve(
            &options(&["--netns", "../x", "--http", "0.0.0.0:0", "--home", "a\"b"]),
            &facts(),
        )
        .unwrap_err();
        assert_eq!(faults.len(), 4, "{faults:?}");
    }

    #[test]
    fn tor_runs_where_it_is_installed_and_may_be_left_out() {
        let runs = |arguments: &[&str], tor| {
            let facts = Facts { tor, ..facts() };
            resolve(arguments, &facts).daemons.contains(&Daemon::Tor)
        };
        assert!(runs(&["--host"], true));
        assert!(!runs(&["--host"], false));
        assert!(!runs(&["--host", "--without", "broker,tor"], true));
    }

    #[test]
    fn the_broker_can_be_left_out() {
        assert!(
            !resolve(&["--host", "--without", "broker"], &facts())
                .daemons
                .contains(&Daemon::Broker)
        );
    }
}
