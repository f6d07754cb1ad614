//! Who may do what, under which ceiling, and whether the vault may open.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use cell_vaultd_core::rate::{Full, Window};
use cell_vaultd_core::seal::{Decision, KekFinding, SealReason, StateFinding, decide};
use cell_vaultd_core::{Action, Denial, Policy, Role, SecretName, may};
use proptest::prelude::*;

mod common;
use common::{policy, spec};

#[test]
fn what_is_secret_is_for_the_daemons_alone_and_nothing_else_is() {
    let policy = policy();
    for action in Action::ALL {
        let (key, exit) = (
            action == Action::GetWireguardPrivateKey,
            action == Action::ReadExitSecret,
        );
        let service = action == Action::ReadServiceSecret;
        let permitted = |role| may(role, action, None, &policy).is_ok();
        assert_eq!(permitted(Role::Netd), key || exit, "{action}");
        assert_eq!(permitted(Role::Egress), exit, "{action}");
        assert_eq!(permitted(Role::Openvpn), exit, "{action}");
        assert_eq!(permitted(Role::Broker), service, "{action}");
        assert_eq!(permitted(Role::Api), !key && !exit && !service, "{action}");
    }
}

#[test]
fn actions_have_names_of_their_own() {
    let names: BTreeSet<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
    assert_eq!(names.len(), Action::ALL.len());
}

#[test]
fn everything_but_public_facts_and_anchors_is_recorded() {
    let unrecorded: Vec<Action> = Action::ALL
        .into_iter()
        .filter(|action| !action.is_recorded())
        .collect();
    let expected = [
        Action::GetTrustBundle,
        Action::GetWireguardPublicKey,
        Action::GetVaultStatus,
        Action::AppendAuditAnchor,
        Action::ListAuditAnchors,
    ];
    assert_eq!(unrecorded, expected);
}

#[test]
fn the_api_writes_the_ceilings_prefixes_only() {
    let policy = policy();
    let put = |name: &str| {
        may(
            Role::Api,
            Action::PutSecret,
            Some(&name.parse::<SecretName>().unwrap()),
            &policy,
        )
    };
    assert_eq!(put("conn_1_password"), Ok(()));
    assert_eq!(put("ddns_token"), Ok(()));
    for name in ["con", "conn", "wg_key", "xconn_1", "svc_a"] {
        assert!(matches!(put(name), Err(Denial::NameNotAllowed { .. })), "{name}");
    }
}

/// Each daemon reads the fields that it drives an exit with; the API reads none, whatever it writes.
#[test]
fn secrets_of_exits_are_read_by_field() {
    let policy = policy();
    let id = "0123456789abcdef0123456789abcdef";
    let read = |role, name: &str| {
        let name = name.parse::<SecretName>().unwrap();
        may(role, Action::ReadExitSecret, Some(&name), &policy)
    };
    for (field, netd, egress, openvpn) in [
        ("wireguard_key", true, false, false),
        ("preshared_key_1", true, false, false),
        ("preshared_key_8", true, false, false),
        ("preshared_key_9", false, false, false),
        ("password", false, true, false),
        ("private_key", false, true, false),
        ("username", false, false, false),
        ("key", false, false, true),
        ("tls_auth", false, false, true),
        ("tls_crypt", false, false, true),
        ("tls_crypt_v2", false, false, true),
        ("openvpn_username", false, false, true),
        ("openvpn_password", false, false, true),
    ] {
        let name = format!("conn_{id}_{field}");
        for (role, permitted) in [
            (Role::Netd, netd),
            (Role::Egress, egress),
            (Role::Openvpn, openvpn),
        ] {
            match read(role, &name) {
                Ok(()) => assert!(permitted, "{role} {field}"),
                Err(Denial::NameNotAllowed { .. }) => assert!(!permitted, "{role} {field}"),
                Err(other) => panic!("{role} {field}: {other}"),
            }
        }
        assert!(
            matches!(read(Role::Api, &name), Err(Denial::NotPermitted { .. })),
            "{field}"
        );
        let put = may(
            Role::Api,
            Action::PutSecret,
            Some(&name.parse().unwrap()),
            &policy,
        );
        assert_eq!(put, Ok(()), "the control");
    }
}

/// The broker reads secrets of services and nothing else, whatever the API may write.
#[test]
fn secrets_of_services_are_read_by_prefix() {
    let policy = policy();
    let read = |role, name: &str| {
        let name = name.parse::<SecretName>().unwrap();
        may(role, Action::ReadServiceSecret, Some(&name), &policy)
    };
    for name in ["svc_caddy_dns_token", "svc_files__home_key"] {
        assert_eq!(read(Role::Broker, name), Ok(()), "{name}");
        for role in [Role::Api, Role::Netd, Role::Egress, Role::Openvpn] {
            let denied = read(role, name);
            assert!(
                matches!(denied, Err(Denial::NotPermitted { .. })),
                "{role} {name}"
            );
        }
        let exit = may(
            Role::Netd,
            Action::ReadExitSecret,
            Some(&name.parse().unwrap()),
            &policy,
        );
        assert!(exit.is_err(), "{name}");
    }
    for name in [
        "svc",
        "svcx_a",
        "conn_0123456789abcdef0123456789abcdef_password",
        "ddns_token",
        "xsvc_a_b",
    ] {
        let denied = read(Role::Broker, name);
        assert!(matches!(denied, Err(Denial::NameNotAllowed { .. })), "{name}");
    }
}

#[test]
fn a_policy_names_every_fault_at_once() {
    let mut bad = spec();
    bad.state = "relative".into();
    bad.dns_suffixes.push("*.com".into());
    bad.address_prefixes.push("10.0.0.0/99".into());
    bad.leaf_lifetime_hours = 0;
    bad.issuances_per_hour = 0;
    bad.secrets_max = 10_001;
    bad.api_secret_prefixes.push("Conn".into());
    bad.callers.netd.users.clear();
    bad.callers.egress.as_mut().unwrap().users.clear();
    bad.callers.openvpn.as_mut().unwrap().users.clear();
    bad.callers.broker.as_mut().unwrap().users.clear();
    let fields: Vec<String> = Policy::try_from(bad)
        .unwrap_err()
        .into_iter()
        .map(|fault| fault.field)
        .collect();
    let expected = [
        "state",
        "dns_suffixes[2]",
        "address_prefixes[3]",
        "api_secret_prefixes[2]",
        "leaf_lifetime_hours",
        "issuances_per_hour",
        "secrets_max",
        "callers.netd.users",
        "callers.egress.users",
        "callers.openvpn.users",
        "callers.broker.users",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn a_policy_under_which_nothing_can_be_certified_is_refused() {
    let mut bad = spec();
    bad.dns_suffixes.clear();
    bad.address_prefixes.clear();
    assert!(Policy::try_from(bad).is_err());
}

#[test]
fn only_the_right_key_or_an_empty_folder_opens() {
    use Decision::{Initialise, Open, StaySealed};
    use StateFinding::{Fresh, OtherKey, SameKey, Unreadable};
    for state in [Fresh, OtherKey, SameKey, Unreadable] {
        assert_eq!(
            decide(KekFinding::Missing, state),
            StaySealed(SealReason::KekMissing)
        );
        assert_eq!(
            decide(KekFinding::WrongLength, state),
            StaySealed(SealReason::KekLength)
        );
    }
    assert_eq!(decide(KekFinding::Present, Fresh), Initialise);
    assert_eq!(decide(KekFinding::Present, SameKey), Open);
    assert_eq!(
        decide(KekFinding::Present, OtherKey),
        StaySealed(SealReason::KekWrong)
    );
    assert_eq!(
        decide(KekFinding::Present, Unreadable),
        StaySealed(SealReason::StateDamaged)
    );
}

proptest! {
    #[test]
    fn no_span_ever_holds_more_than_the_limit(limit in 1u32..8, steps in prop::collection::vec(0u64..40, 1..200)) {
        let mut window = Window::new(limit, 100);
        let mut admitted: Vec<u64> = Vec::new();
        let mut now = 0;
        for step in steps {
            now += step;
            let recent = admitted.iter().filter(|at| **at + 100 > now).count();
            match window.admit(now) {
                Ok(()) => {
                    prop_assert!(recent < limit as usize);
                    admitted.push(now);
                }
                Err(Full { retry_after }) => {
                    prop_assert_eq!(recent, limit as usize, "refused though there was room");
                    prop_assert!(window.clone().admit(now + retry_after).is_ok());
                    prop_assert!(window.clone().admit(now + retry_after - 1).is_err());
                }
            }
        }
    }
}
