//! What the last check before Docker says of a case's raw request, were it laid over one that may be sent.

#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use cell_broker_core::construct::making;
use cell_broker_core::deploy::{Approved, CREATE_MAX_BYTES, Ceiling, Given, recheck};
use cell_manifest::{Rule, parse_json};
use serde_json::Value;

use super::expected::Case;

/// A request that may be sent.
pub struct Sendable {
    ceiling: Ceiling,
    given: Given,
    body: Value,
}

impl Sendable {
    pub fn of(ceiling: Ceiling, approved: &Approved, given: Given) -> Self {
        let body = approved.finish(&ceiling, &given, 0).unwrap().body().clone();
        assert_eq!(recheck(&body, &ceiling, Some(&given)), Ok(()), "control");
        Sendable { ceiling, given, body }
    }

    pub fn body(&self) -> &Value {
        &self.body
    }

    /// Every rule that the case's raw request breaks.
    pub fn broken(&self, case: &Case) -> BTreeSet<Rule> {
        // What is not in the second table is not sent, whatever its body.
        assert_eq!(
            making("POST", &case.path),
            None,
            "{}: a target without the broker's own name",
            case.id
        );
        let mut broken = match parse_json(case.body.as_bytes(), CREATE_MAX_BYTES) {
            Ok(raw) => self.laid_over(case.rule, raw),
            Err(malformed) => BTreeSet::from([malformed.rule()]),
        };
        if case.path != "/containers/create" {
            broken.insert(Rule::J3);
        }
        broken
    }

    fn laid_over(&self, rule: &str, mut raw: Value) -> BTreeSet<Rule> {
        // The image of all cases is a tag; that is the point of few of them.
        if rule != "I1" {
            raw.as_object_mut().unwrap().remove("Image");
        }
        let mut body = self.body.clone();
        overlay(&mut body, &raw);
        match recheck(&body, &self.ceiling, Some(&self.given)) {
            Ok(()) => BTreeSet::new(),
            Err(violations) => violations.iter().map(|violation| violation.rule).collect(),
        }
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
