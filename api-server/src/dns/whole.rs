//! Telling the relay everything, and of that all that it takes.

use std::collections::{BTreeMap, BTreeSet};

use cell_api_core::derive::dns::DnsSpec;
use cell_proto::fault::Violation;

use super::words;
use crate::daemons::egress::{EgressClient, EgressError};

/// Whatever it says of one exit, name, resolver or peer, it is told of the others; what it did not take, by its place. A peer whose exit it
/// does not take has no DNS but the cell's, and no other way; one that it does not take is a stranger to it. A table of which it takes
/// nothing else has no peers at all, and at last nothing: in the one before, whoever was bound since would ask by the machine's own way.
/// Answers with the revision that it goes by.
pub(super) async fn apply(
    egress: &EgressClient,
    mut spec: DnsSpec,
) -> Result<(BTreeMap<String, String>, u64), EgressError> {
    let mut left_out = BTreeMap::new();
    loop {
        let faults = match egress.apply_dns(&spec).await {
            Ok(revision) => return Ok((left_out, revision)),
            Err(EgressError::Refuses(faults)) => faults,
            Err(error) => return Err(error),
        };
        if !leave_out(&mut spec, &faults) {
            match (spec == DnsSpec::default(), spec.peers.is_empty()) {
                (true, _) => return Err(EgressError::Refuses(faults)),
                (false, false) => spec.peers.clear(),
                (false, true) => spec = DnsSpec::default(),
            }
        }
        let named = faults
            .into_iter()
            .map(|fault| (fault.field.clone(), words(&[fault])));
        left_out.extend(named);
    }
}

/// Takes out what is at fault; whether that was something.
fn leave_out(spec: &mut DnsSpec, faults: &[Violation]) -> bool {
    let of = |path| places(path, faults);
    let (exits, records) = (of("dns.exits"), of("dns.records"));
    let (upstreams, peers) = (of("dns.upstreams"), of("dns.peers"));
    // One that it may not ask: the other names are there all the same.
    let is_of_authority = |fault: &Violation| fault.field.starts_with("dns.authority");
    let without_authority = spec.authority.is_some() && faults.iter().any(is_of_authority);
    if without_authority {
        spec.authority = None;
    }
    let counts = |spec: &DnsSpec| {
        [
            spec.exits.len(),
            spec.records.len(),
            spec.upstreams.len(),
            spec.peers.len(),
        ]
    };
    let before = counts(spec);
    spec.exits = without(std::mem::take(&mut spec.exits), &exits);
    spec.records = without(std::mem::take(&mut spec.records), &records);
    spec.upstreams = without(std::mem::take(&mut spec.upstreams), &upstreams);
    spec.peers = without(std::mem::take(&mut spec.peers), &peers);
    without_authority || counts(spec) != before
}

fn without<T, C>(all: C, places: &BTreeSet<usize>) -> C
where
    C: IntoIterator<Item = T> + FromIterator<T>,
{
    let kept = all
        .into_iter()
        .enumerate()
        .filter(|(place, _)| !places.contains(place));
    kept.map(|(_, one)| one).collect()
}

fn places(path: &str, faults: &[Violation]) -> BTreeSet<usize> {
    let place = |fault: &Violation| {
        let rest = fault.field.strip_prefix(path)?.strip_prefix('[')?;
        rest.split_once(']')?.0.parse().ok()
    };
    faults.iter().filter_map(place).collect()
}
