//! The administrator's own device is locked out by a change that waits for its confirmation: the cell is back by itself,
//! whoever is killed, and nothing passes meanwhile that may not. A real netd, a real tunnel, and kills at random moments.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::netns::Namespace;
use cell_lab::probe::{EchoServer, tcp_echo};
use cell_lab::prober::Prober;
use cell_lab::process::until;
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device, FAR_HOST, World};
use cell_proto::netd::v1;
use nix::sys::signal::Signal;
use support::{Keys, Netd, PATIENCE, PORT, access, client_file, flush, is_legacy, peer, spec};

const SECOND: Duration = Duration::from_secs(1);
/// The shortest that a change can wait.
const SHORT: u32 = 5;
/// A client whose peer was gone notices by WireGuard's own timers (15 s without an answer, then a handshake).
const NEW_HANDSHAKE: Duration = Duration::from_secs(40);
const KILLS: u32 = 100;

struct Setup {
    world: World,
    netd: Netd,
    admin: Arc<(Device, Keys)>,
    /// May reach nothing, and tries all the time.
    other: Arc<(Device, Keys)>,
}

fn setup() -> Result<Setup> {
    let mut world = World::new()?;
    world.cell.forward()?;
    let (admin, other) = (world.device("a")?, world.device("b")?);
    EchoServer::start(&world.internet, 80)?;
    EchoServer::start(&world.cell, 3443)?;
    let netd = Netd::start(&world.cell)?;
    Ok(Setup {
        world,
        netd,
        admin: Arc::new((admin, Keys::make()?)),
        other: Arc::new((other, Keys::make()?)),
    })
}

impl Setup {
    fn client<'a>(&self, index: u8, device: &'a (Device, Keys)) -> Result<Client<'a>> {
        let endpoint = SocketAddr::new(IpAddr::V4(CELL.v4), PORT).to_string();
        let file = client_file(index, &device.1, &self.netd.keys, &endpoint);
        let client = Client::up(&device.0.namespace, &file)?;
        client.wait_for_handshake()?;
        Ok(client)
    }

    fn admin_peer(&self) -> v1::PeerSpec {
        peer(1, "admin", &self.admin.1.public_bytes, access(false, false, &[]))
    }

    fn other_peer(&self, internet: bool) -> v1::PeerSpec {
        peer(
            2,
            "other",
            &self.other.1.public_bytes,
            access(internet, false, &[]),
        )
    }

    fn good(&self) -> v1::NetworkSpec {
        spec(vec![self.admin_peer(), self.other_peer(false)])
    }

    /// The administrator can speak to the API.
    fn reachable(&self) -> bool {
        let api = SocketAddr::new("10.86.0.1".parse().unwrap(), 443);
        tcp_echo(&self.admin.0.namespace, api, SECOND).unwrap()
    }

    fn wait(&self, spec: v1::NetworkSpec, etag: &str) -> Result<v1::ApplyNetworkResponse> {
        let request = v1::ApplyNetworkRequest {
            spec: Some(spec),
            etag: etag.to_owned(),
            validate_only: false,
            confirm_within_seconds: SHORT,
        };
        Ok(self.netd.apply_request(request)?)
    }

    /// Nothing is left to do for that state.
    fn in_force(&self, spec: v1::NetworkSpec) -> Result<bool> {
        let request = v1::ApplyNetworkRequest {
            spec: Some(spec),
            etag: String::new(),
            validate_only: true,
            confirm_within_seconds: 0,
        };
        Ok(self.netd.apply_request(request)?.change_count == 0)
    }
}

/// Everything that arrives at the far host.
fn arrivals(internet: &Namespace) -> Result<Vec<Counter>> {
    let each = FAR_HOST.each().into_iter();
    each.map(|far| Counter::install(internet, Spec::to(host(far), Protocol::Any)))
        .collect()
}

fn arrived(counters: &[Counter]) -> u64 {
    counters.iter().map(|counter| counter.packets().unwrap()).sum()
}

#[test]
fn who_locks_themselves_out_is_back_by_themselves_and_nothing_leaks_meanwhile() -> Result<()> {
    let mut setup = setup()?;
    let counters = arrivals(&setup.world.internet)?;
    setup.netd.apply(setup.good(), "")?;
    let (admin, other) = (Arc::clone(&setup.admin), Arc::clone(&setup.other));
    let _clients = (setup.client(1, &admin)?, setup.client(2, &other)?);
    ensure!(setup.reachable(), "the control");
    let probers = FAR_HOST.each().map(|far| {
        Prober::start(
            &other.0.namespace,
            SocketAddr::new(far, 80),
            Duration::from_millis(20),
        )
        .unwrap()
    });

    // The port of the API is closed, and nobody speaks to netd any more.
    let mut closed = setup.good();
    closed.cell_ports.clear();
    let asked = Instant::now();
    setup.wait(closed, &setup.netd.status()?.etag)?;
    ensure!(!setup.reachable(), "locked out");
    until(PATIENCE, "the administrator is back", || {
        setup.reachable().then_some(())
    })?;
    let took = asked.elapsed();
    ensure!(took < SECOND * (SHORT + 3), "back after {took:?}");
    ensure!(setup.in_force(setup.good())?);

    // The administrator's own device is removed, and netd is killed before the time is over.
    let removed = spec(vec![setup.other_peer(false)]);
    setup.wait(removed, &setup.netd.status()?.etag)?;
    ensure!(!setup.reachable(), "locked out");
    setup.netd.process.signal(Signal::SIGKILL)?;
    setup.netd.process.wait(PATIENCE)?;
    std::thread::sleep(SECOND);
    ensure!(!setup.reachable(), "the kernel stays as it is while netd is dead");
    setup.netd.restart(&setup.world.cell)?;
    ensure!(
        setup.in_force(setup.good())?,
        "with the first answer of the new netd"
    );
    until(NEW_HANDSHAKE, "the administrator is back", || {
        setup.reachable().then_some(())
    })?;

    let reports = probers.map(|prober| prober.stop().unwrap());
    for report in &reports {
        ensure!(
            report.sent.len() > 200 && report.answered.is_empty(),
            "{}",
            report.sent.len()
        );
    }
    ensure!(arrived(&counters) == 0, "{} packets leaked", arrived(&counters));
    setup.netd.delta(vec![setup.other_peer(true)], &[])?;
    for far in FAR_HOST.each() {
        ensure!(
            tcp_echo(&other.0.namespace, SocketAddr::new(far, 80), PATIENCE)?,
            "the control"
        );
    }
    ensure!(arrived(&counters) > 0, "what leaks is counted");
    Ok(())
}

#[test]
fn a_machine_that_starts_while_a_change_waits_has_the_state_before() -> Result<()> {
    let mut setup = setup()?;
    setup.netd.apply(setup.good(), "")?;
    let admin = Arc::clone(&setup.admin);
    let _client = setup.client(1, &admin)?;
    ensure!(setup.reachable(), "the control");
    let removed = spec(vec![setup.other_peer(false)]);
    setup.wait(removed, &setup.netd.status()?.etag)?;
    ensure!(!setup.reachable(), "locked out");
    // Nothing but the disk knows of anything.
    setup.netd.process.signal(Signal::SIGKILL)?;
    setup.netd.process.wait(PATIENCE)?;
    setup.netd.crash_wg()?;
    forget(&setup.world.cell)?;
    setup.netd.restart(&setup.world.cell)?;
    ensure!(
        setup.in_force(setup.good())?,
        "with the first answer of netd after the start"
    );
    until(NEW_HANDSHAKE, "the administrator is back", || {
        setup.reachable().then_some(())
    })
}

/// What a machine that starts has not: policy, rules, routes and interfaces of netd's.
fn forget(cell: &Namespace) -> Result<()> {
    flush(cell)?;
    if is_legacy() {
        for program in ["iptables-legacy", "ip6tables-legacy"] {
            for table in ["filter", "nat", "raw", "mangle"] {
                cell.run(program, &["-t", table, "-F"])?;
                cell.run(program, &["-t", table, "-X"])?;
            }
        }
        cell.run("ipset", &["destroy"])?;
    }
    for family in ["-4", "-6"] {
        cell.ip(&format!("{family} rule flush protocol 206"))?;
        // There is none where no exit was made.
        let _routes = cell.ip(&format!("{family} route flush table all proto 206"));
    }
    // cell-wg has let go of it when it died, unless netd made it so that it stays.
    let _wg0 = cell.ip("link delete wg0");
    ensure!(cell.ip("link show wg0").is_err(), "wg0 is still there");
    ensure!(
        !cell.run("nft", &["list", "tables"])?.contains("cell"),
        "a table is still there"
    );
    Ok(())
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// netd died before it kept anything.
    Untouched,
    /// It came back from the disk.
    RolledBack,
    /// It was confirmed.
    Stands,
}

#[test]
fn killed_at_any_moment_the_old_state_stands_or_a_confirmed_new_one() -> Result<()> {
    let mut setup = setup()?;
    let good = setup.good();
    let mut bad = spec(vec![setup.other_peer(true)]);
    bad.cell_ports.clear();
    setup.netd.apply(good.clone(), "")?;
    let (mut ends, mut state, mut whole) = (BTreeMap::<End, u32>::new(), 2026, Duration::ZERO);
    for number in 0..=KILLS {
        let etag = setup.netd.status()?.etag;
        let etag = setup.netd.apply(good.clone(), &etag)?.etag;
        // The first round is not cut off, and tells how long a round is.
        let at_most = match number {
            0 => PATIENCE,
            _ => whole.mul_f64(1.2 * draw(&mut state)),
        };
        let begun = Instant::now();
        let (mut client, bad_spec, asked) = (setup.netd.client(), bad.clone(), AtomicBool::new(false));
        let confirmed = setup.netd.within(at_most, async {
            let request = v1::ApplyNetworkRequest {
                spec: Some(bad_spec),
                etag,
                validate_only: false,
                confirm_within_seconds: 600,
            };
            let applied = client.apply_network(request).await?.into_inner();
            asked.store(true, Ordering::Relaxed);
            let request = v1::ConfirmNetworkRequest { etag: applied.etag };
            client.confirm_network(request).await
        });
        setup.netd.process.signal(Signal::SIGKILL)?;
        setup.netd.process.wait(PATIENCE)?;
        if number == 0 {
            whole = begun.elapsed();
        }
        let confirmed = confirmed.transpose()?.is_some();
        setup.netd.restart(&setup.world.cell)?;
        let end = end(&setup, &good, &bad).with_context(|| format!("{number}: after {at_most:?}"))?;
        ensure!(
            !confirmed || end == End::Stands,
            "{number}: {end:?} though it was confirmed"
        );
        ensure!(
            end != End::Stands || asked.load(Ordering::Relaxed),
            "{number}: it stands though nobody confirmed it"
        );
        *ends.entry(end).or_default() += 1;
    }
    println!("{ends:?}, a whole round takes {whole:?}");
    // How many of each depends on the machine.
    ensure!(ends.len() == 3, "{ends:?}: too one-sided");
    Ok(())
}

/// What the netd after the kill makes of it.
fn end(setup: &Setup, good: &v1::NetworkSpec, bad: &v1::NetworkSpec) -> Result<End> {
    let status = setup.netd.status()?;
    let (is_good, is_bad) = (setup.in_force(good.clone())?, setup.in_force(bad.clone())?);
    ensure!(is_good != is_bad, "neither or both: {is_good} {is_bad}");
    ensure!(status.pending.is_none());
    match status.last_rollback {
        Some(rollback) => {
            ensure!(
                is_good && rollback.reason() == v1::RollbackReason::Restarted,
                "{rollback:?}"
            );
            Ok(End::RolledBack)
        }
        None if is_good => Ok(End::Untouched),
        None => Ok(End::Stands),
    }
}

/// Numbers in 0..1 that look random and are the same each time (Knuth, MMIX).
fn draw(state: &mut u64) -> f64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    f64::from((*state >> 32) as u32) / f64::from(u32::MAX)
}
