//! A peer's connection: what it says and gets is counted, and it ends with a reset unless all was carried.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::counters::Counters;

/// After how long without a word a peer is asked whether it is still there, seconds. Not sooner: it wakes a phone that sleeps.
const QUIET_SECONDS: u32 = 900;
/// How often it is asked again, and how many times, until it is not.
const AGAIN_SECONDS: u32 = 60;
const TIMES: u32 = 4;

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
    /// Takes a connection over.
    pub fn new(stream: TcpStream, counters: Arc<Counters>) -> Self {
        // An answer that waits for more to go with it is slower than the way it took.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        if let Err(error) = keep_alive(&stream) {
            tracing::debug!(%error, "SO_KEEPALIVE");
        }
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

/// A peer that is gone, or that another exit carries by now, says nothing any more (tcp(7)): its connection would count among what it may
/// have for as long as one may be idle.
fn keep_alive(stream: &impl AsFd) -> nix::Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &QUIET_SECONDS)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &AGAIN_SECONDS)?;
    setsockopt(stream, sockopt::TcpKeepCount, &TIMES)
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
