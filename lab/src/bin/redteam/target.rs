//! The running cell as the attacker would find it: paths, process ids, and the user to be.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use cell_lab::cell::program;
use cell_lab::process::run;
use cell_sandbox::identity::Identity;
use nix::mount::{MsFlags, mount};
use nix::unistd::{User, getgrouplist};
use serde::{Deserialize, Serialize};

/// Whose process the attacker has taken over.
const ATTACKER: &str = "cell-api";
/// All processes of a cell.
const DAEMONS: [&str; 8] = [
    "vaultd", "netd", "iptables", "egress", "openvpn", "broker", "wg", "api",
];

/// What is attacked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    /// CELL_HOME; under the units the folder of nothing.
    pub home: PathBuf,
    /// Where the policy files are.
    pub etc: PathBuf,
    /// Where the daemons' programs are.
    pub programs: PathBuf,
    /// Where each process has its state, in a folder with its name.
    pub lib: PathBuf,
    /// Where the sockets are.
    pub run: PathBuf,
    /// The key-encryption key in the clear.
    pub kek: PathBuf,
    /// The folder of the credentials of vaultd.
    pub credentials: PathBuf,
    /// Docker's socket, as the broker's policy names it.
    pub docker: PathBuf,
    /// Process ids of the daemons that run, by name.
    pub pids: BTreeMap<String, i32>,
    /// The file that holds the root's key, sealed, if there is one.
    pub root_key: Option<PathBuf>,
    /// Folders that the broker may give to containers, where its ceiling is the red team's.
    pub stage: Option<PathBuf>,
}

impl Target {
    /// Reads what root can see of the cell at `home`, which the launcher started.
    ///
    /// # Errors
    /// When there is no such cell, or the user `cell-api` does not exist.
    pub fn look(home: &Path) -> Result<Self> {
        attacker()?;
        let home = fs::canonicalize(home).with_context(|| format!("no cell at {}", home.display()))?;
        let lib = home.join("lib");
        Ok(Target {
            etc: home.join("etc"),
            programs: program("cell-api")?
                .parent()
                .context("it lies in a folder")?
                .to_owned(),
            run: home.join("run"),
            kek: home.join("etc/vault.kek"),
            credentials: home.join("run/credentials/vaultd"),
            docker: docker_socket(&home.join("etc/broker.toml")),
            pids: pids(&home.join("run/pids")),
            root_key: root_key(&lib.join("vaultd/vault")),
            stage: None,
            lib,
            home,
        })
    }

    /// Reads what root can see of the cell of the installed package, which its units started.
    ///
    /// # Errors
    /// When systemctl(1) fails, or the user `cell-api` does not exist.
    pub fn of_units() -> Result<Self> {
        attacker()?;
        let (etc, lib) = (PathBuf::from("/etc/cell"), PathBuf::from("/var/lib/cell"));
        let credentials = PathBuf::from("/run/credentials/cell-vaultd.service");
        let mut pids = BTreeMap::new();
        for name in DAEMONS {
            let unit = format!("cell-{name}.service");
            let pid = run(Command::new("systemctl").args(["show", "--value", "--property=MainPID", &unit]))?;
            pids.extend(
                pid.trim()
                    .parse()
                    .ok()
                    .filter(|pid| *pid > 0)
                    .map(|pid| (name.to_owned(), pid)),
            );
        }
        Ok(Target {
            home: lib.clone(),
            programs: "/usr/lib/cell".into(),
            run: "/run/cell".into(),
            kek: credentials.join("kek"),
            docker: docker_socket(&etc.join("broker.toml")),
            root_key: root_key(&lib.join("vaultd/vault")),
            stage: None,
            pids,
            credentials,
            etc,
            lib,
        })
    }

    /// State folder of a process.
    pub fn state(&self, process: &str) -> PathBuf {
        self.lib.join(process)
    }

    /// A file of vaultd's vault.
    pub fn vault(&self, file: &str) -> PathBuf {
        self.state("vaultd").join("vault").join(file)
    }

    /// A socket below the run folder.
    pub fn socket(&self, path: &str) -> PathBuf {
        self.run.join(path)
    }

    /// The sockets that `cell-api` is meant to call.
    pub fn api_sockets(&self) -> [PathBuf; 5] {
        [
            "netd/netd.sock",
            "egress/egress.sock",
            "openvpn/openvpn.sock",
            "broker/broker.sock",
            "vault/vault.sock",
        ]
        .map(|path| self.socket(path))
    }
}

/// Who the attacker is: the user `cell-api` with all its groups.
///
/// # Errors
/// When there is no such user.
pub fn attacker() -> Result<Identity> {
    let user = User::from_name(ATTACKER)?
        .with_context(|| format!("no user {ATTACKER}: run `make users` (systemd-sysusers)"))?;
    let groups = getgrouplist(&CString::new(ATTACKER)?, user.gid)?;
    Ok(Identity {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
    })
}

/// One file per process, named after it, that holds its id.
fn pids(folder: &Path) -> BTreeMap<String, i32> {
    let pid = |name: &str| {
        let written = [name.to_owned(), format!("cell-{name}")];
        let text = written
            .iter()
            .find_map(|file| fs::read_to_string(folder.join(file)).ok())?;
        text.trim().parse().ok()
    };
    DAEMONS
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), pid(name)?)))
        .collect()
}

/// The newest file of the root's key (vaultd's store: NAME.VERSION.sealed).
fn root_key(vault: &Path) -> Option<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(vault)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with("ca-root.") && name.ends_with(".sealed"))
        })
        .collect();
    files.sort();
    files.pop()
}

/// Docker's socket in a broker's policy; where the policy does not tell, the shipped one's.
fn docker_socket(policy: &Path) -> PathBuf {
    let text = fs::read_to_string(policy).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("docker_socket = \"")?.strip_suffix('"'))
        .unwrap_or("/run/docker.sock")
        .into()
}

/// Services of the machine that have nothing to do with the cell, for the attacker to reach: made in the control's
/// network namespace before the stance is taken.
pub struct Neighbour {
    _tcp: TcpListener,
    _udp: UdpSocket,
    _local: UnixListener,
    /// Stands for the system bus, where there is none.
    _bus: Option<UnixListener>,
}

impl Neighbour {
    /// Listens.
    ///
    /// # Errors
    /// As bind(2).
    pub fn listen() -> Result<Self> {
        let name = UnixAddr::from_abstract_name(Self::name())?;
        Ok(Neighbour {
            _tcp: TcpListener::bind(Self::TCP)?,
            _udp: UdpSocket::bind(Self::UDP)?,
            _local: UnixListener::bind_addr(&name)?,
            _bus: bus()?,
        })
    }

    /// Address of its TCP service.
    pub const TCP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9999);
    /// Address of its UDP service.
    pub const UDP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9998);

    /// Path of the system bus.
    pub const BUS: &str = "/run/dbus/system_bus_socket";

    /// Abstract name of its local service.
    pub fn name() -> &'static str {
        "cell-redteam-neighbour"
    }
}

/// Whether somebody listens there is all that an attempt can see of a bus. In a mount namespace of this process's own, over
/// the folder that is the bus's on every machine that has one.
fn bus() -> Result<Option<UnixListener>> {
    let path = Path::new(Neighbour::BUS);
    if UnixStream::connect(path).is_ok() {
        return Ok(None);
    }
    let folder = path.parent().context("it lies in a folder")?;
    fs::create_dir_all(folder)?;
    mount(
        Some("tmpfs"),
        folder,
        Some("tmpfs"),
        MsFlags::MS_NOSUID,
        Some("mode=0755,size=4k"),
    )
    .context("a folder for the stand-in of the system bus")?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(Some(listener))
}
