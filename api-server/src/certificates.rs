//! Certificates of services: keys made here, signed by vaultd. Services that speak TLS themselves are given theirs by the interface that
//! their accounts are made by, before half of its life is over; what works is never taken from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cell_api_core::certificates::{Kept, Life, NAMES_MAX, Names, backoff_ms};
use cell_api_core::derive::caddy::LoadedCertificate;
use cell_api_core::services::labels;
use rcgen::{CertificateParams, KeyPair};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::app::App;
use crate::daemons::vault::IssuedCertificate;
use crate::events::Topic;
use crate::service::ServiceError;
use crate::service::accounts::interface;
use crate::services::Waiting;
use crate::store::certificates as table;
use crate::store::services::{self, KeptManifest, StoredService};
use crate::tls::CertificateError;

/// How often it is looked, though nothing was told: a machine that slept renews when it wakes.
const INTERVAL: Duration = Duration::from_secs(60);

/// A certificate and its key. It has no `Debug`.
pub struct Issued {
    chain: String,
    key: Zeroizing<String>,
    kept: Kept,
    sha256: [u8; 32],
}

impl Issued {
    /// Its life, of which another is wanted after so many parts of all, but never at once again.
    pub fn life_from(&self, app: &App, parts: i64, of: i64) -> Life {
        let life = self.kept.life(parts, of);
        Life {
            renew_at: life.renew_at.max(app.now() + 60_000),
            ..life
        }
    }

    /// Writes down that it is the cell's own, without its key.
    ///
    /// # Errors
    /// [`ServiceError::Storage`].
    pub async fn note(&self, app: &App) -> Result<(), ServiceError> {
        let (sha256, kept, now) = (self.sha256, self.kept.clone(), app.now());
        app.store
            .note(move |connection| table::note_issued(connection, &sha256, &kept, now))
            .await
    }

    /// As Caddy takes it.
    pub fn loaded(self) -> LoadedCertificate {
        LoadedCertificate {
            chain: self.chain,
            key: self.key,
        }
    }
}

/// A new key and its certificate.
///
/// # Errors
/// [`CertificateError`].
pub async fn issue(app: &App, names: Names) -> Result<Issued, CertificateError> {
    let key = KeyPair::generate()?;
    let request = CertificateParams::new(names.clone())?.serialize_request(&key)?;
    let IssuedCertificate {
        chain,
        not_before_unix_ms,
        not_after_unix_ms,
    } = app
        .vault
        .issue_server_certificate(request.der().to_vec(), names.clone(), &[])
        .await?;
    Ok(Issued {
        sha256: sha256(chain.first().map_or(&[][..], |der| der)),
        chain: chain.iter().map(|der| pem(der)).collect(),
        key: Zeroizing::new(key.serialize_pem()),
        kept: Kept {
            names,
            not_before: not_before_unix_ms,
            not_after: not_after_unix_ms,
        },
    })
}

/// By what a certificate is known: SHA-256 of its DER.
pub fn sha256(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

/// A certificate as text (RFC 7468, section 5.1).
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<String> = text
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

/// Gives services theirs, until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = keep(&app) => {}
    }
}

/// What a service has.
struct Given {
    /// What it was when it was given it: another deployment is given another.
    recipient: [u8; 32],
    renew_at: i64,
    failures: u32,
    again: Instant,
}

async fn keep(app: &App) {
    app.set_up().await;
    let mut changes = app.events.watch();
    let mut given = recall(app);
    loop {
        let seen = *changes.borrow_and_update();
        let pause = match app.store.read_much(services::list_in_force).await {
            Ok(all) => tend(app, all, &mut given).await,
            Err(error) => {
                tracing::warn!(%error, "services cannot be read");
                INTERVAL
            }
        };
        let is_ours = |now: &crate::events::Versions| now.of(Topic::Services) != seen.of(Topic::Services);
        tokio::select! {
            _ = changes.wait_for(is_ours) => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What services were given before this process was started: they have it still.
fn recall(app: &App) -> BTreeMap<String, Given> {
    let read = app.store.read(|connection| Ok(table::given(connection)?));
    let all = read.unwrap_or_else(|error| {
        tracing::warn!(%error, "which services have a certificate cannot be read");
        BTreeMap::new()
    });
    let given = |(service, (recipient, renew_at))| {
        let given = Given {
            recipient,
            renew_at,
            failures: 0,
            again: Instant::now(),
        };
        (service, given)
    };
    all.into_iter().map(given).collect()
}

/// Gives what is due; how long nothing is.
async fn tend(
    app: &App,
    all: Vec<(StoredService, KeptManifest)>,
    given: &mut BTreeMap<String, Given>,
) -> Duration {
    let takes = |one: &(StoredService, KeptManifest)| {
        let accounts = one.1.manifest.accounts.as_ref();
        one.0.phase.is_open() && !one.0.stopped && accounts.is_some_and(|it| it.certificate)
    };
    let wanted: Vec<_> = all.into_iter().filter(takes).collect();
    let is_wanted = |name: &String| wanted.iter().any(|(service, _)| service.name.as_str() == name);
    let gone: Vec<String> = given.keys().filter(|name| !is_wanted(name)).cloned().collect();
    for name in gone {
        app.services.set_trouble(&name, None);
        given.remove(&name);
        forget(app, name).await;
    }
    let mut pause = INTERVAL;
    for (service, kept) in wanted {
        let Some(names) = names(app, &service, &kept) else {
            continue;
        };
        let recipient = recipient(&service, &names);
        let before = given.get(service.name.as_str());
        let is_new = before.is_none_or(|it| it.recipient != recipient);
        let is_due = before.is_none_or(|it| app.now() >= it.renew_at && it.again <= Instant::now());
        if is_new || is_due {
            let failures = before.filter(|_| !is_new).map_or(0, |it| it.failures);
            let now = give(app, &service, &kept, (&names, recipient), failures).await;
            given.insert(service.name.to_string(), now);
        }
        if let Some(it) = given.get(service.name.as_str()).filter(|it| it.failures > 0) {
            pause = pause.min(it.again.saturating_duration_since(Instant::now()));
        }
    }
    pause
}

/// What a service is to a certificate: its names, its containers and what they are made of.
fn recipient(service: &StoredService, names: &Names) -> [u8; 32] {
    let made = service.in_force();
    let mut all = Sha256::new();
    let containers = service.containers.iter();
    let lines = names
        .iter()
        .cloned()
        .chain(containers.map(|made| format!("{} {}", made.handle, made.address)))
        .chain([made.digest.clone()])
        .chain(
            made.parameters
                .iter()
                .map(|(name, text)| format!("{name}={text:?}")),
        );
    for line in lines {
        all.update(line);
        all.update(b"\n");
    }
    all.finalize().into()
}

/// It is given one anew when it is there again. What cannot be forgotten now is given too late at most: before half of its life is over.
async fn forget(app: &App, service: String) {
    let forgetting = app
        .store
        .note(move |connection| table::forget_given(connection, &service));
    if let Err(error) = forgetting.await {
        tracing::warn!(%error, "a certificate that was given was not forgotten");
    }
}

/// Its names, its own first; none: it has none that a certificate is for.
fn names(app: &App, service: &StoredService, kept: &KeptManifest) -> Option<Names> {
    let domain = app.identity()?.cell_name.domain();
    let all = labels(&kept.manifest, &service.instance).into_keys();
    let names: Names = all
        .take(NAMES_MAX)
        .map(|label| format!("{label}.{domain}"))
        .collect();
    (!names.is_empty()).then_some(names)
}

async fn give(
    app: &App,
    service: &StoredService,
    kept: &KeptManifest,
    (names, recipient): (&Names, [u8; 32]),
    failures: u32,
) -> Given {
    let name = service.name.as_str();
    let outcome = hand_over(app, service, kept, (names, recipient)).await;
    let (renew_at, failures, trouble) = match outcome {
        Ok(renew_at) => {
            tracing::info!(service = name, "it has a certificate of its own");
            (renew_at, 0, None)
        }
        Err(why) => {
            let message = format!("it was given no certificate, and keeps the one that it has: {why}");
            if failures == 0 {
                tracing::warn!(service = name, why, "it was given no certificate");
            }
            let code = "CERTIFICATE".to_owned();
            (0, failures.saturating_add(1), Some(Waiting { code, message }))
        }
    };
    if app.services.set_trouble(name, trouble) {
        app.events.publish([Topic::Services]);
    }
    Given {
        recipient,
        renew_at,
        failures,
        again: Instant::now()
            + match failures {
                0 => Duration::ZERO,
                some => Duration::from_millis(backoff_ms(some)),
            },
    }
}

/// Issues one, hands it over and has the service's containers read it; when it is to be renewed.
async fn hand_over(
    app: &App,
    service: &StoredService,
    kept: &KeptManifest,
    (names, recipient): (&Names, [u8; 32]),
) -> Result<i64, String> {
    let interface = interface(app, service, &kept.manifest).ok_or("the service does not run")?;
    let issued = issue(app, names.clone())
        .await
        .map_err(|error| error.to_string())?;
    let renew_at = issued.life_from(app, 1, 2).renew_at;
    let given = interface.put_certificate(&issued.chain, &issued.key).await;
    given.map_err(|fault| fault.to_string())?;
    for container in kept
        .manifest
        .containers
        .iter()
        .filter(|one| one.reload_signal.is_some())
    {
        let mut all = service.containers.iter();
        let Some(made) = all.find(|made| made.name == container.name.as_str()) else {
            continue;
        };
        let reloaded = app.broker.reload(&made.handle).await;
        reloaded
            .map_err(|reason| format!("the broker does not have {} read it: {reason}", container.name))?;
    }
    let name = service.name.to_string();
    let noting = app
        .store
        .note(move |connection| table::note_given(connection, &name, &recipient, renew_at));
    // It has one; what is not written down is given once more after a start.
    if let Err(error) = noting.await {
        tracing::warn!(%error, "a certificate that was given was not written down");
    }
    Ok(renew_at)
}
