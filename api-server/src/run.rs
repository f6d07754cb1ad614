//! Starts what runs and ends it again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cell_api_core::host::HostPolicy;
use cell_proto::ipc::{self, CallerPolicy, Listeners};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, Clock};
use crate::callers::Callers;
use crate::config::Config;
use crate::http::router::Site;
use crate::http::server::{Endpoint, Slots};
use crate::service::claim;
use crate::tls::{self, CurrentCertificate};
use crate::{accounts, anchor, certificates, dns, exits, grpc, published, reconcile, remote, sweep, tidy};

/// systemd's patience is 5 s; this is ours.
const FAREWELL: Duration = Duration::from_secs(4);

/// The listeners of `docs/runtime.md`.
pub struct Sockets {
    /// Plain HTTP for the machine itself.
    pub loopback: TcpListener,
    /// HTTPS for peers, one per family.
    pub vpn: Vec<TcpListener>,
    /// gRPC for root and cell-admin.
    pub automation: UnixListener,
}

impl Sockets {
    /// Takes them all. A `vpn` listener for one family is enough, for a host without the other.
    ///
    /// # Errors
    /// When one is missing.
    pub fn take(mut listeners: Listeners) -> io::Result<Self> {
        let loopback = listeners.tcp("loopback")?;
        let mut vpn = vec![listeners.tcp("vpn")?];
        while let Ok(another) = listeners.tcp("vpn") {
            vpn.push(another);
        }
        Ok(Sockets {
            loopback,
            vpn,
            automation: listeners.unix("automation")?,
        })
    }
}

/// Runs until SIGTERM or SIGINT; `ready` is called when everything is served.
///
/// # Errors
/// When the state cannot be opened or a listener is missing.
pub async fn run(
    config: Config,
    callers: Callers,
    listeners: Listeners,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let sockets = Sockets::take(listeners).context("listeners")?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let app = App::open(config, system_clock()).context("opening the state")?;
    let shutdown = CancellationToken::new();
    let tasks = start(app, callers, sockets, &shutdown)
        .await
        .context("starting")?;
    ready();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending");
    shutdown.cancel();
    if tokio::time::timeout(FAREWELL, tasks.wait()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
    Ok(())
}

/// Starts everything that runs beside requests, and the listeners.
///
/// # Errors
/// When the claim token cannot be written, or TLS cannot be configured.
pub async fn start(
    app: Arc<App>,
    callers: Callers,
    sockets: Sockets,
    shutdown: &CancellationToken,
) -> anyhow::Result<TaskTracker> {
    claim::offer(&app).await.context("the claim token")?;
    let tasks = TaskTracker::new();
    let (events, ending) = (app.events.clone(), shutdown.clone());
    tasks.spawn(async move {
        ending.cancelled().await;
        events.end();
    });
    tasks.spawn(sweep::run(Arc::clone(&app), shutdown.clone()));
    tasks.spawn(certificates::run(Arc::clone(&app), shutdown.clone()));
    tasks.spawn(accounts::run(Arc::clone(&app), shutdown.clone()));
    tasks.spawn(tidy::run(Arc::clone(&app), shutdown.clone()));
    tasks.spawn(remote::run(Arc::clone(&app), shutdown.clone()));
    let site = Site::new(Arc::clone(&app));
    let loopback = loopback(&app, sockets.loopback, site.clone())?;
    tasks.spawn(loopback.serve(shutdown.clone()));
    tasks.spawn(vpn(Arc::clone(&app), sockets.vpn, site, shutdown.clone()));
    tasks.spawn(automation(
        Arc::clone(&app),
        callers,
        sockets.automation,
        shutdown.clone(),
    ));
    tasks.spawn(exits::watch(Arc::clone(&app), shutdown.clone()));
    tasks.spawn(dns::run(Arc::clone(&app), shutdown.clone()));
    tasks.spawn(published::run(Arc::clone(&app), shutdown.clone()));
    let netd = ipc::connect(&app.config.netd_socket);
    tasks.spawn(reconcile::run(Arc::clone(&app), netd, shutdown.clone()));
    tasks.spawn(reconcile::services::run(Arc::clone(&app), shutdown.clone()));
    tasks.spawn(reconcile::services::watch::run(
        Arc::clone(&app),
        shutdown.clone(),
    ));
    tasks.spawn(reconcile::services::own::run(Arc::clone(&app), shutdown.clone()));
    tasks.spawn(crate::health::run(Arc::clone(&app), shutdown.clone()));
    let heads = app.audit_heads();
    tasks.spawn(anchor::run(app, heads, shutdown.clone()));
    tasks.close();
    Ok(tasks)
}

/// Milliseconds since 1970-01-01T00:00:00Z, of the machine.
pub fn system_clock() -> Clock {
    Arc::new(|| jiff::Timestamp::now().as_millisecond())
}

fn loopback(app: &App, listener: TcpListener, site: Site) -> io::Result<Endpoint> {
    let port = listener.local_addr()?.port();
    let own = ["localhost", "127.0.0.1", "[::1]"].into_iter();
    let more = app.config.allowed_hosts.iter().map(String::as_str);
    let hosts = Arc::new(HostPolicy::new(port, 80, own.chain(more)));
    Ok(Endpoint {
        listener,
        tls: None,
        hosts,
        site,
        slots: Arc::default(),
    })
}

/// Nothing is served to peers before setup is complete and there is a certificate: their connections wait.
async fn vpn(app: Arc<App>, listeners: Vec<TcpListener>, site: Site, shutdown: CancellationToken) {
    let certificate = Arc::new(CurrentCertificate::default());
    let config = match tls::server_config(Arc::clone(&certificate)) {
        Ok(config) => Arc::new(config),
        Err(error) => return tracing::error!(%error, "TLS cannot be configured"),
    };
    let (first, issued) = tokio::sync::oneshot::channel();
    let tasks = TaskTracker::new();
    tasks.spawn(tls::renew(Arc::clone(&app), certificate, first, shutdown.clone()));
    let made = tokio::select! {
        () = shutdown.cancelled() => false,
        issued = issued => issued.is_ok(),
    };
    if let Some(identity) = app.identity().filter(|_| made) {
        let addresses = tls::addresses(&identity).map(|address| match address {
            std::net::IpAddr::V4(v4) => v4.to_string(),
            std::net::IpAddr::V6(v6) => format!("[{v6}]"),
        });
        let own: Vec<String> = tls::names(&identity).into_iter().chain(addresses).collect();
        let all = own.iter().chain(&app.config.allowed_hosts).map(String::as_str);
        let hosts = Arc::new(HostPolicy::new(app.config.network.https_port, 443, all));
        let slots = Arc::<Slots>::default();
        for listener in listeners {
            let tls = Some(TlsAcceptor::from(Arc::clone(&config)));
            let endpoint = Endpoint {
                listener,
                tls,
                hosts: Arc::clone(&hosts),
                site: site.clone(),
                slots: Arc::clone(&slots),
            };
            tasks.spawn(endpoint.serve(shutdown.clone()));
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn automation(app: Arc<App>, callers: Callers, listener: UnixListener, shutdown: CancellationToken) {
    let policy = CallerPolicy {
        uids: callers.0.keys().copied().collect(),
        unit: None,
    };
    let routes = grpc::routes(app, callers);
    if let Err(error) = ipc::serve(listener, policy, routes, shutdown.cancelled_owned()).await {
        tracing::error!(%error, "the automation socket failed");
    }
}
