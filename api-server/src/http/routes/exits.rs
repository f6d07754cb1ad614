//! What carries peers to the internet, and whether it works.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Answer;
use super::network::Asked;
use crate::app::App;
use crate::http::dto::exit::{ConnectionHealth, PeerExit, PeerFailOpen, PeerFallbacks, PeerRouteVia};
use crate::http::dto::plan::PeerOrPlan;
use crate::http::dto::problem::Problems;
use crate::http::extract::{Segment, Who};
use crate::http::input::Input;
use crate::service::connections;
use crate::service::peers::{self, ExitChange};

/// Whether a connection works, by what the daemons saw of it.
#[utoipa::path(get, path = "/api/connectivity/connections/{id}/health", tag = "connections",
    operation_id = "get_connection_health", params(("id" = String, Path)),
    responses((status = 200, body = ConnectionHealth), Problems))]
pub async fn health(State(app): State<Arc<App>>, Segment(id): Segment) -> Answer<ConnectionHealth> {
    Ok(Json(connections::get(&app, &id).await?.into()))
}

/// Binds a peer to a connection, or to none, and says in the same change what happens while that does not work. Flows of the peer that are open end.
#[utoipa::path(put, path = "/api/connectivity/peers/{name}/exit", tag = "connections",
    operation_id = "set_peer_exit", params(("name" = String, Path),
        ("confirm_within" = Option<u32>, Query, description = "seconds, 5-3600: taken back unless confirmed in time"),
        ("validate_only" = Option<bool>, Query, description = "only says what it would do")),
    request_body = PeerExit,
    responses((status = 200, body = PeerOrPlan), Problems))]
pub async fn set_exit(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(name): Segment,
    asked: Asked,
    Input(exit): Input<PeerExit>,
) -> Answer<PeerOrPlan> {
    let change = ExitChange::new(exit.into());
    asked_for(&app, &who, &name, change, asked).await
}

/// The same by the path and the words of the first version.
#[utoipa::path(put, path = "/api/peers/{name}/route-via", tag = "connections",
    operation_id = "set_peer_route_via", params(("name" = String, Path),
        ("confirm_within" = Option<u32>, Query, description = "seconds, 5-3600: taken back unless confirmed in time"),
        ("validate_only" = Option<bool>, Query, description = "only says what it would do")),
    request_body = PeerRouteVia,
    responses((status = 200, body = PeerOrPlan), Problems))]
pub async fn set_route_via(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(name): Segment,
    asked: Asked,
    Input(route): Input<PeerRouteVia>,
) -> Answer<PeerOrPlan> {
    let change = ExitChange::exit(route.via_cell.unwrap_or_default());
    asked_for(&app, &who, &name, change, asked).await
}

/// Says what happens while a peer's connection does not work.
#[utoipa::path(put, path = "/api/connectivity/peers/{name}/failopen", tag = "connections",
    operation_id = "set_peer_fail_open", params(("name" = String, Path),
        ("confirm_within" = Option<u32>, Query, description = "seconds, 5-3600: taken back unless confirmed in time"),
        ("validate_only" = Option<bool>, Query, description = "only says what it would do")),
    request_body = PeerFailOpen,
    responses((status = 200, body = PeerOrPlan), Problems))]
pub async fn set_fail_open(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(name): Segment,
    asked: Asked,
    Input(own): Input<PeerFailOpen>,
) -> Answer<PeerOrPlan> {
    let change = ExitChange::fail_open(own.fail_open);
    asked_for(&app, &who, &name, change, asked).await
}

/// Says what stands in for a peer's connection while it does not work.
#[utoipa::path(put, path = "/api/connectivity/peers/{name}/fallbacks", tag = "connections",
    operation_id = "set_peer_fallbacks", params(("name" = String, Path),
        ("confirm_within" = Option<u32>, Query, description = "seconds, 5-3600: taken back unless confirmed in time"),
        ("validate_only" = Option<bool>, Query, description = "only says what it would do")),
    request_body = PeerFallbacks,
    responses((status = 200, body = PeerOrPlan), Problems))]
pub async fn set_fallbacks(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(name): Segment,
    asked: Asked,
    Input(fallbacks): Input<PeerFallbacks>,
) -> Answer<PeerOrPlan> {
    let change = ExitChange::fallbacks(fallbacks.connection_ids);
    asked_for(&app, &who, &name, change, asked).await
}

async fn asked_for(
    app: &Arc<App>,
    who: &Who,
    name: &str,
    change: ExitChange,
    asked: Asked,
) -> Answer<PeerOrPlan> {
    let Asked {
        wait,
        validate_only,
        author,
        delete_accounts: _,
    } = asked;
    let answer = if validate_only {
        PeerOrPlan::Planned(
            peers::plan_exit(app, &who.actor(), name, change, author)
                .await?
                .into(),
        )
    } else {
        PeerOrPlan::Made(Box::new(
            peers::set_exit(app, &who.actor(), name, change, wait)
                .await?
                .into(),
        ))
    };
    Ok(Json(answer))
}
