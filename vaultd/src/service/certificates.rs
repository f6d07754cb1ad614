//! CertificateService.

use cell_proto::vault::v1::certificate_service_server::CertificateService;
use cell_proto::vault::v1::{
    Certificate, GetTrustBundleRequest, GetTrustBundleResponse, IssueServerCertificateRequest,
    IssueServerCertificateResponse,
};
use cell_vaultd_core::Role;
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status};

use super::ApiListener;
use crate::authority::root_pem;
use crate::vault::{CertificateRequest, Chain};

#[tonic::async_trait]
impl CertificateService for ApiListener {
    async fn issue_server_certificate(
        &self,
        request: Request<IssueServerCertificateRequest>,
    ) -> Result<Response<IssueServerCertificateResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let IssueServerCertificateRequest {
            csr_der,
            names,
            addresses,
        } = message;
        let asked = CertificateRequest {
            csr_der,
            names,
            addresses,
        };
        let issue =
            move |vault: &mut crate::vault::Vault, asker: &_| vault.issue_server_certificate(asker, &asked);
        self.0.answer(Role::Api, &extensions, issue, encode_chain).await
    }

    async fn get_trust_bundle(
        &self,
        request: Request<GetTrustBundleRequest>,
    ) -> Result<Response<GetTrustBundleResponse>, Status> {
        let encode = |root: Vec<u8>| GetTrustBundleResponse {
            root_pem: root_pem(&root),
            root_sha256: Sha256::digest(&root).to_vec(),
            root_der: root,
        };
        self.0
            .answer(
                Role::Api,
                request.extensions(),
                |vault, asker| vault.trust_bundle(asker),
                encode,
            )
            .await
    }
}

fn encode_chain(chain: Chain) -> IssueServerCertificateResponse {
    let Chain { leaf, intermediate } = chain;
    IssueServerCertificateResponse {
        certificate: Some(Certificate {
            der: leaf.der,
            serial: leaf.serial.as_bytes().to_vec(),
            not_before_unix_ms: leaf.validity.not_before.0,
            not_after_unix_ms: leaf.validity.not_after.0,
        }),
        intermediates_der: vec![intermediate],
    }
}
