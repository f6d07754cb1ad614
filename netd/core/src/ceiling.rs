//! The ceiling: what netd may ever be asked for. It comes from the root-owned policy file.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net};

use crate::model::{ExitInterface, ExitMark, InterfaceName, Mark, Port, TableId, TableName};

/// Bounds that no request can lift.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceiling {
    /// Names that netd may own.
    pub interfaces: BTreeSet<InterfaceName>,
    /// UDP ports that WireGuard may listen on.
    pub listen_ports: Vec<RangeInclusive<u16>>,
    /// Where the VPN may lie.
    pub vpn_prefixes: Vec<IpNet>,
    /// Ports of the cell that peers may be let to.
    pub cell_ports: BTreeSet<Port>,
    /// Ports on the hidden service addresses that cell ports may be translated to.
    pub service_targets: BTreeSet<Port>,
    /// The hidden service address, IPv4.
    pub service_v4: Ipv4Addr,
    /// The hidden service address, IPv6.
    pub service_v6: Ipv6Addr,
    /// Most peers.
    pub max_peers: usize,
    /// Set on what the policy accepts, so that Docker's FORWARD lets it pass.
    pub accept_mark: Mark,
    /// The nftables table of family inet that netd owns.
    pub table: TableName,
    /// What exits may be made of.
    pub exits: ExitCeiling,
    /// What networks of services may be made of; none: there may be none.
    pub services: Option<ServiceCeiling>,
}

/// What networks of services may be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCeiling {
    prefix: InterfaceName,
    subnets: Vec<Ipv4Net>,
    most: usize,
    entries: usize,
    callers: BTreeSet<u32>,
    public_http: Option<PublicHttp>,
}

/// Where TCP 80 of the machine may lead from the internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicHttp {
    /// Containers that it may lead to.
    pub within: Ipv4Net,
    /// Their port.
    pub port: u16,
}

/// Most networks of services.
pub const SERVICES_MAX: usize = 1024;
/// Most services at addresses in the VPN (proto).
pub const ENTRIES_MAX: usize = 4096;

/// Not what networks of services can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidServices {
    /// The prefix.
    #[error("bridge_prefix: 4-14 characters that an interface's name may have")]
    Prefix,
    /// Another's name begins so.
    #[error(
        "bridge_prefix: {0} begins so, or the other way round; what is a bridge of services could not be told from it"
    )]
    Taken(String),
    /// No subnets.
    #[error("subnets: at least one IPv4 prefix, none shorter than 8 bits, without host bits")]
    Subnets,
    /// Their number.
    #[error("max: 1-{SERVICES_MAX}")]
    Most,
    /// The number of services at addresses in the VPN.
    #[error("entries_max: 0-{ENTRIES_MAX}")]
    Entries,
    /// What the internet may reach.
    #[error("public_http: within one of subnets, at a port of 1024-65535")]
    PublicHttp,
}

impl ServiceCeiling {
    /// Networks within `subnets` on bridges whose names begin so; nothing else on the machine is to be named so, for it would be
    /// judged as one.
    ///
    /// # Errors
    /// [`InvalidServices`] names the first that is wrong.
    pub fn try_new(prefix: &str, subnets: Vec<Ipv4Net>, most: usize) -> Result<Self, InvalidServices> {
        let name = prefix.parse::<InterfaceName>();
        let name = name
            .ok()
            .filter(|_| (4..=14).contains(&prefix.len()) && !prefix.starts_with('-'));
        let sound = |net: &Ipv4Net| net.prefix_len() >= 8 && net.trunc() == *net;
        if subnets.is_empty() || !subnets.iter().all(sound) {
            return Err(InvalidServices::Subnets);
        }
        if most == 0 || most > SERVICES_MAX {
            return Err(InvalidServices::Most);
        }
        Ok(ServiceCeiling {
            prefix: name.ok_or(InvalidServices::Prefix)?,
            subnets,
            most,
            entries: 0,
            callers: BTreeSet::new(),
            public_http: None,
        })
    }

    /// The same, with so many services at addresses in the VPN at most.
    ///
    /// # Errors
    /// [`InvalidServices::Entries`].
    pub fn with_entries(self, entries: usize) -> Result<Self, InvalidServices> {
        if entries > ENTRIES_MAX {
            return Err(InvalidServices::Entries);
        }
        Ok(ServiceCeiling { entries, ..self })
    }

    /// The same, with these users of the machine (numeric ids), who alone may open flows to containers.
    pub fn with_callers(self, callers: BTreeSet<u32>) -> Self {
        ServiceCeiling { callers, ..self }
    }

    /// The same, and the internet may be let to one container there.
    ///
    /// # Errors
    /// [`InvalidServices::PublicHttp`].
    pub fn with_public_http(self, to: PublicHttp) -> Result<Self, InvalidServices> {
        if !self.allows_subnet(to.within) || to.within.trunc() != to.within || to.port < 1024 {
            return Err(InvalidServices::PublicHttp);
        }
        Ok(ServiceCeiling {
            public_http: Some(to),
            ..self
        })
    }

    /// The same, if no interface of these names could be taken for a bridge, or a bridge for one that begins so.
    ///
    /// # Errors
    /// [`InvalidServices::Taken`].
    pub fn beside<'a>(
        self,
        interfaces: impl IntoIterator<Item = &'a InterfaceName>,
        exits: &'a ExitCeiling,
    ) -> Result<Self, InvalidServices> {
        let tunnels = exits.tunnel.as_ref().map(|tunnel| tunnel.prefix.as_str());
        let names = interfaces.into_iter().map(InterfaceName::as_str);
        let mut all = names.chain([exits.prefix.as_str()]).chain(tunnels).chain(["lo"]);
        let own = self.prefix.as_str();
        match all.find(|name| name.starts_with(own) || own.starts_with(name)) {
            Some(name) => Err(InvalidServices::Taken(name.to_owned())),
            None => Ok(self),
        }
    }

    /// What the names of bridges begin with.
    pub fn prefix(&self) -> &InterfaceName {
        &self.prefix
    }

    /// Most networks.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Most services at addresses in the VPN.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Where TCP 80 of the machine may lead from the internet; none: nowhere.
    pub fn public_http(&self) -> Option<PublicHttp> {
        self.public_http
    }

    /// Users of the machine who may open flows to containers.
    pub fn callers(&self) -> &BTreeSet<u32> {
        &self.callers
    }

    /// Whether a bridge may have this name.
    pub fn allows_bridge(&self, bridge: &ExitInterface) -> bool {
        begins(bridge, self.prefix.as_str())
    }

    /// Whether a network may lie there.
    pub fn allows_subnet(&self, subnet: Ipv4Net) -> bool {
        self.subnets.iter().any(|allowed| allowed.contains(&subnet))
    }
}

impl PublicHttp {
    /// Whether it may lead there.
    pub fn allows(&self, to: SocketAddrV4) -> bool {
        self.within.contains(to.ip()) && self.port == to.port()
    }
}

/// Most exits, most marks, and most tables.
const EXITS_MAX: u32 = 256;

/// Marks, tables and names of exits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitCeiling {
    marks: RangeInclusive<u32>,
    mask: u32,
    tables: RangeInclusive<u32>,
    prefix: String,
    most: usize,
    relay: Option<RelayCeiling>,
    tunnel: Option<TunnelCeiling>,
}

/// What tunnels of a user may be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelCeiling {
    user: u32,
    prefix: String,
}

/// What exits of the relay may be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayCeiling {
    ports: RangeInclusive<u16>,
    user: u32,
    local_servers: BTreeSet<SocketAddr>,
    local_resolvers: BTreeSet<SocketAddr>,
}

/// Not what exits can be made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExits {
    /// The marks.
    #[error(
        "marks: first and last, not 0, first not above last, both within the mask, at most {EXITS_MAX} of them"
    )]
    Marks,
    /// The mask.
    #[error("mask: its bits are not those of accept_mark ({0})")]
    Mask(Mark),
    /// The mask's bits.
    #[error("mask: its bits are next to each other, four at least")]
    MaskBits,
    /// The tables.
    #[error("tables: first and last, from 256 on, first not above last, at most {EXITS_MAX} of them")]
    Tables,
    /// The prefix.
    #[error("interface_prefix: 1-14 characters that an interface's name may have")]
    Prefix,
    /// Their number.
    #[error("max: 1-{EXITS_MAX}")]
    Most,
    /// The relay's ports.
    #[error("redirect_ports: first and last, from 1024 on, first not above last")]
    RedirectPorts,
    /// The relay's user.
    #[error("egress_user: is not root, which no rule holds")]
    EgressUser,
    /// The user of tunnels.
    #[error("tunnel_user: is neither root, which no rule holds, nor egress_user, whose rules are others")]
    TunnelUser,
    /// The prefix of tunnels.
    #[error(
        "tunnel_prefix: 1-14 characters that an interface's name may have, and neither begins with interface_prefix nor \
         the other way round"
    )]
    TunnelPrefix,
    /// Servers on the machine itself.
    #[error("local_servers: {0} is not on loopback; others need not be listed")]
    LocalServers(SocketAddr),
    /// Resolvers on the machine itself.
    #[error("local_resolvers: {0} is not on loopback; others need not be listed")]
    LocalResolvers(SocketAddr),
}

impl ExitCeiling {
    /// No exit at all: of a policy file that does not speak of them. The mask is that of the API's marks, so that what an
    /// earlier netd marked is told from what it did not.
    pub fn none() -> Self {
        ExitCeiling {
            marks: 0x1000..=0x1ff0,
            mask: 0x1ff0,
            tables: 1000..=1255,
            prefix: "wgext_".to_owned(),
            most: 0,
            relay: None,
            tunnel: None,
        }
    }

    /// Exits of these marks, tables and interfaces.
    ///
    /// # Errors
    /// [`InvalidExits`] names the first that is wrong.
    pub fn try_new(
        marks: RangeInclusive<u32>,
        mask: u32,
        tables: RangeInclusive<u32>,
        prefix: &str,
        most: usize,
        accept_mark: Mark,
    ) -> Result<Self, InvalidExits> {
        let outside = |mark: u32| mark == 0 || mark & !mask != 0;
        if marks.is_empty() || outside(*marks.start()) || outside(*marks.end()) {
            return Err(InvalidExits::Marks);
        }
        let bits = mask.checked_shr(mask.trailing_zeros()).unwrap_or_default();
        if bits & bits.wrapping_add(1) != 0 || bits < 0xf {
            return Err(InvalidExits::MaskBits);
        }
        if (*marks.end() - *marks.start()) >> mask.trailing_zeros() >= EXITS_MAX {
            return Err(InvalidExits::Marks);
        }
        if mask & accept_mark.mask() != 0 {
            return Err(InvalidExits::Mask(accept_mark));
        }
        let few = tables.end().saturating_sub(*tables.start()) < EXITS_MAX;
        if tables.is_empty() || TableId::try_new(*tables.start()).is_none() || !few {
            return Err(InvalidExits::Tables);
        }
        if prefix.len() > 14 || prefix.parse::<InterfaceName>().is_err() {
            return Err(InvalidExits::Prefix);
        }
        if most == 0 || most > EXITS_MAX as usize {
            return Err(InvalidExits::Most);
        }
        Ok(ExitCeiling {
            marks,
            mask,
            tables,
            prefix: prefix.to_owned(),
            most,
            relay: None,
            tunnel: None,
        })
    }

    /// The same with exits of the relay.
    pub fn with_relay(self, relay: RelayCeiling) -> Self {
        ExitCeiling {
            relay: Some(relay),
            ..self
        }
    }

    /// The same with tunnels of a user. To be called after [`ExitCeiling::with_relay`].
    ///
    /// # Errors
    /// [`InvalidExits`] names the first that is wrong.
    pub fn with_tunnels(self, tunnel: TunnelCeiling) -> Result<Self, InvalidExits> {
        if self.relay.as_ref().is_some_and(|relay| relay.user == tunnel.user) {
            return Err(InvalidExits::TunnelUser);
        }
        if tunnel.prefix.starts_with(&self.prefix) || self.prefix.starts_with(&tunnel.prefix) {
            return Err(InvalidExits::TunnelPrefix);
        }
        Ok(ExitCeiling {
            tunnel: Some(tunnel),
            ..self
        })
    }

    /// What tunnels of a user may be made of; none: there may be none.
    pub fn tunnel(&self) -> Option<&TunnelCeiling> {
        self.tunnel.as_ref()
    }

    /// What exits of the relay may be made of; none: there may be none.
    pub fn relay(&self) -> Option<&RelayCeiling> {
        self.relay.as_ref()
    }

    /// The bits of a mark that say which exit.
    pub fn mask(&self) -> u32 {
        self.mask
    }

    /// Most exits.
    pub fn most(&self) -> usize {
        self.most
    }

    /// A mark of that number, if an exit may have it.
    pub fn mark(&self, number: u32) -> Option<ExitMark> {
        let allowed = self.marks.contains(&number) && number & !self.mask == 0;
        allowed.then(|| ExitMark::try_new(number)).flatten()
    }

    /// A table of that number, if an exit may have it.
    pub fn table(&self, number: u32) -> Option<TableId> {
        let allowed = self.tables.contains(&number);
        allowed.then(|| TableId::try_new(number)).flatten()
    }

    pub(crate) fn first_mark(&self) -> u32 {
        *self.marks.start()
    }

    pub(crate) fn first_table(&self) -> u32 {
        *self.tables.start()
    }

    /// Whether an exit's interface may have this name.
    pub fn allows_interface(&self, interface: &ExitInterface) -> bool {
        self.allows_wireguard(interface)
            || self
                .tunnel
                .as_ref()
                .is_some_and(|tunnel| tunnel.allows(interface))
    }

    /// Whether the interface of a WireGuard exit may have this name.
    pub fn allows_wireguard(&self, interface: &ExitInterface) -> bool {
        begins(interface, &self.prefix)
    }
}

fn begins(interface: &ExitInterface, prefix: &str) -> bool {
    interface
        .as_str()
        .strip_prefix(prefix)
        .is_some_and(|rest| !rest.is_empty())
}

impl TunnelCeiling {
    /// Tunnels that are made for this user (numeric id), by interfaces whose names begin so.
    ///
    /// # Errors
    /// [`InvalidExits`] names the first that is wrong.
    pub fn try_new(user: u32, prefix: &str) -> Result<Self, InvalidExits> {
        if user == 0 {
            return Err(InvalidExits::TunnelUser);
        }
        if prefix.len() > 14 || prefix.parse::<InterfaceName>().is_err() {
            return Err(InvalidExits::TunnelPrefix);
        }
        Ok(TunnelCeiling {
            user,
            prefix: prefix.to_owned(),
        })
    }

    /// Numeric id of the user that reads and writes them.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// Whether the interface of a tunnel may have this name.
    pub fn allows(&self, interface: &ExitInterface) -> bool {
        begins(interface, &self.prefix)
    }
}

impl RelayCeiling {
    /// Exits of a relay that has these TCP ports, runs as this user (numeric id), and may connect to these on the machine itself.
    ///
    /// # Errors
    /// [`InvalidExits`] names the first that is wrong.
    pub fn try_new(
        ports: RangeInclusive<u16>,
        user: u32,
        local_servers: BTreeSet<SocketAddr>,
    ) -> Result<Self, InvalidExits> {
        if ports.is_empty() || *ports.start() < 1024 {
            return Err(InvalidExits::RedirectPorts);
        }
        if user == 0 {
            return Err(InvalidExits::EgressUser);
        }
        if let Some(server) = local_servers.iter().find(|server| !server.ip().is_loopback()) {
            return Err(InvalidExits::LocalServers(*server));
        }
        Ok(RelayCeiling {
            ports,
            user,
            local_servers,
            local_resolvers: BTreeSet::new(),
        })
    }

    /// The same, and it may ask these resolvers on the machine itself.
    ///
    /// # Errors
    /// [`InvalidExits`] names the first that is not there.
    pub fn with_local_resolvers(self, local_resolvers: BTreeSet<SocketAddr>) -> Result<Self, InvalidExits> {
        match local_resolvers.iter().find(|at| !at.ip().is_loopback()) {
            Some(resolver) => Err(InvalidExits::LocalResolvers(*resolver)),
            None => Ok(RelayCeiling {
                local_resolvers,
                ..self
            }),
        }
    }

    /// Numeric id of the user that the relay runs as.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// Whether an exit may have this port.
    pub fn allows_port(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }

    /// Whether the relay may connect to this on the machine itself.
    pub fn allows_local(&self, server: SocketAddr) -> bool {
        self.local_servers.contains(&server)
    }

    /// Whether the relay may ask this resolver on the machine itself.
    pub fn allows_local_resolver(&self, resolver: SocketAddr) -> bool {
        self.local_resolvers.contains(&resolver)
    }
}

impl Ceiling {
    pub(crate) fn allows_vpn(&self, prefix: IpNet) -> bool {
        self.vpn_prefixes
            .iter()
            .any(|allowed| allowed.contains(&prefix.trunc()))
    }

    pub(crate) fn allows_listen_port(&self, port: u16) -> bool {
        self.listen_ports.iter().any(|range| range.contains(&port))
    }
}
