//! netd that renders for legacy iptables, with cell-iptables beside it: what is particular to it. The other tests run with it too,
//! by `CELL_TEST_RENDERER=iptables`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use cell_lab::netns::Namespace;
use cell_lab::probe::{EchoServer, tcp_echo};
use cell_lab::prober::Prober;
use cell_lab::process::until;
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device, FAR_HOST, World};
use cell_proto::netd::v1::{AccessPolicy, NetworkSpec};
use support::{Keys, Netd, PATIENCE, PORT, access, client_file, peer, spec};

struct Setup {
    world: World,
    netd: Netd,
    a: (Device, Keys),
    b: (Device, Keys),
}

fn setup(legacy: bool) -> Result<Setup> {
    let mut world = World::new()?;
    world.cell.forward()?;
    let (a, b) = (world.device("a")?, world.device("b")?);
    EchoServer::start(&world.internet, 80)?;
    EchoServer::start(&world.cell, 3443)?;
    let netd = Netd::start_rendering(&world.cell, legacy)?;
    Ok(Setup {
        world,
        netd,
        a: (a, Keys::make()?),
        b: (b, Keys::make()?),
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

    /// Device a has internet, b has not.
    fn spec(&self) -> NetworkSpec {
        let of = |index, name: &str, keys: &Keys, access: AccessPolicy| {
            peer(index, name, &keys.public_bytes, access)
        };
        spec(vec![
            of(1, "a", &self.a.1, access(true, false, &[])),
            of(2, "b", &self.b.1, access(false, false, &[])),
        ])
    }

    fn holds(&self, when: &str) {
        for far in FAR_HOST.each() {
            assert!(reaches(&self.a.0.namespace, far, 3), "{when}: a may: {far}");
            assert!(!reaches(&self.b.0.namespace, far, 1), "{when}: b may not: {far}");
        }
    }

    fn cell(&self, command: &str) -> Result<String> {
        let words: Vec<&str> = command.split(' ').collect();
        self.world.cell.run(words[0], &words[1..])
    }
}

fn reaches(from: &Namespace, to: IpAddr, seconds: u64) -> bool {
    tcp_echo(from, SocketAddr::new(to, 80), Duration::from_secs(seconds)).unwrap()
}

#[test]
fn what_root_does_to_the_tables_is_found_and_repaired() -> Result<()> {
    let setup = setup(true)?;
    let first = setup.netd.apply(setup.spec(), "")?;
    let again = setup.netd.apply(setup.spec(), &first.etag)?;
    assert!(again.changes.is_empty(), "twice is once: {:?}", again.changes);
    assert_eq!(setup.netd.condition("PolicyRenderer")?.reason, "IPTABLES");
    assert_eq!(setup.netd.condition("TableOwned")?.reason, "SHARED");
    let _clients = (setup.client(1, &setup.a)?, setup.client(2, &setup.b)?);
    setup.holds("at first");
    let mut repairs = setup.netd.status()?.drift_repairs;
    for spoil in [
        "iptables-legacy -t mangle -F",
        "ip6tables-legacy -t mangle -D FORWARD -j CELL-forward",
        "iptables-legacy -t mangle -I FORWARD -j ACCEPT",
        "ip6tables-legacy -t mangle -F CELL-from_peer",
        "iptables-legacy -t nat -F",
        "iptables-legacy -t filter -F",
        "ipset flush CELL-peers6",
        "ipset add CELL-internet4 10.86.0.3",
    ] {
        setup.cell(spoil)?;
        repairs = until(PATIENCE, spoil, || {
            let status = setup.netd.status().ok()?;
            let converged = status.observed_generation == status.generation;
            (status.drift_repairs > repairs && converged).then_some(status.drift_repairs)
        })?;
        setup.holds(spoil);
    }
    // What others have in those tables stays, behind ours.
    let others = setup.cell("iptables-legacy -t mangle -S FORWARD")?;
    assert!(
        others.contains("-j CELL-forward\n-A FORWARD -j ACCEPT"),
        "{others}"
    );
    setup.netd.apply(NetworkSpec::default(), "")?;
    // What is left lets nothing pass: bridges of services are closed.
    for program in ["iptables-legacy-save", "ip6tables-legacy-save"] {
        assert!(setup.cell(program)?.contains("-A CELL-raw"), "{program}");
    }
    let sets = setup.cell("ipset save")?;
    for set in ["peers4", "internet4", "svc4", "svc_hosts4"] {
        assert!(!sets.contains(&format!("add CELL-{set} ")), "{set}");
    }
    assert!(
        setup
            .cell("iptables-legacy -t mangle -S FORWARD")?
            .contains("ACCEPT")
    );
    Ok(())
}

/// Rules and sets change one after the other; whatever stands in between, who may not does not pass, and who may goes on.
#[test]
fn while_the_policy_is_replaced_nobody_passes_who_may_not() -> Result<()> {
    const ROUNDS: u32 = 24;
    let setup = setup(true)?;
    setup.netd.apply(setup.spec(), "")?;
    let _clients = (setup.client(1, &setup.a)?, setup.client(2, &setup.b)?);
    setup.holds("at first");
    let far = SocketAddr::new(FAR_HOST.each()[0], 80);
    let denied = Prober::start(&setup.b.0.namespace, far, Duration::from_millis(2))?;
    let allowed = Prober::start(&setup.a.0.namespace, far, Duration::from_millis(5))?;
    for round in 0..ROUNDS {
        let mut wanted = setup.spec();
        // Another translation: the rules of `nat` are others, and the sets of the ports.
        wanted.cell_ports[0].target_port = 3443 + round % 2;
        // Others' prefixes on the links: the rules of `mangle` are others too.
        let verb = if round % 2 == 0 { "add" } else { "del" };
        setup.cell(&format!("ip address {verb} 100.99.0.1/24 dev lan"))?;
        let answer = setup.netd.apply(wanted, "")?;
        assert!(round == 0 || !answer.changes.is_empty(), "{round}");
    }
    let (denied, allowed) = (denied.stop()?, allowed.stop()?);
    assert!(denied.sent.len() > 500, "{}", denied.sent.len());
    assert_eq!(denied.answered.len(), 0, "of {}", denied.sent.len());
    let (answered, sent) = (allowed.answered.len(), allowed.sent.len());
    assert!(answered * 10 > sent * 9, "a goes on: {answered} of {sent}");
    setup.holds("at last");
    Ok(())
}

#[test]
fn an_entry_that_is_replaced_is_found_too() -> Result<()> {
    let setup = setup(true)?;
    setup.netd.apply(setup.spec(), "")?;
    let _clients = (setup.client(1, &setup.a)?, setup.client(2, &setup.b)?);
    // As many as before: only a look at all entries tells.
    setup.cell("ipset del CELL-internet4 10.86.0.2")?;
    setup.cell("ipset add CELL-internet4 10.86.0.3")?;
    let repaired = until(Duration::from_secs(60), "the deep look repairs it", || {
        (setup.netd.status().ok()?.drift_repairs > 0).then_some(())
    });
    repaired?;
    setup.holds("after it");
    Ok(())
}

#[test]
fn while_cell_iptables_is_dead_the_policy_holds_and_changes_wait() -> Result<()> {
    let mut setup = setup(true)?;
    setup.netd.apply(setup.spec(), "")?;
    {
        let _clients = (setup.client(1, &setup.a)?, setup.client(2, &setup.b)?);
        setup.netd.restorer.as_mut().unwrap().crash()?;
        setup.holds("without it");
    }
    setup.netd.restorer.as_mut().unwrap().restart(&setup.world.cell)?;
    let mut narrower = setup.spec();
    narrower.peers.remove(0);
    let answer = setup.netd.apply(narrower, "")?;
    assert!(!answer.changes.is_empty());
    assert!(!setup.cell("ipset list CELL-peers4")?.contains("10.86.0.2"));
    // A netd that was started anew takes over what stands, without touching it.
    setup.netd.crash_and_restart(&setup.world.cell)?;
    let mut narrower = setup.spec();
    narrower.peers.remove(0);
    let again = setup.netd.apply(narrower, "")?;
    assert!(again.changes.is_empty(), "{:?}", again.changes);
    Ok(())
}

#[test]
fn from_nftables_to_iptables_no_packet_is_unjudged_and_one_policy_is_left() -> Result<()> {
    let mut setup = setup(false)?;
    setup.netd.apply(setup.spec(), "")?;
    assert_eq!(setup.netd.condition("PolicyRenderer")?.reason, "NFTABLES");
    assert!(setup.cell("nft list tables")?.contains("inet cell"));
    {
        let _clients = (setup.client(1, &setup.a)?, setup.client(2, &setup.b)?);
        setup.holds("nftables");
    }
    setup.netd.render_legacy(&setup.world.cell)?;
    // The new one stands from the start: nothing passes by it until it is told what may.
    assert!(setup.cell("iptables-legacy-save")?.contains("-A CELL-raw"));
    assert!(!setup.cell("nft list tables")?.contains("inet cell"));
    setup.netd.apply(setup.spec(), "")?;
    assert!(!setup.cell("nft list tables")?.contains("inet cell"));
    let _clients = (setup.client(1, &setup.a)?, setup.client(2, &setup.b)?);
    setup.holds("iptables");
    Ok(())
}
