//! Connections that nobody uses: who sends half a request and no more, who takes no answer, and who keeps one open over
//! HTTP/2 by answering pings. One timer per connection looks at a count of what moved, so that a request costs no clock.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How often a connection is looked at within the limit.
const LOOKS: u32 = 4;

/// How a connection is used.
#[derive(Debug, Clone, Default)]
pub struct Usage(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    under_way: AtomicUsize,
    /// Requests that ended and pieces of answers that were taken.
    moved: AtomicU64,
}

/// One request, until its answer is handed to the connection or given up.
#[derive(Debug)]
pub struct InUse(Usage);

/// The body of an answer that keeps its connection in use.
#[derive(Debug)]
pub struct UsedBody {
    body: Body,
    _in_use: InUse,
}

/// A stream whose reader is seen to take what is sent.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    /// None: what is sent is no sign of use, as HTTP/2's pings are not.
    usage: Option<Usage>,
}

impl Usage {
    /// A request begins.
    pub fn begin(&self) -> InUse {
        self.0.under_way.fetch_add(1, Ordering::Relaxed);
        InUse(self.clone())
    }

    /// Waits until nothing has been under way and nothing has moved for `limit`; it may be a quarter longer.
    pub async fn idle(&self, limit: Duration) {
        let (mut moved, mut quiet) = (self.moved(), 0);
        while quiet < LOOKS {
            tokio::time::sleep(limit / LOOKS).await;
            let is_quiet = self.0.under_way.load(Ordering::Relaxed) == 0 && self.moved() == moved;
            quiet = if is_quiet { quiet + 1 } else { 0 };
            moved = self.moved();
        }
    }

    fn moved(&self) -> u64 {
        self.0.moved.load(Ordering::Relaxed)
    }

    fn note(&self) {
        self.0.moved.fetch_add(1, Ordering::Relaxed);
    }
}

impl InUse {
    /// The answer's body, which ends this use with its own end.
    pub fn until_sent(self, body: Body) -> UsedBody {
        UsedBody { body, _in_use: self }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.note();
        self.0.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> Watched<S> {
    /// A stream; what its reader takes counts as use of `usage`.
    pub fn new(stream: S, usage: Option<Usage>) -> Self {
        Watched { stream, usage }
    }

    fn note<T>(&self, taken: Poll<T>) -> Poll<T> {
        if let (Some(usage), true) = (&self.usage, taken.is_ready()) {
            usage.note();
        }
        taken
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(taken)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.note(taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
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
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const LIMIT: Duration = Duration::from_millis(50);

    async fn ends_within(usage: &Usage, patience: Duration) -> bool {
        tokio::time::timeout(patience, usage.idle(LIMIT)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_its_last_answer_is_sent() {
        let usage = Usage::default();
        let body = usage.begin().until_sent(Body::from("an answer"));
        assert!(!ends_within(&usage, LIMIT * 4).await, "the answer is being sent");
        drop(body);
        assert!(!ends_within(&usage, LIMIT - Duration::from_millis(1)).await);
        assert!(ends_within(&usage, LIMIT * 5 / 4).await);
    }

    /// HTTP/2 aside, hyper is done with a body long before a slow reader is.
    #[tokio::test(start_paused = true)]
    async fn who_takes_an_answer_slowly_is_not_idle_and_who_stops_is() {
        let usage = Usage::default();
        let (stream, mut reader) = tokio::io::duplex(1);
        let mut stream = Watched::new(stream, Some(usage.clone()));
        let writer = tokio::spawn(async move { stream.write_all(&[7; 40]).await });
        let slow = async {
            for _ in 0..20 {
                tokio::time::sleep(LIMIT / 3).await;
                reader.read_u8().await.unwrap();
            }
        };
        tokio::select! {
            () = slow => {}
            () = usage.idle(LIMIT) => panic!("it was being read from"),
        }
        assert!(ends_within(&usage, LIMIT * 2).await);
        writer.abort();
    }
}
