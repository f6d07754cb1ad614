//! A vaultd with a throwaway authority and anchors in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cell_proto::fault::Fault;
use cell_proto::vault::v1::audit_anchor_service_server::{AuditAnchorService, AuditAnchorServiceServer};
use cell_proto::vault::v1::certificate_service_server::{CertificateService, CertificateServiceServer};
use cell_proto::vault::v1::secret_service_server::{SecretService, SecretServiceServer};
use cell_proto::vault::v1::vault_status_service_server::{VaultStatusService, VaultStatusServiceServer};
use cell_proto::vault::v1::*;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

pub struct FakeVault {
    path: PathBuf,
    pub secrets: Arc<Mutex<Secrets>>,
    pub anchors: Arc<Mutex<BTreeMap<u64, Vec<u8>>>>,
    pub root_der: Vec<u8>,
    authority: Arc<Authority>,
    serving: CancellationToken,
}

/// What it keeps, and how it misbehaves.
#[derive(Default)]
pub struct Secrets {
    /// By name: version and value.
    pub kept: BTreeMap<String, (u64, Vec<u8>)>,
    /// By name: what was put with it.
    pub revisions: BTreeMap<String, u64>,
    /// It is of before there were revisions, and drops them.
    pub is_old: bool,
    /// How long a put takes before and after it is done.
    pub delay: Duration,
    /// The reason with which puts of names that end so are refused.
    pub refuses: Option<(&'static str, &'static str)>,
}

impl Secrets {
    pub fn names(&self) -> Vec<String> {
        self.kept.keys().cloned().collect()
    }

    pub fn value(&self, name: &str) -> String {
        String::from_utf8(self.kept[name].1.clone()).unwrap()
    }
}

/// Names and addresses of one certificate.
pub type Names = (Vec<String>, Vec<Vec<u8>>);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root_der: Vec<u8>,
    root_pem: String,
    now: i64,
    issued: Mutex<Vec<Names>>,
    refused: Mutex<BTreeSet<String>>,
}

impl FakeVault {
    pub async fn start(path: PathBuf, now: i64) -> FakeVault {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        let (root_der, root_pem) = (root.der().to_vec(), root.pem());
        let issued = Mutex::default();
        let issuer = Issuer::new(params, key);
        let authority = Arc::new(Authority {
            issuer,
            root_der: root_der.clone(),
            root_pem,
            now,
            issued,
            refused: Mutex::default(),
        });
        let serving = CancellationToken::new();
        let mut vault = FakeVault {
            path,
            secrets: Arc::default(),
            anchors: Arc::default(),
            root_der,
            authority,
            serving,
        };
        vault.resume();
        vault
    }

    pub fn kill(&mut self) {
        self.serving.cancel();
        std::fs::remove_file(&self.path).unwrap();
    }

    pub fn resume(&mut self) {
        let service = Service {
            secrets: Arc::clone(&self.secrets),
            anchors: Arc::clone(&self.anchors),
            authority: Arc::clone(&self.authority),
        };
        let routes = Routes::new(AuditAnchorServiceServer::new(service.clone()))
            .add_service(CertificateServiceServer::new(service.clone()))
            .add_service(SecretServiceServer::new(service.clone()))
            .add_service(VaultStatusServiceServer::new(service));
        self.serving = super::serve(&self.path, routes);
    }

    /// From now on there is no certificate for these names, and one for all others.
    pub fn refuse(&self, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        *self.authority.refused.lock().unwrap() = names;
    }

    /// Names and addresses of the certificates that were asked for.
    pub fn issued(&self) -> Vec<Names> {
        self.authority.issued.lock().unwrap().clone()
    }
}

#[derive(Clone)]
struct Service {
    secrets: Arc<Mutex<Secrets>>,
    anchors: Arc<Mutex<BTreeMap<u64, Vec<u8>>>>,
    authority: Arc<Authority>,
}

#[tonic::async_trait]
impl VaultStatusService for Service {
    async fn get_vault_status(
        &self,
        _: Request<GetVaultStatusRequest>,
    ) -> Result<Response<GetVaultStatusResponse>, Status> {
        Ok(Response::new(GetVaultStatusResponse {
            status: Some(VaultStatus::default()),
        }))
    }

    async fn get_wireguard_public_key(
        &self,
        _: Request<GetWireguardPublicKeyRequest>,
    ) -> Result<Response<GetWireguardPublicKeyResponse>, Status> {
        Ok(Response::new(GetWireguardPublicKeyResponse {
            public_key: vec![9; 32],
        }))
    }
}

#[tonic::async_trait]
impl CertificateService for Service {
    async fn issue_server_certificate(
        &self,
        request: Request<IssueServerCertificateRequest>,
    ) -> Result<Response<IssueServerCertificateResponse>, Status> {
        let request = request.into_inner();
        let refused = self.authority.refused.lock().unwrap().clone();
        if request.names.iter().any(|name| refused.contains(name)) {
            return Err(Status::unavailable("it is busy"));
        }
        let mut csr = CertificateSigningRequestParams::from_der(&request.csr_der.clone().into()).unwrap();
        csr.params.subject_alt_names.clear();
        for name in &request.names {
            csr.params
                .subject_alt_names
                .push(rcgen::SanType::DnsName(name.clone().try_into().unwrap()));
        }
        let certificate = csr.signed_by(&self.authority.issuer).unwrap();
        self.authority
            .issued
            .lock()
            .unwrap()
            .push((request.names, request.addresses));
        let now = self.authority.now;
        let certificate = Certificate {
            der: certificate.der().to_vec(),
            serial: vec![1; 16],
            not_before_unix_ms: now,
            not_after_unix_ms: now + 24 * 3_600_000,
        };
        Ok(Response::new(IssueServerCertificateResponse {
            certificate: Some(certificate),
            intermediates_der: Vec::new(),
        }))
    }

    async fn get_trust_bundle(
        &self,
        _: Request<GetTrustBundleRequest>,
    ) -> Result<Response<GetTrustBundleResponse>, Status> {
        Ok(Response::new(GetTrustBundleResponse {
            root_der: self.authority.root_der.clone(),
            root_pem: self.authority.root_pem.clone(),
            root_sha256: Vec::new(),
        }))
    }
}

#[tonic::async_trait]
impl AuditAnchorService for Service {
    async fn append_audit_anchor(
        &self,
        request: Request<AppendAuditAnchorRequest>,
    ) -> Result<Response<AppendAuditAnchorResponse>, Status> {
        let AppendAuditAnchorRequest { sequence, hash } = request.into_inner();
        let mut anchors = self.anchors.lock().unwrap();
        if anchors
            .last_key_value()
            .is_some_and(|(last, _)| *last >= sequence)
        {
            return Err(Fault::new(Code::Aborted, "vault.cell", "NOT_NEWER", "not newer").into());
        }
        anchors.insert(sequence, hash);
        Ok(Response::new(AppendAuditAnchorResponse::default()))
    }

    async fn list_audit_anchors(
        &self,
        request: Request<ListAuditAnchorsRequest>,
    ) -> Result<Response<ListAuditAnchorsResponse>, Status> {
        let from = request.into_inner().from_sequence;
        let anchors = self.anchors.lock().unwrap();
        let page = anchors
            .range(from..)
            .take(1_000)
            .map(|(sequence, hash)| AuditAnchor {
                sequence: *sequence,
                hash: hash.clone(),
                anchored_unix_ms: 0,
            });
        Ok(Response::new(ListAuditAnchorsResponse {
            anchors: page.collect(),
        }))
    }
}

impl Service {
    fn store(
        &self,
        name: String,
        value: Vec<u8>,
        expected: u64,
        revision: u64,
    ) -> Result<Response<PutSecretResponse>, Status> {
        let mut secrets = self.secrets.lock().unwrap();
        if let Some((_, reason)) = secrets.refuses.filter(|(end, _)| name.ends_with(end)) {
            return Err(refusal(Code::Unavailable, reason));
        }
        let version = secrets.kept.get(&name).map_or(0, |(version, _)| *version);
        if version != expected {
            return Err(refusal(Code::Aborted, "VERSION_MISMATCH"));
        }
        let revision = if secrets.is_old { 0 } else { revision };
        secrets.kept.insert(name.clone(), (version + 1, value));
        secrets.revisions.insert(name.clone(), revision);
        let metadata = SecretMetadata {
            name,
            version: version + 1,
            updated_unix_ms: 1,
            revision,
        };
        Ok(Response::new(PutSecretResponse {
            metadata: Some(metadata),
        }))
    }
}

fn refusal(code: Code, reason: &'static str) -> Status {
    Fault::new(code, "vault.cell", reason, "no").into()
}

#[tonic::async_trait]
impl SecretService for Service {
    async fn put_secret(
        &self,
        request: Request<PutSecretRequest>,
    ) -> Result<Response<PutSecretResponse>, Status> {
        let PutSecretRequest {
            name,
            value,
            expected_version,
            revision,
        } = request.into_inner();
        let delay = self.secrets.lock().unwrap().delay;
        tokio::time::sleep(delay).await;
        let done = self.store(name, value, expected_version, revision);
        tokio::time::sleep(delay).await;
        done
    }

    async fn list_secrets(
        &self,
        request: Request<ListSecretsRequest>,
    ) -> Result<Response<ListSecretsResponse>, Status> {
        let prefix = request.into_inner().prefix;
        let secrets = self.secrets.lock().unwrap();
        let listed = secrets.kept.iter().filter(|(name, _)| name.starts_with(&prefix));
        let listed = listed.map(|(name, (version, _))| SecretMetadata {
            name: name.clone(),
            version: *version,
            updated_unix_ms: 1,
            revision: secrets.revisions.get(name).copied().unwrap_or(0),
        });
        Ok(Response::new(ListSecretsResponse {
            secrets: listed.collect(),
        }))
    }

    async fn rotate_secret(
        &self,
        _: Request<RotateSecretRequest>,
    ) -> Result<Response<RotateSecretResponse>, Status> {
        Err(Status::unimplemented("nobody rotates"))
    }

    async fn generate_secret(
        &self,
        request: Request<GenerateSecretRequest>,
    ) -> Result<Response<GenerateSecretResponse>, Status> {
        let GenerateSecretRequest {
            name,
            length,
            expected_version,
        } = request.into_inner();
        let value = vec![b'g'; length as usize];
        self.store(name, value, expected_version, 0)?;
        Ok(Response::new(GenerateSecretResponse::default()))
    }

    async fn delete_secret(
        &self,
        request: Request<DeleteSecretRequest>,
    ) -> Result<Response<DeleteSecretResponse>, Status> {
        let DeleteSecretRequest {
            name,
            expected_version,
        } = request.into_inner();
        let mut secrets = self.secrets.lock().unwrap();
        match secrets.kept.get(&name) {
            None => Err(refusal(Code::NotFound, "NO_SECRET")),
            Some((version, _)) if *version != expected_version => {
                Err(refusal(Code::Aborted, "VERSION_MISMATCH"))
            }
            Some(_) => {
                secrets.kept.remove(&name);
                Ok(Response::new(DeleteSecretResponse {}))
            }
        }
    }
}
