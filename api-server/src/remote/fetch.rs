//! HTTP over TLS to a catalog's server: one connection of `cell-egress`, kept while it goes. Nothing leads elsewhere: no redirect, no proxy,
//! no other host. What the server says is bounded, and believed no further than its status goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::services::remote::CatalogUrl;
use http::header::{ACCEPT, ETAG, HOST, IF_NONE_MATCH};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::DuplexStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::daemons::egress::EgressClient;

/// How long the handshake may take, through whatever exit.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest name that a server may give an index.
const ETAG_MAX: usize = 256;
/// How often a connection is tried by the cell's own way: netd may be told of the server just now.
const TRIES: u32 = 4;
/// Between two of them.
const BETWEEN: Duration = Duration::from_secs(2);

/// A server.
pub(super) struct Server<'a> {
    /// Who connects.
    pub egress: &'a EgressClient,
    /// Where it is.
    pub at: SocketAddr,
    /// What carries it.
    pub by: Option<ConnectionId>,
    /// What is asked for.
    pub url: &'a CatalogUrl,
    /// Whom it is known by.
    pub tls: Arc<ClientConfig>,
    /// The connection, once there is one.
    pub sender: Option<SendRequest<Empty<Bytes>>>,
}

/// What it answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    /// The file, and what the server calls it.
    File(Bytes, String),
    /// It is what it was.
    Same,
    /// There is none.
    Absent,
}

/// Why a file is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotFetched {
    /// Nothing comes of this connection.
    #[error("{0}")]
    Broken(String),
    /// This file alone is not right.
    #[error("{0}")]
    File(String),
}

impl Server<'_> {
    /// A file of the catalog, of at most so many bytes.
    pub(super) async fn get(&mut self, file: &str, most: usize, etag: &str) -> Result<Got, NotFetched> {
        let broken = |words: &str| NotFetched::Broken(words.to_owned());
        let path = self.url.path(file);
        let mut request = Request::get(&path)
            .header(HOST, self.url.authority())
            .header(ACCEPT, "*/*");
        if !etag.is_empty() {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let request = request.body(Empty::new());
        let request = request.map_err(|_| broken("its address cannot be asked for"))?;
        let sender = self.sender().await?;
        let asking = async {
            let answer = sender.send_request(request).await;
            let answer =
                answer.map_err(|error| NotFetched::Broken(format!("its answer broke off: {error}")))?;
            let status = answer.status();
            match status {
                StatusCode::OK => {}
                StatusCode::NOT_MODIFIED if !etag.is_empty() => return Ok(Got::Same),
                StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Got::Absent),
                status if status.is_redirection() => {
                    let words = "it leads elsewhere, which is not followed: add the catalog by the address that it leads to";
                    return Err(NotFetched::Broken(format!("{words} ({status})")));
                }
                status => return Err(NotFetched::Broken(format!("it answers {status} to {path}"))),
            }
            let named = answer.headers().get(ETAG).and_then(|value| value.to_str().ok());
            let named = named
                .filter(|name| name.len() <= ETAG_MAX)
                .unwrap_or_default()
                .to_owned();
            match Limited::new(answer.into_body(), most).collect().await {
                Ok(body) => Ok(Got::File(body.to_bytes(), named)),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                    Err(NotFetched::File(format!("{file} has more than {most} bytes")))
                }
                Err(_) => Err(NotFetched::Broken(format!("{file} broke off"))),
            }
        };
        let got = tokio::time::timeout(PATIENCE, asking).await;
        let got = got.unwrap_or_else(|_| Err(NotFetched::Broken("it does not answer in time".to_owned())));
        if !matches!(got, Ok(Got::File(..))) {
            // The rest of an answer that was not read must not be taken for the next one.
            self.sender = None;
        }
        got
    }

    async fn sender(&mut self) -> Result<&mut SendRequest<Empty<Bytes>>, NotFetched> {
        let is_open = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !is_open {
            self.sender = None;
        }
        let sender = match self.sender.take() {
            Some(sender) => sender,
            None => self.open().await?,
        };
        Ok(self.sender.insert(sender))
    }

    async fn open(&self) -> Result<SendRequest<Empty<Bytes>>, NotFetched> {
        let stream = self.connect().await?;
        let name = ServerName::try_from(self.url.host().to_owned())
            .map_err(|_| NotFetched::Broken("its host is no name that a certificate has".to_owned()))?;
        let shaking = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        let stream: TlsStream<DuplexStream> = tokio::time::timeout(HANDSHAKE, shaking)
            .await
            .map_err(|_| NotFetched::Broken("its TLS does not come about in time".to_owned()))?
            .map_err(|error| NotFetched::Broken(format!("its TLS is not right: {error}")))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| NotFetched::Broken(format!("it speaks no HTTP: {error}")))?;
        // It ends with the sender.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn connect(&self) -> Result<DuplexStream, NotFetched> {
        let mut left = if self.by.is_none() { TRIES } else { 1 };
        loop {
            left -= 1;
            match self.egress.connect_catalog(self.at, self.by).await {
                Ok(stream) => return Ok(stream),
                Err(words) if left == 0 => return Err(NotFetched::Broken(words)),
                Err(_) => tokio::time::sleep(BETWEEN).await,
            }
        }
    }
}
