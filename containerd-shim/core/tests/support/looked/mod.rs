//! A second reader of create requests. It shares nothing with what renders them and with the broker's own last look but the data of the
//! ceiling: its rules are written from the field policy (`create_field_policy.tsv` of the reference), each field by itself, and what
//! "from the manifest" means there is read from the manifest as its author wrote it.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod config;
mod host;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::LazyLock;

use cell_broker_core::deploy::{Ceiling, Given};
use serde_json::Value;

/// What was asked for, by which a request is judged.
pub struct Asked<'a> {
    /// As it was written.
    pub manifest: &'a Value,
    /// Of its bytes.
    pub digest: &'a str,
    /// The id, with the instance's name where there is one.
    pub service: String,
    pub parameters: &'a BTreeMap<String, String>,
    pub ceiling: &'a Ceiling,
    pub given: &'a Given,
    /// The first address of its network.
    pub network: Ipv4Addr,
}

/// What there is to say of one request.
#[derive(Default)]
pub struct Found {
    /// Fields that break the policy.
    pub faults: Vec<String>,
    /// Fields of the policy that were sent.
    pub sent: BTreeSet<&'static str>,
}

/// One container's request, and what it is judged by.
struct Seen<'a> {
    asked: &'a Asked<'a>,
    body: &'a Value,
    /// Which container of the manifest, and what that says of it.
    n: usize,
    container: &'a Value,
}

/// Whether a field is right: given what holds it, and its value.
type Look = fn(&Seen<'_>, &Value, &Value) -> bool;

struct Table {
    looks: BTreeMap<&'static str, Look>,
    /// What has fields below it: each beginning of a name that ends before a dot or bracket.
    above: BTreeSet<&'static str>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let looks: BTreeMap<_, _> = config::LOOKS.iter().chain(host::LOOKS).copied().collect();
    let cuts = |name: &'static str| {
        let cut = (1..name.len()).filter(|at| name[*at..].starts_with(['.', '[', '{']));
        cut.map(|at| &name[..at])
    };
    let above = looks.keys().copied().flat_map(cuts).collect();
    Table { looks, above }
});

/// The fields that may be sent.
pub fn fields() -> BTreeSet<&'static str> {
    TABLE.looks.keys().copied().collect()
}

/// Goes through a body at all depths: each key as the policy writes it, with what holds it and its value. Below a field that has no
/// fields of its own lies its value.
fn walk(path: &str, value: &Value, visit: &mut dyn FnMut(&str, &Value, &Value)) {
    let mut go = |path: &str, holder: &Value, value: &Value| {
        visit(path, holder, value);
        if TABLE.above.contains(path) {
            walk(path, value, visit);
        }
    };
    let (each, item) = (format!("{path}{{}}"), format!("{path}[]"));
    match value {
        Value::Object(map) if TABLE.above.contains(each.as_str()) => {
            map.values().for_each(|one| go(&each, value, one));
        }
        Value::Array(items) if TABLE.above.contains(item.as_str()) => {
            items.iter().for_each(|one| go(&item, value, one));
        }
        Value::Object(map) => {
            for (key, one) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                go(&path, value, one);
            }
        }
        // Something else stands where fields should be.
        _ => visit(&format!("{path}?"), value, value),
    }
}

/// Whether it is no field, but holds some.
fn is_section(path: &str) -> bool {
    TABLE.above.contains(path) && !TABLE.looks.contains_key(path)
}

/// Every field of a body, known or not.
pub fn paths(body: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk("", body, &mut |path, _, _| {
        if !is_section(path) {
            found.insert(path.to_owned());
        }
    });
    found
}

/// Looks at the request for container `n`.
pub fn look(asked: &Asked<'_>, n: usize, body: &Value) -> Found {
    let seen = Seen {
        asked,
        body,
        n,
        container: &asked.manifest["containers"][n],
    };
    let mut found = Found::default();
    walk(
        "",
        body,
        &mut |path, holder, value| match TABLE.looks.get_key_value(path) {
            Some((name, look)) => {
                found.sent.insert(name);
                if !look(&seen, holder, value) {
                    found.faults.push(format!("{path}: {value}"));
                }
            }
            None if is_section(path) => {}
            None => found.faults.push(format!("{path} is never sent")),
        },
    );
    for name in TABLE.looks.keys().filter(|name| seen.needs(name)) {
        if !found.sent.contains(name) {
            found.faults.push(format!("{name} is missing"));
        }
    }
    found
}

impl Seen<'_> {
    /// Whether the field has to be there, or Docker or the image would decide. Fields of items are asked for where the items are.
    fn needs(&self, name: &str) -> bool {
        let says = |key: &str| {
            self.container[key]
                .as_array()
                .is_some_and(|words| !words.is_empty())
        };
        match name {
            "Cmd" => says("command"),
            "Entrypoint" => says("entrypoint"),
            "WorkingDir" => self.container["working_dir"].is_string(),
            "Healthcheck.Test" => true,
            _ if name.starts_with("Healthcheck.") => !self.container["health"].is_null(),
            _ => !name.contains(['[', '{']),
        }
    }

    /// A number of the manifest, or what it means not to say it.
    fn number(&self, pointer: &str, otherwise: u64) -> u64 {
        self.container
            .pointer(pointer)
            .map_or(otherwise, |value| value.as_u64().unwrap())
    }

    /// Only who is listed, and says it.
    fn is_gateway(&self) -> bool {
        let id = self.asked.manifest["id"].as_str().unwrap();
        let is_listed = self.asked.ceiling.gateways.iter().any(|name| name.as_str() == id);
        is_listed && self.container["gateway"] == true
    }

    fn is_core(&self) -> bool {
        self.asked.manifest["kind"] == "core"
    }

    /// A list of words of the manifest, each with its places filled.
    fn words(&self, words: &Value) -> Vec<String> {
        let words = words.as_array().into_iter().flatten();
        words.map(|word| self.filled(word.as_str().unwrap())).collect()
    }

    /// A text of the manifest: what a value says is no place again.
    fn filled(&self, text: &str) -> String {
        let (mut whole, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            let (place, after) = after.split_once('}').unwrap();
            whole += before;
            whole += &match place.strip_prefix("config.") {
                Some(field) => self.value(field),
                None => self.asked.service.clone(),
            };
            rest = after;
        }
        whole + rest
    }

    fn value(&self, field: &str) -> String {
        let default = &self.asked.manifest["config_schema"][field]["default"];
        match (self.asked.parameters.get(field), default) {
            (Some(value), _) => value.clone(),
            (None, Value::String(text)) => text.clone(),
            (None, other) => other.to_string(),
        }
    }
}

/// From `least` to `most`, a whole number.
fn within(value: &Value, least: u64, most: u64) -> bool {
    value.as_u64().is_some_and(|n| least <= n && n <= most)
}

/// Exactly these keys.
fn has_keys(value: &Value, keys: &[&str]) -> bool {
    value.as_object().is_some_and(|map| {
        map.keys().map(String::as_str).collect::<BTreeSet<_>>() == keys.iter().copied().collect()
    })
}

/// Absolute, without anything to resolve in it, and not `/`.
fn is_clean(path: &str) -> bool {
    let parts = path.strip_prefix('/').map(|rest| rest.split('/'));
    parts.is_some_and(|mut parts| {
        parts.all(|part| !matches!(part, "" | "." | "..") && !part.contains(char::is_control))
    })
}

fn is_below(path: &str, folder: &str) -> bool {
    path == folder || path.starts_with(&format!("{folder}/"))
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_label(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}
