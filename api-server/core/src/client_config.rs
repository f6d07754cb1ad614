//! The wg-quick configuration of a device (wg-quick(8)), from typed values alone.
//!
//! Where the cell answers DNS, the device asks the cell: its own names are known nowhere else.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::access::Tunnel;
use crate::derive::MTU_BYTES;
use crate::key::PublicKey;
use crate::name::EndpointHost;
use crate::peer::Peer;
use crate::range::{HostIndex, VpnRange};

/// Seconds between keepalives, so that the NAT in front of a device keeps its mapping.
pub const KEEPALIVE_SECONDS: u16 = 25;

/// The cell's side of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellSide {
    /// The cell's key.
    pub public_key: PublicKey,
    /// The VPN's addresses.
    pub range: VpnRange,
    /// Where devices connect to.
    pub endpoint_host: EndpointHost,
    /// The UDP port that they connect to.
    pub listen_port: u16,
    /// Whether the cell answers DNS: naming a resolver that does not would take the device's names away.
    pub dns: bool,
}

/// Renders the configuration. `private_key` is the base64 of a key that the server made for this answer; without it
/// the line is left for the device to fill in.
pub fn render(cell: &CellSide, peer: &Peer, private_key: Option<&str>) -> Zeroizing<String> {
    let [v4, v6] = cell.range.addresses_of(peer.host).map(IpNet::from);
    let mut text = Zeroizing::new(String::with_capacity(1024));
    // Writing to a String cannot fail.
    let _ = writeln!(text, "[Interface]");
    let _ = writeln!(text, "PrivateKey = {}", private_key.unwrap_or_default());
    let _ = writeln!(text, "Address = {v4}, {v6}");
    if cell.dns {
        let [v4, v6] = cell.range.addresses_of(HostIndex::CELL);
        let _ = writeln!(text, "DNS = {v4}, {v6}");
    }
    let _ = writeln!(text, "MTU = {MTU_BYTES}");
    let _ = writeln!(text);
    let _ = writeln!(text, "[Peer]");
    let _ = writeln!(text, "PublicKey = {}", cell.public_key);
    let _ = writeln!(text, "AllowedIPs = {}", allowed_ips(&cell.range, peer));
    let _ = writeln!(
        text,
        "Endpoint = {}",
        endpoint(&cell.endpoint_host, cell.listen_port)
    );
    let _ = writeln!(text, "PersistentKeepalive = {KEEPALIVE_SECONDS}");
    text
}

/// SHA-256 of the configuration without its key: when it differs from that of the configuration which the device got,
/// the device needs the new one.
pub fn fingerprint(cell: &CellSide, peer: &Peer) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(render(cell, peer, None).as_bytes());
    // A new key of the device needs a new configuration too, though the text without it is the same.
    hash.update(peer.public_key.as_bytes());
    hash.finalize().into()
}

/// What the device sends into its tunnel.
pub(crate) fn allowed_ips(range: &VpnRange, peer: &Peer) -> String {
    match peer.tunnel {
        Tunnel::Full => "0.0.0.0/0, ::/0".to_owned(),
        Tunnel::Split => {
            let ranges = [IpNet::V4(range.v4()), IpNet::V6(range.v6())];
            let inside = |address: &IpAddr| ranges.iter().any(|range| range.contains(address));
            let mut services: Vec<IpAddr> = peer
                .access
                .services
                .iter()
                .map(|service| service.address)
                .collect();
            services.dedup();
            services.retain(|address| !inside(address));
            let all = ranges.into_iter().chain(services.into_iter().map(IpNet::from));
            all.map(|net| net.to_string()).collect::<Vec<_>>().join(", ")
        }
    }
}

fn endpoint(host: &EndpointHost, port: u16) -> String {
    match host {
        EndpointHost::Address(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        host => format!("{host}:{port}"),
    }
}
