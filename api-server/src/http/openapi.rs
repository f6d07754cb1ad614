//! The OpenAPI document, generated from the handlers.

use std::sync::LazyLock;

use axum::body::Bytes;
use utoipa::OpenApi;

use super::routes;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Cell",
        description = "The REST API of a Personal Internet Cell. Every change needs the session cookie and the header \
                       X-CSRF-Token (GET /api/auth/csrf-token); setup needs X-Claim-Token instead.",
        license(name = "MIT OR Apache-2.0")
    ),
    components(schemas(super::dto::problem::Problem))
)]
struct Document;

/// The document.
pub fn document() -> utoipa::openapi::OpenApi {
    utoipa_axum::router::OpenApiRouter::with_openapi(Document::openapi())
        .merge(routes::all())
        .into_openapi()
}

/// The document as it is served: made once, for anybody may ask for it.
pub fn served() -> Bytes {
    static SERVED: LazyLock<Bytes> =
        LazyLock::new(|| document().to_json().map(Bytes::from).unwrap_or_default());
    SERVED.clone()
}

/// The document as it is committed for the web UI: pretty JSON with a line end.
///
/// # Errors
/// None that can happen: the document is plain data.
pub fn rendered() -> Result<String, serde_json::Error> {
    document().to_pretty_json().map(|json| json + "\n")
}
