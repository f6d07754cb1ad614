//! A: whether the running daemons wear what the red team wore. The attempts are made in a process of the red team's own;
//! this shows that the real ones are bound as tightly.

use std::collections::BTreeMap;
use std::fs;

use crate::attempt::Outcome;
use crate::target::Target;

/// CAP_NET_ADMIN, as a mask (linux/capability.h: 12).
const NET_ADMIN: u64 = 1 << 12;

/// A running daemon and what its process must look like.
pub struct Posture {
    /// Number of the line.
    pub id: &'static str,
    /// Its name, which is that of its user after `cell-`.
    pub daemon: &'static str,
    /// The capabilities it may have.
    capabilities: u64,
    /// Whether its network namespace holds nothing but loopback.
    alone: bool,
}

/// All daemons (docs/runtime.md, Users and Network namespaces).
pub const ALL: [Posture; 5] = [
    Posture {
        id: "A01",
        daemon: "api",
        capabilities: 0,
        alone: true,
    },
    Posture {
        id: "A02",
        daemon: "netd",
        capabilities: NET_ADMIN,
        alone: false,
    },
    Posture {
        id: "A03",
        daemon: "broker",
        capabilities: 0,
        alone: true,
    },
    Posture {
        id: "A04",
        daemon: "vaultd",
        capabilities: 0,
        alone: true,
    },
    Posture {
        id: "A05",
        daemon: "wg",
        capabilities: 0,
        alone: true,
    },
];

impl Posture {
    /// Looks at the process as root. Open names the first thing that is looser than it must be.
    pub fn look(&self, target: &Target) -> (Outcome, String) {
        let Some(pid) = target.pids.get(self.daemon) else {
            return (
                Outcome::Void(format!("{} does not run", self.daemon)),
                String::new(),
            );
        };
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let (status, links) = match (read("status"), read("net/dev")) {
            (Ok(status), Ok(links)) => (status, links),
            _ => return (Outcome::Void(format!("{} has ended", self.daemon)), String::new()),
        };
        match self.looser(&status, &links) {
            Some(what) => (Outcome::Open, what),
            None => (
                Outcome::Closed("as tight as the red team's".to_owned()),
                String::new(),
            ),
        }
    }

    fn looser(&self, status: &str, links: &str) -> Option<String> {
        let lines: BTreeMap<_, _> = status.lines().filter_map(|line| line.split_once(":\t")).collect();
        let is = |key: &str, wanted: &str| {
            let found = lines.get(key).copied().unwrap_or("absent");
            (found != wanted).then(|| format!("{key} is {found}"))
        };
        let within = |key: &str, allowed: u64| {
            let found = lines
                .get(key)
                .and_then(|mask| u64::from_str_radix(mask, 16).ok())
                .unwrap_or(u64::MAX);
            (found & !allowed != 0).then(|| format!("{key} is {found:x}"))
        };
        let root = lines
            .get("Uid")
            .is_none_or(|ids| ids.split_whitespace().any(|id| id == "0"));
        let names = links
            .lines()
            .filter_map(|line| Some(line.split_once(':')?.0.trim()));
        let others = names.filter(|name| *name != "lo").count();
        root.then(|| "it is root".to_owned())
            .or_else(|| is("NoNewPrivs", "1"))
            .or_else(|| is("Seccomp", "2"))
            .or_else(|| within("CapPrm", self.capabilities))
            .or_else(|| within("CapEff", self.capabilities))
            .or_else(|| within("CapBnd", self.capabilities))
            .or_else(|| within("CapInh", 0))
            .or_else(|| within("CapAmb", 0))
            .or_else(|| (self.alone && others > 0).then(|| format!("it sees {others} network interfaces")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIGHT: &str = "Uid:\t989\t989\t989\t989\nNoNewPrivs:\t1\nSeccomp:\t2\nCapInh:\t0\nCapPrm:\t0\nCapEff:\t0\n\
                         CapBnd:\t0\nCapAmb:\t0\n";
    const LOOPBACK: &str = "Inter-|   Receive\n face |bytes\n    lo:       0\n";

    #[test]
    fn whatever_is_looser_is_named() {
        let api = &ALL[0];
        assert_eq!(api.looser(TIGHT, LOOPBACK), None);
        let cases = [
            ("Seccomp:\t2", "Seccomp:\t0", "Seccomp is 0"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "NoNewPrivs is 0"),
            ("Uid:\t989\t989", "Uid:\t989\t0", "it is root"),
            ("CapBnd:\t0", "CapBnd:\t1000", "CapBnd is 1000"),
            ("Seccomp:\t2\n", "", "Seccomp is absent"),
        ];
        for (tight, loose, told) in cases {
            assert_eq!(
                api.looser(&TIGHT.replace(tight, loose), LOOPBACK).as_deref(),
                Some(told)
            );
        }
        let wired = format!("{LOOPBACK}  eth0:       0\n");
        assert_eq!(
            api.looser(TIGHT, &wired).as_deref(),
            Some("it sees 1 network interfaces")
        );
        assert_eq!(
            ALL[1].looser(&TIGHT.replace("CapPrm:\t0", "CapPrm:\t1000"), &wired),
            None
        );
    }
}
