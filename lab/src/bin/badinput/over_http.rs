//! What is sent over HTTP, and how its answers are judged.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cell_lab::netns::Namespace;
use cell_launch::house::HIDDEN;

use crate::session::Session;
use crate::{Tally, judge, raw, rest_cases, vpn_cases, wire_cases};

/// How long a slow client drips before it counts as not cut off, seconds.
const DRIP_SECONDS: u64 = 20;
/// When a slow client must be cut off: the API's own limit is 10 seconds, and a busy machine adds some.
const CUT_OFF: std::ops::Range<Duration> = Duration::from_secs(9)..Duration::from_secs(15);

/// Wrong values, types, paths and bodies.
pub fn rest(session: &Session) -> Result<Tally> {
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

/// What is wrong outside the body.
pub fn wire(session: &Session) -> Result<Tally> {
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
pub fn slow(session: &Session) -> Tally {
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

/// The HTTPS listener: its hidden address is on wg0 inside the cell's namespace.
pub fn vpn(session: &Session, namespace: &Namespace) -> Result<Tally> {
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
