//! What may be certified, for how long, and when it is renewed.
#![allow(clippy::unwrap_used, reason = "tests")]

use cell_vaultd_core::profile::{self, BACKDATE, Serial, Validity};
use cell_vaultd_core::request::{CheckedNames, KeyKind, NamesRefused, WeakKey};
use cell_vaultd_core::timestamp::{DAY, EARLIEST_PLAUSIBLE, HOUR, SECOND, Timestamp};
use cell_vaultd_core::{NameScope, Policy, renewal};
use proptest::prelude::*;

mod common;
use common::policy;

fn check(names: &[&str], addresses: &[&[u8]], policy: &Policy) -> Result<CheckedNames, NamesRefused> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let addresses: Vec<Vec<u8>> = addresses.iter().map(|octets| octets.to_vec()).collect();
    CheckedNames::check(&names, &addresses, policy, &policy.scope)
}

#[test]
fn names_and_addresses_of_the_cell_are_taken() {
    let checked = check(
        &["home.cell", "cell", "a.home.arpa"],
        &[&[10, 0, 0, 1], &[0xfd; 16]],
        &policy(),
    )
    .unwrap();
    assert_eq!(checked.names().len(), 3);
    assert_eq!(checked.addresses().len(), 2);
}

#[test]
fn every_name_outside_is_named() {
    let refused = check(
        &["google.com", "home.cell", "evilhome.arpa"],
        &[&[8, 8, 8, 8], &[169, 254, 169, 254], &[10, 1, 1, 1]],
        &policy(),
    );
    let outside = ["google.com", "evilhome.arpa", "8.8.8.8", "169.254.169.254"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(refused, Err(NamesRefused::NotAllowed(outside)));
}

#[test]
fn a_mapped_ipv4_address_does_not_slip_through_as_ipv6() {
    let mapped = std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets();
    assert!(matches!(
        check(&[], &[&mapped], &policy()),
        Err(NamesRefused::NotAllowed(_))
    ));
}

#[test]
fn every_malformed_field_is_named_at_once() {
    let refused = check(
        &["*.cell", "a.cell", "a.cell", "b.cell."],
        &[&[1, 2, 3], &[10, 0, 0, 1], &[10, 0, 0, 1]],
        &policy(),
    );
    let Err(NamesRefused::Invalid(faults)) = refused else {
        panic!("{refused:?}")
    };
    let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(
        fields,
        ["names[0]", "names[2]", "names[3]", "addresses[0]", "addresses[2]"]
    );
}

#[test]
fn counts_are_bounded_and_nothing_is_not_enough() {
    let many: Vec<String> = (0..17).map(|n| format!("n{n}.cell")).collect();
    let addresses: Vec<Vec<u8>> = (0..9).map(|n| vec![10, 0, 0, n]).collect();
    let policy = policy();
    let fields = |names: &[String], addresses: &[Vec<u8>]| match CheckedNames::check(
        names,
        addresses,
        &policy,
        &policy.scope,
    ) {
        Err(NamesRefused::Invalid(faults)) => faults.into_iter().map(|fault| fault.field).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(fields(&many, &addresses), ["names", "addresses"]);
    assert_eq!(fields(&[], &[]), ["names"]);
}

#[test]
fn what_the_root_is_not_constrained_to_is_refused_though_the_ceiling_was_widened() {
    let root = NameScope {
        dns_suffixes: vec!["cell".parse().unwrap()],
        address_prefixes: Vec::new(),
    };
    let refused = CheckedNames::check(&["a.home.arpa".into()], &[vec![10, 0, 0, 1]], &policy(), &root);
    assert_eq!(
        refused,
        Err(NamesRefused::NotAllowed(vec![
            "a.home.arpa".into(),
            "10.0.0.1".into()
        ]))
    );
}

#[test]
fn scope_survives_being_written_down() {
    let scope = policy().scope;
    assert_eq!(NameScope::decode(&scope.encode()).unwrap(), scope);
    for bad in ["dns", "dns *.cell", "ip 10.0.0.0/33", "uri cell", "dns cell\n\n"] {
        assert!(NameScope::decode(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn weak_keys_are_told_apart() {
    let rsa = |bits, exponent| {
        KeyKind::Rsa {
            bits,
            exponent: Some(exponent),
        }
        .check()
    };
    assert_eq!(rsa(2048, 65_537), Ok(()));
    assert_eq!(rsa(4096, 65_537), Ok(()));
    assert_eq!(rsa(1024, 65_537), Err(WeakKey::RsaBits(1024)));
    assert_eq!(rsa(2047, 65_537), Err(WeakKey::RsaBits(2047)));
    assert_eq!(rsa(8192, 65_537), Err(WeakKey::RsaBits(8192)));
    assert_eq!(rsa(2048, 3), Err(WeakKey::RsaExponent));
    assert_eq!(
        KeyKind::Rsa {
            bits: 2048,
            exponent: None
        }
        .check(),
        Err(WeakKey::RsaExponent)
    );
    for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Ed25519] {
        assert_eq!(kind.check(), Ok(()));
    }
}

#[test]
fn an_intermediate_never_outlives_its_root_nor_a_leaf_its_intermediate() {
    let scope = policy().scope;
    let serial = Serial::from_random([0; 16]);
    let born = EARLIEST_PLAUSIBLE;
    let root = profile::root("ab12", &scope, serial, born);
    let late = root.validity.not_after.plus(-HOUR);
    let intermediate = profile::intermediate("ab12", &scope, serial, late, root.validity);
    assert_eq!(intermediate.validity.not_after, root.validity.not_after);
    let names = check(&["a.cell"], &[], &policy()).unwrap();
    let leaf = profile::server(&names, serial, late, 24 * HOUR, intermediate.validity);
    assert_eq!(leaf.validity.not_after, root.validity.not_after);
    assert_eq!((root.path_length, intermediate.path_length), (1, 0));
    assert!(intermediate.server_auth_only);
}

proptest! {
    #[test]
    fn a_validity_lasts_exactly_its_lifetime_and_holds_now(now in 0i64..250_000_000_000_000, hours in 1i64..=168) {
        let now = Timestamp(now);
        let validity = Validity::starting(now, hours * HOUR);
        let seconds = (validity.not_after.0 - validity.not_before.0) / SECOND + 1;
        prop_assert_eq!(seconds, hours * 3600);
        prop_assert!(validity.contains(now));
        prop_assert!(now.0 - validity.not_before.0 >= BACKDATE);
        prop_assert_eq!(validity.not_before.0 % SECOND, 0);
        prop_assert_eq!(validity.not_after.0 % SECOND, 0);
    }

    #[test]
    fn a_serial_has_sixteen_bytes_in_der_whatever_the_dice(random: [u8; 16]) {
        let serial = Serial::from_random(random);
        prop_assert!(serial.as_bytes()[0] & 0x80 == 0, "positive");
        prop_assert!(serial.as_bytes()[0] != 0, "no leading zero byte");
        prop_assert_eq!(&serial.as_bytes()[1..], &random[1..]);
    }

    #[test]
    fn renewal_is_due_in_the_last_third(life in 3i64..=4_000, at in 0i64..=4_000) {
        let born = EARLIEST_PLAUSIBLE;
        let validity = Validity { not_before: born, not_after: born.plus(life * DAY) };
        let now = born.plus(at * DAY);
        prop_assert_eq!(renewal::is_due(validity, now), at * DAY >= life * DAY / 3 * 2);
        prop_assert!(renewal::due(validity) < validity.not_after);
        prop_assert!(renewal::is_due(validity, born.plus(-1)), "not valid yet: made by a wrong clock");
    }

    #[test]
    fn no_text_makes_the_name_check_panic_or_pass_outside(text in ".{0,80}") {
        if let Ok(checked) = check(&[&text], &[], &policy()) {
            prop_assert!(text.ends_with("cell") || text.ends_with("home.arpa"));
            prop_assert_eq!(checked.names()[0].as_str(), text);
        }
    }
}

#[test]
fn a_clock_that_was_not_set_is_told() {
    assert!(!Timestamp(0).is_plausible());
    assert!(!EARLIEST_PLAUSIBLE.plus(-1).is_plausible());
    assert!(EARLIEST_PLAUSIBLE.is_plausible());
    assert!(!Timestamp(i64::MAX).is_plausible());
}
