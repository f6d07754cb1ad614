#![allow(clippy::unwrap_used, reason = "tests")]
use proptest::prelude::*;

use super::*;

fn id(number: u64) -> ConnectionId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    ConnectionId::from_random(bytes)
}

fn kind() -> impl Strategy<Value = Kind> {
    (0..Kind::ALL.len()).prop_map(|index| Kind::ALL[index])
}

#[test]
fn the_first_has_the_first_of_each_pool() {
    let mut pools = Pools::default();
    let tunnel = pools
        .allocate(&ConnectionId::from_random([0xcd; 16]), Kind::WireguardExt)
        .unwrap();
    let expected = Allocation {
        mark: 0x1000,
        table: 1000,
        device: Device::Interface("wgext_cdcdcdcd".to_owned()),
    };
    assert_eq!(tunnel, expected);
    let tor = pools.allocate(&id(1), Kind::Tor).unwrap();
    assert_eq!(
        (tor.mark, tor.table, tor.device),
        (0x1010, 1001, Device::RedirectPort(9100))
    );
    let relay = pools.allocate(&id(2), Kind::CellRelay).unwrap();
    assert_eq!(
        (relay.mark, relay.table, relay.device),
        (0x1020, 1002, Device::Link)
    );
}

#[test]
fn interfaces_of_ids_that_begin_alike_differ() {
    let mut pools = Pools::default();
    let mut bytes = [0xcd; 16];
    let first = pools
        .allocate(&ConnectionId::from_random(bytes), Kind::Openvpn)
        .unwrap();
    bytes[15] = 0;
    let second = pools
        .allocate(&ConnectionId::from_random(bytes), Kind::Openvpn)
        .unwrap();
    assert_eq!(first.device, Device::Interface("ovpn_cdcdcdcd".to_owned()));
    // The same digits, one further on.
    assert_eq!(second.device, Device::Interface("ovpn_dcdcdcdc".to_owned()));
}

#[test]
fn what_runs_out_is_named() {
    let mut pools = Pools::default();
    for number in 0..100 {
        pools.allocate(&id(number), Kind::Proxy).unwrap();
    }
    let before = pools.clone();
    assert_eq!(pools.allocate(&id(100), Kind::Tor), Err(Exhausted::RedirectPorts));
    assert_eq!(pools, before, "a failure takes nothing");
    for number in 100..256 {
        pools.allocate(&id(number), Kind::WireguardExt).unwrap();
    }
    assert_eq!(pools.allocate(&id(256), Kind::CellRelay), Err(Exhausted::Marks));
}

#[test]
fn a_state_that_collides_or_is_foreign_is_not_used() {
    let good = Allocation {
        mark: 0x1010,
        table: 1001,
        device: Device::RedirectPort(9100),
    };
    let with = |change: fn(&mut Allocation)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed
    };
    let other = Allocation {
        mark: 0x1020,
        table: 1002,
        device: Device::RedirectPort(9101),
    };
    assert!(Pools::of([(Kind::Tor, &good), (Kind::Proxy, &other)]).is_ok());
    for twice in [
        Allocation {
            mark: good.mark,
            ..other.clone()
        },
        Allocation {
            table: good.table,
            ..other.clone()
        },
        Allocation {
            device: good.device.clone(),
            ..other.clone()
        },
    ] {
        let refused = Pools::of([(Kind::Tor, &good), (Kind::Proxy, &twice)]);
        assert!(matches!(refused, Err(Unsound::Twice(_))), "{twice:?}");
    }
    for foreign in [
        with(|a| a.mark = 0x1011),
        with(|a| a.mark = 0x2000),
        with(|a| a.table = 254),
        with(|a| a.device = Device::RedirectPort(443)),
        with(|a| a.device = Device::Interface("wgext_00000000".to_owned())),
        with(|a| a.device = Device::Link),
    ] {
        let refused = Pools::of([(Kind::Tor, &foreign)]);
        assert!(matches!(refused, Err(Unsound::Foreign(_))), "{foreign:?}");
    }
    for name in [
        "wgext_0000000",
        "wgext_0000000G",
        "eth0",
        "ovpn_00000000",
        "wgext_00000000\n",
    ] {
        let foreign = Allocation {
            device: Device::Interface(name.to_owned()),
            ..good.clone()
        };
        assert!(Pools::of([(Kind::WireguardExt, &foreign)]).is_err(), "{name:?}");
    }
}

proptest! {
    /// However connections come and go: nobody shares, the lowest gap is filled, and what is stored reads back.
    #[test]
    fn nothing_is_given_twice(acts in prop::collection::vec((kind(), any::<prop::sample::Index>(), any::<bool>()), 1..400)) {
        let mut held: Vec<(Kind, Allocation)> = Vec::new();
        for (number, (kind, index, remove)) in acts.into_iter().enumerate() {
            if remove && !held.is_empty() {
                held.swap_remove(index.index(held.len()));
                continue;
            }
            let mut pools = Pools::of(held.iter().map(|(kind, allocation)| (*kind, allocation))).unwrap();
            if let Ok(given) = pools.allocate(&id(number as u64), kind) {
                let lower = MARKS.step_by(MARK_STEP as usize).take_while(|mark| *mark < given.mark);
                for mark in lower {
                    prop_assert!(held.iter().any(|(_, other)| other.mark == mark), "{mark:#x} was free");
                }
                held.push((kind, given));
            }
            prop_assert_eq!(Pools::of(held.iter().map(|(kind, allocation)| (*kind, allocation))).unwrap(), pools);
        }
    }
}
