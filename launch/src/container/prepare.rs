//! What is made once, by root of the machine through `compose/host.sh`: everything below the home that no daemon may make.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::accounts::Accounts;
use crate::error::Error;
use crate::files;
use crate::host::{Change, Changes};
use crate::house::Daemon;
use crate::options::PrepareOptions;
use crate::plan::{Folder, Plan, Policy};
use crate::preflight;
use crate::settings::Settings;

/// Who uses TUNs: netd makes them, OpenVPN attaches to those that netd made for its user.
const TUNS: [Daemon; 2] = [Daemon::Netd, Daemon::Openvpn];

/// Makes folders, policies, keys and devices, and corrects owners and modes of those that are there. Policies stay as they are.
///
/// # Errors
/// At the first that cannot be made; again it goes on from there.
pub(super) fn run(options: &PrepareOptions) -> Result<(), Error> {
    preflight::require_root()?;
    let settings = super::settings(&options.home, super::HTTP)?;
    let accounts = Accounts::look_up()?;
    let plan = Plan::new(&settings);
    let _lock = files::lock(&settings.home)?;
    // Before netd can change anything, so that clean-host knows.
    let mut changes = Changes::read(&settings.home)?;
    changes.add(Change::UsedHost);
    changes.write(&settings.home)?;
    files::make_folders(&plan.folders, &accounts)?;
    files::make_folders(&folders(&settings), &accounts)?;
    files::write_policies(&policies(&settings, plan.policies.clone()))?;
    if let Some(port) = options.wireguard_port {
        files::set_wireguard_port(&plan, port.get())?;
    }
    files::hand_out_kek(&settings, &accounts)?;
    for daemon in TUNS {
        let path = super::tun(&settings, daemon);
        make_tun(&path, accounts.group(daemon.user())?.as_raw())
            .map_err(Error::file("cannot be made", &path))?;
    }
    println!(
        "==> {} is ready for a cell in containers",
        settings.home.display()
    );
    Ok(())
}

/// The list of images lies in a folder of its own: what is replaced by a rename is seen through a mounted folder, not through a
/// mounted file, and `etc` has what no daemon is shown.
fn policies(settings: &Settings, policies: Vec<Policy>) -> Vec<Policy> {
    let list = |folder| {
        settings
            .home
            .join(folder)
            .join("images.toml")
            .display()
            .to_string()
    };
    let (shipped, ours) = (list("etc"), list("lib/images"));
    let moved = |policy: Policy| Policy {
        text: policy
            .text
            .replace(&format!("\"{shipped}\""), &format!("\"{ours}\"")),
        ..policy
    };
    policies.into_iter().map(moved).collect()
}

/// Those that a cell has only in containers.
fn folders(settings: &Settings) -> Vec<Folder> {
    let folder = |path: PathBuf, group, mode| Folder {
        path,
        owner: "root",
        group,
        mode,
    };
    let handover = settings.run().join("handover");
    let mut folders = vec![
        folder(settings.home.join("dev"), "root", 0o755),
        folder(settings.home.join("lib/images"), "root", 0o755),
        folder(handover, "root", 0o755),
    ];
    folders.extend(
        Daemon::ALL.map(|daemon| folder(super::handover_folder(settings, daemon), daemon.user(), 0o750)),
    );
    folders
}

/// Documentation/admin-guide/devices.txt: character device 10, 200; root's, and its user's by the group.
fn make_tun(path: &Path, gid: u32) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_char_device() => {}
        Ok(_) => return Err(io::Error::other("something else is there")),
        Err(_) => mknod(
            path,
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o600),
            makedev(10, 200),
        )?,
    }
    chown(path, Some(0), Some(gid))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_brokers_list_of_images_is_in_a_folder_that_it_can_be_given() {
        let settings = super::super::settings(Path::new("/srv/cell"), super::super::HTTP).unwrap();
        let policies = policies(&settings, Plan::new(&settings).policies);
        let broker = policies
            .iter()
            .find(|policy| policy.path.ends_with("broker.toml"))
            .unwrap();
        let broker: toml::Table = broker.text.parse().unwrap();
        assert_eq!(
            broker["deploy"]["local_images"].as_str(),
            Some("/srv/cell/lib/images/images.toml")
        );
        let made = folders(&settings)
            .into_iter()
            .any(|folder| folder.path.ends_with("lib/images"));
        assert!(made);
    }

    #[test]
    fn each_daemon_gets_its_listeners_in_a_folder_that_nobody_else_enters() {
        let settings = super::super::settings(Path::new("/srv/cell"), super::super::HTTP).unwrap();
        let folders = folders(&settings);
        for daemon in Daemon::ALL {
            let socket = super::super::handover(&settings, daemon);
            let folder = folders
                .iter()
                .find(|folder| Some(folder.path.as_path()) == socket.parent());
            let folder = folder.unwrap();
            assert_eq!(
                (folder.owner, folder.group, folder.mode),
                ("root", daemon.user(), 0o750)
            );
        }
    }
}
