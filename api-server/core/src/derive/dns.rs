//! From the cell's state to what the DNS relay of `cell-egress` goes by. The same state always gives the same specification.

mod upstreams;

pub use upstreams::{InvalidUpstream, MAX_UPSTREAMS, Upstreams};

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::CellPort;
use super::exits::{ExitSpec, ExitWay, Tunnel};
use super::openvpn::UserTunnel;
use crate::access::Protocol;
use crate::connection::id::ConnectionId;
use crate::name::CellName;
use crate::published::HostName;
use crate::range::{HostIndex, VpnRange};

/// The port of DNS.
pub const PORT: u16 = 53;
/// Where the relay listens on the hidden service addresses (`docs/runtime.md`).
pub const RELAY_PORT: u16 = 9053;
/// Where it asks for nobody by the machine's own way: netd turns to it what comes from whoever is bound to an exit (ADR 0048).
pub const RELAY_BOUND_PORT: u16 = 9054;
/// The ports that peers ask the cell's names at.
pub const PORTS: [CellPort; 2] = [asked_by(Protocol::Udp), asked_by(Protocol::Tcp)];

const fn asked_by(protocol: Protocol) -> CellPort {
    CellPort {
        protocol,
        port: PORT,
        target_port: RELAY_PORT,
        bound_target_port: Some(RELAY_BOUND_PORT),
    }
}

/// How long an answer of the cell's own may be kept, seconds: a device that is removed is soon forgotten.
pub const TTL_SECONDS: u32 = 60;
/// Names in the cell's domain that no device may have; manifests of services have them neither.
const RESERVED: [&str; 1] = ["api"];

/// Everything that the relay goes by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsSpec {
    /// The cell's domains.
    pub zones: Vec<String>,
    /// Names in them.
    pub records: Vec<Record>,
    /// Resolvers for who has no exit; none: their questions are not answered.
    pub upstreams: Vec<SocketAddr>,
    /// Resolvers of exits.
    pub exits: Vec<ExitDns>,
    /// By name.
    pub peers: Ways,
    /// Who has the names of services; `None`: there are none.
    pub authority: Option<Authority>,
}

/// Who has the names of services, and of linked cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Where it listens.
    pub at: SocketAddr,
    /// Domains of linked cells.
    pub zones: Vec<String>,
}

/// A name of the cell and an address that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The whole name, in lower case.
    pub name: String,
    /// One of its addresses.
    pub address: IpAddr,
}

/// Resolvers of one exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitDns {
    /// The connection.
    pub id: ConnectionId,
    /// Resolvers, the first first; at least one.
    pub upstreams: Vec<SocketAddr>,
    /// How they are reached.
    pub reached: Reached,
}

/// See [`ExitDns`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// Out of this interface.
    Interface(String),
    /// By the exit's own relay.
    Redirect,
}

/// A peer and the way of its questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The exit that carries it; `None`: the machine's own way.
    pub exit: Option<ConnectionId>,
}

/// Stands for an exit that DNS does not know: whoever has it resolves the cell's own names, and nothing else by any way.
pub(super) fn no_exit() -> ConnectionId {
    ConnectionId::from_random([0; 16])
}

/// The ways of all peers, by name.
pub type Ways = BTreeMap<String, Way>;

/// The specification of a cell.
pub fn spec(
    name: &CellName,
    public: Option<&HostName>,
    range: &VpnRange,
    upstreams: &Upstreams,
    exits: Vec<ExitDns>,
    peers: Ways,
) -> DnsSpec {
    DnsSpec {
        // Of the public one the cell has no records: what there is has CoreDNS, and the rest is not there.
        zones: [name.domain()]
            .into_iter()
            .chain(public.map(ToString::to_string))
            .collect(),
        records: records(name, range, &peers),
        upstreams: upstreams.as_slice().to_vec(),
        exits,
        peers,
        authority: None,
    }
}

/// The cell is known by its domain and by `api.` before it, as its certificate says; each device by its name before it.
/// A device whose name is no DNS name, is the cell's own, or is another's but for case, has none.
fn records(name: &CellName, range: &VpnRange, peers: &Ways) -> Vec<Record> {
    let domain = name.domain();
    let record = |name: String| {
        move |address| Record {
            name: name.clone(),
            address,
        }
    };
    let own = [domain.clone(), format!("api.{domain}")];
    let mut all: Vec<Record> = own
        .into_iter()
        .flat_map(|name| range.addresses_of(HostIndex::CELL).map(record(name)))
        .collect();
    let mut taken: BTreeSet<String> = RESERVED.map(str::to_owned).into();
    for (peer, way) in peers {
        let label = peer.to_ascii_lowercase();
        if is_name(&label) && taken.insert(label.clone()) {
            let whole = format!("{label}.{domain}");
            all.extend(way.addresses.iter().copied().map(record(whole)));
        }
    }
    all
}

/// Labels that a host's name may have (RFC 1123), and the underscore that peers' names may have.
fn is_name(text: &str) -> bool {
    text.split('.').all(|label| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        (1..=63).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

/// Whom to ask through each exit: the resolvers that it came with, else the cell's. Of a tunnel's only those count that
/// it carries; one that carries none has no DNS, and its peers resolve the cell's own names alone.
pub fn exits(specs: &[ExitSpec], upstreams: &Upstreams) -> Vec<ExitDns> {
    let one = |spec: &ExitSpec| {
        let (upstreams, reached) = match &spec.way {
            ExitWay::Redirect { .. } => (upstreams.as_slice().to_vec(), Reached::Redirect),
            ExitWay::Tunnel(tunnel) => (
                given_by(tunnel, upstreams),
                Reached::Interface(tunnel.interface.clone()),
            ),
            ExitWay::Wireguard(tunnel) => (
                carried_by(tunnel, upstreams),
                Reached::Interface(tunnel.interface.clone()),
            ),
        };
        let id = spec.id;
        (!upstreams.is_empty()).then_some(ExitDns {
            id,
            upstreams,
            reached,
        })
    };
    specs.iter().filter_map(one).collect()
}

/// Of the families that the tunnel has an address of. Its server carries all of a family, or nothing can be told of it.
fn given_by(tunnel: &UserTunnel, upstreams: &Upstreams) -> Vec<SocketAddr> {
    let carries = |address: &SocketAddr| {
        tunnel
            .addresses
            .iter()
            .any(|own| own.is_ipv4() == address.is_ipv4())
    };
    let own = tunnel.resolvers.iter().map(|ip| SocketAddr::new(*ip, PORT));
    let own: Vec<SocketAddr> = own.filter(carries).take(MAX_UPSTREAMS).collect();
    if own.is_empty() {
        return upstreams.as_slice().iter().copied().filter(carries).collect();
    }
    own
}

fn carried_by(tunnel: &Tunnel, upstreams: &Upstreams) -> Vec<SocketAddr> {
    let carries = |address: &SocketAddr| {
        let ip = address.ip();
        let has_family = tunnel.addresses.iter().any(|own| own.is_ipv4() == ip.is_ipv4());
        let mut nets = tunnel.far_ends.iter().flat_map(|far_end| &far_end.allowed_ips);
        has_family && nets.any(|net| net.contains(&ip))
    };
    let own: Vec<SocketAddr> = tunnel
        .resolvers
        .iter()
        .map(|ip| SocketAddr::new(*ip, PORT))
        .filter(carries)
        .take(MAX_UPSTREAMS)
        .collect();
    if own.is_empty() {
        return upstreams.as_slice().iter().copied().filter(carries).collect();
    }
    own
}

/// The ways to tell the relay before netd is told: who is bound to another exit has that already, and who goes back to the
/// machine's own way, or goes away, has what it had. So no question goes by the machine's own way while netd's word is
/// another.
pub fn before(had: &Ways, will: &Ways) -> Ways {
    let mut ways = had.clone();
    for (name, way) in will {
        let bound = had.get(name).and_then(|had| had.exit);
        let exit = way.exit.or(bound);
        let addresses = way.addresses.clone();
        ways.insert(name.clone(), Way { addresses, exit });
    }
    // An address belongs to who will have it.
    let given: BTreeSet<IpAddr> = will.values().flat_map(|way| way.addresses.clone()).collect();
    ways.retain(|name, way| will.contains_key(name) || way.addresses.iter().all(|ip| !given.contains(ip)));
    ways
}

/// Those of `ways` that `told` has otherwise, where the relay can be told of these alone: it knows the peers by the same addresses, and
/// the exits. None: it has to be told everything.
pub fn led(told: &DnsSpec, ways: &Ways) -> Option<Ways> {
    let mut led = Ways::new();
    for (name, way) in ways {
        let had = told
            .peers
            .get(name)
            .filter(|had| had.addresses == way.addresses)?;
        if had.exit != way.exit {
            let is_known = |exit| told.exits.iter().any(|known| known.id == exit);
            if !way.exit.is_none_or(is_known) {
                return None;
            }
            led.insert(name.clone(), way.clone());
        }
    }
    Some(led)
}

/// The same of everything: what leads from `told` to `wanted`, where that is nothing but ways of peers that it knows.
pub fn led_alone(told: &DnsSpec, wanted: &DnsSpec) -> Option<Ways> {
    // All of its parts: a new one has to be compared here.
    let DnsSpec {
        zones,
        records,
        upstreams,
        exits,
        peers,
        authority,
    } = told;
    let rest = zones == &wanted.zones
        && records == &wanted.records
        && upstreams == &wanted.upstreams
        && exits == &wanted.exits
        && authority == &wanted.authority
        && peers.len() == wanted.peers.len();
    if rest { led(told, &wanted.peers) } else { None }
}

#[cfg(test)]
mod tests;
