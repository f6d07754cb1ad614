//! The change of the network that waits for its confirmation.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use cell_api_core::fault::Faults;
use cell_api_core::waiting::Window;

use super::Answer;
use crate::app::App;
use crate::http::dto::problem::Problems;
use crate::http::dto::waiting::NetworkChange;
use crate::http::extract::Who;
use crate::http::problem::Refusal;
use crate::http::transport::Transport;
use crate::service::plan::Author;
use crate::service::waiting;
use crate::store::waiting::Wait;

/// `?confirm_within=SECONDS` and `?validate_only=true` of a change, with who makes it and by which way; of a removal
/// `?delete_accounts=true` as well.
pub struct Asked {
    /// How it waits; none without the parameter.
    pub wait: Option<Wait>,
    /// Whether nothing is to be done but to say what the change would do.
    pub validate_only: bool,
    /// Whether a device's accounts go with it.
    pub delete_accounts: bool,
    /// Which way the request came.
    pub author: Author,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let is_removal = parts.method == Method::DELETE;
        let Flags {
            window,
            validate_only,
            delete_accounts,
        } = read(parts.uri.query().unwrap_or_default(), is_removal)?;
        let actor = Who::from_request_parts(parts, state).await?.actor();
        let Ok(transport) = Transport::from_request_parts(parts, state).await;
        let author = if by_vpn(transport) {
            Author::ByVpn(actor.remote.clone())
        } else {
            Author::Otherwise
        };
        let wait = window.map(|window| Wait {
            window,
            author: actor.name,
            remote: actor.remote,
            by_vpn: by_vpn(transport),
        });
        Ok(Asked {
            wait,
            validate_only: validate_only.unwrap_or(false),
            delete_accounts: delete_accounts.unwrap_or(false),
            author,
        })
    }
}

#[derive(Default)]
struct Flags {
    window: Option<Window>,
    validate_only: Option<bool>,
    delete_accounts: Option<bool>,
}

fn read(query: &str, is_removal: bool) -> Result<Flags, Faults> {
    let (mut faults, mut flags) = (Faults::default(), Flags::default());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let flag = || match value.as_ref() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false"),
        };
        match name.as_ref() {
            "confirm_within" if flags.window.is_none() => {
                flags.window = faults.keep(name, Window::parse(&value));
            }
            "validate_only" if flags.validate_only.is_none() => {
                flags.validate_only = faults.keep(name, flag());
            }
            "delete_accounts" if is_removal && flags.delete_accounts.is_none() => {
                flags.delete_accounts = faults.keep(name, flag());
            }
            "confirm_within" | "validate_only" => faults.add(name, "is given twice"),
            "delete_accounts" if is_removal => faults.add(name, "is given twice"),
            _ if is_removal => {
                faults.add(
                    "query",
                    "knows only confirm_within, validate_only and delete_accounts",
                );
            }
            _ => faults.add("query", "knows only confirm_within and validate_only"),
        }
    }
    if flags.window.is_some() && flags.delete_accounts == Some(true) {
        // What is deleted at a service cannot be taken back.
        faults.add(
            "delete_accounts",
            "cannot wait for a confirmation: remove the device at once, or keep its accounts",
        );
    }
    if faults.is_empty() { Ok(flags) } else { Err(faults) }
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
