//! Specs of what was drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use cell_proto::common::v1::{Endpoint, IpPrefix, Protocol};
use cell_proto::netd::v1;

use super::containers;
use super::drawn::{
    At, Drawn, DrawnEntry, DrawnExit, DrawnFarEnd, DrawnNetwork, Families, RELAYS, Sent, TUNNELS, Whole,
};
use super::support::{access, address, peer, spec};

/// Those of a change: what is upserted, and the names that go with whoever had a number before.
pub fn changed(
    sent: &[(u8, Drawn)],
    removed: &[u8],
    state: &v1::NetworkSpec,
) -> (Vec<v1::PeerSpec>, Vec<String>) {
    let stays = |number: &u8| !removed.contains(number);
    let upserted = sent.iter().filter(|(number, _)| stays(number));
    // Peers need an interface.
    let upserted = upserted.filter(|_| state.wireguard.is_some());
    let upserted: Vec<_> = upserted.map(|peer| peer_spec(peer, state)).collect();
    let numbers: BTreeSet<u8> = removed
        .iter()
        .chain(sent.iter().map(|(number, _)| number))
        .copied()
        .collect();
    let names = numbers
        .iter()
        .flat_map(|number| [name(*number, false), name(*number, true)]);
    let gone = names.filter(|name| upserted.iter().all(|peer| peer.name != *name));
    (upserted.clone(), gone.collect())
}

fn name(number: u8, renamed: bool) -> String {
    format!("{}{number}", if renamed { "renamed" } else { "p" })
}

fn service(address: std::net::IpAddr, protocol: Protocol, port: u32) -> v1::Service {
    v1::Service {
        address: Some(address.into()),
        protocol: protocol.into(),
        port,
    }
}

fn services(of: &[At]) -> Vec<v1::Service> {
    let one = |(at, protocol, port): &At| service(at.parse().unwrap(), *protocol, *port);
    of.iter().map(one).collect()
}

fn endpoint(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

fn peer_spec((number, drawn): &(u8, Drawn), state: &v1::NetworkSpec) -> v1::PeerSpec {
    let key = if drawn.rekeyed { 0x80 + number } else { *number };
    let mut access = access(drawn.internet, drawn.peer_to_peer, &[]);
    access.services = services(&drawn.services);
    let mut spec = peer(*number, &name(*number, drawn.renamed), &[key; 32], access);
    let has_v6 = state
        .wireguard
        .as_ref()
        .is_some_and(|wireguard| wireguard.addresses.len() == 2);
    match drawn.families {
        Families::Both if has_v6 => {}
        Families::V6 if has_v6 => drop(spec.addresses.remove(0)),
        Families::Both | Families::V4 | Families::V6 => drop(spec.addresses.pop()),
    }
    spec.endpoint = drawn.endpoint.map(endpoint);
    spec.persistent_keepalive_seconds = drawn.keepalive;
    spec.exit = exit_of(drawn.exit, &state.exits);
    spec
}

/// An exit that is not there is refused: others hold that.
fn exit_of(exit: Option<u8>, exits: &[v1::ExitSpec]) -> String {
    let id = exit.map(id).unwrap_or_default();
    if exits.iter().any(|known| known.id == id) {
        id
    } else {
        String::new()
    }
}

fn network_spec((number, drawn): &(u8, DrawnNetwork), exits: &[v1::ExitSpec]) -> v1::ServiceNetwork {
    let mut network = containers::network(*number, drawn.internet, &exit_of(drawn.exit, exits));
    network.reach = services(&drawn.reach);
    let called = drawn
        .called
        .iter()
        .map(|port| SocketAddr::from(([172, 30, *number, 2], *port)));
    network.called = called.map(Into::into).collect();
    network
}

/// Each place once.
fn entries(drawn: &[DrawnEntry], networks: &[(u8, DrawnNetwork)]) -> Vec<v1::ServiceEntry> {
    let mut entries = BTreeMap::new();
    for entry in drawn {
        let Some((network, _)) = networks.get(entry.network) else {
            continue;
        };
        let (at, to) = (entry.at, entry.to);
        let spec = v1::ServiceEntry {
            at: Some(service([10, 86, 0, at.0].into(), entry.protocol, at.1)),
            to: Some(service([172, 30, *network, to.0].into(), entry.protocol, to.1)),
            everyone: entry.everyone,
        };
        entries.insert((at, entry.protocol), spec);
    }
    entries.into_values().collect()
}

/// Of an exit: that of a connection, so that it has secrets.
fn id(exit: u8) -> String {
    format!("6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a{exit:02x}")
}

/// Its interface's name; empty: it has none.
fn interface(number: u8) -> String {
    match number {
        0..TUNNELS => format!("wgext_{number:08}"),
        TUNNELS..RELAYS => String::new(),
        _ => format!("ovpn_{number:08}"),
    }
}

fn near(number: u8, families: Families) -> Vec<cell_proto::common::v1::IpAddress> {
    let v4 = address(&format!("172.20.{number}.2"));
    let v6 = address(&format!("fd20:{number}::2"));
    match families {
        Families::Both => vec![v4, v6],
        Families::V4 => vec![v4],
        Families::V6 => vec![v6],
    }
}

fn far_end_spec(number: u8, place: u8, drawn: &DrawnFarEnd) -> v1::WireguardFarEnd {
    let prefix = |(at, length): (&str, u32)| IpPrefix {
        address: Some(address(at)),
        length,
    };
    // No two have one prefix.
    let carried = match place {
        0 => [("0.0.0.0", 0), ("::", 0)],
        _ => [("198.51.100.0", 24), ("2001:db8:7::", 48)],
    };
    let server = |port| SocketAddr::from(([192, 0, 2, 9 + number], port)).into();
    v1::WireguardFarEnd {
        public_key: vec![0x50 + 0x10 * place + number; 32],
        endpoint: drawn.endpoint.map(server),
        persistent_keepalive_seconds: drawn.keepalive,
        allowed_ips: carried.map(prefix).into(),
        has_preshared_key: drawn.preshared,
    }
}

/// An exit with the mark, the table and the port of number `place`.
fn exit_spec((number, drawn): &(u8, DrawnExit), place: u8) -> v1::ExitSpec {
    let number = *number;
    let way = match number {
        0..TUNNELS => v1::exit_spec::Way::Wireguard(v1::WireguardExit {
            addresses: near(number, drawn.families),
            mtu_bytes: drawn.mtu,
            far_ends: (0..)
                .zip(&drawn.far_ends)
                .map(|(place, far)| far_end_spec(number, place, far))
                .collect(),
            secret_revision: drawn.revision,
        }),
        TUNNELS..RELAYS => {
            let servers = ["192.0.2.12:1080", "127.0.0.1:9150", "[2001:db8::12]:1080"];
            v1::exit_spec::Way::Redirect(v1::RedirectExit {
                port: 9100 + u32::from(place),
                servers: servers.into_iter().take(drawn.servers).map(endpoint).collect(),
            })
        }
        _ => {
            let servers = [
                ("192.0.2.13:1194", Protocol::Udp),
                ("[2001:db8::13]:443", Protocol::Tcp),
                ("192.0.2.13:1194", Protocol::Tcp),
            ];
            let server = |(at, protocol): (&str, Protocol)| v1::TunnelServer {
                endpoint: Some(endpoint(at)),
                protocol: protocol.into(),
            };
            v1::exit_spec::Way::Tunnel(v1::TunnelExit {
                addresses: if drawn.addressless {
                    Vec::new()
                } else {
                    near(number, drawn.families)
                },
                mtu_bytes: drawn.mtu,
                servers: servers.into_iter().take(drawn.servers).map(server).collect(),
            })
        }
    };
    let interface = interface(number);
    v1::ExitSpec {
        id: id(number),
        mark: 0x1000 + 0x10 * u32::from(place),
        table: if interface.is_empty() {
            0
        } else {
            1000 + u32::from(place)
        },
        interface,
        way: Some(way),
    }
}

/// Each field of a spec is named here, so that a new one is not forgotten.
fn whole_spec(whole: &Whole) -> v1::NetworkSpec {
    let Whole {
        interface,
        cell,
        exits,
        rotated,
        peers,
        networks,
        entries: found,
        public_http,
    } = whole;
    let mut state = spec(vec![]);
    let wireguard = state.wireguard.as_mut().unwrap();
    wireguard.listen_port = cell.port;
    wireguard.mtu_bytes = cell.mtu;
    wireguard.addresses.truncate(if cell.v6 { 2 } else { 1 });
    let place = |at: usize| exits[(at + usize::from(*rotated)) % exits.len()].0;
    let all = exits.iter().enumerate();
    let exits: Vec<_> = all.map(|(at, exit)| exit_spec(exit, place(at))).collect();
    let port = |(protocol, port, target_port): &(Protocol, u32, u32)| v1::CellPort {
        protocol: (*protocol).into(),
        port: *port,
        target_port: *target_port,
        // Of those that draw an interface without IPv6 too: as it is shipped, and as it need not be.
        bound_target_port: if *target_port == 9053 && cell.mtu == 0 {
            9054
        } else {
            0
        },
    };
    let endpoints = |texts: &[&str]| texts.iter().map(|text| endpoint(text)).collect();
    state = v1::NetworkSpec {
        wireguard: state.wireguard.filter(|_| *interface),
        peers: Vec::new(),
        cell_ports: cell.ports.iter().map(port).collect(),
        exits,
        dns_upstreams: endpoints(&cell.resolvers),
        service_networks: Vec::new(),
        entries: Vec::new(),
        relay_servers: endpoints(&cell.relay_servers),
        public_http: None,
    };
    if *interface {
        state.peers = peers.iter().map(|peer| peer_spec(peer, &state)).collect();
        state.service_networks = networks
            .iter()
            .map(|one| network_spec(one, &state.exits))
            .collect();
        state.entries = entries(found, networks);
        let public = public_http.and_then(|place| networks.get(place));
        state.public_http = public.map(|(number, _)| SocketAddr::from(([172, 30, *number, 2], 8480)).into());
    }
    state
}

/// The state after that was sent.
pub fn after(before: &v1::NetworkSpec, sent: &Sent) -> v1::NetworkSpec {
    match sent {
        Sent::Whole(whole) => whole_spec(whole),
        Sent::Change(peers, removed) => {
            let mut state = before.clone();
            let (upserted, gone) = changed(peers, removed, before);
            let stays = |peer: &v1::PeerSpec| {
                !gone.contains(&peer.name) && upserted.iter().all(|new| new.name != peer.name)
            };
            state.peers.retain(stays);
            state.peers.extend(upserted);
            state
        }
    }
}
