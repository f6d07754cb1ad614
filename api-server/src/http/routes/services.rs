//! Networks of services, and what carries them to the internet.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Answer;
use super::network::Asked;
use super::store::Query;
use crate::app::App;
use crate::http::dto::explain::Explanation;
use crate::http::dto::problem::Problems;
use crate::http::dto::services::{ServiceExit, ServiceNetworkList, ServiceNetworkOrPlan, ServiceReach};
use crate::http::extract::{Segment, Who};
use crate::http::input::{FlowQuery, Input};
use crate::service::explain as service_explain;
use crate::service::service_networks::{self, reach};

/// Networks of all services, and which way each has to the internet.
#[utoipa::path(get, path = "/api/connectivity/services", tag = "connections", operation_id = "list_service_networks",
    responses((status = 200, body = ServiceNetworkList), Problems))]
pub async fn list(State(app): State<Arc<App>>) -> Answer<ServiceNetworkList> {
    let all = service_networks::list(&app).await?;
    Ok(Json(ServiceNetworkList {
        services: all.into_iter().map(Into::into).collect(),
    }))
}

/// Says what carries a service's containers to the internet. Their flows that are open end.
#[utoipa::path(put, path = "/api/connectivity/services/{service}/exit", tag = "connections",
    operation_id = "set_service_exit", params(("service" = String, Path),
        ("confirm_within" = Option<u32>, Query, description = "seconds, 5-3600: taken back unless confirmed in time"),
        ("validate_only" = Option<bool>, Query, description = "only says what it would do")),
    request_body = ServiceExit,
    responses((status = 200, body = ServiceNetworkOrPlan), Problems))]
pub async fn set_exit(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(service): Segment,
    asked: Asked,
    Input(exit): Input<ServiceExit>,
) -> Answer<ServiceNetworkOrPlan> {
    let answer = if asked.validate_only {
        service_networks::plan_exit(&app, &who.actor(), &service, exit.into())
            .await?
            .into()
    } else {
        service_networks::set_exit(&app, &who.actor(), &service, exit.into(), asked.wait)
            .await?
            .into()
    };
    Ok(Json(answer))
}

/// Says what single places a service's containers may reach besides: the whole. What is taken away ends at once.
#[utoipa::path(put, path = "/api/connectivity/services/{service}/reach", tag = "connections",
    operation_id = "set_service_reach", params(("service" = String, Path),
        ("validate_only" = Option<bool>, Query, description = "only says what it would do")),
    request_body = ServiceReach,
    responses((status = 200, body = ServiceNetworkOrPlan), Problems))]
pub async fn set_reach(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(service): Segment,
    query: Query,
    Input(reach): Input<ServiceReach>,
) -> Answer<ServiceNetworkOrPlan> {
    let answer = if query.only_flag("validate_only")? {
        reach::plan(&app, &who.actor(), &service, reach.into())
            .await?
            .into()
    } else {
        reach::set(&app, &who.actor(), &service, reach.into())
            .await?
            .into()
    };
    Ok(Json(answer))
}

/// Whether a service's container reaches something, and why: the rules that its first packet meets.
#[utoipa::path(get, path = "/api/connectivity/services/{service}/explain", tag = "connections",
    operation_id = "explain_service_flow",
    params(("service" = String, Path), ("destination" = String, Query, description = "an IPv4 address"),
        ("protocol" = Option<String>, Query, description = "tcp, udp or ping; default: tcp with a port, else ping"),
        ("port" = Option<String>, Query, description = "1-65535, for tcp and udp")),
    responses((status = 200, body = Explanation), Problems))]
pub async fn explain(
    State(app): State<Arc<App>>,
    Segment(service): Segment,
    FlowQuery(flow): FlowQuery,
) -> Answer<Explanation> {
    let found = service_explain::explain_service(&app, &service, &flow).await?;
    Ok(Json(found.into()))
}
