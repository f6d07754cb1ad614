//! Rules and routes of exits, by rtnetlink(7).
//!
//! Ours is what carries our protocol number: a rule in our range of priorities, a default route in a table that exits may
//! have. What does not, or has a selector that we never write, is somebody else's and is left alone; the policy does not let
//! a packet of an exit leave by it.

use std::collections::{BTreeMap, BTreeSet};

use cell_netd_core::ceiling::ExitCeiling;
use cell_netd_core::model::{ExitInterface, Family};
use cell_netd_core::routing::{Action, ExitRoute, RouteTo, Routing, RoutingRule, Selector};
use futures_util::TryStreamExt as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{IpVersion, RouteMessageBuilder};

use super::KernelError;
use super::link::{Links, name_of};

/// Of rules and routes that netd makes (RTPROT_*): among the numbers that nobody has registered
/// (include/uapi/linux/rtnetlink.h, and iproute2's rt_protos).
const PROTOCOL: u8 = 206;
/// As the input interface of a rule, it stands for what the machine sends itself (ip-rule(8)).
const LOOPBACK: &str = "lo";

/// Rules and routes that are ours, and the exits' interfaces that are up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExitsSeen {
    /// Ours.
    pub routing: Routing,
    /// Whoever made them.
    pub up: BTreeSet<ExitInterface>,
}

impl Links {
    /// All links.
    pub(super) async fn links(&self) -> Result<Vec<LinkMessage>, KernelError> {
        Ok(self.handle().link().get().execute().try_collect().await?)
    }

    /// Both families' routes of all tables.
    pub(super) async fn routes(&self) -> Result<Vec<RouteMessage>, KernelError> {
        let mut routes: Vec<RouteMessage> = Vec::new();
        for request in [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ] {
            let found: Vec<RouteMessage> = self.handle().route().get(request).execute().try_collect().await?;
            routes.extend(found);
        }
        Ok(routes)
    }

    /// What there is of exits. Costs what the machine has of links and routes, whatever peers there are.
    pub(super) async fn exits(&self, ceiling: &ExitCeiling) -> Result<ExitsSeen, KernelError> {
        let (links, routes) = (self.links().await?, self.routes().await?);
        self.exits_among(ceiling, &links, &routes).await
    }

    /// The same of links and routes that were read before.
    pub(super) async fn exits_among(
        &self,
        ceiling: &ExitCeiling,
        links: &[LinkMessage],
        routes: &[RouteMessage],
    ) -> Result<ExitsSeen, KernelError> {
        let names = names(links, ceiling);
        let mut rules: Vec<RuleMessage> = Vec::new();
        for version in [IpVersion::V4, IpVersion::V6] {
            let found: Vec<RuleMessage> = self.handle().rule().get(version).execute().try_collect().await?;
            rules.extend(found);
        }
        let routing = Routing {
            rules: rules
                .iter()
                .filter_map(|rule| rule_of(rule, ceiling))
                .filter(|rule| ceiling.is_priority(rule.priority))
                .collect(),
            routes: routes
                .iter()
                .filter_map(|route| route_of(route, &names))
                .filter(|route| ceiling.table(route.table).is_some())
                .collect(),
        };
        let up = names.values().filter(|(_, up)| *up).map(|(name, _)| *name);
        Ok(ExitsSeen {
            routing,
            up: up.collect(),
        })
    }

    pub(super) async fn add_route(&self, route: &ExitRoute) -> Result<(), KernelError> {
        let message = self.route_message(route).await?;
        Ok(self.handle().route().add(message).execute().await?)
    }

    pub(super) async fn remove_route(&self, route: &ExitRoute) -> Result<(), KernelError> {
        let message = self.route_message(route).await?;
        Ok(self.handle().route().del(message).execute().await?)
    }

    async fn route_message(&self, route: &ExitRoute) -> Result<RouteMessage, KernelError> {
        let ExitRoute { family, table, to } = route;
        let mut message = RouteMessage::default();
        message.header.address_family = address_family(*family);
        message.header.table = RouteHeader::RT_TABLE_UNSPEC;
        message.header.protocol = RouteProtocol::Other(PROTOCOL);
        message.attributes = vec![
            RouteAttribute::Table(*table),
            RouteAttribute::Priority(to.metric()),
        ];
        match to {
            RouteTo::Unreachable => {
                message.header.kind = RouteType::Unreachable;
                message.header.scope = RouteScope::Universe;
            }
            RouteTo::Interface(interface) => {
                let name = interface.as_str().parse();
                let name = name.map_err(|error: cell_netd_core::model::InvalidInterfaceName| {
                    KernelError::Refused(error.to_string())
                })?;
                message.header.kind = RouteType::Unicast;
                message.header.scope = RouteScope::Link;
                message
                    .attributes
                    .push(RouteAttribute::Oif(self.index(&name).await?));
            }
        }
        Ok(message)
    }

    pub(super) async fn add_rule(&self, rule: &RoutingRule) -> Result<(), KernelError> {
        let mut request = self.handle().rule().add();
        *request.message_mut() = rule_message(rule);
        Ok(request.execute().await?)
    }

    pub(super) async fn remove_rule(&self, rule: &RoutingRule) -> Result<(), KernelError> {
        Ok(self.handle().rule().del(rule_message(rule)).execute().await?)
    }
}

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn family_of(family: AddressFamily) -> Option<Family> {
    match family {
        AddressFamily::Inet => Some(Family::V4),
        AddressFamily::Inet6 => Some(Family::V6),
        _ => None,
    }
}

/// By index, the links that have an exit's name, and whether each is up.
fn names(links: &[LinkMessage], ceiling: &ExitCeiling) -> BTreeMap<u32, (ExitInterface, bool)> {
    let exit = |link: &LinkMessage| {
        let name = name_of(link).filter(|name| ceiling.allows_interface(name))?;
        Some((
            link.header.index,
            (name, link.header.flags.contains(LinkFlags::Up)),
        ))
    };
    links.iter().filter_map(exit).collect()
}

fn rule_message(rule: &RoutingRule) -> RuleMessage {
    let RoutingRule {
        family,
        priority,
        selector,
        action,
    } = rule;
    let mut message = RuleMessage::default();
    message.header.family = address_family(*family);
    message.attributes = vec![
        RuleAttribute::Priority(*priority),
        RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
    ];
    message.header.action = match action {
        Action::Table(table) => {
            message.attributes.push(RuleAttribute::Table(*table));
            RuleAction::ToTable
        }
        Action::Goto(priority) => {
            message.attributes.push(RuleAttribute::Goto(*priority));
            RuleAction::Goto
        }
        Action::Nop => RuleAction::Nop,
    };
    match selector {
        Selector::Mark { mark, mask } => message
            .attributes
            .extend([RuleAttribute::FwMark(*mark), RuleAttribute::FwMask(*mask)]),
        Selector::Out(interface) => {
            let name = interface.as_str().to_owned();
            message.attributes.push(RuleAttribute::Oifname(name));
        }
        Selector::Own { mask } => message.attributes.extend([
            RuleAttribute::Iifname(LOOPBACK.to_owned()),
            RuleAttribute::FwMark(0),
            RuleAttribute::FwMask(*mask),
        ]),
        Selector::All => {}
    }
    message
}

/// None: it is not of our making.
fn rule_of(message: &RuleMessage, ceiling: &ExitCeiling) -> Option<RoutingRule> {
    let header = &message.header;
    if (header.dst_len, header.src_len, header.tos) != (0, 0, 0) {
        return None;
    }
    let (mut ours, mut priority, mut mark, mut mask) = (false, None, None, None);
    let (mut iif, mut oif, mut table, mut goto) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Protocol(protocol) => ours = *protocol == RouteProtocol::Other(PROTOCOL),
            RuleAttribute::Priority(value) => priority = Some(*value),
            RuleAttribute::FwMark(value) => mark = Some(*value),
            RuleAttribute::FwMask(value) => mask = Some(*value),
            RuleAttribute::Table(value) => table = Some(*value),
            RuleAttribute::Goto(value) => goto = Some(*value),
            RuleAttribute::Iifname(name) => iif = Some(name.as_str()),
            RuleAttribute::Oifname(name) => oif = Some(name.as_str()),
            RuleAttribute::UidRange(_)
            | RuleAttribute::IpProtocol(_)
            | RuleAttribute::SourcePortRange(_)
            | RuleAttribute::DestinationPortRange(_) => return None,
            _ => {}
        }
    }
    // The kernel leaves out a mark of 0.
    let selector = match (iif, oif, mask) {
        (None, None, Some(mask)) => Selector::Mark {
            mark: mark.unwrap_or_default(),
            mask,
        },
        (Some(LOOPBACK), None, Some(mask)) if mark.is_none_or(|mark| mark == 0) => Selector::Own { mask },
        (None, Some(name), None) => {
            let interface = name.parse().ok();
            Selector::Out(interface.filter(|interface| ceiling.allows_interface(interface))?)
        }
        (None, None, None) => Selector::All,
        _ => return None,
    };
    let action = match header.action {
        RuleAction::ToTable => Action::Table(table?),
        RuleAction::Goto => Action::Goto(goto?),
        RuleAction::Nop => Action::Nop,
        _ => return None,
    };
    let rule = RoutingRule {
        family: family_of(header.family)?,
        priority: priority?,
        selector,
        action,
    };
    ours.then_some(rule)
}

/// None: it is not of our making.
fn route_of(message: &RouteMessage, names: &BTreeMap<u32, (ExitInterface, bool)>) -> Option<ExitRoute> {
    let header = &message.header;
    if header.destination_prefix_length != 0 || header.protocol != RouteProtocol::Other(PROTOCOL) {
        return None;
    }
    let (mut table, mut metric, mut link) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(value) => table = Some(*value),
            RouteAttribute::Priority(value) => metric = Some(*value),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    let to = match header.kind {
        RouteType::Unreachable => RouteTo::Unreachable,
        RouteType::Unicast => RouteTo::Interface(names.get(&link?)?.0),
        _ => return None,
    };
    (metric? == to.metric()).then_some(ExitRoute {
        family: family_of(header.address_family)?,
        table: table?,
        to,
    })
}
