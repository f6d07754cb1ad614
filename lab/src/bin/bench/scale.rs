//! A whole cell at 10 and at 10,000 peers: the way of one new peer from REST to the kernel and back, and memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cell_lab::cell::Cell;
use cell_lab::netns::Namespace;
use cell_lab::process::until;
use cell_lab::report::Report;
use cell_lab::rest::{Rest, Setup};
use serde_json::json;

use crate::http::Target;

const SAMPLES: u32 = 40;
const FILLERS: usize = 4;

/// A cell that is set up, and the client that is signed in.
pub struct Scale {
    /// The cell.
    pub cell: Cell,
    /// An administrator.
    pub rest: Rest,
    next: u32,
}

impl Scale {
    /// Starts a cell, and measures how long that takes and how much memory it uses.
    pub fn start(report: &mut Report, namespace: &Namespace) -> Result<Self> {
        let start = Instant::now();
        let mut cell = Cell::start(namespace)?;
        let first = start.elapsed();
        report.add(
            "first start (keys and certificates made) to ready",
            format!("{:.2}", first.as_secs_f64()),
            "s",
            "",
            true,
        );
        let mut rest = cell.rest();
        rest.setup(&Setup {
            claim_token: cell.claim_token()?,
            cell_name: "bench".into(),
            vpn_range_ipv4: "10.86.0.0/16".into(),
            vpn_range_ipv6: "fd86::/64".into(),
            endpoint_host: "203.0.113.10".into(),
            username: "admin".into(),
            password: "correct horse battery".into(),
        })?;
        let again = cell.restart()?;
        report.add(
            "start to ready",
            format!("{:.2}", again.as_secs_f64()),
            "s",
            "< 1",
            again < Duration::from_secs(1),
        );
        rest = cell.rest();
        rest.login("admin", "correct horse battery")?;
        Ok(Scale { cell, rest, next: 0 })
    }

    /// Memory of each daemon.
    pub fn memory(&self, report: &mut Report, when: &str, goal: Option<f64>) -> Result<()> {
        for name in ["api", "netd", "vaultd", "broker", "wg"] {
            let Ok(id) = self.cell.daemon(name) else { continue };
            let mebibytes = resident(id)?;
            let ok = goal.is_none_or(|goal| mebibytes < goal);
            let goal = goal.map(|goal| format!("< {goal}")).unwrap_or_default();
            report.add(
                format!("memory of {name}, {when}"),
                format!("{mebibytes:.1}"),
                "MiB",
                &goal,
                ok,
            );
        }
        Ok(())
    }

    /// Adds peers until there are `count`, some at once.
    pub fn fill(&mut self, count: u32) -> Result<()> {
        let numbers: Vec<u32> = (self.next..count).collect();
        self.next = self.next.max(count);
        std::thread::scope(|scope| {
            let share = numbers.len().div_ceil(FILLERS).max(1);
            let fillers: Vec<_> = numbers
                .chunks(share)
                .map(|chunk| {
                    let mut rest = self.rest.clone();
                    scope.spawn(move || {
                        chunk
                            .iter()
                            .try_for_each(|number| add(&mut rest, *number).map(drop))
                    })
                })
                .collect();
            fillers
                .into_iter()
                .try_for_each(|filler| filler.join().map_err(|_| anyhow::anyhow!("a filler panicked"))?)
        })?;
        self.converge()
    }

    /// The median time of adding one peer, from the request to the answer after the kernel was re-read.
    pub fn add_one(&mut self) -> Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..SAMPLES {
            times.push(add(&mut self.rest, self.next)?);
            self.next += 1;
        }
        self.converge()?;
        times.sort();
        Ok(times[times.len() / 2])
    }

    /// A peer's resource with the session, for the load.
    pub fn target(&mut self) -> Result<(Target, Vec<u8>)> {
        let path = format!("/api/peers/{}", name(0));
        let body = self.rest.get(&path)?;
        let cookie = self.rest.cookie().context("no session")?.to_owned();
        let target = Target {
            server: self.cell.address(),
            path,
            headers: vec![("cookie".into(), cookie)],
        };
        Ok((target, body.body.to_vec()))
    }

    fn converge(&mut self) -> Result<()> {
        let rest = &mut self.rest;
        until(Duration::from_secs(120), "the kernel to converge", || {
            let status = rest.get("/api/status").ok()?.json();
            (status["generation"].is_u64() && status["generation"] == status["observed_generation"])
                .then_some(())
        })
    }
}

fn name(number: u32) -> String {
    format!("peer-{number}")
}

fn add(rest: &mut Rest, number: u32) -> Result<Duration> {
    let mut key = [0x42; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    let services = json!([{"address": "192.168.77.50", "protocol": "tcp", "port": 443}]);
    let access = json!({"internet": number.is_multiple_of(2), "services": services});
    let peer = json!({"name": name(number), "public_key": STANDARD.encode(key), "access": access});
    let start = Instant::now();
    rest.post("/api/peers", &peer)?.expect(201)?;
    Ok(start.elapsed())
}

/// Resident set of a process (proc(5), VmRSS), MiB.
fn resident(id: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes / 1024.0)
}
