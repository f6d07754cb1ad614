//! Connects cell-api, which has no network, to catalogs of services on the internet: by the cell's own way, or through an exit and by
//! no other way. Bytes both ways, bounded in number, time and size. What they say is TLS, and is not read here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cell_egress_core::destination::Destination;
use cell_egress_core::exit::{ExitId, Server};
use cell_egress_core::policy::Reach;
use cell_proto::egress::v1::{ConnectCatalogRequest, ConnectCatalogResponse};
use cell_proto::fault::{Fault, Violation};
use ipnet::Ipv4Net;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::dns::relay::Relay;
use crate::dns::upstream::Path;
use crate::engine::Engine;
use crate::service::DOMAIN;

/// Most connections at a time.
const AT_ONCE: usize = 4;
/// How long a server may take to take one by the cell's own way.
const CONNECT: Duration = Duration::from_secs(10);
/// And through an exit: Tor takes its time.
const CONNECT_BY_EXIT: Duration = Duration::from_secs(60);
/// How long one may be.
const WHOLE: Duration = Duration::from_secs(120);
/// How long the first message may take.
const FIRST: Duration = Duration::from_secs(3);
/// Most bytes of a catalog.
const ANSWERED_MAX: usize = 24 * 1024 * 1024;
/// Most bytes to it.
const ASKED_MAX: usize = 1024 * 1024;
/// What is read at a time.
const PIECE: usize = 16 * 1024;

/// What the ceiling says of catalogs.
#[derive(Debug, Clone)]
pub struct CatalogCeiling {
    /// Their ports; without one there are no catalogs.
    pub ports: Vec<u16>,
    /// Where servers may be.
    pub reach: Reach,
    /// Networks of services, in which no catalog is.
    pub services: Vec<Ipv4Net>,
    /// The relay's own addresses, at which none is.
    pub listen: Vec<IpAddr>,
}

/// Connects to catalogs.
pub struct CatalogConnector {
    ceiling: CatalogCeiling,
    engine: Arc<Engine>,
    /// What it knows of exits; none: there is no exit for it.
    relay: Option<Arc<Relay>>,
    turns: Arc<Semaphore>,
}

/// Bytes of a catalog.
pub type Answer = ReceiverStream<Result<ConnectCatalogResponse, Status>>;

impl CatalogConnector {
    /// Within this ceiling.
    pub fn new(ceiling: CatalogCeiling, engine: Arc<Engine>, relay: Option<Arc<Relay>>) -> Self {
        CatalogConnector {
            ceiling,
            engine,
            relay,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Connects, and carries.
    ///
    /// # Errors
    /// As the proto has them.
    pub async fn connect(&self, mut requests: Streaming<ConnectCatalogRequest>) -> Result<Answer, Status> {
        let busy = || {
            refusal(
                Code::ResourceExhausted,
                "BUSY",
                "too many connections to catalogs",
            )
        };
        let turn = Arc::clone(&self.turns).try_acquire_owned().map_err(|_| busy())?;
        let first = tokio::time::timeout(FIRST, requests.message())
            .await
            .map_err(|_| invalid("to", "is needed at once"))??;
        let first = first.ok_or_else(|| invalid("to", "is needed"))?;
        let (at, by) = (self.judge(&first)?, by(&first)?);
        let (answers, answer) = mpsc::channel(4);
        match self.open(at, by).await? {
            Opened::Direct(stream) => carry(stream, Vec::new(), requests, answers, turn),
            Opened::ByExit(opened) => carry(opened.stream, opened.early, requests, answers, turn),
        }
        Ok(ReceiverStream::new(answer))
    }

    async fn open(&self, at: SocketAddr, by: Option<ExitId>) -> Result<Opened, Status> {
        let no_answer = || {
            refusal(
                Code::Unavailable,
                "NO_ANSWER",
                "nobody takes the connection there",
            )
        };
        let path = match by {
            None => Path::Default,
            Some(id) => {
                let path = self.relay.as_ref().and_then(|relay| relay.path(&id));
                path.ok_or_else(no_exit)?
            }
        };
        let interface = match &path {
            Path::Default => None,
            Path::Interface(interface) => Some(interface.as_str()),
            Path::Redirect(id) => {
                let to = Destination::of_cell(at).ok_or_else(|| not_a_catalog(at))?;
                // It is nobody's connection but the cell's.
                let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                let opening = tokio::time::timeout(CONNECT_BY_EXIT, self.engine.open(id, nobody, to));
                let opened = opening.await.map_err(|_| no_answer())?.ok_or_else(no_exit)?;
                let why = |failure| format!("the exit does not carry the connection: {failure}");
                let opened =
                    opened.map_err(|failure| refusal(Code::Unavailable, "NO_ANSWER", &why(failure)))?;
                return Ok(Opened::ByExit(Box::new(opened)));
            }
        };
        let stream = tokio::time::timeout(CONNECT, dial(at, interface)).await;
        let stream = stream.map_err(|_| no_answer())?.map_err(|_| no_answer())?;
        Ok(Opened::Direct(stream))
    }

    fn judge(&self, first: &ConnectCatalogRequest) -> Result<SocketAddr, Status> {
        let to = first.to.as_ref().ok_or_else(|| invalid("to", "is needed"))?;
        let at = SocketAddr::try_from(to).map_err(|_| invalid("to", "is no address and port"))?;
        let at = SocketAddr::new(at.ip().to_canonical(), at.port());
        let is_of_services = match at.ip() {
            IpAddr::V4(ip) => self.ceiling.services.iter().any(|network| network.contains(&ip)),
            IpAddr::V6(_) => false,
        };
        let within = Destination::of_cell(at).is_some()
            && Server::try_new(at).is_some_and(|server| self.ceiling.reach.permits(server).is_ok());
        let is_own = self.ceiling.listen.contains(&at.ip());
        if within && !is_own && !is_of_services && self.ceiling.ports.contains(&at.port()) {
            Ok(at)
        } else {
            Err(not_a_catalog(at))
        }
    }
}

enum Opened {
    Direct(TcpStream),
    ByExit(Box<crate::dial::Opened>),
}

/// By which exit.
fn by(first: &ConnectCatalogRequest) -> Result<Option<ExitId>, Status> {
    match first.exit_id.as_str() {
        "" => Ok(None),
        id => ExitId::parse(id)
            .map(Some)
            .map_err(|why| invalid("exit_id", &why.to_string())),
    }
}

async fn dial(at: SocketAddr, interface: Option<&str>) -> std::io::Result<TcpStream> {
    let socket = match at {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.connect(at).await
}

/// Until either ends it, or its time or what it may say is over.
fn carry(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    early: Vec<u8>,
    requests: Streaming<ConnectCatalogRequest>,
    answers: mpsc::Sender<Result<ConnectCatalogResponse, Status>>,
    turn: tokio::sync::OwnedSemaphorePermit,
) {
    tokio::spawn(async move {
        let (from, to) = tokio::io::split(stream);
        let carrying = async {
            // It is there.
            let _ = answers.send(Ok(ConnectCatalogResponse::default())).await;
            tokio::select! {
                () = answered(early, from, &answers) => {}
                () = asked(requests, to) => {}
            }
        };
        let _ = tokio::time::timeout(WHOLE, carrying).await;
        drop(turn);
    });
}

/// Until the catalog ends it, or has said too much.
async fn answered(
    early: Vec<u8>,
    from: impl AsyncRead + Unpin,
    answers: &mpsc::Sender<Result<ConnectCatalogResponse, Status>>,
) {
    let mut from = early.as_slice().chain(from);
    let (mut piece, mut carried) = (vec![0; PIECE], 0);
    while carried <= ANSWERED_MAX {
        let Ok(count @ 1..) = from.read(&mut piece).await else {
            return;
        };
        carried += count;
        let data = piece[..count].to_vec();
        if answers.send(Ok(ConnectCatalogResponse { data })).await.is_err() {
            return;
        }
    }
}

/// Until cell-api goes away, or has said too much. That it has said all does not end it.
async fn asked(mut requests: Streaming<ConnectCatalogRequest>, mut to: impl AsyncWrite + Unpin) {
    let mut carried = 0;
    while let Ok(Some(ConnectCatalogRequest {
        to: again,
        exit_id,
        data,
    })) = requests.message().await
    {
        carried += data.len();
        let is_new = again.is_some() || !exit_id.is_empty();
        if is_new || carried > ASKED_MAX || to.write_all(&data).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    if to.shutdown().await.is_ok() {
        std::future::pending::<()>().await;
    }
}

fn not_a_catalog(at: SocketAddr) -> Status {
    let words = format!(
        "no catalog may be at {at}: its port is to be one of `catalog_ports` of egress.toml, its address within `servers`, and \
         neither on this machine nor in a network of services"
    );
    refusal(Code::PermissionDenied, "NOT_A_CATALOG", &words)
}

fn no_exit() -> Status {
    let words = "there is no such exit, or it does not run";
    refusal(Code::FailedPrecondition, "NO_EXIT", words)
}

fn refusal(code: Code, reason: &'static str, words: &str) -> Status {
    Fault::new(code, DOMAIN, reason, words).into()
}

fn invalid(field: &str, words: &str) -> Status {
    Fault::new(
        Code::InvalidArgument,
        DOMAIN,
        "INVALID_REQUEST",
        "the request has 1 fault(s)",
    )
    .violations(vec![Violation::new(field, words)])
    .into()
}
