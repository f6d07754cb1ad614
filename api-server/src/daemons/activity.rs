//! Live handshakes and traffic: one picture of all peers, asked of netd at most once a second and only while somebody
//! looks. Whoever looks gets the last picture at once; a new one is taken behind it, so that the cost of a look does not
//! grow with the number of peers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use cell_proto::netd::v1::network_status_service_client::NetworkStatusServiceClient;
use cell_proto::netd::v1::{ListPeerStatusesRequest, PeerStatus};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tonic::transport::Channel;

use super::{answer, netd, read};
use crate::service::ServiceError;
use crate::service::peers::Activity;

/// What moves, by peer's name.
pub type All = Arc<HashMap<String, Activity>>;

/// How long a picture is good for, milliseconds.
const FRESH_MS: i64 = 1_000;
/// A picture that was expensive is good for this many times what it took: looking costs netd 5 % of its time at most.
const COST_FACTOR: i64 = 20;
/// A picture older than this is not shown, milliseconds.
const STALE_MS: i64 = 10_000;

/// A reader of activity.
#[derive(Debug)]
pub struct ActivityReader(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    netd: NetworkStatusServiceClient<Channel>,
    last: Mutex<Option<Picture>>,
    /// Held by the one who asks netd.
    asking: Arc<AsyncMutex<()>>,
}

#[derive(Debug, Clone)]
struct Picture {
    taken_unix_ms: i64,
    took_ms: i64,
    /// None: netd did not answer.
    all: Option<All>,
}

/// What a picture is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// Shown as it is.
    Fresh,
    /// Shown, while a new one is taken.
    Stale,
    /// Not shown.
    None,
}

const AWAY: ServiceError = ServiceError::Unreachable("netd");

impl ActivityReader {
    /// A reader over a channel to netd.
    pub fn new(channel: Channel) -> Self {
        ActivityReader(Arc::new(Shared {
            netd: NetworkStatusServiceClient::new(channel).max_decoding_message_size(64 * 1024 * 1024),
            last: Mutex::new(None),
            asking: Arc::default(),
        }))
    }

    /// All peers, as they were at most 10 s before `now`, usually within the last second.
    ///
    /// # Errors
    /// [`ServiceError::Unreachable`].
    pub async fn all(&self, now: i64) -> Result<All, ServiceError> {
        let shared = &self.0;
        if let Some(picture) = shared.last() {
            match picture.worth(now) {
                Worth::Fresh => return picture.all.ok_or(AWAY),
                Worth::Stale => {
                    if let Ok(turn) = Arc::clone(&shared.asking).try_lock_owned() {
                        tokio::spawn(Arc::clone(shared).ask(now, turn));
                    }
                    return picture.all.ok_or(AWAY);
                }
                Worth::None => {}
            }
        }
        let turn = Arc::clone(&shared.asking).lock_owned().await;
        // Whoever had the turn before may have brought it.
        match shared.last() {
            Some(picture) if picture.worth(now) != Worth::None => picture.all.ok_or(AWAY),
            // Rare, and large: it must not take room in every request.
            _ => Box::pin(Arc::clone(shared).ask(now, turn)).await.ok_or(AWAY),
        }
    }

    /// One peer; one that netd does not know has no activity yet.
    ///
    /// # Errors
    /// As [`ActivityReader::all`].
    pub async fn one(&self, name: &str, now: i64) -> Result<Activity, ServiceError> {
        Ok(self.all(now).await?.get(name).cloned().unwrap_or_default())
    }
}

impl Shared {
    fn last(&self) -> Option<Picture> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask(self: Arc<Self>, now: i64, turn: OwnedMutexGuard<()>) -> Option<All> {
        let start = Instant::now();
        let question = read(ListPeerStatusesRequest { name: String::new() });
        let mut netd = self.netd.clone();
        let statuses = answer("netd", netd.list_peer_statuses(question)).await.ok();
        let all = statuses.map(|statuses| {
            let of = |status: PeerStatus| (netd::activity(&status, now), status.name);
            let peers = statuses.peers.into_iter().map(of);
            Arc::new(
                peers
                    .map(|(activity, name)| (name, activity))
                    .collect::<HashMap<_, _>>(),
            )
        });
        let picture = Picture {
            taken_unix_ms: now,
            took_ms: i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX),
            all: all.clone(),
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(picture);
        drop(turn);
        all
    }
}

impl Picture {
    /// A clock that was set back makes a picture worthless, not fresh for ever.
    fn worth(&self, now: i64) -> Worth {
        // A failure says nothing of what an answer costs.
        let cost = if self.all.is_some() { self.took_ms } else { 0 };
        let fresh = cost.saturating_mul(COST_FACTOR).clamp(FRESH_MS, STALE_MS);
        match now - self.taken_unix_ms {
            age if age < 0 => Worth::None,
            age if age < fresh => Worth::Fresh,
            // That netd was away is no picture to go on with.
            age if age < STALE_MS && self.all.is_some() => Worth::Stale,
            _ => Worth::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(took_ms: i64, answered: bool) -> Picture {
        Picture {
            taken_unix_ms: 100_000,
            took_ms,
            all: answered.then(Arc::default),
        }
    }

    #[test]
    fn a_picture_ages() {
        let cheap = picture(2, true);
        assert_eq!(cheap.worth(100_999), Worth::Fresh);
        assert_eq!(cheap.worth(101_000), Worth::Stale);
        assert_eq!(cheap.worth(110_000), Worth::None);
        assert_eq!(cheap.worth(99_999), Worth::None, "a clock that was set back");
    }

    #[test]
    fn an_expensive_picture_is_kept_longer() {
        assert_eq!(picture(200, true).worth(103_999), Worth::Fresh);
        assert_eq!(picture(i64::MAX, true).worth(109_999), Worth::Fresh);
    }

    #[test]
    fn that_netd_was_away_is_asked_again_after_a_second() {
        for took_ms in [2, 2_000] {
            assert_eq!(picture(took_ms, false).worth(100_500), Worth::Fresh);
            assert_eq!(picture(took_ms, false).worth(101_000), Worth::None);
        }
    }
}
