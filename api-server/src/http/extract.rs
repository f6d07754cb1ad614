//! What the guards found out about a request, for its handler. A handler that asks for it without a guard before it
//! gets a refusal, never a default.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use cell_api_core::fault::Faults;
use http::StatusCode;
use http::header::IF_MATCH;
use http::request::Parts;
use zeroize::Zeroizing;

use super::problem::Refusal;
use super::transport::Transport;
use crate::service::{Actor, Remote};
use crate::sessions::Session;

/// A request that came past gate and guards.
#[derive(Clone)]
pub struct Admitted {
    /// Which listener it came in by.
    pub transport: Transport,
    /// The other end.
    pub remote: SocketAddr,
    /// Who sent it, where the guards asked.
    pub who: Option<Who>,
}

/// Who is logged in.
#[derive(Clone)]
pub struct Who {
    /// The other end.
    pub remote: SocketAddr,
    /// The session.
    pub session: Arc<Session>,
    /// What the session's cookie held.
    pub cookie: Arc<Zeroizing<String>>,
}

impl Who {
    /// For the audit record.
    pub fn actor(&self) -> Actor {
        let user = &self.session.user;
        Actor {
            name: user.username.to_string(),
            role: Some(user.role),
            remote: self.remote.ip().to_canonical().to_string(),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let who = admitted(parts).and_then(|admitted| admitted.who.clone());
        who.ok_or_else(unguarded)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Remote {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Admitted {
            transport, remote, ..
        } = admitted(parts).ok_or_else(unguarded)?;
        Ok(Remote::at(remote.ip().to_canonical(), transport.source(*remote)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Transport {
    type Rejection = Infallible;

    /// Without a connection there is no plain HTTP to be lenient with.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(admitted(parts).map_or(Transport::Tls, |admitted| admitted.transport))
    }
}

/// The one parameter of a path, as text. What it may be is for the service to say.
pub struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(text)| Segment(text))
            .map_err(|_| Faults::one("path", "must be UTF-8").into())
    }
}

/// Both parameters of a path, as texts.
pub struct Segments(pub String, pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segments {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        path.map(|Path((first, second))| Segments(first, second))
            .map_err(|_| Faults::one("path", "must be UTF-8").into())
    }
}

/// The version in the header `If-Match`; none when absent. What is no entity tag of ours matches nothing.
pub struct IfMatch(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let mut sent = parts.headers.get_all(IF_MATCH).iter();
        let version = match (sent.next(), sent.next()) {
            (None, _) => None,
            (Some(one), None) => Some(one.to_str().unwrap_or_default().trim_matches('"').to_owned()),
            (Some(_), Some(_)) => Some(String::new()),
        };
        Ok(IfMatch(version))
    }
}

/// The header `X-Claim-Token`; empty when absent, which opens nothing.
pub struct ClaimToken(Zeroizing<String>);

impl ClaimToken {
    /// As sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ClaimToken {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let sent = parts
            .headers
            .get("x-claim-token")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        Ok(ClaimToken(Zeroizing::new(sent.to_owned())))
    }
}

fn admitted(parts: &Parts) -> Option<&Admitted> {
    parts.extensions.get::<Admitted>()
}

fn unguarded() -> Refusal {
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "UNGUARDED",
        "the request came past the guards",
    )
}
