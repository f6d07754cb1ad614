//! Every create case, of the reference and of our own, by its number: the finished request with it is refused by its rule, and so is a
//! manifest or a parameter that asks for it, or what comes of it obeys the rule.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/expected.rs"]
mod expected;
mod support;

use std::collections::BTreeSet;

use cell_broker_core::construct::making;
use cell_broker_core::deploy::{Bundle, CREATE_MAX_BYTES, Unverified, Verified, recheck};
use cell_manifest::{Rule, parse_json};
use expected::Attempt::{Instead, NoSuchKey, Refused, Rich, Text};
use expected::{cases, changed};
use serde_json::{Value, json};
use support::{bundle, ceiling, given, image, judged, judged_as, manifest, rewritten, rich, verified};

/// What a request that may be sent breaks once the case's body is laid over it.
fn broken(rule: &str, raw: &Value) -> BTreeSet<Rule> {
    let ceiling = ceiling();
    let approved = judged(&ceiling, &manifest(&image()), &[]).unwrap();
    let given = given(&ceiling, &approved);
    let mut body = approved.finish(&ceiling, &given, 0).unwrap().body().clone();
    assert_eq!(recheck(&body, &ceiling, Some(&given)), Ok(()), "control");
    let mut raw = raw.clone();
    // The image of all cases is a tag; that is the point of few of them.
    if rule != "I1" {
        raw.as_object_mut().unwrap().remove("Image");
    }
    overlay(&mut body, &raw);
    match recheck(&body, &ceiling, Some(&given)) {
        Ok(()) => BTreeSet::new(),
        Err(violations) => violations.iter().map(|violation| violation.rule).collect(),
    }
}

fn overlay(body: &mut Value, raw: &Value) {
    match (body, raw) {
        (Value::Object(body), Value::Object(raw)) => {
            for (key, value) in raw {
                overlay(body.entry(key).or_insert(Value::Null), value);
            }
        }
        (body, raw) => *body = raw.clone(),
    }
}

#[test]
fn every_raw_body_breaks_the_rule_of_its_case() {
    let mut seen = BTreeSet::new();
    for case in cases() {
        assert!(seen.insert(case.id.clone()), "{} is there twice", case.id);
        // What is not in the second table is not sent, whatever its body.
        let plain = case.path == "/containers/create";
        assert_eq!(
            making("POST", &case.path),
            None,
            "{}: a target without the broker's own name",
            case.id
        );
        let parsed = parse_json(case.body.as_bytes(), CREATE_MAX_BYTES);
        match (case.rule, parsed) {
            ("J3", _) => assert!(!plain, "{}", case.id),
            ("J1" | "J2", Err(malformed)) => assert_eq!(malformed.rule().code(), case.rule, "{}", case.id),
            ("", Ok(body)) => assert!(broken(case.rule, &body).is_empty(), "{}", case.id),
            (rule, Ok(body)) => {
                let rules = broken(case.rule, &body);
                assert!(
                    rules.contains(&Rule::from_code(rule).unwrap()),
                    "{}: {rules:?}",
                    case.id
                );
            }
            (rule, Err(malformed)) => panic!("{}: {rule}, {malformed}", case.id),
        }
    }
    assert!(seen.len() >= 96 + 60, "{}", seen.len());
}

#[test]
fn every_manifest_that_asks_for_a_case_is_refused_by_its_rule_or_gets_what_obeys_it() {
    let (ceiling, least) = (ceiling(), verified(&manifest(&image())));
    let approved = judged_as(&ceiling, &least, &[]).expect("control");
    let given = given(&ceiling, &approved);
    let body = approved.finish(&ceiling, &given, 0).unwrap().body().clone();
    for case in cases() {
        match &case.attempt {
            NoSuchKey => {
                // The case's own words, in the container and in the manifest.
                for pointer in ["/containers/0/HostConfig", "/HostConfig", "/containers/0/body"] {
                    let asked = changed(&manifest(&image()), pointer, &json!(case.body));
                    refused(&case.id, bundle(&asked), "S1");
                }
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
            Instead(pointer, value) => assert_eq!(body.pointer(pointer), Some(value), "{}", case.id),
        }
        // And no parameter is a way around: a manifest without fields takes none.
        let denied = judged_as(&ceiling, &least, &[("HostConfig", &case.body)]).unwrap_err();
        assert!(denied.has("S3_PARAMETER"), "{}", case.id);
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
