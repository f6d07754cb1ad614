//! `make badinput`: malformed requests over REST and gRPC against a running cell. Each gets a typed refusal that names
//! every fault; nothing changes, nothing dies.

mod grpc_cases;
mod judge;
mod raw;
mod rest_cases;
mod session;
mod wire_cases;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use cell_lab::cell::Cell;
use cell_lab::netns::Namespace;
use cell_lab::report::Report;
use cell_proto::api::v1::peer_service_client::PeerServiceClient;
use cell_proto::ipc::connect;
use session::Session;

/// Processes that must be the same ones afterwards.
const DAEMONS: [&str; 4] = ["api", "netd", "vaultd", "broker"];
/// How long a slow client drips before it counts as not cut off, seconds. The API's own limit is 10.
const DRIP_SECONDS: u64 = 20;

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
    let session = Session::on_fresh_cell(cell.address(), &cell.claim_token()?)?;
    let (state, processes) = (session.state()?, processes(&cell)?);

    let mut report = Report::new("badinput");
    let mut sent = rest(&session)?.report(&mut report, "REST: values, types, paths, bodies");
    sent += wire(&session)?.report(&mut report, "HTTP: headers, framing, Host, origin");
    sent += slow(&session).report(&mut report, "HTTP: one byte a second");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    sent += runtime
        .block_on(grpc(&cell.home().join("run/api/api.sock")))
        .report(&mut report, "gRPC: values");
    sent += runtime
        .block_on(frames(&cell.home().join("run/api/api.sock")))
        .report(&mut report, "gRPC: frames");

    report.add("malformed requests", sent, "requests", ">= 200", sent >= 200);
    let after = session.state()?;
    if after != state {
        println!("before: {state:?}\nafter: {after:?}");
    }
    report.fact(
        "state unchanged (peers, config, users, changes in the audit log)",
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

fn processes(cell: &Cell) -> Result<BTreeMap<&'static str, u32>> {
    DAEMONS
        .into_iter()
        .map(|name| Ok((name, cell.daemon(name)?)))
        .collect()
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

/// All slow clients at once: each is cut off by the server's own deadline.
fn slow(session: &Session) -> Tally {
    let mut tally = Tally::default();
    let verdicts: Vec<_> = std::thread::scope(|scope| {
        let clients: Vec<_> = wire_cases::slow()
            .into_iter()
            .map(|(what, head, tail)| {
                let head = filled(session, head.as_bytes());
                scope.spawn(move || {
                    let start = std::time::Instant::now();
                    let answer = raw::drip(session.server, &head, tail.as_bytes(), DRIP_SECONDS);
                    let cut_off = start.elapsed().as_secs() < DRIP_SECONDS - 1;
                    let status = answer.map_or(0, |answer| answer.status);
                    let right = cut_off && (status == 0 || (400..500).contains(&status));
                    (
                        what,
                        right
                            .then_some(())
                            .ok_or(format!("status {status} after {:?}", start.elapsed())),
                    )
                })
            })
            .collect();
        clients
            .into_iter()
            .filter_map(|client| client.join().ok())
            .collect()
    });
    for (what, verdict) in verdicts {
        tally.judge(what, verdict);
    }
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
                Ok(code) if code != 0 => Ok(()),
                Ok(_) => Err("was accepted".to_owned()),
                Err(error) => Err(format!("no answer: {error:#}")),
            };
            tally.judge(&format!("{method}, {what}"), verdict);
        }
    }
    tally
}
