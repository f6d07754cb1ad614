//! Brings netd to the cell's desired state: everything after a start, a difference after a change, everything again
//! when in doubt.

mod apply;
mod entries;
mod exits;
mod refused;
pub mod services;
mod waiting;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use cell_api_core::key::PublicKey;
use cell_proto::fault;
use cell_proto::ipc::serve::MAX_MESSAGE_BYTES;
use cell_proto::netd::v1::network_service_client::NetworkServiceClient;
use cell_proto::netd::v1::network_status_service_client::NetworkStatusServiceClient;
use cell_proto::netd::v1::{NetworkStatus, WatchNetworkRequest, WatchNetworkResponse};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::app::App;
use crate::events::Topic;
pub(crate) use apply::granted;
use refused::Refused;

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);
/// netd sends its status at least every 10 seconds.
const WATCH_SILENCE: Duration = Duration::from_secs(30);

/// How often browsers ask again for handshakes and traffic, at most.
const ACTIVITY_INTERVAL: Duration = Duration::from_secs(4);

/// Runs until `shutdown`.
pub async fn run(app: Arc<App>, channel: Channel, shutdown: CancellationToken) {
    let mut reconciler = Reconciler {
        app,
        apply: NetworkServiceClient::new(channel.clone()).max_encoding_message_size(MAX_MESSAGE_BYTES),
        watch: NetworkStatusServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES),
        accepted: None,
        refused: Refused::new(),
        nowhere: Refused::new(),
        exits: exits::Told::default(),
        retry: None,
        retry_after: FIRST_BACKOFF,
        activity_told: None,
    };
    tokio::select! {
        () = shutdown.cancelled() => return,
        () = reconciler.app.exits.looked_at() => {}
    }
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
    /// Peers that netd does not take.
    refused: Refused,
    /// Peers that nothing carries: on the network, without the internet.
    nowhere: Refused,
    /// Exits, as netd was told of them last.
    exits: exits::Told,
    /// When everything is tried again, after netd refused it.
    retry: Option<Instant>,
    retry_after: Duration,
    /// When browsers were told last that handshakes and traffic may have moved.
    activity_told: Option<Instant>,
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
                () = tokio::time::sleep_until(self.retry.unwrap_or_else(Instant::now)), if self.retry.is_some() => {
                    self.retry = None;
                    self.apply_all().await?;
                }
                status = next(&mut statuses) => {
                    let status = status?;
                    let foreign = self.is_foreign(&status) || self.is_over(&status)?;
                    self.seen(status);
                    if foreign {
                        tracing::info!("somebody else changed netd's state; applying everything");
                        self.apply_all().await?;
                    }
                }
            }
        }
    }

    /// A status that overtook our own answer is no foreign change: only a later one with another etag is.
    fn is_foreign(&self, status: &NetworkStatus) -> bool {
        self.accepted.as_ref().is_some_and(|own| {
            status.etag != own.etag && (status.generation > own.netd_generation || status.generation == 0)
        })
    }

    /// netd tells its status at each look. Browsers hear of what differs, and that handshakes and traffic may have moved.
    fn seen(&mut self, status: NetworkStatus) {
        let mut topics = BTreeSet::new();
        if let Ok(key) = PublicKey::from_bytes(&status.wireguard_public_key)
            && self.app.wireguard_key.known() != Some(key)
        {
            self.app.wireguard_key.set(key);
            // The configurations of devices name it.
            topics.extend([Topic::Peers, Topic::Status]);
        }
        if self.app.network.see(Some(status)) {
            topics.insert(Topic::Status);
        }
        if self
            .activity_told
            .is_none_or(|at| at.elapsed() >= ACTIVITY_INTERVAL)
        {
            self.activity_told = Some(Instant::now());
            topics.insert(Topic::Activity);
        }
        self.app.events.publish(topics);
    }

    /// Tries everything again after a while, longer each time: a vault that was sealed is opened, a name is given up.
    fn retry_later(&mut self) {
        self.retry = Some(Instant::now() + self.retry_after);
        self.retry_after = (self.retry_after * 2).min(LONGEST_BACKOFF);
    }

    fn retry_never(&mut self) {
        (self.retry, self.retry_after) = (None, FIRST_BACKOFF);
    }

    fn lost(&mut self) {
        self.accepted = None;
        self.app.network.set_etag(None);
        self.retry_never();
        if self.app.network.status().is_some() {
            self.app.network.see(None);
            self.app.events.publish([Topic::Status, Topic::Activity]);
        }
    }
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
