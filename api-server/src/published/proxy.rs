//! Caddy's admin API over its Unix socket: a whole configuration is taken, or the former stays.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use cell_api_core::derive::caddy::{Config, LoadedCertificate};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use zeroize::Zeroizing;

/// How long Caddy may take to put a configuration in force.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most bytes of an answer that are read.
const ANSWER_MAX: usize = 64 * 1024;
/// Most bytes of an answer that has all certificates in it: as many as a cell has services, four times over.
const CERTIFICATES_MAX: usize = 16 * 1024 * 1024;
/// Most characters of Caddy's words that are told.
const WORDS_MAX: usize = 1000;

/// See the module.
#[derive(Debug, Clone)]
pub struct Proxy(PathBuf);

/// Why Caddy has not what it should have.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// It is not there.
    #[error("Caddy does not answer at its socket (caddy_socket in api.toml): {0}")]
    Away(String),
    /// It does not take the configuration, and keeps the former.
    #[error("Caddy refuses the configuration and keeps the former: {0}")]
    Refused(String),
    /// The configuration cannot be written down.
    #[error("the configuration cannot be written down")]
    Unspeakable(#[from] serde_json::Error),
}

impl ProxyError {
    /// A stable code.
    pub fn reason(&self) -> &'static str {
        match self {
            ProxyError::Away(_) => "AWAY",
            ProxyError::Refused(_) => "REFUSED",
            ProxyError::Unspeakable(_) => "UNSPEAKABLE",
        }
    }
}

/// How the certificate of a name stands that Caddy gets by itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Outcome {
    /// When the one that is served ends, seconds since 1970; `None`: there is none.
    pub not_after: Option<i64>,
    /// Why another could not be had when that was tried last, in Caddy's words.
    pub fault: Option<String>,
}

/// What Caddy says of what it refuses.
#[derive(Deserialize)]
struct Words {
    error: String,
}

/// A certificate of a configuration.
#[derive(Deserialize)]
struct Pem {
    certificate: String,
    key: String,
}

impl Proxy {
    /// The Caddy behind a socket.
    pub fn new(path: &Path) -> Self {
        Proxy(path.to_owned())
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Puts a configuration in force.
    ///
    /// # Errors
    /// [`ProxyError`]; then the former is in force.
    pub async fn load(&self, config: &Config) -> Result<(), ProxyError> {
        let body = Zeroizing::new(serde_json::to_vec(config)?);
        let body = Bytes::from_owner(body);
        let (status, answer) = self.ask(Method::POST, "/load", body, ANSWER_MAX).await?;
        if status.is_success() {
            return Ok(());
        }
        let words =
            serde_json::from_slice(&answer).map_or_else(|_| status.to_string(), |Words { error }| error);
        Err(ProxyError::Refused(words.chars().take(WORDS_MAX).collect()))
    }

    /// Whether the configuration of this mark is in force.
    ///
    /// # Errors
    /// [`ProxyError::Away`].
    pub async fn has(&self, mark: &str) -> Result<bool, ProxyError> {
        let (status, _) = self
            .ask(Method::GET, &format!("/id/{mark}"), Bytes::new(), ANSWER_MAX)
            .await?;
        Ok(status.is_success())
    }

    /// The certificates of the configuration that is in force, each with its key; none where it has none, or something else in their place.
    ///
    /// # Errors
    /// [`ProxyError::Away`].
    pub async fn certificates(&self) -> Result<Vec<LoadedCertificate>, ProxyError> {
        let path = "/config/apps/tls/certificates/load_pem";
        let (status, answer) = self
            .ask(Method::GET, path, Bytes::new(), CERTIFICATES_MAX)
            .await?;
        // Wiped, as far as it is ours: keys are in it.
        let answer = Zeroizing::new(Vec::from(answer));
        let all: Option<Vec<Pem>> = match status.is_success() {
            true => serde_json::from_slice(&answer).unwrap_or_default(),
            false => None,
        };
        let loaded = |Pem { certificate, key }| LoadedCertificate {
            chain: certificate,
            key: Zeroizing::new(key),
        };
        Ok(all.unwrap_or_default().into_iter().map(loaded).collect())
    }

    /// How the certificate of `name` stands, which is a host's or has `*` for its first label.
    ///
    /// # Errors
    /// [`ProxyError::Away`], also of a Caddy that has not the cell's modules.
    pub async fn certificate(&self, name: &str) -> Result<Outcome, ProxyError> {
        let path = format!("/cell/certificate?name={name}");
        let (status, answer) = self.ask(Method::GET, &path, Bytes::new(), ANSWER_MAX).await?;
        let told: Option<Outcome> = serde_json::from_slice(&answer)
            .ok()
            .filter(|_| status.is_success());
        let told =
            told.ok_or_else(|| ProxyError::Away(format!("it says nothing of certificates: {status}")))?;
        let words = |text: String| -> String {
            let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
            plain.take(WORDS_MAX).collect()
        };
        Ok(Outcome {
            fault: told.fault.map(words),
            ..told
        })
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        most: usize,
    ) -> Result<(StatusCode, Bytes), ProxyError> {
        let asked = self.ask_at_leisure(method, path, body, most);
        let answered = tokio::time::timeout(PATIENCE, asked).await;
        let away = |error: io::Error| ProxyError::Away(error.to_string());
        answered
            .map_err(|_| ProxyError::Away("not in time".to_owned()))?
            .map_err(away)
    }

    async fn ask_at_leisure(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        most: usize,
    ) -> io::Result<(StatusCode, Bytes)> {
        let stream = UnixStream::connect(&self.0).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let driving = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            // Caddy takes none but this at a Unix socket (RFC 9112, section 3.2).
            .header(HOST, HeaderValue::from_static(""))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        let answered = async {
            let (head, body) = sender
                .send_request(request)
                .await
                .map_err(io::Error::other)?
                .into_parts();
            let body = Limited::new(body, most)
                .collect()
                .await
                .map_err(io::Error::other)?;
            Ok((head.status, body.to_bytes()))
        };
        let answered = answered.await;
        driving.abort();
        answered
    }
}
