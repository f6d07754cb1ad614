//! What a plan says in words is what netd's policy does with packets: random peers before and after, random flows.

#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cell_api_core::access::{AccessPolicy, Protocol, Service, Tunnel};
use cell_api_core::connection::choice::{ExitChoice, Route};
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::kind::Kind;
use cell_api_core::derive::{self, NetworkSettings};
use cell_api_core::key::PublicKey;
use cell_api_core::name::PeerName;
use cell_api_core::peer::Peer;
use cell_api_core::plan::{self, Around, Change, Fact, KnownExit, Leaves, Place, Plan, Reach, Standing};
use cell_api_core::range::{self, VpnRange};
use cell_netd_core::ceiling::{ExitCeiling, RelayCeiling};
use cell_netd_core::explain::{Fate, NoAnswer, Question, Sender, Target, fate};
use cell_netd_core::plan::plan_delta;
use cell_netd_core::policy::explain::{Payload, Verdict};
use cell_netd_core::spec::{
    AccessSpec, CellPortSpec, DeltaSpec, ExitSpec, FarEndSpec, NetworkSpec, PeerSpec, RedirectSpec,
    ServiceSpec, WaySpec, WireguardExitSpec, WireguardSpec,
};
use cell_netd_core::validate::{validate, validate_delta};
use cell_netd_core::{Ceiling, Desired, model};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

const NAMES: [&str; 4] = ["anna", "bert", "cleo", "dora"];
const WORK: u8 = 1;
const HOME: u8 = 2;

fn home() -> VpnRange {
    let v4 = range::parse_v4("10.86.0.0/24").unwrap();
    VpnRange::new(v4, range::parse_v6("fd86::/64").unwrap()).unwrap()
}

fn ceiling() -> Ceiling {
    let accept_mark = "0x2000/0x2000".parse().unwrap();
    let exits =
        ExitCeiling::try_new(0x1000..=0x1ff0, 0x1ff0, 1000..=1255, "wgext_", 256, accept_mark).unwrap();
    Ceiling {
        interfaces: ["wg0".parse().unwrap()].into(),
        listen_ports: vec![1024..=65535],
        vpn_prefixes: ["10.0.0.0/8", "fc00::/7"].map(|net| net.parse().unwrap()).into(),
        cell_ports: ["tcp/443".parse().unwrap()].into(),
        service_targets: ["tcp/3443".parse().unwrap()].into(),
        service_v4: "169.254.67.1".parse().unwrap(),
        service_v6: "fd43:454c:4c00::1".parse().unwrap(),
        max_peers: 20_000,
        accept_mark,
        table: "cell".parse().unwrap(),
        exits: exits.with_relay(RelayCeiling::try_new(9100..=9199, 54_321, BTreeSet::new()).unwrap()),
        services: None,
    }
}

fn id(number: u8) -> ConnectionId {
    ConnectionId::from_random([number; 16])
}

fn known() -> BTreeMap<ConnectionId, KnownExit> {
    let known = |name: &str, kind| KnownExit {
        name: name.to_owned(),
        kind,
    };
    BTreeMap::from([
        (id(WORK), known("work", Kind::Proxy)),
        (id(HOME), known("home", Kind::WireguardExt)),
    ])
}

fn exits() -> Vec<ExitSpec> {
    let far_end = FarEndSpec {
        public_key: vec![9; 32],
        endpoint: Some(Ok("198.51.100.1:51820".parse().unwrap())),
        persistent_keepalive_seconds: 0,
        allowed_ips: ["0.0.0.0/0", "::/0"].map(|net| Ok(net.parse().unwrap())).into(),
        has_preshared_key: false,
    };
    let tunnel = WireguardExitSpec {
        addresses: ["10.9.0.2", "fd09::2"].map(|at| Ok(at.parse().unwrap())).into(),
        mtu_bytes: 0,
        far_ends: vec![far_end],
        secret_revision: 1,
    };
    vec![
        ExitSpec {
            id: id(WORK).to_string(),
            mark: 0x1000,
            table: 0,
            interface: String::new(),
            way: Some(WaySpec::Redirect(RedirectSpec {
                port: 9100,
                servers: vec![Ok("198.51.100.2:1080".parse().unwrap())],
            })),
        },
        ExitSpec {
            id: id(HOME).to_string(),
            mark: 0x1010,
            table: 1001,
            interface: "wgext_home".to_owned(),
            way: Some(WaySpec::Wireguard(tunnel)),
        },
    ]
}

fn protocol(protocol: Protocol) -> model::Protocol {
    match protocol {
        Protocol::Tcp => model::Protocol::Tcp,
        Protocol::Udp => model::Protocol::Udp,
    }
}

fn netds_peer(peer: derive::PeerSpec) -> PeerSpec {
    let service = |service: &Service| ServiceSpec {
        address: Ok(service.address),
        protocol: Ok(protocol(service.protocol)),
        port: service.port.into(),
    };
    PeerSpec {
        name: peer.name,
        public_key: peer.public_key.as_bytes().to_vec(),
        addresses: peer.addresses.map(Ok).into(),
        endpoint: None,
        persistent_keepalive_seconds: 0,
        access: Some(AccessSpec {
            internet: peer.access.internet,
            peer_to_peer: peer.access.peer_to_peer,
            services: peer.access.services.iter().map(service).collect(),
        }),
        exit: peer.exit.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// What netd is told of a peer.
fn told(one: &One) -> PeerSpec {
    netds_peer(derive::peer_spec(&home(), &one.peer, one.route))
}

fn desired(world: &World) -> Desired {
    let settings = NetworkSettings {
        interface: "wg0".to_owned(),
        listen_port: 51820,
        https_port: 443,
        https_target_port: 3443,
    };
    let spec = derive::network_spec(&settings, Some(&home()), [], vec![], None);
    let wireguard = spec.wireguard.unwrap();
    let port = |port: derive::CellPort| CellPortSpec {
        protocol: Ok(protocol(port.protocol)),
        port: port.port.into(),
        target_port: port.target_port.into(),
        bound_target_port: port.bound_target_port.unwrap_or_default().into(),
    };
    let spec = NetworkSpec {
        wireguard: Some(WireguardSpec {
            interface: wireguard.interface,
            listen_port: wireguard.listen_port.into(),
            addresses: wireguard.addresses.map(Ok).into(),
            mtu_bytes: wireguard.mtu_bytes,
        }),
        peers: world.values().map(told).collect(),
        cell_ports: spec.cell_ports.into_iter().map(port).collect(),
        exits: exits(),
        dns_upstreams: Vec::new(),
        relay_servers: Vec::new(),
        public_http: None,
        service_networks: Vec::new(),
        entries: Vec::new(),
    };
    validate(&spec, &ceiling(), None).unwrap()
}

#[derive(Debug, Clone, PartialEq)]
struct One {
    peer: Peer,
    route: Route,
}

type World = BTreeMap<&'static str, One>;

/// Where peers send in these tests: other devices, the house, and the internet in both families.
fn addresses() -> Vec<IpAddr> {
    let devices = (2..6).flat_map(|host| home().addresses_of(home().host(host).unwrap()));
    let others = [
        "192.168.1.5",
        "fd99::5",
        "9.9.9.9",
        "2606:4700::1111",
        "8.8.4.4",
        "64:ff9b::a00:1",
    ];
    devices.chain(others.map(|at| at.parse().unwrap())).collect()
}

fn access() -> impl Strategy<Value = AccessPolicy> {
    let mut all = Vec::new();
    for address in addresses() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            all.push(Service {
                address,
                protocol,
                port: 22,
            });
        }
    }
    (
        any::<bool>(),
        any::<bool>(),
        subsequence(all, 0..=plan::SERVICES_TOLD),
    )
        .prop_map(|(internet, peer_to_peer, services)| AccessPolicy {
            internet,
            peer_to_peer,
            services: services.into_iter().collect(),
        })
}

fn one(place: usize) -> impl Strategy<Value = One> {
    let routes = vec![
        Route::Own,
        Route::Exit(id(WORK)),
        Route::Exit(id(HOME)),
        Route::Nowhere,
    ];
    let bound = prop_oneof![Just(None), Just(Some(id(WORK))), Just(Some(id(HOME)))];
    let tunnel = select(vec![Tunnel::Full, Tunnel::Split]);
    (access(), bound, select(routes), tunnel, 1u8..3).prop_map(move |(access, bound, route, tunnel, key)| {
        let mut bytes = [key; 32];
        bytes[0] = u8::try_from(place).unwrap();
        let peer = Peer {
            name: PeerName::parse(NAMES[place]).unwrap(),
            public_key: PublicKey::from_bytes(&bytes).unwrap(),
            host: home().host(u32::try_from(place).unwrap() + 2).unwrap(),
            access,
            tunnel,
            exit: ExitChoice::default().bound_to(bound),
        };
        // Who is bound to nothing goes the cell's own way.
        let route = if bound.is_none() { Route::Own } else { route };
        One { peer, route }
    })
}

/// Before and after, of which so many differ.
fn worlds() -> impl Strategy<Value = (World, World)> {
    let all = || {
        (0..NAMES.len())
            .map(|place| proptest::option::weighted(0.8, one(place)))
            .collect::<Vec<_>>()
    };
    let moved = subsequence((0..NAMES.len()).collect::<Vec<_>>(), 0..=2);
    (all(), all(), moved).prop_map(|(before, others, moved)| {
        let world = |chosen: &dyn Fn(usize) -> Option<One>| -> World {
            (0..NAMES.len())
                .filter_map(|place| Some((NAMES[place], chosen(place)?)))
                .collect()
        };
        let after = |place: usize| {
            if moved.contains(&place) {
                others[place].clone()
            } else {
                before[place].clone()
            }
        };
        (world(&|place| before[place].clone()), world(&after))
    })
}

fn standing(one: &One) -> Standing<'_> {
    Standing {
        peer: &one.peer,
        route: one.route,
    }
}

fn planned(before: &World, after: &World) -> Plan {
    let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
    let (changed, same): (Vec<&str>, Vec<&str>) = names
        .into_iter()
        .partition(|name| before.get(name) != after.get(name));
    let change = |name: &str| Change {
        before: before.get(name).map(standing),
        after: after.get(name).map(standing),
    };
    let changes: Vec<Change<'_>> = changed.into_iter().map(change).collect();
    let others: Vec<Standing<'_>> = same
        .into_iter()
        .filter_map(|name| after.get(name).map(standing))
        .collect();
    let (range, exits) = (home(), known());
    let around = Around {
        range: &range,
        exits: &exits,
        others: &others,
    };
    plan::plan(&changes, &around, None)
}

#[derive(Debug, Clone, Copy)]
struct Flow {
    to: IpAddr,
    /// `None`: a ping.
    port: Option<(Protocol, u16)>,
}

fn flows() -> Vec<Flow> {
    let tcp = |port| Some((Protocol::Tcp, port));
    let ports = [
        tcp(22),
        tcp(7),
        Some((Protocol::Udp, 22)),
        Some((Protocol::Udp, 7)),
        None,
    ];
    let of = |to| ports.map(|port| Flow { to, port });
    addresses().into_iter().flat_map(of).collect()
}

/// What netd's policy does with the first packet; `None`: the peer is not on the network.
fn asked(desired: &Desired, peer: &str, flow: Flow) -> Option<Fate> {
    let payload = match flow.port {
        Some((transport, port)) => Payload::Ports(protocol(transport), 40_000, port),
        None => Payload::EchoRequest,
    };
    let question = Question {
        sender: Sender::Peer(peer.parse().unwrap()),
        destination: flow.to,
        payload,
    };
    match fate(desired, &ceiling(), &BTreeSet::new(), &question) {
        Ok(fate) => Some(fate),
        Err(NoAnswer::NoPeer) => None,
        Err(NoAnswer::NoAddress | NoAnswer::NoService | NoAnswer::NoIpv6) => panic!("{question:?}"),
    }
}

fn passes(fate: Option<&Fate>) -> bool {
    fate.is_some_and(|fate| fate.explanation.verdict == Verdict::Passes)
}

/// Where an address is, as a person would say.
fn place(address: IpAddr, flow_of: &World) -> Option<&'static str> {
    let host = home().host_of(address)?;
    let found = flow_of.iter().find(|(_, one)| one.peer.host == host);
    found.map(|(name, _)| *name)
}

fn is_public(address: IpAddr) -> bool {
    ["9.9.9.9", "2606:4700::1111", "8.8.4.4"].contains(&address.to_string().as_str())
}

fn leads(reach: &Reach, flow: Flow, world: &World) -> bool {
    let device = place(flow.to, world);
    match reach {
        Reach::Cell => true,
        Reach::Internet(way) => is_public(flow.to) && carries(way, flow),
        Reach::Devices(group) => device.is_some_and(|name| group.0.iter().any(|one| one == name)),
        Reach::Service(service) => {
            let there = match &service.place {
                Place::Cell => false,
                Place::Device(_, at) | Place::Private(at) | Place::Public(at) => *at == flow.to,
            };
            there && flow.port == Some((service.protocol, service.port))
        }
        Reach::MoreServices(_) => panic!("these peers have fewer"),
    }
}

fn carries(way: &Leaves, flow: Flow) -> bool {
    match way {
        Leaves::Own => true,
        Leaves::Through { tcp_alone, .. } => !tcp_alone || matches!(flow.port, Some((Protocol::Tcp, _))),
    }
}

/// Everything that a plan says of a peer.
fn facts<'p>(plan: &'p Plan, peer: &'p str) -> impl Iterator<Item = &'p Fact> {
    let of = plan
        .statements
        .iter()
        .filter(move |one| one.who.0.iter().any(|name| name == peer));
    of.map(|one| &one.fact)
}

/// A statement that says of a flow that it is gained (or lost) and that nothing else leads there.
fn says(fact: &Fact, gained: bool, flow: Flow, world: &World) -> bool {
    match (fact, gained) {
        (Fact::GoesOff, false) => true,
        (Fact::Gains(reach), true) | (Fact::Loses(reach), false) => leads(reach, flow, world),
        (Fact::Way { from, to }, gained) => {
            is_public(flow.to) && carries(to, flow) == gained && carries(from, flow) != gained
        }
        (_, _) => false,
    }
}

/// Whether a statement promises that this very flow changes: what the cell answers by itself and what is led there by
/// something else are not promised.
fn promises(fact: &Fact, flow: Flow, world: &World) -> bool {
    match fact {
        Fact::Gains(Reach::Cell) | Fact::GoesOff => false,
        Fact::Gains(Reach::Service(service)) | Fact::Loses(Reach::Service(service)) => {
            service.besides.is_none() && leads(&Reach::Service(service.clone()), flow, world)
        }
        // A service on the same port may be granted too.
        Fact::Gains(reach) | Fact::Loses(reach) => {
            flow.port.is_none_or(|(_, port)| port != 22) && leads(reach, flow, world)
        }
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_a_plan_says_is_what_becomes_of_packets((before, after) in worlds()) {
        let plan = planned(&before, &after);
        let (had, has) = (desired(&before), desired(&after));
        let both: World = after.iter().chain(&before).map(|(name, one)| (*name, one.clone())).collect();
        for peer in NAMES {
            for flow in flows() {
                if place(flow.to, &both) == Some(peer) {
                    continue;
                }
                let fates = [asked(&had, peer, flow), asked(&has, peer, flow)];
                let [passed, does] = [passes(fates[0].as_ref()), passes(fates[1].as_ref())];
                if passed != does {
                    let told = facts(&plan, peer).any(|fact| says(fact, does, flow, &both));
                    prop_assert!(told, "{peer} {flow:?}: {passed} {does}, and nobody says so: {plan:#?}");
                }
                for fact in facts(&plan, peer).filter(|fact| promises(fact, flow, &both)) {
                    let gains = matches!(fact, Fact::Gains(_));
                    prop_assert_eq!((passed, does), (!gains, gains), "{} {:?}: {:?}", peer, flow, fact);
                }
                let is_plain = is_public(flow.to) && flow.port == Some((Protocol::Tcp, 7));
                if is_plain && passed && does {
                    let way = |fate: &Option<Fate>| fate.as_ref().map(|fate| (fate.target, fate.explanation.mark, fate.explanation.translated));
                    let told = facts(&plan, peer).any(|fact| matches!(fact, Fact::Way { .. }));
                    prop_assert_eq!(way(&fates[0]) != way(&fates[1]), told, "{} {:?}", peer, flow);
                    let through = fates[1].as_ref().is_some_and(|fate| fate.target == Target::Exit);
                    prop_assert_eq!(through, after[peer].route != Route::Own);
                }
            }
        }
    }

    #[test]
    fn netds_own_plan_speaks_of_the_same_peers((before, after) in worlds()) {
        let plan = planned(&before, &after);
        let had = desired(&before);
        let delta = DeltaSpec {
            upserted_peers: after.values().map(told).collect(),
            removed_peers: NAMES.iter().filter(|name| !after.contains_key(*name)).map(|name| (*name).to_owned()).collect(),
        };
        let delta = validate_delta(&delta, &had, &ceiling()).unwrap();
        let changes = plan_delta(&had, &delta).changes;
        let netds: BTreeSet<String> = changes.iter().map(|change| change.subject.clone()).collect();
        let told = |counts: fn(&Fact) -> bool| -> BTreeSet<String> {
            let of = plan.statements.iter().filter(|one| counts(&one.fact));
            of.flat_map(|one| one.who.0.iter().map(|name| format!("peer {name}"))).collect()
        };
        let all = told(|_| true);
        // Whose way alone is another, by what works and not by anybody's change.
        let same = |name: &&'static str| before.get(*name).map(|one| &one.peer) == after.get(*name).map(|one| &one.peer);
        let moved: BTreeSet<String> = NAMES.into_iter().filter(same).map(|name| format!("peer {name}")).collect();
        prop_assert!(netds.difference(&moved).all(|subject| all.contains(subject)), "{netds:?} {plan:#?}");
        // What others gain and lose by it, and what is of the device alone, is no change of netd's.
        let own = told(|fact| matches!(
            fact,
            Fact::GoesOff | Fact::NewKey | Fact::Way { .. } | Fact::Gains(Reach::Cell | Reach::Internet(_) | Reach::Service(_))
                | Fact::Loses(Reach::Internet(_) | Reach::Service(_))
        ));
        prop_assert!(own.is_subset(&netds), "{netds:?} {plan:#?}");
    }
}

/// One address of each /8 and each /10 of IPv6, and the edges of the registries of RFC 6890.
fn everywhere() -> impl Iterator<Item = IpAddr> {
    let every_eighth = (0..=255u8).map(|first| IpAddr::from([first, 254, 3, 9]));
    let every_tenth_bit = (0..=1023u128).map(|first| IpAddr::V6((first << 118 | 9).into()));
    let edges = [
        "9.255.255.255",
        "10.0.0.0",
        "11.0.0.0",
        "100.63.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.16.0.1",
        "172.31.255.255",
        "172.32.0.0",
        "192.0.0.9",
        "192.0.2.1",
        "192.88.99.1",
        "192.167.255.255",
        "192.168.0.1",
        "192.169.0.0",
        "198.17.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "240.0.0.1",
        "2001:1ff::1",
        "2001:200::1",
        "2001:db8::1",
        "2002::1",
        "2606:4700::1111",
        "64:ff9b::1.1.1.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::192.168.1.1",
        "64:ff9b:1::1",
    ];
    let edges = edges.into_iter().map(|text| text.parse().unwrap());
    every_eighth.chain(every_tenth_bit).chain(edges)
}

#[test]
fn what_is_called_the_internet_is_what_netd_lets_out() {
    let peer = |services: Vec<Service>| {
        let peer = Peer {
            name: PeerName::parse("anna").unwrap(),
            public_key: PublicKey::from_bytes(&[7; 32]).unwrap(),
            host: home().host(2).unwrap(),
            access: AccessPolicy {
                internet: true,
                peer_to_peer: false,
                services: services.into_iter().collect(),
            },
            tunnel: Tunnel::Full,
            exit: ExitChoice::default(),
        };
        World::from([(
            "anna",
            One {
                peer,
                route: Route::Own,
            },
        )])
    };
    let before = peer(Vec::new());
    let netd = desired(&before);
    let mut public = 0;
    for to in everywhere() {
        let protocol = Protocol::Tcp;
        let plan = planned(
            &before,
            &peer(vec![Service {
                address: to,
                protocol,
                port: 22,
            }]),
        );
        let [Fact::Gains(Reach::Service(told))] = facts(&plan, "anna").collect::<Vec<_>>()[..] else {
            panic!("{plan:?}")
        };
        let flow = Flow {
            to,
            port: Some((protocol, 22)),
        };
        let goes = passes(asked(&netd, "anna", flow).as_ref());
        assert_eq!(
            (goes, told.besides.is_some()),
            (matches!(told.place, Place::Public(_)), goes),
            "{to}"
        );
        public += u32::from(goes);
    }
    assert!((500..1_300).contains(&public), "{public}");
}
