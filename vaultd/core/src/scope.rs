//! Which names and addresses may be certified: the ceiling says it, and the root certificate is constrained to what the
//! ceiling said when it was made.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::dns::DnsName;

/// A set of DNS names and addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameScope {
    /// Names that are one of these or lie below one are in.
    pub dns_suffixes: Vec<DnsName>,
    /// Addresses inside one of these are in.
    pub address_prefixes: Vec<IpNet>,
}

/// A line of [`NameScope::decode`] that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {0} of a stored name scope cannot be read")]
pub struct InvalidScope(usize);

impl NameScope {
    /// Whether `name` is in.
    pub fn has_name(&self, name: &DnsName) -> bool {
        self.dns_suffixes.iter().any(|suffix| name.is_within(suffix))
    }

    /// Whether `address` is in. An IPv4-mapped IPv6 address counts as the IPv6 address that it is.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.address_prefixes
            .iter()
            .any(|prefix| prefix.contains(&address))
    }

    /// One line for each member, to be kept beside the root's key.
    pub fn encode(&self) -> String {
        let names = self.dns_suffixes.iter().map(|name| format!("dns {name}\n"));
        let prefixes = self
            .address_prefixes
            .iter()
            .map(|prefix| format!("ip {prefix}\n"));
        names.chain(prefixes).collect()
    }

    /// Reads what [`NameScope::encode`] wrote.
    ///
    /// # Errors
    /// The number (from 1) of the first line that is not one.
    pub fn decode(text: &str) -> Result<Self, InvalidScope> {
        let mut scope = NameScope {
            dns_suffixes: Vec::new(),
            address_prefixes: Vec::new(),
        };
        for (number, line) in text.lines().enumerate() {
            let invalid = InvalidScope(number + 1);
            match line.split_once(' ') {
                Some(("dns", name)) => scope.dns_suffixes.push(name.parse().map_err(|_| invalid)?),
                Some(("ip", prefix)) => scope.address_prefixes.push(prefix.parse().map_err(|_| invalid)?),
                _ => return Err(invalid),
            }
        }
        Ok(scope)
    }
}
