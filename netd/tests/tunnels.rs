//! Exits whose tunnels are real: netd makes the device with vaultd's keys, and packets of a peer come out at the provider. While
//! devices, processes and keys come and go, nothing goes the machine's own way.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/provider.rs"]
mod provider;
mod support;

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cell_lab::counter::{Counter, Protocol, Spec, host};
use cell_lab::netns::Namespace;
use cell_lab::probe::{ping, tcp_echo, udp_echo};
use cell_lab::prober::Prober;
use cell_lab::process::until;
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device, FAR_HOST, World};
use cell_proto::netd::v1;
use cell_proto::netd::v1::ExitState;
use provider::{Provider, id, link, near, secret};
use support::{Keys, Netd, PATIENCE, PORT, access, client_file, flush, peer, spec};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(20);
/// TCP, UDP and ping, of both families.
const ALL: usize = 6;

struct Setup {
    world: World,
    netd: Netd,
    device: Arc<Device>,
    keys: Keys,
    providers: Arc<[Provider; 2]>,
    revision: u64,
    /// What goes for the far host by the machine's own way.
    own_way: Vec<Counter>,
}

impl Setup {
    /// On a machine that checks return paths strictly wherever nobody says otherwise.
    fn new() -> Result<Self> {
        let mut world = World::new()?;
        world.cell.forward()?;
        world.cell.set_sysctl("ipv4/conf/all/rp_filter", "1")?;
        world.cell.set_sysctl("ipv4/conf/default/rp_filter", "1")?;
        let device = Arc::new(world.device("a")?);
        let netd = Netd::start(&world.cell)?;
        let providers = Provider::pair(&mut world, &netd)?;
        let far = FAR_HOST.each().into_iter();
        let own_way = far.map(|far| Counter::install(&world.internet, Spec::to(host(far), Protocol::Any)));
        Ok(Setup {
            own_way: own_way.collect::<Result<_>>()?,
            world,
            netd,
            device,
            keys: Keys::make()?,
            providers: Arc::new(providers),
            revision: 0,
        })
    }

    fn leaked(&self) -> u64 {
        self.own_way
            .iter()
            .map(|counter| counter.packets().unwrap())
            .sum()
    }

    fn spec(&self, through: u32) -> v1::NetworkSpec {
        let mut bound = peer(1, "a", &self.keys.public_bytes, access(true, false, &[]));
        bound.exit = id(through);
        let mut spec = spec(vec![bound]);
        spec.exits = self
            .providers
            .iter()
            .map(|provider| provider.exit(self.revision))
            .collect();
        spec
    }

    fn apply(&self, through: u32) -> Result<()> {
        Ok(self.netd.apply(self.spec(through), "").map(drop)?)
    }

    fn client<'a>(&self, device: &'a Device) -> Result<Client<'a>> {
        let endpoint = SocketAddr::new(IpAddr::V4(CELL.v4), PORT).to_string();
        let file = client_file(1, &self.keys, &self.netd.keys, &endpoint);
        let client = Client::up(&device.namespace, &file)?;
        client.wait_for_handshake()?;
        Ok(client)
    }

    fn answered(&self) -> usize {
        let from = &self.device.namespace;
        let one = |far: IpAddr| {
            let to = SocketAddr::new(far, 80);
            [
                tcp_echo(from, to, SECOND).unwrap(),
                udp_echo(from, to, 2, SECOND).unwrap() > 0,
                ping(from, far, 2, TICK * 10, SECOND).unwrap().received > 0,
            ]
        };
        FAR_HOST
            .each()
            .into_iter()
            .flat_map(one)
            .filter(|answered| *answered)
            .count()
    }

    /// Everything is answered, and all of it came out at that provider, from the tunnel's near end.
    fn all_by(&self, index: usize) -> Result<()> {
        let before = self.providers[index].packets();
        until(PATIENCE, "the exit carries", || {
            (self.answered() == ALL).then_some(())
        })?;
        let after = self.providers[index].packets();
        ensure!(
            after[0] >= before[0] + 6 && after[1] >= before[1] + 6,
            "{before:?} {after:?}"
        );
        ensure!(self.leaked() == 0, "{} packets leaked", self.leaked());
        Ok(())
    }

    fn states(&self) -> Vec<ExitState> {
        self.netd
            .status()
            .unwrap()
            .exits
            .iter()
            .map(v1::ExitStatus::state)
            .collect()
    }

    fn index_of(&self, exit: u32) -> Result<String> {
        let shown = self.world.cell.ip(&format!("-o link show {}", link(exit)))?;
        Ok(shown.split(':').next().unwrap_or_default().to_owned())
    }
}

#[test]
fn a_peer_comes_out_at_the_provider_and_a_new_key_is_taken_up() -> Result<()> {
    let mut setup = Setup::new()?;
    setup.apply(0)?;
    assert_eq!(setup.states(), [ExitState::Ready; 2]);
    assert_eq!(setup.netd.condition("ExitsReady")?.reason, "READY");
    let (device, providers) = (Arc::clone(&setup.device), Arc::clone(&setup.providers));
    let _client = setup.client(&device)?;
    assert_eq!(setup.answered(), 0, "the far ends are not up");
    {
        let _far = [providers[0].up()?, providers[1].up()?];
        setup.all_by(0)?;
        setup.apply(1)?;
        setup.all_by(1)?;
        // netd reads devices a second apart at most: its word may still be from before the last packets.
        until(PATIENCE, "what went through the tunnels is counted", || {
            let status = setup.netd.status().ok()?;
            let carried = |exit: &v1::ExitStatus| {
                exit.latest_handshake_unix_ms > 0 && exit.received_bytes > 500 && exit.sent_bytes > 500
            };
            status.exits.iter().all(carried).then_some(())
        })?;
        assert_eq!(setup.netd.status()?.exits.len(), 2);
        assert_eq!(setup.netd.status()?.drift_repairs, 0, "nobody meddled");
    }
    for family in ["-4", "-6"] {
        let main = setup.world.cell.ip(&format!("{family} route show table main"))?;
        let strange = main
            .lines()
            .filter(|line| line.contains("wgext_") && !line.starts_with("fe80::/64"));
        assert_eq!(strange.collect::<Vec<_>>(), Vec::<&str>::new());
    }

    // The provider gives out another key: with the old one nothing is carried, with the new one everything.
    let former = providers[1].near();
    providers[1].change(&setup.netd)?;
    let far = providers[1].up()?;
    assert_eq!(setup.answered(), 0, "netd was not told");
    setup.revision = 1;
    setup.apply(1)?;
    setup.all_by(1)?;
    assert_eq!(far.peers()?[0].public_key, providers[1].near().public);
    // Secrets are in no log.
    let logs = setup.netd.process.output() + &setup.netd.wg.output();
    for keys in [former, providers[0].near(), providers[1].near()] {
        assert!(!logs.contains(&keys.private), "{logs}");
    }
    // Without exits their interfaces go.
    setup.netd.apply(spec(vec![]), "")?;
    let links = setup.world.cell.ip("-o link show")?;
    assert!(!links.contains("wgext_") && links.contains("wg0"), "{links}");
    Ok(())
}

/// Counts first segments of connections where they arrive, by whether they announce that segments may be this long, or another.
fn count_segments(at: &Namespace, family: &str, longest: u16) -> Result<()> {
    let syn = format!("meta nfproto {family} tcp flags & (syn | ack) == syn tcp option maxseg size");
    let rules = format!(
        "add table inet mss_{family}; add chain inet mss_{family} in {{ type filter hook prerouting priority -400; }}; \
         add counter inet mss_{family} this; add counter inet mss_{family} other; \
         add rule inet mss_{family} in {syn} {longest} counter name this; \
         add rule inet mss_{family} in {syn} != {longest} counter name other"
    );
    at.run("nft", &[&rules]).map(drop)
}

fn counted_segments(at: &Namespace, family: &str) -> Result<[u64; 2]> {
    let counted = |name: &str| -> Result<u64> {
        let listed = at.run(
            "nft",
            &["list", "counter", "inet", &format!("mss_{family}"), name],
        )?;
        let packets = listed.split("packets ").nth(1).context("a counter")?;
        Ok(packets.split(' ').next().unwrap_or_default().parse()?)
    };
    Ok([counted("this")?, counted("other")?])
}

/// The device's own tunnel takes 1420 bytes and the exit's 1380: a connection announces what fits through both.
#[test]
fn connections_announce_segments_that_the_exit_takes() -> Result<()> {
    let setup = Setup::new()?;
    setup.apply(0)?;
    let (device, providers) = (Arc::clone(&setup.device), Arc::clone(&setup.providers));
    let _client = setup.client(&device)?;
    let _far = providers[0].up()?;
    setup.all_by(0)?;
    let (cell, far) = (&setup.world.cell, providers[0].namespace());
    // Without the headers of IP and TCP, which are 40 bytes, and 60 of IPv6.
    let of_families = [("ipv4", 1380, 1340), ("ipv6", 1360, 1320)];
    for ((family, by_itself, through), to) in of_families.into_iter().zip(FAR_HOST.each()) {
        count_segments(cell, family, by_itself)?;
        count_segments(far, family, through)?;
        assert!(
            tcp_echo(&device.namespace, SocketAddr::new(to, 80), PATIENCE)?,
            "{family}"
        );
        let [announced, _of_others] = counted_segments(cell, family)?;
        assert!(
            announced > 0,
            "control: the device by itself announces more, {family}"
        );
        let [fits, other] = counted_segments(far, family)?;
        assert!(
            fits > 0 && other == 0,
            "{family}: {fits} as the exit takes, {other} others"
        );
    }
    Ok(())
}

#[test]
fn whatever_is_undone_or_dies_comes_back_and_nothing_leaks_meanwhile() -> Result<()> {
    let mut setup = Setup::new()?;
    let (device, providers) = (Arc::clone(&setup.device), Arc::clone(&setup.providers));
    setup.apply(0)?;
    let _far = [providers[0].up()?, providers[1].up()?];
    let _client = setup.client(&device)?;
    setup.all_by(0)?;
    let start = |far| Prober::start(&device.namespace, SocketAddr::new(far, 80), TICK);
    let probers: Vec<Prober> = FAR_HOST.each().into_iter().map(start).collect::<Result<_>>()?;
    let name = link(0);
    let [four, six] = near(0);
    for command in [
        format!("link delete {name}"),
        format!("link set {name} down"),
        format!("address delete {four}/32 dev {name}"),
        format!("-6 address delete {six}/128 dev {name}"),
        format!("address add 192.0.2.77/24 dev {name}"),
        format!("link set {name} mtu 1280"),
    ] {
        setup.world.cell.ip(&command)?;
        repaired(&setup, 0).with_context(|| command.clone())?;
        let shown = setup.world.cell.ip(&format!("address show {name}"))?;
        ensure!(
            shown.contains("mtu 1380") && !shown.contains("192.0.2.77"),
            "{command}: {shown}"
        );
        setup.all_by(0).with_context(|| command)?;
    }
    assert!(setup.netd.status()?.drift_repairs >= 5, "each was counted");

    // A netd that is started anew finds its tunnels, and does not even need vaultd for them.
    let secrets = std::mem::take(&mut *setup.netd.exit_secrets.lock().unwrap());
    let before = setup.index_of(0)?;
    setup.netd.process.signal(nix::sys::signal::Signal::SIGKILL)?;
    setup.netd.process.wait(PATIENCE)?;
    setup.all_by(0).context("without netd")?;
    setup.netd.restart(&setup.world.cell)?;
    setup.all_by(0).context("before the first spec")?;
    setup.apply(0)?;
    assert_eq!(setup.states(), [ExitState::Ready; 2]);
    assert_eq!(setup.index_of(0)?, before, "the tunnel is the one that was there");
    setup.all_by(0).context("netd was killed")?;
    *setup.netd.exit_secrets.lock().unwrap() = secrets;

    // cell-wg holds the peer's own tunnel too: all of it comes back.
    setup.netd.crash_wg()?;
    repaired(&setup, 0).context("cell-wg")?;
    setup.all_by(0).context("cell-wg was killed")?;
    for prober in probers {
        let sent = prober.stop()?.sent.len();
        ensure!(sent > 200, "{sent} probes were sent all the time");
    }
    ensure!(setup.leaked() == 0, "{} packets leaked", setup.leaked());
    Ok(())
}

/// netd saw it and has put it right.
fn repaired(setup: &Setup, exit: usize) -> Result<()> {
    until(2 * PATIENCE, "the exit is put right", || {
        let status = setup.netd.status().ok()?;
        let ready = status.exits[exit].state() == ExitState::Ready;
        let whole = setup
            .world
            .cell
            .ip(&format!("address show {}", link(exit as u32)))
            .is_ok_and(|shown| {
                near(exit as u32)
                    .iter()
                    .all(|near| shown.contains(&near.to_string()))
                    && shown.contains("LOWER_UP")
                    && shown.contains("mtu 1380")
                    && !shown.contains("192.0.2.77")
            });
        (ready && whole && status.observed_generation == status.generation).then_some(())
    })
    .map(drop)
}

const TRANSITIONS: u32 = 60;
const BETWEEN: Duration = Duration::from_millis(150);

/// What happens to real tunnels while their peer speaks.
#[derive(Debug, Clone, Copy)]
enum Transition {
    Bind(u32),
    Delete(u32),
    Down(u32),
    NoRules,
    NoRoutes,
    Flush,
    /// vaultd has other keys than the far end, or the right ones again.
    Keys(u32),
    KillNetd,
    KillWg,
}

const KINDS: [Transition; 11] = [
    Transition::Bind(0),
    Transition::Bind(1),
    Transition::Delete(0),
    Transition::Delete(1),
    Transition::Down(0),
    Transition::Down(1),
    Transition::NoRules,
    Transition::NoRoutes,
    Transition::Flush,
    Transition::Keys(0),
    Transition::KillNetd,
];

fn happen(setup: &mut Setup, bound: &mut u32, transition: Transition) -> Result<()> {
    let ip = |setup: &Setup, command: String| setup.world.cell.ip(&command);
    match transition {
        Transition::Bind(exit) => {
            *bound = exit;
            setup.apply(exit)?;
        }
        // What is not there at the moment cannot go.
        Transition::Delete(exit) => drop(ip(setup, format!("link delete {}", link(exit)))),
        Transition::Down(exit) => drop(ip(setup, format!("link set {} down", link(exit)))),
        Transition::NoRules => {
            for family in ["-4", "-6"] {
                ip(setup, format!("{family} rule flush protocol 206"))?;
            }
        }
        Transition::NoRoutes => {
            for family in ["-4", "-6"] {
                let _none = ip(setup, format!("{family} route flush table all proto 206"));
            }
        }
        Transition::Flush => flush(&setup.world.cell)?,
        Transition::Keys(exit) => {
            let name = secret(exit, "wireguard_key");
            let right = setup.providers[exit as usize].near().private.into_bytes();
            let mut secrets = setup.netd.exit_secrets.lock().unwrap();
            let wrong = secrets.remove(&name).is_some();
            if !wrong {
                secrets.insert(name, right);
            }
            drop(secrets);
            setup.revision += 1;
            setup.apply(*bound)?;
        }
        Transition::KillNetd => {
            setup.netd.crash_and_restart(&setup.world.cell)?;
            setup.apply(*bound)?;
        }
        Transition::KillWg => setup.netd.crash_wg()?,
    }
    Ok(())
}

/// Opens flows until told to stop; answers how many.
fn speak(device: &Device, far: IpAddr, stop: &AtomicBool) -> Result<u64> {
    let to = SocketAddr::new(far, 80);
    let any: SocketAddr = if far.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse()?;
    device.namespace.inside(|| {
        let mut opened = 0;
        while !stop.load(Ordering::Relaxed) {
            // Refusals are what is wanted here as often as not.
            let datagram = UdpSocket::bind(any).and_then(|socket| socket.send_to(b"leak?", to));
            let _connected = TcpStream::connect_timeout(&to, TICK);
            opened += u64::from(datagram.is_ok());
        }
        opened
    })
}

/// The same each time (Knuth, MMIX).
fn draw(state: &mut u64) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

#[test]
fn no_packet_leaks_in_any_order_of_what_may_happen_to_real_tunnels() -> Result<()> {
    let mut setup = Setup::new()?;
    let (device, providers) = (Arc::clone(&setup.device), Arc::clone(&setup.providers));
    setup.apply(0)?;
    let _far = [providers[0].up()?, providers[1].up()?];
    let _client = setup.client(&device)?;
    setup.all_by(0)?;
    let stop = AtomicBool::new(false);
    let mut bound = 0;
    let outcome = std::thread::scope(|scope| -> Result<u64> {
        let far = FAR_HOST.each().into_iter();
        let speakers: Vec<_> = far
            .map(|far| {
                let (device, stop) = (&device, &stop);
                scope.spawn(move || speak(device, far, stop))
            })
            .collect();
        let mut state = 2026;
        let happened = (1..=TRANSITIONS).try_for_each(|number| {
            let drawn = KINDS[draw(&mut state) % KINDS.len()];
            let killed = number.is_multiple_of(20);
            let transition = if killed { Transition::KillWg } else { drawn };
            happen(&mut setup, &mut bound, transition)
                .with_context(|| format!("{number}: {transition:?}"))?;
            std::thread::sleep(BETWEEN);
            let leaked = setup.leaked();
            ensure!(leaked == 0, "{leaked} leaked at {number}: {transition:?}");
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        let opened = speakers.into_iter().map(|speaker| speaker.join().unwrap());
        let opened = opened.sum::<Result<u64>>()?;
        happened.map(|()| opened)
    });
    let opened = outcome?;
    for provider in &*setup.providers {
        provider.deposit(&setup.netd);
    }
    setup.revision += 1;
    setup.apply(1)?;
    setup.all_by(1)?;
    let through: u64 = setup.providers.iter().flat_map(Provider::packets).sum();
    println!("{TRANSITIONS} transitions, {opened} flows, {through} packets through the tunnels");
    ensure!(
        opened > 500 && through > 200,
        "{opened} {through}: too little was said"
    );
    // The control: what goes the machine's own way is counted.
    let mut free = setup.spec(1);
    free.peers[0].exit.clear();
    setup.netd.apply(free, "")?;
    setup.answered();
    ensure!(setup.leaked() > 0, "the counters see nothing");
    Ok(())
}

#[test]
fn an_exit_without_a_key_is_unreachable_says_so_and_comes_when_it_has_one() -> Result<()> {
    let setup = Setup::new()?;
    let key = setup
        .netd
        .exit_secrets
        .lock()
        .unwrap()
        .remove(&secret(0, "preshared_key_1"));
    let _far = [setup.providers[0].up()?, setup.providers[1].up()?];
    setup.apply(0)?;
    assert_eq!(setup.states(), [ExitState::NoKey, ExitState::Ready]);
    let condition = setup.netd.condition("ExitsReady")?;
    assert_eq!(condition.reason, "NOT_READY");
    assert!(
        condition.message.contains("preshared_key_1: NO_SECRET"),
        "{condition:?}"
    );
    let _client = setup.client(&setup.device)?;
    assert_eq!(setup.answered(), 0);
    assert!(setup.world.cell.ip(&format!("link show {}", link(0))).is_err());
    setup.apply(1)?;
    setup.all_by(1)?;
    setup.apply(0)?;
    setup
        .netd
        .exit_secrets
        .lock()
        .unwrap()
        .insert(secret(0, "preshared_key_1"), key.unwrap());
    until(2 * PATIENCE, "it is ready", || {
        (setup.states()[0] == ExitState::Ready).then_some(())
    })?;
    setup.all_by(0)
}
