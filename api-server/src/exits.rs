//! What is known of connections at this moment: whether each works, since when, and why that is thought. It is kept
//! nowhere else: after a start nothing is known, and so nothing is taken for working.

mod names;
mod openvpn;
mod watch;

pub(crate) use openvpn::Openvpn;
pub use watch::{now, watch};

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use cell_api_core::connection::health::Health;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::judge::{Judged, Proof, Relayed, Silence};
use cell_api_core::connection::names::Names;
use cell_api_core::connection::steady::Trust;
use tokio::sync::{Notify, watch as watch_channel};

/// How long the first look at connections is waited for, at the most.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// What is known of all connections.
#[derive(Debug, Default)]
pub struct Exits {
    state: RwLock<State>,
    /// Whether they were looked at since the start.
    looked: watch_channel::Sender<bool>,
    /// Told when they must be judged anew.
    pub(crate) look: Notify,
}

#[derive(Debug, Default)]
struct State {
    judged: BTreeMap<ConnectionId, Judged>,
    /// How far each is relied on.
    trust: BTreeMap<ConnectionId, Trust>,
    /// What became of the handshakes that tunnels asked for.
    silence: BTreeMap<ConnectionId, Silence>,
    /// By id, with netd's words.
    refused_by_netd: BTreeMap<String, String>,
    egress: Egress,
    openvpn: Openvpn,
    names: Arc<Names>,
}

/// What `cell-egress` was told and says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Egress {
    /// Whether it answers.
    pub reachable: bool,
    /// Exits that it does not take, with its words.
    pub refused: BTreeMap<ConnectionId, String>,
    /// What it saw of the others.
    pub seen: BTreeMap<ConnectionId, Relayed>,
    /// What became of its own questions through exits of all types.
    pub proofs: BTreeMap<ConnectionId, Proof>,
}

/// A connection whose health is another than at the last look, or that is relied on again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turned {
    /// Which.
    pub id: ConnectionId,
    /// What was seen of it before.
    pub was: Health,
    /// What is seen of it now.
    pub is: Health,
    /// Whether peers may have to go another way.
    pub reroutes: bool,
}

impl Exits {
    /// What the way of peers goes by: whether a connection works, and has for long enough if it failed before.
    pub fn health(&self, id: &ConnectionId) -> Health {
        self.read().relied_on(id)
    }

    /// What is seen of a connection, however long it has been so.
    pub fn seen(&self, id: &ConnectionId) -> Health {
        self.read().seen(id)
    }

    /// What is thought of a connection; `None` before it was judged.
    pub fn judged(&self, id: &ConnectionId) -> Option<Judged> {
        self.read().judged.get(id).cloned()
    }

    /// Takes new judgements, made at `now`, in the place of all before; the connections of which something turned.
    pub(crate) fn judge(&self, new: BTreeMap<ConnectionId, Judged>, now: i64) -> Vec<Turned> {
        let mut state = self.write();
        let before: BTreeMap<ConnectionId, (Health, Health)> = new
            .keys()
            .map(|id| (*id, (state.seen(id), state.relied_on(id))))
            .collect();
        let trust = |(id, judged): (&ConnectionId, &Judged)| {
            let trust = state.trust.get(id).copied().unwrap_or_default();
            (*id, trust.after(judged.health, now))
        };
        state.trust = new.iter().map(trust).collect();
        state.judged = new;
        let turned = before.into_iter().map(|(id, (was, relied_on))| Turned {
            id,
            was,
            is: state.seen(&id),
            reroutes: relied_on != state.relied_on(&id),
        });
        turned
            .filter(|turned| turned.was != turned.is || turned.reroutes)
            .collect()
    }

    /// Takes another look at a tunnel: when its latest handshake was, and how many bytes it sent in all.
    pub(crate) fn listen(&self, id: ConnectionId, handshake_unix_ms: Option<i64>, sent_bytes: u64, now: i64) {
        let mut state = self.write();
        let silence = state.silence.entry(id).or_default();
        *silence = silence.after(handshake_unix_ms, sent_bytes, now);
    }

    /// Forgets the tunnels that are none of `tunnels`.
    pub(crate) fn listen_to_none_but(&self, tunnels: impl Fn(&ConnectionId) -> bool) {
        self.write().silence.retain(|id, _| tunnels(id));
    }

    /// Whether a tunnel asked for a handshake and got none.
    pub(crate) fn is_unanswered(&self, id: &ConnectionId) -> bool {
        self.read().silence.get(id).is_some_and(Silence::unanswered)
    }

    /// Waits until connections were looked at once, so that a start does not send those who fail open another way while
    /// their exits work; not for ever, since a revocation may wait behind it.
    pub(crate) async fn looked_at(&self) {
        let mut looked = self.looked.subscribe();
        let _ = tokio::time::timeout(FIRST_LOOK, looked.wait_for(|looked| *looked)).await;
    }

    /// They were looked at.
    pub(crate) fn note_look(&self) {
        self.looked.send_replace(true);
    }

    /// What netd does not take.
    pub(crate) fn refused_by_netd(&self, refused: &BTreeMap<String, String>) {
        let mut state = self.write();
        if state.refused_by_netd != *refused {
            state.refused_by_netd.clone_from(refused);
            self.look.notify_one();
        }
    }

    /// Why netd does not take a connection, if it does not.
    pub(crate) fn netd_refuses(&self, id: &ConnectionId) -> Option<String> {
        self.read().refused_by_netd.get(&id.to_string()).cloned()
    }

    /// What names of servers lead to.
    pub(crate) fn names(&self) -> Arc<Names> {
        Arc::clone(&self.read().names)
    }

    /// They lead elsewhere now, or nobody knows.
    pub(crate) fn learn(&self, names: Names) {
        self.write().names = Arc::new(names);
    }

    /// What `cell-egress` says.
    pub(crate) fn see_egress(&self, egress: Egress) {
        self.write().egress = egress;
    }

    /// What `cell-egress` said last.
    pub(crate) fn egress(&self) -> Egress {
        self.read().egress.clone()
    }

    /// What `cell-openvpn` says.
    pub(crate) fn see_openvpn(&self, openvpn: Openvpn) {
        self.write().openvpn = openvpn;
    }

    /// What `cell-openvpn` said last.
    pub(crate) fn openvpn(&self) -> Openvpn {
        self.read().openvpn.clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn seen(&self, id: &ConnectionId) -> Health {
        self.judged
            .get(id)
            .map_or(Health::Unknown, |judged| judged.health)
    }

    fn relied_on(&self, id: &ConnectionId) -> Health {
        let trust = self.trust.get(id).copied().unwrap_or_default();
        trust.health(self.seen(id))
    }
}
