//! What is drawn: every field that a spec may hold, as far as the ceiling of the tests lets it vary. `specs.rs` makes specs of it.

use cell_proto::common::v1::Protocol;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::support::PORT;

/// The first three are WireGuard tunnels, then come relays, then tunnels that OpenVPN carries.
pub const EXITS: [u8; 7] = [0, 1, 2, 3, 4, 5, 6];
pub const TUNNELS: u8 = 3;
pub const RELAYS: u8 = 5;
/// Keys of exits that the vault has had.
pub const REVISIONS: u64 = 2;
/// Most far ends of one exit.
pub const FAR_ENDS: u8 = 2;

/// A service: where, and how it is spoken to.
pub type At = (&'static str, Protocol, u32);

/// Single hosts, containers, and what is found in the VPN.
const SERVICES: [At; 6] = [
    ("10.0.5.7", Protocol::Tcp, 443),
    ("10.0.5.7", Protocol::Udp, 443),
    ("fd00::7", Protocol::Tcp, 443),
    ("172.30.1.2", Protocol::Tcp, 80),
    ("10.86.0.200", Protocol::Tcp, 443),
    ("10.86.0.201", Protocol::Udp, 53),
];

/// Which addresses somebody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    Both,
    V4,
    V6,
}

/// What one peer is like.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// Another name, or another key, than it mostly has.
    pub renamed: bool,
    pub rekeyed: bool,
    pub internet: bool,
    pub peer_to_peer: bool,
    pub services: Vec<At>,
    pub families: Families,
    pub endpoint: Option<&'static str>,
    pub keepalive: u32,
    pub exit: Option<u8>,
}

/// What one exit is like, whatever carries it.
#[derive(Debug, Clone)]
pub struct DrawnExit {
    pub families: Families,
    /// Of a tunnel that OpenVPN carries: its far end gave no address yet.
    pub addressless: bool,
    pub mtu: u32,
    pub far_ends: Vec<DrawnFarEnd>,
    pub revision: u64,
    /// How many of those that exits of its kind may have.
    pub servers: usize,
}

#[derive(Debug, Clone)]
pub struct DrawnFarEnd {
    pub endpoint: Option<u16>,
    pub keepalive: u32,
    pub preshared: bool,
}

/// The network of one service.
#[derive(Debug, Clone)]
pub struct DrawnNetwork {
    pub internet: bool,
    pub exit: Option<u8>,
    pub reach: Vec<At>,
    pub called: Vec<u16>,
}

/// Where a service is found: the last number of its address and its port, and to which container it leads.
#[derive(Debug, Clone)]
pub struct DrawnEntry {
    pub at: (u8, u32),
    pub protocol: Protocol,
    pub network: usize,
    pub to: (u8, u32),
    pub everyone: bool,
}

/// The cell's own interface and ports.
#[derive(Debug, Clone)]
pub struct DrawnCell {
    pub v6: bool,
    pub port: u32,
    pub mtu: u32,
    pub ports: Vec<(Protocol, u32, u32)>,
    pub resolvers: Vec<&'static str>,
    pub relay_servers: Vec<&'static str>,
}

/// A whole spec; what goes by number is that of the exit, the peer or the network.
#[derive(Debug, Clone)]
pub struct Whole {
    /// None: no WireGuard interface, and nothing of what needs one.
    pub interface: bool,
    pub cell: DrawnCell,
    pub exits: Vec<(u8, DrawnExit)>,
    /// Exits exchange their marks and tables.
    pub rotated: bool,
    pub peers: Vec<(u8, Drawn)>,
    pub networks: Vec<(u8, DrawnNetwork)>,
    pub entries: Vec<DrawnEntry>,
    /// The network whose container the internet reaches.
    pub public_http: Option<usize>,
}

/// What is sent.
#[derive(Debug, Clone)]
pub enum Sent {
    Whole(Box<Whole>),
    /// Some peers anew; those of these numbers go.
    Change(Vec<(u8, Drawn)>, Vec<u8>),
}

fn families() -> impl Strategy<Value = Families> {
    select(vec![Families::Both, Families::Both, Families::V4, Families::V6])
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let flags = (
        any::<[bool; 2]>(),
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.2),
    );
    let endpoint = weighted(
        0.4,
        select(vec!["192.0.2.77:4000", "192.0.2.78:4001", "[2001:db8::77]:4000"]),
    );
    let rest = (
        endpoint,
        select(vec![0, 0, 25, 65_535]),
        weighted(0.7, select(EXITS.to_vec())),
    );
    (flags, subsequence(SERVICES.to_vec(), 0..=4), families(), rest).prop_map(
        |(([internet, peer_to_peer], renamed, rekeyed), services, families, (endpoint, keepalive, exit))| {
            Drawn {
                renamed,
                rekeyed,
                internet,
                peer_to_peer,
                services,
                families,
                endpoint,
                keepalive,
                exit,
            }
        },
    )
}

fn far_end() -> impl Strategy<Value = DrawnFarEnd> {
    let endpoint = weighted(0.8, select(vec![51_820, 443]));
    (endpoint, select(vec![0, 25]), any::<bool>()).prop_map(|(endpoint, keepalive, preshared)| DrawnFarEnd {
        endpoint,
        keepalive,
        preshared,
    })
}

fn drawn_exit() -> impl Strategy<Value = DrawnExit> {
    let far_ends = proptest::collection::vec(far_end(), 1..=FAR_ENDS.into());
    let rest = (select(vec![0, 1280, 1500]), 0..REVISIONS, 0..=3usize);
    (families(), proptest::bool::weighted(0.3), far_ends, rest).prop_map(
        |(families, addressless, far_ends, (mtu, revision, servers))| DrawnExit {
            families,
            addressless,
            mtu,
            far_ends,
            revision,
            servers,
        },
    )
}

fn drawn_network() -> impl Strategy<Value = DrawnNetwork> {
    let v4 = SERVICES
        .into_iter()
        .filter(|(to, ..)| !to.contains(':') && !to.starts_with("10.86."));
    let reach = subsequence(v4.collect::<Vec<_>>(), 0..=3);
    let exit = weighted(0.5, select(EXITS.to_vec()));
    (
        any::<bool>(),
        exit,
        reach,
        subsequence(vec![80, 8480, 8443], 0..=3),
    )
        .prop_map(|(internet, exit, reach, called)| DrawnNetwork {
            internet,
            exit,
            reach,
            called,
        })
}

fn drawn_entry() -> impl Strategy<Value = DrawnEntry> {
    let at = select(vec![(200, 443), (200, 80), (201, 53), (202, 443), (1, 8080)]);
    let to = (2..=4u8, select(vec![443, 8443, 53]));
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp]);
    (at, protocol, 0..3usize, to, any::<bool>()).prop_map(|(at, protocol, network, to, everyone)| {
        DrawnEntry {
            at,
            protocol,
            network,
            to,
            everyone,
        }
    })
}

fn drawn_cell() -> impl Strategy<Value = DrawnCell> {
    let targets = vec![
        (Protocol::Tcp, 443, 3443),
        (Protocol::Udp, 53, 9053),
        (Protocol::Tcp, 53, 9053),
    ];
    let ports = (subsequence(targets, 0..=3), proptest::bool::weighted(0.8));
    let ports = ports.prop_map(|(ports, translated)| {
        let one = |(protocol, port, target)| (protocol, port, if translated { target } else { 0 });
        ports.into_iter().map(one).collect()
    });
    let resolvers = vec!["127.0.0.53:53", "192.0.2.53:53", "[2001:db8::53]:53"];
    let servers = vec!["127.0.0.1:9150", "192.0.2.44:443", "[2001:db8::44]:443"];
    let rest = (subsequence(resolvers, 0..=3), subsequence(servers, 0..=3));
    let port = prop_oneof![7 => Just(u32::from(PORT)), 1 => Just(51_821)];
    let interface = (proptest::bool::weighted(0.8), port, select(vec![0, 1280, 1420]));
    (interface, ports, rest).prop_map(|((v6, port, mtu), ports, (resolvers, relay_servers))| DrawnCell {
        v6,
        port,
        mtu,
        ports,
        resolvers,
        relay_servers,
    })
}

/// Some of those numbers, each with what is drawn for it.
fn some<T: Strategy>(
    all: Vec<u8>,
    most: usize,
    one: fn() -> T,
) -> impl Strategy<Value = Vec<(u8, T::Value)>> {
    let numbers = subsequence(all, 0..=most);
    numbers.prop_flat_map(move |numbers| {
        let each = numbers.into_iter().map(|number| (Just(number), one()));
        each.collect::<Vec<_>>()
    })
}

fn peers(most: usize) -> impl Strategy<Value = Vec<(u8, Drawn)>> {
    some((1..9).collect(), most, drawn)
}

fn whole() -> impl Strategy<Value = Whole> {
    let services = (
        some((1..9).collect(), 3, drawn_network),
        proptest::collection::vec(drawn_entry(), 0..=5),
        weighted(0.5, 0..3usize),
    );
    let exits = (some(EXITS.to_vec(), EXITS.len(), drawn_exit), any::<bool>());
    let interface = proptest::bool::weighted(0.9);
    (interface, drawn_cell(), exits, peers(8), services).prop_map(
        |(interface, cell, (exits, rotated), peers, (networks, entries, public_http))| Whole {
            interface,
            cell,
            exits,
            rotated,
            peers,
            networks,
            entries,
            public_http,
        },
    )
}

pub fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        whole().prop_map(|whole| Sent::Whole(Box::new(whole))),
        (peers(3), subsequence((1..9u8).collect::<Vec<_>>(), 0..=2))
            .prop_map(|(peers, removed)| Sent::Change(peers, removed)),
    ]
}

/// All exits, as they mostly are, and those peers.
pub fn plain(peers: Vec<(u8, Drawn)>) -> Whole {
    let far = DrawnFarEnd {
        endpoint: Some(51_820),
        keepalive: 0,
        preshared: false,
    };
    let exit = DrawnExit {
        families: Families::Both,
        addressless: false,
        mtu: 0,
        far_ends: vec![far],
        revision: 0,
        servers: 1,
    };
    Whole {
        interface: true,
        cell: DrawnCell {
            v6: true,
            port: PORT.into(),
            mtu: 0,
            ports: Vec::new(),
            resolvers: Vec::new(),
            relay_servers: Vec::new(),
        },
        exits: EXITS.map(|number| (number, exit.clone())).into(),
        rotated: false,
        peers,
        networks: Vec::new(),
        entries: Vec::new(),
        public_http: None,
    }
}
