//! A peer's connection: what it says and gets is counted, and it ends with a reset unless all was carried.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::counters::Counters;

/// See the module.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    counters: Arc<Counters>,
    moved: Arc<AtomicU64>,
    /// Something came for it.
    heard: bool,
    whole: bool,
}

impl Client {
    /// Takes a connection over, which [`crate::listener`] accepted.
    pub fn new(stream: TcpStream, counters: Arc<Counters>) -> Self {
        Client {
            stream,
            counters,
            moved: Arc::default(),
            heard: false,
            whole: false,
        }
    }

    /// The connection itself, to ask the kernel about it.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Bytes in both directions so far; whoever holds it sees whether the connection is still used.
    pub fn moved(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.moved)
    }

    /// All that was said in both directions has been carried: the connection ends as it is.
    pub fn carried(mut self) {
        self.whole = true;
    }

    fn count(&self, counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A connection that is cut short must not look like one that was finished.
impl Drop for Client {
    fn drop(&mut self) {
        if !self.whole
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::debug!(%error, "SO_LINGER");
        }
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.count(&self.counters.sent, buf.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Client {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &polled {
            self.count(&self.counters.received, *written);
            if *written > 0 && !self.heard {
                self.heard = true;
                self.counters.heard();
            }
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
