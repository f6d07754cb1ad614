//! Problem documents (RFC 9457).

use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

/// A refusal.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the code says which.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    pub kind: &'static str,
    /// The status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Which refusal, UPPER_SNAKE; stable.
    #[schema(example = "INVALID_REQUEST")]
    pub code: String,
    /// What is wrong, for people.
    pub detail: String,
    /// To find the request in the log.
    pub request_id: String,
    /// Every fault of the request.
    pub violations: Vec<Violation>,
}

/// One fault of a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Violation {
    /// Path of the field; empty for the request as a whole.
    #[schema(example = "access.services[2].port")]
    pub field: String,
    /// What is wrong and what would be right.
    pub description: String,
}

/// What every route may answer instead.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "only describes")]
pub enum Problems {
    /// The request is refused; `code` says why.
    #[response(status = "4XX", content_type = "application/problem+json")]
    Refused(Problem),
    /// The cell cannot answer now; `code` says why.
    #[response(status = "5XX", content_type = "application/problem+json")]
    Failed(Problem),
}
