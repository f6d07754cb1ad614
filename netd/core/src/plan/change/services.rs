//! What a plan means for services, by the state that was accepted before: the sets do not say which service a container is of.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;

use super::{Change, between, list};
use crate::desired::{Desired, Service};
use crate::model::ServiceName;
use crate::service::ServiceNetwork;

/// Networks that come, go or are altered. Without a state before there is nothing to compare with.
pub(super) fn of_services(accepted: Option<&Desired>, desired: &Desired) -> Vec<Change> {
    let Some(accepted) = accepted else {
        return Vec::new();
    };
    let names: BTreeSet<&ServiceName> = accepted
        .services()
        .keys()
        .chain(desired.services().keys())
        .collect();
    let one = |name: &ServiceName| {
        let (before, after) = (accepted.services().get(name), desired.services().get(name));
        between(format!("service {name}"), before, after, whole, difference)
    };
    names.into_iter().filter_map(one).collect()
}

fn whole(network: &ServiceNetwork) -> String {
    let ServiceNetwork {
        bridge,
        subnet,
        internet,
        exit,
        reach,
        called,
    } = network;
    let reach = reached(*internet, reach);
    let may = if reach.is_empty() {
        "nothing but names".to_owned()
    } else {
        list(&reach)
    };
    let by = exit
        .as_ref()
        .map(|exit| format!(", leaves by exit {}", exit.id()));
    let heard =
        (!called.is_empty()).then(|| format!(", takes calls of the cell at {}", list(&ports(called))));
    format!(
        "{subnet} on {bridge}, reaches {may}{}{}",
        by.unwrap_or_default(),
        heard.unwrap_or_default()
    )
}

fn difference(before: &ServiceNetwork, after: &ServiceNetwork) -> Vec<String> {
    let mut parts = Vec::new();
    let (had, has) = (
        reached(before.internet, &before.reach),
        reached(after.internet, &after.reach),
    );
    for (verb, left, right) in [("gains", &has, &had), ("loses", &had, &has)] {
        let words: BTreeSet<String> = left.difference(right).cloned().collect();
        if !words.is_empty() {
            parts.push(format!("{verb} {}", list(&words)));
        }
    }
    let (heard, hears) = (ports(&before.called), ports(&after.called));
    for (verb, left, right) in [("takes", &hears, &heard), ("ends", &heard, &hears)] {
        let words: BTreeSet<String> = left.difference(right).cloned().collect();
        if !words.is_empty() {
            parts.push(format!("{verb} calls of the cell at {}", list(&words)));
        }
    }
    if (before.bridge, before.subnet) != (after.bridge, after.subnet) {
        parts.push(format!("moves to {} on {}", after.subnet, after.bridge));
    }
    if before.exit != after.exit {
        parts.push(after.exit.as_ref().map_or_else(
            || "leaves by the machine's own way".to_owned(),
            |exit| format!("leaves by exit {}", exit.id()),
        ));
    }
    parts
}

fn ports(called: &BTreeSet<SocketAddrV4>) -> BTreeSet<String> {
    called.iter().map(SocketAddrV4::to_string).collect()
}

fn reached(internet: bool, reach: &BTreeSet<Service>) -> BTreeSet<String> {
    let internet = internet.then(|| "internet".to_owned());
    internet
        .into_iter()
        .chain(reach.iter().map(Service::to_string))
        .collect()
}
