//! Exits are proven by their marks: cell-egress asks by a socket that netd marked, so that a rule of ip-rule(8) that leads the
//! exit's packets elsewhere is seen, and nothing leaves by the machine's own way meanwhile. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/marks.rs"]
mod marks;
#[path = "support/provider.rs"]
mod provider;
#[path = "support/relay.rs"]
mod relay;
#[allow(dead_code, reason = "egress's own tests use all of it")]
#[path = "../../egress/tests/support/servers.rs"]
mod servers;
#[path = "../../egress/tests/support/sshd.rs"]
mod sshd;
mod support;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::netns::Namespace;
use cell_lab::process::until;
use cell_lab::resolver;
use cell_lab::topology::{FAR_HOST, World};
use cell_proto::common::v1::Endpoint;
use cell_proto::egress::v1::{DnsExit, DnsSpec, DnsWayStatus, dns_exit};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt};
use provider::{Provider, id, link};
use relay::Egress;
use support::{Netd, PATIENCE, spec};

/// What the resolvers have for every name.
const ANSWER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// The exit's mark and the mask of the test's ceiling, as ip-rule(8) writes them.
const MARK: &str = "0x1000/0x1ff0";
/// An exit that works is proven every 15-25 s.
const NEXT: Duration = Duration::from_secs(60);

struct Setup {
    world: World,
    netd: Netd,
    provider: Provider,
    egress: Egress,
    /// Whatever leaves the cell for the resolver outside of the tunnel.
    own_way: Counter,
}

impl Setup {
    fn new() -> Result<Self> {
        let mut world = World::new()?;
        world.cell.forward()?;
        world.cell.set_sysctl("ipv4/conf/all/rp_filter", "1")?;
        let netd = Netd::start(&world.cell)?;
        let provider = Provider::start(&mut world, &netd, 0)?;
        // One by the machine's own way too, which would answer.
        for behind in [provider.namespace(), &world.internet] {
            resolver::serve(behind, resolver_at(), ANSWER)?;
        }
        let own_way = Counter::install(&world.internet, Spec::to(host(resolver_at().ip()), Protocol::Any))?;
        let egress = Egress::start_with(&world.cell, Some(&netd.mark_socket()))?;
        let setup = Setup {
            world,
            netd,
            provider,
            egress,
            own_way,
        };
        let mut wanted = spec(Vec::new());
        wanted.exits = vec![setup.provider.exit(0)];
        // By the machine's own way the relay may ask it as well: what holds the question is its mark alone.
        wanted.dns_upstreams = vec![resolver_at().into()];
        setup.netd.apply(wanted, "")?;
        setup.egress.apply_dns(&DnsSpec {
            exits: vec![DnsExit {
                id: id(0),
                upstreams: vec![Endpoint::from(resolver_at())],
                reached: Some(dns_exit::Reached::Interface(link(0))),
            }],
            ..DnsSpec::default()
        })?;
        Ok(setup)
    }

    fn way(&self) -> Result<DnsWayStatus> {
        self.egress.dns_way(&id(0))
    }

    /// A question by the mark is answered after `before`.
    fn proven_after(&self, before: i64) -> Result<DnsWayStatus> {
        until(NEXT, "a proof by the mark", || {
            self.way()
                .ok()
                .filter(|way| way.last_marked_proven_unix_ms > before)
        })
    }

    /// One gets no answer after `before`, for such a reason, while the exit itself answers.
    fn not_proven_after(&self, before: i64, reason: &str) -> Result<DnsWayStatus> {
        let way = until(NEXT, "a question by the mark without an answer", || {
            self.way().ok().filter(|way| {
                way.last_marked_failure_unix_ms > before && way.last_marked_failure.contains(reason)
            })
        })?;
        assert!(
            way.last_proven_unix_ms > way.last_marked_proven_unix_ms,
            "{way:?}"
        );
        assert_eq!(self.own_way.packets()?, 0, "{reason}");
        Ok(way)
    }

    fn rule(&self, words: &str) -> Result<()> {
        rule(&self.world.cell, words).map(drop)
    }
}

fn resolver_at() -> SocketAddr {
    SocketAddr::new(FAR_HOST.v4.into(), 53)
}

fn rule(at: &Namespace, words: &str) -> Result<String> {
    let words: Vec<&str> = ["rule"].into_iter().chain(words.split(' ')).collect();
    at.run("ip", &words)
}

#[test]
fn an_exit_whose_mark_leads_elsewhere_is_not_proven_and_nothing_leaks() -> Result<()> {
    let setup = Setup::new()?;
    let _far = setup.provider.up()?;
    let proven = setup.proven_after(0)?;
    assert!(proven.last_proven_unix_ms > 0);
    assert!(setup.provider.packets()[0] > 0, "it came out of the tunnel");
    assert_eq!(setup.own_way.packets()?, 0);

    // Another VPN's rule that is asked before netd's, to the machine's own way.
    let held = setup.netd.dropped("egress_stranger")?;
    setup.rule(&format!("add pref 100 fwmark {MARK} lookup main"))?;
    let way = setup.not_proven_after(0, "cannot be reached")?;
    assert!(
        setup.netd.dropped("egress_stranger")? > held,
        "control: it was sent"
    );
    // And nowhere.
    setup.rule("del pref 100")?;
    setup.rule(&format!("add pref 100 fwmark {MARK} unreachable"))?;
    let way = setup.not_proven_after(way.last_marked_failure_unix_ms, "Network is unreachable")?;
    setup.rule("del pref 100")?;
    setup.proven_after(way.last_marked_proven_unix_ms)?;
    assert_eq!(setup.own_way.packets()?, 0);
    Ok(())
}

#[test]
fn what_is_taken_away_of_the_routing_is_seen_while_it_is_away() -> Result<()> {
    let setup = Setup::new()?;
    let _far = setup.provider.up()?;
    let way = setup.proven_after(0)?;
    let mut before = way.last_marked_failure_unix_ms;
    // Faster than netd repairs it, again and again.
    let rules: &[&str] = &["rule", "del", "fwmark", MARK];
    let table: &[&str] = &["route", "flush", "table", "1000"];
    for taken in [rules, table] {
        let over = AtomicBool::new(false);
        let way = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // Already gone, mostly.
                    let _gone = setup.world.cell.run("ip", taken);
                    sleep(Duration::from_millis(5));
                }
            });
            let way = until(2 * NEXT, "a question by the mark without an answer", || {
                let way = setup.way().ok()?;
                (way.last_marked_failure_unix_ms > before
                    && way.last_marked_failure.contains("cannot be reached"))
                .then_some(way)
            });
            over.store(true, Ordering::Relaxed);
            way
        })?;
        assert_eq!(setup.own_way.packets()?, 0, "{taken:?}");
        before = way.last_marked_failure_unix_ms;
        setup.proven_after(way.last_marked_proven_unix_ms)?;
    }
    assert_eq!(setup.own_way.packets()?, 0);
    Ok(())
}

#[test]
fn nobody_but_the_relays_user_is_given_a_mark() -> Result<()> {
    let setup = Setup::new()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    match marks::hand_over(&setup.netd.mark_socket(), &id(0), &socket, PATIENCE) {
        Ok(answer) => assert_eq!(answer.first(), Some(&1), "root is not the relay: {answer:?}"),
        // It is refused and hung up on unread: before the message was sent, or after.
        Err(error) => assert!(matches!(error, Errno::EPIPE | Errno::ECONNRESET), "{error}"),
    }
    assert_eq!(getsockopt(&socket, sockopt::Mark)?, 0);
    // It goes on.
    let _far = setup.provider.up()?;
    setup.proven_after(0)?;
    // A netd that does not answer says nothing of the exit.
    setup.netd.process.hold()?;
    let way = setup.way()?;
    let (before, failed) = (way.last_proven_unix_ms, way.last_marked_failure_unix_ms);
    until(NEXT, "the next proof", || {
        setup.way().ok().filter(|way| way.last_proven_unix_ms > before)
    })?;
    sleep(PATIENCE / 4);
    setup.netd.process.signal(Signal::SIGCONT)?;
    assert_eq!(setup.way()?.last_marked_failure_unix_ms, failed);
    Ok(())
}
