//! With which rights an attempt is made.

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cell_sandbox::profiles;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::target::{Target, attacker};

/// The three stances of each check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance {
    /// root: the control.
    Root,
    /// The user `cell-api` with its groups, nothing else.
    Plain,
    /// As `cell-api` itself: what the launcher or the unit leaves it, and inside the profile that it enters.
    Sandboxed,
}

impl fmt::Display for Stance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stance::Root => "root",
            Stance::Plain => "plain",
            Stance::Sandboxed => "sandboxed",
        })
    }
}

/// Becomes the user `cell-api`, for good.
///
/// # Errors
/// When this is not root, or there is no such user.
pub fn become_attacker() -> Result<()> {
    attacker()?.assume(&[]).context("assume")
}

/// Enters the profile of `cell-api`, for good.
///
/// # Errors
/// When a step fails; nothing may be attempted then.
pub fn enter_profile(target: &Target) -> Result<()> {
    let sockets = target.api_sockets();
    let sockets: Vec<_> = sockets.iter().map(AsRef::as_ref).collect();
    let report = profiles::api(
        &target.state("api"),
        Path::new("/usr/share/cell/catalog"),
        &sockets,
    )
    .enter()
    .context("enter")?;
    ensure!(report.seccomp && report.landlock_abi.is_some(), "{report}");
    Ok(())
}

/// Gives this process a network, mounts and a host name of its own, so that the control harms nothing of the machine's.
///
/// # Errors
/// When it is not root.
pub fn own_namespaces() -> Result<()> {
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC,
    )
    .context("the red team needs root")?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .context("mount")?;
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .context("ip")?;
    ensure!(up.success(), "ip link set lo up: {up}");
    Ok(())
}
