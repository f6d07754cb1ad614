//! What the first version kept of exits.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Answer;
use super::network::Asked;
use crate::app::App;
use crate::http::dto::first_version::{ConnectivityImport, ConnectivityImported};
use crate::http::dto::problem::Problems;
use crate::http::extract::Who;
use crate::http::input::Input;
use crate::service::connections;

/// Carries what the first version kept of exits: makes the connections, and binds the devices that used them. A second time
/// does nothing.
#[utoipa::path(post, path = "/api/connectivity/import", tag = "connections", operation_id = "import_connectivity",
    params(("confirm_within" = Option<u32>, Query,
            description = "seconds, 5-3600: the devices are bound for good only if that is confirmed in time"),
        ("validate_only" = Option<bool>, Query, description = "only says what it would do")),
    request_body = ConnectivityImport, responses((status = 200, body = ConnectivityImported), Problems))]
pub async fn import(
    State(app): State<Arc<App>>,
    who: Who,
    asked: Asked,
    Input(files): Input<ConnectivityImport>,
) -> Answer<ConnectivityImported> {
    let (actor, files) = (who.actor(), files.into());
    let Asked {
        wait,
        validate_only,
        author: _,
        delete_accounts: _,
    } = asked;
    let outcome = if validate_only {
        connections::plan_first_version(&app, &actor, files).await?
    } else {
        connections::carry(&app, &actor, files, wait).await?
    };
    Ok(Json(ConnectivityImported::of(outcome, !validate_only)))
}
