//! A client's end: a channel over a path socket, connected on first use and again after a loss.
//!
//! The client trusts the folder (root-owned, not writable to it), not the server's credentials: with socket activation
//! those are the listener's, that is root's.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// How long a client waits for one answer.
const CALL_DEADLINE: Duration = Duration::from_secs(90);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// A lazy channel to the daemon that listens at `path`. Never fails here; calls fail with UNAVAILABLE while the daemon
/// is away.
pub fn connect(path: impl Into<PathBuf>) -> Channel {
    let path = path.into();
    // The URI only fills the `:authority` header; the connector ignores it.
    Endpoint::from_static("http://cell.invalid")
        .timeout(CALL_DEADLINE)
        .connect_timeout(CONNECT_DEADLINE)
        .connect_with_connector_lazy(service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
}
