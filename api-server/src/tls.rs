//! The certificate of the `vpn` listeners: a key made in memory at each start, signed by vaultd, renewed in time.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use cell_api_core::range::HostIndex;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::daemons::vault::IssuedCertificate;
use crate::service::ServiceError;
use crate::service::cell::CellIdentity;

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// Looked at this often, so that a machine that slept renews when it wakes.
const LONGEST_SLEEP: Duration = Duration::from_secs(600);

/// A certificate that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The key or the request.
    #[error("the key pair or the request cannot be made")]
    Request(#[from] rcgen::Error),
    /// vaultd.
    #[error(transparent)]
    Vault(#[from] ServiceError),
    /// What vaultd answered.
    #[error("the certificate does not fit the key")]
    Unusable(#[from] rustls::Error),
}

/// The certificate in force.
#[derive(Debug, Default)]
pub struct CurrentCertificate(RwLock<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl CurrentCertificate {
    fn set(&self, certificate: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certificate));
    }
}

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, the certificate in force at each handshake.
///
/// # Errors
/// None that can happen: the provider knows both versions.
pub fn server_config(certificate: Arc<CurrentCertificate>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The DNS names that the certificate is for.
pub fn names(identity: &CellIdentity) -> Vec<String> {
    let domain = identity.cell_name.domain();
    vec![format!("api.{domain}"), domain]
}

/// The addresses that the certificate is for.
pub fn addresses(identity: &CellIdentity) -> [IpAddr; 2] {
    identity.range.addresses_of(HostIndex::CELL)
}

/// Keeps the certificate fresh until `shutdown`; `first` is told when there is one.
pub async fn renew(
    app: Arc<App>,
    current: Arc<CurrentCertificate>,
    first: tokio::sync::oneshot::Sender<()>,
    shutdown: CancellationToken,
) {
    let (mut first, mut backoff) = (Some(first), FIRST_BACKOFF);
    let mut due = 0;
    loop {
        let wait = if app.now() < due {
            Duration::from_millis(u64::try_from(due - app.now()).unwrap_or(0)).min(LONGEST_SLEEP)
        } else {
            match issue(&app).await {
                Ok((certificate, renew_at)) => {
                    tracing::info!(
                        renew_in_seconds = (renew_at - app.now()) / 1000,
                        "certificate issued"
                    );
                    current.set(certificate);
                    first.take().map(|first| first.send(()));
                    (due, backoff) = (renew_at, FIRST_BACKOFF);
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%error, "no certificate; trying again");
                    let longer = (backoff * 2).min(LONGEST_BACKOFF);
                    std::mem::replace(&mut backoff, longer)
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// A new key and its certificate, and when to renew it.
async fn issue(app: &App) -> Result<(CertifiedKey, i64), CertificateError> {
    let identity = app.set_up().await;
    let key = KeyPair::generate()?;
    let request = CertificateParams::new(names(&identity))?.serialize_request(&key)?;
    let request = request.der().to_vec();
    let addresses = addresses(&identity);
    let issued = app
        .vault
        .issue_server_certificate(request, names(&identity), &addresses)
        .await?;
    let renew_at = renewal(app, &issued);
    let chain = issued.chain.into_iter().map(CertificateDer::from).collect();
    let der = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    let certified = CertifiedKey::new(chain, ring::sign::any_supported_type(&der)?);
    certified.keys_match()?;
    Ok((certified, renew_at))
}

/// When to renew it: at two thirds of its life, and never at once again. Milliseconds since 1970-01-01T00:00:00Z.
fn renewal(app: &App, issued: &IssuedCertificate) -> i64 {
    let third = (issued.not_after_unix_ms - issued.not_before_unix_ms) / 3;
    (issued.not_after_unix_ms - third).max(app.now() + 60_000)
}
