//! Copies bytes both ways between two streams, and holds none of those that can go on at once.
//!
//! Each thread reads into one buffer of its own. What the other side does not take of it is kept with the connection until it does,
//! and nothing more is read until then: so an idle connection costs no buffer, and a busy one none for long.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is read at a time, bytes.
const PIECE: usize = 32 << 10;
/// The same while [`MUCH`] is kept: slower, never stopped, and all connections that may be, stuck in both directions, fit into what
/// the unit allows.
const SMALL_PIECE: usize = 2 << 10;
/// From how many kept bytes on, of all connections together, only small pieces are read.
const MUCH: usize = 64 << 20;
/// And of those of one exit: an eighth, so that one whose connections are stuck slows itself long before it slows others. It goes on
/// keeping small pieces: some of 2 MiB more for a peer's 1,024 connections in each direction.
const MUCH_OF_EXIT: usize = MUCH / 8;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
}

/// How many bytes connections keep, since the far side of each is slower than the near one: those of one exit, which are counted
/// with those of all.
#[derive(Debug)]
pub struct Kept {
    bytes: AtomicUsize,
    /// From how many bytes on only small pieces are read.
    much: usize,
    /// Whose part it is; none: it is that of all exits.
    all: Option<Arc<Kept>>,
}

impl Kept {
    /// Of all exits, which holds where many of them keep much.
    pub fn of_all() -> Arc<Self> {
        Arc::new(Kept {
            bytes: AtomicUsize::new(0),
            much: MUCH,
            all: None,
        })
    }

    /// Of one more exit.
    pub fn of_exit(all: &Arc<Kept>) -> Arc<Self> {
        Arc::new(Kept {
            bytes: AtomicUsize::new(0),
            much: MUCH_OF_EXIT,
            all: Some(Arc::clone(all)),
        })
    }

    /// How much may be read now, bytes.
    fn piece(&self) -> usize {
        if self.is_much() { SMALL_PIECE } else { PIECE }
    }

    fn is_much(&self) -> bool {
        self.bytes() >= self.much || self.all.as_ref().is_some_and(|all| all.is_much())
    }

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(all) = &self.all {
            all.add(bytes);
        }
    }

    fn take(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(all) = &self.all {
            all.take(bytes);
        }
    }

    /// Now, in all.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Bytes that were read and not yet written.
struct Rest {
    bytes: Vec<u8>,
    written: usize,
    kept: Arc<Kept>,
}

impl Rest {
    fn new(kept: &Arc<Kept>, bytes: Vec<u8>) -> Self {
        kept.add(bytes.len());
        Rest {
            bytes,
            written: 0,
            kept: Arc::clone(kept),
        }
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while self.written < self.bytes.len() {
            self.written += match ready!(Pin::new(&mut *to).poll_write(cx, &self.bytes[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => count,
            };
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.kept.take(self.bytes.len());
    }
}

/// One direction.
struct Direction {
    kept: Arc<Kept>,
    rest: Option<Rest>,
    unflushed: bool,
    ended: bool,
    over: bool,
}

impl Direction {
    fn new(kept: &Arc<Kept>, early: Vec<u8>) -> Self {
        Direction {
            kept: Arc::clone(kept),
            rest: (!early.is_empty()).then(|| Rest::new(kept, early)),
            unflushed: false,
            ended: false,
            over: false,
        }
    }

    /// Ready when `from` has ended, and `to` was told.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while !self.over {
            if let Some(rest) = &mut self.rest {
                ready!(rest.poll_write(cx, to))?;
                self.unflushed = true;
                self.rest = None;
            }
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.over = true;
                break;
            }
            if self.poll_piece(cx, from, to)?.is_pending() {
                if self.unflushed {
                    ready!(Pin::new(&mut *to).poll_flush(cx))?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, and writes what `to` takes of it at once.
    fn poll_piece<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut piece = ReadBuf::new(&mut scratch[..self.kept.piece()]);
            ready!(Pin::new(from).poll_read(cx, &mut piece))?;
            let piece = piece.filled();
            if piece.is_empty() {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
            let taken = match Pin::new(to).poll_write(cx, piece)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(taken) => taken,
                Poll::Pending => 0,
            };
            self.unflushed |= taken > 0;
            if taken < piece.len() {
                self.rest = Some(Rest::new(&self.kept, piece[taken..].to_vec()));
            }
            Poll::Ready(Ok(()))
        })
    }
}

/// Carries until both directions have ended. `early` goes to `near` first. The end of one direction is passed on, and the other
/// goes on (half-close).
///
/// # Errors
/// The first side that breaks ends it.
pub async fn carry<A, B>(near: &mut A, far: &mut B, early: Vec<u8>, kept: &Arc<Kept>) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut there, mut back) = (Direction::new(kept, Vec::new()), Direction::new(kept, early));
    poll_fn(|cx| {
        let sent = there.poll(cx, near, far)?;
        let received = back.poll(cx, far, near)?;
        ready!(sent);
        ready!(received);
        Poll::Ready(Ok(()))
    })
    .await
}

#[cfg(test)]
mod tests;
