//! The domain of services.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Answer;
use crate::app::App;
use crate::http::dto::domain::{Domain, DomainUpdate};
use crate::http::dto::problem::Problems;
use crate::http::extract::Who;
use crate::http::input::Input;
use crate::service::domain;

/// Under which domain services are found.
#[utoipa::path(get, path = "/api/domain", tag = "cell", operation_id = "get_domain",
    responses((status = 200, body = Domain), Problems))]
pub async fn get(State(app): State<Arc<App>>) -> Answer<Domain> {
    Ok(Json(domain::view(&app).await?.into()))
}

/// Says under which domain services are found. Whether its certificate was had is told by `ProxyConfigured` in the status.
#[utoipa::path(put, path = "/api/domain", tag = "cell", operation_id = "set_domain",
    request_body = DomainUpdate, responses((status = 200, body = Domain), Problems))]
pub async fn set(
    State(app): State<Arc<App>>,
    who: Who,
    Input(update): Input<DomainUpdate>,
) -> Answer<Domain> {
    Ok(Json(domain::set(&app, &who.actor(), update.into()).await?.into()))
}
