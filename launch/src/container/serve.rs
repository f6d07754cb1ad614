//! The first process of a daemon's container: it becomes the daemon's user, runs the daemon, starts it again when it dies, and collects
//! what the daemon leaves behind. When whoever holds the listeners ends, nobody would hear of those any more: the daemon is ended,
//! and started with the next ones.

use std::fs;
use std::os::fd::OwnedFd;

use nix::sys::prctl;
use nix::unistd::getuid;

use super::keeper::Keeper;
use crate::accounts::Accounts;
use crate::error::Error;
use crate::house::Daemon;
use crate::options::ServeOptions;
use crate::plan::{Plan, Process};
use crate::sockets;
use crate::supervisor::block_signals;

/// Runs the daemon until it is asked to end.
///
/// # Errors
/// When the container is not made for it, or nothing can be started.
pub(super) fn run(options: &ServeOptions) -> Result<(), Error> {
    let daemon = options.daemon;
    let settings = super::settings(&options.home, super::HTTP)?;
    let accounts = Accounts::look_up()?;
    let process = Plan::new(&settings)
        .processes
        .into_iter()
        .find(|process| process.daemon == daemon)
        .ok_or_else(|| Error::fault(format!("there is no process {}", daemon.user())))?;
    let process = Process {
        notify: super::NOTIFY.into(),
        ..process
    };
    let own = become_user(daemon, &accounts)?;
    block_signals()?;
    for path in [super::NOTIFY, super::SERVES] {
        // A container that is started again may have its memory's files still.
        let _ = fs::remove_file(path);
    }
    Keeper::new(process, super::handover(&settings, daemon), own, &accounts)?.keep()
}

/// The user of the daemon, with its capabilities and no others. Docker gives a container's user no capability, so those who have
/// some start as root. What must be made with one is made before: netd's socket of nftables, which outlives a netd that dies.
fn become_user(daemon: Daemon, accounts: &Accounts) -> Result<Vec<(&'static str, OwnedFd)>, Error> {
    let identity = accounts.identity(daemon)?;
    let mut own = Vec::new();
    if daemon.capabilities().is_empty() {
        if getuid().as_raw() != identity.uid {
            return Err(Error::fault(format!(
                "this container runs as user {}, and must as {}: user: {} in the compose file",
                getuid(),
                identity.uid,
                daemon.user()
            )));
        }
    } else {
        if daemon == Daemon::Netd {
            own.push((
                "nft",
                sockets::netfilter().map_err(Error::call("a socket of netfilter"))?,
            ));
        }
        identity
            .assume(daemon.capabilities())
            .map_err(Error::call(format!("becoming {}", daemon.user())))?;
    }
    prctl::set_no_new_privs().map_err(Error::call("no new privileges"))?;
    Ok(own)
}
