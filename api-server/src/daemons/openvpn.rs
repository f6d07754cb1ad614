//! `cell-openvpn`: exits out, what their programs do and their servers gave in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cell_api_core::connection::driven::{Doing, Driven, Pushed};
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::derive::openvpn::{OpenvpnSpec, Remote};
use cell_proto::common::v1::Protocol;
use cell_proto::fault::{self, Violation};
use cell_proto::ipc::serve::MAX_MESSAGE_BYTES;
use cell_proto::openvpn::v1 as wire;
use cell_proto::openvpn::v1::openvpn_service_client::OpenvpnServiceClient;
use tonic::Status;
use tonic::transport::Channel;

use super::{READ_DEADLINE, read};

/// What it says of each exit.
pub type Seen = BTreeMap<ConnectionId, Driven>;

/// A client of `cell-openvpn`.
#[derive(Debug, Clone)]
pub struct OpenvpnClient(OpenvpnServiceClient<Channel>);

/// Why it did not do what it was asked.
#[derive(Debug)]
pub enum OpenvpnError {
    /// It is away, or does not answer in time.
    Away,
    /// It finds faults.
    Refuses(Vec<Violation>),
}

impl OpenvpnClient {
    /// A client over a channel.
    pub fn new(channel: Channel) -> Self {
        OpenvpnClient(OpenvpnServiceClient::new(channel))
    }

    /// Gives it the whole set of exits.
    ///
    /// # Errors
    /// [`OpenvpnError`]; nothing is changed when it refuses.
    pub async fn apply(&self, exits: &[OpenvpnSpec]) -> Result<Seen, OpenvpnError> {
        let request = read(wire::ApplyExitsRequest {
            exits: exits.iter().map(exit).collect(),
        });
        let mut client = self.0.clone().max_encoding_message_size(MAX_MESSAGE_BYTES);
        Ok(seen(within(client.apply_exits(request)).await?.exits))
    }

    /// What they do.
    ///
    /// # Errors
    /// [`OpenvpnError::Away`].
    pub async fn status(&self) -> Result<Seen, OpenvpnError> {
        let mut client = self.0.clone();
        let answer = within(client.get_status(read(wire::GetStatusRequest {}))).await?;
        Ok(seen(answer.exits))
    }
}

async fn within<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, OpenvpnError> {
    match tokio::time::timeout(READ_DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => {
            let violations = fault::violations(&status);
            tracing::debug!(code = ?status.code(), message = status.message(), "cell-openvpn did not do it");
            if violations.is_empty() {
                Err(OpenvpnError::Away)
            } else {
                Err(OpenvpnError::Refuses(violations))
            }
        }
        Err(_) => Err(OpenvpnError::Away),
    }
}

/// A protocol, as it is told.
pub(crate) fn protocol(remote: &Remote) -> i32 {
    let protocol = if remote.tcp { Protocol::Tcp } else { Protocol::Udp };
    protocol.into()
}

fn exit(spec: &OpenvpnSpec) -> wire::Exit {
    let OpenvpnSpec {
        id,
        interface,
        remotes,
        directives,
        certificates,
        sealed,
        has_login,
        revision,
        secret_revision,
    } = spec;
    let remote = |remote: &Remote| wire::Remote {
        server: Some(remote.server.into()),
        protocol: protocol(remote),
    };
    let certificate = |(block, pem): &(String, String)| wire::Certificate {
        block: block.clone(),
        pem: pem.clone(),
    };
    let words = |words: &Vec<String>| wire::Directive { words: words.clone() };
    wire::Exit {
        id: id.to_string(),
        interface: interface.clone(),
        remotes: remotes.iter().map(remote).collect(),
        directives: directives.iter().map(words).collect(),
        certificates: certificates.iter().map(certificate).collect(),
        sealed_blocks: sealed.clone(),
        has_login: *has_login,
        revision: *revision,
        secret_revision: *secret_revision,
    }
}

fn seen(exits: Vec<wire::ExitStatus>) -> Seen {
    let one = |exit: wire::ExitStatus| {
        let doing = match exit.state() {
            wire::State::Connected => Doing::Connected,
            wire::State::Connecting => Doing::Connecting,
            wire::State::Waiting | wire::State::Unspecified => Doing::Waiting,
        };
        let ips = |wire: &[cell_proto::common::v1::IpAddress]| {
            let ips = wire.iter().filter_map(|ip| IpAddr::try_from(ip).ok());
            ips.collect()
        };
        let mtu = u16::try_from(exit.mtu_bytes).ok();
        let driven = Driven {
            doing,
            since_unix_ms: exit.since_unix_ms,
            pushed: Pushed {
                addresses: ips(&exit.addresses),
                resolvers: ips(&exit.resolvers),
                mtu_bytes: mtu.filter(|bytes| *bytes > 0),
            },
            reason: exit.reason,
            detail: exit.detail,
        };
        ConnectionId::parse(&exit.id).ok().map(|id| (id, driven))
    };
    exits.into_iter().filter_map(one).collect()
}
