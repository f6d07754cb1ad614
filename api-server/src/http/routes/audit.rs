//! The audit chain.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Answer;
use crate::app::App;
use crate::http::dto::audit::{AuditPage, AuditRecord, AuditVerdict};
use crate::http::dto::problem::Problems;
use crate::http::input::Paging;
use crate::service::audit;

/// Some records, in the order in which they were written or from the newest back. Not checked: see verify.
#[utoipa::path(get, path = "/api/audit", tag = "audit", operation_id = "list_audit",
    params(("from" = Option<u64>, Query, description = "first sequence wanted; default: the oldest, or the newest"),
        ("order" = Option<String>, Query, description = "oldest or newest first; default oldest"),
        ("limit" = Option<u64>, Query, description = "1-1,000; default 100")),
    responses((status = 200, body = AuditPage), Problems))]
pub async fn list(State(app): State<Arc<App>>, page: Paging) -> Answer<AuditPage> {
    let (records, next) = audit::page(&app, page.from, page.newest_first, page.limit).await?;
    Ok(Json(AuditPage {
        records: records.into_iter().map(AuditRecord::from).collect(),
        next,
    }))
}

/// Checks the chain from the first record, and its anchors in vaultd.
#[utoipa::path(get, path = "/api/audit/verify", tag = "audit", operation_id = "verify_audit",
    responses((status = 200, body = AuditVerdict), Problems))]
pub async fn verify(State(app): State<Arc<App>>) -> Answer<AuditVerdict> {
    let verdict = audit::verify(&app).await?;
    Ok(Json(AuditVerdict {
        intact: verdict.fault.is_none(),
        record_count: verdict.record_count,
        anchor_count: verdict.anchor_count,
        first_bad_sequence: verdict.fault.map(|fault| fault.sequence()),
        detail: verdict.fault.map(|fault| fault.to_string()).unwrap_or_default(),
    }))
}
