//! The policy that the tests decide under.
#![allow(clippy::unwrap_used, reason = "tests")]

use cell_vaultd_core::policy::{CallerSpec, CallersSpec};
use cell_vaultd_core::{Policy, PolicySpec};

/// As in docs/runtime.md, with two suffixes and three prefixes.
pub fn spec() -> PolicySpec {
    let caller = |user: &str| CallerSpec {
        users: vec![user.to_owned()],
        unit: None,
    };
    PolicySpec {
        state: "/var/lib/cell/vaultd".into(),
        dns_suffixes: vec!["cell".into(), "home.arpa".into()],
        address_prefixes: vec!["10.0.0.0/8".into(), "fc00::/7".into(), "127.0.0.0/8".into()],
        leaf_lifetime_hours: 24,
        issuances_per_hour: 60,
        secrets_max: 3,
        api_secret_prefixes: vec!["conn_".into(), "ddns_".into()],
        callers: CallersSpec {
            api: caller("cell-api"),
            netd: caller("cell-netd"),
            egress: Some(caller("cell-egress")),
            openvpn: Some(caller("cell-openvpn")),
            broker: Some(caller("cell-broker")),
        },
    }
}

/// [`spec`], checked.
pub fn policy() -> Policy {
    Policy::try_from(spec()).unwrap()
}
