//! The running cell as the attacker would find it: paths, process ids, and the user to be.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cell_sandbox::identity::Identity;
use nix::unistd::{User, getgrouplist};

/// Whose process the attacker has taken over.
const ATTACKER: &str = "cell-api";
/// All processes of a cell.
const DAEMONS: [&str; 5] = ["vaultd", "netd", "broker", "wg", "api"];

/// What is attacked.
pub struct Target {
    /// CELL_HOME.
    pub home: PathBuf,
    /// The user `cell-api`.
    pub attacker: Identity,
    /// Process ids of the daemons that run, by name.
    pub pids: BTreeMap<&'static str, i32>,
    /// A file with vaultd's secrets, if there is one.
    pub secret: Option<PathBuf>,
}

impl Target {
    /// Reads what root can see of the cell at `home`.
    ///
    /// # Errors
    /// When there is no such cell, or the user `cell-api` does not exist.
    pub fn look(home: &Path) -> Result<Self> {
        let home = fs::canonicalize(home).with_context(|| format!("no cell at {}", home.display()))?;
        let target = Target {
            attacker: attacker()?,
            pids: pids(&home.join("run/pids")),
            secret: None,
            home,
        };
        Ok(Target {
            secret: first_file(&target.state("vaultd")),
            ..target
        })
    }

    /// State folder of a process.
    pub fn state(&self, process: &str) -> PathBuf {
        self.home.join("lib").join(process)
    }

    /// A socket below the run folder.
    pub fn socket(&self, path: &str) -> PathBuf {
        self.home.join("run").join(path)
    }

    /// The sockets that `cell-api` is meant to call.
    pub fn api_sockets(&self) -> [PathBuf; 3] {
        ["netd/netd.sock", "broker/broker.sock", "vault/vault.sock"].map(|path| self.socket(path))
    }
}

fn attacker() -> Result<Identity> {
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
fn pids(folder: &Path) -> BTreeMap<&'static str, i32> {
    let pid = |name: &str| {
        let written = [name.to_owned(), format!("cell-{name}")];
        let text = written
            .iter()
            .find_map(|file| fs::read_to_string(folder.join(file)).ok())?;
        text.trim().parse().ok()
    };
    DAEMONS
        .into_iter()
        .filter_map(|name| Some((name, pid(name)?)))
        .collect()
}

/// The first regular file in `folder`.
fn first_file(folder: &Path) -> Option<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files.into_iter().find(|path| path.is_file())
}

/// Services of the machine that have nothing to do with the cell, for the attacker to reach: made in the control's
/// network namespace before the stance is taken.
pub struct Neighbour {
    _tcp: TcpListener,
    _udp: UdpSocket,
    _local: UnixListener,
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
        })
    }

    /// Address of its TCP service.
    pub const TCP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9999);
    /// Address of its UDP service.
    pub const UDP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9998);

    /// Abstract name of its local service.
    pub fn name() -> &'static str {
        "cell-redteam-neighbour"
    }
}
