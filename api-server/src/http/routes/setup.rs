//! The first run.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use cell_api_core::password::Password;

use super::Answer;
use crate::app::App;
use crate::http::dto::problem::Problems;
use crate::http::dto::setup::{
    AdminStep, ClaimStep, Empty, IdentityStep, NetworkStep, SetupStatus, StepAnswer,
};
use crate::http::extract::ClaimToken;
use crate::http::input::Input;
use crate::service::Remote;
use crate::service::setup::{self, StepInput};

/// How the first run stands.
#[utoipa::path(get, path = "/api/setup/status", tag = "setup", operation_id = "get_setup_status",
    responses((status = 200, body = SetupStatus), Problems))]
pub async fn status(State(app): State<Arc<App>>) -> Answer<SetupStatus> {
    Ok(Json(setup::progress(&app)?.into()))
}

/// The stored answer of one step, without secrets.
#[utoipa::path(get, path = "/api/setup/step/{step}", tag = "setup", operation_id = "get_setup_step",
    params(("step" = String, Path, description = "claim, identity, network or admin"),
        ("X-Claim-Token" = String, Header, description = "the claim token")),
    responses((status = 200, body = StepAnswer), Problems))]
pub async fn step(
    State(app): State<Arc<App>>,
    remote: Remote,
    claim: ClaimToken,
    uri: Uri,
) -> Answer<StepAnswer> {
    // The last segment, and no path parameter: the router mounts this beside each step's own POST as well.
    let step = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    let answer = setup::stored_answer(&app, &remote, claim.as_str(), &step)?;
    Ok(Json(StepAnswer {
        step,
        answered: answer.is_some(),
        values: answer.unwrap_or_default(),
    }))
}

/// Shows the claim token. Must come first.
#[utoipa::path(post, path = "/api/setup/step/claim", tag = "setup", operation_id = "submit_claim_step",
    request_body = ClaimStep, responses((status = 200, body = SetupStatus), Problems))]
pub async fn claim(
    State(app): State<Arc<App>>,
    remote: Remote,
    input: Input<ClaimStep>,
) -> Answer<SetupStatus> {
    let token = zeroize::Zeroizing::new(input.0.claim_token);
    Ok(Json(
        setup::submit(&app, &remote, &token, StepInput::Claim)
            .await?
            .into(),
    ))
}

/// Names the cell.
#[utoipa::path(post, path = "/api/setup/step/identity", tag = "setup", operation_id = "submit_identity_step",
    params(("X-Claim-Token" = String, Header, description = "the claim token")),
    request_body = IdentityStep, responses((status = 200, body = SetupStatus), Problems))]
pub async fn identity(
    State(app): State<Arc<App>>,
    remote: Remote,
    claim: ClaimToken,
    Input(step): Input<IdentityStep>,
) -> Answer<SetupStatus> {
    let step = StepInput::Identity {
        cell_name: step.cell_name,
        domain_mode: step.domain_mode,
    };
    Ok(Json(
        setup::submit(&app, &remote, claim.as_str(), step).await?.into(),
    ))
}

/// Chooses the VPN's addresses.
#[utoipa::path(post, path = "/api/setup/step/network", tag = "setup", operation_id = "submit_network_step",
    params(("X-Claim-Token" = String, Header, description = "the claim token")),
    request_body = NetworkStep, responses((status = 200, body = SetupStatus), Problems))]
pub async fn network(
    State(app): State<Arc<App>>,
    remote: Remote,
    claim: ClaimToken,
    Input(step): Input<NetworkStep>,
) -> Answer<SetupStatus> {
    let step = StepInput::Network {
        vpn_range_ipv4: step.vpn_range_ipv4,
        vpn_range_ipv6: step.vpn_range_ipv6,
        endpoint_host: step.endpoint_host,
    };
    Ok(Json(
        setup::submit(&app, &remote, claim.as_str(), step).await?.into(),
    ))
}

/// Makes the first administrator.
#[utoipa::path(post, path = "/api/setup/step/admin", tag = "setup", operation_id = "submit_admin_step",
    params(("X-Claim-Token" = String, Header, description = "the claim token")),
    request_body = AdminStep, responses((status = 200, body = SetupStatus), Problems))]
pub async fn admin(
    State(app): State<Arc<App>>,
    remote: Remote,
    claim: ClaimToken,
    Input(step): Input<AdminStep>,
) -> Answer<SetupStatus> {
    let step = StepInput::Admin {
        username: step.username,
        password: Password::new(step.password),
    };
    Ok(Json(
        setup::submit(&app, &remote, claim.as_str(), step).await?.into(),
    ))
}

/// Makes the cell of the answers.
#[utoipa::path(post, path = "/api/setup/complete", tag = "setup", operation_id = "complete_setup",
    params(("X-Claim-Token" = String, Header, description = "the claim token")),
    request_body = Empty, responses((status = 200, body = SetupStatus), Problems))]
pub async fn complete(
    State(app): State<Arc<App>>,
    remote: Remote,
    claim: ClaimToken,
    _: Input<Empty>,
) -> Answer<SetupStatus> {
    Ok(Json(setup::complete(&app, &remote, claim.as_str()).await?.into()))
}
