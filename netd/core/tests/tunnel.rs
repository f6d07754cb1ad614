//! From what there is of an exit's tunnel to what is wanted.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use cell_netd_core::desired::{Exit, Tunnel, WireguardExit};
use cell_netd_core::model::{Mtu, PublicKey};
use cell_netd_core::observed::Device;
use cell_netd_core::plan::PeerUpdate;
use cell_netd_core::spec::{UserTunnelSpec, WaySpec, WireguardExitSpec};
use cell_netd_core::tunnel::{
    self, Foreign, SecretRecord, TunnelSeen, TunnelStep, device_peers, neighbourhood, secret_name,
};
use cell_netd_core::validate::validate;
use support::{TUNNEL_USER, ceiling, exit, spec, user_tunnel};

fn key(byte: u8) -> PublicKey {
    PublicKey::try_from([byte; 32].as_slice()).unwrap()
}

/// Exit 0, with a preshared key, at secrets' revision 3.
fn wanted(change: impl FnOnce(&mut WireguardExitSpec)) -> Exit {
    let mut spec = spec(vec![]);
    spec.exits = vec![exit(0)];
    let Some(WaySpec::Wireguard(tunnel)) = &mut spec.exits[0].way else {
        panic!("a WireGuard exit");
    };
    tunnel.far_ends[0].has_preshared_key = true;
    tunnel.secret_revision = 3;
    change(tunnel);
    let desired = validate(&spec, &ceiling(), None).unwrap();
    desired.exits().values().next().unwrap().clone()
}

fn wireguard(exit: &Exit) -> &WireguardExit {
    match &exit.tunnel {
        Tunnel::Wireguard(tunnel) => tunnel,
        Tunnel::User(_) => panic!("a WireGuard exit"),
    }
}

/// What there is to do, where TUNs are made for [`TUNNEL_USER`].
fn steps(exit: &Exit, before: Option<&Exit>, seen: Option<&TunnelSeen>) -> Result<Vec<TunnelStep>, Foreign> {
    tunnel::steps(exit, before, seen, Some(TUNNEL_USER))
}

/// As netd leaves it.
fn made(exit: &Exit) -> TunnelSeen {
    let tunnel = wireguard(exit);
    let preshared = tunnel.far_ends.iter().filter(|far| far.preshared);
    TunnelSeen {
        ours: true,
        record: Some(SecretRecord {
            exit: exit.way.id.clone(),
            revision: tunnel.secret_revision,
            public_key: key(9),
        }),
        up: true,
        mtu: Some(tunnel.mtu),
        addresses: exit.tunnel.addresses(),
        loose: true,
        user: None,
        device: Some(Device {
            public_key: key(9),
            listen_port: 40_000,
            fwmark: 0,
            peers: device_peers(tunnel),
            preshared: preshared.map(|far| far.key).collect(),
        }),
    }
}

fn repair(spoil: impl FnOnce(&mut TunnelSeen)) -> Vec<TunnelStep> {
    let exit = wanted(|_| {});
    let mut seen = made(&exit);
    spoil(&mut seen);
    steps(&exit, Some(&exit), Some(&seen)).unwrap()
}

#[test]
fn a_new_tunnel_is_up_last_and_has_its_keys_before() {
    let exit = wanted(|_| {});
    let steps = steps(&exit, None, None).unwrap();
    assert_eq!(steps[..2], [TunnelStep::Create, TunnelStep::Secrets]);
    assert_eq!(steps.last(), Some(&TunnelStep::SetUp));
    for address in ["172.20.0.2/32", "fd20:0::2/128"] {
        assert!(
            steps.contains(&TunnelStep::AddAddress(address.parse().unwrap())),
            "{steps:?}"
        );
    }
    assert!(steps.contains(&TunnelStep::Loosen) && steps.contains(&TunnelStep::SetMtu(Mtu::DEFAULT)));
}

#[test]
fn what_is_as_wanted_is_left_alone_after_a_restart_too() {
    let exit = wanted(|_| {});
    assert_eq!(steps(&exit, Some(&exit), Some(&made(&exit))), Ok(vec![]));
    assert_eq!(steps(&exit, None, Some(&made(&exit))), Ok(vec![]));
}

#[test]
fn what_others_did_is_undone_and_nothing_more() {
    let address = "172.20.0.2/32".parse().unwrap();
    let other = "192.0.2.77/24".parse().unwrap();
    assert_eq!(repair(|seen| seen.up = false), [TunnelStep::SetUp]);
    assert_eq!(repair(|seen| seen.loose = false), [TunnelStep::Loosen]);
    assert_eq!(repair(|seen| seen.mtu = None), [TunnelStep::SetMtu(Mtu::DEFAULT)]);
    let taken = repair(|seen| {
        seen.addresses.remove(&address);
    });
    assert_eq!(taken, [TunnelStep::AddAddress(address)]);
    let added = repair(|seen| {
        seen.addresses.insert(other);
    });
    assert_eq!(added, [TunnelStep::RemoveAddress(other)]);
    // A peer of somebody's, and a far end that carries less.
    let peers = repair(|seen| {
        let peers = &mut seen.device.as_mut().unwrap().peers;
        let far = peers.get_mut(&key(0x50)).unwrap();
        far.allowed_ips.pop_first();
        let stranger = far.clone();
        peers.insert(key(0x66), stranger);
    });
    let [TunnelStep::FarEnds(PeerUpdate { upserted, removed })] = &peers[..] else {
        panic!("{peers:?}");
    };
    assert_eq!(removed.iter().collect::<Vec<_>>(), [&key(0x66)]);
    assert_eq!(upserted[&key(0x50)].allowed_ips.len(), 2);
    assert_eq!(upserted[&key(0x50)].endpoint, None, "where it is stays");
}

#[test]
fn secrets_are_given_again_where_they_are_not_the_wanted_ones() {
    let device = |change: fn(&mut Device)| repair(|seen| change(seen.device.as_mut().unwrap()));
    let given = [TunnelStep::Secrets];
    assert_eq!(repair(|seen| seen.device = None), given);
    assert_eq!(
        repair(|seen| seen.record = None),
        given,
        "netd died before it said so"
    );
    assert_eq!(
        device(|device| device.public_key = key(8)),
        given,
        "another key by hand"
    );
    assert_eq!(device(|device| device.preshared.clear()), given);
    assert_eq!(
        device(|device| device.peers.clear()),
        given,
        "its preshared key went with it"
    );
    let other = repair(|seen| {
        if let Some(record) = &mut seen.record {
            record.exit = "exit9".parse().unwrap();
        }
    });
    assert_eq!(other, given, "the interface was another exit's");
    let newer = wanted(|tunnel| tunnel.secret_revision = 4);
    let seen = made(&wanted(|_| {}));
    assert_eq!(steps(&newer, Some(&wanted(|_| {})), Some(&seen)).unwrap(), given);
    let without = wanted(|tunnel| tunnel.far_ends[0].has_preshared_key = false);
    assert_eq!(steps(&without, None, Some(&seen)).unwrap(), given);
}

/// Its own packets could be led into an exit by a mark.
#[test]
fn a_marked_device_is_made_anew_and_a_foreign_one_never_touched() {
    let steps_of = |change: fn(&mut TunnelSeen)| {
        let exit = wanted(|_| {});
        let mut seen = made(&exit);
        change(&mut seen);
        steps(&exit, Some(&exit), Some(&seen))
    };
    let anew = steps_of(|seen| seen.device.as_mut().unwrap().fwmark = 0x1000).unwrap();
    assert_eq!(
        anew[..3],
        [TunnelStep::Remove, TunnelStep::Create, TunnelStep::Secrets]
    );
    assert_eq!(anew.last(), Some(&TunnelStep::SetUp));
    assert_eq!(steps_of(|seen| seen.ours = false), Err(Foreign));
}

#[test]
fn a_far_end_that_moved_by_itself_keeps_its_place_and_one_that_was_moved_gets_it() {
    let exit = wanted(|_| {});
    let mut seen = made(&exit);
    let roamed = "198.51.100.99:7".parse().unwrap();
    let peers = &mut seen.device.as_mut().unwrap().peers;
    peers.get_mut(&key(0x50)).unwrap().endpoint = Some(roamed);
    assert_eq!(steps(&exit, Some(&exit), Some(&seen)), Ok(vec![]));
    let moved = wanted(|tunnel| tunnel.far_ends[0].endpoint = Some(Ok("192.0.2.9:9".parse().unwrap())));
    let steps = steps(&moved, Some(&exit), Some(&seen)).unwrap();
    let [TunnelStep::FarEnds(update)] = &steps[..] else {
        panic!("{steps:?}");
    };
    assert_eq!(
        update.upserted[&key(0x50)].endpoint,
        Some("192.0.2.9:9".parse().unwrap())
    );
}

#[test]
fn a_record_is_read_as_it_was_written_and_nothing_else_is_one() {
    let record = SecretRecord {
        exit: "0123abcd-4567-89ab-cdef-0123456789ab".parse().unwrap(),
        revision: u64::MAX,
        public_key: key(9),
    };
    let text = record.to_string();
    assert!(text.len() < 150, "an alias has at most 255 bytes: {text}");
    assert_eq!(text.parse(), Ok(record));
    for other in [
        "",
        "secrets",
        "secrets 1",
        "secrets x of AAAA",
        &text[1..],
        &format!("{text}="),
    ] {
        assert!(other.parse::<SecretRecord>().is_err(), "{other}");
    }
}

#[test]
fn only_a_connections_id_has_secrets() {
    let name = |id: &str| secret_name(&id.parse().unwrap(), "wireguard_key");
    assert_eq!(
        name("0123abcd-4567-89ab-cdef-0123456789ab").as_deref(),
        Some("conn_0123abcd456789abcdef0123456789ab_wireguard_key")
    );
    for id in [
        "exit0",
        "0123abcd456789abcdef0123456789ab",
        "0123ABCD-4567-89ab-cdef-0123456789ab",
        "0123abcd-4567-89ab-cdef-0123456789a",
        "0123abcg-4567-89ab-cdef-0123456789ab",
    ] {
        assert_eq!(name(id), None, "{id}");
    }
}

/// Exit 5, which a program carries.
fn carried(change: impl FnOnce(&mut UserTunnelSpec)) -> Exit {
    let mut spec = spec(vec![]);
    spec.exits = vec![user_tunnel(5)];
    let Some(WaySpec::Tunnel(tunnel)) = &mut spec.exits[0].way else {
        panic!("a tunnel that a program carries");
    };
    change(tunnel);
    let desired = validate(&spec, &ceiling(), None).unwrap();
    desired.exits().values().next().unwrap().clone()
}

fn made_for(exit: &Exit, user: Option<u32>) -> TunnelSeen {
    TunnelSeen {
        ours: true,
        record: None,
        up: true,
        mtu: Some(exit.tunnel.mtu()),
        addresses: exit.tunnel.addresses(),
        loose: true,
        user,
        device: None,
    }
}

#[test]
fn a_tunnel_of_a_program_is_made_for_its_user_and_asks_for_no_secret() {
    let exit = carried(|_| {});
    let steps = steps(&exit, None, None).unwrap();
    assert_eq!(steps[0], TunnelStep::CreateFor(TUNNEL_USER));
    assert_eq!(steps.last(), Some(&TunnelStep::SetUp));
    assert!(!steps.contains(&TunnelStep::Secrets));
    let address = TunnelStep::AddAddress("172.21.5.2/32".parse().unwrap());
    assert!(steps.contains(&address), "{steps:?}");
}

#[test]
fn a_tunnel_of_a_program_stays_while_its_addresses_change() {
    let (before, exit) = (carried(|tunnel| tunnel.addresses.clear()), carried(|_| {}));
    let seen = made_for(&before, Some(TUNNEL_USER));
    assert_eq!(
        steps(&before, None, Some(&seen)),
        Ok(vec![]),
        "and without addresses it is made too"
    );
    let added = ["172.21.5.2/32", "fd21:5::2/128"].map(|net| TunnelStep::AddAddress(net.parse().unwrap()));
    assert_eq!(steps(&exit, Some(&before), Some(&seen)), Ok(added.to_vec()));
    let taken = steps(&before, Some(&exit), Some(&made_for(&exit, Some(TUNNEL_USER)))).unwrap();
    let taken_away = |step: &TunnelStep| matches!(step, TunnelStep::RemoveAddress(_));
    assert!(taken.len() == 2 && taken.iter().all(taken_away), "{taken:?}");
}

#[test]
fn a_tun_for_somebody_else_is_made_anew_and_a_foreign_one_left_alone() {
    let exit = carried(|_| {});
    for user in [None, Some(TUNNEL_USER + 1), Some(0)] {
        let steps = steps(&exit, Some(&exit), Some(&made_for(&exit, user))).unwrap();
        assert_eq!(
            steps[..2],
            [TunnelStep::Remove, TunnelStep::CreateFor(TUNNEL_USER)],
            "{user:?}"
        );
        assert_eq!(steps.last(), Some(&TunnelStep::SetUp));
    }
    let mut foreign = made_for(&exit, Some(TUNNEL_USER));
    foreign.ours = false;
    assert_eq!(steps(&exit, None, Some(&foreign)), Err(Foreign));
}

/// Whom the far end calls itself is its word; a neighbour's address is not its to give.
#[test]
fn an_address_of_a_neighbour_is_not_taken() {
    let on_link = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
    let program = carried(|_| {});
    let found = neighbourhood(&program.tunnel, &on_link(&["192.168.1.0/24", "172.21.0.0/16"]));
    assert_eq!(
        found,
        Some(("172.21.5.2/32".parse().unwrap(), "172.21.0.0/16".parse().unwrap()))
    );
    let six = neighbourhood(&program.tunnel, &on_link(&["fd21:5::/64"]));
    assert!(six.is_some());
    for apart in [&[][..], &["172.21.5.2/32", "fd21:5::2/128"], &["172.21.6.0/24"]] {
        assert_eq!(neighbourhood(&program.tunnel, &on_link(apart)), None, "{apart:?}");
    }
    let of_file = wanted(|_| {});
    assert_eq!(neighbourhood(&of_file.tunnel, &on_link(&["172.20.0.0/16"])), None);
}
