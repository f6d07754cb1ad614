//! Connections that nobody uses: HTTP/2 keeps one open for as long as its client answers pings, whether or not it asks
//! for anything.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

/// How a connection is used.
#[derive(Debug, Clone)]
pub struct Usage(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    under_way: AtomicUsize,
    last: Mutex<Instant>,
}

/// One request, until the last byte of its answer is sent or given up.
#[derive(Debug)]
pub struct InUse(Usage);

/// The body of an answer that keeps its connection in use.
#[derive(Debug)]
pub struct UsedBody {
    body: Body,
    _in_use: Option<InUse>,
}

impl Usage {
    /// A new connection.
    pub fn new() -> Self {
        Usage(Arc::new(Shared {
            under_way: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
        }))
    }

    /// A request begins.
    pub fn begin(&self) -> InUse {
        self.0.under_way.fetch_add(1, Ordering::Relaxed);
        InUse(self.clone())
    }

    /// Waits until nothing has been under way for `limit`.
    pub async fn idle(&self, limit: Duration) {
        loop {
            let last = *self.last();
            if self.0.under_way.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(limit).await;
            } else if last.elapsed() >= limit {
                return;
            } else {
                tokio::time::sleep_until(last + limit).await;
            }
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Usage {
    fn default() -> Self {
        Usage::new()
    }
}

impl UsedBody {
    /// The body of an answer, which ends `in_use` with its own end.
    pub fn new(body: Body, in_use: Option<InUse>) -> Self {
        UsedBody {
            body,
            _in_use: in_use,
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        *self.0.last() = Instant::now();
        self.0.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl hyper::body::Body for UsedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    async fn ends_within(usage: &Usage, patience: Duration) -> bool {
        tokio::time::timeout(patience, usage.idle(LIMIT)).await.is_ok()
    }

    #[tokio::test]
    async fn a_connection_is_idle_when_its_last_answer_is_sent() {
        let usage = Usage::new();
        let body = UsedBody::new(Body::from("an answer"), Some(usage.begin()));
        assert!(!ends_within(&usage, LIMIT * 4).await, "the answer is being sent");
        drop(body);
        assert!(!ends_within(&usage, LIMIT / 4).await, "it was in use just now");
        assert!(ends_within(&usage, LIMIT * 40).await);
    }
}
