//! Server certificates, and the root that clients trust.

use cell_vaultd_core::profile::{self, Validity};
use cell_vaultd_core::request::{CheckedNames, NamesRefused};
use cell_vaultd_core::{Action, ItemName, renewal};

use super::{Asker, Vault, serial};
use crate::authority::{Authority, AuthorityError, AuthorityKey, Issued};
use crate::csr::{self, RequestedKey};
use crate::error::VaultError;
use crate::store::{Damage, StoreError};

/// What is asked to be certified, as it came.
#[derive(Debug, Clone, Default)]
pub struct CertificateRequest {
    /// PKCS #10, DER.
    pub csr_der: Vec<u8>,
    /// DNS names.
    pub names: Vec<String>,
    /// Addresses, 4 or 16 bytes each.
    pub addresses: Vec<Vec<u8>>,
}

/// A server's certificate and what lies between it and the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The server's.
    pub leaf: Issued,
    /// The intermediate's certificate, DER.
    pub intermediate: Vec<u8>,
}

impl Vault {
    /// Issues a TLS server certificate.
    ///
    /// # Errors
    /// See the proto.
    pub fn issue_server_certificate(
        &mut self,
        asker: &Asker,
        request: &CertificateRequest,
    ) -> Result<Chain, VaultError> {
        let judged = self.judge_issuance(asker, request);
        let names = match &judged {
            Ok((checked, _)) => {
                let names = checked.names().iter().map(ToString::to_string);
                names
                    .chain(checked.addresses().iter().map(ToString::to_string))
                    .collect()
            }
            Err(VaultError::NamesNotAllowed(names)) => names.clone(),
            Err(_) => Vec::new(),
        };
        let (names, key) = self.record(asker, Action::IssueServerCertificate, names, judged)?;
        self.renew_intermediate_if_due()?;
        let (intermediate, own_key) = self.load(&ItemName::IntermediateAuthority)?;
        let leaf_lifetime = self.policy.leaf_lifetime;
        let profile = profile::server(
            &names,
            serial()?,
            self.now(),
            leaf_lifetime,
            intermediate.validity,
        );
        let leaf = intermediate.issue(&own_key, &profile, &key)?;
        Ok(Chain {
            leaf,
            intermediate: intermediate.certificate,
        })
    }

    /// The root certificate, DER.
    ///
    /// # Errors
    /// See the proto.
    pub fn trust_bundle(&mut self, asker: &Asker) -> Result<Vec<u8>, VaultError> {
        let judged = self.permit(asker, Action::GetTrustBundle);
        self.record(asker, Action::GetTrustBundle, Vec::new(), judged)?;
        Ok(self.root.certificate.clone())
    }

    fn judge_issuance(
        &mut self,
        asker: &Asker,
        request: &CertificateRequest,
    ) -> Result<(CheckedNames, RequestedKey), VaultError> {
        self.permit(asker, Action::IssueServerCertificate)?;
        let names = CheckedNames::check(&request.names, &request.addresses, &self.policy, &self.root.scope)
            .map_err(|refused| match refused {
            NamesRefused::Invalid(violations) => VaultError::Invalid(violations),
            NamesRefused::NotAllowed(names) => VaultError::NamesNotAllowed(names),
        })?;
        let key = csr::read(&request.csr_der)?;
        if !self.now().is_plausible() || !self.root.validity.contains(self.now()) {
            return Err(VaultError::Clock);
        }
        self.issuances
            .admit(self.clock.steady())
            .map_err(|full| VaultError::Rate {
                retry_after: full.retry_after,
            })?;
        Ok((names, key))
    }

    /// A new intermediate in good time. Leaves carry theirs, so that those of the old one stay good to their end.
    fn renew_intermediate_if_due(&mut self) -> Result<(), VaultError> {
        let now = self.now();
        // One that ends with the root cannot be made any longer.
        let capped = self.intermediate.validity.not_after >= self.root.validity.not_after;
        if !renewal::is_due(self.intermediate.validity, now) || capped {
            return Ok(());
        }
        let (root, root_key) = self.load(&ItemName::RootAuthority)?;
        let (intermediate, key) = make_intermediate(&root, &root_key, now)?;
        let value = intermediate.encode(&key);
        let version = self.store.index().version(&ItemName::IntermediateAuthority);
        self.store.write(
            &ItemName::IntermediateAuthority,
            &value,
            version,
            self.policy.secrets_max,
            now,
        )?;
        tracing::info!(
            not_after = intermediate.validity.not_after.0,
            "the intermediate was renewed"
        );
        self.intermediate = intermediate;
        Ok(())
    }

    /// Authority and key, for one signature.
    fn load(&self, name: &ItemName) -> Result<(Authority, AuthorityKey), VaultError> {
        let missing = || StoreError::Damaged {
            name: name.to_string(),
            source: Damage::Missing,
        };
        let value = self.store.read(name)?.ok_or_else(missing)?;
        Ok(Authority::decode(&value)?)
    }

    /// When the intermediate holds.
    pub fn intermediate_validity(&self) -> Validity {
        self.intermediate.validity
    }
}

/// A fresh intermediate with its key.
pub(super) fn make_intermediate(
    root: &Authority,
    root_key: &AuthorityKey,
    now: cell_vaultd_core::Timestamp,
) -> Result<(Authority, AuthorityKey), VaultError> {
    let key = AuthorityKey::generate()?;
    let profile = profile::intermediate(&root.label, &root.scope, serial()?, now, root.validity);
    let made: Result<Authority, AuthorityError> = root.certify(root_key, &profile, &key);
    Ok((made?, key))
}
