//! Secrets from vaultd, over its socket for egress: asked for when a connection needs one, and kept for a few seconds, so that
//! a page with a hundred connections is one read. A replaced password works after [`KEPT`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cell_proto::vault::v1::ReadExitSecretRequest;
use cell_proto::vault::v1::exit_secret_service_client::ExitSecretServiceClient;
use cell_proto::{fault, ipc};
use tonic::Code;
use tonic::transport::Channel;

use crate::failure::is_of_shortage;
use crate::secrets::{NoSecret, Secret, Secrets};

/// How long an answer is used again, a refusal too.
pub const KEPT: Duration = Duration::from_secs(5);
/// How long vaultd may take: it answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// vaultd's socket for egress.
#[derive(Debug, Clone)]
pub struct Vault(ExitSecretServiceClient<Channel>);

impl Vault {
    /// Connects when a secret is first wanted. Needs a tokio runtime.
    pub fn new(socket: PathBuf) -> Self {
        Vault(ExitSecretServiceClient::new(ipc::connect(socket)))
    }
}

#[tonic::async_trait]
impl Secrets for Vault {
    async fn read(&self, name: &str) -> Result<Secret, NoSecret> {
        let unreadable = |why: String| NoSecret::Unreadable {
            name: name.to_owned(),
            why,
        };
        let mut client = self.0.clone();
        let request = ReadExitSecretRequest {
            name: name.to_owned(),
        };
        // A socket whose daemon is away takes connections nevertheless: it was made before the daemon.
        let answer = tokio::time::timeout(PATIENCE, client.read_exit_secret(request))
            .await
            .map_err(|_| unreadable("vaultd does not answer".to_owned()))?;
        match answer {
            Ok(answer) => Ok(Secret::new(answer.into_inner().value)),
            Err(status) if status.code() == Code::NotFound => Err(NoSecret::Absent(name.to_owned())),
            Err(status) if is_of_shortage(&status) => Err(NoSecret::Shortage(name.to_owned())),
            Err(status) => {
                let why = fault::reason(&status).unwrap_or_else(|| "vaultd is not reachable".to_owned());
                Err(unreadable(why))
            }
        }
    }
}

/// Another source's answers, each used again for [`KEPT`]. While one is asked for, who wants it too waits for it, and nobody
/// else does.
pub struct Cached<S> {
    source: S,
    places: Mutex<BTreeMap<String, Arc<Place>>>,
}

type Place = tokio::sync::Mutex<Option<(Instant, Result<Secret, NoSecret>)>>;

impl<S> Cached<S> {
    /// Nothing is known yet.
    pub fn new(source: S) -> Self {
        Cached {
            source,
            places: Mutex::default(),
        }
    }

    /// The place of a secret. Others that are not looked at any more are wiped meanwhile.
    fn place(&self, name: &str) -> Arc<Place> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, place| {
            let used = Arc::strong_count(place) > 1;
            used || place.try_lock().is_ok_and(|kept| fresh(&kept).is_some())
        });
        Arc::clone(places.entry(name.to_owned()).or_default())
    }
}

fn fresh(kept: &Option<(Instant, Result<Secret, NoSecret>)>) -> Option<&Result<Secret, NoSecret>> {
    let (since, answer) = kept.as_ref()?;
    (since.elapsed() < KEPT).then_some(answer)
}

#[tonic::async_trait]
impl<S: Secrets> Secrets for Cached<S> {
    async fn read(&self, name: &str) -> Result<Secret, NoSecret> {
        let place = self.place(name);
        let mut kept = place.lock().await;
        if let Some(answer) = fresh(&kept) {
            return answer.clone();
        }
        let answer = self.source.read(name).await;
        *kept = Some((Instant::now(), answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    /// Another answer at each question.
    #[derive(Default)]
    struct Counting(AtomicU8);

    #[tonic::async_trait]
    impl Secrets for Counting {
        async fn read(&self, name: &str) -> Result<Secret, NoSecret> {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
            match name {
                "absent" => Err(NoSecret::Absent(format!("{number}"))),
                _ => Ok(Secret::new(vec![number])),
            }
        }
    }

    fn outdate(cached: &Cached<Counting>, name: &str) {
        let place = Arc::clone(&cached.places.lock().unwrap()[name]);
        let mut kept = place.try_lock().unwrap();
        kept.as_mut().unwrap().0 -= KEPT;
    }

    #[tokio::test]
    async fn a_secret_is_asked_for_once_in_a_while() {
        let cached = Cached::new(Counting::default());
        let (one, other) = tokio::join!(cached.read("a"), cached.read("a"));
        assert_eq!(
            (one.unwrap().as_slice(), other.unwrap().as_slice()),
            (&[0][..], &[0][..])
        );
        assert_eq!(cached.read("b").await.unwrap().as_slice(), [1], "each its own");
        assert_eq!(cached.read("a").await.unwrap().as_slice(), [0]);
        outdate(&cached, "a");
        assert_eq!(
            cached.read("a").await.unwrap().as_slice(),
            [2],
            "a replaced one works"
        );
    }

    #[tokio::test]
    async fn a_refusal_is_kept_as_long_and_what_is_old_is_wiped() {
        let cached = Cached::new(Counting::default());
        let absent = Err(NoSecret::Absent("0".to_owned()));
        assert_eq!(cached.read("absent").await, absent);
        assert_eq!(cached.read("absent").await, absent);
        outdate(&cached, "absent");
        assert!(cached.read("a").await.is_ok());
        assert!(!cached.places.lock().unwrap().contains_key("absent"));
    }
}
