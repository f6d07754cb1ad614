//! What changed, for whoever shows it: a version per topic, coalesced, so that no listener can fall behind.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Peers and their policies.
    Peers,
    /// Connections.
    Connections,
    /// Handshakes and traffic of peers, every few seconds.
    Activity,
    /// Daemons, generations.
    Status,
    /// The cell's configuration.
    Config,
    /// The audit chain.
    Audit,
    /// Installed services.
    Services,
    /// What is wrong with services, and how they were.
    Alerts,
}

impl Topic {
    const ALL: [Topic; 8] = [
        Topic::Peers,
        Topic::Connections,
        Topic::Activity,
        Topic::Status,
        Topic::Config,
        Topic::Audit,
        Topic::Services,
        Topic::Alerts,
    ];

    /// The event's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Topic::Peers => "peers",
            Topic::Connections => "connections",
            Topic::Activity => "activity",
            Topic::Status => "status",
            Topic::Config => "config",
            Topic::Audit => "audit",
            Topic::Services => "services",
            Topic::Alerts => "alerts",
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

    /// The version of one topic.
    pub fn of(&self, topic: Topic) -> u64 {
        self.0[topic as usize]
    }

    /// Notes what was sent.
    pub fn set(&mut self, (topic, version): (Topic, u64)) {
        self.0[topic as usize] = version;
    }
}

/// Where changes are published.
#[derive(Debug, Clone)]
pub struct Events {
    versions: watch::Sender<Versions>,
    ended: CancellationToken,
}

impl Default for Events {
    fn default() -> Self {
        Events {
            versions: watch::Sender::new(Versions([1; Topic::ALL.len()])),
            ended: CancellationToken::new(),
        }
    }
}

impl Events {
    /// Says that `topics` changed.
    pub fn publish(&self, topics: impl IntoIterator<Item = Topic>) {
        self.versions.send_modify(|versions| {
            topics
                .into_iter()
                .for_each(|topic| versions.0[topic as usize] += 1)
        });
    }

    /// Ends every stream of events: they hold what they listen to, so that its end would never come.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// Cancelled when every stream has to end.
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Waits for the next change; `None` when there will be none any more.
    pub async fn changed(&self, watch: &mut watch::Receiver<Versions>) -> Option<()> {
        tokio::select! {
            () = self.ended.cancelled() => None,
            changed = watch.changed() => changed.ok(),
        }
    }

    /// The versions now and from now on.
    pub fn watch(&self) -> watch::Receiver<Versions> {
        self.versions.subscribe()
    }
}
