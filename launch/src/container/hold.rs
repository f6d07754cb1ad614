//! The listeners of a cell in containers, made by root and kept while daemons come and go: what socket units are elsewhere. It reads
//! one byte of whoever asks, and nothing from outside; it is in the machine's network because some listeners are.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{getsockopt, sockopt};

use crate::accounts::Accounts;
use crate::error::Error;
use crate::handover;
use crate::house::{Daemon, Kind};
use crate::options::HoldOptions;
use crate::plan::{Address, Plan};
use crate::settings::{Place, Settings};
use crate::sockets;

/// How long daemons may take to let go of the listeners of a `hold` that ended.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(200);
/// Connections of one daemon's container at once; it needs two.
const MOST_CONNECTIONS: usize = 8;

/// The listeners of one daemon, and who may have them.
struct Share {
    daemon: Daemon,
    uid: u32,
    listeners: Vec<(&'static str, OwnedFd)>,
    connections: AtomicUsize,
}

/// Binds all listeners, and gives them out until it is asked to end.
///
/// # Errors
/// When one cannot be bound.
pub(super) fn run(options: &HoldOptions) -> Result<(), Error> {
    let settings = super::settings(&options.home, options.http)?;
    let accounts = Accounts::look_up()?;
    let ends = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    // Before any thread, so that none takes them; the first process of a container is not ended by a signal that it does not wait for.
    ends.thread_block().map_err(Error::call("blocking signals"))?;
    // Sockets and their listeners end with this process, and nothing else is to be done.
    thread::spawn(move || {
        let _ = ends.wait();
        process::exit(0);
    });
    let mut plan = Plan::new(&settings);
    // netd's container makes this one, which takes the capability.
    plan.listeners
        .retain(|listener| listener.address != Address::Netfilter);
    let bound = bind(&plan, &accounts)?;
    for share in shares(&plan, bound, &accounts)? {
        give_out(&settings, share, &accounts)?;
    }
    println!(
        "==> all listeners are bound; plain HTTP on http://{}",
        settings.http
    );
    loop {
        thread::park();
    }
}

/// As [`sockets::bind_all`], again while somebody still holds the last ones.
fn bind(plan: &Plan, accounts: &Accounts) -> Result<Vec<Option<OwnedFd>>, Error> {
    let (start, mut told) = (Instant::now(), false);
    loop {
        for listener in &plan.listeners {
            if let Address::Unix { path, .. } = &listener.address {
                remove(path)?;
            }
        }
        match sockets::bind_all(plan, &Place::Host, accounts) {
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(error) => {
                if !told {
                    eprintln!("cell-launch: {error}; trying again for {} s", PATIENCE.as_secs());
                    told = true;
                }
                thread::sleep(POLL);
            }
            bound => return bound,
        }
    }
}

/// What the last start left; the folder is root's alone.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("cannot be removed", path)(error))
        }
        _ => Ok(()),
    }
}

fn shares(plan: &Plan, bound: Vec<Option<OwnedFd>>, accounts: &Accounts) -> Result<Vec<Share>, Error> {
    let mut shares = Vec::new();
    for daemon in Daemon::ALL {
        shares.push(Share {
            daemon,
            uid: accounts.user(daemon.user())?.as_raw(),
            listeners: Vec::new(),
            connections: AtomicUsize::new(0),
        });
    }
    for (listener, fd) in plan.listeners.iter().zip(bound) {
        let share = shares.iter_mut().find(|share| share.daemon == listener.server);
        if let (Some(share), Some(fd)) = (share, fd) {
            share.listeners.push((listener.name, fd));
        }
    }
    Ok(shares)
}

/// Answers the container of a daemon, by a socket that its group alone may connect to.
fn give_out(settings: &Settings, share: Share, accounts: &Accounts) -> Result<(), Error> {
    let path = super::handover(settings, share.daemon);
    remove(&path)?;
    let listener = sockets::bind_unix(&path, share.daemon.user(), Kind::Stream, accounts)?;
    let (listener, share) = (UnixListener::from(listener), Arc::new(share));
    thread::spawn(move || {
        for connection in listener.incoming() {
            // For want of descriptors: whoever asks tries again.
            let Ok(connection) = connection else {
                thread::sleep(POLL);
                continue;
            };
            if share.connections.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
                share.connections.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let share = Arc::clone(&share);
            thread::spawn(move || {
                if let Err(error) = answer(&share, &connection) {
                    eprintln!("cell-launch: {}: {error}", share.daemon.user());
                }
                share.connections.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(())
}

/// Gives the listeners as often as it is asked; who is at the other end sees by the end of the connection that they are gone.
fn answer(share: &Share, connection: &UnixStream) -> io::Result<()> {
    let peer = getsockopt(connection, sockopt::PeerCredentials)?;
    if peer.uid() != share.uid {
        return Err(io::Error::other(format!(
            "asked for by user {}, and refused",
            peer.uid()
        )));
    }
    let (names, listeners): (Vec<_>, Vec<BorrowedFd<'_>>) = share
        .listeners
        .iter()
        .map(|(name, fd)| (*name, fd.as_fd()))
        .unzip();
    while handover::is_asked(connection.as_fd())? {
        handover::give(connection.as_fd(), &names, &listeners)?;
    }
    Ok(())
}
