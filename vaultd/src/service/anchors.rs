//! AuditAnchorService.

use cell_proto::vault::v1::audit_anchor_service_server::AuditAnchorService;
use cell_proto::vault::v1::{
    AppendAuditAnchorRequest, AppendAuditAnchorResponse, AuditAnchor, ListAuditAnchorsRequest,
    ListAuditAnchorsResponse,
};
use cell_vaultd_core::Role;
use cell_vaultd_core::anchors::Anchor;
use tonic::{Request, Response, Status};

use super::ApiListener;

#[tonic::async_trait]
impl AuditAnchorService for ApiListener {
    async fn append_audit_anchor(
        &self,
        request: Request<AppendAuditAnchorRequest>,
    ) -> Result<Response<AppendAuditAnchorResponse>, Status> {
        let (_, extensions, AppendAuditAnchorRequest { sequence, hash }) = request.into_parts();
        let encode = |anchor| AppendAuditAnchorResponse {
            anchor: Some(encode(anchor)),
        };
        self.0
            .answer(
                Role::Api,
                &extensions,
                move |vault, asker| vault.append_anchor(asker, sequence, &hash),
                encode,
            )
            .await
    }

    async fn list_audit_anchors(
        &self,
        request: Request<ListAuditAnchorsRequest>,
    ) -> Result<Response<ListAuditAnchorsResponse>, Status> {
        let (_, extensions, ListAuditAnchorsRequest { from_sequence }) = request.into_parts();
        let encode = |anchors: Vec<Anchor>| ListAuditAnchorsResponse {
            anchors: anchors.into_iter().map(encode).collect(),
        };
        self.0
            .answer(
                Role::Api,
                &extensions,
                move |vault, asker| vault.list_anchors(asker, from_sequence),
                encode,
            )
            .await
    }
}

fn encode(anchor: Anchor) -> AuditAnchor {
    let Anchor {
        sequence,
        hash,
        anchored,
    } = anchor;
    AuditAnchor {
        sequence,
        hash: hash.to_vec(),
        anchored_unix_ms: anchored.0,
    }
}
