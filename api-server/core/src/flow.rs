//! A flow that somebody asks about: where to, and what.

use std::net::IpAddr;

use crate::access::Protocol;
use crate::fault::Faults;

/// What its first packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// A segment or datagram to this port, 1-65535.
    Port(Protocol, u16),
    /// An ICMP or ICMPv6 echo request.
    Ping,
}

/// A flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowQuestion {
    /// Where to.
    pub destination: IpAddr,
    /// What.
    pub payload: Payload,
}

/// As received, unchecked; what is empty was not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowInput {
    /// An address.
    pub destination: String,
    /// `tcp`, `udp` or `ping`; empty: `tcp` where there is a port, else `ping`.
    pub protocol: String,
    /// 1-65535, for `tcp` and `udp` alone.
    pub port: String,
}

impl FlowInput {
    /// Checks it.
    ///
    /// # Errors
    /// Every fault.
    pub fn check(&self) -> Result<FlowQuestion, Faults> {
        let mut faults = Faults::default();
        let rule = "must be an IPv4 or IPv6 address";
        let destination = faults.keep(
            "destination",
            self.destination.parse::<IpAddr>().map_err(|_| rule),
        );
        let port = (!self.port.is_empty()).then(|| {
            let port = self.port.parse::<u16>().ok().filter(|port| *port > 0);
            faults.keep("port", port.ok_or("must be 1-65535"))
        });
        let payload = match (self.protocol.as_str(), port) {
            ("tcp" | "", Some(port)) => port.map(|port| Payload::Port(Protocol::Tcp, port)),
            ("udp", Some(port)) => port.map(|port| Payload::Port(Protocol::Udp, port)),
            ("ping" | "", None) => Some(Payload::Ping),
            ("tcp" | "udp", None) => faults.keep("port", Err("is required for tcp and udp")),
            ("ping", Some(_)) => faults.keep("port", Err("a ping has none")),
            _ => faults.keep("protocol", Err("must be tcp, udp or ping")),
        };
        match (destination, payload) {
            (Some(destination), Some(payload)) if faults.is_empty() => {
                Ok(FlowQuestion { destination, payload })
            }
            _ => Err(faults),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn input(destination: &str, protocol: &str, port: &str) -> FlowInput {
        FlowInput {
            destination: destination.into(),
            protocol: protocol.into(),
            port: port.into(),
        }
    }

    #[test]
    fn what_is_left_out_is_what_is_meant() {
        for (protocol, port, payload) in [
            ("", "443", Payload::Port(Protocol::Tcp, 443)),
            ("udp", "53", Payload::Port(Protocol::Udp, 53)),
            ("", "", Payload::Ping),
        ] {
            assert_eq!(input("fd86::1", protocol, port).check().unwrap().payload, payload);
        }
    }

    #[test]
    fn every_fault_is_named() {
        for (input, fields) in [
            (
                input("example.org", "icmp", "0"),
                &["destination", "port", "protocol"][..],
            ),
            (input("10.0.0.1", "tcp", ""), &["port"]),
            (input("10.0.0.1", "ping", "7"), &["port"]),
            (input("10.0.0.1", "udp", "65536"), &["port"]),
        ] {
            let faults = input.check().unwrap_err();
            let named: Vec<_> = faults
                .violations()
                .iter()
                .map(|fault| fault.field.as_str())
                .collect();
            assert_eq!(named, fields, "{input:?}");
        }
    }
}
