//! Keeps CoreDNS and Caddy in step with what is published: within a second of a change, and again whenever one of them lost it.

mod certificate;
mod folder;
mod proxy;

pub use folder::{Folder, FolderError};
pub use proxy::{Proxy, ProxyError};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cell_api_core::certificates;
use cell_api_core::derive::caddy::{
    self, ADMIN_SOCKET, AdminListen, CaddySettings, Certificates, HTTP_PORT, HTTPS_PORT, LogLevel,
};
use cell_api_core::derive::corefile::{self, CorefileSettings, QueryLog};
use cell_api_core::derive::dns;
use cell_api_core::domain::PublicDomain;
use cell_api_core::published::{Published, ServiceRecord};
use cell_proto::common::v1::{Condition, ConditionStatus};
use ipnet::IpNet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::Config;
use crate::events::Topic;
use crate::service::{managers, published};
use certificate::Certified;
use proxy::Outcome;

/// Changes that come together are told together.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often what failed is tried again, and Caddy is asked whether it still has what it was told.
const INTERVAL: Duration = Duration::from_secs(3);
/// How often CoreDNS is looked for while there is no name to serve, which costs a line in the broker's log.
const IDLE: Duration = Duration::from_secs(60);
/// The broker's name of CoreDNS.
const COREDNS: &str = "coredns";
/// Permissions of Caddy's socket: its own user's, and the group's that cell-api is of.
const SOCKET_MODE: u16 = 0o660;

/// What is installed, and what CoreDNS and Caddy have of it.
#[derive(Debug, Default)]
pub struct Publisher {
    services: Mutex<Arc<Vec<ServiceRecord>>>,
    dns: Mutex<Said>,
    proxy: Mutex<Said>,
}

/// What became of telling.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Said {
    #[default]
    Nothing,
    Has,
    /// It has it, and something more is on its way: words for people.
    Coming(String),
    /// A code and words for people.
    Not(&'static str, String),
}

impl Publisher {
    pub(crate) fn services(&self) -> Arc<Vec<ServiceRecord>> {
        Arc::clone(&lock(&self.services))
    }

    pub(crate) fn set_services(&self, services: Vec<ServiceRecord>) {
        *lock(&self.services) = Arc::new(services);
    }

    /// `DnsServed` and `ProxyConfigured`, where the policy file names what they are about.
    pub fn conditions(&self, config: &Config) -> Vec<Condition> {
        let dns = (config.core_dns_dir.is_some()).then(|| condition("DnsServed", &lock(&self.dns)));
        let proxy = (config.caddy_socket.is_some()).then(|| condition("ProxyConfigured", &lock(&self.proxy)));
        dns.into_iter().chain(proxy).collect()
    }
}

fn condition(kind: &str, said: &Said) -> Condition {
    let (status, reason, message) = match said {
        Said::Nothing => (
            ConditionStatus::Unknown,
            "NOT_TOLD",
            "it has not been told of services yet",
        ),
        Said::Has => (ConditionStatus::True, "TOLD", "it goes by all that is published"),
        Said::Coming(message) => (ConditionStatus::Unknown, "CERTIFICATE_COMING", message.as_str()),
        Said::Not(reason, message) => (ConditionStatus::False, *reason, message.as_str()),
    };
    Condition {
        r#type: kind.to_owned(),
        status: status.into(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_unix_ms: 0,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells both what is published, until `shutdown`: each by itself, so that one which hangs keeps no word from the other.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    let dns = app.config.core_dns_dir.as_ref().map(|path| DnsTeller {
        folder: Folder::new(path),
        told: None,
        is_reloaded: false,
        idle_until: None,
    });
    let proxy = app.config.caddy_socket.as_ref().map(|path| ProxyTeller {
        proxy: Proxy::new(path),
        certified: Certified::default(),
        is_taken_up: false,
        mark: None,
    });
    tokio::join!(follow(&app, &shutdown, dns), follow(&app, &shutdown, proxy));
}

/// Who is told what is published.
trait Teller {
    /// Tells it, where it is not told already.
    async fn tell(&mut self, app: &App, state: &Published) -> Said;

    /// Where it is noted what became of it.
    fn place(app: &App) -> &Mutex<Said>;
}

async fn follow<T: Teller>(app: &App, shutdown: &CancellationToken, teller: Option<T>) {
    let Some(mut teller) = teller else {
        return;
    };
    let mut changes = app.events.watch();
    loop {
        let seen = *changes.borrow_and_update();
        match published::now(app).await {
            Ok(None) => {}
            Ok(Some(state)) => {
                app.dns.again();
                let said = teller.tell(app, &state).await;
                say(app, T::place(app), said);
            }
            Err(error) => tracing::warn!(%error, "what is published cannot be read"),
        }
        let is_ours = |now: &crate::events::Versions| {
            [Topic::Peers, Topic::Services, Topic::Config]
                .iter()
                .any(|topic| now.of(*topic) != seen.of(*topic))
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = changes.wait_for(is_ours) => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
        tokio::time::sleep(DEBOUNCE).await;
    }
}

fn say(app: &App, place: &Mutex<Said>, said: Said) {
    let mut before = lock(place);
    if *before != said {
        tracing::info!(?said, "what became of the services' names and routes");
        *before = said;
        drop(before);
        app.events.publish([Topic::Status]);
    }
}

struct DnsTeller {
    folder: Folder,
    told: Option<(Published, QueryLog)>,
    is_reloaded: bool,
    /// Set where nothing is published and nobody was there to be told.
    idle_until: Option<Instant>,
}

impl Teller for DnsTeller {
    fn place(app: &App) -> &Mutex<Said> {
        &app.published.dns
    }

    async fn tell(&mut self, app: &App, state: &Published) -> Said {
        let log = match managers::query_log(app) {
            Ok(log) => log,
            Err(error) => return Said::Not("NOT_WRITTEN", error.to_string()),
        };
        let is_told = |(told, of): &(Published, QueryLog)| (told, *of) == (state, log);
        if !self.told.as_ref().is_some_and(is_told) {
            if let Err(error) = self.write(app, state, log).await {
                return Said::Not("NOT_WRITTEN", error.to_string());
            }
            self.told = Some((state.clone(), log));
            self.is_reloaded = false;
            self.idle_until = None;
        }
        if self.is_reloaded {
            return Said::Has;
        }
        if self.idle_until.is_some_and(|until| Instant::now() < until) {
            return Said::Nothing;
        }
        match app.broker.reload(COREDNS).await {
            Ok(()) => {
                self.is_reloaded = true;
                Said::Has
            }
            // Nobody waits for a name, so nobody is to start CoreDNS: it reads the folder when it starts.
            Err(_) if state.is_empty() => {
                self.idle_until = Some(Instant::now() + IDLE);
                Said::Nothing
            }
            Err(reason) => Said::Not(
                "NOT_RELOADED",
                format!("the broker does not have CoreDNS read it: {reason}"),
            ),
        }
    }
}

impl DnsTeller {
    async fn write(&self, app: &App, state: &Published, log: QueryLog) -> Result<(), FolderError> {
        let (folder, state, now) = (self.folder.clone(), state.clone(), app.now() / 1000);
        let relay = app.config.core_network.bridge();
        let written = tokio::task::spawn_blocking(move || {
            let settings = CorefileSettings {
                relay,
                log,
                folder: corefile::FOLDER,
                port: dns::PORT,
            };
            folder.publish(&state, &settings, now)
        });
        // It panics nowhere; where it did, it is tried again.
        written.await.unwrap_or(Err(FolderError::Ended))
    }
}

struct ProxyTeller {
    proxy: Proxy,
    certified: Certified,
    /// Whether Caddy was asked what it has from before this process was started.
    is_taken_up: bool,
    mark: Option<String>,
}

impl Teller for ProxyTeller {
    fn place(app: &App) -> &Mutex<Said> {
        &app.published.proxy
    }

    async fn tell(&mut self, app: &App, state: &Published) -> Said {
        // Before anything is issued or told: what Caddy has would be issued again, and where vaultd is away be taken from it.
        if let Err(said) = self.take_up(app, state).await {
            return said;
        }
        let Some(cell) = app.identity() else {
            return Said::Nothing;
        };
        let public = cell.domain.public();
        let wanted = certificates::wanted(state, public.map(|public| &public.domain));
        self.certified.renew(app, wanted).await;
        let certificates = Certificates {
            loaded: self.certified.loaded(app),
            public: public.cloned(),
        };
        let settings = CaddySettings {
            admin: AdminListen {
                path: ADMIN_SOCKET.to_owned(),
                mode: Some(SOCKET_MODE),
            },
            ports: [HTTPS_PORT, HTTP_PORT],
            vpn: [IpNet::V4(cell.range.v4()), IpNet::V6(cell.range.v6())],
            log: LogLevel::Error,
        };
        let (config, mark) = caddy::config(state, &settings, &certificates);
        // Nothing is sent twice, but to one that was started anew.
        let has = self.mark.as_ref() == Some(&mark) && self.proxy.has(&mark).await.unwrap_or(false);
        if !has {
            self.mark = None;
            if let Err(error) = self.proxy.load(&config).await {
                return not_told(&error, state);
            }
            self.mark = Some(mark);
        }
        match self.certified.fault() {
            Some(why) => Said::Not("NO_CERTIFICATE", format!("no certificate could be had {why}")),
            None => match public {
                Some(public) => {
                    self.all_public(app, public, &caddy::certified(state, public))
                        .await
                }
                None => Said::Has,
            },
        }
    }
}

impl ProxyTeller {
    /// What became of the certificates that Caddy gets by itself: the first that is not had is told, else the first that is to come. Where
    /// netd does not open the port by which they are proven, that is why.
    async fn all_public(&self, app: &App, public: &PublicDomain, names: &[String]) -> Said {
        if let Some(why) = app.public_http.refused().filter(|_| public.is_asked_by_http()) {
            return Said::Not(
                "PORT_NOT_OPEN",
                format!("netd does not open TCP 80 to the internet: {why}"),
            );
        }
        let mut all = Said::Has;
        for name in names {
            match self.public(name).await {
                Said::Has | Said::Nothing => {}
                Said::Coming(words) if all == Said::Has => all = Said::Coming(words),
                Said::Coming(_) => {}
                said @ Said::Not(..) => return said,
            }
        }
        all
    }

    /// What became of one certificate that Caddy gets by itself. It tries again by itself, ever more rarely, and serves the last one as
    /// long as that is valid.
    async fn public(&self, name: &str) -> Said {
        match self.proxy.certificate(name).await {
            Ok(Outcome {
                fault: None,
                not_after: Some(_),
            }) => Said::Has,
            Ok(Outcome {
                fault: None,
                not_after: None,
            }) => Said::Coming(format!("Caddy is getting the certificate of {name}")),
            Ok(Outcome {
                fault: Some(why),
                not_after,
            }) => {
                let meanwhile = not_after.map_or("", |_| "; the last one is served meanwhile");
                Said::Not(
                    "NO_CERTIFICATE",
                    format!("no certificate could be had for {name}{meanwhile}: {why}"),
                )
            }
            Err(error) => Said::Not(error.reason(), error.to_string()),
        }
    }

    async fn take_up(&mut self, app: &App, state: &Published) -> Result<(), Said> {
        if self.is_taken_up {
            return Ok(());
        }
        let there = self.proxy.certificates().await;
        let there = there.map_err(|error| not_told(&error, state))?;
        let taken = self.certified.take_up(app, there);
        taken.map_err(|error| Said::Not("NOT_READ", error.to_string()))?;
        self.is_taken_up = true;
        Ok(())
    }
}

fn not_told(error: &ProxyError, state: &Published) -> Said {
    match error {
        ProxyError::Away(_) if state.is_empty() => Said::Nothing,
        error => Said::Not(error.reason(), error.to_string()),
    }
}
