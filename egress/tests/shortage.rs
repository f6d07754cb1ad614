//! A shortage of the machine's own is told from an exit that does not answer. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use cell_lab::process::until;
use cell_proto::egress::v1::DnsWayStatus;
use support::NOBODY;
use support::dns::{DnsLab, FIRST, Relay, SECOND, resolver, spec};

/// An exit that works is proven every 15-25 s.
const NEXT: Duration = Duration::from_secs(60);

/// How many descriptors the program may have: the soft limit, as prlimit(1) writes it.
fn limit(relay: &Relay, most: &str) -> Result<()> {
    let limited = Command::new("prlimit")
        // One's own processes take no capability, which a container may lack.
        .uid(NOBODY)
        .gid(NOBODY)
        .args(["--pid", &relay.process.id().to_string()])
        .arg(format!("--nofile={most}"))
        .status()?;
    ensure!(limited.success(), "prlimit: {limited}");
    Ok(())
}

fn proven_after(relay: &Relay, before: i64) -> Result<DnsWayStatus> {
    until(NEXT, "a proof", || {
        let way = relay.way(Some(1));
        (way.last_proven_unix_ms > before).then_some(way)
    })
}

#[test]
fn an_exit_that_cannot_be_asked_for_want_of_descriptors_is_not_told_to_fail() -> Result<()> {
    let lab = DnsLab::new()?;
    let _heard = [resolver(&lab.exits[0], FIRST), resolver(&lab.exits[1], SECOND)];
    let relay = Relay::start(&lab)?;
    relay.apply(spec())?;
    let proven = proven_after(&relay, 0)?;
    assert_eq!(proven.last_proof_failure_unix_ms, 0);

    // What it has open it keeps, and this test's connection is of that.
    limit(&relay, "3:")?;
    until(NEXT, "a question that could not be asked", || {
        let log = relay.process.output();
        (log.contains("which says nothing of it") && log.contains("no socket for the question")).then_some(())
    })?;
    let way = relay.way(Some(1));
    assert_eq!(way.last_proof_failure_unix_ms, 0, "{way:?}");
    assert_eq!(way.last_proven_unix_ms, proven.last_proven_unix_ms, "control");

    limit(&relay, "4096:")?;
    proven_after(&relay, proven.last_proven_unix_ms)?;
    // What is the exit's own is told.
    lab.cell.ip("link set wgext_1 down")?;
    until(NEXT, "a failure", || {
        let way = relay.way(Some(1));
        way.last_proof_failure.contains("cannot be reached").then_some(())
    })
}
