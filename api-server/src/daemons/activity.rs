//! Live handshakes and traffic, asked of netd at most once a second.

use std::collections::BTreeMap;
use std::sync::Arc;

use cell_proto::netd::v1::ListPeerStatusesRequest;
use cell_proto::netd::v1::network_status_service_client::NetworkStatusServiceClient;
use tokio::sync::Mutex;
use tonic::transport::Channel;

use super::{answer, netd, read};
use crate::service::ServiceError;
use crate::service::peers::Activity;

/// What moves, by peer.
pub type All = Arc<BTreeMap<String, Activity>>;

/// How long an answer is good for, milliseconds. Many pages at once cost netd one question.
const FRESH_MS: i64 = 1_000;
/// Single answers that are kept; beyond it they are all forgotten.
const MAX_SINGLE: usize = 1_024;

/// A reader of activity.
#[derive(Debug)]
pub struct ActivityReader {
    netd: NetworkStatusServiceClient<Channel>,
    all: Mutex<Option<(i64, Option<All>)>>,
    single: Mutex<BTreeMap<String, (i64, Option<Activity>)>>,
}

const AWAY: ServiceError = ServiceError::Unreachable("netd");

impl ActivityReader {
    /// A reader over a channel to netd.
    pub fn new(channel: Channel) -> Self {
        let netd = NetworkStatusServiceClient::new(channel).max_decoding_message_size(64 * 1024 * 1024);
        ActivityReader {
            netd,
            all: Mutex::new(None),
            single: Mutex::new(BTreeMap::new()),
        }
    }

    /// All peers.
    ///
    /// # Errors
    /// [`ServiceError::Unreachable`].
    pub async fn all(&self, now: i64) -> Result<All, ServiceError> {
        let mut kept = self.all.lock().await;
        if let Some((at, all)) = &*kept
            && is_fresh(*at, now)
        {
            return all.clone().ok_or(AWAY);
        }
        let all = self.ask("", now).await.ok().map(Arc::new);
        *kept = Some((now, all.clone()));
        all.ok_or(AWAY)
    }

    /// One peer; one that netd does not know has no activity yet.
    ///
    /// # Errors
    /// [`ServiceError::Unreachable`].
    pub async fn one(&self, name: &str, now: i64) -> Result<Activity, ServiceError> {
        if let Some((at, activity)) = self.single.lock().await.get(name)
            && is_fresh(*at, now)
        {
            return activity.clone().ok_or(AWAY);
        }
        // Not locked while netd is asked: a netd that hangs must not make readers of other peers queue.
        let activity = self
            .ask(name, now)
            .await
            .ok()
            .map(|mut all| all.remove(name).unwrap_or_default());
        let mut kept = self.single.lock().await;
        if kept.len() >= MAX_SINGLE {
            kept.clear();
        }
        kept.insert(name.to_owned(), (now, activity.clone()));
        activity.ok_or(AWAY)
    }

    async fn ask(&self, name: &str, now: i64) -> Result<BTreeMap<String, Activity>, ServiceError> {
        let request = read(ListPeerStatusesRequest {
            name: name.to_owned(),
        });
        let statuses = answer("netd", self.netd.clone().list_peer_statuses(request)).await?;
        let of = |status| (netd::activity(status, now), status.name.clone());
        Ok(statuses
            .peers
            .iter()
            .map(of)
            .map(|(activity, name)| (name, activity))
            .collect())
    }
}

/// A clock that was set back makes an answer old, not fresh for ever.
fn is_fresh(at: i64, now: i64) -> bool {
    (0..FRESH_MS).contains(&(now - at))
}
