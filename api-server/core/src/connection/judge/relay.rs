//! What `cell-egress` saw of an exit, and what it says of it.

use super::{Judged, Proof, judged, recent};
use crate::connection::health::Health;

/// How long a connection that came through, or did not, says something of the next, milliseconds.
const RELAYED_MS: i64 = 300_000;
/// What to do where Tor is not there.
const INSTALL_TOR: &str = "; Tor runs where its program is installed: apt install tor";

/// What went through the relay of an exit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Whether connections are taken.
    pub listening: bool,
    /// When the last came through, milliseconds since 1970-01-01T00:00:00Z; `None`: never.
    pub success_unix_ms: Option<i64>,
    /// When the last did not.
    pub failure_unix_ms: Option<i64>,
    /// Why, as `cell-egress` codes it (`proto/cell/egress/v1/egress_service.proto`).
    pub failure_reason: String,
    /// The same for people.
    pub failure_detail: String,
    /// What `cell-egress` found at its server last; `None`: it did not look. It looks at Tor's SOCKS port alone.
    pub probe: Option<Probe>,
}

/// A look at a server: whether it speaks its protocol. It says nothing of what goes through it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// When, milliseconds since 1970-01-01T00:00:00Z.
    pub at_unix_ms: i64,
    /// Why it does not, coded as [`Relayed::failure_reason`]; empty: it does.
    pub failure_reason: String,
    /// The same for people.
    pub failure_detail: String,
}

impl Relayed {
    /// The same of an exit of type `tor`, whose server is a program of the cell's own machine: what to do where it is not there.
    #[must_use]
    pub fn of_tor(mut self) -> Self {
        if self.failure_reason == "CONNECT_FAILED" {
            self.failure_detail.push_str(INSTALL_TOR);
        }
        self
    }
}

/// Judges it, as of `now` (milliseconds since 1970-01-01T00:00:00Z).
pub(super) fn relay(relayed: &Relayed, proof: &Proof, now: i64) -> Judged {
    let judged = carried(relayed, proof, now);
    let is_young = |probe: &&Probe| recent(Some(probe.at_unix_ms), now).is_some();
    match relayed.probe.as_ref().filter(is_young) {
        Some(probe) if relayed.listening => probed(probe, relayed, judged, now),
        Some(_) | None => judged,
    }
}

/// With what was found at Tor's port in the last minute. That it speaks proves nothing of what goes through it; that it does not is
/// the cause of all else.
fn probed(probe: &Probe, relayed: &Relayed, by_connections: Judged, now: i64) -> Judged {
    let at = probe.at_unix_ms;
    let is_outdated = |seen: Option<i64>| seen.is_none_or(|seen| seen < at);
    if !probe.failure_reason.is_empty() {
        // One that is slow once says nothing where something came through within the minute: whoever is bound to it would go out
        // directly. Where nobody listens, or something else does, nothing comes through.
        let is_slow = probe.failure_reason.ends_with("_TIMEOUT");
        let seen = by_connections.seen_unix_ms;
        let is_fresh = recent(seen, now).is_some();
        let counts = !is_outdated(seen) || (is_slow && is_fresh);
        return if by_connections.health == Health::Working && counts {
            by_connections
        } else {
            judged(Health::Down, Some(at), no_tor(probe))
        };
    }
    let was_away = relayed.failure_reason.starts_with("CONNECT_") && is_outdated(relayed.failure_unix_ms);
    match by_connections.health {
        Health::Working => by_connections,
        Health::Down if !was_away => Judged {
            detail: format!(
                "Tor answers at its port, but does not get through: {}",
                by_connections.detail
            ),
            ..by_connections
        },
        Health::Down | Health::Unknown => judged(
            Health::Unknown,
            Some(at),
            "Tor answers at its port, and nothing has gone through it of late: it may still be starting",
        ),
    }
}

/// Why Tor's port is none.
fn no_tor(probe: &Probe) -> String {
    let Probe {
        failure_reason,
        failure_detail,
        ..
    } = probe;
    match &**failure_reason {
        "CONNECT_FAILED" => format!("Tor does not run: {failure_detail}{INSTALL_TOR} ({failure_reason})"),
        "CONNECT_TIMEOUT" => format!("Tor does not answer: {failure_detail} ({failure_reason})"),
        "CREDENTIALS" => format!("Tor's port wants a login: {failure_detail} ({failure_reason})"),
        _ => format!("what answers at Tor's port does not speak SOCKS: {failure_detail} ({failure_reason})"),
    }
}

/// By what went through it, and what did not.
fn carried(relayed: &Relayed, proof: &Proof, now: i64) -> Judged {
    let Relayed {
        listening,
        success_unix_ms,
        failure_unix_ms,
        failure_reason,
        failure_detail,
        probe: _,
    } = relayed;
    let why = || format!("{failure_detail} ({failure_reason})");
    if !listening {
        return judged(
            Health::Down,
            *failure_unix_ms,
            format!("its port is not open: {}", why()),
        );
    }
    let is_recent = |at: &i64| now.saturating_sub(*at) < RELAYED_MS;
    let failed = failure_unix_ms.filter(|at| is_recent(at) && is_servers(failure_reason));
    let passed = success_unix_ms.filter(is_recent).max(proof.passed(now));
    if let Some(failed) = failed.filter(|failed| passed.is_none_or(|passed| passed <= *failed)) {
        return judged(Health::Down, Some(failed), why());
    }
    // What came through within the minute weighs more than its own questions that were lost: their resolver may be away.
    if let (Some(failed), None) = (proof.failed(now), recent(*success_unix_ms, now)) {
        let why = format!("requests through it are not answered: {}", proof.failure_detail);
        return judged(Health::Down, Some(failed), why);
    }
    match passed {
        Some(passed) => judged(Health::Working, Some(passed), "connections come through"),
        None => {
            let at = (*success_unix_ms).max(*failure_unix_ms);
            let mut detail = "nothing has gone through it of late".to_owned();
            if failure_unix_ms.as_ref().is_some_and(is_recent) {
                detail.push_str(&format!(", and a connection was not carried: {}", why()));
            }
            judged(Health::Unknown, at, detail)
        }
    }
}

/// Whether a connection's failure is the exit's server's own, by its code. The rest may be its destination's, which a device chooses:
/// one that opens a connection to where nobody answers would else have the exit called down, and all who fail open for it let out
/// directly. If it is the exit that carries nothing, `cell-egress` finds it by its own questions within a minute. So it does if the
/// vault gives no secret for longer than a restart takes.
fn is_servers(failure_reason: &str) -> bool {
    !matches!(
        failure_reason,
        "REFUSED" | "PAUSED" | "HANDSHAKE_TIMEOUT" | "CLOSED" | "SECRET"
    )
}
