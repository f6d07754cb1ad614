//! Brings netd to the cell's desired state: everything after a start, a difference after a change, everything again
//! when in doubt.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cell_api_core::derive::{self, PeerSpec};
use cell_api_core::key::PublicKey;
use cell_proto::fault;
use cell_proto::netd::v1::network_service_client::NetworkServiceClient;
use cell_proto::netd::v1::network_status_service_client::NetworkStatusServiceClient;
use cell_proto::netd::v1::{
    ApplyNetworkDeltaRequest, ApplyNetworkRequest, NetworkStatus, WatchNetworkRequest, WatchNetworkResponse,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::app::App;
use crate::daemons::netd;
use crate::events::Topic;
use crate::service::ServiceError;
use crate::store::peers as table;
use crate::store::transaction;

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);
/// netd sends its status at least every 10 seconds.
const WATCH_SILENCE: Duration = Duration::from_secs(30);
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// Runs until `shutdown`.
pub async fn run(app: Arc<App>, channel: Channel, shutdown: CancellationToken) {
    let mut reconciler = Reconciler {
        app,
        apply: NetworkServiceClient::new(channel.clone()).max_encoding_message_size(MAX_MESSAGE_BYTES),
        watch: NetworkStatusServiceClient::new(channel),
        accepted: None,
    };
    let mut backoff = FIRST_BACKOFF;
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => return,
            ended = reconciler.session(&mut backoff) => if let Err(lost) = ended {
                tracing::warn!(code = ?lost.code(), reason = fault::reason(&lost), message = lost.message(), "netd is lost");
            }
        }
        reconciler.lost();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(LONGEST_BACKOFF),
        }
    }
}

struct Reconciler {
    app: Arc<App>,
    apply: NetworkServiceClient<Channel>,
    watch: NetworkStatusServiceClient<Channel>,
    accepted: Option<Accepted>,
}

/// What netd accepted from us last.
struct Accepted {
    etag: String,
    netd_generation: u64,
}

impl Reconciler {
    /// One connection to netd: everything first, then what changes, until it is lost.
    async fn session(&mut self, backoff: &mut Duration) -> Result<(), Status> {
        let mut statuses = self
            .watch
            .watch_network(WatchNetworkRequest {})
            .await?
            .into_inner();
        self.apply_all().await?;
        *backoff = FIRST_BACKOFF;
        let app = Arc::clone(&self.app);
        loop {
            tokio::select! {
                () = app.network.woken() => self.apply_pending().await?,
                status = next(&mut statuses) => {
                    let status = status?;
                    let foreign = self.is_foreign(&status);
                    self.seen(status);
                    if foreign {
                        tracing::info!("somebody else changed netd's state; applying everything");
                        self.apply_all().await?;
                    }
                }
            }
        }
    }

    async fn apply_pending(&mut self) -> Result<(), Status> {
        let pending = self.app.network.take();
        if pending.generation == 0 {
            return Ok(());
        }
        let base = self
            .accepted
            .as_ref()
            .filter(|_| !pending.all)
            .map(|accepted| accepted.etag.clone());
        let Some(base) = base else {
            return self.apply_all().await;
        };
        match self.apply_delta(base, pending.peers).await {
            Ok(()) => {
                self.confirmed(pending.generation);
                Ok(())
            }
            // Another etag, or a peer that netd does not have as we think: only the whole is the truth.
            Err(status) if is_refusal(&status) => {
                tracing::info!(
                    reason = fault::reason(&status),
                    "a difference was refused; applying everything"
                );
                self.apply_all().await
            }
            Err(status) => Err(status),
        }
    }

    async fn apply_delta(
        &mut self,
        base: String,
        peers: BTreeMap<String, Option<PeerSpec>>,
    ) -> Result<(), Status> {
        let (mut upserted_peers, mut removed_peers) = (Vec::new(), Vec::new());
        for (name, spec) in peers {
            match spec {
                Some(spec) => upserted_peers.push(netd::peer_spec(spec)),
                None => removed_peers.push(name),
            }
        }
        let request = ApplyNetworkDeltaRequest {
            base_etag: base,
            upserted_peers,
            removed_peers,
            validate_only: false,
        };
        let applied = self.apply.apply_network_delta(request).await?.into_inner();
        self.accepted = Some(Accepted {
            etag: applied.etag,
            netd_generation: applied.generation,
        });
        Ok(())
    }

    async fn apply_all(&mut self) -> Result<(), Status> {
        // What is waiting is in the database already, and so in what is read now.
        drop(self.app.network.take());
        let (generation, spec) = desired(&self.app)
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        let request = ApplyNetworkRequest {
            spec: Some(netd::network_spec(spec)),
            etag: String::new(),
            validate_only: false,
        };
        let applied = self.apply.apply_network(request).await?.into_inner();
        tracing::info!(
            generation,
            changes = applied.change_count,
            "netd has the whole network"
        );
        self.accepted = Some(Accepted {
            etag: applied.etag,
            netd_generation: applied.generation,
        });
        self.confirmed(generation);
        Ok(())
    }

    fn confirmed(&self, generation: u64) {
        self.app.network.confirm(generation);
        self.app.events.publish([Topic::Status]);
    }

    /// A status that overtook our own answer is no foreign change: only a later one with another etag is.
    fn is_foreign(&self, status: &NetworkStatus) -> bool {
        self.accepted.as_ref().is_some_and(|own| {
            status.etag != own.etag && (status.generation > own.netd_generation || status.generation == 0)
        })
    }

    fn seen(&self, status: NetworkStatus) {
        if let Ok(key) = PublicKey::from_bytes(&status.wireguard_public_key) {
            self.app.wireguard_key.set(key);
        }
        self.app.network.see(Some(status));
        self.app.events.publish([Topic::Status, Topic::Peers]);
    }

    fn lost(&mut self) {
        self.accepted = None;
        if self.app.network.status().is_some() {
            self.app.network.see(None);
            self.app.events.publish([Topic::Status, Topic::Peers]);
        }
    }
}

/// The whole of what netd is to own, and the generation that it is.
async fn desired(app: &Arc<App>) -> Result<(u64, derive::NetworkSpec), ServiceError> {
    let settings = app.config.network.clone();
    app.store
        .read_much(move |connection| {
            let generation = transaction::generation(connection)?;
            let cell = crate::store::setup::cell(connection)?;
            let peers = match &cell {
                Some(cell) => table::list(connection, &cell.range)?,
                None => Vec::new(),
            };
            let peers = peers.iter().map(|stored| &stored.peer);
            Ok((
                generation,
                derive::network_spec(&settings, cell.as_ref().map(|cell| &cell.range), peers),
            ))
        })
        .await
}

async fn next(statuses: &mut Streaming<WatchNetworkResponse>) -> Result<NetworkStatus, Status> {
    let silent = || Status::deadline_exceeded("netd has been silent");
    let message = tokio::time::timeout(WATCH_SILENCE, statuses.message())
        .await
        .map_err(|_| silent())??;
    message
        .and_then(|message| message.status)
        .ok_or_else(|| Status::unavailable("netd ended the stream"))
}

/// netd answered and said no, as opposed to netd being away.
fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        tonic::Code::Aborted
            | tonic::Code::InvalidArgument
            | tonic::Code::FailedPrecondition
            | tonic::Code::NotFound
    )
}
