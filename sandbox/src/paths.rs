//! Landlock: nothing of the file system but the listed paths, no program to run but the listed ones, no TCP but what a profile asks for, no
//! signal to anybody else.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, PathFdError,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    make_bitflags,
};

/// The newest interface that the rules were written for. The crate leaves out what the running kernel lacks.
const NEWEST: ABI = ABI::V9;

/// What may be done at and below a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Read files, list folders.
    Read,
    /// Also write, make, rename and remove regular files and folders. No devices, sockets, pipes or links.
    ReadWrite,
    /// Read, write and control a device file.
    Device,
    /// Read and start a program.
    Execute,
    /// Connect to the sockets in the folder (Linux 7.1; before, the file's mode alone decides).
    Connect,
}

impl Use {
    fn rights(self) -> BitFlags<AccessFs> {
        match self {
            Use::Read => make_bitflags!(AccessFs::{ReadFile | ReadDir}),
            Use::ReadWrite => make_bitflags!(AccessFs::{
                ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
            }),
            Use::Device => make_bitflags!(AccessFs::{ReadFile | WriteFile | IoctlDev}),
            Use::Execute => make_bitflags!(AccessFs::{ReadFile | Execute}),
            Use::Connect => AccessFs::ResolveUnix.into(),
        }
    }
}

/// One listed path.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) path: PathBuf,
    pub(crate) usage: Use,
    pub(crate) optional: bool,
}

/// What may be done with TCP sockets of the process's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tcp {
    /// Ports that may be bound.
    pub(crate) bind: Option<RangeInclusive<u16>>,
    /// Whether connect(2) leads anywhere. Landlock knows ports and no addresses, and a server may have any port.
    pub(crate) connect: bool,
}

/// Why the rules are not in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PathsError {
    /// A path that must be there is not.
    #[error("{}", path.display())]
    Path {
        /// As listed.
        path: PathBuf,
        /// Why it cannot be opened.
        #[source]
        source: PathFdError,
    },
    /// The kernel offers Landlock and refused.
    #[error(transparent)]
    Ruleset(#[from] RulesetError),
}

/// What came into force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restricted {
    /// The version of Landlock in force; `None`: the kernel has none.
    pub(crate) abi: Option<i32>,
    /// Whether every right that the rules name is held.
    pub(crate) full: bool,
}

/// Restricts this thread and all that it will start. The caller makes sure that there is no other.
pub(crate) fn restrict(rules: &[Rule], tcp: &Tcp) -> Result<Restricted, PathsError> {
    let held = if tcp.connect {
        AccessNet::BindTcp.into()
    } else {
        AccessNet::BindTcp | AccessNet::ConnectTcp
    };
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(held)?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for (path, (rights, optional)) in merged(rules) {
        let opened = match PathFd::new(path) {
            Ok(opened) => opened,
            Err(_) if optional && !path.exists() => continue,
            Err(source) => {
                return Err(PathsError::Path {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        // The kernel refuses rights that only a folder can have on anything else.
        let rights = if path.is_dir() {
            rights
        } else {
            rights & AccessFs::from_file(NEWEST)
        };
        ruleset = ruleset.add_rule(PathBeneath::new(opened, rights))?;
    }
    for port in tcp.bind.iter().cloned().flatten() {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::BindTcp))?;
    }
    Ok(Restricted::from(ruleset.restrict_self()?))
}

/// One entry a path, with all that was asked for it; optional only if every asker said so.
fn merged(rules: &[Rule]) -> BTreeMap<&Path, (BitFlags<AccessFs>, bool)> {
    let mut merged = BTreeMap::new();
    for rule in rules {
        let (rights, optional) = merged
            .entry(rule.path.as_path())
            .or_insert((BitFlags::EMPTY, true));
        *rights |= rule.usage.rights();
        *optional &= rule.optional;
    }
    merged
}

impl From<RestrictionStatus> for Restricted {
    fn from(status: RestrictionStatus) -> Self {
        let abi = match status.landlock {
            LandlockStatus::Available {
                effective_abi,
                kernel_abi,
            } => Some(kernel_abi.unwrap_or(effective_abi as i32)),
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
        };
        Restricted {
            abi,
            full: status.ruleset == RulesetStatus::FullyEnforced,
        }
    }
}

impl Restricted {
    /// What the running kernel's Landlock cannot hold, with the release that brought it.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let brought = [
            (1, "Landlock (Linux 5.13)"),
            (2, "Landlock: linking across folders (Linux 5.19)"),
            (3, "Landlock: truncation (Linux 6.2)"),
            (4, "Landlock: TCP (Linux 6.7)"),
            (5, "Landlock: device control (Linux 6.10)"),
            (6, "Landlock: abstract sockets and signals (Linux 6.12)"),
            (9, "Landlock: path sockets (Linux 7.1)"),
        ];
        let abi = self.abi.unwrap_or(0);
        brought
            .into_iter()
            .filter(|(since, _)| abi < *since)
            .map(|(_, what)| what)
            .collect()
    }
}
