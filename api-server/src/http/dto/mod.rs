//! The JSON that REST speaks. Requests are read by [`crate::http::input`], which names every fault at once; the
//! `Deserialize` on them only lets the OpenAPI document say that unknown fields are refused.

pub mod accounts;
pub mod audit;
pub mod auth;
pub mod cell;
pub mod connections;
pub(crate) mod convert;
pub mod domain;
pub mod exit;
pub mod explain;
pub mod first_version;
pub mod managers;
pub mod peers;
pub mod plan;
pub mod problem;
pub mod remote_catalogs;
pub mod services;
pub mod setup;
pub mod store;
pub mod waiting;

use jiff::Timestamp;

/// Milliseconds since 1970-01-01T00:00:00Z as RFC 3339 text.
pub fn rfc3339(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string()
}
