//! What connections for cell-api have in common, wherever they go: turns, the first message, and bytes both ways, bounded in number and
//! time.

use std::sync::Arc;
use std::time::Duration;

use cell_proto::egress::v1::{
    ConnectCatalogRequest, ConnectCatalogResponse, ConnectServiceRequest, ConnectServiceResponse,
};
use cell_proto::fault::{Fault, Violation};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::service::DOMAIN;

/// How long the first message may take.
const FIRST: Duration = Duration::from_secs(3);
/// What is read at a time.
const PIECE: usize = 16 * 1024;

/// A message of cell-api's.
pub trait Asked: Send + 'static {
    /// Its bytes; none: it says where to once more, which the first does alone.
    fn more(self) -> Option<Vec<u8>>;
}

impl Asked for ConnectServiceRequest {
    fn more(self) -> Option<Vec<u8>> {
        self.to.is_none().then_some(self.data)
    }
}

impl Asked for ConnectCatalogRequest {
    fn more(self) -> Option<Vec<u8>> {
        (self.to.is_none() && self.exit_id.is_empty()).then_some(self.data)
    }
}

/// A message to cell-api. The default one says that the connection is there.
pub trait Answered: Default + Send + 'static {
    /// Of these bytes.
    fn of(data: Vec<u8>) -> Self;
}

impl Answered for ConnectServiceResponse {
    fn of(data: Vec<u8>) -> Self {
        ConnectServiceResponse { data }
    }
}

impl Answered for ConnectCatalogResponse {
    fn of(data: Vec<u8>) -> Self {
        ConnectCatalogResponse { data }
    }
}

/// What one connection may take.
pub struct Bounds {
    /// In all.
    pub time: Duration,
    /// Most bytes to the far end.
    pub asked: usize,
    /// Most bytes of it.
    pub answered: usize,
}

/// A turn, if one is left; `whither` names in plural what is connected to.
///
/// # Errors
/// `BUSY`.
pub fn turn(turns: &Arc<Semaphore>, whither: &str) -> Result<OwnedSemaphorePermit, Status> {
    let words = || format!("too many connections to {whither}");
    let turn = Arc::clone(turns).try_acquire_owned();
    turn.map_err(|_| refusal(Code::ResourceExhausted, "BUSY", &words()))
}

/// The first message.
///
/// # Errors
/// Where it does not come, or not in time.
pub async fn first<Q>(requests: &mut Streaming<Q>) -> Result<Q, Status> {
    let first = tokio::time::timeout(FIRST, requests.message())
        .await
        .map_err(|_| invalid("to", "is needed at once"))??;
    first.ok_or_else(|| invalid("to", "is needed"))
}

/// Carries until either ends it, or its time or what it may say is over. `early` is what came before the connection was ours.
pub fn carry<Q: Asked, A: Answered>(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    early: Vec<u8>,
    requests: Streaming<Q>,
    bounds: Bounds,
    turn: OwnedSemaphorePermit,
) -> ReceiverStream<Result<A, Status>> {
    let (answers, answer) = mpsc::channel(4);
    tokio::spawn(async move {
        let (from, to) = tokio::io::split(stream);
        let carrying = async {
            // It is there.
            let _ = answers.send(Ok(A::default())).await;
            tokio::select! {
                () = answered(early, from, &answers, bounds.answered) => {}
                () = asked(requests, to, bounds.asked) => {}
            }
        };
        let _ = tokio::time::timeout(bounds.time, carrying).await;
        drop(turn);
    });
    ReceiverStream::new(answer)
}

/// Until the far end ends it, or has said too much.
async fn answered<A: Answered>(
    early: Vec<u8>,
    from: impl AsyncRead + Unpin,
    answers: &mpsc::Sender<Result<A, Status>>,
    most: usize,
) {
    let mut from = early.as_slice().chain(from);
    let (mut piece, mut carried) = (vec![0; PIECE], 0);
    while carried <= most {
        let Ok(count @ 1..) = from.read(&mut piece).await else {
            return;
        };
        carried += count;
        if answers.send(Ok(A::of(piece[..count].to_vec()))).await.is_err() {
            return;
        }
    }
}

/// Until cell-api goes away, or has said too much. That it has said all does not end it.
async fn asked<Q: Asked>(mut requests: Streaming<Q>, mut to: impl AsyncWrite + Unpin, most: usize) {
    let mut carried = 0;
    while let Ok(Some(message)) = requests.message().await {
        let Some(data) = message.more() else {
            return;
        };
        carried += data.len();
        if carried > most || to.write_all(&data).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    if to.shutdown().await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// Nobody takes it.
pub fn no_answer() -> Status {
    refusal(
        Code::Unavailable,
        "NO_ANSWER",
        "nobody takes the connection there",
    )
}

/// A refusal of the relay's.
pub fn refusal(code: Code, reason: &'static str, words: &str) -> Status {
    Fault::new(code, DOMAIN, reason, words).into()
}

/// One field that is wrong.
pub fn invalid(field: &str, words: &str) -> Status {
    Fault::new(
        Code::InvalidArgument,
        DOMAIN,
        "INVALID_REQUEST",
        "the request has 1 fault(s)",
    )
    .violations(vec![Violation::new(field, words)])
    .into()
}
