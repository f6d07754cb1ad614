//! Single words of rules and sets.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Family, PREFIX};

/// The longest name of a chain: XT_EXTENSION_MAXNAMELEN without its NUL (linux/netfilter/x_tables.h).
const CHAIN_MAX: usize = 28;
/// IPSET_MAXNAMELEN without its NUL (linux/netfilter/ipset/ip_set.h).
const SET_MAX: usize = 31;

fn named(text: &str, longest: usize) -> bool {
    text.len() <= longest && text.strip_prefix(PREFIX).is_some_and(plain)
}

fn plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !text.is_empty() && text.bytes().all(plain)
}

/// A chain, whosever it is: a name that the program takes for one (parse_chain in iptables/xshared.c). Quotes and escapes are in no line.
pub(crate) fn any_chain(text: &str) -> bool {
    (1..=CHAIN_MAX).contains(&text.len()) && !text.starts_with(['-', '!'])
}

/// A chain of Cell's.
pub(crate) fn chain(text: &str) -> bool {
    named(text, CHAIN_MAX)
}

/// A set of Cell's.
pub(crate) fn set(text: &str) -> bool {
    named(text, SET_MAX)
}

/// The name of an interface, or what names begin with (`cellsvc+`): four characters at least, so that few of the machine's do.
pub(crate) fn interfaces(text: &str) -> bool {
    match text.strip_suffix('+') {
        Some(prefix) => (4..=14).contains(&prefix.len()) && interface(prefix),
        None => interface(text),
    }
}

/// The name of an interface, and no pattern.
pub(crate) fn interface(text: &str) -> bool {
    text.len() <= 15 && plain(text) && !text.starts_with('-')
}

/// An address or a prefix of the family: never a name, which a program would look up.
pub(crate) fn net(text: &str, family: Family) -> bool {
    let net = text.parse::<IpNet>().ok();
    let net = net.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    matches!(
        (net, family),
        (Some(IpNet::V4(_)), Family::V4) | (Some(IpNet::V6(_)), Family::V6)
    )
}

/// A decimal number.
pub(crate) fn decimal(text: &str) -> bool {
    !text.is_empty() && text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A port.
pub(crate) fn port(text: &str) -> bool {
    decimal(text) && text.parse::<u16>().is_ok()
}

fn hexadecimal(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|digits| {
        (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// `0x…`.
pub(crate) fn bits(text: &str) -> bool {
    hexadecimal(text)
}

/// `0x…/0x…`.
pub(crate) fn mark(text: &str) -> bool {
    text.split_once('/')
        .is_some_and(|(value, mask)| hexadecimal(value) && hexadecimal(mask))
}

/// One to three of `src` and `dst`, with commas.
pub(crate) fn directions(text: &str) -> bool {
    text.split(',').count() <= 3 && text.split(',').all(|word| matches!(word, "src" | "dst"))
}

/// An address and a port, as a destination of DNAT.
pub(crate) fn destination(text: &str, family: Family) -> bool {
    text.parse::<std::net::SocketAddr>().is_ok_and(|to| match family {
        Family::V4 => to.is_ipv4(),
        Family::V6 => to.is_ipv6(),
    })
}
