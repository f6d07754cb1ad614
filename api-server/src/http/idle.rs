//! Connections that nobody uses: who sends half a request and no more, who takes no answer, and who keeps one open over
//! HTTP/2 by answering pings. One timer per connection looks at a count of what moved, so that a request costs no clock.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How often a connection is looked at within the limit.
const LOOKS: u32 = 4;
/// How long an answer may wait for its reader to take some more of it. A slow link moves in steps: the kernel takes no more
/// before a third of what it holds is on its way.
const STALLED: Duration = Duration::from_secs(60);

/// How a connection is used.
#[derive(Debug, Clone, Default)]
pub struct Usage(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Requests that wait for their answer.
    handled: AtomicUsize,
    /// Answers that are being sent.
    sent: AtomicUsize,
    /// Whether bytes wait for the reader.
    is_full: AtomicBool,
    /// Requests that ended and pieces of answers that were taken.
    moved: AtomicU64,
}

/// One request, until there is an answer.
#[derive(Debug)]
pub struct InUse(Usage);

/// The body of an answer, which keeps its connection in use as long as some of it is taken.
#[derive(Debug)]
pub struct UsedBody {
    body: Body,
    usage: Usage,
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
        self.0.handled.fetch_add(1, Ordering::Relaxed);
        InUse(self.clone())
    }

    /// Waits until no request waits for its answer and nothing has moved: for `limit`, or for a minute while there is an
    /// answer to send. It may be a quarter of `limit` longer.
    pub async fn idle(&self, limit: Duration) {
        let (mut moved, mut quiet) = (self.moved(), Duration::ZERO);
        let step = limit / LOOKS;
        while quiet
            < if self.is_sending() {
                limit.max(STALLED)
            } else {
                limit
            }
        {
            tokio::time::sleep(step).await;
            let is_quiet = self.0.handled.load(Ordering::Relaxed) == 0 && self.moved() == moved;
            quiet = if is_quiet { quiet + step } else { Duration::ZERO };
            moved = self.moved();
        }
    }

    fn is_sending(&self) -> bool {
        self.0.sent.load(Ordering::Relaxed) > 0 || self.0.is_full.load(Ordering::Relaxed)
    }

    fn moved(&self) -> u64 {
        self.0.moved.load(Ordering::Relaxed)
    }

    fn note(&self) {
        self.0.moved.fetch_add(1, Ordering::Relaxed);
    }
}

impl InUse {
    /// The answer's body.
    pub fn until_sent(self, body: Body) -> UsedBody {
        let usage = self.0.clone();
        usage.0.sent.fetch_add(1, Ordering::Relaxed);
        UsedBody { body, usage }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.note();
        self.0.0.handled.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for UsedBody {
    fn drop(&mut self) {
        self.usage.note();
        self.usage.0.sent.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> Watched<S> {
    /// A stream; what its reader takes counts as use of `usage`.
    pub fn new(stream: S, usage: Option<Usage>) -> Self {
        Watched { stream, usage }
    }

    fn note<T>(&self, taken: Poll<T>) -> Poll<T> {
        if let Some(usage) = &self.usage {
            usage.0.is_full.store(taken.is_pending(), Ordering::Relaxed);
            if taken.is_ready() {
                usage.note();
            }
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
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.usage.note();
        }
        frame
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

    const LIMIT: Duration = Duration::from_secs(8);

    async fn ends_within(usage: &Usage, patience: Duration) -> bool {
        tokio::time::timeout(patience, usage.idle(LIMIT)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_its_last_answer_is_sent() {
        let usage = Usage::default();
        let request = usage.begin();
        assert!(!ends_within(&usage, STALLED * 4).await, "it waits for its answer");
        let body = request.until_sent(Body::from("an answer"));
        assert!(
            !ends_within(&usage, STALLED - LIMIT).await,
            "the answer is being sent"
        );
        drop(body);
        assert!(!ends_within(&usage, LIMIT - Duration::from_secs(1)).await);
        assert!(ends_within(&usage, LIMIT * 5 / 4).await);
    }

    /// Over HTTP/2 a reader that opens no window leaves every answer where it is, and answers pings.
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_keeps_no_connection() {
        let usage = Usage::default();
        let _untaken = usage.begin().until_sent(Body::from("an answer"));
        assert!(ends_within(&usage, STALLED + LIMIT).await);
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
                // Far apart, as the kernel takes more only now and then.
                tokio::time::sleep(STALLED * 2 / 3).await;
                reader.read_u8().await.unwrap();
            }
        };
        tokio::select! {
            () = slow => {}
            () = usage.idle(LIMIT) => panic!("it was being read from"),
        }
        assert!(ends_within(&usage, STALLED + LIMIT).await);
        writer.abort();
    }
}
