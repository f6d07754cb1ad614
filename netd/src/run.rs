//! From policy to serving, in one function each.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use cell_proto::ipc::{self, CallerPolicy, Listeners};
use cell_sandbox::{Sandbox, profiles};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{BackendChoice, Config};
use crate::kept::Kept;
use crate::kernel::linux::{Choice, Linux, has_wireguard};
use crate::kernel::nft::{Nft, NftSocket, Owners};
use crate::kernel::{KernelError, Renderer};
use crate::keys::KeySource;
use crate::marks;
use crate::reconciler::{Handle, Reconciler, Request};
use crate::service;

/// What ended netd.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The machine.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A listener that is missing, or a signal handler.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server.
    #[error(transparent)]
    Serve(#[from] tonic::transport::Error),
}

/// Finds out which WireGuard is to be used. Before the sandbox: looking loads the kernel's module.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn choose(config: &Config) -> Result<Choice, RunError> {
    let in_kernel = match config.backend {
        BackendChoice::Kernel => true,
        BackendChoice::Userspace => false,
        BackendChoice::Auto => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(has_wireguard(&config.ceiling.table))?
        }
    };
    Ok(if in_kernel {
        Choice::Kernel
    } else {
        Choice::Userspace {
            wg_socket: config.wg_socket.clone(),
            device_socket: config.wg_device_socket.clone(),
        }
    })
}

/// Where netd may write.
pub fn state_folder() -> PathBuf {
    std::env::var_os("STATE_DIRECTORY").map_or_else(|| PathBuf::from("/var/lib/cell/netd"), PathBuf::from)
}

/// The sandbox for that choice.
pub fn sandbox(config: &Config, choice: &Choice) -> Sandbox {
    let state = state_folder();
    let mut sockets = vec![config.vault_socket.as_path()];
    if let Choice::Userspace {
        wg_socket,
        device_socket,
    } = choice
    {
        sockets.extend([wg_socket.as_path(), device_socket.as_path()]);
    }
    if let Renderer::Iptables(socket) = &config.renderer {
        sockets.push(socket.as_path());
    }
    let netd = profiles::netd(&state, &sockets, *choice != Choice::Kernel);
    match config.ceiling.exits.tunnel() {
        Some(_) => profiles::netd_with_tunnels(netd),
        None => netd,
    }
}

/// The socket that owns the policy. Who starts netd holds it (`docs/runtime.md`), so that nobody else may change the policy while
/// netd is dead; without one, the policy is protected while netd lives.
fn nft_socket(listeners: &mut Listeners) -> io::Result<NftSocket> {
    match listeners.descriptor("nft") {
        Ok(held) => NftSocket::held(held),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::warn!(
                "nobody holds the nftables socket: while netd is dead, root may change the policy"
            );
            NftSocket::open()
        }
        Err(error) => Err(error),
    }
}

/// Serves until SIGTERM or SIGINT. What is in the kernel stays there.
///
/// # Errors
/// When it cannot start to serve.
pub async fn run(
    config: Config,
    choice: Choice,
    mut listeners: Listeners,
    instance: u64,
    ready: impl FnOnce(),
) -> Result<(), RunError> {
    let listener = listeners.unix("api")?;
    let keys = KeySource::new(config.vault_socket.clone());
    let socket = nft_socket(&mut listeners)?;
    let nft = Nft::with(socket, config.ceiling.table.clone(), Owners::IfKnown);
    let (linux, changed) = Linux::with(nft, &config.ceiling, config.renderer, choice, keys)?;
    let handle = Reconciler::spawn(
        linux,
        config.ceiling,
        Kept::new(state_folder()),
        instance,
        changed,
    );
    serve_marks(config.mark, &mut listeners, &handle)?;
    close_first(&handle).await;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let serving = ipc::serve(
        listener,
        config.api,
        service::routes(handle),
        std::future::pending(),
    );
    ready();
    tokio::select! {
        served = serving => served.map_err(Into::into),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Serves the listener `mark`. A cell without one is not kept from anything else.
fn serve_marks(callers: Option<CallerPolicy>, listeners: &mut Listeners, handle: &Handle) -> io::Result<()> {
    let is_wanted = callers.is_some();
    match listeners.unix("mark") {
        Ok(listener) => marks::spawn(listener.into_std()?, callers, handle.marks())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_wanted => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            tracing::warn!("no listener named \"mark\": exits are not proven by their marks");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// How long those who wait for netd's word wait for bridges of services to be closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

/// Answered after what stands before the first request: whoever is ordered after netd (Docker) makes no bridge before that.
async fn close_first(handle: &Handle) {
    let asked = handle.ask(|reply| Request::Get {
        reply,
        include_desired: false,
    });
    if tokio::time::timeout(CLOSED_WITHIN, asked).await.is_err() {
        tracing::error!("netd is ready, but what it may not let pass is not yet kept from passing");
    }
}
