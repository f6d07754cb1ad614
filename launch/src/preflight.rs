//! What is looked at before anything is made: facts of the machine, and faults that a person can mend, all at once.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::error::Error;
use crate::house::{self, Daemon};
use crate::network;
use crate::plan::{self, Plan};
use crate::policy::Owned;
use crate::ports;
use crate::settings::{Facts, Settings, absolute};

const TUN: &str = "/dev/net/tun";

/// Only root may do any of this.
///
/// # Errors
/// For everybody else.
pub fn require_root() -> Result<(), Error> {
    if geteuid().is_root() {
        return Ok(());
    }
    Err(Error::fault(
        "a cell is started by root: its daemons run as users of their own; try sudo",
    ))
}

/// Finds the facts out.
///
/// # Errors
/// When the working folder or this program cannot be found.
pub fn facts(home: &Path) -> Result<Facts, Error> {
    let cwd = env::current_dir().map_err(Error::call("the working folder"))?;
    let own = env::current_exe().map_err(Error::call("finding this program"))?;
    let own_bin = own.parent().unwrap_or(&cwd).to_owned();
    let mut facts = Facts {
        catalog: catalog(&own_bin),
        not_roots: None,
        own_bin,
        cwd,
        kernel_wireguard: network::kernel_has_wireguard(),
        tor: program_fault(Path::new(house::TOR)).is_none(),
        backend: None,
        renderer: None,
        foreign: foreign(),
    };
    let home = absolute(&facts, home);
    facts.not_roots = not_roots(&home);
    let policy = home.join("etc/netd.toml");
    let policy = fs::read_to_string(policy).ok();
    facts.backend = policy.as_deref().and_then(|text| word(text, "backend"));
    facts.renderer = policy.as_deref().and_then(|text| word(text, "renderer"));
    Ok(facts)
}

/// The topmost folder above `home` that is not root's, or that others may write; what is absent the launcher makes.
fn not_roots(home: &Path) -> Option<PathBuf> {
    let mut above: Vec<&Path> = home.ancestors().skip(1).collect();
    above.reverse();
    let others = |folder: &&Path| {
        fs::metadata(folder).is_ok_and(|found| found.uid() != 0 || found.mode() & 0o022 != 0)
    };
    above.into_iter().find(others).map(Path::to_owned)
}

/// Cargo puts programs into `target/PROFILE` of the checkout.
fn catalog(own_bin: &Path) -> Option<PathBuf> {
    let checkout = own_bin.parent()?.parent()?;
    let catalog = checkout.join("compose/catalog");
    catalog.join("index.json").is_file().then_some(catalog)
}

fn word(policy: &str, key: &str) -> Option<String> {
    let table: toml::Table = policy.parse().ok()?;
    Some(table.get(key)?.as_str()?.to_owned())
}

/// Why the kernel seems not to be the user's own.
fn foreign() -> Option<&'static str> {
    let set =
        |name| env::var_os(name).is_some_and(|value| !value.is_empty() && value != "false" && value != "0");
    let exists = |path: &str| Path::new(path).exists();
    if set("CI") {
        return Some("CI");
    }
    // The first is systemd's own word (its container interface), the others those of Docker and Podman.
    let marked = ["/run/systemd/container", "/.dockerenv", "/run/.containerenv"]
        .into_iter()
        .any(exists);
    (set("container") || marked).then_some("a container")
}

/// What cell-iptables starts, with Debian's packages.
const LEGACY_PROGRAMS: [(&str, &str); 2] = [
    ("/usr/sbin/xtables-legacy-multi", "iptables"),
    ("/usr/sbin/ipset", "ipset"),
];

/// Looks at everything that the plan needs and that is not the launcher's to make.
///
/// # Errors
/// All faults at once.
pub fn check(plan: &Plan) -> Result<(), Error> {
    let mut faults: Vec<String> = plan
        .processes
        .iter()
        .filter_map(|process| program_fault(&process.program))
        .collect();
    let userspace = plan.processes.iter().any(|process| process.daemon == Daemon::Wg);
    let tun = fs::metadata(TUN).is_ok_and(|found| found.file_type().is_char_device());
    if userspace && !tun {
        faults.push(format!(
            "{TUN} is missing, and userspace WireGuard needs it: modprobe tun"
        ));
    }
    if plan
        .processes
        .iter()
        .any(|process| process.daemon == Daemon::Iptables)
    {
        faults.extend(LEGACY_PROGRAMS.into_iter().filter_map(|(program, package)| {
            let missing = !Path::new(program).is_file();
            missing.then(|| format!("{program} is missing, and netd.toml has renderer = \"iptables\": apt-get install {package}"))
        }));
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Error::Faults(faults))
    }
}

fn program_fault(program: &Path) -> Option<String> {
    match fs::metadata(program) {
        Err(_) => Some(format!(
            "{} is missing: build it (make build), or say where it is with --bin",
            program.display()
        )),
        Ok(found) if !found.is_file() || found.mode() & 0o005 != 0o005 => Some(format!(
            "{} cannot be run by others: chmod 755 it",
            program.display()
        )),
        Ok(_) => None,
    }
}

/// What netd of the cell in `home` owns, by its policy there; by the shipped one where there is none yet.
///
/// # Errors
/// When the policy cannot be read or understood.
pub fn owned(home: &Path) -> Result<Owned, Error> {
    let path = home.join("etc/netd.toml");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Daemon::Netd.shipped_policy().to_owned()
        }
        read => read.map_err(Error::file("cannot be read", &path))?,
    };
    Owned::parse(&text).map_err(|error| Error::fault(format!("{}: {}", path.display(), error.message())))
}

/// Whether WireGuard's port is free in the cell's network, or held by the cell's own link from before.
///
/// # Errors
/// With who holds it.
pub fn check_wireguard_port(settings: &Settings, port: u16) -> Result<(), Error> {
    let netns = plan::netns_path(&settings.place);
    let links = owned(&settings.home)?.interfaces;
    if links.iter().any(|link| network::has_link(netns.as_deref(), link)) {
        return Ok(());
    }
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let fault = network::inside(netns.as_deref(), || match UdpSocket::bind(address) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let holder = ports::holder(Path::new("/proc/thread-self/net/udp"), address);
            let by = holder.map(|holder| format!(" by {holder}")).unwrap_or_default();
            Some(format!(
                "UDP port {port} is in use{by}: choose another with --wireguard-port (CELL_WIREGUARD_PORT)"
            ))
        }
        _ => None,
    })?;
    fault.map_or(Ok(()), |line| Err(Error::fault(line)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_backend_is_read_from_the_policy() {
        assert_eq!(
            word("backend = \"userspace\"\n", "backend").as_deref(),
            Some("userspace")
        );
        assert_eq!(word("backend = 3", "backend"), None);
        assert_eq!(word("not toml", "backend"), None);
    }

    #[test]
    fn a_folder_that_others_may_change_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("absent/home");
        // /tmp is everybody's.
        assert_eq!(not_roots(&home).as_deref(), dir.path().parent());
        assert_eq!(not_roots(Path::new("/usr/lib/absent/home")), None);
    }

    #[test]
    fn a_missing_program_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("cell-api");
        assert!(program_fault(&program).unwrap().contains("is missing"));
        fs::write(&program, "").unwrap();
        assert!(program_fault(&program).unwrap().contains("chmod 755"));
    }
}
