//! Which services' names each peer finds, as zone files (RFC 1035, section 5). The same state always gives the same zones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use super::dns::TTL_SECONDS;
use crate::published::{HostName, Label, Published};

/// How old what a secondary has may be, and so on (RFC 1035, section 3.3.13), seconds. Nobody transfers these zones.
const REFRESH: u32 = 3600;
const RETRY: u32 = 600;
const EXPIRE: u32 = 86_400;

/// Peers that may use the same services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Places in [`Published::services`], ascending; at least one.
    pub services: Vec<usize>,
    /// The peers' addresses, ascending.
    pub readers: Vec<IpAddr>,
}

/// The views in the order of their services. A peer that may use nothing is in none.
pub fn views(published: &Published) -> Vec<View> {
    // A service has a record for each of its backends, all with its address.
    let mut places: BTreeMap<Ipv4Addr, Vec<usize>> = BTreeMap::new();
    for (place, service) in published.services.iter().enumerate() {
        places.entry(service.address).or_default().push(place);
    }
    let everyones: BTreeSet<usize> = (published.services.iter().enumerate())
        .filter_map(|(place, service)| service.everyone.then_some(place))
        .collect();
    let mut views: BTreeMap<BTreeSet<usize>, BTreeSet<IpAddr>> = BTreeMap::new();
    for reader in &published.readers {
        let mut services = everyones.clone();
        for grant in &reader.granted {
            let IpAddr::V4(address) = grant.address else {
                continue;
            };
            let opened = places.get(&address).into_iter().flatten().filter(|place| {
                published
                    .services
                    .get(**place)
                    .is_some_and(|service| service.is_opened_by(grant))
            });
            services.extend(opened);
        }
        if !services.is_empty() {
            views.entry(services).or_default().extend(&reader.addresses);
        }
    }
    let view = |(services, readers): (BTreeSet<usize>, BTreeSet<IpAddr>)| View {
        services: services.into_iter().collect(),
        readers: readers.into_iter().collect(),
    };
    views.into_iter().map(view).collect()
}

/// One zone as some peers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone<'a> {
    /// The domain.
    pub apex: &'a HostName,
    /// Names in it and their addresses, in the order of names.
    pub records: BTreeMap<&'a Label, Ipv4Addr>,
}

impl<'a> Zone<'a> {
    /// Of these services, by their places.
    pub fn of(published: &'a Published, apex: &'a HostName, services: &[usize]) -> Self {
        let labels = published.labels();
        let records = services.iter().flat_map(|place| {
            let service = published.services.get(*place);
            let labels = labels.get(*place).map(Vec::as_slice).unwrap_or_default();
            service.into_iter().flat_map(move |service| {
                let fits = labels.iter().filter(|label| apex.child(label).is_some());
                fits.map(move |label| (*label, service.address))
            })
        });
        Zone {
            apex,
            records: records.collect(),
        }
    }

    /// As a zone file. Nothing of outside is in it but names, addresses and numbers.
    pub fn render(&self, serial: u32) -> String {
        let mut text = format!(
            "$ORIGIN {apex}.\n$TTL {TTL_SECONDS}\n@ IN SOA api hostmaster {serial} {REFRESH} {RETRY} {EXPIRE} {TTL_SECONDS}\n@ IN NS api\n",
            apex = self.apex
        );
        for (label, address) in &self.records {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{label} IN A {address}");
        }
        text
    }
}

/// The serial after `last`: the seconds since 1970 where these are more, so that it grows though what was last is not known
/// any more, and always more than `last`. It ends where it would go round (RFC 1982), in 2106: then the zones are new ones.
pub fn next_serial(last: Option<u32>, now_unix_seconds: i64) -> u32 {
    let now = u32::try_from(now_unix_seconds.max(1)).unwrap_or(u32::MAX);
    last.map_or(now, |last| now.max(last.saturating_add(1)))
}
