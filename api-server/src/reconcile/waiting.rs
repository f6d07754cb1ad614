//! The change that waits: sent so that netd takes it back by itself, and put back here too when netd did.

use cell_api_core::connection::id::ConnectionId;
use cell_api_core::derive::dns::Ways;
use cell_api_core::waiting::{Said, Sent, Standing, standing};
use cell_proto::fault;
use cell_proto::netd::v1 as wire;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tonic::Status;

use super::apply::{Routed, has_answered, in_time};
use super::{Accepted, Reconciler, entries};
use crate::daemons::netd;
use crate::dns;
use crate::events::Topic;
use crate::network::{MAX_DELTA, Pending};
use crate::service::{Actor, ServiceError, waiting};
use crate::store::transaction::{NetworkChange, Origin};
use crate::store::waiting::{self as table, BeforeWhole, Waiting};

/// What there is to do about it.
pub(super) enum Found {
    /// None waits.
    Nothing,
    /// One waits at netd.
    Waits,
    /// One was made, and netd has not heard of it.
    Unsent(Waiting),
    /// One ended just now; what was to be sent is not what the database says any more.
    Ended,
}

/// What cannot be taken away beside a change that waits.
enum Left {
    Nothing,
    /// Entries that are everyone's.
    OpenEntries,
}

impl Reconciler {
    /// Where the change that waits stands; what is over is put back. `may_send`: whether netd has our state, so that a
    /// change can be made to it.
    pub(super) async fn settle(&mut self, may_send: bool) -> Result<Found, Status> {
        if self.waiting()?.is_none() {
            return Ok(Found::Nothing);
        }
        let app = Arc::clone(&self.app);
        let _held = app.change_settling.lock().await;
        // It may have been settled while this waited.
        let Some(waiting) = self.waiting()? else {
            return Ok(Found::Ended);
        };
        let status = self.netd_says().await?;
        let said = Said {
            etag: status.etag.clone(),
            pending: status.pending.clone().map(sent),
        };
        match standing(waiting.sent.as_ref(), &said) {
            Standing::Unsent if may_send => return Ok(Found::Unsent(waiting)),
            Standing::Waits(now) => {
                if waiting.sent.as_ref() != Some(&now) {
                    self.note(now).await?;
                }
                return Ok(Found::Waits);
            }
            Standing::Confirmed => self.keep(waiting).await?,
            Standing::Unsent | Standing::Over => {
                if let Some(pending) = status.pending {
                    // Whether it succeeds is seen by the next status.
                    let _settled = app.confirmer.roll_back(pending.etag).await;
                }
                let why = reason(status.last_rollback);
                tracing::warn!(subject = waiting.subject, why, "the change is put back");
                internal(waiting::put_back(&app, &cell(), waiting, why).await)?;
            }
        }
        Ok(Found::Ended)
    }

    /// Sends what was committed as one change that waits; whatever netd has against it, it is put back.
    pub(super) async fn send_waiting(&mut self, waiting: Waiting, pending: Pending) -> Result<(), Status> {
        let Pending {
            generation,
            all,
            peers,
        } = pending;
        let app = Arc::clone(&self.app);
        let sending = match (internal(waiting.before_whole())?, all) {
            (Some(before), _) => self.send_whole_apart(&waiting, &before).await,
            (None, true) => Err(Status::aborted("more was changed at the same time")),
            (None, false) => self.send_apart(&waiting, peers).await,
        };
        match sending {
            Ok(Some(pending)) => {
                self.note(sent(pending)).await?;
                app.events.publish([Topic::Status]);
                self.settled(generation);
                Ok(())
            }
            // It changes nothing of the network, so there is nothing to come back to.
            Ok(None) => {
                let _held = app.change_settling.lock().await;
                self.keep(waiting).await?;
                app.network.keep(generation);
                self.settled(generation);
                Ok(())
            }
            Err(status) if has_answered(&status) => {
                tracing::warn!(
                    reason = fault::reason(&status),
                    message = status.message(),
                    "netd does not take the change"
                );
                let held = app.change_settling.lock().await;
                internal(waiting::put_back(&app, &cell(), waiting, "netd did not take it").await)?;
                drop(held);
                Box::pin(self.apply_all()).await
            }
            Err(status) => Err(status),
        }
    }

    /// What else was committed is for good, and must neither come back nor go with the change that waits.
    async fn send_apart(
        &mut self,
        waiting: &Waiting,
        mut peers: BTreeSet<String>,
    ) -> Result<Option<wire::PendingChange>, Status> {
        peers.remove(&waiting.subject);
        if !peers.is_empty() {
            let Routed { spec, nowhere } = self.routed(peers);
            self.apply_difference(spec).await?;
            self.nowhere.extend(nowhere);
        }
        let routed = self.routed(BTreeSet::from([waiting.subject.clone()]));
        self.send_to_wait(waiting, routed).await
    }

    /// The same of a change that netd hears of as the whole: all else first and for good, and then the whole with the change.
    async fn send_whole_apart(
        &mut self,
        waiting: &Waiting,
        before: &BeforeWhole,
    ) -> Result<Option<wire::PendingChange>, Status> {
        self.tell_whole(Some(before))
            .await
            .map_err(|(_, status)| status)?;
        let (_, spec) = self.desired(None).await?;
        // As of one peer: questions follow a new exit from the first one, and an exit that is left keeps them until the change stands.
        let dns = dns::all_of(&spec);
        self.app.dns.before_all(&self.app, &dns).await;
        let etag = self.accepted.as_ref().map(|accepted| accepted.etag.clone());
        let request = wire::ApplyNetworkRequest {
            spec: Some(netd::network_spec(spec)),
            etag: etag.ok_or_else(|| Status::aborted("netd has nothing of ours"))?,
            validate_only: false,
            confirm_within_seconds: waiting.wait.window.seconds(),
        };
        let applied = in_time(self.apply.apply_network(request)).await?;
        self.accept(Some(Accepted {
            etag: applied.etag,
            netd_generation: applied.generation,
        }));
        self.tell_what_netd_refuses();
        Ok(applied.pending)
    }

    async fn send_to_wait(
        &mut self,
        waiting: &Waiting,
        Routed { spec, nowhere }: Routed,
    ) -> Result<Option<wire::PendingChange>, Status> {
        let (mut upserted_peers, mut removed_peers) = (Vec::new(), Vec::new());
        let mut ways = dns::ways_of(spec.values().flatten());
        for (name, spec) in spec {
            self.refused.remove(&name);
            self.nowhere.remove(&name);
            match spec {
                Some(spec) => upserted_peers.push(netd::peer_spec(spec)),
                None => removed_peers.push(name),
            }
        }
        // Questions follow a new exit from the first one; an exit that is left keeps them until the change stands, since it may
        // come back.
        ways.retain(|_, way| way.exit.is_some());
        self.app.dns.before_some(&self.app, &ways).await;
        let base_etag = self.accepted.as_ref().map(|accepted| accepted.etag.clone());
        let request = wire::ApplyNetworkDeltaRequest {
            base_etag: base_etag.ok_or_else(|| Status::aborted("netd has nothing of ours"))?,
            upserted_peers,
            removed_peers,
            validate_only: false,
            confirm_within_seconds: waiting.wait.window.seconds(),
        };
        let applied = in_time(self.apply.apply_network_delta(request)).await?;
        self.app.dns.after_some(ways, &[]);
        self.accept(Some(Accepted {
            etag: applied.etag,
            netd_generation: applied.generation,
        }));
        self.nowhere.extend(nowhere);
        Ok(applied.pending)
    }

    /// While a change waits, peers can be removed and access can be taken away; everything else follows when it is settled.
    pub(super) async fn take_away_beside(&mut self, generation: u64) -> Result<(), Status> {
        match self.take_away_from_what_netd_has().await {
            Ok(Left::Nothing) => {
                // netd's etag has moved, and the one that is written down is what the change is confirmed by.
                let _found = self.settle(false).await?;
                self.settled(generation);
                Ok(())
            }
            Ok(Left::OpenEntries) => self.end_for_entries().await,
            Err(status) if has_answered(&status) => {
                tracing::warn!(
                    reason = fault::reason(&status),
                    "netd refuses what goes beside the change that waits"
                );
                self.retry_later();
                Ok(())
            }
            Err(status) => Err(status),
        }
    }

    /// Takes from the peers of netd's own state what they may not have any more, and nothing else: a part that gives would
    /// be refused, and what takes away with it.
    async fn take_away_from_what_netd_has(&mut self) -> Result<Left, Status> {
        let request = wire::GetNetworkRequest { include_spec: true };
        let current = in_time(self.watch.get_network(request)).await?;
        let (Some(status), Some(spec)) = (current.status, current.spec) else {
            return Ok(Left::Nothing);
        };
        let (_, wanted) = self.desired(None).await?;
        let open: Vec<_> = wanted.entries.into_iter().map(netd::entry).collect();
        let left = if entries::is_open(&spec.entries, &open) {
            Left::OpenEntries
        } else {
            Left::Nothing
        };
        let all = dns::ways_of(&wanted.peers);
        let nowhere = dns::ways_of(wanted.peers.iter().filter(|peer| peer.is_nowhere()));
        let wanted = wanted.peers.into_iter().map(netd::peer_spec);
        let wanted: BTreeMap<String, wire::PeerSpec> = wanted.map(|peer| (peer.name.clone(), peer)).collect();
        let (mut removed, mut reduced) = (Vec::new(), Vec::new());
        for has in &spec.peers {
            match wanted.get(&has.name) {
                None => removed.push(has.name.clone()),
                Some(wanted) => reduced.extend(netd::reduced(has, wanted)),
            }
        }
        self.ask_nowhere(&spec.peers, &nowhere).await;
        self.accept(Some(Accepted {
            etag: status.etag,
            netd_generation: status.generation,
        }));
        let done = self.send_in_chunks(removed, reduced, (&all, &nowhere)).await;
        // The network as a whole is still not ours: each change goes this way until it is.
        self.accept(None);
        done.map(|()| left)
    }

    /// Who is to go nowhere, and has no exit at netd, asks nowhere from now on, also where there is nothing to take from it.
    async fn ask_nowhere(&self, has: &[wire::PeerSpec], nowhere: &Ways) {
        let is_bound = |name: &String| has.iter().any(|peer| peer.name == *name && !peer.exit.is_empty());
        let mut ways = nowhere.clone();
        ways.retain(|name, _| !is_bound(name));
        if !ways.is_empty() {
            self.app.dns.before_some(&self.app, &ways).await;
            self.app.dns.after_some(ways, &[]);
        }
    }

    /// Everyone reaches by netd's state what they must not any more, and beside a change that waits netd takes nothing of that. So
    /// the change waits no more: it is put back, as it would be by itself, and all is told.
    async fn end_for_entries(&mut self) -> Result<(), Status> {
        let app = Arc::clone(&self.app);
        let held = app.change_settling.lock().await;
        if let Some(waiting) = self.waiting()? {
            let pending = self.netd_says().await?.pending;
            if let Some(pending) = pending {
                // Whether it succeeds is seen by what netd says to the whole.
                let _settled = app.confirmer.roll_back(pending.etag).await;
            }
            tracing::warn!(
                subject = waiting.subject,
                "the change is put back, since a service was closed"
            );
            internal(waiting::put_back(&app, &cell(), waiting, "a service was closed meanwhile").await)?;
        }
        drop(held);
        Box::pin(self.apply_all()).await
    }

    /// What is left keeps the exit that netd has for it, and so do its questions; but who is to go nowhere asks nowhere either.
    async fn send_in_chunks(
        &mut self,
        removed: Vec<String>,
        reduced: Vec<wire::PeerSpec>,
        (all, nowhere): (&Ways, &Ways),
    ) -> Result<(), Status> {
        for chunk in removed.chunks(MAX_DELTA) {
            self.send_difference(Vec::new(), Ways::new(), chunk.to_vec())
                .await?;
        }
        for chunk in reduced.chunks(MAX_DELTA) {
            let way = |peer: &wire::PeerSpec| {
                let mut way = all.get(&peer.name)?.clone();
                let without = || nowhere.get(&peer.name).and_then(|way| way.exit);
                way.exit = ConnectionId::parse(&peer.exit).ok().or_else(without);
                Some((peer.name.clone(), way))
            };
            let ways = chunk.iter().filter_map(way).collect();
            self.send_difference(chunk.to_vec(), ways, Vec::new()).await?;
        }
        Ok(())
    }

    /// Whether a status says that the change which waits does not wait at netd (any more).
    pub(super) fn is_over(&self, status: &wire::NetworkStatus) -> Result<bool, Status> {
        let sent = self.waiting()?.and_then(|waiting| waiting.sent);
        let pending = status.pending.as_ref().map(|pending| &pending.previous_etag);
        Ok(sent.is_some_and(|sent| pending != Some(&sent.previous_etag)))
    }

    /// netd's etag now, for whoever has taken note of its last rollback.
    pub(super) async fn noted_etag(&mut self) -> Result<String, Status> {
        Ok(self.netd_says().await?.etag)
    }

    async fn netd_says(&mut self) -> Result<wire::NetworkStatus, Status> {
        let request = wire::GetNetworkRequest { include_spec: false };
        let answer = in_time(self.watch.get_network(request)).await?;
        answer
            .status
            .ok_or_else(|| Status::unavailable("netd told no status"))
    }

    fn waiting(&self) -> Result<Option<Waiting>, Status> {
        internal(self.app.store.read(table::get))
    }

    async fn note(&self, sent: Sent) -> Result<(), Status> {
        let noting = self
            .app
            .store
            .note(move |connection| table::note_sent(connection, &sent));
        internal(noting.await)
    }

    /// It is in force for good.
    async fn keep(&self, waiting: Waiting) -> Result<(), Status> {
        let origin = Origin::new(&cell(), self.app.now());
        let ending = self.app.store.mutate(origin, move |tx| {
            table::end(tx)?;
            tx.audit("network.confirm", &waiting.subject, "netd has it for good");
            if !waiting.action.is_of_peer() {
                tx.network(NetworkChange::All);
            }
            tx.effects.topics.insert(Topic::Status);
            Ok(())
        });
        internal(ending.await)
    }
}

/// Who acts where nobody asked.
fn cell() -> Actor {
    Actor {
        name: "cell".to_owned(),
        role: None,
        remote: "-".to_owned(),
    }
}

fn sent(pending: wire::PendingChange) -> Sent {
    let wire::PendingChange {
        etag,
        previous_etag,
        deadline_unix_ms,
    } = pending;
    Sent {
        etag,
        previous_etag,
        deadline_unix_ms,
    }
}

fn reason(rollback: Option<wire::NetworkRollback>) -> &'static str {
    match rollback.map(|rollback| rollback.reason()) {
        Some(wire::RollbackReason::Expired) => "nobody confirmed it in time",
        Some(wire::RollbackReason::Requested) => "asked for",
        Some(wire::RollbackReason::Restarted) => "netd started anew before it was confirmed",
        Some(wire::RollbackReason::Failed) => "the kernel refused it",
        Some(wire::RollbackReason::Unspecified) | None => "netd does not have it",
    }
}

fn internal<T>(outcome: Result<T, ServiceError>) -> Result<T, Status> {
    outcome.map_err(|error| Status::internal(error.to_string()))
}
