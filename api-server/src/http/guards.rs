//! The guards: setup, then session and role, then CSRF. They stand before the router, its 404s included; a path that the
//! table in `cell_api_core::role` does not open is an administrator's.

use std::sync::Arc;

use cell_api_core::role::{self, Requirement};
use http::{HeaderMap, Request, StatusCode};
use zeroize::Zeroizing;

use super::cookie;
use super::extract::Who;
use super::gate::changes_state;
use super::problem::Refusal;
use super::transport::Connection;
use crate::app::App;
use crate::service::ServiceError;
use crate::service::auth::{self, Use};
use crate::store::users;

/// Marks a request that no person asked for: it does not make the session last longer.
const BACKGROUND: &str = "x-cell-background";
/// The path of the event stream.
const EVENTS: &str = "/api/events";

/// Whether a request may come to its route, and who sent it where that is asked.
///
/// # Errors
/// The refusal of the first guard that stops it.
pub fn check<B>(app: &App, connection: &Connection, request: &Request<B>) -> Result<Option<Who>, Refusal> {
    let path = request.uri().path();
    if !role::is_api(path) {
        return Ok(None);
    }
    let requirement = role::requirement(path);
    if requirement == Requirement::Setup {
        return Ok(None);
    }
    if app.identity().is_none() {
        return Err(ServiceError::SetupRequired.into());
    }
    if requirement == Requirement::Public {
        return Ok(None);
    }
    let who = authenticate(app, connection, request)?;
    authorize(&who, requirement)?;
    if changes_state(request.method()) {
        check_csrf(request.headers(), &who.cookie)?;
    }
    Ok(Some(who))
}

fn authenticate<B>(app: &App, connection: &Connection, request: &Request<B>) -> Result<Who, Refusal> {
    let cookie = cookie::read(connection.transport, request.headers()).map(Zeroizing::new);
    let kind = use_of(request);
    let session = cookie
        .as_ref()
        .and_then(|cookie| auth::session_of(app, cookie, kind));
    let Some((cookie, session)) = cookie.zip(session) else {
        return Err(if app.store.read(|c| Ok(users::any(c)?))? {
            no_session()
        } else {
            no_users()
        });
    };
    match kind {
        Use::Person => note_use(app, &session),
        Use::Background => {}
    }
    Ok(Who {
        remote: connection.remote,
        session,
        cookie: Arc::new(cookie),
    })
}

/// What a page sends by itself, as long as nobody touches it. The header can only take something away, so whoever sends it
/// is believed, whatever its value; an event stream cannot bear one (`EventSource`), and a browser opens it anew for ever.
fn use_of<B>(request: &Request<B>) -> Use {
    if request.headers().contains_key(BACKGROUND) || request.uri().path() == EVENTS {
        Use::Background
    } else {
        Use::Person
    }
}

fn authorize(who: &Who, requirement: Requirement) -> Result<(), Refusal> {
    let user = &who.session.user;
    match requirement {
        Requirement::Role(role) if role != user.role => {
            let text = "this is not for users of your role";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "ROLE", text));
        }
        Requirement::OwnSession => return Ok(()),
        Requirement::Role(_) | Requirement::User | Requirement::Public | Requirement::Setup => {}
    }
    if user.must_change_password {
        let text = "change the password first (POST /api/auth/change-password)";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "MUST_CHANGE_PASSWORD", text));
    }
    Ok(())
}

fn check_csrf(headers: &HeaderMap, cookie: &str) -> Result<(), Refusal> {
    let mut sent = headers.get_all("x-csrf-token").iter();
    let only = match (sent.next(), sent.next()) {
        (Some(only), None) => only.to_str().ok(),
        _ => None,
    };
    if only.is_some_and(|token| auth::csrf_matches(cookie, token)) {
        return Ok(());
    }
    let text = "the header X-CSRF-Token is missing or is not this session's (GET /api/auth/csrf-token)";
    Err(Refusal::new(StatusCode::FORBIDDEN, "CSRF", text))
}

/// The database hears once a minute that a session is in use, so that it outlives a restart; nobody waits for that.
fn note_use(app: &App, session: &crate::sessions::Session) {
    let now = app.now();
    if session.is_to_be_noted(now) {
        let (store, token_hash) = (Arc::clone(&app.store), session.token_hash);
        tokio::spawn(async move {
            let touch = move |connection: &rusqlite::Connection| {
                crate::store::sessions::touch(connection, &token_hash, now)
            };
            if let Err(error) = store.note(touch).await {
                tracing::warn!(%error, "a session's use was not noted");
            }
        });
    }
}

fn no_session() -> Refusal {
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        "NO_SESSION",
        "log in first (POST /api/auth/login)",
    )
}

fn no_users() -> Refusal {
    Refusal::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "NO_USERS",
        "the cell has no user; nobody can log in",
    )
}
