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
use cell_netd::kernel::wireguard::{Backend, PrivateKey};
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
    let desired = validate(&core_support::spec(vec![]), &core_support::ceiling()).unwrap();
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
        Some((state.device.public_key, 51820))
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

    // More peers than one message holds.
    let many: Vec<(u8, DevicePeer)> = (10..=250)
        .map(|index| (index, peer(None, 0, &[&format!("10.86.1.{index}/32")])))
        .collect();
    device.update(name, &update(&many, &[])).await.unwrap();
    assert_eq!(peers(device, name).await.len(), 243);
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
                let desired = validate(&core_support::spec(vec![]), &core_support::ceiling()).unwrap();
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
