//! What changed, for whoever shows it: a version per topic, coalesced, so that no listener can fall behind.

use tokio::sync::watch;

/// What can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Peers, their policies and their activity.
    Peers,
    /// Daemons, generations.
    Status,
    /// The cell's configuration.
    Config,
    /// The audit chain.
    Audit,
    /// Installed services.
    Services,
}

impl Topic {
    const ALL: [Topic; 5] = [
        Topic::Peers,
        Topic::Status,
        Topic::Config,
        Topic::Audit,
        Topic::Services,
    ];

    /// The event's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Topic::Peers => "peers",
            Topic::Status => "status",
            Topic::Config => "config",
            Topic::Audit => "audit",
            Topic::Services => "services",
        }
    }
}

/// The version of each topic, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions([u64; Topic::ALL.len()]);

impl Versions {
    /// What a listener has that was told nothing.
    pub const NONE: Versions = Versions([0; Topic::ALL.len()]);

    /// A topic whose version is another than in `sent`.
    pub fn first_difference(&self, sent: &Versions) -> Option<(Topic, u64)> {
        Topic::ALL
            .into_iter()
            .map(|topic| (topic, self.0[topic as usize]))
            .find(|(topic, v)| sent.0[*topic as usize] != *v)
    }

    /// Notes what was sent.
    pub fn set(&mut self, (topic, version): (Topic, u64)) {
        self.0[topic as usize] = version;
    }
}

/// Where changes are published.
#[derive(Debug, Clone)]
pub struct Events(watch::Sender<Versions>);

impl Default for Events {
    fn default() -> Self {
        Events(watch::Sender::new(Versions([1; Topic::ALL.len()])))
    }
}

impl Events {
    /// Says that `topics` changed.
    pub fn publish(&self, topics: impl IntoIterator<Item = Topic>) {
        self.0.send_modify(|versions| {
            topics
                .into_iter()
                .for_each(|topic| versions.0[topic as usize] += 1)
        });
    }

    /// The versions now and from now on.
    pub fn watch(&self) -> watch::Receiver<Versions> {
        self.0.subscribe()
    }
}
