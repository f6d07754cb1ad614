//! The interface for accounts of a service: HTTP to one of its containers, on the service's own network. Nothing of the environment
//! leads elsewhere: no proxy, no name, no redirect. `cell-egress` makes the connection. It is somebody else's program, so what it says is bounded and not believed further
//! than its status goes.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::time::Duration;

use bytes::Bytes;
use cell_api_core::services::accounts::{AccountPassword, User};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::egress::EgressClient;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an answer may take: it hashes slowly, on purpose.
const PATIENCE: Duration = Duration::from_secs(15);
/// Most bytes of an answer that are read: all accounts that there may be.
const ANSWER_MAX: usize = 256 * 1024;
/// Most characters of its words that are told.
const WORDS_MAX: usize = 300;

/// Where a service's interface is.
#[derive(Debug, Clone)]
pub struct AccountsAt {
    /// Who connects: this process has no network. Without one it tries by itself.
    pub by: Option<EgressClient>,
    /// The container's address and port.
    pub at: SocketAddrV4,
    /// Path that accounts lie below.
    pub path: String,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountsFault {
    /// It does not answer, or is broken: what was asked for may be done all the same.
    #[error("{0}")]
    Away(String),
    /// It refuses, and nothing was done.
    #[error("{0}")]
    Refused(String),
}

/// What became of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The account is new.
    Created,
    /// It was there, and has this password now.
    Changed,
}

#[derive(Serialize)]
struct NewPassword<'a> {
    password: &'a str,
}

#[derive(Serialize)]
struct NewCertificate<'a> {
    chain: &'a str,
    key: &'a str,
}

#[derive(Deserialize)]
struct Users {
    users: Vec<String>,
}

#[derive(Deserialize)]
struct Words {
    error: String,
}

impl AccountsAt {
    /// All accounts that it has. Names that are none of ours are left out.
    ///
    /// # Errors
    /// [`AccountsFault`].
    pub async fn list(&self) -> Result<BTreeSet<User>, AccountsFault> {
        let (status, answer) = self.ask(Method::GET, &self.path, None).await?;
        if status != StatusCode::OK {
            return Err(fault(status, &answer));
        }
        let unreadable = |_| AccountsFault::Away("its list of accounts cannot be read".to_owned());
        let Users { users } = serde_json::from_slice(&answer).map_err(unreadable)?;
        Ok(users
            .into_iter()
            .filter_map(|user| User::parse(&user).ok())
            .collect())
    }

    /// Whether it has an account.
    ///
    /// # Errors
    /// [`AccountsFault`].
    pub async fn has(&self, user: &User) -> Result<bool, AccountsFault> {
        let (status, answer) = self.ask(Method::GET, &self.of(user), None).await?;
        match status {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            status => Err(fault(status, &answer)),
        }
    }

    /// Makes an account, or gives it this password.
    ///
    /// # Errors
    /// [`AccountsFault`].
    pub async fn put(&self, user: &User, password: &AccountPassword) -> Result<Put, AccountsFault> {
        let body = NewPassword {
            password: password.expose(),
        };
        let (status, answer) = self
            .ask(Method::PUT, &self.of(user), Some(secret(&body)?))
            .await?;
        match status {
            StatusCode::CREATED => Ok(Put::Created),
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(Put::Changed),
            status => Err(fault(status, &answer)),
        }
    }

    /// Removes an account with all that it had. One that is not there is gone.
    ///
    /// # Errors
    /// [`AccountsFault`].
    pub async fn delete(&self, user: &User) -> Result<(), AccountsFault> {
        let (status, answer) = self.ask(Method::DELETE, &self.of(user), None).await?;
        match status {
            StatusCode::OK | StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(()),
            status => Err(fault(status, &answer)),
        }
    }

    /// Gives the service its certificate and the key.
    ///
    /// # Errors
    /// [`AccountsFault`].
    pub async fn put_certificate(&self, chain: &str, key: &str) -> Result<(), AccountsFault> {
        let body = secret(&NewCertificate { chain, key })?;
        let (status, answer) = self.ask(Method::PUT, "/certificate", Some(body)).await?;
        match status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            status => Err(fault(status, &answer)),
        }
    }

    /// A user is one segment of a path as it is.
    fn of(&self, user: &User) -> String {
        format!("{}/{user}", self.path.trim_end_matches('/'))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<(StatusCode, Bytes), AccountsFault> {
        let away = |words: &str| AccountsFault::Away(words.to_owned());
        if let Some(egress) = &self.by {
            let stream = egress.connect(self.at).await.map_err(AccountsFault::Away)?;
            return tokio::time::timeout(PATIENCE, self.ask_over(stream, method, path, body))
                .await
                .map_err(|_| away("it does not answer in time"))?;
        }
        let stream = tokio::time::timeout(CONNECT, TcpStream::connect(self.at))
            .await
            .map_err(|_| away("it takes no connection in time"))?
            .map_err(|error| AccountsFault::Away(format!("it takes no connection ({})", error.kind())))?;
        tokio::time::timeout(PATIENCE, self.ask_over(stream, method, path, body))
            .await
            .map_err(|_| away("it does not answer in time"))?
    }

    async fn ask_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        method: Method,
        path: &str,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<(StatusCode, Bytes), AccountsFault> {
        let broken = |_| AccountsFault::Away("its answer broke off".to_owned());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.at.to_string());
        if body.is_some() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let body = body.map_or_else(Bytes::new, Bytes::from_owner);
        let request = request.body(Full::new(body)).map_err(|_| {
            AccountsFault::Refused("the manifest's path of accounts cannot be asked for".to_owned())
        })?;
        // The sender goes with it: the connection ends with its answer.
        let asking = async move {
            let answer = sender.send_request(request).await.map_err(broken)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
            let body =
                body.map_err(|_| AccountsFault::Away("its answer is too long, or broke off".to_owned()))?;
            Ok((status, body.to_bytes()))
        };
        let (answer, _) = tokio::join!(asking, connection);
        answer
    }
}

/// What has a secret in it, in memory that is wiped.
fn secret(body: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, AccountsFault> {
    serde_json::to_vec(body)
        .map(Zeroizing::new)
        .map_err(|_| AccountsFault::Refused("the request cannot be written down".to_owned()))
}

/// Its own words, bounded; it is told what it refuses, never what it was sent.
fn fault(status: StatusCode, answer: &[u8]) -> AccountsFault {
    let words = serde_json::from_slice(answer).map_or_else(|_| String::new(), |Words { error }| error);
    let plain: String = words
        .chars()
        .filter(|c| !c.is_control())
        .take(WORDS_MAX)
        .collect();
    let said = match plain.as_str() {
        "" => format!("it answers {}", status.as_u16()),
        plain => format!("{plain} ({})", status.as_u16()),
    };
    if status.is_client_error() || status.is_redirection() {
        AccountsFault::Refused(said)
    } else {
        AccountsFault::Away(said)
    }
}
