//! `make badinput`: malformed requests over REST and gRPC against a running cell. Each gets a typed refusal that names
//! every fault; nothing changes, nothing dies.

mod grpc_cases;
mod judge;
mod over_grpc;
mod over_http;
mod raw;
mod rest_cases;
mod session;
mod vpn_cases;
mod wire_cases;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use cell_lab::cell::Cell;
use cell_lab::netns::Namespace;
use cell_lab::process::until;
use cell_lab::report::Report;
use cell_launch::house::Daemon;
use session::Session;
use tokio::runtime::Runtime;

/// Processes that must be the same ones afterwards.
const DAEMONS: [&str; 6] = ["api", "netd", "vaultd", "egress", "openvpn", "broker"];

/// What was sent and what was wrong with the answers.
#[derive(Default)]
struct Tally {
    sent: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn judge(&mut self, what: &str, verdict: Result<(), String>) {
        self.sent += 1;
        if let Err(why) = verdict {
            self.wrong.push(format!("{what}: {why}"));
        }
    }

    fn report(self, report: &mut Report, kind: &str) -> usize {
        for line in self.wrong.iter().take(40) {
            println!("  {kind}: {line}");
        }
        let right = self.sent - self.wrong.len();
        report.add(
            kind,
            format!("{right} of {}", self.sent),
            "refused as they must be",
            "all",
            self.wrong.is_empty(),
        );
        self.sent
    }
}

fn main() -> Result<ExitCode> {
    let namespace = Namespace::new("badinput")?;
    // Without the services that a cell installs by itself: they are written down whenever it comes to it, and here only what requests
    // change is to change.
    let alone = |shipped: String| shipped.replace("core_services = true", "core_services = false");
    let cell = Cell::start_edited(&namespace, vec![(Daemon::Api, Box::new(alone))])?;
    let socket = cell.home().join("run/api/api.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut report = Report::new("badinput");
    let claim_token = cell.claim_token()?;
    let mut sent = runtime
        .block_on(over_grpc::setup(&socket, &claim_token))?
        .report(&mut report, "gRPC: setup");

    let session = Session::on_fresh_cell(cell.address(), &claim_token)?;
    settled(&session)?;
    let (state, processes) = (session.state(&namespace)?, processes(&cell)?);
    sent += requests(&session, &namespace, &socket, &runtime, &mut report)?;
    report.add("malformed requests", sent, "requests", ">= 200", sent >= 200);
    let after = session.state(&namespace)?;
    if after != state {
        println!("before: {state:?}\nafter: {after:?}");
    }
    report.fact(
        "state unchanged (peers, config, users, changes in the audit log, generations, nftables, WireGuard)",
        "compared",
        after == state,
    );
    report.fact(
        "processes unchanged",
        "compared",
        self::processes(&cell)? == processes,
    );
    let added = serde_json::json!({"name": "after", "public_key": rest_cases::KEY});
    let answer = session.send("POST", "/api/peers", &added)?;
    report.fact(
        "a right request works afterwards",
        answer.status,
        answer.status == 201,
    );
    report.finish(Path::new("target"))
}

/// All requests to a cell that is set up; how many there were.
fn requests(
    session: &Session,
    namespace: &Namespace,
    socket: &Path,
    runtime: &Runtime,
    report: &mut Report,
) -> Result<usize> {
    let path = socket.to_owned();
    // Takes longest, so it begins first.
    let unfinished = runtime.spawn(async move { over_grpc::unfinished(&path).await });
    let mut sent = over_http::rest(session)?.report(report, "REST: values, types, paths, bodies");
    sent += over_http::wire(session)?.report(report, "HTTP: headers, framing, Host, origin");
    sent += over_http::slow(session).report(report, "HTTP: one byte a second");
    sent += over_http::vpn(session, namespace)?.report(report, "HTTPS for peers: TLS, HTTP/1, HTTP/2");
    sent += runtime
        .block_on(over_grpc::values(socket))
        .report(report, "gRPC: values");
    sent += runtime
        .block_on(over_grpc::frames(socket))
        .report(report, "gRPC: frames");
    let mut tally = Tally::default();
    tally.judge("a message without an end", runtime.block_on(unfinished)?);
    sent += tally.report(report, "gRPC: a byte every three seconds");
    Ok(sent)
}

/// Waits until netd has confirmed the setup and its first peer.
fn settled(session: &Session) -> Result<()> {
    until(Duration::from_secs(20), "netd to confirm the first peer", || {
        let status = session.get("/api/status").ok()?.json();
        (status["generation"] == status["observed_generation"]).then_some(())
    })
}

/// The processes of all daemons; `wg` runs only where the kernel has no WireGuard.
fn processes(cell: &Cell) -> Result<BTreeMap<&'static str, u32>> {
    let mut processes: BTreeMap<_, _> = DAEMONS
        .into_iter()
        .map(|name| Ok((name, cell.daemon(name)?)))
        .collect::<Result<_>>()?;
    processes.extend(cell.daemon("wg").ok().map(|pid| ("wg", pid)));
    Ok(processes)
}
