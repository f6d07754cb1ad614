//! Remote catalogs of the store.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::Answer;
use crate::app::App;
use crate::http::dto::problem::Problems;
use crate::http::dto::remote_catalogs::{AddRemoteCatalog, RemoteCatalog, RemoteCatalogs};
use crate::http::extract::{Segment, Who};
use crate::http::input::Input;
use crate::http::problem::Refusal;
use crate::service::remote_catalogs as remote;

/// Remote catalogs. The event `services` says when to ask again.
#[utoipa::path(get, path = "/api/store/catalogs", tag = "store", operation_id = "list_remote_catalogs",
    responses((status = 200, body = RemoteCatalogs), Problems))]
pub async fn list(State(app): State<Arc<App>>) -> Answer<RemoteCatalogs> {
    let all = remote::list(&app).await?;
    Ok(Json(RemoteCatalogs {
        catalogs: all.into_iter().map(Into::into).collect(),
    }))
}

/// Adds one. It is fetched from then on: once a day, and when somebody asks.
#[utoipa::path(post, path = "/api/store/catalogs", tag = "store", operation_id = "add_remote_catalog",
    request_body = AddRemoteCatalog, responses((status = 201, body = RemoteCatalog), Problems))]
pub async fn add(
    State(app): State<Arc<App>>,
    who: Who,
    Input(wanted): Input<AddRemoteCatalog>,
) -> Result<(StatusCode, Json<RemoteCatalog>), Refusal> {
    let view = remote::add(&app, &who.actor(), wanted.into()).await?;
    Ok((StatusCode::CREATED, Json(view.into())))
}

/// Removes one. What was installed of it stays.
#[utoipa::path(delete, path = "/api/store/catalogs/{catalog}", tag = "store", operation_id = "remove_remote_catalog",
    params(("catalog" = String, Path)), responses((status = 204), Problems))]
pub async fn remove(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(catalog): Segment,
) -> Result<StatusCode, Refusal> {
    remote::remove(&app, &who.actor(), &catalog).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Fetches one now. Answers when that is over, or after 25 seconds; it goes on.
#[utoipa::path(post, path = "/api/store/catalogs/{catalog}/refresh", tag = "store",
    operation_id = "refresh_remote_catalog", params(("catalog" = String, Path)),
    responses((status = 200, body = RemoteCatalog), Problems))]
pub async fn refresh(State(app): State<Arc<App>>, Segment(catalog): Segment) -> Answer<RemoteCatalog> {
    Ok(Json(remote::refresh(&app, &catalog).await?.into()))
}
