//! A device whose access is narrowed and widened all the time, and in which spans of time nothing of it may arrive: from a
//! second after a narrowing was acknowledged and is in the kernel, until the next change that widens it is asked for.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cell_lab::probe::Arrivals;
use cell_lab::process::until;
use cell_lab::random::Random;
use cell_lab::rest::Rest;
use cell_lab::topology::LAN_HOST;
use serde_json::{Value, json};

use crate::RECOVERY;
use crate::kernel::Policy;
use crate::writer::Shared;

/// Its peer.
pub const NAME: &str = "switched";
/// How long established flows may go on (the promise).
const PROMISE: Duration = Duration::from_secs(1);

/// What a device may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The far host.
    Internet,
    /// A service on the cell's LAN.
    Service,
    /// Another device.
    Peer,
}

impl Reach {
    /// All.
    pub const ALL: [Reach; 3] = [Reach::Internet, Reach::Service, Reach::Peer];

    /// For a report.
    pub fn name(self) -> &'static str {
        match self {
            Reach::Internet => "internet",
            Reach::Service => "service",
            Reach::Peer => "peer-to-peer",
        }
    }

    fn sets(self) -> [&'static str; 2] {
        match self {
            Reach::Internet => ["internet4", "internet6"],
            Reach::Service => ["svc4", "svc6"],
            Reach::Peer => ["p2p4", "p2p6"],
        }
    }
}

/// A span of time in which one reach is shut, or open.
#[derive(Debug, Clone, Copy)]
struct Span {
    reach: Reach,
    shut: bool,
    from: Instant,
    to: Instant,
}

/// What was changed, and when.
#[derive(Debug, Default)]
pub struct History {
    spans: Vec<Span>,
    /// Changes that shut something and were acknowledged.
    pub narrowings: usize,
    /// The longest time from an acknowledgement until the kernel had it, kills included.
    pub slowest: Duration,
}

impl History {
    /// Datagrams that arrived while `reach` was shut (or open), and how long that was in all.
    pub fn arrived(&self, reach: Reach, shut: bool, arrivals: &Arrivals) -> (usize, Duration) {
        let spans = self
            .spans
            .iter()
            .filter(|span| span.reach == reach && span.shut == shut);
        spans.fold((0, Duration::ZERO), |(count, time), span| {
            (
                count + arrivals.between(span.from, span.to),
                time + (span.to - span.from),
            )
        })
    }
}

/// The access of the device: one flag for each of [`Reach::ALL`].
type Flags = [bool; 3];

/// As the API takes it; the service is on both families.
fn access(flags: Flags, port: u16) -> Value {
    let service = |address: IpAddr| json!({"address": address, "protocol": "udp", "port": port});
    let services: Vec<Value> = if flags[1] {
        LAN_HOST.each().map(service).into()
    } else {
        Vec::new()
    };
    json!({"internet": flags[0], "peer_to_peer": flags[2], "services": services})
}

/// Switches until told to stop. `addresses` are the device's in the VPN, `port` that of its service.
pub fn spawn(
    mut rest: Rest,
    shared: Shared,
    namespace: String,
    addresses: [IpAddr; 2],
    port: u16,
    seed: u64,
) -> JoinHandle<Result<History>> {
    std::thread::spawn(move || {
        let mut random = Random::new(!seed);
        let (mut history, mut flags) = (History::default(), [false; 3]);
        let mut since: [Option<Instant>; 3] = [None; 3];
        while !shared.stop.load(Ordering::Relaxed) {
            let wanted = other(flags, &mut random);
            close(&mut history, &since, flags, wanted);
            let acknowledged = ask(&mut rest, &shared, &access(wanted, port))?;
            until(RECOVERY, "the kernel to have the change", || {
                in_force(&namespace, addresses, wanted).then_some(())
            })?;
            let seen = Instant::now();
            history.slowest = history.slowest.max(seen - acknowledged);
            for (at, (was, is)) in flags.into_iter().zip(wanted).enumerate() {
                if was != is || since[at].is_none() {
                    since[at] = Some(if is { seen } else { seen + PROMISE });
                    history.narrowings += usize::from(was && !is);
                }
            }
            flags = wanted;
            std::thread::sleep(PROMISE + Duration::from_millis(random.below(1500)));
        }
        close(&mut history, &since, flags, flags.map(|flag| !flag));
        Ok(history)
    })
}

/// Other flags than these.
fn other(flags: Flags, random: &mut Random) -> Flags {
    // 1 to 7: at least one of the three bits is turned.
    let turned = 1 + random.below(7);
    [0, 1, 2].map(|bit| flags[bit] != (turned >> bit & 1 == 1))
}

/// Ends the spans of what is about to change.
fn close(history: &mut History, since: &[Option<Instant>; 3], flags: Flags, wanted: Flags) {
    let to = Instant::now();
    for (at, reach) in Reach::ALL.into_iter().enumerate() {
        if let Some(from) = since[at].filter(|from| flags[at] != wanted[at] && *from < to) {
            let shut = !flags[at];
            history.spans.push(Span {
                reach,
                shut,
                from,
                to,
            });
        }
    }
}

/// Asks until it is acknowledged, and answers when that was.
fn ask(rest: &mut Rest, shared: &Shared, access: &Value) -> Result<Instant> {
    until(RECOVERY, "a change of access to be acknowledged", || {
        let _going_on = shared.going_on();
        let answer = rest.put(&format!("/api/peers/{NAME}"), &json!({"access": access}));
        (answer.ok()?.status == 200).then(Instant::now)
    })
    .with_context(|| access.to_string())
}

/// Whether the kernel's sets have exactly these of the device.
fn in_force(namespace: &str, addresses: [IpAddr; 2], wanted: Flags) -> bool {
    let Ok(policy) = Policy::read(namespace) else {
        return false;
    };
    Reach::ALL.into_iter().zip(wanted).all(|(reach, open)| {
        let mut sets = reach.sets().into_iter().zip(addresses);
        sets.all(|(set, address)| {
            let element = match reach {
                Reach::Service => format!("{address} . "),
                Reach::Internet | Reach::Peer => address.to_string(),
            };
            match reach {
                Reach::Service => policy.has(set, &element) == open,
                Reach::Internet | Reach::Peer => policy.is(set, &element) == open,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_always_change() {
        let mut random = Random::new(7);
        let mut flags = [false; 3];
        for _ in 0..100 {
            let wanted = other(flags, &mut random);
            assert_ne!(flags, wanted);
            flags = wanted;
        }
    }

    #[test]
    fn only_what_changes_ends_its_span() {
        let start = Instant::now() - Duration::from_secs(1);
        let mut history = History::default();
        close(
            &mut history,
            &[Some(start), Some(start), None],
            [false, true, true],
            [true, true, false],
        );
        assert_eq!(history.spans.len(), 1);
        assert_eq!(
            (history.spans[0].reach, history.spans[0].shut),
            (Reach::Internet, true)
        );
    }

    #[test]
    fn what_arrives_while_shut_is_a_leak_and_at_no_other_time() {
        let arrivals = Arrivals::default();
        let times = [0, 1, 2].map(|_| {
            let before = Instant::now();
            arrivals.note();
            std::thread::sleep(Duration::from_millis(2));
            before
        });
        let span = |shut, from, to| Span {
            reach: Reach::Peer,
            shut,
            from,
            to,
        };
        let history = History {
            spans: vec![
                span(false, times[0], times[1]),
                span(true, times[1], Instant::now()),
            ],
            ..History::default()
        };
        assert_eq!(history.arrived(Reach::Peer, false, &arrivals).0, 1);
        assert_eq!(history.arrived(Reach::Peer, true, &arrivals).0, 2);
        assert_eq!(history.arrived(Reach::Internet, true, &arrivals).0, 0);
    }
}
