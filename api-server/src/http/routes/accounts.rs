//! Accounts that devices' owners have at services.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::Answer;
use super::store::Query;
use crate::app::App;
use crate::http::dto::accounts::{
    AccountCredential, AccountCredentials, AccountRemoval, Accounts, CreateAccounts,
};
use crate::http::dto::problem::Problems;
use crate::http::extract::{Segment, Segments, Who};
use crate::http::input::Input;
use crate::http::problem::Refusal;
use crate::service::accounts::{self, Removal};

/// Accounts of a service.
#[utoipa::path(get, path = "/api/services/{service}/accounts", tag = "accounts", operation_id = "list_accounts",
    params(("service" = String, Path)), responses((status = 200, body = Accounts), Problems))]
pub async fn list(State(app): State<Arc<App>>, Segment(service): Segment) -> Answer<Accounts> {
    let all = accounts::list(&app, &service).await?;
    Ok(Json(Accounts {
        accounts: all.into_iter().map(Into::into).collect(),
    }))
}

/// Makes an account at each of some services, or at none. The passwords are in the answer and nowhere else.
#[utoipa::path(post, path = "/api/accounts", tag = "accounts", operation_id = "create_accounts",
    request_body = CreateAccounts, responses((status = 201, body = AccountCredentials), Problems))]
pub async fn create(
    State(app): State<Arc<App>>,
    who: Who,
    Input(asked): Input<CreateAccounts>,
) -> Result<Response, Refusal> {
    let made = accounts::create(&app, &who.actor(), asked.into()).await?;
    let credentials = AccountCredentials {
        credentials: made.into_iter().map(Into::into).collect(),
    };
    Ok((StatusCode::CREATED, Json(credentials)).into_response())
}

/// Gives an account another password, which is in the answer and nowhere else.
#[utoipa::path(post, path = "/api/services/{service}/accounts/{user}/password", tag = "accounts",
    operation_id = "reset_account_password", params(("service" = String, Path), ("user" = String, Path)),
    responses((status = 200, body = AccountCredential), Problems))]
pub async fn reset_password(
    State(app): State<Arc<App>>,
    who: Who,
    Segments(service, user): Segments,
) -> Answer<AccountCredential> {
    let made = accounts::reset_password(&app, &who.actor(), &service, &user).await?;
    Ok(Json(made.into()))
}

/// Removes an account, with all that it has at the service. 202: it is no account any more, and what the service has of it goes when it
/// answers.
#[utoipa::path(delete, path = "/api/services/{service}/accounts/{user}", tag = "accounts", operation_id = "remove_account",
    params(("service" = String, Path), ("user" = String, Path),
        ("validate_only" = Option<bool>, Query, description = "only says what it would do")),
    responses((status = 204), (status = 200, body = AccountRemoval, description = "with validate_only"),
        (status = 202, body = AccountRemoval, description = "the service does not take it now: written down, and done when it does"),
        Problems))]
pub async fn remove(
    State(app): State<Arc<App>>,
    who: Who,
    Segments(service, user): Segments,
    query: Query,
) -> Result<Response, Refusal> {
    if query.only_flag("validate_only")? {
        let plan = accounts::plan_remove(&app, &who.actor(), &service, &user).await?;
        return Ok(Json(AccountRemoval { plan }).into_response());
    }
    Ok(
        match accounts::remove(&app, &who.actor(), &service, &user).await? {
            Removal::Done => StatusCode::NO_CONTENT.into_response(),
            Removal::Later(why) => {
                let told = AccountRemoval { plan: vec![why] };
                (StatusCode::ACCEPTED, Json(told)).into_response()
            }
        },
    )
}
