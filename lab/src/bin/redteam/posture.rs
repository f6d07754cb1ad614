//! A: whether the running daemons wear what the red team wore. The attempts are made in a process of the red team's own;
//! this shows that the real ones are bound as tightly. What the kernel tells of a process is read from it; of Landlock it
//! tells nothing, so there the daemon's own word in the log counts, which it gives after the kernel has agreed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;

use cell_launch::accounts::Accounts;
use cell_launch::house::{Daemon, Network};
use cell_sandbox::identity::Identity;

use crate::attempt::Outcome;
use crate::target::Target;

/// A running daemon and what its process must look like.
pub struct Posture {
    /// Number of the line.
    pub id: &'static str,
    /// Which.
    pub daemon: Daemon,
}

/// All daemons (docs/runtime.md, Users and Network namespaces).
pub const ALL: [Posture; 6] = [
    posture("A01", Daemon::Api),
    posture("A02", Daemon::Netd),
    posture("A03", Daemon::Broker),
    posture("A04", Daemon::Vaultd),
    posture("A05", Daemon::Wg),
    posture("A06", Daemon::Egress),
];

const fn posture(id: &'static str, daemon: Daemon) -> Posture {
    Posture { id, daemon }
}

/// What the kernel tells of a process.
struct Seen {
    /// proc_pid_status(5).
    status: String,
    /// proc_pid_limits(5).
    limits: String,
    /// The links of its network (proc_net_dev).
    links: String,
    /// Whether its memory may be dumped: /proc/PID/mem is then its user's, else root's.
    dumpable: bool,
}

impl Seen {
    fn of(pid: i32) -> Option<Self> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        Some(Seen {
            status: read("status")?,
            limits: read("limits")?,
            links: read("net/dev")?,
            dumpable: fs::metadata(format!("/proc/{pid}/mem")).ok()?.uid() != 0,
        })
    }
}

impl Posture {
    /// Looks at the process as root, and into what it logged. Open names the first thing that is looser than it must be.
    pub fn look(&self, target: &Target, log: &str) -> (Outcome, String) {
        let name = self.daemon.name();
        let void = |why: &str| (Outcome::Void(format!("{name} {why}")), String::new());
        let Some(pid) = target.pids.get(name) else {
            return void("does not run");
        };
        let Some(seen) = Seen::of(*pid) else {
            return void("has ended");
        };
        let Ok(identity) = Accounts::look_up().and_then(|accounts| accounts.identity(self.daemon)) else {
            return void("has no user");
        };
        match self.looser(&seen, &identity).or_else(|| self.unsaid(log)) {
            Some(what) => (Outcome::Open, what),
            None => (
                Outcome::Closed("as tight as the red team's".to_owned()),
                String::new(),
            ),
        }
    }

    fn looser(&self, seen: &Seen, identity: &Identity) -> Option<String> {
        let status = Status::of(&seen.status);
        let allowed = self
            .daemon
            .capabilities()
            .iter()
            .fold(0, |mask, capability| mask | 1_u64 << capability.index());
        let names = seen
            .links
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim()));
        let others = names.filter(|name| *name != "lo").count();
        let alone = self.daemon.network() == Network::Empty;
        status
            .is("Uid", &[identity.uid; 4])
            .or_else(|| status.is("Gid", &[identity.gid; 4]))
            .or_else(|| status.groups(identity))
            .or_else(|| status.is("NoNewPrivs", &[1]))
            .or_else(|| status.is("Seccomp", &[2]))
            .or_else(|| status.filters())
            .or_else(|| status.within("CapPrm", allowed))
            .or_else(|| status.within("CapEff", allowed))
            .or_else(|| status.within("CapBnd", allowed))
            .or_else(|| status.within("CapInh", 0))
            .or_else(|| status.within("CapAmb", 0))
            .or_else(|| core_limit(&seen.limits))
            .or_else(|| seen.dumpable.then(|| "its memory may be dumped".to_owned()))
            .or_else(|| (alone && others > 0).then(|| format!("it sees {others} network interfaces")))
    }

    /// The last word of the daemon about its sandbox must be that Landlock is in force.
    fn unsaid(&self, log: &str) -> Option<String> {
        let mut own = log.lines().filter(|line| {
            line.split_once(" | ")
                .is_some_and(|(name, _)| name.trim() == self.daemon.name())
        });
        let last = own.rfind(|line| line.contains("sandbox: "));
        match last {
            Some(line) if line.contains("sandbox: Landlock ABI") => None,
            Some(_) => Some("it says that it has no Landlock".to_owned()),
            None => Some("it does not say that it has Landlock".to_owned()),
        }
    }
}

/// The lines of proc_pid_status(5).
struct Status<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Status<'a> {
    fn of(text: &'a str) -> Self {
        Status(text.lines().filter_map(|line| line.split_once(":\t")).collect())
    }

    fn found(&self, key: &str) -> &str {
        self.0.get(key).copied().unwrap_or("absent")
    }

    fn numbers(&self, key: &str) -> Vec<u32> {
        self.found(key)
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect()
    }

    fn is(&self, key: &str, wanted: &[u32]) -> Option<String> {
        (self.numbers(key) != wanted).then(|| format!("{key} is {}", self.found(key)))
    }

    fn within(&self, key: &str, allowed: u64) -> Option<String> {
        let found = u64::from_str_radix(self.found(key), 16).unwrap_or(u64::MAX);
        (found & !allowed != 0).then(|| format!("{key} is {found:x}"))
    }

    /// Exactly the edges that it may call; whether its own group is repeated there does not matter.
    fn groups(&self, identity: &Identity) -> Option<String> {
        let found: BTreeSet<u32> = self.numbers("Groups").into_iter().collect();
        let own = BTreeSet::from([identity.gid]);
        let wanted: BTreeSet<u32> = identity.groups.iter().copied().collect();
        (&found - &own != &wanted - &own).then(|| format!("Groups is {}", self.found("Groups")))
    }

    /// Its own filter at least (Linux 5.9 counts them).
    fn filters(&self) -> Option<String> {
        let count = self.numbers("Seccomp_filters").first().copied().unwrap_or(0);
        (count == 0).then(|| format!("Seccomp_filters is {}", self.found("Seccomp_filters")))
    }
}

fn core_limit(limits: &str) -> Option<String> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"));
    let found: Vec<_> = line.unwrap_or_default().split_whitespace().take(2).collect();
    (found != ["0", "0"]).then(|| format!("its core limit is {}", found.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Uid:\t989\t989\t989\t989\nGid:\t989\t989\t989\t989\nGroups:\t993 994 \nNoNewPrivs:\t1\n\
                          Seccomp:\t2\nSeccomp_filters:\t2\nCapInh:\t0\nCapPrm:\t0\nCapEff:\t0\nCapBnd:\t0\nCapAmb:\t0\n";
    const LIMITS: &str =
        "Limit  Soft Limit  Hard Limit  Units\nMax core file size        0     0     bytes\n";
    const LOOPBACK: &str = "Inter-|   Receive\n face |bytes\n    lo:       0\n";

    fn tight() -> Seen {
        Seen {
            status: STATUS.to_owned(),
            limits: LIMITS.to_owned(),
            links: LOOPBACK.to_owned(),
            dumpable: false,
        }
    }

    fn identity() -> Identity {
        Identity {
            uid: 989,
            gid: 989,
            groups: vec![994, 993],
        }
    }

    #[test]
    fn whatever_is_looser_is_named() {
        let api = posture("A01", Daemon::Api);
        assert_eq!(api.looser(&tight(), &identity()), None);
        let cases = [
            ("Seccomp:\t2", "Seccomp:\t0", "Seccomp is 0"),
            (
                "Seccomp_filters:\t2",
                "Seccomp_filters:\t0",
                "Seccomp_filters is 0",
            ),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "NoNewPrivs is 0"),
            ("Uid:\t989\t989", "Uid:\t989\t0", "Uid is 989\t0\t989\t989"),
            ("Gid:\t989\t989", "Gid:\t989\t0", "Gid is 989\t0\t989\t989"),
            ("993 994 ", "993 994 27 ", "Groups is 993 994 27 "),
            ("993 994 ", "993 ", "Groups is 993 "),
            ("CapBnd:\t0", "CapBnd:\t1000", "CapBnd is 1000"),
            ("Seccomp:\t2\n", "", "Seccomp is absent"),
        ];
        for (good, loose, told) in cases {
            let seen = Seen {
                status: STATUS.replace(good, loose),
                ..tight()
            };
            assert_eq!(api.looser(&seen, &identity()).as_deref(), Some(told));
        }
        let dumps = Seen {
            limits: LIMITS.replace("0     0", "0     unlimited"),
            ..tight()
        };
        assert_eq!(
            api.looser(&dumps, &identity()).as_deref(),
            Some("its core limit is 0 unlimited")
        );
        let dumpable = Seen {
            dumpable: true,
            ..tight()
        };
        assert!(api.looser(&dumpable, &identity()).is_some());
    }

    #[test]
    fn only_netd_sees_a_network_and_has_its_capability() {
        let wired = Seen {
            status: STATUS.replace("CapPrm:\t0", "CapPrm:\t1000"),
            links: format!("{LOOPBACK}  eth0:       0\n"),
            ..tight()
        };
        assert_eq!(posture("A02", Daemon::Netd).looser(&wired, &identity()), None);
        assert!(posture("A01", Daemon::Api).looser(&wired, &identity()).is_some());
        let wired = Seen {
            links: format!("{LOOPBACK}  eth0:       0\n"),
            ..tight()
        };
        assert_eq!(
            posture("A03", Daemon::Broker)
                .looser(&wired, &identity())
                .as_deref(),
            Some("it sees 1 network interfaces")
        );
    }

    #[test]
    fn the_last_word_about_landlock_counts() {
        let api = posture("A01", Daemon::Api);
        let said = |text: &str| format!("api    | x INFO cell_api: sandbox: {text}\n");
        assert_eq!(api.unsaid(&said("Landlock ABI 7")), None);
        assert!(
            api.unsaid(&(said("Landlock ABI 7") + &said("no Landlock")))
                .is_some()
        );
        assert!(
            api.unsaid(&said("Landlock ABI 7").replace("api ", "netd "))
                .is_some()
        );
    }
}
