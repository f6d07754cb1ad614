//! The wanted state, checked: a value of these types can be put in force.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::entry::{Entry, EntryAt};
use crate::model::{
    ExitId, ExitInterface, ExitMark, Family, InterfaceName, Mtu, PeerName, Port, Protocol, PublicKey,
    ServiceName, TableId,
};
use crate::policy::DNS;
use crate::redirect::{Carrier, Redirect};
use crate::service::ServiceNetwork;

/// The WireGuard interface of the cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wireguard {
    /// Its name.
    pub interface: InterfaceName,
    /// UDP port.
    pub listen_port: u16,
    /// The cell's IPv4 address with the VPN's prefix length.
    pub v4: Option<Ipv4Net>,
    /// The cell's IPv6 address with the VPN's prefix length.
    pub v6: Option<Ipv6Net>,
    /// Largest packet.
    pub mtu: Mtu,
}

impl Wireguard {
    /// The VPN prefix that holds `address`, if one does.
    pub fn prefix_of(&self, address: IpAddr) -> Option<IpNet> {
        let v4 = self.v4.map(IpNet::V4);
        v4.into_iter()
            .chain(self.v6.map(IpNet::V6))
            .find(|prefix| prefix.contains(&address))
    }
}

/// A service that a peer may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// Where it listens, as the forward hook sees it (after a DNAT by others).
    pub address: IpAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}",
            self.protocol,
            SocketAddr::new(self.address, self.port)
        )
    }
}

/// What a peer may reach beyond the cell's ports. The default is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    /// Public addresses through the cell.
    pub internet: bool,
    /// Other peers that have it too.
    pub peer_to_peer: bool,
    /// Single services.
    pub services: BTreeSet<Service>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its public key.
    pub key: PublicKey,
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Where to send the first handshake.
    pub endpoint: Option<SocketAddr>,
    /// Seconds; 0 is off.
    pub keepalive: u16,
    /// What it may reach.
    pub access: Access,
    /// What carries it to the internet; none: the machine's own way.
    pub exit: Option<Carrier>,
}

/// What packets of an exit are known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitWay {
    /// Whose they are.
    pub id: ExitId,
    /// Leads them to the exit's table.
    pub mark: ExitMark,
    /// The only interface by which they may leave.
    pub interface: ExitInterface,
}

/// A way to the internet that is not the machine's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// What its packets are known by; shared with the peers that are bound to it.
    pub way: Arc<ExitWay>,
    /// Where its routes are.
    pub table: TableId,
    /// What it is.
    pub tunnel: Tunnel,
}

/// Kinds of tunnels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tunnel {
    /// A WireGuard device of the cell's.
    Wireguard(WireguardExit),
    /// A TUN that another program reads and writes.
    User(UserTunnel),
}

impl Exit {
    /// Whether the exit carries the family; what it does not carry is refused.
    pub fn carries(&self, family: Family) -> bool {
        let mut addresses = self.tunnel.addresses().into_iter();
        if !addresses.any(|net| Family::of(net.addr()) == family) {
            return false;
        }
        match &self.tunnel {
            Tunnel::Wireguard(exit) => {
                let mut prefixes = exit.far_ends.iter().flat_map(|far| &far.allowed_ips);
                prefixes.any(|net| Family::of(net.addr()) == family)
            }
            // Its far end gave the address, and gives one of each family that it carries.
            Tunnel::User(_) => true,
        }
    }
}

impl Tunnel {
    /// The near end's addresses, each alone: it has no neighbours.
    pub fn addresses(&self) -> BTreeSet<IpNet> {
        let (v4, v6) = match self {
            Tunnel::Wireguard(WireguardExit { v4, v6, .. }) | Tunnel::User(UserTunnel { v4, v6, .. }) => {
                (v4, v6)
            }
        };
        let v4 = v4.map(|address| IpNet::from(IpAddr::V4(address)));
        let v6 = v6.map(|address| IpNet::from(IpAddr::V6(address)));
        v4.into_iter().chain(v6).collect()
    }

    /// Largest packet.
    pub fn mtu(&self) -> Mtu {
        match self {
            Tunnel::Wireguard(WireguardExit { mtu, .. }) | Tunnel::User(UserTunnel { mtu, .. }) => *mtu,
        }
    }
}

/// A persistent TUN that netd makes for one user of the machine, as the ceiling names it. Without addresses it carries nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserTunnel {
    /// The near end's IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The near end's IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Largest packet.
    pub mtu: Mtu,
    /// Where its user may send, and by which protocol.
    pub servers: BTreeSet<(Protocol, SocketAddr)>,
}

/// A WireGuard tunnel that the cell is the client of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireguardExit {
    /// The near end's IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The near end's IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Largest packet.
    pub mtu: Mtu,
    /// Its servers, in the order that their preshared keys are numbered in; no two have one key or one prefix.
    pub far_ends: Vec<FarEnd>,
    /// With another one than before, vaultd has other keys.
    pub secret_revision: u64,
}

/// A server at the other end of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarEnd {
    /// Its key.
    pub key: PublicKey,
    /// Where it is; none: not known, and it is unreachable.
    pub endpoint: Option<SocketAddr>,
    /// Seconds; 0 is off.
    pub keepalive: u16,
    /// What it carries.
    pub allowed_ips: BTreeSet<IpNet>,
    /// Whether vaultd has a preshared key for it.
    pub preshared: bool,
}

impl Peer {
    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }

    /// The addresses as WireGuard's allowed IPs.
    pub fn allowed_ips(&self) -> BTreeSet<IpNet> {
        self.addresses().map(IpNet::from).collect()
    }
}

/// Ports on the hidden service addresses that a port of the cell is translated to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellTarget {
    /// Of everybody's.
    pub port: u16,
    /// Of what comes from whoever is bound to an exit, in its stead; of questions of DNS alone.
    pub of_bound: Option<u16>,
}

impl CellTarget {
    /// Both.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        iter::once(self.port).chain(self.of_bound)
    }
}

/// Everything that netd should own. The default is nothing at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    wireguard: Option<Wireguard>,
    own_key: Option<PublicKey>,
    cell_ports: BTreeMap<Port, Option<CellTarget>>,
    exits: BTreeMap<ExitId, Exit>,
    redirects: BTreeMap<ExitId, Redirect>,
    resolvers: BTreeSet<SocketAddr>,
    relay_servers: BTreeSet<SocketAddr>,
    services: BTreeMap<ServiceName, ServiceNetwork>,
    entries: BTreeMap<EntryAt, Entry>,
    public_http: Option<SocketAddrV4>,
    peers: BTreeMap<PeerName, Arc<Peer>>,
    by_key: BTreeMap<PublicKey, PeerName>,
    by_address: BTreeMap<IpAddr, PeerName>,
    grants: usize,
}

impl Desired {
    /// Without peers; [`Desired::fill`] and [`Desired::apply`] add them.
    pub(crate) fn new(
        wireguard: Option<Wireguard>,
        own_key: Option<PublicKey>,
        cell_ports: BTreeMap<Port, Option<CellTarget>>,
        exits: BTreeMap<ExitId, Exit>,
        redirects: BTreeMap<ExitId, Redirect>,
        resolvers: BTreeSet<SocketAddr>,
    ) -> Self {
        Desired {
            wireguard,
            own_key,
            cell_ports,
            exits,
            redirects,
            resolvers,
            ..Desired::default()
        }
    }

    /// Takes all peers at once, in place of those that there are. Names, keys and addresses are of one peer each.
    pub(crate) fn fill(&mut self, peers: Vec<(PeerName, Arc<Peer>)>) {
        // Collected, not inserted one by one: a map is built at one go from what was sorted.
        self.by_key = peers
            .iter()
            .map(|(name, peer)| (peer.key, name.clone()))
            .collect();
        self.by_address = peers
            .iter()
            .flat_map(|(name, peer)| peer.addresses().map(|address| (address, name.clone())))
            .collect();
        self.grants = peers.iter().map(|(_, peer)| peer.access.services.len()).sum();
        self.peers = peers.into_iter().collect();
    }

    /// The interface, if there is to be one.
    pub fn wireguard(&self) -> Option<&Wireguard> {
        self.wireguard.as_ref()
    }

    /// The cell's public key, which the device must have; none: it is not known yet, and any will do.
    pub fn own_key(&self) -> Option<PublicKey> {
        self.own_key
    }

    /// Says what the cell's public key is, as soon as that is known.
    pub fn set_own_key(&mut self, key: PublicKey) {
        self.own_key = Some(key);
    }

    /// Ports of the cell and what on the hidden service addresses each is translated to, if it is.
    pub fn cell_ports(&self) -> &BTreeMap<Port, Option<CellTarget>> {
        &self.cell_ports
    }

    /// By which protocols the cell answers DNS, and at which ports of the hidden service addresses.
    pub fn resolver(&self) -> impl Iterator<Item = (Protocol, CellTarget)> {
        self.cell_ports
            .iter()
            .filter_map(|(port, target)| match (port.number, target) {
                (DNS, Some(target)) => Some((port.protocol, *target)),
                (_, _) => None,
            })
    }

    /// Ways out by interfaces that peers may be bound to, by id. Marks, tables and interfaces are of one exit each.
    pub fn exits(&self) -> &BTreeMap<ExitId, Exit> {
        &self.exits
    }

    /// Exits that the relay carries, by id. No id or mark is that of one of [`Desired::exits`].
    pub fn redirects(&self) -> &BTreeMap<ExitId, Redirect> {
        &self.redirects
    }

    /// Resolvers that the relay may ask for peers without an exit.
    pub fn resolvers(&self) -> &BTreeSet<SocketAddr> {
        &self.resolvers
    }

    /// Takes all servers at once that the relay connects to for the cell itself, in place of those that there are.
    pub(crate) fn set_relay_servers(&mut self, servers: BTreeSet<SocketAddr>) {
        self.relay_servers = servers;
    }

    /// Servers that the relay connects to for the cell itself.
    pub fn relay_servers(&self) -> &BTreeSet<SocketAddr> {
        &self.relay_servers
    }

    /// Takes all networks of services at once, in place of those that there are.
    pub(crate) fn set_services(&mut self, services: BTreeMap<ServiceName, ServiceNetwork>) {
        self.services = services;
    }

    /// Networks of services, by name. Bridges and subnets are of one each, and none lies in the VPN.
    pub fn services(&self) -> &BTreeMap<ServiceName, ServiceNetwork> {
        &self.services
    }

    /// Takes all entries at once, in place of those that there are.
    pub(crate) fn set_entries(&mut self, entries: BTreeMap<EntryAt, Entry>) {
        self.entries = entries;
    }

    /// Services at addresses in the VPN. None is at a peer's address, or at a port of the cell; each leads to a container's address
    /// in one of [`Desired::services`].
    pub fn entries(&self) -> &BTreeMap<EntryAt, Entry> {
        &self.entries
    }

    /// Says which container the internet reaches by TCP 80 of the machine.
    pub(crate) fn set_public_http(&mut self, to: Option<SocketAddrV4>) {
        self.public_http = to;
    }

    /// The container, in one of [`Desired::services`], that the internet reaches by TCP 80 of the machine; none: nothing of it.
    pub fn public_http(&self) -> Option<SocketAddrV4> {
        self.public_http
    }

    /// Whether a service is found at this address.
    pub fn has_entry_at(&self, address: Ipv4Addr) -> bool {
        let mut from = self.entries.range(EntryAt::first(address)..);
        from.next().is_some_and(|(entry, _)| *entry.at.ip() == address)
    }

    /// What carries the peers that are bound to the exit of this id.
    pub fn carrier(&self, id: &ExitId) -> Option<Carrier> {
        let relay = || {
            self.redirects
                .get(id)
                .map(|exit| Carrier::Relay(Arc::clone(&exit.way)))
        };
        let interface = self
            .exits
            .get(id)
            .map(|exit| Carrier::Interface(Arc::clone(&exit.way)));
        interface.or_else(relay)
    }

    /// All peers, by name.
    pub fn peers(&self) -> &BTreeMap<PeerName, Arc<Peer>> {
        &self.peers
    }

    /// How many services all peers are granted together.
    pub fn grants(&self) -> usize {
        self.grants
    }

    /// Whose key this is.
    pub fn name_of_key(&self, key: &PublicKey) -> Option<&PeerName> {
        self.by_key.get(key)
    }

    /// Whose address this is.
    pub fn name_of_address(&self, address: IpAddr) -> Option<&PeerName> {
        self.by_address.get(&address)
    }

    /// Applies a change and returns the one that undoes it. Costs what the change has, not what there is.
    #[must_use = "the inverse is what takes the change back if the kernel refuses it"]
    pub fn apply(&mut self, delta: Delta) -> Delta {
        // Everything old goes before anything new comes: peers may swap keys or addresses.
        for (name, change) in &delta.0 {
            if let Some(before) = &change.before {
                self.grants = self.grants.saturating_sub(before.access.services.len());
                self.peers.remove(name);
                self.by_key.remove(&before.key);
                for address in before.addresses() {
                    self.by_address.remove(&address);
                }
            }
        }
        for (name, change) in &delta.0 {
            if let Some(after) = &change.after {
                self.grants += after.access.services.len();
                self.peers.insert(name.clone(), Arc::clone(after));
                self.by_key.insert(after.key, name.clone());
                self.by_address
                    .extend(after.addresses().map(|address| (address, name.clone())));
            }
        }
        delta.inverse()
    }
}

/// A checked change of some peers of one [`Desired`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delta(pub(crate) BTreeMap<PeerName, PeerChange>);

/// What becomes of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerChange {
    /// As it is; none: it is new.
    pub before: Option<Arc<Peer>>,
    /// As it is to be; none: it goes.
    pub after: Option<Arc<Peer>>,
}

impl Delta {
    /// The changes, by name. None is without effect.
    pub fn changes(&self) -> &BTreeMap<PeerName, PeerChange> {
        &self.0
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn inverse(self) -> Delta {
        let swap = |change: PeerChange| PeerChange {
            before: change.after,
            after: change.before,
        };
        Delta(
            self.0
                .into_iter()
                .map(|(name, change)| (name, swap(change)))
                .collect(),
        )
    }
}
