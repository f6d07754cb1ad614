//! Services that devices find by name, who may use each, and other cells' names.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use crate::access::{Protocol, Service};
use crate::service_network::ServiceName;

/// Longest name, bytes in text without the last dot (RFC 1035, section 2.3.4).
const NAME_MAX: usize = 253;
/// The port that devices open services at by their browser.
pub const HTTPS: u16 = 443;
/// The port that their browser tries first, where it is sent on to the former.
pub const HTTP: u16 = 80;

/// One label of a host's name (RFC 1123): a-z, 0-9 and hyphens within, 1-63 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label(String);

/// The name of a zone or a host: labels between dots, in lower case, at most 253 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostName(String);

/// Text that is no [`Label`] or [`HostName`]. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be labels of 1-63 characters of a-z, 0-9 and -, with no - at either end, in all at most 253 bytes"
)]
pub struct InvalidHostName;

impl Label {
    /// Reads a label.
    ///
    /// # Errors
    /// [`InvalidHostName`], also for upper case.
    pub fn parse(text: &str) -> Result<Self, InvalidHostName> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_label = (1..=63).contains(&text.len())
            && text.bytes().all(plain)
            && !text.starts_with('-')
            && !text.ends_with('-');
        is_label.then(|| Label(text.to_owned())).ok_or(InvalidHostName)
    }

    /// The label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl HostName {
    /// Reads a name without its last dot.
    ///
    /// # Errors
    /// [`InvalidHostName`], also for upper case and for the root.
    pub fn parse(text: &str) -> Result<Self, InvalidHostName> {
        let is_name = text.len() <= NAME_MAX && text.split('.').all(|label| Label::parse(label).is_ok());
        is_name.then(|| HostName(text.to_owned())).ok_or(InvalidHostName)
    }

    /// `label` before this name; None: it would be too long.
    pub fn child(&self, label: &Label) -> Option<HostName> {
        let whole = format!("{}.{}", label.0, self.0);
        (whole.len() <= NAME_MAX).then_some(HostName(whole))
    }

    /// The name, without the last dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it ends with another, and is longer by labels.
    pub fn is_below(&self, other: &HostName) -> bool {
        let rest = self.0.strip_suffix(other.as_str());
        rest.is_some_and(|rest| rest.ends_with('.'))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A service with an address in the VPN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRecord {
    /// Its name.
    pub name: ServiceName,
    /// What stands before each of the cell's domains. One that another service has too is the first one's.
    pub subdomains: BTreeSet<Label>,
    /// Its address in the VPN; no other service and no peer has it.
    pub address: Ipv4Addr,
    /// Where it listens at that address.
    pub ports: BTreeSet<(Protocol, u16)>,
    /// Every peer may use it, whatever it is granted.
    pub everyone: bool,
    /// Where its container answers HTTP; `None`: it has nothing for browsers.
    pub web: Option<SocketAddrV4>,
}

/// A peer as services see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// Its tunnel addresses.
    pub addresses: Vec<IpAddr>,
    /// What it is granted ([`crate::access::AccessPolicy::services`]).
    pub granted: BTreeSet<Service>,
}

/// Another cell's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedZone {
    /// Its domain.
    pub zone: HostName,
    /// Who answers for it, beyond the tunnel to it.
    pub resolver: SocketAddr,
}

/// Everything that names and routes follow from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The cell's domains, the first first. One that is there twice counts once.
    pub domains: Vec<HostName>,
    /// In the order of names: the first has what two claim.
    pub services: Vec<ServiceRecord>,
    /// All peers.
    pub readers: Vec<Reader>,
    /// Linked cells. A zone that is the cell's own is not asked elsewhere.
    pub links: Vec<LinkedZone>,
}

impl Published {
    /// The domains, each once.
    pub fn distinct_domains(&self) -> Vec<&HostName> {
        let mut seen = BTreeSet::new();
        self.domains
            .iter()
            .filter(|domain| seen.insert(*domain))
            .collect()
    }

    /// The linked zones that are asked of others, each once. None that is a domain of this cell or the name of one of its services:
    /// CoreDNS takes the closest zone, so another cell would answer for it.
    pub fn foreign(&self) -> Vec<&LinkedZone> {
        let services = self.labels().into_iter().flatten();
        let names = services.flat_map(|label| self.domains.iter().filter_map(|domain| domain.child(label)));
        let mut seen: BTreeSet<HostName> = self.domains.iter().cloned().chain(names).collect();
        (self.links.iter())
            .filter(|link| seen.insert(link.zone.clone()))
            .collect()
    }

    /// The labels that each service really has, in the order of services: of two that claim one, the first has it.
    pub fn labels(&self) -> Vec<Vec<&Label>> {
        let mut taken = BTreeSet::new();
        let mut all = Vec::new();
        for service in &self.services {
            all.push(
                service
                    .subdomains
                    .iter()
                    .filter(|label| taken.insert(*label))
                    .collect(),
            );
        }
        all
    }

    /// Whether there is any name that others than the cell itself answer for.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.links.is_empty()
    }
}

impl ServiceRecord {
    /// Whether a grant opens it, at whichever of its ports.
    pub fn is_opened_by(&self, grant: &Service) -> bool {
        grant.address == IpAddr::V4(self.address) && self.ports.contains(&(grant.protocol, grant.port))
    }

    /// What a browser's connection is granted by.
    pub fn web_grant(&self) -> Service {
        Service {
            address: IpAddr::V4(self.address),
            protocol: Protocol::Tcp,
            port: HTTPS,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_have_nothing_that_a_config_reads_otherwise() {
        for bad in [
            "", ".", "a.", ".a", "a..b", "-a", "a-", "A", "a b", "a\nb", "a\"b", "{$HOME}", "{env.X}", "a;b",
            "*.a", "ä", "a_b", "a/b", "a'b", "a\\b", "$ORIGIN", "@", "#",
        ] {
            assert_eq!(HostName::parse(bad), Err(InvalidHostName), "{bad}");
        }
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        let longest = HostName::parse(&long).unwrap();
        assert!(HostName::parse(&format!("{long}d")).is_err());
        assert_eq!(longest.child(&Label::parse("a").unwrap()), None);
        assert!(Label::parse("a.b").is_err() && Label::parse(&"a".repeat(64)).is_err());
        let child = HostName::parse("home.cell")
            .unwrap()
            .child(&Label::parse("calendar").unwrap());
        let child = child.unwrap();
        assert_eq!(child.as_str(), "calendar.home.cell");
        let below = |other: &str| child.is_below(&HostName::parse(other).unwrap());
        assert!(below("home.cell") && below("cell"));
        assert!(!below("calendar.home.cell") && !below("ome.cell") && !below("home.example"));
    }

    #[test]
    fn no_other_cell_answers_for_this_ones_names() {
        let name = |text: &str| HostName::parse(text).unwrap();
        let link = |zone: &str| LinkedZone {
            zone: name(zone),
            resolver: "10.9.0.1:53".parse().unwrap(),
        };
        let zones = [
            "home.cell",
            "mail.home.cell",
            "mail.home.example",
            "cottage.home.cell",
            "friend.cell",
            "friend.cell",
        ];
        let published = Published {
            domains: vec![name("home.cell"), name("home.example")],
            services: vec![ServiceRecord {
                name: ServiceName::parse("email").unwrap(),
                subdomains: BTreeSet::from([Label::parse("mail").unwrap()]),
                address: Ipv4Addr::new(10, 8, 1, 1),
                ports: BTreeSet::new(),
                everyone: false,
                web: None,
            }],
            readers: Vec::new(),
            links: zones.map(link).to_vec(),
        };
        let foreign = published.foreign().into_iter().map(|link| link.zone.as_str());
        assert_eq!(foreign.collect::<Vec<_>>(), ["cottage.home.cell", "friend.cell"]);
    }
}
