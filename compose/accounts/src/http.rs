//! The interface. It answers the machine alone ([`crate::caller`]), and the container's own loopback at `/health`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /health` | 200: the file of users can be read |
//! | `GET /accounts` | 200 `{"users": ["alice"]}` |
//! | `GET /accounts/USER` | 200 `{"user": "alice"}`, or 404 |
//! | `PUT /accounts/USER` `{"password": "…"}` | 201 made, or 200 it has another password now |
//! | `DELETE /accounts/USER` | 204: there is none, nor anything of it |
//! | `PUT /certificate` `{"chain": "PEM", "key": "PEM"}` | 204, or 404 where the service has none of its own |
//!
//! A refusal has `{"error": "…"}`: 400 for what was sent, 403 for who asks, 500 for what went wrong here; then nothing changed, or
//! a DELETE is finished by asking again. PUT and DELETE may be asked again at any time.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRef, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;

use crate::caller::{Caller, Interface, caller};
use crate::certificate::{self, Certificate};
use crate::name::{Password, User};
use crate::store::{Failed, Put, Store};

/// Most bytes of a request's body: a certificate with its chain.
const BODY_MAX: usize = 64 * 1024;

/// Tells the container's own addresses at the time.
pub type Interfaces = Arc<dyn Fn() -> io::Result<Vec<Interface>> + Send + Sync>;

/// What the interface acts on.
#[derive(Clone, FromRef)]
pub struct Served {
    /// The accounts.
    pub store: Arc<Store>,
    /// By which it is seen who asks.
    pub interfaces: Interfaces,
    /// Where the certificate goes, for services that have one of their own.
    pub certificate: Option<Arc<PathBuf>>,
}

/// The interface. To be served with [`ConnectInfo`].
pub fn router(served: Served) -> Router {
    let ask_who = from_fn_with_state(served.interfaces.clone(), only_the_cell);
    Router::new()
        .route("/health", get(health))
        .route("/accounts", get(list))
        .route("/accounts/{user}", get(one).put(make).delete(remove))
        .route("/certificate", put(take_certificate))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        // Around what is not there too: others learn nothing.
        .layer(ask_who)
        .with_state(served)
}

/// An answer that refuses.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

impl From<Failed> for Refusal {
    fn from(failed: Failed) -> Self {
        let status = match failed {
            Failed::Full => StatusCode::CONFLICT,
            Failed::Corrupt(_) | Failed::Io { .. } | Failed::Hash => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal(status, failed.to_string())
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        let status = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        // Its own words would repeat what was sent: a password is among it.
        Refusal(
            status,
            "the body is JSON as the interface has it, with content-type application/json".to_owned(),
        )
    }
}

async fn only_the_cell(
    State(interfaces): State<Interfaces>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let own = match interfaces() {
        Ok(own) => own,
        Err(_) => {
            let words = "the container's own addresses cannot be read".to_owned();
            return Refusal(StatusCode::INTERNAL_SERVER_ERROR, words).into_response();
        }
    };
    let may = match caller(source.ip(), &own) {
        Caller::Machine => true,
        Caller::Own => request.uri().path() == "/health",
        Caller::Other => false,
    };
    if may {
        next.run(request).await
    } else {
        Refusal(
            StatusCode::FORBIDDEN,
            "the cell itself asks here, nobody else".to_owned(),
        )
        .into_response()
    }
}

fn user(text: &str) -> Result<User, Refusal> {
    User::try_from(text).map_err(|invalid| Refusal(StatusCode::BAD_REQUEST, invalid.to_string()))
}

/// Files and bcrypt block: not on the thread that answers.
async fn blocking<T: Send + 'static>(
    store: Arc<Store>,
    act: impl FnOnce(&Store) -> Result<T, Failed> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(move || act(&store)).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "it broke off".to_owned(),
        )),
    }
}

async fn health(State(store): State<Arc<Store>>) -> Result<StatusCode, Refusal> {
    blocking(store, Store::users).await?;
    Ok(StatusCode::OK)
}

async fn list(State(store): State<Arc<Store>>) -> Result<Response, Refusal> {
    let users = blocking(store, Store::users).await?;
    let users: Vec<&str> = users.accounts().map(User::as_str).collect();
    Ok(Json(json!({"users": users})).into_response())
}

async fn one(State(store): State<Arc<Store>>, Path(text): Path<String>) -> Result<Response, Refusal> {
    let user = user(&text)?;
    if blocking(store, Store::users).await?.has(&user) {
        Ok(Json(json!({"user": user.as_str()})).into_response())
    } else {
        Err(Refusal(
            StatusCode::NOT_FOUND,
            "there is no such account".to_owned(),
        ))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAccount {
    password: Password,
}

async fn make(
    State(store): State<Arc<Store>>,
    Path(text): Path<String>,
    body: Result<Json<NewAccount>, JsonRejection>,
) -> Result<Response, Refusal> {
    let user = user(&text)?;
    let Json(NewAccount { password }) = body?;
    let named = json!({"user": user.as_str()});
    let status = match blocking(store, move |store| store.put(&user, &password)).await? {
        Put::Created => StatusCode::CREATED,
        Put::Changed => StatusCode::OK,
    };
    Ok((status, Json(named)).into_response())
}

async fn remove(State(store): State<Arc<Store>>, Path(text): Path<String>) -> Result<StatusCode, Refusal> {
    let user = user(&text)?;
    blocking(store, move |store| store.delete(&user)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn take_certificate(
    State(served): State<Served>,
    body: Result<Json<Certificate>, JsonRejection>,
) -> Result<StatusCode, Refusal> {
    let Some(path) = served.certificate else {
        let words = "this service has no certificate of its own".to_owned();
        return Err(Refusal(StatusCode::NOT_FOUND, words));
    };
    let Json(certificate) = body?;
    let bundle = certificate
        .bundle()
        .map_err(|unfit| Refusal(StatusCode::BAD_REQUEST, unfit.to_string()))?;
    blocking(served.store, move |_| {
        certificate::write(&path, &bundle).map_err(|source| Failed::Io {
            what: "write the certificate",
            source,
        })
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
