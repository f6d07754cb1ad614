//! Packet counters in a namespace: what a denial is proven by, besides the silence.
//!
//! A counter sits before everything else in its namespace (hook prerouting, priority raw - 100), so it sees each packet
//! that arrives, whatever becomes of it.

use std::fmt;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, Result};
use ipnet::IpNet;

use crate::netns::{Namespace, unique};
use crate::process::{run, run_with_input};

/// Transport of the counted packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, to a port if one is given.
    Tcp(Option<u16>),
    /// UDP, to a port if one is given.
    Udp(Option<u16>),
    /// ICMP echo requests of the family.
    Ping,
    /// Whatever it is.
    Any,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protocol::Tcp(port) => write!(f, "TCP{}", shown(*port)),
            Protocol::Udp(port) => write!(f, "UDP{}", shown(*port)),
            Protocol::Ping => f.write_str("ping"),
            Protocol::Any => f.write_str("anything"),
        }
    }
}

fn shown(port: Option<u16>) -> String {
    port.map(|port| format!(" {port}")).unwrap_or_default()
}

/// Which packets count: all that is given must match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// The family; follows from the destination or the source.
    v6: bool,
    source: Option<IpNet>,
    destination: Option<IpNet>,
    protocol: Protocol,
}

impl Spec {
    /// Packets to `destination`, an address or a prefix.
    pub fn to(destination: impl Into<IpNet>, protocol: Protocol) -> Self {
        let destination = destination.into();
        Spec {
            v6: is_v6(destination),
            source: None,
            destination: Some(destination),
            protocol,
        }
    }

    /// Packets from `source`, an address or a prefix.
    pub fn from(source: impl Into<IpNet>, protocol: Protocol) -> Self {
        let source = source.into();
        Spec {
            v6: is_v6(source),
            source: Some(source),
            destination: None,
            protocol,
        }
    }

    /// And only those from `source`, of the same family.
    #[must_use]
    pub fn and_from(self, source: impl Into<IpNet>) -> Self {
        Spec {
            source: Some(source.into()),
            ..self
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ip, icmp) = if self.v6 {
            ("ip6", "icmpv6")
        } else {
            ("ip", "icmp")
        };
        write!(f, "meta nfproto {}", if self.v6 { "ipv6" } else { "ipv4" })?;
        if let Some(source) = self.source {
            write!(f, " {ip} saddr {source}")?;
        }
        if let Some(destination) = self.destination {
            write!(f, " {ip} daddr {destination}")?;
        }
        match self.protocol {
            Protocol::Tcp(Some(port)) => write!(f, " tcp dport {port}"),
            Protocol::Udp(Some(port)) => write!(f, " udp dport {port}"),
            Protocol::Tcp(None) => f.write_str(" meta l4proto tcp"),
            Protocol::Udp(None) => f.write_str(" meta l4proto udp"),
            Protocol::Ping => write!(f, " {icmp} type echo-request"),
            Protocol::Any => Ok(()),
        }
    }
}

/// A counter in force. It goes with its namespace.
#[derive(Debug, Clone)]
pub struct Counter {
    namespace: String,
    table: String,
}

impl Counter {
    /// Puts a counter in force.
    ///
    /// # Errors
    /// With nft's words.
    pub fn install(namespace: &Namespace, spec: Spec) -> Result<Self> {
        let table = format!("lab{}", unique());
        let rules = format!(
            "table inet {table} {{
                counter arrived {{ }}
                chain arriving {{
                    type filter hook prerouting priority -400; policy accept;
                    {spec} counter name arrived
                }}
            }}"
        );
        namespace.inside(|| run_with_input(Command::new("nft").args(["-f", "-"]), &rules))??;
        Ok(Counter {
            namespace: namespace.name().to_owned(),
            table,
        })
    }

    /// Packets counted so far.
    ///
    /// # Errors
    /// With nft's words, e.g. when its namespace is gone.
    pub fn packets(&self) -> Result<u64> {
        let arguments = [
            "netns",
            "exec",
            &self.namespace,
            "nft",
            "-j",
            "list",
            "counter",
            "inet",
            &self.table,
            "arrived",
        ];
        let answer: serde_json::Value = serde_json::from_str(&run(Command::new("ip").args(arguments))?)?;
        answer["nftables"]
            .as_array()
            .and_then(|objects| {
                objects
                    .iter()
                    .find_map(|object| object["counter"]["packets"].as_u64())
            })
            .context("nft answers without a counter")
    }
}

/// The prefix of one address.
pub fn host(address: impl Into<IpAddr>) -> IpNet {
    IpNet::from(address.into())
}

fn is_v6(net: IpNet) -> bool {
    matches!(net, IpNet::V6(_))
}
