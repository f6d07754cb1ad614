//! Whether a connection works, from what the daemons saw of it. Nothing is guessed: what nobody saw is unknown.

mod relay;

pub use relay::{Probe, Relayed};

use super::driven::{Doing, Driven};
use super::health::Health;

/// WireGuard's REJECT_AFTER_TIME, milliseconds: a session whose handshake is older carries nothing.
pub const HANDSHAKE_MS: i64 = 180_000;
/// `cell-egress` asks through each exit every 20 s or so. One lost question says nothing; a minute without an answer does.
const PROOF_MS: i64 = 60_000;
/// How many questions are lost in such a minute at least. A machine that runs short of descriptors asks none: so a minute may go by
/// without an answer though only one was lost.
const LOST: u32 = 2;

/// Why a connection cannot work, whatever is seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// vaultd lacks secrets of it.
    Secrets,
    /// Nothing carries its type yet.
    Type,
    /// Its server is a DNS name, of which no address is known; why.
    Name(String),
    /// The policy file names no `cell-egress`.
    NoEgress,
    /// The policy file names no `cell-openvpn`.
    NoOpenvpn,
    /// netd does not take it, with its words.
    NetdRefuses(String),
    /// `cell-egress` does not take it, with its words.
    EgressRefuses(String),
    /// `cell-openvpn` does not take it, with its words.
    OpenvpnRefuses(String),
}

/// What was seen of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: the daemon that carries it says nothing of it.
    Nothing,
    /// Nothing: the daemon of this name does not answer.
    Away(&'static str),
    /// Its tunnel is not there, with netd's words.
    NoTunnel(String),
    /// Its tunnel, by netd.
    Tunnel {
        /// Milliseconds since 1970-01-01T00:00:00Z; `None`: never.
        handshake_unix_ms: Option<i64>,
        /// Whether the cell speaks without being asked, so that silence means something.
        keeps_alive: bool,
        /// Whether the cell asked for a handshake and got none ([`Silence`]).
        unanswered: bool,
    },
    /// Its relay, by `cell-egress`.
    Relay(Relayed),
    /// Its program, by `cell-openvpn`; netd has made its interface.
    Program(Driven),
}

/// What became of the questions that `cell-egress` asks through a connection by itself: real requests, out and back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// When the last was answered, milliseconds since 1970-01-01T00:00:00Z; `None`: never.
    pub success_unix_ms: Option<i64>,
    /// When the last was not.
    pub failure_unix_ms: Option<i64>,
    /// Why, for people.
    pub failure_detail: String,
    /// How many were not since one was.
    pub lost: u32,
    /// The same of questions by the connection's mark, as packets of devices go; `None`: none were asked.
    pub marked: Option<Marked>,
}

/// What became of questions by a connection's mark, rule and table, and not by its interface alone (ADR 0042).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marked {
    /// When the last was answered, milliseconds since 1970-01-01T00:00:00Z; `None`: never.
    pub success_unix_ms: Option<i64>,
    /// When the last was not.
    pub failure_unix_ms: Option<i64>,
    /// Why, for people.
    pub failure_detail: String,
    /// How many were not since one was.
    pub lost: u32,
}

impl Proof {
    /// When the last came back, while that says something.
    fn passed(&self, now: i64) -> Option<i64> {
        recent(self.success_unix_ms, now)
    }

    /// When the last did not come back, where none has for a minute.
    fn failed(&self, now: i64) -> Option<i64> {
        unanswered(self.success_unix_ms, self.failure_unix_ms, self.lost, now)
    }
}

impl Marked {
    /// When the last did not come back, where none has for a minute.
    fn failed(&self, now: i64) -> Option<i64> {
        unanswered(self.success_unix_ms, self.failure_unix_ms, self.lost, now)
    }
}

/// When the last question was lost, where none was answered for a minute, or none yet. One alone says nothing.
fn unanswered(success: Option<i64>, failure: Option<i64>, lost: u32, now: i64) -> Option<i64> {
    recent(failure, now).filter(|_| lost >= LOST && recent(success, now).is_none())
}

/// While what became of a question says something of the next.
fn recent(at: Option<i64>, now: i64) -> Option<i64> {
    at.filter(|at| now.saturating_sub(*at) < PROOF_MS)
}

/// Tells an idle tunnel from a dead one. Once a session is too old to carry anything, all that WireGuard sends is the
/// request for a new handshake, which only a dead server leaves unanswered; an idle tunnel sends nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Silence {
    /// Bytes that were sent when the session was seen to be too old.
    sent_before: Option<u64>,
    unanswered: bool,
}

impl Silence {
    /// After another look: when the latest handshake was (`None`: never), and how many bytes were sent in all.
    #[must_use]
    pub fn after(self, handshake_unix_ms: Option<i64>, sent_bytes: u64, now: i64) -> Self {
        if handshake_unix_ms.is_some_and(|at| now.saturating_sub(at) < HANDSHAKE_MS) {
            return Silence::default();
        }
        match self.sent_before {
            Some(before) if sent_bytes >= before => Silence {
                sent_before: Some(before),
                unanswered: sent_bytes > before,
            },
            // The first look at it, or another tunnel of the same name.
            Some(_) | None => Silence {
                sent_before: Some(sent_bytes),
                unanswered: false,
            },
        }
    }

    /// Whether a handshake was asked for and did not come.
    pub fn unanswered(&self) -> bool {
        self.unanswered
    }
}

/// A judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Whether it works.
    pub health: Health,
    /// When that was seen, milliseconds since 1970-01-01T00:00:00Z; `None`: it was not.
    pub seen_unix_ms: Option<i64>,
    /// When something last came back through it, milliseconds since 1970-01-01T00:00:00Z; `None`: never. Of a tunnel whose mark is
    /// asked by, that alone; else whatever it was.
    pub proven_unix_ms: Option<i64>,
    /// Why that is thought, for people. Never holds a secret.
    pub detail: String,
}

/// Judges, as of `now` (milliseconds since 1970-01-01T00:00:00Z).
pub fn judge(obstacle: Option<&Obstacle>, seen: &Seen, proof: &Proof, now: i64) -> Judged {
    let by_itself = match seen {
        Seen::Nothing | Seen::Away(_) | Seen::NoTunnel(_) => None,
        // When a session was made; that it is still there is no proof by itself.
        Seen::Program(driven) => (driven.doing == Doing::Connected).then_some(driven.since_unix_ms),
        Seen::Tunnel {
            handshake_unix_ms, ..
        } => *handshake_unix_ms,
        Seen::Relay(relayed) => relayed.success_unix_ms,
    };
    let judged = match (obstacle, seen) {
        (Some(obstacle), _) => judged(Health::Down, None, obstacle.to_string()),
        (None, Seen::Nothing) => judged(Health::Unknown, None, "nothing has been seen of it yet"),
        (None, Seen::Away(daemon)) => judged(Health::Unknown, None, format!("{daemon} does not answer")),
        (None, Seen::NoTunnel(why)) => judged(Health::Down, None, format!("it has no tunnel: {why}")),
        (
            None,
            Seen::Tunnel {
                handshake_unix_ms,
                keeps_alive,
                unanswered,
            },
        ) => {
            let speaks = *keeps_alive || *unanswered;
            by_mark(tunnel(*handshake_unix_ms, speaks, proof, now), proof, now)
        }
        (None, Seen::Relay(relayed)) => relay::relay(relayed, proof, now),
        (None, Seen::Program(driven)) => by_mark(program(driven, proof, now), proof, now),
    };
    let proven_unix_ms = match (&proof.marked, seen) {
        // Of a way that leads devices elsewhere, neither a handshake nor an answer by the interface proves anything.
        (Some(marked), Seen::Tunnel { .. } | Seen::Program(_)) => marked.success_unix_ms,
        _ => by_itself.max(proof.success_unix_ms),
    };
    Judged {
        proven_unix_ms,
        ..judged
    }
}

/// What devices send is led by the mark: where that does not lead through the connection, the rest of it is of no use to them.
fn by_mark(of_itself: Judged, proof: &Proof, now: i64) -> Judged {
    let marked = proof.marked.as_ref();
    let failed = marked.and_then(|marked| Some((marked.failed(now)?, &marked.failure_detail)));
    match failed {
        Some((failed, why)) if of_itself.health != Health::Down => judged(
            Health::Down,
            Some(failed),
            format!("the exit answers, but not by its mark: {why}"),
        ),
        Some(_) | None => of_itself,
    }
}

/// `speaks`: whether silence of the server means something.
fn tunnel(handshake: Option<i64>, speaks: bool, proof: &Proof, now: i64) -> Judged {
    if let Some(at) = proof.passed(now) {
        return judged(Health::Working, Some(at), "requests through it are answered");
    }
    let failed = proof.failed(now);
    let Some(at) = handshake else {
        if speaks && failed.is_some() {
            return judged(Health::Down, failed, "its server does not answer");
        }
        return judged(Health::Unknown, None, "its server has not answered yet");
    };
    let is_young = now.saturating_sub(at) < HANDSHAKE_MS;
    match failed {
        Some(failed) if is_young => judged(
            Health::Down,
            Some(failed),
            format!(
                "its server answers, but requests through it are not answered: {}",
                proof.failure_detail
            ),
        ),
        None if is_young => judged(Health::Working, Some(at), "its server answers"),
        Some(_) => judged(Health::Down, Some(at), "its server has stopped answering"),
        None if speaks => judged(Health::Down, Some(at), "its server has stopped answering"),
        // Nothing was sent, so nothing could come back.
        None => judged(Health::Unknown, Some(at), "nothing has gone through it of late"),
    }
}

/// OpenVPN keeps its sessions alive by itself, and gives them up when nobody answers: so one that there is works, unless requests
/// through it say otherwise.
fn program(driven: &Driven, proof: &Proof, now: i64) -> Judged {
    match driven.doing {
        Doing::Connected => match proof.failed(now) {
            // Of a session that there was not yet.
            Some(failed) if failed > driven.since_unix_ms => judged(
                Health::Down,
                Some(failed),
                format!(
                    "its server answers, but requests through it are not answered: {}",
                    proof.failure_detail
                ),
            ),
            Some(_) | None => {
                let at = Some(driven.since_unix_ms).max(proof.passed(now));
                judged(Health::Working, at, "it has a session with its server")
            }
        },
        Doing::Connecting | Doing::Waiting if !driven.reason.is_empty() => judged(
            Health::Down,
            Some(driven.since_unix_ms),
            format!("{} ({})", driven.detail, driven.reason),
        ),
        Doing::Connecting | Doing::Waiting => {
            judged(Health::Unknown, None, "it has no session with its server yet")
        }
    }
}

fn judged(health: Health, seen_unix_ms: Option<i64>, detail: impl Into<String>) -> Judged {
    Judged {
        health,
        seen_unix_ms,
        proven_unix_ms: None,
        detail: detail.into(),
    }
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Obstacle::Secrets => f.write_str(
                "its secrets at the vault are missing or belong to another import: import it again",
            ),
            Obstacle::Type => f.write_str("nothing carries connections of this type yet"),
            Obstacle::Name(why) => write!(f, "its server's DNS name is not resolved: {why}"),
            Obstacle::NoEgress => {
                f.write_str("no cell-egress is there to carry it: set egress_socket in the cell's api.toml")
            }
            Obstacle::NoOpenvpn => {
                f.write_str("no cell-openvpn is there to carry it: set openvpn_socket in the cell's api.toml")
            }
            Obstacle::OpenvpnRefuses(why) => write!(f, "cell-openvpn does not take it: {why}"),
            Obstacle::NetdRefuses(why) => write!(f, "netd does not take it: {why}"),
            Obstacle::EgressRefuses(why) => write!(f, "cell-egress does not take it: {why}"),
        }
    }
}

#[cfg(test)]
mod tests;
