//! Questions of a peer, end to end: a stock WireGuard client, netd, cell-egress, and exits whose tunnels are real. Whomever the peer
//! asks, its question goes to the relay and from there by its exit or not at all. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/containers.rs"]
mod containers;
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

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cell_lab::counter::{Counter, Protocol as Counted, Spec, host};
use cell_lab::probe::{EchoServer, tcp_echo, udp_echo};
use cell_lab::process::until;
use cell_lab::resolver::{self, Ended, FAILED, REFUSED, found};
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device, FAR_HOST, LAN_HOST, World};
use cell_proto::common::v1::{Endpoint, Protocol};
use cell_proto::egress::v1 as egress;
use cell_proto::netd::v1;
use containers::{Container, bridge, network};
use provider::{Provider, id, link};
use relay::Egress;
use support::{Keys, Netd, PATIENCE, PORT, access, client_file, peer, spec};

/// What the resolvers behind the ways have for every name: the machine's own way, and each exit.
const DEFAULT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const BY: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 10), Ipv4Addr::new(203, 0, 113, 11)];
/// And the house's own.
const HOUSE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 12);
/// The cell's own name and address.
const NAS: &str = "nas.home.arpa";
const CELL_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 86, 0, 1);
/// Nobody is there: a resolver that somebody wrote into a device by hand.
const NOBODY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 88);

struct Setup {
    world: World,
    netd: Netd,
    device: Arc<Device>,
    keys: Keys,
    providers: Arc<[Provider; 2]>,
    egress: Egress,
    /// Whatever leaves the cell for the far host's addresses, or for that of nobody, outside of the tunnels.
    own_way: Vec<Counter>,
}

impl Setup {
    fn new() -> Result<Self> {
        let mut world = World::new()?;
        world.cell.forward()?;
        world.cell.set_sysctl("ipv4/conf/all/rp_filter", "1")?;
        let device = Arc::new(world.device("a")?);
        let netd = Netd::start(&world.cell)?;
        let providers = Provider::pair(&mut world, &netd)?;
        for far in FAR_HOST.each() {
            let at = SocketAddr::new(far, 53);
            resolver::serve(&world.internet, at, DEFAULT)?;
            for (provider, address) in providers.iter().zip(BY) {
                resolver::serve(provider.namespace(), at, address)?;
            }
        }
        let [v4, v6] = FAR_HOST.each();
        let own_way = [v4, v6, NOBODY.into()].map(|far| Spec::to(host(far), Counted::Any));
        let own_way = own_way.map(|spec| Counter::install(&world.internet, spec));
        Ok(Setup {
            own_way: own_way.into_iter().collect::<Result<_>>()?,
            egress: Egress::start(&world.cell)?,
            world,
            netd,
            device,
            keys: Keys::make()?,
            providers: Arc::new(providers),
        })
    }

    fn peer(&self, through: Option<u32>) -> v1::PeerSpec {
        let mut peer = peer(1, "a", &self.keys.public_bytes, access(true, false, &[]));
        peer.exit = through.map(id).unwrap_or_default();
        peer
    }

    fn spec(&self, through: Option<u32>) -> v1::NetworkSpec {
        let mut spec = spec(vec![self.peer(through)]);
        let dns = [Protocol::Udp, Protocol::Tcp].map(|protocol| v1::CellPort {
            protocol: protocol.into(),
            port: 53,
            target_port: 9053,
            bound_target_port: 9054,
        });
        spec.cell_ports.extend(dns);
        spec.exits = self.providers.iter().map(|provider| provider.exit(0)).collect();
        spec.dns_upstreams = vec![SocketAddr::new(FAR_HOST.v4.into(), 53).into()];
        spec
    }

    /// The first exit's resolver is asked over IPv4, the second's over IPv6.
    fn dns(through: Option<u32>) -> egress::DnsSpec {
        let [v4, v6] = FAR_HOST
            .each()
            .map(|far| Endpoint::from(SocketAddr::new(far, 53)));
        let exit = |index, resolver| egress::DnsExit {
            id: id(index),
            upstreams: vec![resolver],
            reached: Some(egress::dns_exit::Reached::Interface(link(index))),
        };
        let nas = egress::dns_record::Data::Address(IpAddr::V4(CELL_INSIDE).into());
        let own = ["10.86.0.2", "fd86::2"].map(|own| own.parse::<IpAddr>().unwrap().into());
        egress::DnsSpec {
            zones: vec!["home.arpa".to_owned()],
            records: vec![egress::DnsRecord {
                name: NAS.to_owned(),
                ttl_seconds: 60,
                data: Some(nas),
            }],
            upstreams: vec![v4.clone()],
            exits: vec![exit(0, v4), exit(1, v6)],
            peers: vec![egress::DnsPeer {
                addresses: own.into(),
                exit_id: through.map(id).unwrap_or_default(),
            }],
            authority: None,
            authority_zones: Vec::new(),
        }
    }

    /// As cell-api does it: DNS first.
    fn bind(&self, through: Option<u32>) -> Result<()> {
        self.egress.apply_dns(&Setup::dns(through))?;
        self.netd.delta(vec![self.peer(through)], &[])?;
        Ok(())
    }

    fn client<'a>(&self, device: &'a Device) -> Result<Client<'a>> {
        let endpoint = SocketAddr::new(IpAddr::V4(CELL.v4), PORT).to_string();
        let file = client_file(1, &self.keys, &self.netd.keys, &endpoint);
        let client = Client::up(&device.namespace, &file)?;
        client.wait_for_handshake()?;
        Ok(client)
    }

    fn ask(&self, to: IpAddr, name: &str, tcp: bool) -> Option<Ended> {
        let to = SocketAddr::new(to, 53);
        resolver::ask(&self.device.namespace, to, name, tcp, 3 * PATIENCE / 4).unwrap()
    }

    /// Whomever the peer asks, over UDP and TCP, it is told this of a name that it has not asked for before.
    fn whoever_is_asked(&self, round: &str, expected: Ended) {
        let resolvers = [
            NOBODY.into(),
            FAR_HOST.v4.into(),
            FAR_HOST.v6.into(),
            LAN_HOST.v4.into(),
            LAN_HOST.v6.into(),
            CELL_INSIDE.into(),
        ];
        for (number, resolver) in resolvers.into_iter().enumerate() {
            for tcp in [false, true] {
                let name = format!("{round}{number}{tcp}.example");
                let told = patiently(Some(expected), || self.ask(resolver, &name, tcp));
                assert_eq!(told, Some(expected), "{resolver} tcp {tcp} {round}");
            }
        }
    }

    /// The relay's own question comes back by the exit.
    fn is_proven(&self, index: u32) -> Result<()> {
        until(PATIENCE, "a proof", || {
            let way = self.egress.dns_way(&id(index)).ok()?;
            (way.last_proven_unix_ms > 0).then_some(())
        })
    }

    fn leaked(&self) -> u64 {
        let packets = self.own_way.iter().map(|counter| counter.packets().unwrap());
        packets.sum()
    }
}

#[test]
fn a_bound_peers_questions_go_by_its_exit_whomever_it_asks() -> Result<()> {
    let setup = Setup::new()?;
    setup.egress.apply_dns(&Setup::dns(Some(0)))?;
    setup.netd.apply(setup.spec(Some(0)), "")?;
    let (device, providers) = (Arc::clone(&setup.device), Arc::clone(&setup.providers));
    let _client = setup.client(&device)?;
    let mut far = vec![providers[0].up()?, providers[1].up()?];
    // Without a question of a peer.
    for index in [0, 1] {
        setup.is_proven(index)?;
        assert_eq!(setup.egress.dns_way(&id(index))?.asked, 0);
        assert!(providers[index as usize].packets()[index as usize] > 0, "{index}");
    }
    assert_eq!(setup.egress.dns_way("")?.last_proven_unix_ms, 0);
    for index in [0, 1, 0] {
        setup.bind(Some(index))?;
        let before = providers[index as usize].packets();
        setup.whoever_is_asked(&format!("by{index}"), found(BY[index as usize]));
        let asked = providers[index as usize].packets()[index as usize];
        assert!(asked > before[index as usize] || index == 0, "control");
        assert_eq!(setup.leaked(), 0, "by {index}");
    }
    // The exit is down: the cell's names are there, others are not, and no other way is taken.
    far.remove(0);
    for tcp in [false, true] {
        assert_eq!(
            setup.ask(NOBODY.into(), NAS, tcp),
            Some(found(CELL_INSIDE)),
            "tcp {tcp}"
        );
    }
    assert_eq!(setup.ask(NOBODY.into(), "down.example", false), Some(FAILED));
    assert_eq!(setup.leaked(), 0, "while the exit is down");
    // Control: without an exit the peer is answered by the default resolver, and that is counted.
    setup.bind(None)?;
    let held = setup.netd.dropped("egress_stranger")?;
    for tcp in [false, true] {
        let name = format!("own{tcp}.example");
        assert_eq!(
            setup.ask(CELL_INSIDE.into(), &name, tcp),
            Some(found(DEFAULT)),
            "tcp {tcp}"
        );
    }
    assert!(setup.leaked() > 0, "control: the counters count");
    assert_eq!(setup.netd.dropped("egress_stranger")?, held);
    Ok(())
}

/// Asks again, as resolvers do, where the relay had no answer in time (it gives a resolver 1.5 s, which a busy machine may not take):
/// any other answer stands, and where none is expected the first one does.
fn patiently(expected: Option<Ended>, ask: impl Fn() -> Option<Ended>) -> Option<Ended> {
    const TIMES: usize = 3;
    let mut told = ask();
    for _ in 1..TIMES {
        if told != Some(FAILED) || told == expected {
            break;
        }
        told = ask();
    }
    told
}

/// NOERROR and SERVFAIL (RFC 1035 section 4.1.1).
const ANSWERED: u8 = 0;
const SERVER_FAILURE: u8 = 2;

/// A question from a port that stays the same, as some resolvers ask, and one in a connection that stays open.
struct Kept {
    udp: UdpSocket,
    tcp: TcpStream,
}

impl Kept {
    fn open(device: &Device) -> Result<Self> {
        let cell = SocketAddr::new(CELL_INSIDE.into(), 53);
        let (udp, tcp) = device.namespace.inside(|| -> std::io::Result<_> {
            let udp = UdpSocket::bind("0.0.0.0:0")?;
            udp.connect(cell)?;
            Ok((udp, TcpStream::connect_timeout(&cell, PATIENCE)?))
        })??;
        udp.set_read_timeout(Some(Duration::from_secs(2)))?;
        tcp.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok(Kept { udp, tcp })
    }

    /// With which code (RFC 1035 section 4.1.1) either is answered: [UDP, TCP].
    fn answered(&mut self, name: &str) -> [Option<u8>; 2] {
        let mut buffer = [0; 512];
        // What an earlier question brought, and errors that the kernel told.
        self.udp.set_nonblocking(true).unwrap();
        while self.udp.recv(&mut buffer).is_ok() {}
        self.udp.set_nonblocking(false).unwrap();
        let _ = self.udp.send(&resolver::question(7, name).unwrap());
        let _ = self.tcp.write_all(&resolver::framed_question(7, name).unwrap());
        let code = |answer: &[u8]| Some(answer.get(3)? & 0xf);
        let udp = self.udp.recv(&mut buffer).ok();
        let udp = udp.and_then(|length| code(&buffer[..length]));
        let tcp = self.tcp.read(&mut buffer).ok();
        [udp, tcp.and_then(|length| code(buffer[..length].get(2..)?))]
    }

    /// The same once netd has ended the flow of UDP, which it does beside all else (ADR 0049): until then what it carries is dropped.
    fn answered_anew(&mut self, name: &str) -> Result<[Option<u8>; 2]> {
        until(PATIENCE, "a question over UDP is answered", || {
            let codes = self.answered(name);
            codes[0].is_some().then_some(codes)
        })
    }
}

/// A relay that is not told in time goes by its table of before, and netd binds the peer all the same: by which port a question comes
/// says what netd has, so that the table is no way past the exit.
#[test]
fn a_relay_that_was_not_told_asks_for_no_bound_peer_by_the_way_of_before() -> Result<()> {
    let setup = Setup::new()?;
    setup.egress.apply_dns(&Setup::dns(None))?;
    setup.netd.apply(setup.spec(None), "")?;
    let (device, providers) = (Arc::clone(&setup.device), Arc::clone(&setup.providers));
    let _client = setup.client(&device)?;
    let _far = providers[0].up()?;
    setup.is_proven(0)?;
    let mut kept = Kept::open(&device)?;
    assert_eq!(kept.answered("kept.example"), [Some(ANSWERED); 2], "control");
    assert_eq!(
        setup.ask(CELL_INSIDE.into(), "control.example", false),
        Some(found(DEFAULT))
    );
    let before = setup.leaked();
    assert!(before > 0, "control: the counters count");

    setup.netd.delta(vec![setup.peer(Some(0))], &[])?;
    let moved = setup.netd.dropped("exit_moved")?;
    // netd ends its flow, so that the question is turned anew.
    assert_eq!(kept.answered_anew("late.example")?, [Some(SERVER_FAILURE), None]);
    assert!(setup.netd.dropped("exit_moved")? > moved);
    for (number, at) in [NOBODY.into(), FAR_HOST.v6.into(), CELL_INSIDE.into()]
        .into_iter()
        .enumerate()
    {
        let name = format!("late{number}.example");
        assert_eq!(setup.ask(at, &name, false), Some(FAILED), "{at}");
        assert_eq!(setup.ask(at, &name, true), None, "{at}: it is closed");
        for tcp in [false, true] {
            assert_eq!(setup.ask(at, NAS, tcp), Some(found(CELL_INSIDE)), "{at} {tcp}");
        }
    }
    assert_eq!(setup.leaked(), before, "nothing went the way of before");

    setup.egress.apply_dns(&Setup::dns(Some(0)))?;
    setup.whoever_is_asked("told", found(BY[0]));
    assert_eq!(kept.answered("told.example"), [Some(ANSWERED), None]);
    assert_eq!(setup.leaked(), before, "by the exit");
    // The other way round the relay's word holds: netd has let the peer go, and its questions go by the exit until the relay hears of it.
    setup.netd.delta(vec![setup.peer(None)], &[])?;
    assert_eq!(
        setup.ask(CELL_INSIDE.into(), "last.example", false),
        Some(found(BY[0]))
    );
    assert_eq!(setup.leaked(), before);
    setup.egress.apply_dns(&Setup::dns(None))?;
    assert_eq!(
        setup.ask(CELL_INSIDE.into(), "own.example", true),
        Some(found(DEFAULT))
    );
    let own = setup.leaked();
    // The connection may come to life again: it is to the port of whoever is not bound.
    assert_eq!(kept.answered_anew("owned.example")?[0], Some(ANSWERED));
    assert!(setup.leaked() > own, "by the machine's own way again");
    Ok(())
}

/// DNS over TLS or QUIC (RFC 7858, RFC 9250) is no question that the relay could answer: it is the device's own traffic.
const ENCRYPTED: u16 = 853;

#[test]
fn encrypted_questions_of_a_bound_peer_leave_by_its_exit_alone() -> Result<()> {
    let setup = Setup::new()?;
    setup.egress.apply_dns(&Setup::dns(Some(0)))?;
    setup.netd.apply(setup.spec(Some(0)), "")?;
    let (device, providers) = (Arc::clone(&setup.device), Arc::clone(&setup.providers));
    let behind = [providers[0].namespace(), &setup.world.internet];
    let _servers = behind
        .into_iter()
        .map(|at| EchoServer::start(at, ENCRYPTED))
        .collect::<Result<Vec<_>>>()?;
    let _client = setup.client(&device)?;
    let far = providers[0].up()?;
    setup.is_proven(0)?;
    let before = providers[0].packets();
    let answered = |to: SocketAddr, patience| -> Result<[bool; 2]> {
        let from = &device.namespace;
        Ok([
            tcp_echo(from, to, patience)?,
            udp_echo(from, to, 2, patience)? > 0,
        ])
    };
    let to = FAR_HOST.each().map(|far| SocketAddr::new(far, ENCRYPTED));
    for to in to {
        assert_eq!(answered(to, PATIENCE)?, [true; 2], "{to}");
    }
    let after = providers[0].packets();
    assert!(
        (0..2).all(|family| after[family] >= before[family] + 3),
        "they arrived at the provider: {before:?} {after:?}"
    );
    drop(far);
    for to in to {
        assert_eq!(
            answered(to, Duration::from_secs(1))?,
            [false; 2],
            "the exit is down: {to}"
        );
    }
    assert_eq!(setup.leaked(), 0);
    // Control: without an exit they leave by the machine's own way, and are counted.
    setup.bind(None)?;
    for to in to {
        assert_eq!(answered(to, PATIENCE)?, [true; 2], "{to}");
    }
    assert!(setup.leaked() > 0, "control: the counters count");
    Ok(())
}

/// Over TCP the relay carries them as any connection; over UDP they are refused at once, so that who asked falls back.
#[test]
fn encrypted_questions_of_a_peer_of_a_proxy_go_over_tcp_alone() -> Result<()> {
    let setup = relay::setup()?;
    let exits = relay::EXITS.map(relay::id);
    setup.netd.apply(setup.spec(&exits[0]), "")?;
    setup.egress.apply(setup.kinds())?;
    let _server = EchoServer::start(&setup.world.internet, ENCRYPTED)?;
    let _client = setup.client()?;
    let from = &setup.device.namespace;
    let to = FAR_HOST.each().map(|far| SocketAddr::new(far, ENCRYPTED));
    for exit in exits {
        setup.bind(&exit)?;
        for to in to {
            until(PATIENCE, "the exit carries it", || {
                tcp_echo(from, to, PATIENCE).ok()?.then_some(())
            })?;
            let refused = setup.dropped("exit_refused");
            assert_eq!(udp_echo(from, to, 2, Duration::from_secs(1))?, 0, "{exit} {to}");
            assert!(setup.dropped("exit_refused") > refused, "{exit} {to}");
        }
    }
    assert_eq!(setup.direct(), 0, "nothing left by itself");
    setup.bind("")?;
    for to in to {
        assert!(
            udp_echo(from, to, 2, PATIENCE)? > 0,
            "control: somebody answers at {to}"
        );
    }
    assert!(setup.direct() > 0, "control: the counters count");
    Ok(())
}

/// Who may not ask the house's resolver is told by the exit's; who was granted it, by itself.
#[test]
fn a_bound_peer_asks_the_resolver_that_it_was_granted() -> Result<()> {
    let setup = Setup::new()?;
    let house = SocketAddr::new(LAN_HOST.v4.into(), 53);
    resolver::serve(&setup.world.lan, house, HOUSE)?;
    setup.egress.apply_dns(&Setup::dns(Some(0)))?;
    setup.netd.apply(setup.spec(Some(0)), "")?;
    let (device, providers) = (Arc::clone(&setup.device), Arc::clone(&setup.providers));
    let _client = setup.client(&device)?;
    let _far = providers[0].up()?;
    setup.is_proven(0)?;
    for (round, granted) in [false, true, false].into_iter().enumerate() {
        let mut peer = setup.peer(Some(0));
        let at = house.ip().to_string();
        let services: &[(&str, u32)] = if granted { &[(&at, 53)] } else { &[] };
        peer.access = Some(access(true, false, services));
        setup.netd.delta(vec![peer], &[])?;
        // Grants of the support are over TCP.
        for (tcp, expected) in [(false, BY[0]), (true, if granted { HOUSE } else { BY[0] })] {
            let name = format!("house{round}{tcp}.example");
            assert_eq!(
                setup.ask(house.ip(), &name, tcp),
                Some(found(expected)),
                "{round} tcp {tcp}"
            );
        }
    }
    assert_eq!(setup.leaked(), 0);
    Ok(())
}

#[test]
fn while_the_relay_is_away_no_question_goes_anywhere() -> Result<()> {
    let setup = Setup::new()?;
    setup.egress.apply_dns(&Setup::dns(Some(0)))?;
    setup.netd.apply(setup.spec(Some(0)), "")?;
    let (device, providers) = (Arc::clone(&setup.device), Arc::clone(&setup.providers));
    let _client = setup.client(&device)?;
    let _far = [providers[0].up()?, providers[1].up()?];
    setup.is_proven(0)?;
    setup.whoever_is_asked("before", found(BY[0]));
    setup.egress.kill()?;
    let short = Duration::from_secs(1);
    for resolver in [NOBODY.into(), FAR_HOST.v6.into(), CELL_INSIDE.into()] {
        for tcp in [false, true] {
            let to = SocketAddr::new(resolver, 53);
            let answer = resolver::ask(&device.namespace, to, "away.example", tcp, short)?;
            assert_eq!(answer, None);
        }
    }
    setup.egress.restart(&setup.world.cell)?;
    until(PATIENCE, "it answers, and knows nobody yet", || {
        (setup.ask(NOBODY.into(), NAS, true)? == REFUSED).then_some(())
    })?;
    setup.egress.apply_dns(&Setup::dns(Some(0)))?;
    setup.whoever_is_asked("after", found(BY[0]));
    assert_eq!(setup.leaked(), 0);
    setup.bind(None)?;
    assert_eq!(
        setup.ask(FAR_HOST.v4.into(), "control.example", false),
        Some(found(DEFAULT))
    );
    assert!(setup.leaked() > 0, "control: the counters count");
    Ok(())
}

/// What containers of a service are told, whichever resolver they ask: the bridge's address, the house's, the cell's, anybody's.
struct Service {
    setup: Setup,
    container: Container,
}

impl Service {
    /// `exit`: an exit's id; one that DNS does not know: the service has no way out.
    fn bind(&self, internet: bool, exit: &str) -> Result<()> {
        let mut dns = Setup::dns(None);
        dns.peers.push(egress::DnsPeer {
            addresses: vec![IpAddr::V4(self.container.address).into()],
            exit_id: exit.to_owned(),
        });
        self.setup.egress.apply_dns(&dns)?;
        let mut spec = self.setup.spec(None);
        let exit = if internet { exit } else { "" };
        spec.service_networks = vec![network(1, internet, exit)];
        Ok(self.setup.netd.apply(spec, "").map(drop)?)
    }

    fn whoever_is_asked(&self, name: &str, expected: Option<Ended>) {
        let gateway = "172.30.1.1".parse().unwrap();
        let resolvers: [IpAddr; 5] = [
            NOBODY.into(),
            FAR_HOST.v4.into(),
            LAN_HOST.v4.into(),
            CELL_INSIDE.into(),
            gateway,
        ];
        for (number, at) in resolvers.into_iter().enumerate() {
            for tcp in [false, true] {
                let name = name.replace('N', &format!("{number}{tcp}"));
                let to = SocketAddr::new(at, 53);
                let ask =
                    || resolver::ask(&self.container.namespace, to, &name, tcp, 3 * PATIENCE / 4).unwrap();
                assert_eq!(patiently(expected, ask), expected, "{at} tcp {tcp} {name}");
            }
        }
    }
}

#[test]
fn a_containers_questions_go_by_its_services_exit_whomever_it_asks() -> Result<()> {
    let setup = Setup::new()?;
    bridge(&setup.world.cell, "cellsvc1", 1)?;
    let container = Container::new(&setup.world.cell, "cellsvc1", 1, 2)?;
    let service = Service { setup, container };
    service.bind(true, &id(0))?;
    let providers = Arc::clone(&service.setup.providers);
    let mut tunnels = vec![providers[0].up()?, providers[1].up()?];
    for index in [0, 1] {
        service.setup.is_proven(index)?;
        service.bind(true, &id(index))?;
        let name = format!("by{index}N.example");
        service.whoever_is_asked(&name, Some(found(BY[index as usize])));
        assert_eq!(service.setup.leaked(), 0, "by {index}");
    }
    // Its exit is down, and without a way out: the cell's names are there, and no others by any way.
    drop(tunnels.pop());
    service.whoever_is_asked(NAS, Some(found(CELL_INSIDE)));
    service.bind(false, "00000000-0000-4000-8000-000000000000")?;
    service.whoever_is_asked(NAS, Some(found(CELL_INSIDE)));
    service.whoever_is_asked("noneN.example", Some(FAILED));
    assert_eq!(service.setup.leaked(), 0);
    // Control: the machine's own way is counted.
    service.bind(true, "")?;
    service.whoever_is_asked("directN.example", Some(found(DEFAULT)));
    let before = service.setup.leaked();
    assert!(before > 0);
    // netd binds it, and the relay was not told.
    let mut spec = service.setup.spec(None);
    spec.service_networks = vec![network(1, true, &id(0))];
    service.setup.netd.apply(spec, "")?;
    service.whoever_is_asked(NAS, Some(found(CELL_INSIDE)));
    for at in [NOBODY.into(), "172.30.1.1".parse()?] {
        let to = SocketAddr::new(at, 53);
        let ask = |tcp| resolver::ask(&service.container.namespace, to, "late.example", tcp, PATIENCE);
        assert_eq!([ask(false)?, ask(true)?], [Some(FAILED), None], "{at}");
    }
    assert_eq!(service.setup.leaked(), before);
    Ok(())
}
