//! Peers.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::Answer;
use super::network::Asked;
use crate::app::App;
use crate::http::dto::explain::Explanation;
use crate::http::dto::peers::{Peer, PeerConfig, PeerCreate, PeerCreated, PeerList, PeerUpdate};
use crate::http::dto::plan::{ChangePlan, PeerOrPlan};
use crate::http::dto::problem::Problems;
use crate::http::extract::{IfMatch, Segment, Who};
use crate::http::input::{FlowQuery, Input};
use crate::http::problem::Refusal;
use crate::service::ServiceError;
use crate::service::explain;
use crate::service::peers::{self, Accounts};
use crate::store::peers::StoredAnswer;

/// All peers.
#[utoipa::path(get, path = "/api/peers", tag = "peers", operation_id = "list_peers",
    responses((status = 200, body = PeerList), Problems))]
pub async fn list(State(app): State<Arc<App>>) -> Answer<PeerList> {
    let peers = peers::list(&app).await?.into_iter().map(Peer::from).collect();
    Ok(Json(PeerList { peers }))
}

/// Adds a peer.
#[utoipa::path(post, path = "/api/peers", tag = "peers", operation_id = "create_peer",
    request_body = PeerCreate, responses((status = 201, body = PeerCreated), Problems))]
pub async fn create(
    State(app): State<Arc<App>>,
    who: Who,
    Input(create): Input<PeerCreate>,
) -> Result<(StatusCode, Json<PeerCreated>), Refusal> {
    let created = peers::create(&app, &who.actor(), create.into()).await?;
    let created = PeerCreated {
        peer: created.view.into(),
        config: created.config.to_string(),
        generation: created.generation,
        observed_generation: created.observed_generation,
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// One peer.
#[utoipa::path(get, path = "/api/peers/{name}", tag = "peers", operation_id = "get_peer",
    params(("name" = String, Path)), responses((status = 200, body = Peer), Problems))]
pub async fn get(State(app): State<Arc<App>>, Segment(name): Segment) -> Result<Response, Refusal> {
    let look = peers::look(&app, &name).await?;
    let stored = &look.stored;
    let unwritten = ServiceError::Storage("an answer could not be written");
    let render = || {
        let body = serde_json::to_vec(&Peer::from(look.view())).ok();
        let etag = HeaderValue::try_from(format!("\"{}\"", stored.version())).ok();
        let answer = etag.zip(body.map(Bytes::from));
        answer
            .map(|(etag, body)| StoredAnswer { etag, body })
            .ok_or(unwritten)
    };
    let answer = stored
        .derived
        .rendered(look.needs_reinstall, look.way, look.activity.as_ref(), render)?;
    // Room for what every answer bears, too: the busiest answer of all should not grow its headers twice.
    let mut headers = HeaderMap::with_capacity(10);
    headers.insert(ETAG, answer.etag);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok((headers, answer.body).into_response())
}

/// Alters a peer.
#[utoipa::path(put, path = "/api/peers/{name}", tag = "peers", operation_id = "update_peer",
    params(("name" = String, Path),
        ("If-Match" = Option<String>, Header, description = "the version that was read; 412 when it is another now"),
        ("confirm_within" = Option<u32>, Query, description = "seconds, 5-3600: taken back unless confirmed in time"),
        ("validate_only" = Option<bool>, Query, description = "only says what it would do")),
    request_body = PeerUpdate,
    responses((status = 200, body = PeerOrPlan), Problems))]
pub async fn update(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(name): Segment,
    IfMatch(version): IfMatch,
    asked: Asked,
    Input(update): Input<PeerUpdate>,
) -> Result<Response, Refusal> {
    let (actor, input) = (who.actor(), update.into());
    let Asked {
        wait,
        validate_only,
        author,
        delete_accounts: _,
    } = asked;
    if validate_only {
        let plan = peers::plan_update(&app, &actor, &name, &input, version, author).await?;
        return Ok(Json(PeerOrPlan::Planned(plan.into())).into_response());
    }
    let view = peers::update(&app, &actor, &name, &input, version, wait).await?;
    let etag = format!("\"{}\"", view.version);
    let made = PeerOrPlan::Made(Box::new(view.into()));
    Ok(([(ETAG, etag)], Json(made)).into_response())
}

/// Removes a peer; its sessions end within a second.
#[utoipa::path(delete, path = "/api/peers/{name}", tag = "peers", operation_id = "delete_peer",
    params(("name" = String, Path),
        ("confirm_within" = Option<u32>, Query, description = "seconds, 5-3600: taken back unless confirmed in time"),
        ("delete_accounts" = Option<bool>, Query, description = "whether its accounts at services go too, with all that they have"),
        ("validate_only" = Option<bool>, Query, description = "only says what it would do")),
    responses((status = 204), (status = 200, body = ChangePlan, description = "with validate_only"), Problems))]
pub async fn delete(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(name): Segment,
    asked: Asked,
) -> Result<Response, Refusal> {
    let Asked {
        wait,
        validate_only,
        author,
        delete_accounts,
    } = asked;
    let accounts = if delete_accounts {
        Accounts::Go
    } else {
        Accounts::Stay
    };
    if validate_only {
        let plan = peers::plan_delete(&app, &who.actor(), &name, author, accounts).await?;
        return Ok(Json(ChangePlan::from(plan)).into_response());
    }
    peers::delete(&app, &who.actor(), &name, wait, accounts).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The device's configuration, without its key. Nothing changes.
#[utoipa::path(get, path = "/api/peers/{name}/config", tag = "peers", operation_id = "get_peer_config",
    params(("name" = String, Path)), responses((status = 200, body = PeerConfig), Problems))]
pub async fn config(State(app): State<Arc<App>>, Segment(name): Segment) -> Answer<PeerConfig> {
    let config = peers::config(&app, &name).await?;
    Ok(Json(PeerConfig {
        config: config.to_string(),
    }))
}

/// Gives the device its configuration, without its key: takes `config_needs_reinstall` back.
#[utoipa::path(post, path = "/api/peers/{name}/config", tag = "peers", operation_id = "deliver_peer_config",
    params(("name" = String, Path)), responses((status = 200, body = PeerConfig), Problems))]
pub async fn deliver_config(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(name): Segment,
) -> Answer<PeerConfig> {
    let config = peers::deliver_config(&app, &who.actor(), &name).await?;
    Ok(Json(PeerConfig {
        config: config.to_string(),
    }))
}

/// Whether the device reaches something, and why: the rules that its first packet meets.
#[utoipa::path(get, path = "/api/peers/{name}/explain", tag = "peers", operation_id = "explain_flow",
    params(("name" = String, Path), ("destination" = String, Query, description = "an address"),
        ("protocol" = Option<String>, Query, description = "tcp, udp or ping; default: tcp with a port, else ping"),
        ("port" = Option<String>, Query, description = "1-65535, for tcp and udp")),
    responses((status = 200, body = Explanation), Problems))]
pub async fn explain(
    State(app): State<Arc<App>>,
    Segment(name): Segment,
    FlowQuery(flow): FlowQuery,
) -> Answer<Explanation> {
    Ok(Json(explain::explain(&app, &name, &flow).await?.into()))
}

/// The peer that bears the user's name.
#[utoipa::path(get, path = "/api/peer/me", tag = "peers", operation_id = "get_my_peer",
    responses((status = 200, body = Peer), Problems))]
pub async fn mine(State(app): State<Arc<App>>, who: Who) -> Answer<Peer> {
    Ok(Json(
        peers::of_user(&app, &who.session.user.username).await?.into(),
    ))
}
