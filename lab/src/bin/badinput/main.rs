//! `make badinput`: malformed requests over REST and gRPC against a running cell. Each gets a typed refusal that names
//! every fault; nothing changes, nothing dies.

mod grpc_cases;
mod judge;
mod raw;
mod rest_cases;
mod session;
mod vpn_cases;
mod wire_cases;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cell_lab::cell::Cell;
use cell_lab::netns::Namespace;
use cell_lab::process::until;
use cell_lab::report::Report;
use cell_launch::house::HIDDEN;
use cell_proto::api::v1::peer_service_client::PeerServiceClient;
use cell_proto::api::v1::setup_service_client::SetupServiceClient;
use cell_proto::api::v1::{DeletePeerRequest, GetPeerRequest, GetSetupRequest};
use cell_proto::ipc::connect;
use session::Session;

/// Processes that must be the same ones afterwards.
const DAEMONS: [&str; 4] = ["api", "netd", "vaultd", "broker"];
/// How long a slow client drips before it counts as not cut off, seconds.
const DRIP_SECONDS: u64 = 20;
/// When a slow client must be cut off: the API's own limit is 10 seconds, and a busy machine adds some.
const CUT_OFF: std::ops::Range<Duration> = Duration::from_secs(9)..Duration::from_secs(15);
/// When a gRPC call that never ends must be: the limit is 90 seconds (proto/src/ipc/serve.rs).
const UNFINISHED: std::ops::Range<Duration> = Duration::from_secs(85)..Duration::from_secs(110);

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
    let cell = Cell::start(&namespace)?;
    let socket = cell.home().join("run/api/api.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut report = Report::new("badinput");
    let mut sent = runtime
        .block_on(setup(&socket, &cell.claim_token()?))?
        .report(&mut report, "gRPC: setup");

    let session = Session::on_fresh_cell(cell.address(), &cell.claim_token()?)?;
    settled(&session)?;
    let (state, processes) = (session.state(&namespace)?, processes(&cell)?);
    let path = socket.clone();
    // Takes longest, so it begins first.
    let unfinished = runtime.spawn(async move { grpc_cases::unfinished(&path, UNFINISHED.end).await });

    sent += rest(&session)?.report(&mut report, "REST: values, types, paths, bodies");
    sent += wire(&session)?.report(&mut report, "HTTP: headers, framing, Host, origin");
    sent += slow(&session).report(&mut report, "HTTP: one byte a second");
    sent += vpn(&session, &namespace)?.report(&mut report, "HTTPS for peers: TLS, HTTP/1, HTTP/2");
    sent += runtime
        .block_on(grpc(&socket))
        .report(&mut report, "gRPC: values");
    sent += runtime
        .block_on(frames(&socket))
        .report(&mut report, "gRPC: frames");
    let mut tally = Tally::default();
    tally.judge("a message without an end", cut_off(runtime.block_on(unfinished)?));
    sent += tally.report(&mut report, "gRPC: a byte every three seconds");

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

/// A call that never ends must be ended by the server's deadline, with a code that says so.
fn cut_off(ended: Result<(tonic::Code, Duration)>) -> Result<(), String> {
    match ended {
        Ok((tonic::Code::DeadlineExceeded | tonic::Code::Cancelled, after))
            if UNFINISHED.contains(&after) =>
        {
            Ok(())
        }
        Ok((code, after)) => Err(format!("{code:?} after {after:?}")),
        Err(error) => Err(format!("no answer: {error:#}")),
    }
}

/// Steps of the first run, before it: the state of setup must stay as it is.
async fn setup(socket: &Path, claim_token: &str) -> Result<Tally> {
    let mut client = SetupServiceClient::new(connect(socket)).max_encoding_message_size(64 << 20);
    let before = client.get_setup(GetSetupRequest {}).await?.into_inner();
    let mut tally = Tally::default();
    for case in grpc_cases::setups(claim_token) {
        let verdict = match client.submit_setup_step(case.request).await {
            Ok(_) => Err("was accepted".to_owned()),
            Err(status) => judge::grpc(&case.fields, &status),
        };
        tally.judge(&format!("SubmitSetupStep, {}", case.what), verdict);
    }
    let after = client.get_setup(GetSetupRequest {}).await?.into_inner();
    tally.judge(
        "GetSetup afterwards",
        (before == after).then_some(()).ok_or(format!("{after:?}")),
    );
    Ok(tally)
}

/// The HTTPS listener: its hidden address is on wg0 inside the cell's namespace.
fn vpn(session: &Session, namespace: &Namespace) -> Result<Tally> {
    let config = session.get("/api/config")?.json();
    let vpn = vpn_cases::Vpn {
        server: HIDDEN[0],
        name: config["vpn_address_ipv4"]
            .as_str()
            .context("vpn_address_ipv4")?
            .to_owned(),
        root: session.get("/api/trust/root.pem")?.body,
    };
    let verdicts = namespace.inside(|| -> Result<_> {
        let control = vpn.health().context("control: GET /health over TLS")?;
        anyhow::ensure!(control == 200, "control: GET /health over TLS is {control}");
        let verdicts = vpn_cases::all(&vpn);
        anyhow::ensure!(vpn.health()? == 200, "GET /health over TLS afterwards");
        Ok(verdicts)
    })??;
    let mut tally = Tally::default();
    for (what, verdict) in verdicts {
        tally.judge(what, verdict);
    }
    Ok(tally)
}

fn rest(session: &Session) -> Result<Tally> {
    let mut tally = Tally::default();
    for case in rest_cases::all() {
        let head = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{}Content-Type: {}\r\nContent-Length: {}\r\n\r\n",
            case.method,
            case.path,
            session.server,
            session.headers(),
            case.content_type,
            case.body.len(),
        );
        let answer = raw::exchange(session.server, &[head.as_bytes(), &case.body].concat())
            .context(case.what.clone())?;
        tally.judge(&case.what, judge::rest(&case, &answer));
    }
    Ok(tally)
}

/// Fills a good Host value and good session headers in.
fn filled(session: &Session, bytes: &[u8]) -> Vec<u8> {
    let host = session.server.to_string();
    let replace = |bytes: Vec<u8>, from: &str, to: &str| -> Vec<u8> {
        match bytes
            .windows(from.len())
            .position(|window| window == from.as_bytes())
        {
            Some(at) => [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat(),
            None => bytes,
        }
    };
    let bytes = replace(bytes.to_vec(), "HOST", &host);
    let bytes = replace(bytes, "AUTH\r\n", &session.headers());
    replace(bytes, "COOKIE\r\n", &session.cookie())
}

fn wire(session: &Session) -> Result<Tally> {
    let mut tally = Tally::default();
    for case in wire_cases::at_once() {
        let answer = raw::exchange(session.server, &filled(session, &case.bytes)).context(case.what)?;
        let right = case.statuses.contains(&answer.status);
        tally.judge(
            case.what,
            right.then_some(()).ok_or(format!(
                "answered {}, expected {:?}",
                answer.status, case.statuses
            )),
        );
    }
    Ok(tally)
}

/// All slow clients at once: each is cut off by the server's own deadline, not before and not later.
fn slow(session: &Session) -> Tally {
    let mut tally = Tally::default();
    let verdicts: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = wire_cases::slow()
            .into_iter()
            .map(|case| {
                let head = filled(session, case.head.as_bytes());
                scope.spawn(move || {
                    let start = Instant::now();
                    let answer = raw::drip(session.server, &head, case.tail.as_bytes(), DRIP_SECONDS);
                    let elapsed = start.elapsed();
                    let status = answer.map_or(0, |answer| answer.status);
                    let right = CUT_OFF.contains(&elapsed) && case.statuses.contains(&status);
                    let told = format!("status {status} after {elapsed:?}, expected {:?}", case.statuses);
                    (case.what, right.then_some(()).ok_or(told))
                })
            })
            .collect();
        clients
            .into_iter()
            .filter_map(|client| client.join().ok())
            .collect()
    });
    let lost = wire_cases::slow().len() - verdicts.len();
    for (what, verdict) in verdicts {
        tally.judge(what, verdict);
    }
    tally.judge(
        "all slow clients came back",
        (lost == 0).then_some(()).ok_or(format!("{lost} did not")),
    );
    tally
}

async fn grpc(socket: &Path) -> Tally {
    let mut client = PeerServiceClient::new(connect(socket)).max_encoding_message_size(64 << 20);
    let mut tally = Tally::default();
    for case in grpc_cases::creates() {
        let verdict = match client.create_peer(case.request).await {
            Ok(_) => Err("was accepted".to_owned()),
            Err(status) => judge::grpc(&case.fields, &status),
        };
        tally.judge(&format!("CreatePeer, {}", case.what), verdict);
    }
    for case in grpc_cases::updates() {
        let verdict = match client.update_peer(case.request).await {
            Ok(_) => Err("was accepted".to_owned()),
            Err(status) => judge::grpc(&case.fields, &status),
        };
        tally.judge(&format!("UpdatePeer, {}", case.what), verdict);
    }
    for name in grpc_cases::strangers() {
        let shown: String = name.chars().take(12).collect();
        let got = client
            .get_peer(GetPeerRequest { name: name.clone() })
            .await
            .map(drop);
        let gone = client.delete_peer(DeletePeerRequest { name }).await.map(drop);
        for (verb, answer) in [("GetPeer", got), ("DeletePeer", gone)] {
            let verdict = match answer {
                Ok(()) => Err("was accepted".to_owned()),
                Err(status) => judge::grpc(&[], &status),
            };
            tally.judge(&format!("{verb} {shown:?}"), verdict);
        }
    }
    tally
}

/// Bytes that are no message, on methods that exist and methods that do not.
async fn frames(socket: &Path) -> Tally {
    let mut tally = Tally::default();
    let methods = [
        "cell.api.v1.PeerService/CreatePeer",
        "cell.api.v1.CellService/GetCellStatus",
        "cell.api.v1.PeerService/Nothing",
    ];
    for method in methods {
        for (what, body) in grpc_cases::frames() {
            // A message without fields has nothing that must be text: what is there is an unknown field.
            if what == "invalid UTF-8" && method.ends_with("GetCellStatus") {
                continue;
            }
            let verdict = match grpc_cases::call_raw(socket, method, body).await {
                Ok(code) => judge::frame(code),
                Err(error) => Err(format!("no answer: {error:#}")),
            };
            tally.judge(&format!("{method}, {what}"), verdict);
        }
    }
    tally
}
