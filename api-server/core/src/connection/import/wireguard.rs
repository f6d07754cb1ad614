//! WireGuard configuration files as `wg-quick` takes them (wg(8), "CONFIGURATION FILE FORMAT"; wg-quick(8)).

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::host::{self, Loopback};
use super::line::{lines, place};
use super::{Imported, Secret};
use crate::fault::Faults;
use crate::key::PublicKey;
use crate::name::EndpointHost;

/// The largest file, bytes.
const MAX: usize = 64 * 1024;
/// The most peers, addresses, resolvers; what providers hand out has one or two of each.
const PEERS: usize = 8;
const ADDRESSES: usize = 8;
const RESOLVERS: usize = 8;
const ALLOWED_IPS: usize = 256;

/// The private key's field at the vault, by which vaultd knows that it is netd's to read.
pub const PRIVATE_KEY: &str = "wireguard_key";

/// A WireGuard tunnel to somebody else's server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireguardExit {
    /// The cell's addresses in the tunnel, with the prefixes that are on-link there.
    pub addresses: Vec<IpNet>,
    /// Resolvers to ask through the tunnel.
    pub resolvers: Vec<IpAddr>,
    /// Largest packet in the tunnel, bytes, if the file says one.
    pub mtu: Option<u16>,
    /// The servers.
    pub peers: Vec<ExitPeer>,
}

/// A server of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitPeer {
    /// Its key.
    pub public_key: PublicKey,
    /// Where it is.
    pub host: EndpointHost,
    /// Its UDP port.
    pub port: u16,
    /// What it carries.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between keepalives; 0: none.
    pub keepalive_seconds: u16,
    /// Whether the vault has a preshared key for it, as [`preshared_key`] names it.
    pub preshared_key: bool,
}

/// The field of the preshared key of peer `index`, from 0.
pub fn preshared_key(index: usize) -> String {
    format!("preshared_key_{}", index + 1)
}

/// Reads a file.
///
/// # Errors
/// Every fault, each with its line.
pub fn read(text: &str) -> Result<Imported<WireguardExit>, Faults> {
    let mut file = File::default();
    for (number, line) in lines(text, MAX, &mut file.faults) {
        file.line(number, line);
    }
    file.finish()
}

/// The sections of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Interface,
    Peer,
}

#[derive(Default)]
struct File {
    section: Option<Section>,
    interfaces: usize,
    private_key: Option<Zeroizing<String>>,
    addresses: Vec<IpNet>,
    resolvers: Vec<IpAddr>,
    mtu: Option<u16>,
    peers: Vec<HalfPeer>,
    notes: Vec<String>,
    faults: Faults,
}

#[derive(Default)]
struct HalfPeer {
    line: usize,
    public_key: Option<PublicKey>,
    endpoint: Option<(EndpointHost, u16)>,
    allowed_ips: Vec<IpNet>,
    keepalive_seconds: u16,
    preshared_key: Option<Zeroizing<String>>,
}

impl File {
    fn line(&mut self, number: usize, line: &str) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            return;
        }
        if line.starts_with('[') {
            return self.section(number, line);
        }
        let Some((key, value)) = line.split_once('=') else {
            return self.faults.add(
                place(number),
                "must be a section in brackets, or a key, = and a value",
            );
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        let place = format!("{} ({})", place(number), shown(&key));
        match self.section {
            None => self.faults.add(place, "must stand below [Interface] or [Peer]"),
            Some(Section::Interface) => self.of_interface(place, &key, value),
            Some(Section::Peer) => self.of_peer(place, &key, value),
        }
    }

    fn section(&mut self, number: usize, line: &str) {
        match line.to_ascii_lowercase().as_str() {
            "[interface]" => {
                self.section = Some(Section::Interface);
                self.interfaces += 1;
                if self.interfaces == 2 {
                    self.faults
                        .add(place(number), "must not begin a second [Interface]");
                }
            }
            "[peer]" => {
                self.section = Some(Section::Peer);
                if self.peers.len() == PEERS {
                    self.faults
                        .add(place(number), format!("must not begin more than {PEERS} peers"));
                }
                self.peers.push(HalfPeer {
                    line: number,
                    ..HalfPeer::default()
                });
            }
            _ => self.faults.add(place(number), "must be [Interface] or [Peer]"),
        }
    }

    fn of_interface(&mut self, place: String, key: &str, value: &str) {
        let faults = &mut self.faults;
        match key {
            "privatekey" => self.private_key = faults.keep(place, secret_key(value)),
            "address" => list(place, value, ADDRESSES, &mut self.addresses, faults, net),
            "dns" => {
                let is_address = |name: &&str| name.parse::<IpAddr>().is_ok();
                let (addresses, domains): (Vec<&str>, Vec<&str>) = items(value).partition(is_address);
                if !domains.is_empty() {
                    self.notes.push("search domains below DNS are not used".to_owned());
                }
                list(place, &addresses.join(","), RESOLVERS, &mut self.resolvers, faults, |text| {
                    text.parse().map_err(|_| "must be addresses")
                });
            }
            "mtu" => self.mtu = faults.keep(place, number(value, 1280, 9000)),
            "listenport" | "fwmark" | "table" | "saveconfig" => {
                let name = shown(key);
                self.notes.push(format!("{name} is not used: the cell chooses ports, marks and routes itself"));
            }
            "preup" | "postup" | "predown" | "postdown" => faults.add(
                place,
                "runs a program on the cell, which a file that is imported may not do: remove the line, the cell routes \
                 by itself",
            ),
            _ => faults.add(place, "is not a key of [Interface] (wg(8), wg-quick(8))"),
        }
    }

    fn of_peer(&mut self, place: String, key: &str, value: &str) {
        let faults = &mut self.faults;
        let Some(peer) = self.peers.last_mut() else { return };
        match key {
            "publickey" => peer.public_key = faults.keep(place, PublicKey::parse(value)),
            "presharedkey" => peer.preshared_key = faults.keep(place, secret_key(value)),
            "endpoint" => peer.endpoint = faults.keep(place, endpoint(value)),
            "allowedips" => list(place, value, ALLOWED_IPS, &mut peer.allowed_ips, faults, net),
            "persistentkeepalive" if value.eq_ignore_ascii_case("off") => peer.keepalive_seconds = 0,
            "persistentkeepalive" => {
                peer.keepalive_seconds = faults.keep(place, number(value, 0, u16::MAX)).unwrap_or_default();
            }
            _ => faults.add(place, "is not a key of [Peer] (wg(8))"),
        }
    }

    /// What no line alone can say.
    fn check_whole(&mut self) {
        let missing = |what| format!("{what} is missing");
        if self.private_key.is_none() {
            self.faults.add("[Interface]", missing("PrivateKey"));
        } else if self.addresses.is_empty() {
            self.faults.add("[Interface]", missing("Address"));
        }
        if self.peers.is_empty() {
            self.faults.add("", missing("[Peer], the server,"));
        }
        for peer in &self.peers {
            let lacks = match peer {
                HalfPeer { public_key: None, .. } => "PublicKey",
                HalfPeer { endpoint: None, .. } => "Endpoint",
                HalfPeer { allowed_ips, .. } if allowed_ips.is_empty() => "AllowedIPs",
                HalfPeer { .. } => continue,
            };
            self.faults
                .add(format!("[Peer] of line {}", peer.line), missing(lacks));
        }
        let mut keys: Vec<_> = self.peers.iter().filter_map(|peer| peer.public_key).collect();
        keys.sort();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            self.faults
                .add("", "must not have two peers with the same PublicKey");
        }
    }

    fn finish(mut self) -> Result<Imported<WireguardExit>, Faults> {
        if self.faults.is_empty() {
            self.check_whole();
        }
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let mut secrets: Vec<Secret> = self
            .private_key
            .into_iter()
            .map(|key| Secret::new(PRIVATE_KEY, key.as_str()))
            .collect();
        let mut peers = Vec::with_capacity(self.peers.len());
        for (index, peer) in self.peers.into_iter().enumerate() {
            let (Some(public_key), Some((host, port))) = (peer.public_key, peer.endpoint) else {
                continue;
            };
            secrets.extend(
                peer.preshared_key
                    .as_ref()
                    .map(|key| Secret::new(preshared_key(index), key.as_str())),
            );
            peers.push(ExitPeer {
                public_key,
                host,
                port,
                allowed_ips: peer.allowed_ips,
                keepalive_seconds: peer.keepalive_seconds,
                preshared_key: peer.preshared_key.is_some(),
            });
        }
        let config = WireguardExit {
            addresses: self.addresses,
            resolvers: self.resolvers,
            mtu: self.mtu,
            peers,
        };
        Ok(Imported {
            config,
            secrets,
            notes: self.notes,
        })
    }
}

/// A key as people write it; anything else is not repeated.
fn shown(key: &str) -> String {
    const KNOWN: [&str; 16] = [
        "PrivateKey",
        "Address",
        "DNS",
        "MTU",
        "ListenPort",
        "FwMark",
        "Table",
        "SaveConfig",
        "PreUp",
        "PostUp",
        "PreDown",
        "PostDown",
        "PublicKey",
        "PresharedKey",
        "Endpoint",
        "AllowedIPs",
    ];
    let known = KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(key));
    known
        .unwrap_or(if key == "persistentkeepalive" {
            "PersistentKeepalive"
        } else {
            "unknown key"
        })
        .to_owned()
}

fn items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn list<T, E: std::fmt::Display>(
    place: String,
    value: &str,
    max: usize,
    into: &mut Vec<T>,
    faults: &mut Faults,
    read: impl Fn(&str) -> Result<T, E>,
) {
    for item in items(value) {
        match read(item) {
            Err(error) => return faults.add(place, error),
            Ok(_) if into.len() == max => return faults.add(place, format!("must not name more than {max}")),
            Ok(item) => into.push(item),
        }
    }
}

fn net(text: &str) -> Result<IpNet, &'static str> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse()
        .or_else(|_| alone())
        .map_err(|_| "must be addresses or prefixes, e.g. 10.2.0.2/32, ::/0")
}

fn number(text: &str, min: u16, max: u16) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text
        .parse::<u16>()
        .ok()
        .filter(|number| digits && (min..=max).contains(number));
    number.ok_or_else(|| format!("must be a number from {min} to {max}"))
}

fn endpoint(text: &str) -> Result<(EndpointHost, u16), String> {
    let wrong = || "must be a host and a port, e.g. vpn.example.org:51820 or [2001:db8::1]:51820".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = host::server(bracketed.unwrap_or(host), Loopback::Never)?;
    let is_v6 = matches!(host, EndpointHost::Address(IpAddr::V6(_)));
    if is_v6 != bracketed.is_some() {
        return Err(wrong());
    }
    Ok((host, number(port, 1, u16::MAX)?))
}

/// 32 bytes in base64 that are not all zero: kept as written, once it is seen to be one.
fn secret_key(text: &str) -> Result<Zeroizing<String>, &'static str> {
    const WRONG: &str = "must be a WireGuard key: 44 characters of base64";
    let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| WRONG)?);
    if bytes.len() == 32 && bytes.iter().any(|byte| *byte != 0) {
        Ok(Zeroizing::new(text.to_owned()))
    } else {
        Err(WRONG)
    }
}

#[cfg(test)]
mod tests;
