//! Connects cell-api, which has no network, to catalogs of services on the internet: by the cell's own way, or through an exit and by
//! no other way. Bytes both ways, bounded in number, time and size. What they say is TLS, and is not read here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cell_egress_core::destination::Destination;
use cell_egress_core::exit::{ExitId, Server};
use cell_egress_core::policy::Reach;
use cell_proto::egress::v1::{ConnectCatalogRequest, ConnectCatalogResponse};
use ipnet::Ipv4Net;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::dns::relay::Relay;
use crate::dns::socket::connect;
use crate::dns::upstream::Path;
use crate::engine::Engine;
use crate::tunnel::{self, Bounds, invalid, no_answer, refusal};

/// Most connections at a time.
const AT_ONCE: usize = 4;
/// How long a server may take to take one by the cell's own way.
const CONNECT: Duration = Duration::from_secs(10);
/// And through an exit: Tor takes its time.
const CONNECT_BY_EXIT: Duration = Duration::from_secs(60);
/// How long one may be.
const WHOLE: Duration = Duration::from_secs(120);
/// Most bytes of a catalog.
const ANSWERED_MAX: usize = 24 * 1024 * 1024;
/// Most bytes to it.
const ASKED_MAX: usize = 1024 * 1024;

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
        let turn = tunnel::turn(&self.turns, "catalogs")?;
        let first = tunnel::first(&mut requests).await?;
        let (at, by) = (self.judge(&first)?, by(&first)?);
        let bounds = Bounds {
            time: WHOLE,
            asked: ASKED_MAX,
            answered: ANSWERED_MAX,
        };
        Ok(match self.open(at, by).await? {
            Opened::Direct(stream) => tunnel::carry(stream, Vec::new(), requests, bounds, turn),
            Opened::ByExit(opened) => tunnel::carry(opened.stream, opened.early, requests, bounds, turn),
        })
    }

    async fn open(&self, at: SocketAddr, by: Option<ExitId>) -> Result<Opened, Status> {
        let path = match by {
            None => Path::Default,
            Some(id) => {
                let path = self.relay.as_ref().and_then(|relay| relay.path(&id));
                path.ok_or_else(no_exit)?
            }
        };
        let interface = match &path {
            Path::Default => None,
            Path::Interface(interface) => Some(interface),
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
        let stream = tokio::time::timeout(CONNECT, connect(at, interface.into())).await;
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
