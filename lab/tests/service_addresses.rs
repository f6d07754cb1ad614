//! At which addresses a service can be, as netd judges. Whoever accepts a service before netd does must judge the same, or a
//! peer is saved that no Apply takes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::IpAddr;

use cell_netd_core::validate::service_address_allowed;

/// Address, and whether a service can be there.
pub const ADDRESSES: &[(&str, bool)] = &[
    ("10.0.5.7", true),
    ("172.17.0.2", true),
    ("192.168.9.50", true),
    ("100.64.0.1", true),
    ("198.51.100.7", true),
    ("1.1.1.1", true),
    ("fd00::7", true),
    ("2001:db8::7", true),
    ("2606:4700::1111", true),
    ("64:ff9b::1.1.1.1", true),
    ("::ffff:10.0.0.1", true),
    // Unspecified, "this network", broadcast.
    ("0.0.0.0", false),
    ("0.1.2.3", false),
    ("0.255.255.255", false),
    ("255.255.255.255", false),
    ("::", false),
    ("::ffff:0.0.0.0", false),
    // Loopback.
    ("127.0.0.1", false),
    ("127.255.255.254", false),
    ("::1", false),
    ("::ffff:127.0.0.1", false),
    // Multicast.
    ("224.0.0.251", false),
    ("239.255.255.255", false),
    ("ff02::fb", false),
    // Link-local, the cloud's metadata service among them.
    ("169.254.0.1", false),
    ("169.254.169.254", false),
    ("::ffff:169.254.169.254", false),
    ("fe80::1", false),
    ("febf::1", false),
    // The neighbours of those.
    ("1.0.0.0", true),
    ("126.255.255.255", true),
    ("128.0.0.1", true),
    ("169.253.255.255", true),
    ("169.255.0.0", true),
    ("223.255.255.255", true),
    ("240.0.0.1", true),
    ("255.255.255.254", true),
    ("fec0::1", true),
    ("::2", true),
];

#[test]
fn netd_judges_by_the_table() {
    for (address, allowed) in ADDRESSES {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(service_address_allowed(address), *allowed, "{address}");
    }
}
