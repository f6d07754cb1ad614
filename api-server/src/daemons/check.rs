//! Asks netd beforehand, so that nothing is promised which it will refuse. Only a clear no counts: netd may be away, and
//! what is accepted then is sent to it later.

use std::time::Duration;

use cell_api_core::derive::{NetworkSpec, PeerSpec};
use cell_proto::fault::{self, Violation};
use cell_proto::ipc::serve::MAX_MESSAGE_BYTES;
use cell_proto::netd::v1::network_service_client::NetworkServiceClient;
use cell_proto::netd::v1::{ApplyNetworkDeltaRequest, ApplyNetworkRequest};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::netd;

/// How long a change waits for netd's opinion. It is a service to the caller, and not what keeps the network safe.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long somebody who asks for netd's own plan waits for it.
const PLAN_PATIENCE: Duration = Duration::from_secs(3);

/// What netd would do, or why it would not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It would do this, in its own words; nothing: it changes nothing.
    Takes(Vec<String>),
    /// It would refuse, with these sentences.
    Refuses(Vec<String>),
}

/// Asks netd what it would say.
#[derive(Debug, Clone)]
pub struct NetworkCheck(NetworkServiceClient<Channel>);

impl NetworkCheck {
    /// Over a channel to netd.
    pub fn new(channel: Channel) -> Self {
        NetworkCheck(NetworkServiceClient::new(channel).max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// Whether netd takes a whole specification.
    ///
    /// # Errors
    /// What it finds wrong.
    pub async fn whole(&self, spec: NetworkSpec) -> Result<(), Vec<Violation>> {
        let request = ApplyNetworkRequest {
            spec: Some(netd::network_spec(spec)),
            etag: String::new(),
            validate_only: true,
            confirm_within_seconds: 0,
        };
        judge(self.0.clone().apply_network(request)).await
    }

    /// Whether netd would take a whole specification; what it would do is not told. `None`: it does not answer.
    pub async fn takes(&self, spec: NetworkSpec) -> Option<Verdict> {
        let request = ApplyNetworkRequest {
            spec: Some(netd::network_spec(spec)),
            etag: String::new(),
            validate_only: true,
            confirm_within_seconds: 0,
        };
        let mut netd = self.0.clone();
        match tokio::time::timeout(PLAN_PATIENCE, netd.apply_network(request)).await {
            Ok(Ok(_)) => Some(Verdict::Takes(Vec::new())),
            Ok(Err(status)) if is_no(&status) => Some(refuses(&status)),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Whether netd takes a peer beside those that it has by `base_etag`.
    ///
    /// # Errors
    /// What it finds wrong.
    pub async fn peer(&self, base_etag: String, spec: PeerSpec) -> Result<(), Vec<Violation>> {
        let request = ApplyNetworkDeltaRequest {
            base_etag,
            upserted_peers: vec![netd::peer_spec(spec)],
            removed_peers: Vec::new(),
            validate_only: true,
            confirm_within_seconds: 0,
        };
        judge(self.0.clone().apply_network_delta(request)).await
    }

    /// What netd would do with one peer: `spec` takes its place, or the one of the name `removed` goes. `None`: netd does not
    /// answer, or has another state than `base_etag` by now.
    pub async fn plan(
        &self,
        base_etag: String,
        spec: Option<PeerSpec>,
        removed: Option<String>,
    ) -> Option<Verdict> {
        let request = ApplyNetworkDeltaRequest {
            base_etag,
            upserted_peers: spec.map(netd::peer_spec).into_iter().collect(),
            removed_peers: removed.into_iter().collect(),
            validate_only: true,
            confirm_within_seconds: 0,
        };
        let mut netd = self.0.clone();
        match tokio::time::timeout(PLAN_PATIENCE, netd.apply_network_delta(request)).await {
            Ok(Ok(answer)) => {
                let changes = answer.into_inner().changes.into_iter();
                let words = changes.map(|change| format!("{}: {}", change.subject, change.detail));
                Some(Verdict::Takes(words.collect()))
            }
            Ok(Err(status)) if is_no(&status) => Some(refuses(&status)),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

fn refuses(status: &Status) -> Verdict {
    let said = fault::violations(status).into_iter();
    Verdict::Refuses(said.map(|violation| violation.description).collect())
}

async fn judge<T>(call: impl Future<Output = Result<T, Status>>) -> Result<(), Vec<Violation>> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Err(status)) if is_no(&status) => {
            tracing::info!(reason = fault::reason(&status), "netd refuses beforehand");
            Err(fault::violations(&status))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn is_no(status: &Status) -> bool {
    matches!(status.code(), Code::InvalidArgument | Code::PermissionDenied)
        && !fault::violations(status).is_empty()
}
