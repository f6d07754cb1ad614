//! One contract for every WireGuard device: the one in memory, cell-wg, and the kernel's where there is one.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../core/tests/support/mod.rs"]
mod core_support;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use cell_lab::netns::Namespace;
use cell_netd::kernel::linux::has_wireguard;
use cell_netd::kernel::wireguard::kernel::InKernel;
use cell_netd::kernel::wireguard::memory::Memory;
use cell_netd::kernel::wireguard::userspace::Userspace;
use cell_netd::kernel::wireguard::{Backend, PresharedKey, PrivateKey, TunnelSecrets};
use cell_netd_core::model::{InterfaceName, PublicKey};
use cell_netd_core::observed::DevicePeer;
use cell_netd_core::plan::PeerUpdate;
use cell_netd_core::validate::validate;
use support::Wg;

fn key(index: u8) -> PublicKey {
    PublicKey::try_from([index; 32].as_slice()).unwrap()
}

fn peer(endpoint: Option<&str>, keepalive: u16, allowed_ips: &[&str]) -> DevicePeer {
    DevicePeer {
        endpoint: endpoint.map(|endpoint| endpoint.parse().unwrap()),
        keepalive,
        allowed_ips: allowed_ips.iter().map(|net| net.parse().unwrap()).collect(),
    }
}

fn update(upserted: &[(u8, DevicePeer)], removed: &[u8]) -> PeerUpdate {
    PeerUpdate {
        upserted: upserted
            .iter()
            .map(|(index, peer)| (key(*index), peer.clone()))
            .collect(),
        removed: removed.iter().map(|index| key(*index)).collect::<BTreeSet<_>>(),
    }
}

async fn peers(device: &mut dyn Backend, name: &InterfaceName) -> BTreeMap<PublicKey, DevicePeer> {
    device.device(name).await.unwrap().unwrap().device.peers
}

async fn contract(device: &mut dyn Backend) {
    let desired = validate(&core_support::spec(vec![]), &core_support::ceiling(), None).unwrap();
    let wireguard = desired.wireguard().unwrap();
    let name = &wireguard.interface;
    let private = PrivateKey::from_slice(&[0x40; 32]).unwrap();
    assert_eq!(device.device(name).await.unwrap(), None);
    assert_eq!(device.identity(name).await.unwrap(), None);
    device.create(wireguard, &private).await.unwrap();
    let state = device.device(name).await.unwrap().unwrap();
    assert_eq!((state.device.listen_port, state.device.peers.len()), (51820, 0));
    assert_eq!(
        device.identity(name).await.unwrap(),
        Some(state.device.identity())
    );
    assert!(
        device.create(wireguard, &private).await.is_err(),
        "the name is taken"
    );

    let one = peer(Some("192.0.2.1:5"), 25, &["10.86.0.2/32", "fd86::2/128"]);
    let two = peer(None, 0, &["10.86.0.3/32"]);
    device
        .update(name, &update(&[(1, one.clone()), (2, two.clone())], &[]))
        .await
        .unwrap();
    assert_eq!(
        peers(device, name).await,
        BTreeMap::from([(key(1), one.clone()), (key(2), two.clone())])
    );

    // No endpoint leaves the peer's alone; addresses are the whole set.
    device
        .update(name, &update(&[(1, peer(None, 0, &["10.86.0.2/32"]))], &[]))
        .await
        .unwrap();
    assert_eq!(
        peers(device, name).await[&key(1)],
        peer(Some("192.0.2.1:5"), 0, &["10.86.0.2/32"])
    );

    // A removal frees the address for an addition of the same update.
    device
        .update(name, &update(&[(3, two.clone())], &[2]))
        .await
        .unwrap();
    let now = peers(device, name).await;
    assert_eq!(now.keys().copied().collect::<Vec<_>>(), [key(1), key(3)]);
    assert_eq!(now[&key(3)], two);
    let statistics = device.device(name).await.unwrap().unwrap().statistics;
    assert_eq!(statistics[&key(3)].latest_handshake_unix_ms, 0);

    roams_and_moves(device, name).await;
    tunnels(device, name).await;
    many(device, name).await;
}

/// A device of an exit beside the cell's own: with a key of its own, preshared keys, and without a part in the other.
async fn tunnels(device: &mut dyn Backend, cell: &InterfaceName) {
    let name: InterfaceName = "wgext_1".parse().unwrap();
    let before = device.device(cell).await.unwrap().map(|state| state.device);
    assert_eq!(device.device(&name).await.unwrap(), None);
    device.create_tunnel(&name).await.unwrap();
    assert!(device.create_tunnel(&name).await.is_err(), "the name is taken");
    assert_eq!(device.identity(&name).await.unwrap(), None, "no key yet");
    let far = peer(Some("192.0.2.7:7"), 25, &["0.0.0.0/0", "::/0"]);
    let second = peer(None, 0, &["192.0.2.0/24"]);
    let far_ends = BTreeMap::from([(key(7), far.clone()), (key(8), second)]);
    let secrets = |byte: u8| TunnelSecrets {
        key: PrivateKey::from_slice(&[byte; 32]).unwrap(),
        preshared: BTreeMap::from([(key(7), PresharedKey::from_slice(&[0x51; 32]).unwrap())]),
    };
    for byte in [0x48, 0x50] {
        device.set_tunnel(&name, &secrets(byte), &far_ends).await.unwrap();
        let state = device.device(&name).await.unwrap().unwrap().device;
        assert_eq!(Some(state.public_key), secrets(byte).key.public());
        assert_eq!(state.peers, far_ends);
        assert_eq!(state.preshared, BTreeSet::from([key(7)]));
        assert_eq!(state.fwmark, 0);
        // The kernel chooses one when the interface comes up.
        assert_ne!(state.listen_port, 51820);
    }
    // A change of a far end leaves its preshared key; a removal takes it.
    let narrow = peer(None, 0, &["0.0.0.0/0"]);
    device
        .update(&name, &update(&[(7, narrow.clone())], &[8]))
        .await
        .unwrap();
    let state = device.device(&name).await.unwrap().unwrap().device;
    assert_eq!(state.preshared, BTreeSet::from([key(7)]));
    let kept = DevicePeer {
        endpoint: far.endpoint,
        ..narrow
    };
    assert_eq!(state.peers, BTreeMap::from([(key(7), kept)]));
    device.update(&name, &update(&[], &[7])).await.unwrap();
    let state = device.device(&name).await.unwrap().unwrap().device;
    assert_eq!((state.peers.len(), state.preshared.len()), (0, 0));
    // What it sends of itself, a keepalive, counts on meanwhile.
    let after = device.device(cell).await.unwrap().map(|state| state.device);
    assert_eq!(after, before, "the cell's own is as it was");
}

/// Endpoints of either family, and an address that goes from one live peer to another as the plan does it: the one loses it
/// before the other has it.
async fn roams_and_moves(device: &mut dyn Backend, name: &InterfaceName) {
    let far = peer(Some("[2001:db8::5]:4660"), 25, &["10.86.0.9/32", "fd86::9/128"]);
    let near = peer(Some("192.0.2.9:9"), 0, &["10.86.0.10/32"]);
    device
        .update(name, &update(&[(4, far.clone()), (5, near)], &[]))
        .await
        .unwrap();
    assert_eq!(peers(device, name).await[&key(4)], far);
    let (loses, gains) = (
        peer(None, 25, &["fd86::9/128"]),
        peer(None, 0, &["10.86.0.10/32", "10.86.0.9/32"]),
    );
    device.update(name, &update(&[(4, loses)], &[])).await.unwrap();
    device.update(name, &update(&[(5, gains)], &[])).await.unwrap();
    let now = peers(device, name).await;
    assert_eq!(
        now[&key(4)],
        peer(Some("[2001:db8::5]:4660"), 25, &["fd86::9/128"])
    );
    assert_eq!(
        now[&key(5)],
        peer(Some("192.0.2.9:9"), 0, &["10.86.0.10/32", "10.86.0.9/32"])
    );
    // Some peers alone, and one that there is not.
    let keys = [key(5), key(77)].into();
    let some = device.some_peers(name, &keys).await.unwrap().unwrap();
    assert_eq!(some.peers.keys().collect::<Vec<_>>(), [&key(5)]);
    assert_eq!(some.peers[&key(5)].allowed_ips, now[&key(5)].allowed_ips);
    assert_eq!(Some(some.identity()), device.identity(name).await.unwrap());
    assert!(device.statistics_of(name, &key(5)).await.unwrap().is_some());
    assert_eq!(device.statistics_of(name, &key(77)).await.unwrap(), None);
}

/// Additions and removals that span several messages of either kind, with those that stay between them.
async fn many(device: &mut dyn Backend, name: &InterfaceName) {
    let before = peers(device, name).await;
    let wide =
        |index: u32| PublicKey::try_from([&index.to_be_bytes()[..], &[1; 28]].concat().as_slice()).unwrap();
    let address = |index: u32| {
        format!(
            "10.{}.{}.{}/32",
            100 + (index >> 16),
            index >> 8 & 255,
            index & 255
        )
    };
    let all = PeerUpdate {
        upserted: (0..4100)
            .map(|index| (wide(index), peer(None, 0, &[&address(index)])))
            .collect(),
        removed: BTreeSet::new(),
    };
    device.update(name, &all).await.unwrap();
    assert_eq!(peers(device, name).await.len(), before.len() + 4100);
    let most = PeerUpdate {
        // Their addresses go to others in the same update.
        upserted: (0..10)
            .map(|index| (wide(index + 10_000), peer(None, 0, &[&address(index)])))
            .collect(),
        removed: (0..4090).map(wide).collect(),
    };
    device.update(name, &most).await.unwrap();
    let now = peers(device, name).await;
    assert_eq!(now.len(), before.len() + 20);
    assert!(before.iter().all(|(key, peer)| now.get(key) == Some(peer)));
    assert!(now.contains_key(&wide(4095)) && now.contains_key(&wide(10_009)));
}

#[tokio::test]
async fn in_memory() {
    contract(&mut Memory::default()).await;
}

#[test]
fn in_cell_wg() {
    let namespace = Namespace::new("backend").unwrap();
    let wg = Wg::start().unwrap();
    namespace
        .inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut device = Userspace::new(
                    wg.path("wg.sock"),
                    wg.path("device.sock"),
                    &core_support::ceiling().table,
                )
                .unwrap();
                contract(&mut device).await;
            });
        })
        .unwrap();
}

#[test]
fn in_the_kernel_where_it_has_one() {
    let namespace = Namespace::new("backend").unwrap();
    namespace
        .inside(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut device = InKernel::new(&core_support::ceiling().table).unwrap();
                if has_wireguard(&core_support::ceiling().table).await.unwrap() {
                    contract(&mut device).await;
                    return;
                }
                let desired = validate(&core_support::spec(vec![]), &core_support::ceiling(), None).unwrap();
                let private = PrivateKey::from_slice(&[0x40; 32]).unwrap();
                let refused = device
                    .create(desired.wireguard().unwrap(), &private)
                    .await
                    .unwrap_err();
                assert!(refused.to_string().contains("not supported"), "{refused}");
            });
        })
        .unwrap();
}
