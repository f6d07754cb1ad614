//! What goes to Docker's socket, behind the egress table, and no more than so many bytes back of each request. What changes
//! anything has a connection of its own; short reads share some ([`Kept`]).
//!
//! The path is opened after the sandbox has closed: Landlock below ABI 9 does not restrict connect(2) on a path
//! (`LANDLOCK_ACCESS_FS_RESOLVE_UNIX`), and from ABI 9 on the profile names this one path.

mod kept;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bollard::BollardRequest;
use bollard::errors::Error;
use bytes::Bytes;
use cell_broker_core::construct::{self, Making};
use cell_broker_core::deploy::{CREATE_MAX_BYTES, Ceiling, recheck};
use cell_broker_core::egress::{self, Operation};
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Response, Uri};
use http_body_util::{Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use kept::Bounded;
pub(super) use kept::Kept;

/// Largest answer that is read, bytes: 1,001 log entries of 16 KiB, the most that Docker puts into one, with room to spare.
const MAX_ANSWER_BYTES: usize = 24 * 1024 * 1024;

/// A request that is not in the egress table. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("a request outside the egress table was held back")]
pub(super) struct HeldBack;

/// An answer beyond [`MAX_ANSWER_BYTES`].
#[derive(Debug, thiserror::Error)]
#[error("Docker's answer is longer than {MAX_ANSWER_BYTES} bytes")]
pub(super) struct TooLong;

/// Sends one request: a short read over a connection that is kept for the next, anything else over one of its own.
pub(super) async fn send(kept: Arc<Kept>, request: BollardRequest) -> Result<Response<Incoming>, Error> {
    let (mut parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let operation = egress::operation(parts.method.as_str(), target)
        .ok_or_else(|| Error::from(io::Error::other(HeldBack)))?;
    parts.uri = target.parse::<Uri>()?;
    parts.headers.insert(HOST, HeaderValue::from_static("docker"));
    if operation.is_short_read() {
        return kept.read(&parts).await;
    }
    parts
        .headers
        .insert(CONNECTION, HeaderValue::from_static("close"));
    let most = match operation {
        // Read piece by piece, by one that counts against the ceiling.
        Operation::Archive => usize::MAX,
        _ => MAX_ANSWER_BYTES,
    };
    let stream = bounded(kept.path(), most).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the response: the sender is dropped below, and Docker closes.
    tokio::spawn(connection);
    Ok(sender
        .send_request(http::Request::from_parts(parts, body))
        .await?)
}

/// Sends one request that makes or removes something, over a connection of its own. What is sent is looked at here once more:
/// the target by the table, the body of a create request by the field policy, as the bytes that leave.
pub(super) async fn make(
    path: &Path,
    ceiling: &Ceiling,
    method: http::Method,
    target: &str,
    body: Vec<u8>,
) -> io::Result<Response<Incoming>> {
    let held_back = || io::Error::other(HeldBack);
    let making = construct::making(method.as_str(), target).ok_or_else(held_back)?;
    if making == Making::CreateContainer {
        let parsed = cell_manifest::parse_json(&body, CREATE_MAX_BYTES).map_err(|_| held_back())?;
        recheck(&parsed, ceiling, None).map_err(|violations| {
            tracing::error!(target: "audit", %violations, "a create request that breaks the field policy was held back");
            held_back()
        })?;
    }
    let request = http::Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, "docker")
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(io::Error::other)?;
    over_its_own(path, request).await
}

/// Sends an archive for the place of a volume, as it comes; for root's way back alone.
pub(super) async fn put_back(
    path: &Path,
    target: &str,
    archive: mpsc::Receiver<io::Result<Bytes>>,
) -> io::Result<Response<Incoming>> {
    if !egress::is_put_back("PUT", target) {
        return Err(io::Error::other(HeldBack));
    }
    let frames = ReceiverStream::new(archive).map(|piece| piece.map(Frame::data));
    let request = http::Request::put(target)
        .header(HOST, "docker")
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, "application/x-tar")
        .body(StreamBody::new(frames))
        .map_err(io::Error::other)?;
    over_its_own(path, request).await
}

/// Sends it over a connection that nothing else uses, and that ends with the answer.
async fn over_its_own<B>(path: &Path, request: http::Request<B>) -> io::Result<Response<Incoming>>
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let stream = bounded(path, MAX_ANSWER_BYTES).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(io::Error::other)
}

/// A connection of one request's own, which gives `most` bytes and then fails.
async fn bounded(path: &Path, most: usize) -> io::Result<Bounded> {
    Ok(Bounded {
        stream: UnixStream::connect(path).await?,
        left: Arc::new(AtomicUsize::new(most)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const POLICY: &str = "docker_socket = \"/run/docker.sock\"\nowner_label = \"cell.owner\"\n\
        service_label = \"cell.service\"\ncell_id = \"default\"\nmax_concurrent = 16\ndocker_deadline_seconds = 20\n\
        [callers.api]\nusers = [\"x\"]\n[deploy]\nmanifest_keys = []\nimage_policy = \"off\"\nregistries = []\n\
        cell_network = \"172.20.0.0/24\"\nservice_networks = \"172.21.0.0/16\"\n\
        bridge_prefix = \"cellsvc\"\n[deploy.limits]\nmemory_mib = 512\ncpu_milli = 1000\npids = 256\nservices = 8\n\
        total_memory_mib = 2048\nmanifests = 16\n";

    /// Whatever made the request: the connection is not even opened.
    #[tokio::test]
    async fn what_breaks_the_policy_is_held_back_where_it_leaves() {
        let ceiling = crate::Config::parse(POLICY, |_| Some(1))
            .unwrap()
            .ceiling
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let create = "/containers/create?name=cell-files-main";
        let cases = [
            (create, "{\"HostConfig\":{\"Privileged\":true}}".to_owned()),
            (create, "{\"HostConfig\":{},\"HostConfig\":{}}".to_owned()),
            (
                create,
                format!("{{\"Labels\":{{\"p\":\"{}\"}}}}", "A".repeat(1_100_000)),
            ),
            (create, String::new()),
            ("/containers/create", "{}".to_owned()),
            ("/build", "{}".to_owned()),
        ];
        for (target, body) in cases {
            let held = make(&path, &ceiling, http::Method::POST, target, body.into_bytes()).await;
            assert!(held.unwrap_err().get_ref().unwrap().is::<HeldBack>(), "{target}");
        }
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // The control: what is in the table does open it.
        let sent = tokio::time::timeout(
            std::time::Duration::from_millis(300),
            make(
                &path,
                &ceiling,
                http::Method::POST,
                "/networks/create",
                b"{}".to_vec(),
            ),
        );
        assert!(sent.await.is_err(), "it waits for an answer");
        assert!(listener.accept().is_ok());
    }
}
