//! vaultd: certificates, anchors, the cell's public key. Nothing secret comes back from it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cell_api_core::key::PublicKey;
use cell_proto::common::v1::Condition;
use cell_proto::fault;
use cell_proto::vault::v1::audit_anchor_service_client::AuditAnchorServiceClient;
use cell_proto::vault::v1::certificate_service_client::CertificateServiceClient;
use cell_proto::vault::v1::vault_status_service_client::VaultStatusServiceClient;
use cell_proto::vault::v1::{
    AppendAuditAnchorRequest, Certificate, GetTrustBundleRequest, GetVaultStatusRequest,
    GetWireguardPublicKeyRequest, IssueServerCertificateRequest, ListAuditAnchorsRequest,
};
use tonic::transport::Channel;

use super::{answer, read};
use crate::service::ServiceError;

const NAME: &str = "vault";

/// A client of vaultd.
#[derive(Debug, Clone)]
pub struct Vault {
    status: VaultStatusServiceClient<Channel>,
    certificates: CertificateServiceClient<Channel>,
    anchors: AuditAnchorServiceClient<Channel>,
}

/// A certificate with what stands between it and the root.
#[derive(Debug)]
pub struct IssuedCertificate {
    /// The end-entity certificate first, then the intermediates, DER.
    pub chain: Vec<Vec<u8>>,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub not_before_unix_ms: i64,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub not_after_unix_ms: i64,
}

/// What became of an anchor.
#[derive(Debug, PartialEq, Eq)]
pub enum Anchored {
    /// It is written down.
    Stored,
    /// vaultd has one that is as new.
    NotNewer,
}

impl Vault {
    /// A client over a channel.
    pub fn new(channel: Channel) -> Self {
        Vault {
            status: VaultStatusServiceClient::new(channel.clone()),
            certificates: CertificateServiceClient::new(channel.clone()),
            anchors: AuditAnchorServiceClient::new(channel),
        }
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// [`ServiceError::Unreachable`].
    pub async fn conditions(&self) -> Result<Vec<Condition>, ServiceError> {
        let answered = answer(
            NAME,
            self.status
                .clone()
                .get_vault_status(read(GetVaultStatusRequest {})),
        )
        .await?;
        Ok(answered.status.unwrap_or_default().conditions)
    }

    /// The public half of the cell's WireGuard key.
    ///
    /// # Errors
    /// [`ServiceError::Unreachable`].
    pub async fn wireguard_public_key(&self) -> Result<PublicKey, ServiceError> {
        let request = read(GetWireguardPublicKeyRequest {});
        let answered = answer(NAME, self.status.clone().get_wireguard_public_key(request)).await?;
        PublicKey::from_bytes(&answered.public_key).map_err(|_| ServiceError::Unreachable(NAME))
    }

    /// The cell's root certificate as PEM.
    ///
    /// # Errors
    /// [`ServiceError::Unreachable`].
    pub async fn root_pem(&self) -> Result<String, ServiceError> {
        let request = read(GetTrustBundleRequest {});
        Ok(answer(NAME, self.certificates.clone().get_trust_bundle(request))
            .await?
            .root_pem)
    }

    /// A server certificate for the key of `csr_der`.
    ///
    /// # Errors
    /// [`ServiceError::Unreachable`].
    pub async fn issue_server_certificate(
        &self,
        csr_der: Vec<u8>,
        names: Vec<String>,
        addresses: &[IpAddr],
    ) -> Result<IssuedCertificate, ServiceError> {
        let addresses = addresses.iter().map(|address| match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        });
        let request = read(IssueServerCertificateRequest {
            csr_der,
            names,
            addresses: addresses.collect(),
        });
        let issued = answer(NAME, self.certificates.clone().issue_server_certificate(request)).await?;
        let Certificate {
            der,
            not_before_unix_ms,
            not_after_unix_ms,
            ..
        } = issued.certificate.ok_or(ServiceError::Unreachable(NAME))?;
        let chain = std::iter::once(der).chain(issued.intermediates_der).collect();
        Ok(IssuedCertificate {
            chain,
            not_before_unix_ms,
            not_after_unix_ms,
        })
    }

    /// Writes down a head of the audit chain.
    ///
    /// # Errors
    /// [`ServiceError::Unreachable`].
    pub async fn append_anchor(&self, sequence: u64, hash: &[u8; 32]) -> Result<Anchored, ServiceError> {
        let request = read(AppendAuditAnchorRequest {
            sequence,
            hash: hash.to_vec(),
        });
        match self.anchors.clone().append_audit_anchor(request).await {
            Ok(_) => Ok(Anchored::Stored),
            Err(status) if fault::reason(&status).as_deref() == Some("NOT_NEWER") => Ok(Anchored::NotNewer),
            Err(_) => Err(ServiceError::Unreachable(NAME)),
        }
    }

    /// All anchors.
    ///
    /// # Errors
    /// [`ServiceError::Unreachable`].
    pub async fn anchors(&self) -> Result<BTreeMap<u64, [u8; 32]>, ServiceError> {
        let mut anchors = BTreeMap::new();
        loop {
            let from_sequence = anchors.last_key_value().map_or(0, |(sequence, _)| sequence + 1);
            let request = read(ListAuditAnchorsRequest { from_sequence });
            let page = answer(NAME, self.anchors.clone().list_audit_anchors(request))
                .await?
                .anchors;
            let before = anchors.len();
            for anchor in page {
                let hash = anchor
                    .hash
                    .try_into()
                    .map_err(|_| ServiceError::Unreachable(NAME))?;
                anchors.insert(anchor.sequence, hash);
            }
            if anchors.len() == before {
                return Ok(anchors);
            }
        }
    }
}
