//! A container's log as it grows.

use cell_api_core::fault::Faults;
use cell_proto::broker::v1::FollowContainerLogsResponse;
use tonic::Streaming;

use crate::app::App;
use crate::service::{ServiceError, store};

/// Most lines that it begins with.
const LINES_MAX: u32 = 1_000;

/// What is told, in parts. The broker bounds how much and how long; it ends when this is dropped.
#[derive(Debug)]
pub struct LogStream(Streaming<FollowContainerLogsResponse>);

impl LogStream {
    /// The next lines, oldest first, and whether some before them were left out; `None`: it has ended.
    pub async fn next(&mut self) -> Option<(Vec<String>, bool)> {
        let part = self.0.message().await.ok()??;
        Some((part.lines, part.skipped))
    }
}

/// Follows the log of a container; without a name, of the main one. `lines` come first.
///
/// # Errors
/// As [`store::logs`].
pub async fn follow(app: &App, name: &str, container: &str, lines: u32) -> Result<LogStream, ServiceError> {
    if lines > LINES_MAX {
        return Err(Faults::one("lines", format!("must be 1-{LINES_MAX}")).into());
    }
    let made = store::container_of(app, name, container)?;
    let stream = app.streams.logs(&made.handle, lines).await;
    Ok(LogStream(stream.map_err(store::refused)?))
}
