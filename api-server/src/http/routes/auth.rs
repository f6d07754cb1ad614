//! Sessions and users.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Response};
use cell_api_core::password::Password;

use super::Answer;
use crate::app::App;
use crate::http::cookie;
use crate::http::dto::auth::{
    ChangePassword, CsrfToken, Login, Me, ResetPassword, User, UserCreate, UserList,
};
use crate::http::dto::problem::Problems;
use crate::http::extract::{Segment, Who};
use crate::http::input::Input;
use crate::http::problem::Refusal;
use crate::http::transport::Transport;
use crate::service::{Remote, auth, peers, users};

/// Opens a session.
#[utoipa::path(post, path = "/api/auth/login", tag = "auth", operation_id = "login", request_body = Login,
    responses((status = 200, body = Me, headers(("set-cookie" = String, description = "the session"))), Problems))]
pub async fn login(
    State(app): State<Arc<App>>,
    remote: Remote,
    transport: Transport,
    Input(login): Input<Login>,
) -> Result<Response, Refusal> {
    let password = Password::new(login.password);
    let (session, token) = auth::login(&app, &remote, &login.username, password).await?;
    let cookie = cookie::set(transport, &token, app.config.session_absolute);
    let me = Me::of(&session.user, device(&app, transport, &remote)?);
    Ok(([(SET_COOKIE, cookie)], Json(me)).into_response())
}

/// Ends the session.
#[utoipa::path(post, path = "/api/auth/logout", tag = "auth", operation_id = "logout",
    responses((status = 204), Problems))]
pub async fn logout(
    State(app): State<Arc<App>>,
    transport: Transport,
    who: Who,
) -> Result<Response, Refusal> {
    auth::logout(&app, &who.actor(), &who.session).await?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie::clear(transport))]).into_response())
}

/// Who is logged in.
#[utoipa::path(get, path = "/api/auth/me", tag = "auth", operation_id = "get_me",
    responses((status = 200, body = Me), Problems))]
pub async fn me(State(app): State<Arc<App>>, transport: Transport, remote: Remote, who: Who) -> Answer<Me> {
    let device = device(&app, transport, &remote)?;
    Ok(Json(Me::of(&who.session.user, device)))
}

/// The peer that a request came from: who changes its access may cut off the way that they came by.
fn device(app: &App, transport: Transport, remote: &Remote) -> Result<Option<String>, Refusal> {
    match transport {
        Transport::Tls => Ok(peers::at_address(app, &remote.shown)?),
        Transport::Loopback => Ok(None),
    }
}

/// What to send as `X-CSRF-Token` with every change.
#[utoipa::path(get, path = "/api/auth/csrf-token", tag = "auth", operation_id = "get_csrf_token",
    responses((status = 200, body = CsrfToken), Problems))]
pub async fn csrf_token(who: Who) -> Answer<CsrfToken> {
    Ok(Json(CsrfToken {
        csrf_token: auth::csrf_token(&who.cookie),
    }))
}

/// Changes one's own password; the user's other sessions end, and this one gets another cookie and CSRF token.
#[utoipa::path(post, path = "/api/auth/change-password", tag = "auth", operation_id = "change_password",
    request_body = ChangePassword,
    responses((status = 204, headers(("set-cookie" = String, description = "the session goes on under another"))),
        Problems))]
pub async fn change_password(
    State(app): State<Arc<App>>,
    transport: Transport,
    who: Who,
    Input(change): Input<ChangePassword>,
) -> Result<Response, Refusal> {
    let (current, new) = (
        Password::new(change.current_password),
        Password::new(change.new_password),
    );
    let token = auth::change_password(&app, &who.actor(), &who.session, current, new).await?;
    let cookie = cookie::set(transport, &token, app.config.session_absolute);
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response())
}

/// Sets somebody's password, to be changed at the next login; their sessions end.
#[utoipa::path(post, path = "/api/auth/admin/reset-password", tag = "auth", operation_id = "reset_password",
    request_body = ResetPassword, responses((status = 204), Problems))]
pub async fn reset_password(
    State(app): State<Arc<App>>,
    who: Who,
    Input(reset): Input<ResetPassword>,
) -> Result<StatusCode, Refusal> {
    users::reset_password(
        &app,
        &who.actor(),
        &reset.username,
        Password::new(reset.new_password),
    )
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All users.
#[utoipa::path(get, path = "/api/auth/users", tag = "auth", operation_id = "list_users",
    responses((status = 200, body = UserList), Problems))]
pub async fn list_users(State(app): State<Arc<App>>) -> Answer<UserList> {
    let users = users::list(&app)?.into_iter().map(User::from).collect();
    Ok(Json(UserList { users }))
}

/// Adds a user.
#[utoipa::path(post, path = "/api/auth/users", tag = "auth", operation_id = "create_user",
    request_body = UserCreate, responses((status = 201, body = User), Problems))]
pub async fn create_user(
    State(app): State<Arc<App>>,
    who: Who,
    Input(user): Input<UserCreate>,
) -> Result<(StatusCode, Json<User>), Refusal> {
    let password = Password::new(user.password);
    let user = users::create(&app, &who.actor(), &user.username, password, &user.role).await?;
    Ok((StatusCode::CREATED, Json(user.into())))
}

/// Removes a user; the last administrator stays.
#[utoipa::path(delete, path = "/api/auth/users/{username}", tag = "auth", operation_id = "delete_user",
    params(("username" = String, Path)), responses((status = 204), Problems))]
pub async fn delete_user(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(username): Segment,
) -> Result<StatusCode, Refusal> {
    users::delete(&app, &who.actor(), &username).await?;
    Ok(StatusCode::NO_CONTENT)
}
