//! What a taken-over `cell-api` may send cell-egress and cell-openvpn, and netd cell-wg, under the policy files that are shipped: the first
//! byte says which message it is.
#![no_main]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::LazyLock;

use cell_egress::config::Config;
use cell_egress::{dns, request as to_egress};
use cell_egress_core::dns::decide::{Asker, Decision, Kind, decide};
use cell_egress_core::dns::name::Name;
use cell_egress_core::exit::ExitId;
use cell_fuzz::{again, chosen, request, uid_of};
use cell_openvpn::request as to_openvpn;
use cell_openvpn_core::profile::render;
use cell_openvpn_core::request::Ceiling;
use cell_proto::common::v1::{Endpoint, IpPrefix};
use cell_proto::{egress, openvpn, wg};
use cell_wg_core::peers::{Peer, Peers};
use cell_wg_core::request::{self as to_wg, AskedPeer};
use libfuzzer_sys::fuzz_target;

static EGRESS: LazyLock<Config> =
    LazyLock::new(|| Config::parse(include_str!("../../systemd/etc/egress.toml"), uid_of).expect("the shipped policy"));
static OPENVPN: LazyLock<Ceiling> = LazyLock::new(|| {
    let policy = include_str!("../../systemd/etc/openvpn.toml");
    cell_openvpn::config::Config::parse(policy, uid_of).expect("the shipped policy").ceiling
});

/// No line of a profile begins so, whatever was asked for.
const NEVER: &[&str] = &["up", "down", "plugin", "config", "log", "cd", "writepid", "route-up", "tls-verify", "setenv", "ifconfig"];

fn exits(bytes: &[u8]) {
    let Some(message) = request::<egress::v1::ApplyExitsRequest>(bytes) else { return };
    let reach = &EGRESS.rules.reach;
    match to_egress::apply_exits(&message, reach) {
        Err(faults) => assert!(!faults.is_empty()),
        Ok(table) => {
            assert_eq!(to_egress::apply_exits(&again(&message), reach).as_ref(), Ok(&table));
            assert_eq!(table.exits().len(), message.exits.len(), "none is left out");
            let ports: BTreeSet<_> = table.exits().map(|exit| exit.port.get()).collect();
            assert_eq!(ports.len(), table.exits().len(), "each has a port of its own");
            for exit in table.exits() {
                assert_eq!(table.at(exit.port), Some(exit));
                assert!(reach.permits(exit.kind.server()).is_ok(), "within reach");
            }
        }
    }
}

fn names(bytes: &[u8]) {
    let Some(message) = request::<egress::v1::ApplyDnsRequest>(bytes) else { return };
    let ceiling = &EGRESS.dns.as_ref().expect("the shipped policy has it");
    let table = match dns::request::apply_dns(&message, ceiling) {
        Err(faults) => return assert!((1..=100).contains(&faults.len())),
        Ok(table) => table,
    };
    assert_eq!(dns::request::apply_dns(&again(&message), ceiling).as_ref(), Ok(&table));
    let spec = message.dns.as_ref().expect("it was accepted");
    let addresses = spec.peers.iter().flat_map(|peer| peer.addresses.iter().map(move |address| (address, &peer.exit_id)));
    let asked = spec.records.iter().filter_map(|record| Name::of_host(&record.name).ok());
    let asked: Vec<_> = asked.chain(Name::of_host("example.org").ok()).take(8).collect();
    for (address, exit) in addresses.take(4) {
        let peer = IpAddr::try_from(address).expect("it was accepted").to_canonical();
        for name in &asked {
            for kind in [Kind::A, Kind::Aaaa, Kind::Ptr, Kind::Any, Kind::Transfer] {
                match decide(&table, Asker::Peer(peer), name, kind) {
                    Decision::Exit(id, _) => assert_eq!(id.to_string(), *exit, "by its own exit"),
                    Decision::Default => assert!(exit.is_empty(), "no question of a peer leaves past its exit"),
                    Decision::NoWay => assert!(!exit.is_empty()),
                    Decision::Answer(_) | Decision::Authority(..) | Decision::Refuse(_) => {}
                }
            }
        }
    }
}

/// Two messages, the second behind four times as many bytes as its first byte says: DNS, and peers that are led another way.
fn led(bytes: &[u8]) {
    let Some((length, rest)) = chosen(bytes) else { return };
    let (first, second) = rest.split_at(rest.len().min(4 * usize::from(length)));
    let Some(before) = request::<egress::v1::ApplyDnsRequest>(first) else { return };
    let ceiling = &EGRESS.dns.as_ref().expect("the shipped policy has it");
    let Ok(table) = dns::request::apply_dns(&before, ceiling) else { return };
    let Some(message) = request::<egress::v1::LeadPeersRequest>(second) else { return };
    match dns::request::lead_peers(&message, &table) {
        Err(faults) => assert!((1..=100).contains(&faults.len())),
        Ok(led) => {
            assert_eq!((led.peers(), led.zones()), (table.peers(), table.zones()), "nobody comes, nobody goes");
            for peer in &message.peers {
                let exit = ExitId::parse(&peer.exit_id).ok();
                for address in &peer.addresses {
                    let address = IpAddr::try_from(address).expect("it was accepted");
                    assert_eq!(led.peer(address), Some(exit.as_ref()), "by its own exit");
                }
            }
        }
    }
}

fn resolve(bytes: &[u8]) {
    let Some(message) = request::<egress::v1::ResolveRequest>(bytes) else { return };
    match dns::request::resolve(&message) {
        Err(faults) => assert!(!faults.is_empty()),
        Ok((names, by)) => {
            assert!((1..=64).contains(&names.len()) && names.len() == message.names.len());
            assert_eq!(by.is_none(), message.exit_id.is_empty());
        }
    }
}

fn tunnels(bytes: &[u8]) {
    let Some(message) = request::<openvpn::v1::ApplyExitsRequest>(bytes) else { return };
    let exits = match to_openvpn::apply_exits(&message, &OPENVPN) {
        Err(faults) => return assert!(!faults.is_empty()),
        Ok(exits) => exits,
    };
    assert_eq!(to_openvpn::apply_exits(&again(&message), &OPENVPN).as_ref(), Ok(&exits));
    assert_eq!(exits.len(), message.exits.len());
    for exit in exits.values() {
        let profile = render(exit, &[], "/run/management.sock").expect("nothing sealed is given");
        let mut inside = false;
        let mut blocks = 0;
        for line in profile.lines().map(str::trim) {
            let first = line.split([' ', '\t']).next().unwrap_or_default();
            if inside {
                inside = !line.starts_with("</");
                continue;
            }
            assert!(!NEVER.contains(&first.trim_start_matches('-')), "{line}");
            if line.starts_with('<') {
                (inside, blocks) = (true, blocks + 1);
            }
        }
        assert_eq!((inside, blocks), (false, exit.certificates.len()), "a block ends where it is ended");
        let count = |name: &str| profile.lines().filter(|line| line.split(' ').next() == Some(name)).count();
        assert_eq!((count("dev"), count("script-security"), count("management")), (1, 1, 1));
    }
}

/// A prefix belongs to one peer, whatever was asked for before.
fn are_apart(peers: &Peers, asked: &[Peer]) {
    let all: Vec<_> = peers.iter().flat_map(|peer| peer.allowed_ips.iter()).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    assert!(asked.iter().all(|peer| peers.get(&peer.key).is_some_and(|found| found.allowed_ips == peer.allowed_ips)));
}

/// As cell-wg hands it on.
fn asked(peers: &[wg::v1::Peer]) -> Vec<AskedPeer<'_, Endpoint, IpPrefix>> {
    peers.iter().map(asked_peer).collect()
}

fn asked_peer(peer: &wg::v1::Peer) -> AskedPeer<'_, Endpoint, IpPrefix> {
    let wg::v1::Peer { public_key, endpoint, persistent_keepalive_seconds, allowed_ips, preshared_key } = peer;
    AskedPeer {
        public_key,
        endpoint: endpoint.as_ref(),
        keepalive: *persistent_keepalive_seconds,
        allowed_ips,
        preshared_key,
    }
}

/// Two messages, the second behind as many bytes as its first byte says: a device, and a change of it.
fn devices(bytes: &[u8]) {
    let Some((length, rest)) = chosen(bytes) else { return };
    let (first, second) = rest.split_at(rest.len().min(4 * usize::from(length)));
    let mut peers = Peers::default();
    if let Some(message) = request::<wg::v1::SetDeviceRequest>(first) {
        match to_wg::set_device(&message.private_key, &asked(&message.peers)) {
            Err(faults) => assert!(!faults.is_empty()),
            Ok((_, asked)) => {
                let _changes = peers.replace(asked.clone());
                assert_eq!(peers.len(), asked.len());
                are_apart(&peers, &asked);
                assert!(peers.replace(asked).is_empty(), "twice changes nothing");
            }
        }
    }
    if let Some(message) = request::<wg::v1::UpdatePeersRequest>(second) {
        match to_wg::update_peers(&asked(&message.upserted), &message.removed_public_keys) {
            Err(faults) => assert!(!faults.is_empty()),
            Ok((asked, removed)) => {
                let _changes = peers.update(asked.clone(), &removed);
                assert!(removed.iter().all(|key| peers.get(key).is_none()));
                are_apart(&peers, &asked);
            }
        }
    }
    if let Some(message) = request::<wg::v1::GetDeviceRequest>(first)
        && let Ok(only) = to_wg::asked_for(&message.public_key)
    {
        assert_eq!(only.is_none(), message.public_key.is_empty());
    }
}

fuzz_target!(|input: &[u8]| {
    match chosen(input) {
        Some((b'e', bytes)) => exits(bytes),
        Some((b'n', bytes)) => names(bytes),
        Some((b'l', bytes)) => led(bytes),
        Some((b'r', bytes)) => resolve(bytes),
        Some((b'o', bytes)) => tunnels(bytes),
        Some((b'w', bytes)) => devices(bytes),
        _ => {}
    }
});
