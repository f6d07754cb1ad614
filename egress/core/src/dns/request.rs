//! What DNS is to go by, from the wire, checked: every fault named at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::address::Resolver;
use super::name::Name;
use super::table::{Authority, ExitDns, Interface, Reached, Table};
use super::zone::{Data, Line, Zones};
use crate::exit::ExitId;
use crate::request::Violation;

/// Most zones.
pub const ZONES_MAX: usize = 16;
/// Most zones of others.
pub const FOREIGN_ZONES_MAX: usize = 64;
/// Most records.
pub const RECORDS_MAX: usize = 50_000;
/// Most resolvers of one way.
pub const RESOLVERS_MAX: usize = 8;
/// Most exits with DNS.
pub const EXITS_MAX: usize = 256;
/// Most addresses of peers.
pub const PEERS_MAX: usize = 50_000;
/// Most addresses of peers that are led another way by one request.
pub const LED_MAX: usize = 1_000;
/// Longest lifetime of a record, seconds: a day.
pub const TTL_MAX: u32 = 86_400;
/// Most faults that are named.
const FAULTS_MAX: usize = 100;

/// The ceiling: what DNS may be told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsCeiling {
    /// Where default resolvers may be; loopback never belongs to these.
    pub upstreams: Vec<IpNet>,
    /// Default resolvers on this machine's loopback, each by address and port.
    pub local_upstreams: Vec<SocketAddr>,
    /// How names of the interfaces of exits begin.
    pub interface_prefixes: Vec<String>,
    /// Who may be the authority, by address and port. It is told which peer asks.
    pub authorities: Vec<SocketAddr>,
}

/// All of it as it was asked for.
#[derive(Debug, Clone, Default)]
pub struct AskedDns<'a> {
    /// Names of zones.
    pub zones: Vec<&'a str>,
    /// Their records.
    pub records: Vec<AskedRecord<'a>>,
    /// Default resolvers; an address is what the wire held, or why it is none.
    pub upstreams: Vec<Result<SocketAddr, String>>,
    /// DNS of exits.
    pub exits: Vec<AskedExitDns<'a>>,
    /// All peers.
    pub peers: Vec<AskedPeer<'a>>,
    /// Who has the names that the cell itself does not have.
    pub authority: Option<Result<SocketAddr, String>>,
    /// Zones of others that the authority is asked of.
    pub authority_zones: Vec<&'a str>,
}

/// One record.
#[derive(Debug, Clone)]
pub struct AskedRecord<'a> {
    /// Whose.
    pub name: &'a str,
    /// Seconds.
    pub ttl: u32,
    /// What it says; none where the wire had none.
    pub data: Option<AskedData<'a>>,
}

/// See [`AskedRecord`].
#[derive(Debug, Clone)]
pub enum AskedData<'a> {
    /// An address.
    Address(Result<IpAddr, String>),
    /// An alias of this name.
    Alias(&'a str),
}

/// DNS of one exit.
#[derive(Debug, Clone)]
pub struct AskedExitDns<'a> {
    /// Its connection's id.
    pub id: &'a str,
    /// Its resolvers.
    pub upstreams: Vec<Result<SocketAddr, String>>,
    /// By which way; none where the wire had none.
    pub reached: Option<AskedReached<'a>>,
}

/// See [`AskedExitDns`].
#[derive(Debug, Clone)]
pub enum AskedReached<'a> {
    /// By its interface.
    Interface(&'a str),
    /// By the redirect exit of this id.
    Redirect,
}

/// One peer.
#[derive(Debug, Clone)]
pub struct AskedPeer<'a> {
    /// Its tunnel addresses.
    pub addresses: Vec<Result<IpAddr, String>>,
    /// Its exit; empty: none.
    pub exit: &'a str,
}

/// The table that was asked for.
///
/// # Errors
/// The faults of the request, at most a hundred.
pub fn table(asked: &AskedDns<'_>, ceiling: &DnsCeiling) -> Result<Table, Vec<Violation>> {
    let mut faults = Faults(Vec::new());
    faults.count("zones", asked.zones.len(), ZONES_MAX);
    faults.count("records", asked.records.len(), RECORDS_MAX);
    faults.count("exits", asked.exits.len(), EXITS_MAX);
    faults.count("authority_zones", asked.authority_zones.len(), FOREIGN_ZONES_MAX);
    let addresses = asked.peers.iter().map(|peer| peer.addresses.len()).sum();
    faults.count("peers", addresses, PEERS_MAX);
    faults.ended()?;
    let zones = faults.zones(asked);
    let defaults = faults.resolvers("upstreams", &asked.upstreams, |address| default(address, ceiling));
    let exits = faults.exits(&asked.exits, ceiling);
    let peers = faults.peers(&asked.peers);
    let authority = faults.authority(asked, ceiling);
    faults.ended()?;
    Ok(Table::new(zones, defaults, exits, peers, authority))
}

/// `table`, where some of its peers go by other exits.
///
/// # Errors
/// The faults of the request, at most a hundred: also that an address is no peer's in `table`.
pub fn led(table: &Table, asked: &[AskedPeer<'_>]) -> Result<Table, Vec<Violation>> {
    let mut faults = Faults(Vec::new());
    let addresses = asked.iter().map(|peer| peer.addresses.len()).sum();
    faults.count("peers", addresses, LED_MAX);
    faults.ended()?;
    let ways = faults.peers(asked);
    for (index, peer) in asked.iter().enumerate() {
        for (number, address) in peer.addresses.iter().enumerate() {
            if let Ok(address) = address
                && table.peer(*address).is_none()
            {
                let field = format!("peers[{index}].addresses[{number}]");
                faults.add(field, "is no peer's: ApplyDns tells of new ones");
            }
        }
    }
    faults.ended()?;
    Ok(table.led(ways))
}

/// An authority that the ceiling lists: it is told who asks, so it is nobody that could be anywhere.
fn listed(address: SocketAddr, ceiling: &DnsCeiling) -> Result<Resolver, &'static str> {
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let listed = ceiling.authorities.contains(&address);
    let resolver = Resolver::beyond(address).ok_or("is the address of one host, and a port")?;
    listed
        .then_some(resolver)
        .ok_or("is none of `dns.authorities` in egress.toml")
}

/// A default resolver within the ceiling.
fn default(address: SocketAddr, ceiling: &DnsCeiling) -> Result<Resolver, &'static str> {
    let ip = address.ip().to_canonical();
    if ip.is_loopback() {
        let canonical = SocketAddr::new(ip, address.port());
        let listed = ceiling.local_upstreams.contains(&canonical);
        let local = Resolver::local(address).filter(|_| listed);
        return local.ok_or("is on this machine and not among `dns.local_upstreams` in egress.toml");
    }
    let resolver = Resolver::beyond(address).ok_or("is the address of one host")?;
    let listed = ceiling.upstreams.iter().any(|net| net.contains(&ip));
    listed
        .then_some(resolver)
        .ok_or("lies outside of `dns.upstreams` in egress.toml")
}

struct Faults(Vec<Violation>);

impl Faults {
    fn add(&mut self, field: String, description: impl ToString) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(Violation {
                field,
                description: description.to_string(),
            });
        }
    }

    fn ended(&mut self) -> Result<(), Vec<Violation>> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(std::mem::take(&mut self.0))
        }
    }

    fn count(&mut self, field: &str, there: usize, most: usize) {
        if there > most {
            self.add(field.to_owned(), format!("are at most {most}, not {there}"));
        }
    }

    fn zones(&mut self, asked: &AskedDns<'_>) -> Zones {
        let mut apexes = BTreeSet::new();
        for (index, text) in asked.zones.iter().enumerate() {
            match Name::of_host(text) {
                Ok(apex) => {
                    if !apexes.insert(apex) {
                        self.add(format!("zones[{index}]"), "is there twice");
                    }
                }
                Err(why) => self.add(format!("zones[{index}]"), why),
            }
        }
        let mut zones = Zones::new(apexes);
        for (index, record) in asked.records.iter().enumerate() {
            let at = format!("records[{index}]");
            if let Some(line) = self.record(&at, record)
                && let Err(why) = zones.add(line)
            {
                self.add(format!("{at}.name"), why);
            }
        }
        for name in zones.endless() {
            self.add(
                "records".to_owned(),
                format!("{name} {}", super::zone::Misfit::AliasChain),
            );
        }
        zones
    }

    fn record(&mut self, at: &str, asked: &AskedRecord<'_>) -> Option<Line> {
        let owner = Name::of_record(asked.name)
            .map_err(|why| self.add(format!("{at}.name"), why))
            .ok();
        if asked.ttl > TTL_MAX {
            self.add(format!("{at}.ttl_seconds"), format!("is at most {TTL_MAX}"));
        }
        let data = match &asked.data {
            Some(AskedData::Address(Ok(IpAddr::V4(ip)))) => Some(Data::V4(*ip)),
            Some(AskedData::Address(Ok(IpAddr::V6(ip)))) => Some(Data::V6(*ip)),
            Some(AskedData::Address(Err(why))) => {
                self.add(format!("{at}.address"), why);
                None
            }
            Some(AskedData::Alias(target)) => Name::of_host(target)
                .map_err(|why| self.add(format!("{at}.alias"), why))
                .ok()
                .map(Data::Alias),
            None => {
                self.add(format!("{at}.data"), "is required");
                None
            }
        };
        Some(Line {
            owner: owner?,
            ttl: asked.ttl,
            data: data?,
        })
    }

    fn resolvers(
        &mut self,
        field: &str,
        asked: &[Result<SocketAddr, String>],
        judge: impl Fn(SocketAddr) -> Result<Resolver, &'static str>,
    ) -> Vec<Resolver> {
        self.count(field, asked.len(), RESOLVERS_MAX);
        let mut resolvers = Vec::new();
        for (index, address) in asked.iter().enumerate().take(RESOLVERS_MAX) {
            let at = format!("{field}[{index}]");
            match address {
                Err(why) => self.add(at, why),
                Ok(address) => match judge(*address) {
                    Ok(resolver) => resolvers.push(resolver),
                    Err(why) => self.add(at, format!("{address} {why}")),
                },
            }
        }
        resolvers
    }

    fn authority(&mut self, asked: &AskedDns<'_>, ceiling: &DnsCeiling) -> Option<Authority> {
        let mut zones = BTreeSet::new();
        for (index, text) in asked.authority_zones.iter().enumerate() {
            match Name::of_host(text) {
                Ok(zone) => drop(zones.insert(zone)),
                Err(why) => self.add(format!("authority_zones[{index}]"), why),
            }
        }
        let Some(at) = &asked.authority else {
            if !asked.authority_zones.is_empty() {
                self.add("authority".to_owned(), "is required with `authority_zones`");
            }
            return None;
        };
        let at = match at {
            Ok(address) => listed(*address, ceiling).map_err(|why| format!("{address} {why}")),
            Err(why) => Err(why.clone()),
        };
        let at = at.map_err(|why| self.add("authority".to_owned(), why)).ok()?;
        Some(Authority { at, zones })
    }

    fn exits(&mut self, asked: &[AskedExitDns<'_>], ceiling: &DnsCeiling) -> BTreeMap<ExitId, ExitDns> {
        let mut exits = BTreeMap::new();
        for (index, exit) in asked.iter().enumerate() {
            let at = format!("exits[{index}]");
            let Some((id, dns)) = self.exit(&at, exit, ceiling) else {
                continue;
            };
            if exits.insert(id, dns).is_some() {
                self.add(format!("{at}.id"), "is another exit's too");
            }
        }
        exits
    }

    fn exit(
        &mut self,
        at: &str,
        asked: &AskedExitDns<'_>,
        ceiling: &DnsCeiling,
    ) -> Option<(ExitId, ExitDns)> {
        let id = ExitId::parse(asked.id)
            .map_err(|why| self.add(format!("{at}.id"), why))
            .ok();
        let field = format!("{at}.upstreams");
        if asked.upstreams.is_empty() {
            self.add(
                field.clone(),
                "is required: without a resolver the exit has no DNS",
            );
        }
        let resolvers = self.resolvers(&field, &asked.upstreams, |address| {
            Resolver::beyond(address).ok_or("is the address of one host that the exit reaches")
        });
        let reached = match &asked.reached {
            Some(AskedReached::Redirect) => Some(Reached::Redirect),
            Some(AskedReached::Interface(name)) => {
                let interface = Interface::try_new(name, &ceiling.interface_prefixes);
                if interface.is_none() {
                    let rule = "is no interface of exits: see `dns.interface_prefixes` in egress.toml";
                    self.add(format!("{at}.interface"), rule);
                }
                interface.map(Reached::Interface)
            }
            None => {
                self.add(format!("{at}.reached"), "is required");
                None
            }
        };
        let dns = ExitDns {
            resolvers,
            reached: reached?,
        };
        Some((id?, dns))
    }

    /// An exit that has no DNS is taken: its peers' names are then not resolved, and go no other way.
    fn peers(&mut self, asked: &[AskedPeer<'_>]) -> BTreeMap<IpAddr, Option<ExitId>> {
        let mut peers = BTreeMap::new();
        for (index, peer) in asked.iter().enumerate() {
            let at = format!("peers[{index}]");
            let exit = match peer.exit {
                "" => None,
                id => match ExitId::parse(id) {
                    Ok(id) => Some(id),
                    Err(why) => {
                        self.add(format!("{at}.exit_id"), why);
                        continue;
                    }
                },
            };
            for (number, address) in peer.addresses.iter().enumerate() {
                let field = format!("{at}.addresses[{number}]");
                match address {
                    Err(why) => self.add(field, why),
                    Ok(address) => {
                        if peers.insert(address.to_canonical(), exit.clone()).is_some() {
                            self.add(field, "is another peer's too");
                        }
                    }
                }
            }
        }
        peers
    }
}
