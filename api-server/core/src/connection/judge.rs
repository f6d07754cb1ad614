//! Whether a connection works, from what the daemons saw of it. Nothing is guessed: what nobody saw is unknown.

use super::health::Health;

/// WireGuard's REJECT_AFTER_TIME, milliseconds: a session whose handshake is older carries nothing.
const HANDSHAKE_MS: i64 = 180_000;
/// How long a connection that came through, or did not, says something of the next, milliseconds.
const RELAYED_MS: i64 = 300_000;

/// Why a connection cannot work, whatever is seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// vaultd lacks secrets of it.
    Secrets,
    /// Nothing carries its type yet.
    Type,
    /// Its server is a DNS name, and nothing resolves it yet.
    Name,
    /// The policy file names no `cell-egress`.
    NoEgress,
    /// netd does not take it, with its words.
    NetdRefuses(String),
    /// `cell-egress` does not take it, with its words.
    EgressRefuses(String),
}

/// What was seen of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: the daemon that carries it says nothing of it.
    Nothing,
    /// Nothing: the daemon of this name does not answer.
    Away(&'static str),
    /// Its tunnel, by netd.
    Tunnel {
        /// Milliseconds since 1970-01-01T00:00:00Z; `None`: never.
        handshake_unix_ms: Option<i64>,
        /// Whether the cell speaks without being asked, so that silence means something.
        keeps_alive: bool,
    },
    /// Its relay, by `cell-egress`.
    Relay(Relayed),
}

/// See [`Seen`].
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
}

/// A judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Whether it works.
    pub health: Health,
    /// When that was seen, milliseconds since 1970-01-01T00:00:00Z; `None`: it was not.
    pub seen_unix_ms: Option<i64>,
    /// Why that is thought, for people. Never holds a secret.
    pub detail: String,
}

/// Judges, as of `now` (milliseconds since 1970-01-01T00:00:00Z).
pub fn judge(obstacle: Option<&Obstacle>, seen: &Seen, now: i64) -> Judged {
    if let Some(obstacle) = obstacle {
        return judged(Health::Down, None, obstacle.to_string());
    }
    match seen {
        Seen::Nothing => judged(Health::Unknown, None, "nothing has been seen of it yet"),
        Seen::Away(daemon) => judged(Health::Unknown, None, format!("{daemon} does not answer")),
        Seen::Tunnel {
            handshake_unix_ms,
            keeps_alive,
        } => tunnel(*handshake_unix_ms, *keeps_alive, now),
        Seen::Relay(relayed) => relay(relayed, now),
    }
}

fn tunnel(handshake: Option<i64>, keeps_alive: bool, now: i64) -> Judged {
    let Some(at) = handshake else {
        return judged(Health::Unknown, None, "its server has not answered yet");
    };
    if now.saturating_sub(at) < HANDSHAKE_MS {
        return judged(Health::Working, Some(at), "its server answers");
    }
    if keeps_alive {
        return judged(Health::Down, Some(at), "its server has stopped answering");
    }
    // Without keepalive an idle tunnel and a dead one look the same.
    judged(Health::Unknown, Some(at), "nothing has gone through it of late")
}

fn relay(relayed: &Relayed, now: i64) -> Judged {
    let Relayed {
        listening,
        success_unix_ms,
        failure_unix_ms,
        failure_reason,
        failure_detail,
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
    // Who is refused a destination has spoken with the server.
    let blames_exit = !matches!(&**failure_reason, "REFUSED" | "PAUSED");
    let failed = failure_unix_ms.filter(|at| is_recent(at) && blames_exit);
    let passed = success_unix_ms.filter(is_recent);
    match (passed, failed) {
        (Some(passed), None) => judged(Health::Working, Some(passed), "connections come through"),
        (Some(passed), Some(failed)) if passed > failed => {
            judged(Health::Working, Some(passed), "connections come through")
        }
        (Some(_) | None, Some(failed)) => judged(Health::Down, Some(failed), why()),
        (None, None) => {
            let at = (*success_unix_ms).max(*failure_unix_ms);
            judged(Health::Unknown, at, "nothing has gone through it of late")
        }
    }
}

fn judged(health: Health, seen_unix_ms: Option<i64>, detail: impl Into<String>) -> Judged {
    Judged {
        health,
        seen_unix_ms,
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
            Obstacle::Name => f.write_str(
                "its server is a DNS name, which nothing resolves yet: import it with the server's address",
            ),
            Obstacle::NoEgress => {
                f.write_str("no cell-egress is there to carry it: set egress_socket in the cell's api.toml")
            }
            Obstacle::NetdRefuses(why) => write!(f, "netd does not take it: {why}"),
            Obstacle::EgressRefuses(why) => write!(f, "cell-egress does not take it: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn tunnel_at(ago: Option<i64>, keeps_alive: bool) -> Health {
        let seen = Seen::Tunnel {
            handshake_unix_ms: ago.map(|ago| NOW - ago),
            keeps_alive,
        };
        judge(None, &seen, NOW).health
    }

    fn relay_at(success: Option<i64>, failure: Option<(i64, &str)>) -> Health {
        let seen = Seen::Relay(Relayed {
            listening: true,
            success_unix_ms: success.map(|ago| NOW - ago),
            failure_unix_ms: failure.map(|(ago, _)| NOW - ago),
            failure_reason: failure.map(|(_, reason)| reason.to_owned()).unwrap_or_default(),
            failure_detail: "of the test".to_owned(),
        });
        judge(None, &seen, NOW).health
    }

    #[test]
    fn a_tunnel_works_while_its_handshake_is_young() {
        for keeps_alive in [false, true] {
            assert_eq!(tunnel_at(Some(0), keeps_alive), Health::Working);
            assert_eq!(tunnel_at(Some(179_999), keeps_alive), Health::Working);
            assert_eq!(tunnel_at(None, keeps_alive), Health::Unknown);
        }
        assert_eq!(tunnel_at(Some(180_000), true), Health::Down);
        assert_eq!(tunnel_at(Some(180_000), false), Health::Unknown);
    }

    #[test]
    fn a_relay_is_judged_by_what_came_last() {
        assert_eq!(relay_at(None, None), Health::Unknown);
        assert_eq!(relay_at(Some(10), None), Health::Working);
        assert_eq!(relay_at(Some(10), Some((20, "CLOSED"))), Health::Working);
        assert_eq!(relay_at(Some(20), Some((10, "CLOSED"))), Health::Down);
        assert_eq!(relay_at(None, Some((10, "CONNECT_FAILED"))), Health::Down);
        assert_eq!(relay_at(Some(20), Some((10, "REFUSED"))), Health::Working);
        assert_eq!(
            relay_at(Some(300_000), Some((300_000, "CLOSED"))),
            Health::Unknown
        );
        let deaf = Seen::Relay(Relayed::default());
        assert_eq!(judge(None, &deaf, NOW).health, Health::Down);
    }

    #[test]
    fn an_obstacle_outweighs_what_is_seen() {
        let seen = Seen::Tunnel {
            handshake_unix_ms: Some(NOW),
            keeps_alive: true,
        };
        assert_eq!(judge(None, &seen, NOW).health, Health::Working);
        let all = [
            Obstacle::Secrets,
            Obstacle::Type,
            Obstacle::Name,
            Obstacle::NoEgress,
            Obstacle::NetdRefuses("no".to_owned()),
            Obstacle::EgressRefuses("no".to_owned()),
        ];
        for obstacle in all {
            let judged = judge(Some(&obstacle), &seen, NOW);
            assert_eq!(judged.health, Health::Down, "{obstacle:?}");
            assert!(!judged.detail.is_empty());
        }
        for nothing in [Seen::Nothing, Seen::Away("netd")] {
            assert_eq!(judge(None, &nothing, NOW).health, Health::Unknown);
        }
    }
}
