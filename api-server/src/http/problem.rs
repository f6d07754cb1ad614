//! From a refusal to a problem document: one table of status codes.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::dto::problem::{Problem, Violation};
use crate::service::{Kind, ServiceError};

/// A refusal on its way out.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    detail: String,
    violations: Vec<Violation>,
    retry_after: Option<u64>,
}

impl Refusal {
    /// A refusal of HTTP's own.
    pub fn new(status: StatusCode, code: &'static str, detail: &'static str) -> Self {
        Refusal {
            status,
            code,
            detail: detail.to_owned(),
            violations: Vec::new(),
            retry_after: None,
        }
    }
}

impl From<ServiceError> for Refusal {
    fn from(error: ServiceError) -> Self {
        let (kind, code) = error.kind();
        let (detail, retry_after) = (error.to_string(), error.retry_after());
        let violations = match error {
            ServiceError::Invalid(faults) => faults.into_violations(),
            _ => Vec::new(),
        };
        let violations = violations.into_iter().map(|v| Violation {
            field: v.field,
            description: v.description,
        });
        Refusal {
            status: status_of(kind),
            code,
            detail,
            violations: violations.collect(),
            retry_after,
        }
    }
}

impl From<cell_api_core::fault::Faults> for Refusal {
    fn from(faults: cell_api_core::fault::Faults) -> Self {
        ServiceError::from(faults).into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let request_id = Uuid::new_v4().to_string();
        let Refusal {
            status,
            code,
            detail,
            violations,
            retry_after,
        } = self;
        if status.is_server_error() {
            tracing::warn!(%request_id, status = status.as_u16(), code, detail, "request failed");
        } else {
            tracing::debug!(%request_id, status = status.as_u16(), code, "request refused");
        }
        let title = status.canonical_reason().unwrap_or_default().to_owned();
        let (kind, code) = ("about:blank", code.to_owned());
        let problem = Problem {
            kind,
            title,
            status: status.as_u16(),
            code,
            detail,
            request_id,
            violations,
        };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

fn status_of(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict | Kind::Exists | Kind::Precondition => StatusCode::CONFLICT,
        Kind::Stale => StatusCode::PRECONDITION_FAILED,
        Kind::SetupRequired => StatusCode::PRECONDITION_REQUIRED,
        Kind::TooMany => StatusCode::TOO_MANY_REQUESTS,
        Kind::NoRoom => StatusCode::INSUFFICIENT_STORAGE,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
