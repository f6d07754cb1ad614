//! A whole cell: start, memory, and the way of one new peer from REST to the kernel and back.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cell_lab::cell::Cell;
use cell_lab::netns::Namespace;
use cell_lab::process::{resident_bytes, until};
use cell_lab::rest::{Rest, Setup};
use serde_json::json;

use crate::http::{self, Target};
use cell_lab::measure::{Bench, Goal};

/// Peers added on each side of the comparison, in turn.
const SAMPLES: usize = 40;
const FEW: u32 = 10;
const USERNAME: &str = "admin";
const PASSWORD: &str = "correct horse battery";
const DAEMONS: [&str; 6] = ["api", "netd", "vaultd", "egress", "broker", "wg"];
/// Names that the load asks for in turn.
const ASKED: u32 = 64;

/// Adds the rows.
pub fn run(bench: &mut Bench, scratch: &Path, peers: u32) -> Result<()> {
    let (namespace, other) = (Namespace::new("bench-large")?, Namespace::new("bench-small")?);
    let mut large = Scale::start(bench, &namespace)?;
    large.memory(bench, "idle", Some(Goal::AtMost(64.0)))?;
    let mut small = Scale::new(&other)?;
    small.fill(FEW)?;
    http::run(bench, scratch, &small.target(FEW)?, FEW)?;
    let filled = large.fill(peers)?;
    bench.number(
        format!("adding the first {peers} peers, one request each"),
        filled.as_secs_f64(),
        "s",
    );
    let added = medians([&mut small, &mut large], |_, _, scale| scale.add_one())?;
    let names = [
        format!("adding one peer at {FEW} peers, REST to kernel to answer (median)"),
        format!("the same at {peers} peers"),
        format!("adding one peer, {peers} peers / {FEW} peers"),
    ];
    compared(bench, names, added);
    assign_in_turn(bench, &mut small, &mut large, peers)?;
    large.memory(bench, &format!("{peers} peers"), None)?;
    http::run(bench, scratch, &large.target(peers)?, peers)
}

/// Adds the rows of giving one device another exit, on a cell of few and on one of many, in turn.
fn assign_in_turn(bench: &mut Bench, one: &mut Scale, other: &mut Scale, peers: u32) -> Result<()> {
    let exits = [one.exits()?, other.exits()?];
    let assigned = medians([one, other], |round, place, scale| {
        scale.assign(&exits[place][round % 2])
    })?;
    let names = [
        format!("another exit for one peer at {FEW} peers, REST to kernel and DNS relay to answer (median)"),
        format!("another exit at {peers} peers"),
        format!("another exit for one peer, {peers} peers / {FEW} peers"),
    ];
    compared(bench, names, assigned);
    Ok(())
}

/// Adds the rows of both times, of few and of many, and of what many cost beside few.
fn compared(bench: &mut Bench, [of_few, of_many, of_both]: [String; 3], (few, many): (Duration, Duration)) {
    bench.time(of_few, few);
    bench.time(of_many, many);
    bench.ratio(of_both, many, few, Goal::AtMost(2.0));
}

/// The median time of what is done to each of two cells, in turn; it is told which round and which of them it is.
fn medians(
    scales: [&mut Scale; 2],
    mut act: impl FnMut(usize, usize, &mut Scale) -> Result<Duration>,
) -> Result<(Duration, Duration)> {
    let mut times = [Vec::new(), Vec::new()];
    let [one, other] = scales;
    for round in 0..SAMPLES {
        for (place, scale) in [&mut *one, &mut *other].into_iter().enumerate() {
            times[place].push(act(round, place, scale)?);
        }
    }
    let [one, other] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    });
    Ok((one, other))
}

/// A cell that is set up, and the client that is signed in.
struct Scale {
    cell: Cell,
    rest: Rest,
    next: u32,
}

impl Scale {
    fn new(namespace: &Namespace) -> Result<Self> {
        let cell = Cell::start(namespace)?;
        let mut rest = cell.rest();
        rest.setup(&Setup {
            claim_token: cell.claim_token()?,
            cell_name: "bench".into(),
            vpn_range_ipv4: "10.86.0.0/16".into(),
            vpn_range_ipv6: "fd86::/64".into(),
            endpoint_host: "203.0.113.10".into(),
            username: USERNAME.into(),
            password: PASSWORD.into(),
        })?;
        rest.login(USERNAME, PASSWORD)?;
        Ok(Scale { cell, rest, next: 0 })
    }

    /// Starts a cell, sets it up, starts it again, and adds how long that took.
    fn start(bench: &mut Bench, namespace: &Namespace) -> Result<Self> {
        let start = Instant::now();
        let mut scale = Scale::new(namespace)?;
        let first = start.elapsed().as_secs_f64();
        bench.number(
            "first start: keys, certificates, claim, wizard, login",
            first,
            "s",
        );
        let again = scale.cell.restart()?;
        bench.judge("start to ready", again.as_secs_f64(), "s", Goal::AtMost(1.0));
        scale.rest = scale.cell.rest();
        scale.rest.login(USERNAME, PASSWORD)?;
        Ok(scale)
    }

    /// Adds a row for the memory of each daemon, and one for all of them together.
    fn memory(&self, bench: &mut Bench, when: &str, goal: Option<Goal>) -> Result<()> {
        let mut sum = 0.0;
        for name in DAEMONS {
            let mebibytes = resident_bytes(self.cell.daemon(name)?)? as f64 / f64::from(1 << 20);
            bench.number(format!("memory of {name}, {when}"), mebibytes, "MiB");
            sum += mebibytes;
        }
        let name = format!("memory of all daemons, {when}");
        match goal {
            Some(goal) => bench.judge(name, sum, "MiB", goal),
            None => bench.number(name, sum, "MiB"),
        }
        Ok(())
    }

    /// Adds peers one after another until there are `count`, and answers how long that took.
    fn fill(&mut self, count: u32) -> Result<Duration> {
        let start = Instant::now();
        while self.next < count {
            self.add_one()?;
            if self.next.is_multiple_of(1000) {
                eprintln!("    {} peers", self.next);
            }
        }
        self.converge()?;
        Ok(start.elapsed())
    }

    /// Adds one peer; the time from the request to the answer, which comes after the kernel was re-read.
    fn add_one(&mut self) -> Result<Duration> {
        let number = self.next;
        let mut key = [0x42; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let services = json!([{"address": "192.168.77.50", "protocol": "tcp", "port": 443}]);
        let access = json!({"internet": number.is_multiple_of(2), "services": services});
        let peer = json!({"name": name(number), "public_key": STANDARD.encode(key), "access": access});
        let start = Instant::now();
        let answer = self.rest.post("/api/peers", &peer)?.expect(201)?;
        let took = start.elapsed();
        let [wanted, observed] = ["generation", "observed_generation"].map(|field| answer[field].as_u64());
        ensure!(
            wanted.is_some() && wanted <= observed,
            "peer {number}: answered before the kernel had it ({wanted:?}, {observed:?})"
        );
        self.next += 1;
        Ok(took)
    }

    /// Two exits by proxies that are there for nobody: none is asked for anything.
    fn exits(&mut self) -> Result<[String; 2]> {
        let mut make = |name: &str, host: u8| {
            let import = json!({"url": format!("socks5://192.0.2.{host}:1080")});
            let body = json!({"name": name, "type": "proxy", "import": import});
            let made = self
                .rest
                .post("/api/connectivity/connections", &body)?
                .expect(201)?;
            made["connection"]["id"]
                .as_str()
                .map(str::to_owned)
                .context("no id")
        };
        let exits = [make("one", 9)?, make("other", 10)?];
        self.converge()?;
        Ok(exits)
    }

    /// Gives the first peer this exit; the time from the request to the answer, which comes after the relay and the kernel have it.
    fn assign(&mut self, exit: &str) -> Result<Duration> {
        let path = format!("/api/connectivity/peers/{}/exit", name(0));
        let start = Instant::now();
        self.rest
            .put(&path, &json!({"connection_id": exit}))?
            .expect(200)?;
        Ok(start.elapsed())
    }

    /// The resources of some peers with the session, for the load.
    fn target(&mut self, peers: u32) -> Result<(Target, Vec<u8>)> {
        let step = peers.div_ceil(ASKED).max(1) as usize;
        let paths: Vec<String> = (0..peers)
            .step_by(step)
            .map(|number| format!("/api/peers/{}", name(number)))
            .collect();
        let body = self.rest.get(&paths[0])?.body.to_vec();
        let cookie = self.rest.cookie().context("no session")?.to_owned();
        let headers = vec![("cookie".into(), cookie)];
        Ok((
            Target {
                server: self.cell.address(),
                paths,
                headers,
            },
            body,
        ))
    }

    fn converge(&mut self) -> Result<()> {
        let rest = &mut self.rest;
        until(Duration::from_secs(120), "the kernel to converge", || {
            let status = rest.get("/api/status").ok()?.json();
            let converged =
                status["generation"].is_u64() && status["generation"] == status["observed_generation"];
            converged.then_some(())
        })
    }
}

fn name(number: u32) -> String {
    format!("peer-{number}")
}
