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

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into());
}

/// How many bytes all connections together keep, since the far side of each is slower than the near one.
#[derive(Debug, Default)]
pub struct Kept(AtomicUsize);

impl Kept {
    /// How much may be read now, bytes.
    fn piece(&self) -> usize {
        if self.bytes() < MUCH { PIECE } else { SMALL_PIECE }
    }

    /// Now, in all.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
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
        kept.0.fetch_add(bytes.len(), Ordering::Relaxed);
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
        self.kept.0.fetch_sub(self.bytes.len(), Ordering::Relaxed);
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
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    fn bytes(seed: usize, length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 + seed + at / 251) as u8).collect()
    }

    /// Through pipes of one byte to more than a piece: every byte, in order, and each end is passed on by itself.
    #[tokio::test]
    async fn every_byte_arrives_in_order_whatever_the_pipes_take() {
        for pipe in [1, 7, 4096, PIECE - 1, PIECE, 3 * PIECE] {
            let kept = Arc::new(Kept::default());
            let ((mut peer, mut near), (mut far, mut server)) = (duplex(pipe), duplex(pipe));
            let carrying = async { carry(&mut near, &mut far, b"early".to_vec(), &kept).await };
            let length = (pipe * 5).min(5 * PIECE);
            let talk = async {
                let (mut reads, mut writes) = tokio::io::split(&mut peer);
                let sending = async {
                    writes.write_all(&bytes(1, length)).await.unwrap();
                    writes.shutdown().await.unwrap();
                };
                let mut got = Vec::new();
                tokio::join!(sending, async { reads.read_to_end(&mut got).await.unwrap() });
                got
            };
            let serve = async {
                let mut asked = Vec::new();
                server.read_to_end(&mut asked).await.unwrap();
                // Only after the other direction has ended.
                server.write_all(&bytes(2, length)).await.unwrap();
                server.shutdown().await.unwrap();
                asked
            };
            let (carried, got, asked) = tokio::join!(carrying, talk, serve);
            carried.unwrap();
            assert_eq!(asked, bytes(1, length), "pipes of {pipe}");
            assert_eq!(
                got,
                [b"early".to_vec(), bytes(2, length)].concat(),
                "pipes of {pipe}"
            );
            assert_eq!(kept.bytes(), 0);
        }
    }

    /// What waits for a reader is kept once and counted; much of it makes what is read small, and it goes with its connection.
    #[tokio::test]
    async fn what_is_kept_is_bounded_and_counted() {
        for (before, most) in [(0, PIECE), (MUCH, SMALL_PIECE)] {
            let kept = Arc::new(Kept(AtomicUsize::new(before)));
            let ((_peer, mut near), (mut far, mut server)) = (duplex(16), duplex(4 * PIECE));
            server.write_all(&bytes(0, 4 * PIECE)).await.unwrap();
            let mut carrying = Box::pin(carry(&mut near, &mut far, Vec::new(), &kept));
            assert!(futures_poll(&mut carrying).await.is_pending());
            assert_eq!(kept.bytes() - before, most - 16);
            drop(carrying);
            assert_eq!(kept.bytes(), before);
        }
    }

    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
    }

    #[tokio::test]
    async fn a_side_that_breaks_ends_it() {
        let kept = Arc::new(Kept::default());
        let ((mut peer, mut near), (mut far, server)) = (duplex(64), duplex(64));
        drop(server);
        peer.write_all(b"x").await.unwrap();
        assert!(carry(&mut near, &mut far, Vec::new(), &kept).await.is_err());
    }
}
