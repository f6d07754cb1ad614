//! Connects cell-api, which has no network, to containers of services: bytes both ways, bounded in number, time and size. What they
//! say is not read here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cell_proto::egress::v1::{ConnectServiceRequest, ConnectServiceResponse};
use ipnet::Ipv4Net;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::tunnel::{self, Bounds, invalid, no_answer, refusal};

/// Most connections at a time.
const AT_ONCE: usize = 16;
/// How long the container may take to take one.
const CONNECT: Duration = Duration::from_secs(3);
/// How long one may be.
const WHOLE: Duration = Duration::from_secs(30);
/// Most bytes each way.
const BYTES_MAX: usize = 1024 * 1024;

/// Where it may connect to.
#[derive(Debug)]
pub struct Connector {
    networks: Vec<Ipv4Net>,
    /// The cell's CoreDNS, which is asked whether it has a name.
    authorities: Vec<SocketAddr>,
    turns: Arc<Semaphore>,
}

/// Bytes of a container.
pub type Answer = ReceiverStream<Result<ConnectServiceResponse, Status>>;

impl Connector {
    /// To containers in these networks, to none without one; and to these servers of names.
    pub fn new(networks: Vec<Ipv4Net>, authorities: Vec<SocketAddr>) -> Self {
        Connector {
            networks,
            authorities,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Connects, and carries.
    ///
    /// # Errors
    /// As the proto has them.
    pub async fn connect(&self, mut requests: Streaming<ConnectServiceRequest>) -> Result<Answer, Status> {
        let turn = tunnel::turn(&self.turns, "services")?;
        let at = self.judge(tunnel::first(&mut requests).await?)?;
        let stream = tokio::time::timeout(CONNECT, TcpStream::connect(at))
            .await
            .map_err(|_| no_answer())?
            .map_err(|_| no_answer())?;
        let bounds = Bounds {
            time: WHOLE,
            asked: BYTES_MAX,
            answered: BYTES_MAX,
        };
        Ok(tunnel::carry(stream, Vec::new(), requests, bounds, turn))
    }

    fn judge(&self, first: ConnectServiceRequest) -> Result<SocketAddr, Status> {
        let to = first.to.ok_or_else(|| invalid("to", "is needed"))?;
        let at = SocketAddr::try_from(&to).map_err(|_| invalid("to", "is no address and port"))?;
        let IpAddr::V4(address) = at.ip() else {
            return Err(invalid("to", "is an IPv4 address"));
        };
        if at.port() == 0 {
            return Err(invalid("to", "has a port"));
        }
        if self.authorities.contains(&at) {
            return Ok(at);
        }
        // Of each sixteen addresses the first is the network's, the second the machine's own and the last everybody's.
        let is_container = (2..=14).contains(&(address.octets()[3] % 16));
        if !is_container || !self.networks.iter().any(|network| network.contains(&address)) {
            let words = "it is no container's address in the networks that `services` of egress.toml lists";
            return Err(refusal(Code::PermissionDenied, "NOT_A_SERVICE", words));
        }
        Ok(at)
    }
}
