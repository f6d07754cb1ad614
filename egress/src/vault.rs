//! Secrets from vaultd, over its socket for egress: asked for when a connection needs one, and kept for a few seconds, so that
//! a page with a hundred connections is one read. Each is held to the import that its exit was told of: what vaultd has of another
//! is let go here, and what is kept of one is used for no other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cell_egress_core::exit::ExitId;
use cell_egress_core::secret::Wanted;
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
    async fn read(&self, wanted: &Wanted) -> Result<Secret, NoSecret> {
        let name = wanted.name();
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
            Ok(answer) => {
                let answer = answer.into_inner();
                // Wiped when it is not what is wanted, too.
                let secret = Secret::new(answer.value);
                match wanted.is_of(answer.revision) {
                    true => Ok(secret),
                    false => Err(NoSecret::Other(name.to_owned())),
                }
            }
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
    places: Mutex<BTreeMap<Wanted, Arc<Place>>>,
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
    fn place(&self, wanted: &Wanted) -> Arc<Place> {
        let mut places = self.places();
        places.retain(|_, place| {
            let used = Arc::strong_count(place) > 1;
            used || place.try_lock().is_ok_and(|kept| fresh(&kept).is_some())
        });
        Arc::clone(places.entry(wanted.clone()).or_default())
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<Wanted, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fresh(kept: &Option<(Instant, Result<Secret, NoSecret>)>) -> Option<&Result<Secret, NoSecret>> {
    let (since, answer) = kept.as_ref()?;
    (since.elapsed() < KEPT).then_some(answer)
}

#[tonic::async_trait]
impl<S: Secrets> Secrets for Cached<S> {
    async fn read(&self, wanted: &Wanted) -> Result<Secret, NoSecret> {
        let place = self.place(wanted);
        let mut kept = place.lock().await;
        if let Some(answer) = fresh(&kept) {
            return answer.clone();
        }
        let answer = self.source.read(wanted).await;
        *kept = Some((Instant::now(), answer.clone()));
        answer
    }

    fn forget(&self, exit: &ExitId) {
        let of_exit = exit.secret_name("");
        self.places()
            .retain(|wanted, _| !wanted.name().starts_with(&of_exit));
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
        async fn read(&self, wanted: &Wanted) -> Result<Secret, NoSecret> {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
            match wanted.name().ends_with("absent") {
                true => Err(NoSecret::Absent(format!("{number}"))),
                false => Ok(Secret::new(vec![number])),
            }
        }
    }

    fn exit() -> ExitId {
        ExitId::parse("6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5b").unwrap()
    }

    fn wanted(field: &str) -> Wanted {
        Wanted::new(&exit(), field, 1)
    }

    fn outdate(cached: &Cached<Counting>, field: &str) {
        let place = Arc::clone(&cached.places()[&wanted(field)]);
        let mut kept = place.try_lock().unwrap();
        kept.as_mut().unwrap().0 -= KEPT;
    }

    async fn read(cached: &Cached<Counting>, wanted: &Wanted) -> Vec<u8> {
        cached.read(wanted).await.unwrap().to_vec()
    }

    #[tokio::test]
    async fn a_secret_is_asked_for_once_in_a_while() {
        let cached = Cached::new(Counting::default());
        let (a, b) = (wanted("a"), wanted("b"));
        let both = tokio::join!(read(&cached, &a), read(&cached, &a));
        assert_eq!(both, (vec![0], vec![0]));
        assert_eq!(read(&cached, &b).await, [1], "each its own");
        assert_eq!(read(&cached, &a).await, [0]);
        outdate(&cached, "a");
        assert_eq!(read(&cached, &a).await, [2], "a replaced one works");
    }

    #[tokio::test]
    async fn what_is_kept_of_one_import_is_used_for_no_other() {
        let cached = Cached::new(Counting::default());
        let (old, new) = (wanted("a"), Wanted::new(&exit(), "a", 2));
        assert_eq!(read(&cached, &old).await, [0]);
        assert_eq!(read(&cached, &new).await, [1], "at once");
        assert_eq!(read(&cached, &old).await, [0]);
        cached.forget(&exit());
        assert!(cached.places().is_empty(), "both are wiped");
        assert_eq!(read(&cached, &new).await, [2]);
    }

    #[tokio::test]
    async fn a_refusal_is_kept_as_long_and_what_is_old_is_wiped() {
        let cached = Cached::new(Counting::default());
        let absent = Err(NoSecret::Absent("0".to_owned()));
        assert_eq!(cached.read(&wanted("absent")).await, absent);
        assert_eq!(cached.read(&wanted("absent")).await, absent);
        outdate(&cached, "absent");
        assert!(cached.read(&wanted("a")).await.is_ok());
        assert!(!cached.places().contains_key(&wanted("absent")));
    }
}
