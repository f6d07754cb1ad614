//! What the first version kept of exits.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use cell_api_core::fault::Faults;

use super::Answer;
use crate::app::App;
use crate::http::dto::first_version::{ConnectivityImport, ConnectivityImported};
use crate::http::dto::problem::Problems;
use crate::http::extract::Who;
use crate::http::input::Input;
use crate::http::problem::Refusal;
use crate::service::connections;

/// `?validate_only=true`.
pub struct ValidateOnly(bool);

impl<S: Send + Sync> FromRequestParts<S> for ValidateOnly {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let mut faults = Faults::default();
        let mut validate_only = None;
        for (name, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            match (name.as_ref(), value.as_ref()) {
                ("validate_only", _) if validate_only.is_some() => faults.add(name, "is given twice"),
                ("validate_only", "true") => validate_only = Some(true),
                ("validate_only", "false") => validate_only = Some(false),
                ("validate_only", _) => faults.add(name, "must be true or false"),
                _ => faults.add("query", "knows only validate_only"),
            }
        }
        if faults.is_empty() {
            Ok(ValidateOnly(validate_only.unwrap_or(false)))
        } else {
            Err(faults.into())
        }
    }
}

/// Carries what the first version kept of exits: makes the connections, and binds the devices that used them. A second time
/// does nothing.
#[utoipa::path(post, path = "/api/connectivity/import", tag = "connections", operation_id = "import_connectivity",
    params(("validate_only" = Option<bool>, Query, description = "only says what it would do")),
    request_body = ConnectivityImport, responses((status = 200, body = ConnectivityImported), Problems))]
pub async fn import(
    State(app): State<Arc<App>>,
    who: Who,
    ValidateOnly(validate_only): ValidateOnly,
    Input(files): Input<ConnectivityImport>,
) -> Answer<ConnectivityImported> {
    let (actor, files) = (who.actor(), files.into());
    let outcome = if validate_only {
        connections::plan_first_version(&app, &actor, files).await?
    } else {
        connections::carry(&app, &actor, files).await?
    };
    Ok(Json(ConnectivityImported::of(outcome, !validate_only)))
}
