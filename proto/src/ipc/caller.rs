//! Who is calling: SO_PEERCRED always, and the systemd unit where the kernel can tell it.
//!
//! The decision is pure ([`CallerPolicy::judge`]); reading the credentials is one function. What cannot be read is
//! refused. See unix(7) and, for the unit, `PIDFD_GET_INFO` (Linux 6.13, include/uapi/linux/pidfd.h).

use std::fmt;
use std::os::fd::AsFd;

use cell_sandbox::UnitCgroup;
use serde::Deserialize;
use tokio::net::UnixStream;

/// Who may use one listener. Comes from the daemon's root-owned policy file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerPolicy {
    /// The user ids that may call.
    pub uids: Vec<u32>,
    /// The systemd unit that the caller must run in, e.g. `cell-api.service`. Checked where the machine can tell; elsewhere
    /// the uid alone decides. A unit that does not run has no callers.
    #[serde(default)]
    pub unit: Option<String>,
}

/// What the kernel says of the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Effective user id at connect(2).
    pub uid: u32,
    /// Process id at connect(2); for the log only.
    pub pid: Option<i32>,
    /// The cgroup that the process is in, where the kernel can tell.
    pub cgroup: Option<u64>,
}

/// A caller that the policy knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its user id.
    pub uid: u32,
    /// Its process id, for the log.
    pub pid: Option<i32>,
    /// Whether its unit was checked too.
    pub unit_checked: bool,
}

/// Why a caller is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The kernel gave no credentials.
    NoCredentials,
    /// A user that this listener is not for.
    UnknownUser(u32),
    /// The right user in another unit.
    WrongUnit {
        /// The unit that was expected.
        expected: String,
    },
}

impl Refusal {
    /// Stable code for logs and answers.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::NoCredentials => "CALLER_NO_CREDENTIALS",
            Refusal::UnknownUser(_) => "CALLER_UNKNOWN_USER",
            Refusal::WrongUnit { .. } => "CALLER_WRONG_UNIT",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoCredentials => f.write_str("the kernel gave no credentials for the caller"),
            Refusal::UnknownUser(uid) => write!(f, "user {uid} may not use this socket"),
            Refusal::WrongUnit { expected } => write!(f, "the caller does not run in {expected}"),
        }
    }
}

impl CallerPolicy {
    /// Decides on a caller. `unit_cgroup` is what is known of the expected unit's cgroup; nobody looks at it where no unit
    /// is expected.
    pub fn judge(&self, peer: Option<Credentials>, unit_cgroup: UnitCgroup) -> Result<Caller, Refusal> {
        let peer = peer.ok_or(Refusal::NoCredentials)?;
        if !self.uids.contains(&peer.uid) {
            return Err(Refusal::UnknownUser(peer.uid));
        }
        let unit_checked = match (&self.unit, peer.cgroup, unit_cgroup) {
            (None, _, _) | (Some(_), None, _) | (Some(_), Some(_), UnitCgroup::Untold) => false,
            (Some(_), Some(cgroup), UnitCgroup::Runs(wanted)) if cgroup == wanted => true,
            (Some(expected), Some(_), UnitCgroup::Runs(_) | UnitCgroup::Absent) => {
                return Err(Refusal::WrongUnit {
                    expected: expected.clone(),
                });
            }
        };
        Ok(Caller {
            uid: peer.uid,
            pid: peer.pid,
            unit_checked,
        })
    }

    /// Reads the credentials of `stream` and decides.
    pub fn identify(&self, stream: &UnixStream) -> Result<Caller, Refusal> {
        let unit_cgroup = self
            .unit
            .as_deref()
            .map_or(UnitCgroup::Untold, cell_sandbox::unit_cgroup);
        self.judge(credentials(stream, self.unit.is_some()), unit_cgroup)
    }
}

/// What the kernel says of the other end. A cgroup that the kernel could tell and does not (the caller has ended) is as
/// good as no credentials: else who connects and ends would pass unchecked. Where no unit is expected nobody asks for it: of a process
/// in another container the kernel does not tell, and there are no units there.
fn credentials(stream: &UnixStream, is_unit_expected: bool) -> Option<Credentials> {
    let cred = stream.peer_cred().ok()?;
    let cgroup = if is_unit_expected {
        cell_sandbox::peer_cgroup(stream.as_fd()).ok()?
    } else {
        None
    };
    Some(Credentials {
        uid: cred.uid(),
        pid: cred.pid(),
        cgroup,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(unit: Option<&str>) -> CallerPolicy {
        CallerPolicy {
            uids: vec![990],
            unit: unit.map(str::to_owned),
        }
    }

    fn peer(uid: u32, cgroup: Option<u64>) -> Option<Credentials> {
        Some(Credentials {
            uid,
            pid: Some(7),
            cgroup,
        })
    }

    #[test]
    fn absent_credentials_are_refused() {
        assert_eq!(
            policy(None).judge(None, UnitCgroup::Untold),
            Err(Refusal::NoCredentials)
        );
    }

    #[test]
    fn a_foreign_user_is_refused_root_included() {
        for uid in [0, 1, 65534] {
            assert_eq!(
                policy(None).judge(peer(uid, None), UnitCgroup::Untold),
                Err(Refusal::UnknownUser(uid))
            );
        }
    }

    #[test]
    fn the_right_user_in_another_unit_is_refused_and_so_is_one_for_a_unit_that_does_not_run() {
        let expected = "cell-api.service".to_owned();
        for unit in [UnitCgroup::Runs(5), UnitCgroup::Absent] {
            assert_eq!(
                policy(Some(&expected)).judge(peer(990, Some(4)), unit),
                Err(Refusal::WrongUnit {
                    expected: expected.clone()
                }),
                "{unit:?}"
            );
        }
    }

    #[test]
    fn the_unit_counts_only_where_it_can_be_told() {
        let checked =
            |p: Option<&str>, cgroup, unit| policy(p).judge(peer(990, cgroup), unit).map(|c| c.unit_checked);
        assert_eq!(checked(Some("u"), Some(5), UnitCgroup::Runs(5)), Ok(true));
        for unit in [UnitCgroup::Runs(5), UnitCgroup::Absent, UnitCgroup::Untold] {
            assert_eq!(
                checked(Some("u"), None, unit),
                Ok(false),
                "a kernel that cannot tell"
            );
            assert_eq!(checked(None, Some(5), unit), Ok(false), "nothing is expected");
        }
        assert_eq!(
            checked(Some("u"), Some(5), UnitCgroup::Untold),
            Ok(false),
            "a machine whose units have no cgroup that the kernel would tell"
        );
    }
}
