//! What a plan means for services at addresses in the VPN, by the state that was accepted before.

use std::collections::BTreeSet;

use super::{Change, between};
use crate::desired::Desired;
use crate::entry::{Entry, EntryAt};

/// Entries that come, go or are altered. Without a state before there is nothing to compare with.
pub(super) fn of_entries(accepted: Option<&Desired>, desired: &Desired) -> Vec<Change> {
    let Some(accepted) = accepted else {
        return Vec::new();
    };
    let places: BTreeSet<&EntryAt> = accepted
        .entries()
        .keys()
        .chain(desired.entries().keys())
        .collect();
    let one = |at: &EntryAt| {
        let (before, after) = (accepted.entries().get(at), desired.entries().get(at));
        between(format!("entry {at}"), before, after, whole, difference)
    };
    places.into_iter().filter_map(one).collect()
}

fn whole(entry: &Entry) -> String {
    let Entry {
        to,
        service,
        everyone,
    } = entry;
    format!("{service} at {to}, {}", who(*everyone))
}

fn who(everyone: bool) -> &'static str {
    if everyone {
        "for every device"
    } else {
        "for devices that it is granted to"
    }
}

fn difference(before: &Entry, after: &Entry) -> Vec<String> {
    let mut parts = Vec::new();
    if (before.to, &before.service) != (after.to, &after.service) {
        parts.push(format!("leads to {} at {}", after.service, after.to));
    }
    if before.everyone != after.everyone {
        parts.push(who(after.everyone).to_owned());
    }
    parts
}
