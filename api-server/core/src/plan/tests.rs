//! Statements and their words, by example; `lab/tests/plans.rs` has them against netd's policy.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::access::{AccessPolicy, Service, Tunnel};
use crate::connection::choice::ExitChoice;
use crate::key::PublicKey;
use crate::name::PeerName;
use crate::range;

fn home() -> VpnRange {
    let v4 = range::parse_v4("10.86.0.0/16").unwrap();
    VpnRange::new(v4, range::parse_v6("fd12:3456:789a::/64").unwrap()).unwrap()
}

fn peer(name: &str, host: u32) -> Peer {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&host.to_be_bytes());
    Peer {
        name: PeerName::parse(name).unwrap(),
        public_key: PublicKey::from_bytes(&key).unwrap(),
        host: home().host(host).unwrap(),
        access: AccessPolicy::default(),
        tunnel: Tunnel::Full,
        exit: ExitChoice::default(),
    }
}

fn with(peer: &Peer, change: impl FnOnce(&mut Peer)) -> Peer {
    let mut peer = peer.clone();
    change(&mut peer);
    peer
}

fn id(number: u8) -> ConnectionId {
    ConnectionId::from_random([number; 16])
}

fn exits() -> BTreeMap<ConnectionId, KnownExit> {
    let known = |name: &str, kind| KnownExit {
        name: name.to_owned(),
        kind,
    };
    BTreeMap::from([
        (id(1), known("work", Kind::Proxy)),
        (id(2), known("mullvad", Kind::WireguardExt)),
        (id(3), known("onion", Kind::Tor)),
    ])
}

fn service(address: &str, port: u16) -> Service {
    Service {
        address: address.parse().unwrap(),
        protocol: Protocol::Tcp,
        port,
    }
}

/// As it is sent now where every exit works.
fn route(peer: &Peer) -> Route {
    peer.exit.bound().map_or(Route::Own, Route::Exit)
}

fn said(before: Option<&Peer>, after: Option<&Peer>, others: &[Peer], author: Option<&str>) -> Vec<String> {
    let standing = |peer| Standing {
        peer,
        route: route(peer),
    };
    let change = Change {
        before: before.map(standing),
        after: after.map(standing),
    };
    let others: Vec<Standing<'_>> = others.iter().map(standing).collect();
    let (range, exits) = (home(), exits());
    let around = Around {
        range: &range,
        exits: &exits,
        others: &others,
    };
    plan(&[change], &around, author).lines()
}

fn changed(before: &Peer, after: &Peer) -> Vec<String> {
    said(Some(before), Some(after), &[], None)
}

#[test]
fn access_is_told_by_names() {
    let laptop = peer("laptop", 2);
    let nas = peer("nas", 3);
    let more = with(&laptop, |peer| {
        peer.access.internet = true;
        peer.access.services = [
            service("10.86.0.3", 22),
            service("192.168.1.5", 443),
            service("9.9.9.9", 853),
        ]
        .into();
    });
    let lines = said(Some(&laptop), Some(&more), &[nas], None);
    assert_eq!(
        lines,
        [
            "laptop gains the internet, by the cell's own way.",
            "laptop gains TCP port 22 of nas (10.86.0.3).",
            "laptop gains TCP port 443 of 192.168.1.5 on a private network.",
            "laptop gains TCP port 853 of 9.9.9.9 on the internet.",
        ]
    );
    let lines = changed(&more, &with(&more, |peer| peer.access.services.clear()));
    assert!(lines.contains(&"laptop loses TCP port 853 of 9.9.9.9 on the internet, and still gets there by the cell's own way.".to_owned()), "{lines:?}");
    assert!(
        lines.contains(&"Open connections of laptop to lost services end.".to_owned()),
        "{lines:?}"
    );
    let lines = changed(&more, &with(&more, |peer| peer.access.internet = false));
    assert_eq!(
        lines,
        [
            "laptop loses the internet.",
            "Open connections of laptop to the internet end."
        ]
    );
    assert_eq!(changed(&laptop, &laptop), ["Nobody's reach changes."]);
}

#[test]
fn exits_are_told_from_one_to_the_other() {
    let bound = |number: Option<u8>| {
        with(&peer("laptop", 2), |peer| {
            peer.access.internet = true;
            peer.exit = ExitChoice::default().bound_to(number.map(id));
        })
    };
    let own = bound(None);
    assert_eq!(
        changed(&own, &bound(Some(1))),
        [
            "laptop leaves for the internet through work (TCP alone), and no longer by the cell's own way.",
            "Open connections of laptop to the internet end.",
        ]
    );
    assert_eq!(
        changed(&bound(Some(2)), &own)[0],
        "laptop leaves for the internet by the cell's own way, and no longer through mullvad."
    );
    let onion = bound(Some(3));
    assert!(
        changed(&own, &onion).contains(
            &"While onion does not work, laptop goes out directly, by the cell's own way.".to_owned()
        )
    );
    let spare = with(&onion, |peer| {
        peer.exit = ExitChoice::try_new(Some(id(3)), Some(false), vec![id(2)]).unwrap();
    });
    assert_eq!(
        changed(&onion, &spare),
        ["While onion does not work, laptop goes through mullvad, else nowhere."]
    );
    let idle = |peer: &Peer| with(peer, |peer| peer.access.internet = false);
    assert_eq!(
        changed(&idle(&own), &idle(&bound(Some(2)))),
        ["laptop is bound to mullvad; that counts once there is internet access."]
    );
}

#[test]
fn an_exit_that_nothing_carries_takes_its_device_off_the_internet_alone() {
    let before = with(&peer("laptop", 2), |peer| peer.access.internet = true);
    let after = with(&before, |peer| {
        peer.exit = ExitChoice::default().bound_to(Some(id(2)))
    });
    let change = Change {
        before: Some(Standing {
            peer: &before,
            route: Route::Own,
        }),
        after: Some(Standing {
            peer: &after,
            route: Route::Nowhere,
        }),
    };
    let (range, exits) = (home(), exits());
    let around = Around {
        range: &range,
        exits: &exits,
        others: &[],
    };
    let plan = plan(&[change], &around, Some("laptop"));
    assert_eq!(plan.own_path, OwnPath::Touched);
    let lines = plan.lines();
    let told = "laptop does not reach the internet: nothing carries mullvad, and no other way is allowed.";
    assert_eq!(lines[0], told, "{lines:?}");
    assert!(
        !lines.iter().any(|line| line.contains("off the network")),
        "{lines:?}"
    );
}

#[test]
fn ten_thousand_devices_are_counted_and_not_listed() {
    let all = |number: u32| {
        with(&peer(&format!("device-{number}"), number), |peer| {
            peer.access.peer_to_peer = true
        })
    };
    let others: Vec<Peer> = (100..10_100).map(all).collect();
    let laptop = with(&peer("laptop", 2), |peer| peer.access.peer_to_peer = true);
    let lines = said(Some(&laptop), None, &others, None);
    let named =
        "10000 devices (device-100, device-1000, device-10000, device-10001, device-10002 and 9995 more)";
    assert_eq!(
        lines,
        [
            "laptop is removed and can reach nothing any more.".to_owned(),
            format!("laptop loses {named}."),
            format!("{named} lose laptop."),
            "All open connections of laptop end.".to_owned(),
        ]
    );
    assert!(lines.iter().map(String::len).sum::<usize>() < 1_000);
    let first = said(Some(&peer("laptop", 2)), Some(&laptop), &[], None);
    assert_eq!(
        first,
        ["laptop may reach other devices that may too, and there are none yet."]
    );
    let many = with(&laptop, |peer| {
        peer.access.services = (1..=256).map(|port| service("192.168.1.5", port)).collect();
    });
    let lines = said(Some(&laptop), Some(&many), &[], None);
    assert_eq!(
        (lines.len(), lines.last().unwrap().as_str()),
        (SERVICES_TOLD + 1, "laptop gains 248 services more.")
    );
}

#[test]
fn an_author_hears_what_becomes_of_the_way_that_they_came_by() {
    let laptop = with(&peer("laptop", 2), |peer| peer.access.internet = true);
    let path = |after: Option<&Peer>, author: &str| {
        let lines = said(Some(&laptop), after, &[], Some(author));
        let warned = |path: OwnPath| {
            path.warning()
                .is_some_and(|text| lines.iter().any(|line| line == text))
        };
        [OwnPath::Touched, OwnPath::Cut]
            .into_iter()
            .find(|path| warned(*path))
            .unwrap_or(OwnPath::Stays)
    };
    let key = with(&laptop, |peer| {
        peer.public_key = PublicKey::from_bytes(&[9; 32]).unwrap()
    });
    let less = with(&laptop, |peer| peer.access.internet = false);
    let more = with(&laptop, |peer| peer.access.peer_to_peer = true);
    for (after, expected) in [
        (None, OwnPath::Cut),
        (Some(&key), OwnPath::Cut),
        (Some(&less), OwnPath::Touched),
        (Some(&more), OwnPath::Stays),
        (Some(&laptop), OwnPath::Stays),
    ] {
        assert_eq!(path(after, "laptop"), expected, "{after:?}");
        assert_eq!(path(after, "phone"), OwnPath::Stays, "{after:?}");
    }
}

#[test]
fn several_changes_are_told_together() {
    let all: Vec<Peer> = (2..6).map(|number| peer(&format!("d{number}"), number)).collect();
    let after: Vec<Peer> = all
        .iter()
        .map(|one| with(one, |peer| peer.access.peer_to_peer = true))
        .collect();
    let own = |peer| Standing {
        peer,
        route: Route::Own,
    };
    let changes: Vec<Change<'_>> = all
        .iter()
        .zip(&after)
        .map(|(before, after)| Change {
            before: Some(own(before)),
            after: Some(own(after)),
        })
        .collect();
    let (range, exits) = (home(), exits());
    let around = Around {
        range: &range,
        exits: &exits,
        others: &[],
    };
    let lines = plan(&changes, &around, None).lines();
    assert_eq!(lines, ["d2, d3, d4 and d5 gain each other."]);
}
