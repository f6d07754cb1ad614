//! Asks netd what becomes of a packet.

use cell_api_core::access::Protocol;
use cell_api_core::fault::Faults;
use cell_api_core::flow::{FlowQuestion, Payload};
use cell_proto::netd::v1::explain_flow_request::Payload as Carried;
use cell_proto::netd::v1::network_status_service_client::NetworkStatusServiceClient;
use cell_proto::netd::v1::{ExplainFlowRequest, ExplainFlowResponse};
use tonic::Code;
use tonic::transport::Channel;

use super::{READ_DEADLINE, read};
use crate::service::ServiceError;

/// Who sends a packet.
#[derive(Debug, Clone, Copy)]
pub enum Sender<'a> {
    /// The peer of this name.
    Peer(&'a str),
    /// A container of the service of this name.
    Service(&'a str),
}

/// Asks netd.
#[derive(Debug, Clone)]
pub struct Explainer(NetworkStatusServiceClient<Channel>);

impl Explainer {
    /// Over a channel to netd.
    pub fn new(channel: Channel) -> Self {
        Explainer(NetworkStatusServiceClient::new(channel))
    }

    /// What becomes of the first packet that `sender` sends.
    ///
    /// # Errors
    /// [`ServiceError::Invalid`] when netd cannot answer for this peer or destination; [`ServiceError::Unreachable`].
    pub async fn ask(
        &self,
        sender: Sender<'_>,
        flow: FlowQuestion,
    ) -> Result<ExplainFlowResponse, ServiceError> {
        let (peer, service) = match sender {
            Sender::Peer(name) => (name, ""),
            Sender::Service(name) => ("", name),
        };
        let payload = match flow.payload {
            Payload::Port(Protocol::Tcp, port) => Carried::TcpPort(port.into()),
            Payload::Port(Protocol::Udp, port) => Carried::UdpPort(port.into()),
            Payload::Ping => Carried::EchoRequest(true),
        };
        let request = read(ExplainFlowRequest {
            peer: peer.to_owned(),
            destination: Some(flow.destination.into()),
            payload: Some(payload),
            service: service.to_owned(),
        });
        let mut netd = self.0.clone();
        match tokio::time::timeout(READ_DEADLINE, netd.explain_flow(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) if status.code() == Code::NotFound => {
                Err(Faults::one("name", "netd does not have this (yet): see the status").into())
            }
            Ok(Err(status)) if status.code() == Code::FailedPrecondition => {
                Err(Faults::one("destination", status.message()).into())
            }
            Ok(Err(_)) | Err(_) => Err(ServiceError::Unreachable("netd")),
        }
    }
}
