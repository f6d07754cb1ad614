//! The life of the daemon after the sandbox closed: open the vault, serve the listeners, end cleanly.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use cell_proto::ipc::{CallerPolicy, Listeners, serve};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tonic::service::Routes;

use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::files::StateFolder;
use crate::kek::Kek;
use crate::service::{Shared, api_routes, broker_routes, egress_routes, netd_routes, openvpn_routes};
use crate::vault::{self, Aspect, Surroundings};

/// How much locked memory is asked for before everything is locked, bytes. With less, a later allocation would fail and
/// end the daemon.
const LOCKED_MEMORY: u64 = 256 * 1024 * 1024;

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The listeners, the signals or the state folder.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A listener failed.
    #[error(transparent)]
    Serve(#[from] tonic::transport::Error),
    /// Two vaults on one folder would each undo what the other did.
    #[error("another vaultd uses this state folder")]
    Locked,
}

/// Keeps all memory out of swap if the limit allows it. Best effort: the status tells.
pub fn lock_memory() -> Aspect {
    let kind = "MemoryLocked";
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((soft, _)) if soft == RLIM_INFINITY || soft >= LOCKED_MEMORY => {
            match cell_sandbox::memory::lock_all() {
                Ok(()) => Aspect::holding(kind, "LOCKED"),
                Err(error) => Aspect::failing(kind, "REFUSED", format!("mlockall(2): {error}")),
            }
        }
        Ok((soft, _)) => Aspect::failing(
            kind,
            "LIMIT",
            format!("RLIMIT_MEMLOCK is {soft} bytes; keys may reach swap"),
        ),
        Err(error) => Aspect::failing(kind, "UNKNOWN_LIMIT", format!("getrlimit(2): {error}")),
    }
}

/// Opens the vault and serves until SIGTERM or SIGINT; `ready` is called when the listeners are served.
///
/// # Errors
/// See [`RunError`]. A vault that stays sealed is no error: it is served, and says so.
pub async fn run(
    config: Config,
    credentials: Option<&Path>,
    mut listeners: Listeners,
    memory_locked: Aspect,
    ready: impl FnOnce(),
) -> Result<(), RunError> {
    let _lock = lock(&config.policy.state)?;
    let clock = Arc::new(SystemClock::default());
    let started = clock.now();
    let around = Surroundings {
        files: Arc::new(StateFolder::new(&config.policy.state)),
        policy: config.policy,
        clock,
    };
    let opened = vault::open(around, Kek::read(credentials));
    match &opened {
        Ok(_) => tracing::info!("the vault is open"),
        Err(reason) => tracing::error!(reason = reason.code(), %reason, "the vault is sealed"),
    }
    let shared = Shared::new(opened, memory_locked, started);
    let (api, netd) = (listeners.unix("api")?, listeners.unix("netd")?);
    let egress = optional(listeners.unix("egress"), &config.egress)?;
    let openvpn = optional(listeners.unix("openvpn"), &config.openvpn)?;
    let broker = optional(listeners.unix("broker"), &config.broker)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, stopped) = watch::channel(());
    let serving = async {
        tokio::try_join!(
            listen(api, config.api, api_routes(&shared), stopped.clone()),
            listen(netd, config.netd, netd_routes(&shared), stopped.clone()),
            listen_if_there(egress, config.egress, egress_routes(&shared), stopped.clone()),
            listen_if_there(openvpn, config.openvpn, openvpn_routes(&shared), stopped.clone()),
            listen_if_there(broker, config.broker, broker_routes(&shared), stopped.clone()),
        )
    };
    ready();
    let asked = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("ending");
        drop(stop);
        // Connections that stay open do not keep the daemon: every acknowledged change is on the disk already.
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! { served = serving => served.map(drop).map_err(RunError::from), () = asked => Ok(()) }
}

/// How long calls under way may take after the signal.
const GRACE: std::time::Duration = std::time::Duration::from_secs(3);

/// Whoever starts vaultd for a policy without that caller need not hand its listener over.
fn optional(listener: io::Result<UnixListener>, callers: &CallerPolicy) -> io::Result<Option<UnixListener>> {
    match listener {
        Err(error) if error.kind() == io::ErrorKind::NotFound && callers.uids.is_empty() => Ok(None),
        listener => listener.map(Some),
    }
}

async fn listen_if_there(
    listener: Option<UnixListener>,
    callers: CallerPolicy,
    routes: Routes,
    stopped: watch::Receiver<()>,
) -> Result<(), tonic::transport::Error> {
    match listener {
        Some(listener) => listen(listener, callers, routes, stopped).await,
        None => Ok(()),
    }
}

async fn listen(
    listener: UnixListener,
    callers: CallerPolicy,
    routes: Routes,
    mut stopped: watch::Receiver<()>,
) -> Result<(), tonic::transport::Error> {
    serve(listener, callers, routes, async move {
        // An error means that the sender is gone, which is the signal.
        let _ = stopped.changed().await;
    })
    .await
}

fn lock(state: &Path) -> Result<Flock<File>, RunError> {
    let path = state.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => RunError::Locked,
        other => RunError::Io(other.into()),
    })
}
