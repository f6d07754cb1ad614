//! What becomes of questions, whatever they are and whoever asks.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::{IpAddr, SocketAddr};

use cell_egress_core::dns::decide::{Asker, Decision, Kind, Refused, decide};
use cell_egress_core::dns::name::Name;
use cell_egress_core::dns::request::{
    self, AskedData, AskedDns, AskedExitDns, AskedPeer, AskedReached, AskedRecord, DnsCeiling,
};
use cell_egress_core::dns::table::Table;
use cell_egress_core::dns::zone::{Data, Outcome};
use proptest::prelude::*;

const DE: &str = "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a01";
const TOR: &str = "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a02";
const GONE: &str = "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a03";

fn ceiling() -> DnsCeiling {
    DnsCeiling {
        upstreams: vec!["192.0.2.0/24".parse().unwrap()],
        local_upstreams: vec!["127.0.0.53:53".parse().unwrap()],
        interface_prefixes: vec!["wgext_".to_owned()],
        authorities: vec!["172.20.0.3:53".parse().unwrap()],
    }
}

fn at(text: &str) -> Result<SocketAddr, String> {
    Ok(text.parse().unwrap())
}

fn ip(text: &str) -> Result<IpAddr, String> {
    Ok(text.parse().unwrap())
}

fn asked() -> AskedDns<'static> {
    let record = |name, data| AskedRecord {
        name,
        ttl: 60,
        data: Some(data),
    };
    let exit = |id, reached| AskedExitDns {
        id,
        upstreams: vec![at("198.51.100.53:53")],
        reached: Some(reached),
    };
    let peer = |address, exit| AskedPeer {
        addresses: vec![ip(address)],
        exit,
    };
    AskedDns {
        zones: vec!["home.arpa"],
        records: vec![
            record("nas.home.arpa", AskedData::Address(ip("10.8.0.1"))),
            record("www.home.arpa", AskedData::Alias("nas.home.arpa")),
        ],
        upstreams: vec![at("192.0.2.53:53"), at("127.0.0.53:53")],
        exits: vec![
            exit(DE, AskedReached::Interface("wgext_de")),
            exit(TOR, AskedReached::Redirect),
        ],
        peers: vec![
            peer("10.8.0.2", ""),
            peer("10.8.0.3", DE),
            peer("10.8.0.4", TOR),
            peer("10.8.0.5", GONE),
        ],
        authority: None,
        authority_zones: Vec::new(),
    }
}

fn table() -> Table {
    request::table(&asked(), &ceiling()).unwrap()
}

fn peer(last: u8) -> Asker {
    Asker::Peer([10, 8, 0, last].into())
}

fn name(text: &str) -> Name {
    Name::of_host(text).unwrap()
}

fn way(decision: &Decision<'_>) -> String {
    match decision {
        Decision::Answer(local) => format!("{:?}", local.outcome),
        Decision::Default => "default".to_owned(),
        Decision::Exit(id, _) => id.to_string(),
        Decision::Refuse(why) => format!("{why:?}"),
        Decision::NoWay => "no way".to_owned(),
        Decision::Authority(at, peer) => format!("{at:?} for {peer}"),
    }
}

#[test]
fn each_goes_its_own_way() {
    let table = table();
    let asks = |asker| way(&decide(&table, asker, &name("example.org"), Kind::A));
    assert_eq!(asks(peer(2)), "default");
    assert_eq!(asks(Asker::Cell), "default");
    assert_eq!(asks(peer(3)), DE);
    assert_eq!(asks(Asker::Peer("::ffff:10.8.0.3".parse().unwrap())), DE);
    assert_eq!(asks(peer(4)), TOR);
    assert_eq!(asks(peer(5)), "no way");
    assert_eq!(asks(peer(6)), "Stranger");
    let empty = Table::default();
    assert_eq!(
        decide(&empty, peer(2), &name("example.org"), Kind::A),
        Decision::Refuse(Refused::Stranger),
        "before anything was applied"
    );
}

#[test]
fn names_of_the_cell_resolve_whatever_the_exit() {
    let table = table();
    for asker in [peer(2), peer(3), peer(5), Asker::Cell] {
        assert_eq!(
            way(&decide(&table, asker, &name("www.home.arpa"), Kind::A)),
            "Found"
        );
        let pointer = decide(&table, asker, &name("1.0.8.10.in-addr.arpa"), Kind::Ptr);
        let Decision::Answer(local) = pointer else {
            panic!("carried")
        };
        assert_eq!(local.lines[0].data, Data::Pointer(name("nas.home.arpa")));
        assert_eq!(
            way(&decide(&table, asker, &name("9.0.8.10.in-addr.arpa"), Kind::Ptr)),
            "NoName"
        );
        assert_eq!(way(&decide(&table, asker, &name("nas.local"), Kind::A)), "NoName");
        for kind in [Kind::Any, Kind::Transfer] {
            assert_eq!(
                way(&decide(&table, asker, &name("nas.home.arpa"), kind)),
                "TooMuch"
            );
        }
    }
    let stranger = decide(&table, peer(6), &name("nas.home.arpa"), Kind::A);
    assert_eq!(stranger, Decision::Refuse(Refused::Stranger));
}

#[test]
fn every_fault_is_named() {
    let faults = |change: &dyn Fn(&mut AskedDns<'static>)| {
        let mut asked = asked();
        change(&mut asked);
        let faults = request::table(&asked, &ceiling()).unwrap_err();
        faults.into_iter().map(|fault| fault.field).collect::<Vec<_>>()
    };
    assert_eq!(faults(&|dns| dns.zones.push("HOME.arpa")), ["zones[1]"]);
    assert_eq!(
        faults(&|dns| dns.zones[0] = "x y"),
        ["zones[0]", "records[0].name", "records[1].name"]
    );
    assert_eq!(
        faults(&|dns| dns.records[0].ttl = 86_401),
        ["records[0].ttl_seconds"]
    );
    assert_eq!(faults(&|dns| dns.records[0].data = None), ["records[0].data"]);
    assert_eq!(
        faults(&|dns| dns.records[1].data = Some(AskedData::Alias("www.home.arpa"))),
        ["records"],
        "round in a circle"
    );
    for bad in [
        "198.51.100.1:53",
        "127.0.0.1:53",
        "[::ffff:127.0.0.1]:53",
        "0.0.0.0:53",
        "192.0.2.1:0",
    ] {
        assert_eq!(
            faults(&|dns| dns.upstreams[0] = at(bad)),
            ["upstreams[0]"],
            "{bad}"
        );
    }
    assert_eq!(
        faults(&|dns| dns.exits[0].upstreams.clear()),
        ["exits[0].upstreams"]
    );
    assert_eq!(
        faults(&|dns| dns.exits[0].upstreams = vec![at("127.0.0.53:53")]),
        ["exits[0].upstreams[0]"]
    );
    assert_eq!(
        faults(&|dns| dns.exits[0].reached = Some(AskedReached::Interface("eth0"))),
        ["exits[0].interface"]
    );
    assert_eq!(faults(&|dns| dns.exits[1].id = DE), ["exits[1].id"]);
    assert_eq!(faults(&|dns| dns.exits[1].reached = None), ["exits[1].reached"]);
    assert_eq!(faults(&|dns| dns.peers[0].exit = "tor"), ["peers[0].exit_id"]);
    assert_eq!(
        faults(&|dns| dns.peers[0].addresses = vec![ip("10.8.0.3")]),
        ["peers[1].addresses[0]"]
    );
    assert_eq!(
        faults(&|dns| dns.records = vec![dns.records[0].clone(); 50_001]),
        ["records"],
        "bounded"
    );
}

fn any_name() -> impl Strategy<Value = Name> {
    let label = prop_oneof![
        "[a-c]{1,3}",
        Just("home".to_owned()),
        Just("arpa".to_owned()),
        Just("local".to_owned()),
        Just("nas".to_owned()),
        "[0-9]{1,2}",
        Just("in-addr".to_owned()),
    ];
    prop::collection::vec(label, 0..7)
        .prop_map(|labels| Name::from_labels(labels.iter().map(String::as_bytes)).unwrap())
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::A),
        Just(Kind::Aaaa),
        Just(Kind::Cname),
        Just(Kind::Ptr),
        Just(Kind::Soa),
        Just(Kind::Ns),
        Just(Kind::Any),
        Just(Kind::Transfer),
        any::<u16>().prop_map(Kind::Other),
    ]
}

proptest! {
    /// No question of a bound peer has the default way, none of the cell's names leaves, and what is decided depends on the
    /// peer's exit in nothing but the way.
    #[test]
    fn nothing_goes_astray(name in any_name(), kind in any_kind(), who in any::<u8>()) {
        let table = table();
        let decision = decide(&table, peer(who), &name, kind);
        let carried = matches!(decision, Decision::Default | Decision::Exit(..) | Decision::NoWay);
        let expected = match who {
            2 => "default",
            3 => DE,
            4 => TOR,
            5 => "no way",
            _ => "Stranger",
        };
        if carried || !(2..=5).contains(&who) {
            prop_assert_eq!(way(&decision), expected);
        }
        let own = ["home.arpa", "local"].iter().any(|top| name.is_within(&Name::of_host(top).unwrap()));
        if own {
            prop_assert!(!carried);
        }
        if (2..=5).contains(&who) {
            let unbound = decide(&table, peer(2), &name, kind);
            let both = (carried, matches!(unbound, Decision::Default));
            prop_assert!(both == (true, true) || decision == unbound);
        }
        if let Decision::Answer(local) = decision {
            prop_assert_eq!(local.outcome == Outcome::Found, !local.lines.is_empty());
        }
    }
}

#[test]
fn the_authority_is_asked_of_what_the_cell_has_not_for_peers_alone() {
    let mut with = asked();
    (with.authority, with.authority_zones) = (Some(at("172.20.0.3:53")), vec!["other.arpa"]);
    let table = request::table(&with, &ceiling()).unwrap();
    let asks = |asker, text: &str| way(&decide(&table, asker, &name(text), Kind::A));
    for peers in [2, 3, 5] {
        let told = format!("Resolver(172.20.0.3:53) for 10.8.0.{peers}");
        for its in [
            "calendar.home.arpa",
            "a.b.home.arpa",
            "other.arpa",
            "x.other.arpa",
        ] {
            assert_eq!(asks(peer(peers), its), told, "{its}");
        }
    }
    assert_eq!(
        asks(
            Asker::Peer("::ffff:10.8.0.3".parse().unwrap()),
            "calendar.home.arpa"
        ),
        "Resolver(172.20.0.3:53) for 10.8.0.3"
    );
    for (own, outcome) in [
        ("nas.home.arpa", "Found"),
        ("www.home.arpa", "Found"),
        ("home.arpa", "NoData"),
    ] {
        assert_eq!(asks(peer(2), own), outcome, "{own}");
    }
    for (nobodys, outcome) in [("x.local", "NoName"), ("2.0.8.10.in-addr.arpa", "NoName")] {
        assert_eq!(asks(peer(2), nobodys), outcome, "{nobodys}");
    }
    assert_eq!(asks(peer(6), "calendar.home.arpa"), "Stranger");
    assert_eq!(
        asks(Asker::Cell, "calendar.home.arpa"),
        "NoName",
        "the cell is no peer"
    );
    let whole = decide(&table, peer(2), &name("home.arpa"), Kind::Transfer);
    assert_eq!(whole, Decision::Refuse(Refused::TooMuch));
    // Without an authority it is as it was.
    let without = self::table();
    assert_eq!(
        way(&decide(&without, peer(2), &name("calendar.home.arpa"), Kind::A)),
        "NoName"
    );
}

#[test]
fn the_authority_is_one_of_the_ceilings() {
    let fields = |change: &dyn Fn(&mut AskedDns<'static>)| {
        let mut asked = asked();
        change(&mut asked);
        let faults = request::table(&asked, &ceiling()).unwrap_err();
        faults.into_iter().map(|fault| fault.field).collect::<Vec<_>>()
    };
    for bad in ["172.20.0.4:53", "172.20.0.3:54", "127.0.0.1:53", "192.0.2.53:53"] {
        assert_eq!(
            fields(&|asked| asked.authority = Some(at(bad))),
            ["authority"],
            "{bad}"
        );
    }
    assert_eq!(
        fields(&|asked| asked.authority_zones = vec!["other.arpa"]),
        ["authority"]
    );
    let bad_zone = |asked: &mut AskedDns<'static>| {
        (asked.authority, asked.authority_zones) = (Some(at("172.20.0.3:53")), vec!["a b"]);
    };
    assert_eq!(fields(&bad_zone), ["authority_zones[0]"]);
    let many = |asked: &mut AskedDns<'static>| {
        (asked.authority, asked.authority_zones) = (Some(at("172.20.0.3:53")), vec!["a.b"; 65]);
    };
    assert_eq!(fields(&many), ["authority_zones"]);
}
