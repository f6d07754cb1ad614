//! Exits of the relay: each by itself, and against the others.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::exits::{Context, Taken, id_and_mark, unique};
use super::peers::unreachable_kind;
use super::{Faults, RESOLVERS_MAX, SERVERS_MAX};
use crate::redirect::{Redirect, RelayWay};
use crate::spec::{ExitSpec, Parsed, RedirectSpec};

/// One of them.
pub(super) fn one(
    context: &Context<'_>,
    exit: &ExitSpec,
    spec: &RedirectSpec,
    index: usize,
    taken: &mut Taken,
    faults: &mut Faults,
) -> Option<Redirect> {
    let at = |field: &'static str| fmt::from_fn(move |f| write!(f, "spec.exits[{index}].{field}"));
    let (id, mark) = id_and_mark(context, exit, index, taken, faults);
    if exit.table != 0 {
        faults.invalid(at("table"), "is 0: an exit of the relay has no routing table");
    }
    if !exit.interface.is_empty() {
        faults.invalid(at("interface"), "is empty: an exit of the relay has no interface");
    }
    let Some(relay) = context.ceiling.relay() else {
        faults.above(at("redirect"), "no exit may be redirected to the relay");
        return None;
    };
    let RedirectSpec { port, servers } = spec;
    let port = u16::try_from(*port).ok().filter(|port| relay.allows_port(*port));
    if port.is_none() {
        faults.above(at("redirect.port"), "no exit may have this port of the relay");
    }
    unique(&mut taken.ports, port, index, at("redirect.port"), faults);
    let local = Local {
        allowed: &|server| relay.allows_local(server),
        most: SERVERS_MAX,
        noun: "server",
    };
    let servers = all(context, &local, servers, at("redirect.servers"), faults);
    let way = RelayWay {
        id: id?,
        mark: mark?,
        port: port?,
    };
    Some(Redirect {
        way: Arc::new(way),
        servers: servers?,
    })
}

/// Resolvers that the relay may ask for peers without an exit; none if one of them is not sound.
pub(super) fn resolvers(
    context: &Context<'_>,
    specs: &[Parsed<SocketAddr>],
    faults: &mut Faults,
) -> BTreeSet<SocketAddr> {
    if specs.is_empty() {
        return BTreeSet::new();
    }
    let path = "spec.dns_upstreams";
    let Some(relay) = context.ceiling.relay() else {
        faults.above(path, "there is no relay here that could ask resolvers");
        return BTreeSet::new();
    };
    let local = Local {
        allowed: &|resolver| relay.allows_local_resolver(resolver),
        most: RESOLVERS_MAX,
        noun: "resolver",
    };
    all(context, &local, specs, path, faults).unwrap_or_default()
}

/// Servers that the relay connects to for the cell itself; none if one of them is not sound.
pub(super) fn own_servers(
    context: &Context<'_>,
    specs: &[Parsed<SocketAddr>],
    faults: &mut Faults,
) -> BTreeSet<SocketAddr> {
    if specs.is_empty() {
        return BTreeSet::new();
    }
    let path = "spec.relay_servers";
    let Some(relay) = context.ceiling.relay() else {
        faults.above(path, "there is no relay here that could connect to them");
        return BTreeSet::new();
    };
    let local = Local {
        allowed: &|server| relay.allows_local(server),
        most: SERVERS_MAX,
        noun: "server",
    };
    all(context, &local, specs, path, faults).unwrap_or_default()
}

/// What is particular to one list of places that the relay may send to.
struct Local<'a> {
    /// Whether this, on the machine itself, may be one.
    allowed: &'a dyn Fn(SocketAddr) -> bool,
    most: usize,
    noun: &'static str,
}

fn all(
    context: &Context<'_>,
    local: &Local<'_>,
    specs: &[Parsed<SocketAddr>],
    path: impl fmt::Display,
    faults: &mut Faults,
) -> Option<BTreeSet<SocketAddr>> {
    let Local { most, noun, .. } = local;
    if specs.len() > *most {
        let count = specs.len();
        faults.invalid(path, format!("at most {most} {noun}s, not {count}"));
        return None;
    }
    let mut servers = BTreeSet::new();
    for (number, spec) in specs.iter().enumerate() {
        let field = format_args!("{path}[{number}]");
        if let Some(server) = faults.parsed(spec.clone(), field)
            && let Some(server) = server_of(context, local, server, field, faults)
        {
            servers.insert(server);
        }
    }
    Some(servers)
}

/// As the kernel will see it. None: its fault is named.
fn server_of(
    context: &Context<'_>,
    local: &Local<'_>,
    server: SocketAddr,
    field: impl fmt::Display,
    faults: &mut Faults,
) -> Option<SocketAddr> {
    let server = SocketAddr::new(server.ip().to_canonical(), server.port());
    let noun = local.noun;
    if server.ip().is_loopback() {
        let allowed = (local.allowed)(server);
        if !allowed {
            faults.above(field, "the relay may not connect to this on the machine itself");
        }
        return allowed.then_some(server);
    }
    if let Some(kind) = unreachable_kind(server.ip()) {
        faults.invalid(field, format!("a {noun} is not at {kind}"));
        None
    } else if context.is_inside(server.ip()) || context.hidden.contains(&server.ip()) {
        faults.invalid(field, format!("a {noun} is not inside the VPN"));
        None
    } else {
        Some(server)
    }
}
