//! The change of the network that waits for its confirmation.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use cell_api_core::fault::Faults;
use cell_api_core::waiting::Window;

use super::Answer;
use crate::app::App;
use crate::http::dto::problem::Problems;
use crate::http::dto::waiting::NetworkChange;
use crate::http::extract::Who;
use crate::http::problem::Refusal;
use crate::http::transport::Transport;
use crate::service::waiting;
use crate::store::waiting::Wait;

/// `?confirm_within=SECONDS` of a change, with who makes it and by which way; none without the parameter.
pub struct ConfirmWithin(pub Option<Wait>);

impl<S: Send + Sync> FromRequestParts<S> for ConfirmWithin {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let mut faults = Faults::default();
        let mut window = None;
        let query = parts.uri.query().unwrap_or_default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match (name.as_ref(), Window::parse(&value)) {
                ("confirm_within", Ok(asked)) if window.is_none() => window = Some(asked),
                ("confirm_within", Ok(_)) => faults.add(name, "is given twice"),
                ("confirm_within", Err(error)) => faults.add(name, error),
                (_, _) => faults.add("query", "knows only confirm_within"),
            }
        }
        if !faults.is_empty() {
            return Err(faults.into());
        }
        let Some(window) = window else {
            return Ok(ConfirmWithin(None));
        };
        let actor = Who::from_request_parts(parts, state).await?.actor();
        let Ok(transport) = Transport::from_request_parts(parts, state).await;
        Ok(ConfirmWithin(Some(Wait {
            window,
            author: actor.name,
            remote: actor.remote,
            by_vpn: by_vpn(transport),
        })))
    }
}

fn by_vpn(transport: Transport) -> bool {
    match transport {
        Transport::Tls => true,
        Transport::Loopback => false,
    }
}

/// The change that waits for its confirmation.
#[utoipa::path(get, path = "/api/network/pending", tag = "network", operation_id = "get_network_change",
    responses((status = 200, body = NetworkChange), Problems))]
pub async fn pending(State(app): State<Arc<App>>) -> Answer<NetworkChange> {
    Ok(Json(NetworkChange::at(waiting::view(&app)?, app.now())))
}

/// Keeps the change for good. One that was made through the VPN is confirmed through the VPN, from the same device: that
/// the request arrives shows that the device still gets through.
#[utoipa::path(post, path = "/api/network/confirm", tag = "network", operation_id = "confirm_network_change",
    responses((status = 204), Problems))]
pub async fn confirm(
    State(app): State<Arc<App>>,
    who: Who,
    transport: Transport,
) -> Result<StatusCode, Refusal> {
    waiting::confirm(&app, &who.actor(), by_vpn(transport)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes the change back.
#[utoipa::path(post, path = "/api/network/rollback", tag = "network", operation_id = "roll_back_network_change",
    responses((status = 204), Problems))]
pub async fn roll_back(State(app): State<Arc<App>>, who: Who) -> Result<StatusCode, Refusal> {
    waiting::roll_back(&app, &who.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}
