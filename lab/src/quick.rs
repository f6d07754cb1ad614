//! wg-quick(8) files, read as wg-quick reads them. Pure.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// What a file says to wg-quick; the rest is wg's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quick {
    /// `Address`: of the interface.
    pub addresses: Vec<IpNet>,
    /// `DNS`: resolvers. Search domains are left out.
    pub dns: Vec<IpAddr>,
    /// `MTU`.
    pub mtu: Option<u32>,
    /// `AllowedIPs` of all peers: what is routed into the tunnel.
    pub allowed_ips: Vec<IpNet>,
    /// `Endpoint` of the peers, where it is an address and not a name.
    pub endpoints: Vec<SocketAddr>,
}

/// A line that wg-quick would stop at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {value:?} is no {expected}")]
pub struct InvalidLine {
    /// From 1.
    pub line: usize,
    /// The offending value.
    pub value: String,
    /// What belongs there.
    pub expected: &'static str,
}

impl Quick {
    /// Reads a file's text. Comments, unknown keys and wg's own keys are passed over.
    ///
    /// # Errors
    /// The first [`InvalidLine`].
    pub fn parse(text: &str) -> Result<Self, InvalidLine> {
        let mut quick = Quick::default();
        for (index, line) in text.lines().enumerate() {
            let Some((key, value)) = line.split('#').next().unwrap_or_default().split_once('=') else {
                continue;
            };
            let values = || value.split(',').map(str::trim).filter(|value| !value.is_empty());
            let invalid = |value: &str, expected| InvalidLine {
                line: index + 1,
                value: value.to_owned(),
                expected,
            };
            match key.trim().to_ascii_lowercase().as_str() {
                "address" => {
                    for value in values() {
                        quick
                            .addresses
                            .push(prefix(value).ok_or_else(|| invalid(value, "address"))?);
                    }
                }
                "allowedips" => {
                    for value in values() {
                        quick
                            .allowed_ips
                            .push(prefix(value).ok_or_else(|| invalid(value, "prefix"))?.trunc());
                    }
                }
                "dns" => quick
                    .dns
                    .extend(values().filter_map(|value| value.parse::<IpAddr>().ok())),
                "mtu" => quick.mtu = Some(value.trim().parse().map_err(|_| invalid(value, "MTU"))?),
                "endpoint" => quick.endpoints.extend(value.trim().parse::<SocketAddr>().ok()),
                _ => {}
            }
        }
        Ok(quick)
    }
}

/// Puts a private key into the empty `PrivateKey = ` line of a downloaded file, as the device's owner does.
pub fn with_private_key(text: &str, key: &str) -> String {
    let fill = |line: &str| match line.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("PrivateKey") && value.trim().is_empty() => {
            format!("PrivateKey = {key}\n")
        }
        _ => format!("{line}\n"),
    };
    text.lines().map(fill).collect()
}

/// An address without a length is a host.
fn prefix(value: &str) -> Option<IpNet> {
    value
        .parse()
        .ok()
        .or_else(|| value.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const FILE: &str = "[Interface]\n\
        PrivateKey = \n\
        Address = 10.8.0.2/32, fd00::2/128\n\
        DNS = 10.8.0.1, home.arpa # the cell\n\
        mtu=1420\n\
        [Peer]\n\
        PublicKey = AAAA=\n\
        AllowedIPs = 0.0.0.0/0,::/0\n\
        Endpoint = [2001:db8::1]:51820\n";

    #[test]
    fn a_file_is_read_as_wg_quick_reads_it() {
        let quick = Quick::parse(FILE).unwrap();
        assert_eq!(
            quick.addresses,
            ["10.8.0.2/32".parse().unwrap(), "fd00::2/128".parse().unwrap()]
        );
        assert_eq!(quick.dns, ["10.8.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(quick.mtu, Some(1420));
        assert_eq!(
            quick.allowed_ips,
            ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]
        );
        assert_eq!(quick.endpoints, ["[2001:db8::1]:51820".parse().unwrap()]);
    }

    #[test]
    fn nonsense_is_named_with_its_line() {
        let fault = Quick::parse("[Interface]\nAddress = 10.8.0.2/33\n").unwrap_err();
        assert_eq!(
            fault,
            InvalidLine {
                line: 2,
                value: "10.8.0.2/33".into(),
                expected: "address"
            }
        );
    }

    #[test]
    fn only_an_empty_private_key_is_filled_in() {
        let filled = with_private_key(FILE, "k=");
        assert!(filled.contains("PrivateKey = k=\n"));
        assert_eq!(with_private_key(&filled, "other="), filled);
    }
}
