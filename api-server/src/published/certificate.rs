//! Certificates of services' names: keys made here, signed by vaultd, renewed in time, and kept nowhere but in Caddy's and this
//! process' memory.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cell_api_core::derive::caddy::LoadedCertificate;
use cell_api_core::published::HostName;
use rcgen::{CertificateParams, KeyPair};
use zeroize::Zeroizing;

use crate::app::App;
use crate::tls::{CertificateError, renewal};

/// Most names of one certificate (`certificate_service.proto`).
const NAMES_MAX: usize = 16;

/// The certificates that there are.
#[derive(Default)]
pub(super) struct Certified(Vec<One>);

struct One {
    names: Vec<String>,
    loaded: LoadedCertificate,
    renew_at: i64,
}

impl Certified {
    /// Has a certificate for each of these names that has none, or none for long any more; names that are gone lose theirs.
    ///
    /// # Errors
    /// The last failure; what could be had is there, and what was there and could not be renewed stays.
    pub async fn renew(&mut self, app: &App, hosts: &[HostName]) -> Result<(), CertificateError> {
        let wanted = hosts
            .chunks(NAMES_MAX)
            .map(|part| part.iter().map(ToString::to_string).collect::<Vec<_>>());
        let (mut kept, mut failed) = (Vec::new(), Ok(()));
        for names in wanted {
            let known = self
                .0
                .iter()
                .position(|one| one.names == names)
                .map(|place| self.0.swap_remove(place));
            match known {
                Some(one) if app.now() < one.renew_at => kept.push(one),
                known => match issue(app, names).await {
                    Ok(one) => kept.push(one),
                    Err(error) => {
                        kept.extend(known);
                        failed = Err(error);
                    }
                },
            }
        }
        self.0 = kept;
        failed
    }

    pub fn loaded(&self) -> Vec<LoadedCertificate> {
        self.0.iter().map(|one| one.loaded.clone()).collect()
    }
}

async fn issue(app: &App, names: Vec<String>) -> Result<One, CertificateError> {
    let key = KeyPair::generate()?;
    let request = CertificateParams::new(names.clone())?.serialize_request(&key)?;
    let issued = app
        .vault
        .issue_server_certificate(request.der().to_vec(), names.clone(), &[])
        .await?;
    let renew_at = renewal(app, &issued);
    let chain = issued.chain.iter().map(|der| pem(der)).collect();
    let loaded = LoadedCertificate {
        chain,
        key: Zeroizing::new(key.serialize_pem()),
    };
    Ok(One {
        names,
        loaded,
        renew_at,
    })
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
