//! The exits that run: each with listeners, connections and counters of its own, so that what one does touches no other.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cell_egress_core::admission::Ledger;
use cell_egress_core::destination::Destination;
use cell_egress_core::dns::table::Table as Ways;
use cell_egress_core::exit::{Exit, ExitId};
use cell_egress_core::policy::{Limits, Reach, Timeouts};
use cell_egress_core::table::Table;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::carry::Kept;
use crate::counters::Counters;
use crate::dial::{Dialer, Opened};
use crate::failure::Failure;
use crate::listener::listen_on;
use crate::secrets::Secrets;
use crate::serve::Served;

/// What is in force for all exits.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Where redirected connections come, at most one address of each family.
    pub listen: Vec<IpAddr>,
    /// Which addresses have to do with egress.
    pub reach: Reach,
    /// How many connections.
    pub limits: Limits,
    /// For how long.
    pub timeouts: Timeouts,
}

/// All exits.
pub struct Engine {
    shared: Arc<Shared>,
    /// One change at a time.
    running: tokio::sync::Mutex<Running>,
}

/// What all exits share: rules and counts. What one takes of them leaves every other its share.
pub(crate) struct Shared {
    pub(crate) rules: Rules,
    pub(crate) secrets: Box<dyn Secrets>,
    ledger: Mutex<Ledger>,
    /// What the connections of all exits keep.
    kept: Arc<Kept>,
    /// By which exit each peer goes, as DNS knows it; empty without DNS.
    ways: watch::Sender<Arc<Ways>>,
}

#[derive(Default)]
struct Running {
    table: Table,
    exits: BTreeMap<ExitId, RunningExit>,
}

struct RunningExit {
    port: u16,
    counters: Arc<Counters>,
    /// None where the port could not be bound. What ends it is dropped to do so.
    task: Option<(watch::Sender<()>, JoinHandle<()>)>,
    /// What it dials by.
    served: Option<Arc<Served>>,
}

/// An exit as it is.
#[derive(Debug)]
pub struct Seen {
    /// Its id.
    pub id: ExitId,
    /// Its port.
    pub port: u16,
    /// Whether connections are taken.
    pub listening: bool,
    /// Its counters.
    pub counters: Arc<Counters>,
}

impl Engine {
    /// Without an exit.
    pub fn new(rules: Rules, secrets: Box<dyn Secrets>) -> Self {
        let ledger = Mutex::new(Ledger::new(rules.limits));
        let shared = Arc::new(Shared {
            rules,
            secrets,
            ledger,
            kept: Kept::of_all(),
            ways: watch::Sender::default(),
        });
        Engine {
            shared,
            running: tokio::sync::Mutex::default(),
        }
    }

    /// What is in force.
    pub fn rules(&self) -> &Rules {
        &self.shared.rules
    }

    /// Makes the running exits those of `table`. What stays as it is keeps its connections; all others are reset.
    pub async fn apply(&self, table: Table) -> Vec<Seen> {
        let mut running = self.running.lock().await;
        for id in running.table.changes_to(&table).stopped {
            if let Some(exit) = running.exits.remove(&id) {
                exit.stop().await;
                self.shared.secrets.forget(&id);
                tracing::info!(%id, "exit stopped");
            }
        }
        self.shared.ledger().deal(table.exits().len());
        running.table = table;
        self.start_missing(&mut running);
        running.seen()
    }

    /// Peers go by these from now on: what is open through the exit that one went by before is reset at both ends. netd lets through
    /// nothing more of it, and what is on its way in the exit has no other end.
    pub fn lead_by(&self, ways: Arc<Ways>) {
        self.shared.ways.send_replace(ways);
    }

    /// The exits as they are.
    pub async fn status(&self) -> Vec<Seen> {
        self.running.lock().await.seen()
    }

    /// Opens the way to a resolver through an exit, on behalf of `peer`. None: the exit does not run.
    pub async fn open(
        &self,
        id: &ExitId,
        peer: IpAddr,
        destination: Destination,
    ) -> Option<Result<Opened, Failure>> {
        let running = self.running.lock().await;
        let exit = running.exits.get(id).filter(|exit| exit.listens());
        let served = Arc::clone(exit?.served.as_ref()?);
        drop(running);
        let (timeouts, secrets) = (&self.shared.rules.timeouts, self.shared.secrets.as_ref());
        let opening = served
            .dialer
            .open(&served.exit, peer, destination, timeouts, secrets);
        Some(opening.await)
    }

    /// Starts what the table has and does not listen: what is new, what could not be bound before, and what a call that was
    /// given up half-way left stopped.
    fn start_missing(&self, running: &mut Running) {
        let Running { table, exits } = running;
        for exit in table.exits() {
            let counters = match exits.get(&exit.id) {
                Some(known) if known.listens() => continue,
                Some(known) => Arc::clone(&known.counters),
                None => Arc::default(),
            };
            exits.insert(exit.id.clone(), self.start(exit, counters));
        }
    }

    fn start(&self, exit: &Exit, counters: Arc<Counters>) -> RunningExit {
        let port = exit.port.get();
        let (task, served) = match listen_on(&self.shared.rules.listen, exit.port) {
            Ok(listeners) => {
                let served = Arc::new(Served {
                    shared: Arc::clone(&self.shared),
                    dialer: Dialer::of(exit),
                    exit: exit.clone(),
                    counters: Arc::clone(&counters),
                    kept: Kept::of_exit(&self.shared.kept),
                });
                tracing::info!(id = %exit.id, port, "exit started");
                let (ends, ended) = watch::channel(());
                let task = tokio::spawn(Arc::clone(&served).serve(listeners, ended));
                (Some((ends, task)), Some(served))
            }
            Err(error) => {
                tracing::error!(id = %exit.id, port, %error, "the redirect port cannot be bound");
                counters.note("LISTEN", format!("port {port} cannot be bound: {error}"));
                (None, None)
            }
        };
        RunningExit {
            port,
            counters,
            task,
            served,
        }
    }
}

impl Shared {
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when a peer that goes by this exit is led elsewhere. What it opens here while it is led elsewhere already is netd's to
    /// judge, which hears of it next.
    pub(crate) fn led_elsewhere(&self, peer: IpAddr, exit: &ExitId) -> impl Future<Output = ()> + use<> {
        let (mut ways, exit) = (self.ways.subscribe(), exit.clone());
        let mut was = ways.borrow_and_update().leads_elsewhere(peer, &exit);
        async move {
            while ways.changed().await.is_ok() {
                let is = ways.borrow_and_update().leads_elsewhere(peer, &exit);
                if is && !was {
                    return;
                }
                was = is;
            }
            // Nobody leads any more.
            std::future::pending().await
        }
    }
}

impl Running {
    fn seen(&self) -> Vec<Seen> {
        let seen = |(id, exit): (&ExitId, &RunningExit)| Seen {
            id: id.clone(),
            port: exit.port,
            listening: exit.listens(),
            counters: Arc::clone(&exit.counters),
        };
        self.exits.iter().map(seen).collect()
    }
}

impl RunningExit {
    fn listens(&self) -> bool {
        self.task.as_ref().is_some_and(|(_, task)| !task.is_finished())
    }

    /// Ends listeners and connections. When it answers, the port is free.
    async fn stop(mut self) {
        if let Some((ends, task)) = self.task.take() {
            drop(ends);
            if task.await.is_err() {
                tracing::error!(port = self.port, "an exit had panicked");
            }
        }
    }
}
