//! The exits that run: each with listeners, connections and counters of its own, so that what one does touches no other.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cell_egress_core::admission::Ledger;
use cell_egress_core::exit::{Exit, ExitId};
use cell_egress_core::policy::{Limits, Reach, Timeouts};
use cell_egress_core::table::Table;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::client::Client;
use crate::counters::Counters;
use crate::dial::Dialer;
use crate::listener::{destination_of, listen_on};
use crate::relay::relay;
use crate::secrets::Secrets;

/// How long to wait after accept(2) failed, e.g. for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What is in force for all exits.
#[derive(Debug, Clone)]
pub struct Rules {
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

struct Shared {
    rules: Rules,
    secrets: Box<dyn Secrets>,
    ledger: Mutex<Ledger>,
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
                tracing::info!(%id, "exit stopped");
            }
        }
        self.shared.ledger().deal(table.exits().len());
        running.table = table;
        self.start_missing(&mut running);
        running.seen()
    }

    /// The exits as they are.
    pub async fn status(&self) -> Vec<Seen> {
        self.running.lock().await.seen()
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
        let task = match listen_on(exit.port) {
            Ok(listeners) => {
                let served = Served {
                    shared: Arc::clone(&self.shared),
                    dialer: Dialer::of(exit),
                    exit: exit.clone(),
                    counters: Arc::clone(&counters),
                };
                tracing::info!(id = %exit.id, port, "exit started");
                let (ends, ended) = watch::channel(());
                Some((ends, tokio::spawn(Arc::new(served).serve(listeners, ended))))
            }
            Err(error) => {
                tracing::error!(id = %exit.id, port, %error, "the redirect port cannot be bound");
                counters.note("LISTEN", format!("port {port} cannot be bound: {error}"));
                None
            }
        };
        RunningExit { port, counters, task }
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
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

/// One exit at work.
struct Served {
    shared: Arc<Shared>,
    exit: Exit,
    dialer: Dialer,
    counters: Arc<Counters>,
}

impl Served {
    /// Serves until it is told to end. Then no listener and no connection is left: to abort this would only begin their end.
    async fn serve(self: Arc<Self>, listeners: Vec<TcpListener>, ended: watch::Receiver<()>) {
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(Arc::clone(&self).accept(listener, ended.clone()));
        }
        while accepting.join_next().await.is_some() {}
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, mut ended: watch::Receiver<()>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // Nothing is ever sent: it ends with its sender.
                _ = ended.changed() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if let Some(admitted) = self.admit(stream, peer.ip()) {
                            connections.spawn(admitted);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(id = %self.exit.id, %error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(over) = connections.join_next() => {
                    if over.is_err_and(|error| error.is_panic()) {
                        tracing::error!(id = %self.exit.id, "a connection's task panicked");
                    }
                }
            }
        }
        drop(listener);
        connections.shutdown().await;
    }

    /// Judges a connection. What is not let in is reset here.
    fn admit(self: &Arc<Self>, stream: TcpStream, peer: IpAddr) -> Option<impl Future<Output = ()> + use<>> {
        let client = Client::new(stream, Arc::clone(&self.counters));
        let refused = |why: &dyn std::fmt::Display| {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(id = %self.exit.id, %why, "connection refused");
        };
        if !self.shared.rules.reach.takes(peer) {
            refused(&"it comes from no peer");
            return None;
        }
        let destination = match destination_of(client.stream()) {
            Ok(destination) => destination,
            Err(why) => {
                refused(&why);
                return None;
            }
        };
        if let Err(full) = self.shared.ledger().admit(&self.exit.id, peer) {
            refused(&full);
            return None;
        }
        let place = Place::taken(self, peer);
        let served = Arc::clone(self);
        Some(async move {
            let timeouts = &served.shared.rules.timeouts;
            let secrets = served.shared.secrets.as_ref();
            let opened = served
                .dialer
                .open(&served.exit, peer, destination, timeouts, secrets)
                .await;
            match opened {
                Ok(opened) => {
                    served.counters.succeeded();
                    if let Err(cut) = relay(client, opened, timeouts.idle).await {
                        tracing::debug!(id = %served.exit.id, %cut, "connection cut");
                    }
                }
                Err(failure) => {
                    tracing::debug!(id = %served.exit.id, reason = failure.reason(), %failure, "not carried");
                    served.counters.failed(&failure);
                    drop(client);
                }
            }
            drop(place);
        })
    }
}

/// A connection's entry in the ledger, taken out again however the connection ends.
struct Place {
    served: Arc<Served>,
    peer: IpAddr,
}

impl Place {
    fn taken(served: &Arc<Served>, peer: IpAddr) -> Self {
        served.counters.open.fetch_add(1, Ordering::Relaxed);
        Place {
            served: Arc::clone(served),
            peer,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.served.counters.open.fetch_sub(1, Ordering::Relaxed);
        self.served
            .shared
            .ledger()
            .release(&self.served.exit.id, self.peer);
    }
}
