//! What moves about services of the store and is not written down: how far images are, what a step waits for, what netd and the
//! broker were last heard to say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cell_api_core::services::health::Seen;

use tokio::sync::watch;

/// How far an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Which image.
    pub image: String,
    /// Docker's word for what it does.
    pub status: String,
    /// Bytes so far of the part that this is about; 0: not told.
    pub current_bytes: u64,
    /// Of so many.
    pub total_bytes: u64,
}

/// What a step waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// UPPER_SNAKE.
    pub code: String,
    /// For people.
    pub message: String,
}

/// What moves about one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// How far images are, while they are fetched.
    pub progress: Option<Progress>,
    /// What it waits for, while it does.
    pub waiting: Option<Waiting>,
}

/// Containers of all services as the broker told them last, by service; none: it is not watched now.
pub(crate) type Watched = Option<Arc<BTreeMap<String, Vec<Seen>>>>;

/// What was heard of the broker by watching it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// How often it was lost after it was there.
    pub losses: u64,
    /// How often it told something.
    pub news: u64,
}

/// What requests and the reconciler of services share.
#[derive(Debug)]
pub struct Services {
    live: Mutex<BTreeMap<String, Live>>,
    /// Services whose network or entries netd does not take, with why.
    refused: Mutex<BTreeMap<String, String>>,
    /// Services that the broker was seen to have as they are to be.
    seen: Mutex<BTreeSet<String>>,
    /// Services whose containers somebody had started.
    asked: Mutex<BTreeSet<String>>,
    /// What services lack beside their steps, such as a certificate, with why.
    troubles: Mutex<BTreeMap<String, Waiting>>,
    /// What was heard of the broker.
    heard: watch::Sender<Heard>,
    /// What it told.
    watched: watch::Sender<Watched>,
    /// Grows with each wish.
    wishes: watch::Sender<u64>,
}

impl Default for Services {
    fn default() -> Self {
        Services {
            live: Mutex::default(),
            refused: Mutex::default(),
            seen: Mutex::default(),
            asked: Mutex::default(),
            troubles: Mutex::default(),
            heard: watch::Sender::new(Heard::default()),
            watched: watch::Sender::new(None),
            wishes: watch::Sender::new(0),
        }
    }
}

impl Services {
    /// What moves about a service.
    pub fn live(&self, service: &str) -> Live {
        let mut live = lock(&self.live).get(service).cloned().unwrap_or_default();
        if live.waiting.is_none() {
            live.waiting = lock(&self.troubles).get(service).cloned();
        }
        live
    }

    /// What a service lacks beside its steps.
    pub(crate) fn trouble(&self, service: &str) -> Option<Waiting> {
        lock(&self.troubles).get(service).cloned()
    }

    /// Notes what a service lacks beside its steps; whether that is news.
    pub(crate) fn set_trouble(&self, service: &str, trouble: Option<Waiting>) -> bool {
        let mut all = lock(&self.troubles);
        let before = match trouble.clone() {
            Some(trouble) => all.insert(service.to_owned(), trouble),
            None => all.remove(service),
        };
        before != trouble
    }

    /// Notes what moves; whether that is news.
    pub(crate) fn note(&self, service: &str, live: Live) -> bool {
        let mut all = lock(&self.live);
        let before = if live == Live::default() {
            all.remove(service)
        } else {
            all.insert(service.to_owned(), live.clone())
        };
        before.unwrap_or_default() != live
    }

    /// Somebody asked for something: the reconciler looks again.
    pub fn wished(&self) {
        self.wishes.send_modify(|count| *count += 1);
    }

    /// What is heard of the broker, now and from now on.
    pub(crate) fn heard(&self) -> watch::Receiver<Heard> {
        self.heard.subscribe()
    }

    /// What the broker tells of containers, now and from now on. There is one stream for all who go by it.
    pub(crate) fn watched(&self) -> watch::Receiver<Watched> {
        self.watched.subscribe()
    }

    /// The broker told something.
    pub(crate) fn broker_told(&self, containers: BTreeMap<String, Vec<Seen>>) {
        self.watched.send_replace(Some(Arc::new(containers)));
        self.heard.send_modify(|heard| heard.news += 1);
    }

    /// The broker was there, and is not.
    pub(crate) fn broker_lost(&self) {
        self.watched.send_replace(None);
        self.heard.send_modify(|heard| heard.losses += 1);
    }

    /// Wishes from now on.
    pub(crate) fn wishes(&self) -> watch::Receiver<u64> {
        self.wishes.subscribe()
    }

    /// What netd made of networks and entries; whether that is news.
    pub(crate) fn refused_by_netd(&self, refused: BTreeMap<String, String>) -> bool {
        let mut before = lock(&self.refused);
        let is_news = *before != refused;
        *before = refused;
        is_news
    }

    /// What netd does not take of a service, and why; `None`: it takes all, or was not asked.
    pub(crate) fn netd_refuses(&self, service: &str) -> Option<String> {
        lock(&self.refused).get(service).cloned()
    }

    /// Somebody has a service's containers started or stopped.
    pub(crate) fn asked(&self, service: &str) {
        lock(&self.asked).insert(service.to_owned());
    }

    /// Whether somebody had, since this was asked last.
    pub(crate) fn take_asked(&self, service: &str) -> bool {
        lock(&self.asked).remove(service)
    }

    /// The broker has a service as it is to be.
    pub(crate) fn saw(&self, service: &str) {
        lock(&self.seen).insert(service.to_owned());
    }

    /// A service is to be looked after again.
    pub(crate) fn lost(&self, service: &str) {
        lock(&self.seen).remove(service);
    }

    /// All services are to be looked after again.
    pub(crate) fn lost_all(&self) {
        lock(&self.seen).clear();
    }

    /// Whether the broker was seen to have it.
    pub(crate) fn is_seen(&self, service: &str) -> bool {
        lock(&self.seen).contains(service)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
