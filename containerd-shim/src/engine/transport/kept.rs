//! Connections to Docker that are kept for the next read. Opening one costs Docker a thread of its own and both sides their first
//! buffers, which for a short answer is a good part of the time.
//!
//! Reads alone go over them, so that one that Docker closed in the same moment is asked once more: nothing is done twice.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bollard::errors::Error;
use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use super::{MAX_ANSWER_BYTES, TooLong};

/// Connections that are kept at most.
const KEPT_MOST: usize = 4;
/// How long one may lie unused: a Docker that came anew at the same path is found after that, too.
const KEPT_LONGEST: Duration = Duration::from_secs(10);

/// The path to Docker, and what is open of it.
#[derive(Debug)]
pub(in crate::engine) struct Kept {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    left: Arc<AtomicUsize>,
    used: Instant,
}

impl Kept {
    /// To the Docker that listens on `path`. Opens nothing.
    pub(in crate::engine) fn new(path: PathBuf) -> Self {
        Kept {
            path,
            idle: Mutex::default(),
        }
    }

    /// Where Docker listens.
    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Asks for what `head` reads, which has no body, over a connection that is there or a new one.
    pub(super) async fn read(&self, head: &Parts) -> Result<Response<Incoming>, Error> {
        if let Some(mut connection) = self.take()
            && let Ok(answer) = connection.ask(head).await
        {
            self.keep(connection);
            return Ok(answer);
        }
        let mut connection = Connection::open(&self.path).await?;
        let answer = connection.ask(head).await?;
        self.keep(connection);
        Ok(answer)
    }

    /// One whose last answer was read to its end.
    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|one| !one.sender.is_closed() && one.used.elapsed() < KEPT_LONGEST);
        let at = idle.iter().position(|one| one.sender.is_ready())?;
        Some(idle.swap_remove(at))
    }

    /// Its answer may still be read: until then it is not ready, and is not taken.
    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT_MOST {
            idle.push(connection);
        }
    }
}

impl Connection {
    async fn open(path: &std::path::Path) -> Result<Self, Error> {
        let left = Arc::new(AtomicUsize::new(MAX_ANSWER_BYTES));
        let stream = Bounded {
            stream: UnixStream::connect(path).await?,
            left: Arc::clone(&left),
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends when the sender is dropped, and when Docker closes.
        tokio::spawn(connection);
        Ok(Connection {
            sender,
            left,
            used: Instant::now(),
        })
    }

    async fn ask(&mut self, head: &Parts) -> Result<Response<Incoming>, hyper::Error> {
        self.left.store(MAX_ANSWER_BYTES, Ordering::Release);
        self.used = Instant::now();
        let request = Request::from_parts(head.clone(), Full::default());
        self.sender.send_request(request).await
    }
}

/// A stream that fails once it has given so many bytes since it was last set.
pub(super) struct Bounded {
    pub(super) stream: UnixStream,
    pub(super) left: Arc<AtomicUsize>,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        match self.left.load(Ordering::Acquire).checked_sub(read) {
            Some(left) => self.left.store(left, Ordering::Release),
            None => return Poll::Ready(Err(io::Error::other(TooLong))),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    /// Answers each request of each connection with `bytes` bytes; ends a connection after `each` answers, with no word of it.
    async fn docker(path: std::path::PathBuf, each: usize, bytes: usize, opened: Arc<AtomicUsize>) {
        let listener = UnixListener::bind(path).unwrap();
        while let Ok((mut stream, _)) = listener.accept().await {
            opened.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                for _ in 0..each {
                    let mut read = Vec::new();
                    while !read.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => read.push(byte),
                            Err(_) => return,
                        }
                    }
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
                    let answer = [head.into_bytes(), vec![b' '; bytes]].concat();
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    }

    /// Reads so often, one after the other; the connections that it took.
    async fn read(times: usize, each: usize, bytes: usize) -> Result<usize, Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir().unwrap();
        let (path, opened) = (dir.path().join("docker.sock"), Arc::<AtomicUsize>::default());
        tokio::spawn(docker(path.clone(), each, bytes, Arc::clone(&opened)));
        while !path.exists() {
            tokio::task::yield_now().await;
        }
        let kept = Kept::new(path);
        let (head, ()) = Request::get("/version").body(()).unwrap().into_parts();
        for _ in 0..times {
            let answer = kept.read(&head).await?.into_body().collect().await?;
            assert_eq!(answer.to_bytes().len(), bytes);
            // The connection learns of the answer's end in a task of its own.
            let deadline = Instant::now() + Duration::from_secs(20);
            let settled = || {
                let idle = kept.idle.lock().unwrap();
                idle.iter()
                    .all(|one| one.sender.is_ready() || one.sender.is_closed())
            };
            while !settled() {
                assert!(Instant::now() < deadline, "the connection stays busy");
                tokio::task::yield_now().await;
            }
        }
        Ok(opened.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn reads_share_a_connection_and_one_that_docker_closed_costs_nothing() {
        assert_eq!(read(20, usize::MAX, 100).await.unwrap(), 1);
        assert_eq!(read(20, 4, 100).await.unwrap(), 5);
        assert_eq!(read(20, 1, 100).await.unwrap(), 20);
    }

    #[tokio::test]
    async fn the_bound_is_of_one_answer_and_not_of_the_connection() {
        assert_eq!(read(3, usize::MAX, MAX_ANSWER_BYTES / 2 + 1).await.unwrap(), 1);
        let too_long = read(1, usize::MAX, MAX_ANSWER_BYTES).await;
        assert!(too_long.is_err(), "the head is bytes as well");
    }

    #[tokio::test]
    async fn what_is_still_read_is_not_asked_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let (path, opened) = (dir.path().join("docker.sock"), Arc::<AtomicUsize>::default());
        tokio::spawn(docker(path.clone(), usize::MAX, 1 << 20, Arc::clone(&opened)));
        while !path.exists() {
            tokio::task::yield_now().await;
        }
        let kept = Kept::new(path);
        let (head, ()) = Request::get("/version").body(()).unwrap().into_parts();
        let mut unread = Vec::new();
        for _ in 0..KEPT_MOST + 2 {
            unread.push(kept.read(&head).await.unwrap());
        }
        assert_eq!(opened.load(Ordering::SeqCst), KEPT_MOST + 2);
        assert_eq!(kept.idle.lock().unwrap().len(), KEPT_MOST);
        for answer in unread {
            assert_eq!(
                answer.into_body().collect().await.unwrap().to_bytes().len(),
                1 << 20
            );
        }
    }
}
