//! Certificates of services' names: keys made here, signed by vaultd, renewed in time, and kept nowhere but in Caddy's and this
//! process' memory. One for each service: which, is [`cell_api_core::certificates`]' to say. A process that was started anew takes up those
//! that Caddy has, if it finds written down that they are the cell's: so a start costs no issuance, and vaultd may be away meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cell_api_core::certificates::{self, AT_ONCE, Life, Names};
use cell_api_core::derive::caddy::LoadedCertificate;
use futures_util::{StreamExt as _, stream};
use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::Instant;

use crate::app::App;
use crate::certificates::{Issued, issue, sha256};
use crate::service::ServiceError;
use crate::store::certificates as table;
use crate::tls::CertificateError;

/// The certificates that there are.
#[derive(Default)]
pub(super) struct Certified {
    held: BTreeMap<Names, (Life, LoadedCertificate)>,
    failed: BTreeMap<Names, Failed>,
    wanted: BTreeSet<Names>,
}

struct Failed {
    count: u32,
    again: Instant,
    why: String,
}

impl Certified {
    /// Takes up those that Caddy has and the cell issued. Whatever else Caddy has is none of the cell's, and goes with the next configuration.
    ///
    /// # Errors
    /// [`ServiceError::Storage`]; then nothing is taken up.
    pub fn take_up(&mut self, app: &App, there: Vec<LoadedCertificate>) -> Result<(), ServiceError> {
        let now = app.now();
        let issued = app.store.read(|connection| Ok(table::issued(connection, now)?))?;
        for loaded in there {
            let Some(kept) = leaf_of(&loaded).and_then(|sha256| issued.get(&sha256)) else {
                continue;
            };
            self.held.insert(kept.names.clone(), (kept.life(2, 3), loaded));
        }
        Ok(())
    }

    /// Has a certificate for each of these that has none, or none for long any more. What could not be had is tried again later; what was
    /// there and could not be renewed stays.
    pub async fn renew(&mut self, app: &App, wanted: BTreeSet<Names>) {
        self.failed.retain(|names, _| wanted.contains(names));
        let now = Instant::now();
        let lives = self.lives();
        let due: Vec<Names> = certificates::due(&wanted, &lives, app.now())
            .into_iter()
            .filter(|names| self.failed.get(*names).is_none_or(|failed| failed.again <= now))
            .cloned()
            .collect();
        let issuing = stream::iter(due).map(|names| async move {
            let issued = issue(app, names.clone()).await;
            (names, issued)
        });
        let issued: Vec<(Names, Result<Issued, CertificateError>)> =
            issuing.buffer_unordered(AT_ONCE).collect().await;
        for (names, outcome) in issued {
            match outcome {
                Ok(issued) => {
                    self.failed.remove(&names);
                    // It serves all the same; a start would have another issued.
                    if let Err(error) = issued.note(app).await {
                        tracing::warn!(%error, "a certificate was not written down");
                    }
                    let life = issued.life_from(app, 2, 3);
                    self.held.insert(names, (life, issued.loaded()));
                }
                Err(error) => self.note(names, &error),
            }
        }
        let kept = certificates::kept(&wanted, &self.lives(), app.now());
        self.held.retain(|names, _| kept.contains(names));
        self.wanted = wanted;
    }

    /// Those in force.
    pub fn loaded(&self, app: &App) -> Vec<LoadedCertificate> {
        let lives = self.lives();
        let in_force = certificates::in_force(&self.wanted, &lives, app.now());
        let loaded = in_force.into_iter().filter_map(|names| self.held.get(names));
        loaded.map(|(_, loaded)| loaded.clone()).collect()
    }

    /// What could not be had, in words.
    pub fn fault(&self) -> Option<String> {
        let (names, failed) = self.failed.iter().next()?;
        let more = match self.failed.len() - 1 {
            0 => String::new(),
            more => format!(" and for {more} more services"),
        };
        Some(format!("for {}{more}: {}", names.join(", "), failed.why))
    }

    fn note(&mut self, names: Names, error: &CertificateError) {
        let count = self.failed.get(&names).map_or(0, |failed| failed.count) + 1;
        let pause = Duration::from_millis(certificates::backoff_ms(count));
        let failed = Failed {
            again: Instant::now() + pause,
            why: error.to_string(),
            count,
        };
        self.failed.insert(names, failed);
    }

    fn lives(&self) -> BTreeMap<Names, Life> {
        let each = self.held.iter();
        each.map(|(names, (life, _))| (names.clone(), *life)).collect()
    }
}

/// By what the certificate is known, if it is one and the key is its own.
fn leaf_of(loaded: &LoadedCertificate) -> Option<[u8; 32]> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(loaded.chain.as_bytes())
        .collect::<Result<_, _>>()
        .ok()?;
    let leaf = sha256(chain.first()?);
    let key = PrivateKeyDer::from_pem_slice(loaded.key.as_bytes()).ok()?;
    let certified = CertifiedKey::new(chain, ring::sign::any_supported_type(&key).ok()?);
    certified.keys_match().ok().map(|()| leaf)
}
