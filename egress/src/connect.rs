//! Connects cell-api, which has no network, to containers of services: bytes both ways, bounded in number, time and size. What they
//! say is not read here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cell_proto::egress::v1::{ConnectServiceRequest, ConnectServiceResponse};
use cell_proto::fault::{Fault, Violation};
use ipnet::Ipv4Net;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::service::DOMAIN;

/// Most connections at a time.
const AT_ONCE: usize = 16;
/// How long the container may take to take one.
const CONNECT: Duration = Duration::from_secs(3);
/// How long one may be.
const WHOLE: Duration = Duration::from_secs(30);
/// How long the first message may take.
const FIRST: Duration = Duration::from_secs(3);
/// Most bytes each way.
const BYTES_MAX: usize = 1024 * 1024;
/// What is read at a time.
const PIECE: usize = 16 * 1024;

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
        let busy = || {
            refusal(
                Code::ResourceExhausted,
                "BUSY",
                "too many connections to services",
            )
        };
        let turn = Arc::clone(&self.turns).try_acquire_owned().map_err(|_| busy())?;
        let first = tokio::time::timeout(FIRST, requests.message())
            .await
            .map_err(|_| invalid("to", "is needed at once"))??;
        let at = self.judge(first.ok_or_else(|| invalid("to", "is needed"))?)?;
        let no_answer = || {
            refusal(
                Code::Unavailable,
                "NO_ANSWER",
                "nobody takes the connection there",
            )
        };
        let stream = tokio::time::timeout(CONNECT, TcpStream::connect(at))
            .await
            .map_err(|_| no_answer())?
            .map_err(|_| no_answer())?;
        let (answers, answer) = mpsc::channel(4);
        tokio::spawn(async move {
            let (from, to) = stream.into_split();
            let carrying = async {
                // It is there.
                let _ = answers.send(Ok(ConnectServiceResponse::default())).await;
                tokio::select! {
                    () = answered(from, &answers) => {}
                    () = asked(requests, to) => {}
                }
            };
            let _ = tokio::time::timeout(WHOLE, carrying).await;
            drop(turn);
        });
        Ok(ReceiverStream::new(answer))
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

/// Until the container ends it, or has said too much.
async fn answered(mut from: OwnedReadHalf, answers: &mpsc::Sender<Result<ConnectServiceResponse, Status>>) {
    let (mut piece, mut carried) = (vec![0; PIECE], 0);
    while carried <= BYTES_MAX {
        let Ok(count @ 1..) = from.read(&mut piece).await else {
            return;
        };
        carried += count;
        let data = piece[..count].to_vec();
        if answers.send(Ok(ConnectServiceResponse { data })).await.is_err() {
            return;
        }
    }
}

/// Until cell-api goes away, or has said too much. That it has said all does not end it.
async fn asked(mut requests: Streaming<ConnectServiceRequest>, mut to: OwnedWriteHalf) {
    let mut carried = 0;
    while let Ok(Some(ConnectServiceRequest { to: again, data })) = requests.message().await {
        carried += data.len();
        if again.is_some() || carried > BYTES_MAX || to.write_all(&data).await.is_err() {
            return;
        }
    }
    if to.shutdown().await.is_ok() {
        std::future::pending::<()>().await;
    }
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
