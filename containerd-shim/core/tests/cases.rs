//! Every create case, of the reference and of our own, by its number: the finished request with it is refused by its rule, and so is a
//! manifest or a parameter that asks for it, or what comes of it obeys the rule.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/expected.rs"]
mod expected;
#[path = "support/rechecked.rs"]
mod rechecked;
mod support;

use std::collections::BTreeSet;

use cell_broker_core::deploy::{Bundle, Unverified, Verified};
use cell_manifest::Rule;
use expected::Attempt::{Instead, NoSuchKey, Refused, Rich, Text};
use expected::{Case, asking, cases, changed};
use rechecked::Sendable;
use support::{bundle, ceiling, given, image, judged_as, manifest, rewritten, rich, verified};

fn sendable() -> Sendable {
    let ceiling = ceiling();
    let approved = judged_as(&ceiling, &verified(&manifest(&image())), &[]).expect("control");
    let given = given(&ceiling, &approved);
    Sendable::of(ceiling, &approved, given)
}

#[test]
fn every_raw_body_breaks_the_rule_of_its_case() {
    let mut seen = BTreeSet::new();
    let sendable = sendable();
    for case in cases() {
        assert!(seen.insert(case.id.clone()), "{} is there twice", case.id);
        let rules = sendable.broken(&case);
        match Rule::from_code(case.rule) {
            Some(rule) => assert!(rules.contains(&rule), "{}: {rules:?}", case.id),
            None => assert!(case.rule.is_empty() && rules.is_empty(), "{}: {rules:?}", case.id),
        }
    }
    assert!(seen.len() >= 96 + 60, "{}", seen.len());
}

#[test]
fn every_manifest_that_asks_for_a_case_is_refused_by_its_rule_or_gets_what_obeys_it() {
    let (ceiling, least) = (ceiling(), verified(&manifest(&image())));
    let sendable = sendable();
    for case in cases() {
        match &case.attempt {
            NoSuchKey => no_such_keys(&case),
            Instead(pointer, value) => {
                no_such_keys(&case);
                assert_eq!(sendable.body().pointer(pointer), Some(value), "{}", case.id);
            }
            Refused(pointer, value, code) => {
                refused(
                    &case.id,
                    bundle(&changed(&manifest(&image()), pointer, value)),
                    code,
                );
            }
            Rich(pointer, value, code) => {
                refused(&case.id, bundle(&changed(&rich(&image()), pointer, value)), code);
            }
            Text(from, to, code) => refused(&case.id, rewritten(&manifest(&image()), from, to), code),
        }
        // And no parameter is a way around: a manifest without fields takes none.
        let denied = judged_as(&ceiling, &least, &[("HostConfig", &case.body)]).unwrap_err();
        assert!(denied.has("S3_PARAMETER"), "{}", case.id);
    }
}

/// The case's own words, in the container and in the manifest: each is refused by its name.
fn no_such_keys(case: &Case) {
    for (key, asked) in asking(case, &manifest(&image())) {
        match Verified::open(bundle(&asked), &ceiling().manifest_keys) {
            Err(Unverified::Manifest(faults)) => {
                let named = format!("unknown field `{key}`");
                let told = |fault: &cell_manifest::Fault| {
                    fault.rule == Rule::S1 && fault.description.starts_with(&named)
                };
                assert!(faults.iter().any(told), "{}: {faults} for {key}", case.id);
            }
            told => panic!("{}: {key} is taken, {told:?}", case.id),
        }
    }
}

/// Validly signed, so that the signature is not what refuses.
fn refused(id: &str, bundle: Bundle, code: &str) {
    match Verified::open(bundle, &ceiling().manifest_keys) {
        Err(Unverified::Manifest(faults)) => {
            let rule =
                Rule::from_code(code).unwrap_or_else(|| panic!("{id}: refused before {code}: {faults}"));
            assert!(faults.against(rule), "{id}: {faults}");
        }
        Err(Unverified::Signature) => panic!("{id}: the control is not signed"),
        Ok(verified) => {
            let denied = judged_as(&ceiling(), &verified, &[]).expect_err(id);
            assert!(denied.has(code), "{id}: {denied}");
        }
    }
}
