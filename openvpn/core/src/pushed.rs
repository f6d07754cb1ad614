//! What a server gives its client: addresses, resolvers, the largest packet. It is a stranger's word: parsed into types, bounded,
//! and judged by netd before it is put in force.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most resolvers that are taken.
pub const RESOLVERS_MAX: usize = 8;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushed {
    /// IPv4 address of the near end.
    pub v4: Option<Ipv4Addr>,
    /// IPv6 address of the near end.
    pub v6: Option<Ipv6Addr>,
    /// In the server's order, each once.
    pub resolvers: Vec<IpAddr>,
    /// Bytes.
    pub mtu: Option<u16>,
}

/// What stands before the options in OpenVPN's log, and after them.
const BEFORE: &str = "PUSH: Received control message: 'PUSH_REPLY,";
const AFTER: char = '\'';

/// Resolvers and the largest packet of a line of OpenVPN's log; `None`: it is another line.
pub(crate) fn of_log(message: &str) -> Option<(Vec<IpAddr>, Option<u16>)> {
    let options = message.strip_prefix(BEFORE)?;
    let options = options.split(AFTER).next().unwrap_or_default();
    let (mut resolvers, mut mtu) = (Vec::new(), None);
    for option in options.split(',') {
        let words: Vec<&str> = option.split(' ').filter(|word| !word.is_empty()).collect();
        let named: &[&str] = match words.as_slice() {
            ["dhcp-option", "DNS" | "DNS6", resolver] => &[*resolver],
            // openvpn(8), --dns: server NUMBER address ADDRESS...
            ["dns", "server", _, "address", resolvers @ ..] => resolvers,
            ["tun-mtu", bytes] => {
                mtu = bytes.parse().ok();
                &[]
            }
            _ => &[],
        };
        for resolver in named {
            if let Some(ip) = resolver_of(resolver)
                && !resolvers.contains(&ip)
                && resolvers.len() < RESOLVERS_MAX
            {
                resolvers.push(ip);
            }
        }
    }
    Some((resolvers, mtu))
}

/// One that a question can be sent to. With a port it is no resolver that is asked at 53.
fn resolver_of(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.parse().ok()?;
    let ip = ip.to_canonical();
    let asked = !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback();
    asked.then_some(ip)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn of(options: &str) -> (Vec<String>, Option<u16>) {
        let (resolvers, mtu) = of_log(&format!("{BEFORE}{options}'")).unwrap();
        (resolvers.iter().map(ToString::to_string).collect(), mtu)
    }

    #[test]
    fn what_a_server_names_is_taken() {
        let told = "dhcp-option DNS 10.99.0.1,redirect-gateway def1,dhcp-option DNS6 fd99::1,dns server 1 address 9.9.9.9 fd99::2,\
                    route-gateway 10.99.0.1,tun-mtu 1400";
        assert_eq!(
            of(told),
            (
                ["10.99.0.1", "fd99::1", "9.9.9.9", "fd99::2"]
                    .map(str::to_owned)
                    .into(),
                Some(1400)
            )
        );
        assert_eq!(of_log("Initialization Sequence Completed"), None);
    }

    #[test]
    fn what_is_none_is_left_out() {
        assert_eq!(of(""), (vec![], None));
        let odd = "dhcp-option DNS 127.0.0.1,dhcp-option DNS 0.0.0.0,dhcp-option DNS x,dhcp-option DNS,tun-mtu 70000,\
                   dhcp-option DNS ::ffff:127.0.0.1,dhcp-option DOMAIN example";
        assert_eq!(of(odd), (vec![], None));
        let many: Vec<String> = (1..99).map(|n| format!("dhcp-option DNS 192.0.2.{n}")).collect();
        assert_eq!(of(&many.join(",")).0.len(), RESOLVERS_MAX);
        assert_eq!(of("dhcp-option DNS 9.9.9.9,dhcp-option DNS 9.9.9.9").0.len(), 1);
    }
}
