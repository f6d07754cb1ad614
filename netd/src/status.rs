//! What netd says of itself, and since when.

use std::collections::BTreeMap;

use cell_netd_core::confirm::{Pending, Rollback};
use cell_netd_core::model::{ExitId, PublicKey};
use cell_netd_core::policy::Counter;

use crate::clock;
use crate::kernel::nft::{Drops, Ownership};
use crate::kernel::wireguard::PeerStatistics;
use crate::kernel::{Glance, Passage};

/// Whether an aspect holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// It does.
    True,
    /// It does not.
    False,
    /// It could not be found out.
    Unknown,
}

/// One aspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whether it holds.
    pub holds: Holds,
    /// Why, for programs.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
    /// Since when `holds` is what it is; milliseconds since 1970.
    pub since_unix_ms: i64,
}

/// The whole status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Counts accepted specs.
    pub generation: u64,
    /// The one that the kernel was last seen to match.
    pub observed_generation: u64,
    /// Token of the accepted spec; empty before the first.
    pub etag: String,
    /// "kernel" or "userspace"; empty before the first interface.
    pub backend: &'static str,
    /// The cell's own public key.
    pub public_key: Option<PublicKey>,
    /// Peers of the accepted spec.
    pub peer_count: usize,
    /// By type.
    pub conditions: BTreeMap<&'static str, Condition>,
    /// How often drift was repaired.
    pub drift_repairs: u64,
    /// What the policy dropped.
    pub drops: BTreeMap<Counter, Drops>,
    /// The exits' tunnels.
    pub exits: BTreeMap<ExitId, ExitHealth>,
    /// The change that waits for its confirmation.
    pub pending: Option<Pending>,
    /// The last rollback.
    pub last_rollback: Option<Rollback>,
}

/// Whether the tunnel of an exit is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitState {
    /// It is.
    Ready,
    /// vaultd does not give a key of it.
    NoKey,
    /// Another program has the interface.
    Foreign,
    /// The machine refused.
    Failed,
}

/// How the tunnel of an exit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitHealth {
    /// Whether it is there.
    pub state: ExitState,
    /// Why not; empty when it is.
    pub detail: String,
    /// Of all of its far ends: the latest handshake, and the sum of traffic.
    pub moving: PeerStatistics,
}

/// Exits that the condition names at most.
const NAMED: usize = 8;

impl Status {
    /// Sets a condition; the time of its last transition is kept while it holds what it held.
    pub fn set(
        &mut self,
        kind: &'static str,
        holds: Holds,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let kept = self.conditions.get(kind).filter(|before| before.holds == holds);
        let since_unix_ms = kept.map_or_else(clock::unix_ms, |before| before.since_unix_ms);
        self.conditions.insert(
            kind,
            Condition {
                holds,
                reason,
                message: message.into(),
                since_unix_ms,
            },
        );
    }

    /// What the glance says of ownership.
    pub fn set_ownership(&mut self, glance: Option<&Glance>) {
        let (holds, reason, message) = match glance.map(|glance| glance.table) {
            Some(Ownership::Owned) => (Holds::True, "OWNED", "no other program can change the table"),
            Some(Ownership::Unowned) => (
                Holds::False,
                "NOT_OWNED",
                "this kernel has no persistent table owners (Linux 6.9): watched and repaired",
            ),
            Some(Ownership::Dormant) => (
                Holds::False,
                "DORMANT",
                "another program switched the table off: it is replaced",
            ),
            Some(Ownership::Foreign) => (
                Holds::False,
                "FOREIGN",
                "another program made a table of this name",
            ),
            Some(Ownership::Shared) => (
                Holds::False,
                "SHARED",
                "legacy iptables has no owners and gives no word of changes: looked at every 2 s and repaired",
            ),
            Some(Ownership::Absent) => (Holds::False, "NO_TABLE", "there is nothing to protect yet"),
            None => (Holds::Unknown, "NOT_SEEN", "the table could not be looked at"),
        };
        self.set("TableOwned", holds, reason, message);
    }

    /// What the policy is rendered for.
    pub fn set_renderer(&mut self, renderer: &'static str) {
        let (reason, message) = match renderer {
            "iptables" => (
                "IPTABLES",
                "the policy stands in legacy iptables, with sets of ipset",
            ),
            _ => ("NFTABLES", "the policy stands in a table of nftables"),
        };
        self.set("PolicyRenderer", Holds::True, reason, message);
    }

    /// Whether the device's key is held against vaultd's.
    pub fn set_key(&mut self, own: Option<PublicKey>) {
        let (holds, reason, message) = match own {
            Some(_) => (
                Holds::True,
                "CHECKED",
                "a device with another key than vaultd's is made anew",
            ),
            None => (
                Holds::Unknown,
                "NO_KEY",
                "vaultd has not told the cell's key: see to it that it runs and is not sealed",
            ),
        };
        self.set("KeyChecked", holds, reason, message);
    }

    /// Whether every exit's tunnel is there; of the exits as they are known now.
    pub fn set_exits(&mut self) {
        let amiss: Vec<String> = self
            .exits
            .iter()
            .filter(|(_, health)| health.state != ExitState::Ready)
            .map(|(id, health)| format!("{id} ({})", health.detail))
            .collect();
        let (holds, reason, message) = match (self.exits.len(), amiss.len()) {
            (0, _) => (Holds::True, "NONE", "there are no exits".to_owned()),
            (_, 0) => (
                Holds::True,
                "READY",
                "the tunnels of all exits are there".to_owned(),
            ),
            (_, count) => {
                let mut named = amiss[..count.min(NAMED)].join(", ");
                if count > NAMED {
                    named += &format!(" and {} more", count - NAMED);
                }
                (Holds::False, "NOT_READY", format!("unreachable: {named}"))
            }
        };
        self.set("ExitsReady", holds, reason, message);
    }

    /// What the machine does with packets that are not for it.
    pub fn set_forwarding(&mut self, (v4, v6): (Option<bool>, Option<bool>)) {
        let (holds, reason, message) = match (v4, v6) {
            (Some(true), Some(true)) => (Holds::True, "ENABLED", "IPv4 and IPv6 are forwarded"),
            (Some(true), _) => (
                Holds::False,
                "IPV6_DISABLED",
                "set net.ipv6.conf.all.forwarding=1",
            ),
            (Some(false), Some(true)) => (Holds::False, "IPV4_DISABLED", "set net.ipv4.ip_forward=1"),
            (Some(false), _) => (
                Holds::False,
                "DISABLED",
                "set net.ipv4.ip_forward=1 and net.ipv6.conf.all.forwarding=1",
            ),
            (None, _) => (Holds::Unknown, "NOT_SEEN", "/proc/sys/net could not be read"),
        };
        self.set("ForwardingEnabled", holds, reason, message);
    }

    /// How the way through Docker's FORWARD chain is, and what else drops what is forwarded; none: that was not seen.
    pub fn set_passage(
        &mut self,
        passage: Result<Passage, String>,
        blockers: Option<&[String]>,
        renderer: &'static str,
    ) {
        let unseen = match renderer {
            "iptables" => "",
            _ => LEGACY,
        };
        let (holds, reason, message) = match (passage, blockers) {
            (Err(why), _) => (Holds::False, "REFUSED", why),
            (Ok(_), None) => (
                Holds::Unknown,
                "NOT_SEEN",
                "the chains of other programs could not be read".to_owned(),
            ),
            (Ok(_), Some(blockers)) if !blockers.is_empty() => (
                Holds::False,
                "BLOCKED",
                format!(
                    "peers reach nothing beyond the cell: let packets with the accept mark pass in {}",
                    blockers.join(", ")
                ),
            ),
            (Ok(Passage::NotNeeded), Some(_)) => (
                Holds::True,
                "NOT_NEEDED",
                format!("no other chain drops all that is forwarded{unseen}"),
            ),
            (Ok(Passage::Open), Some(_)) => (
                Holds::True,
                "OPEN",
                format!("our rule stands first in iptables' chain, and no other drops{unseen}"),
            ),
        };
        self.set("DockerPassage", holds, reason, message);
    }
}

/// What netd cannot know: those tables are root's alone to read.
const LEGACY: &str = "; rules of iptables-legacy are not seen";
