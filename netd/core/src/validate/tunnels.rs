//! Tunnels that a program on this machine carries: each by itself.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use super::exits::{Context, by_family};
use super::peers::unreachable_kind;
use super::{Faults, TUNNEL_SERVERS_MAX};
use crate::desired::UserTunnel;
use crate::model::{Mtu, Protocol};
use crate::spec::{TunnelServerSpec, UserTunnelSpec};

/// The tunnel of the exit number `index`.
pub(super) fn one(
    context: &Context<'_>,
    spec: &UserTunnelSpec,
    index: usize,
    faults: &mut Faults,
) -> Option<UserTunnel> {
    let UserTunnelSpec {
        addresses,
        mtu_bytes,
        servers,
    } = spec;
    let at = |field: &'static str| fmt::from_fn(move |f| write!(f, "spec.exits[{index}].tunnel.{field}"));
    // Without an address it carries nothing: its far end has not given one yet.
    let (v4, v6) = match addresses.as_slice() {
        [] => (None, None),
        addresses => by_family(context, addresses, at("addresses"), faults),
    };
    let mtu = match mtu_bytes {
        0 => Some(Mtu::DEFAULT),
        bytes => Mtu::try_new(*bytes),
    };
    if mtu.is_none() {
        faults.invalid(at("mtu_bytes"), "an MTU is 1280-9000 bytes, or 0 for 1420");
    }
    let servers = all(context, servers, at("servers"), faults);
    Some(UserTunnel {
        v4,
        v6,
        mtu: mtu?,
        servers: servers?,
    })
}

/// The servers; none if one of them is not sound.
fn all(
    context: &Context<'_>,
    specs: &[TunnelServerSpec],
    path: impl fmt::Display,
    faults: &mut Faults,
) -> Option<BTreeSet<(Protocol, SocketAddr)>> {
    if specs.len() > TUNNEL_SERVERS_MAX {
        let count = specs.len();
        faults.invalid(path, format!("at most {TUNNEL_SERVERS_MAX} servers, not {count}"));
        return None;
    }
    let mut servers = BTreeSet::new();
    for (number, spec) in specs.iter().enumerate() {
        servers.extend(server(context, spec, &format!("{path}[{number}]"), faults));
    }
    (servers.len() == specs.len()).then_some(servers)
}

/// As the kernel will see it. None: its fault is named.
fn server(
    context: &Context<'_>,
    spec: &TunnelServerSpec,
    path: &str,
    faults: &mut Faults,
) -> Option<(Protocol, SocketAddr)> {
    let TunnelServerSpec { endpoint, protocol } = spec;
    let field = format!("{path}.endpoint");
    let endpoint = faults.parsed(endpoint.clone(), &field);
    let protocol = faults.parsed(protocol.clone(), format_args!("{path}.protocol"));
    let endpoint = endpoint?;
    let endpoint = SocketAddr::new(endpoint.ip().to_canonical(), endpoint.port());
    if let Some(kind) = unreachable_kind(endpoint.ip()) {
        faults.invalid(field, format!("a server is not at {kind}"));
        return None;
    }
    if context.is_inside(endpoint.ip()) || context.hidden.contains(&endpoint.ip()) {
        faults.invalid(field, "a server is not inside the VPN");
        return None;
    }
    Some((protocol?, endpoint))
}
