//! Connections.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{ETAG, HeaderName};
use axum::response::{IntoResponse, Response};
use cell_api_core::fault::Faults;

use super::Answer;
use super::network::Asked;
use crate::app::App;
use crate::http::dto::connections::{
    Connection, ConnectionCreate, ConnectionList, ConnectionOrPlan, ConnectionStored, ConnectionUpdate,
};
use crate::http::dto::problem::Problems;
use crate::http::extract::{IfMatch, Segment, Who};
use crate::http::input::Input;
use crate::http::problem::Refusal;
use crate::service::{ServiceError, connections};

/// A connection's version as `ETag` (RFC 9110).
type Tag = [(HeaderName, String); 1];

fn tag(version: &str) -> Tag {
    [(ETAG, format!("\"{version}\""))]
}

/// All connections.
#[utoipa::path(get, path = "/api/connectivity/connections", tag = "connections", operation_id = "list_connections",
    responses((status = 200, body = ConnectionList), Problems))]
pub async fn list(State(app): State<Arc<App>>) -> Answer<ConnectionList> {
    let all = connections::list(&app).await?;
    Ok(Json(ConnectionList {
        connections: all.into_iter().map(Connection::from).collect(),
    }))
}

/// Adds a connection; its secrets go to the vault.
#[utoipa::path(post, path = "/api/connectivity/connections", tag = "connections", operation_id = "create_connection",
    request_body = ConnectionCreate, responses((status = 201, body = ConnectionStored), Problems))]
pub async fn create(
    State(app): State<Arc<App>>,
    who: Who,
    Input(create): Input<ConnectionCreate>,
) -> Result<(StatusCode, Tag, Json<ConnectionStored>), Refusal> {
    let stored = ConnectionStored::from(connections::create(&app, &who.actor(), create.into()).await?);
    let tag = tag(&stored.connection.version);
    Ok((StatusCode::CREATED, tag, Json(stored)))
}

/// One connection.
#[utoipa::path(get, path = "/api/connectivity/connections/{id}", tag = "connections", operation_id = "get_connection",
    params(("id" = String, Path)), responses((status = 200, body = Connection), Problems))]
pub async fn get(
    State(app): State<Arc<App>>,
    Segment(id): Segment,
) -> Result<(Tag, Json<Connection>), Refusal> {
    let view = connections::get(&app, &id).await?;
    Ok((tag(&view.version()), Json(view.into())))
}

/// Renames a connection, or replaces what it is made of.
#[utoipa::path(put, path = "/api/connectivity/connections/{id}", tag = "connections",
    operation_id = "update_connection",
    params(("id" = String, Path),
        ("If-Match" = Option<String>, Header, description = "the version that was read; 412 when it is another now"),
        ("validate_only" = Option<bool>, Query, description = "only says what it would do")),
    request_body = ConnectionUpdate, responses((status = 200, body = ConnectionOrPlan), Problems))]
pub async fn update(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(id): Segment,
    IfMatch(version): IfMatch,
    asked: Asked,
    Input(update): Input<ConnectionUpdate>,
) -> Result<Response, Refusal> {
    if asked.wait.is_some() {
        let why = "must be absent: the secrets of now are not kept, so that nothing could be taken back; ask with validate_only";
        return Err(ServiceError::from(Faults::one("confirm_within", why)).into());
    }
    if asked.validate_only {
        let plan = connections::plan_update(&app, &id, update.into(), version, asked.author).await?;
        return Ok(Json(ConnectionOrPlan::Planned(plan.into())).into_response());
    }
    let stored = connections::update(&app, &who.actor(), &id, update.into(), version).await?;
    let stored = ConnectionStored::from(stored);
    let tag = tag(&stored.connection.version);
    let made = ConnectionOrPlan::Made(Box::new(stored));
    Ok((tag, Json(made)).into_response())
}

/// Removes a connection, and its secrets from the vault.
#[utoipa::path(delete, path = "/api/connectivity/connections/{id}", tag = "connections",
    operation_id = "delete_connection", params(("id" = String, Path)), responses((status = 204), Problems))]
pub async fn delete(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(id): Segment,
) -> Result<StatusCode, Refusal> {
    connections::delete(&app, &who.actor(), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
