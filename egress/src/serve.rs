//! One exit at work: accepts, judges, and carries or resets.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cell_egress_core::destination::Destination;
use cell_egress_core::exit::Exit;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::carry::Kept;
use crate::client::Client;
use crate::counters::Counters;
use crate::dial::Dialer;
use crate::engine::Shared;
use crate::failure::Failure;
use crate::listener::destination_of;
use crate::probe::probe;
use crate::relay::relay;

/// How long to wait after accept(2) failed, e.g. for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// One exit at work.
pub(crate) struct Served {
    pub(crate) shared: Arc<Shared>,
    pub(crate) exit: Exit,
    pub(crate) dialer: Dialer,
    pub(crate) counters: Arc<Counters>,
    /// What its connections keep.
    pub(crate) kept: Arc<Kept>,
}

impl Served {
    /// Serves until it is told to end. Then no listener and no connection is left: to abort this would only begin their end.
    pub(crate) async fn serve(self: Arc<Self>, listeners: Vec<TcpListener>, ended: watch::Receiver<()>) {
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(Arc::clone(&self).accept(listener, ended.clone()));
        }
        let probing = probe(&self.exit, &self.shared.rules.timeouts, &self.counters);
        let serving = async { while accepting.join_next().await.is_some() {} };
        tokio::select! {
            () = serving => {}
            // It never ends by itself.
            () = probing => {}
        }
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
        let led_elsewhere = self.shared.led_elsewhere(peer, &self.exit.id);
        Some(async move {
            tokio::select! {
                () = served.carry(client, peer, destination) => {}
                () = led_elsewhere => {
                    tracing::debug!(id = %served.exit.id, "connection cut: its peer goes another way now");
                }
            }
            drop(place);
        })
    }

    /// Opens its way and carries it to its end.
    async fn carry(&self, client: Client, peer: IpAddr, destination: Destination) {
        let timeouts = &self.shared.rules.timeouts;
        let secrets = self.shared.secrets.as_ref();
        let opening = self.dialer.open(&self.exit, peer, destination, timeouts, secrets);
        match opening.await {
            Ok(opened) => {
                self.counters.succeeded();
                if let Err(cut) = relay(client, opened, timeouts.idle, &self.kept).await {
                    tracing::debug!(id = %self.exit.id, %cut, "connection cut");
                }
            }
            Err(failure) => self.not_carried(client, &failure),
        }
    }

    fn not_carried(&self, client: Client, failure: &Failure) {
        let id = &self.exit.id;
        tracing::debug!(%id, reason = failure.reason(), %failure, "not carried");
        if !failure.is_local() {
            self.counters.failed(failure);
        } else if self.counters.lacked() {
            tracing::warn!(%id, %failure, "connections are reset, which says nothing of the exit");
        }
        drop(client);
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
