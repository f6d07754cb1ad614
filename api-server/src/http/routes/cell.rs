//! The cell as a whole.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::Answer;
use crate::app::App;
use crate::http::dto::cell::{
    ActiveService, Config, ConfigUpdate, ContainerList, Health, ServiceList, Status, WireguardStatus,
};
use crate::http::dto::problem::Problems;
use crate::http::extract::Who;
use crate::http::input::Input;
use crate::http::openapi;
use crate::http::problem::Refusal;
use crate::service::{cell, containers, store, trust};

/// That the process serves.
#[utoipa::path(get, path = "/health", tag = "cell", operation_id = "get_health",
    responses((status = 200, body = Health)))]
pub async fn health() -> Json<Health> {
    Json(Health {
        status: "ok",
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", tag = "cell", operation_id = "get_openapi",
    responses((status = 200, body = serde_json::Value), Problems))]
pub async fn openapi_document() -> Response {
    ([(CONTENT_TYPE, "application/json")], openapi::served()).into_response()
}

/// The cell at a glance.
#[utoipa::path(get, path = "/api/status", tag = "cell", operation_id = "get_status",
    responses((status = 200, body = Status), Problems))]
pub async fn status(State(app): State<Arc<App>>) -> Answer<Status> {
    Ok(Json(cell::status(&app).await?.into()))
}

/// The cell's configuration.
#[utoipa::path(get, path = "/api/config", tag = "cell", operation_id = "get_config",
    responses((status = 200, body = Config), Problems))]
pub async fn config(State(app): State<Arc<App>>) -> Answer<Config> {
    let identity = cell::identity(&app)?;
    Ok(Json(Config::of(&identity, &app.config)))
}

/// Changes the configuration.
#[utoipa::path(put, path = "/api/config", tag = "cell", operation_id = "update_config",
    request_body = ConfigUpdate, responses((status = 200, body = Config), Problems))]
pub async fn update_config(
    State(app): State<Arc<App>>,
    who: Who,
    Input(update): Input<ConfigUpdate>,
) -> Answer<Config> {
    let identity = cell::configure(&app, &who.actor(), update.into()).await?;
    Ok(Json(Config::of(&identity, &app.config)))
}

/// The WireGuard interface and what moves on it.
#[utoipa::path(get, path = "/api/wireguard/status", tag = "cell", operation_id = "get_wireguard_status",
    responses((status = 200, body = WireguardStatus), Problems))]
pub async fn wireguard_status(State(app): State<Arc<App>>) -> Answer<WireguardStatus> {
    Ok(Json(cell::wireguard(&app).await?.into()))
}

/// Containers that the broker owns.
#[utoipa::path(get, path = "/api/containers", tag = "cell", operation_id = "list_containers",
    responses((status = 200, body = ContainerList), Problems))]
pub async fn containers(State(app): State<Arc<App>>) -> Answer<ContainerList> {
    Ok(Json(containers::list(&app).await?.into()))
}

/// Services that are installed and on. The event `services` says when they have changed.
#[utoipa::path(get, path = "/api/services/active", tag = "cell", operation_id = "list_active_services",
    responses((status = 200, body = ServiceList), Problems))]
pub async fn active_services(State(app): State<Arc<App>>) -> Answer<ServiceList> {
    let active = store::active(&app).await?.into_iter();
    let services = active.map(|one| ActiveService {
        name: one.name,
        title: one.title,
        url: one.url,
    });
    Ok(Json(ServiceList {
        services: services.collect(),
    }))
}

/// The certificate to trust, so that a device knows the cell.
#[utoipa::path(get, path = "/api/trust/root.pem", tag = "cell", operation_id = "get_root_certificate",
    responses((status = 200, body = String, content_type = "application/x-pem-file"), Problems))]
pub async fn root_certificate(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let pem = trust::root_pem(&app).await?;
    Ok(([(CONTENT_TYPE, "application/x-pem-file")], pem).into_response())
}
