//! WireGuard files whose keys stand beside them, or that are written of their parts.

use zeroize::Zeroizing;

/// Whether the file has one of the keys that are given beside it.
pub(super) fn holds_keys(whole: &str, own: &str, theirs: &str) -> bool {
    let has = |key: &str| {
        whole.lines().any(|line| {
            let name = line.split('=').next().unwrap_or_default().trim();
            name.eq_ignore_ascii_case(key)
        })
    };
    (!own.is_empty() && has(INTERFACE[0].0)) || (!theirs.is_empty() && has(PEER[0].0))
}

/// The file with the keys below its first sections; what a fault calls a line comes so many lines further down.
pub(super) fn with_keys(whole: &str, own: &str, theirs: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(whole.len() + own.len() + theirs.len() + 1));
    let (mut own, mut theirs) = (own, theirs);
    for line in whole.lines() {
        text.push_str(line);
        text.push('\n');
        match line.trim().to_ascii_lowercase().as_str() {
            "[interface]" => text.push_str(std::mem::take(&mut own)),
            "[peer]" => text.push_str(std::mem::take(&mut theirs)),
            _ => {}
        }
    }
    text
}

/// Keys of [Interface], and what each may be called; the secret one first.
pub(super) const INTERFACE: [(&str, &[&str]); 4] = [
    ("PrivateKey", &["private_key"]),
    ("Address", &["address", "addresses"]),
    ("DNS", &["dns", "dns_servers"]),
    ("MTU", &["mtu"]),
];

/// The same of [Peer].
pub(super) const PEER: [(&str, &[&str]); 5] = [
    ("PresharedKey", &["preshared_key", "psk"]),
    (
        "PublicKey",
        &["peer_public_key", "public_key", "server_public_key"],
    ),
    ("AllowedIPs", &["allowed_ips"]),
    ("Endpoint", &["endpoint"]),
    ("PersistentKeepalive", &["persistent_keepalive", "keepalive"]),
];
