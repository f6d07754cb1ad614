//! A TUN node that everybody may open, as udev makes it; the machine's may be root's alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// Makes the node in `folder`, if it is not there.
///
/// # Errors
/// As mknod(2), which takes `CAP_MKNOD`.
pub fn node(folder: &Path) -> Result<PathBuf> {
    let node = folder.join("tun");
    if !node.exists() {
        // Documentation/admin-guide/devices.txt: character device 10, 200.
        mknod(&node, SFlag::S_IFCHR, Mode::empty(), makedev(10, 200))?;
        fs::set_permissions(&node, fs::Permissions::from_mode(0o666))?;
    }
    Ok(node)
}

/// The same command, started where this node is `/dev/net/tun`, in a mount namespace of its own.
///
/// # Errors
/// As [`node`].
pub fn with_node(command: &Command, folder: &Path) -> Result<Command> {
    let script = "mount --bind \"$0\" /dev/net/tun && exec \"$@\"";
    let mut wrapped = Command::new("unshare");
    wrapped
        .args(["--mount", "bash", "-c", script])
        .arg(node(folder)?)
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    Ok(wrapped)
}
