//! A vaultd with a throwaway authority and anchors in memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use cell_proto::fault::Fault;
use cell_proto::vault::v1::audit_anchor_service_server::{AuditAnchorService, AuditAnchorServiceServer};
use cell_proto::vault::v1::certificate_service_server::{CertificateService, CertificateServiceServer};
use cell_proto::vault::v1::vault_status_service_server::{VaultStatusService, VaultStatusServiceServer};
use cell_proto::vault::v1::*;
use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

pub struct FakeVault {
    path: PathBuf,
    pub anchors: Arc<Mutex<BTreeMap<u64, Vec<u8>>>>,
    pub root_der: Vec<u8>,
    authority: Arc<Authority>,
    serving: CancellationToken,
}

/// Names and addresses of one certificate.
pub type Names = (Vec<String>, Vec<Vec<u8>>);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root_der: Vec<u8>,
    root_pem: String,
    now: i64,
    issued: Mutex<Vec<Names>>,
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
        });
        let serving = CancellationToken::new();
        let mut vault = FakeVault {
            path,
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
            anchors: Arc::clone(&self.anchors),
            authority: Arc::clone(&self.authority),
        };
        let routes = Routes::new(AuditAnchorServiceServer::new(service.clone()))
            .add_service(CertificateServiceServer::new(service.clone()))
            .add_service(VaultStatusServiceServer::new(service));
        self.serving = super::serve(&self.path, routes);
    }

    /// Names and addresses of the certificates that were asked for.
    pub fn issued(&self) -> Vec<Names> {
        self.authority.issued.lock().unwrap().clone()
    }
}

#[derive(Clone)]
struct Service {
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
