//! What an attacker writes on a socket, byte by byte: HTTP/1.1, HTTP/2 with any method and target, and gRPC with any message.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cell_proto::fault;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::Status;

/// How long anything may take that is answered.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// HTTP/1.1 with this status.
    Status(u64),
    /// The connection was ended without a word of HTTP/1.1.
    Ended,
    /// Nothing of either in time.
    Silence,
}

impl std::fmt::Display for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Heard::Status(status) => write!(f, "{status}"),
            Heard::Ended => f.write_str("the connection's end"),
            Heard::Silence => f.write_str("silence"),
        }
    }
}

/// A request in HTTP/1.1.
pub fn request(method: &str, target: &str, headers: &BTreeMap<String, String>, body: &[u8]) -> Vec<u8> {
    let mut all = BTreeMap::from([
        ("Host", "docker"),
        ("Content-Type", "application/json"),
        ("Connection", "close"),
    ]);
    all.extend(
        headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    let head: String = all
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let length = body.len();
    let head = format!("{method} {target} HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// What a server answers to these bytes.
pub async fn http1(socket: &Path, request: &[u8], patience: Duration) -> Heard {
    let stream = UnixStream::connect(socket).await.unwrap();
    let (mut answers, mut asks) = stream.into_split();
    let request = request.to_owned();
    // Beside the reading: a server may answer, or hang up, before it has read all.
    let asking = tokio::spawn(async move {
        let _ = asks.write_all(&request).await;
        asks
    });
    let heard = async {
        let (mut told, mut piece) = (Vec::new(), [0; 1024]);
        while let Ok(n @ 1..) = answers.read(&mut piece).await {
            told.extend(&piece[..n]);
            if let Some(status) = status(&told) {
                return Heard::Status(status);
            }
        }
        Heard::Ended
    };
    let heard = timeout(patience, heard).await.unwrap_or(Heard::Silence);
    asking.abort();
    heard
}

/// All that a server answers until it ends the connection.
pub async fn whole(socket: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut told = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut told)).await;
    read.unwrap().unwrap();
    told
}

/// Of an answer's first line, wherever it stands.
fn status(told: &[u8]) -> Option<u64> {
    let at = told.windows(7).position(|word| word == b"HTTP/1.")?;
    let line = told.get(at..at + 12)?;
    std::str::from_utf8(&line[9..]).ok()?.parse().ok()
}

/// A connection in HTTP/2.
pub struct Http2(SendRequest<Full<Bytes>>);

impl Http2 {
    pub async fn to(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await.unwrap();
        let (asks, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Http2(asks)
    }

    /// What gRPC says to any request. None: HTTP/2 has no way to write the target.
    ///
    /// # Errors
    /// What came instead of gRPC's word: nothing in time, an error, or an answer of something else.
    pub async fn ask(
        &self,
        method: &str,
        target: &str,
        kind: &str,
        body: &[u8],
    ) -> Option<Result<Status, String>> {
        let uri = if target.starts_with("http://") {
            target.parse().ok()?
        } else {
            http::Uri::builder()
                .scheme("http")
                .authority("docker")
                .path_and_query(target)
                .build()
                .ok()?
        };
        let request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header("content-type", kind)
            .header("te", "trailers")
            .body(Full::new(Bytes::copy_from_slice(body)))
            .unwrap();
        let told = timeout(PATIENCE, self.told(request)).await;
        Some(told.unwrap_or_else(|_| Err("silence".to_owned())))
    }

    async fn told(&self, request: http::Request<Full<Bytes>>) -> Result<Status, String> {
        let mut asks = self.0.clone();
        asks.ready().await.map_err(|error| error.to_string())?;
        let answer = asks.send_request(request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if let Some(status) = Status::from_header_map(answer.headers()) {
            return Ok(status);
        }
        let http = answer.status();
        let body = answer.into_body().collect().await;
        let body = body.map_err(|error| error.to_string())?;
        let status = body.trailers().and_then(Status::from_header_map);
        status.ok_or_else(|| format!("{http} without a word of gRPC"))
    }

    /// Calls a method, e.g. `/cell.broker.v1.BackupService/ReadBackup`, with what may be a frame with a message.
    pub async fn call(&self, method: &str, frame: &[u8]) -> Result<Status, String> {
        let told = self.ask("POST", method, "application/grpc", frame).await;
        told.unwrap_or_else(|| Err(format!("{method} is no path")))
    }
}

/// A message as gRPC sends it.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat()
}

/// Code, reason, and the rules or the judge's codes, e.g. `PermissionDenied/DENIED/I1_REGISTRY`.
pub fn told(status: &Status) -> String {
    let mut told = format!("{:?}", status.code());
    let metadata = fault::metadata(status);
    let more = ["rules", "codes"].map(|key| metadata.get(key).cloned());
    for part in [fault::reason(status)].into_iter().chain(more).flatten() {
        told = format!("{told}/{part}");
    }
    told
}
