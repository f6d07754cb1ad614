//! Names, texts of patterns, values of fields, and words with places for them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::spoiled::TEXTS;
use crate::random::Random;

const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const LABEL: &str = "abcdefghijklmnopqrstuvwxyz0123456789-";
const WORD: &str = "abcXYZ019._-";
const PRINTABLE: &str = "ab Z09.,;:'\"`$(){}[]\\/|&<>*?!#%^~=+-_@é€";

pub fn name(random: &mut Random, longest: usize) -> String {
    let middle = random.below(longest - 1);
    format!(
        "{}{}{}",
        random.text(LOWER, 1),
        random.text(LABEL, middle),
        random.text(LOWER, 1)
    )
}

/// Small letters alone.
pub fn letters(random: &mut Random, length: usize) -> String {
    random.text(LOWER, length)
}

/// A text that the field takes.
pub fn value(random: &mut Random, field: &Value) -> String {
    let number = |key: &str| field[key].as_i64().unwrap_or_default();
    match field["type"].as_str() {
        Some("integer") => random.within(number("min"), number("max")).to_string(),
        Some("boolean") => random.chance(50).to_string(),
        Some("enum") => {
            let values = field["values"].as_array().unwrap();
            random.pick(values).as_str().unwrap().to_owned()
        }
        _ => text(random, field["pattern"].as_str().unwrap_or_default()),
    }
}

/// A text of a pattern, of at most 60 bytes.
pub fn text(random: &mut Random, pattern: &str) -> String {
    match pattern {
        "label" => name(random, 20),
        "hostname" => format!("{}.{}", name(random, 12), name(random, 12)),
        "word" => {
            let length = random.below(20);
            format!("{}{}", random.text("aZ9_", 1), random.text(WORD, length))
        }
        "email" => format!("{}@{}.example", name(random, 12), name(random, 12)),
        _ => {
            let length = random.below(20);
            random.text(PRINTABLE, length)
        }
    }
}

/// Values for a manifest that was read: most are right, some are missing, wrong, or of no field.
pub fn parameters(random: &mut Random, manifest: &Value) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let fields = manifest["config_schema"].as_object();
    for (name, field) in fields.into_iter().flatten() {
        let is_set = field["default"].is_null() || random.chance(70);
        if is_set && field["secret"] != json!(true) && random.chance(98) {
            let text = if random.chance(97) {
                value(random, field)
            } else {
                random.pick(&TEXTS).to_owned()
            };
            values.insert(name.clone(), text);
        }
    }
    if random.chance(4) {
        let unknown = random.pick(&["Privileged", "HostConfig", "token", "${config.x}", "a b"]);
        values.insert(unknown.to_owned(), random.pick(&TEXTS).to_owned());
    }
    values
}

/// A word with places: in a command of what a shell could not misread.
pub fn template(random: &mut Random, schema: &Map<String, Value>, is_command: bool) -> String {
    let mut words = String::new();
    for _ in 0..=random.below(3) {
        let fits = |field: &Value| !is_command || field["pattern"] != json!("printable");
        let fields: Vec<&String> = schema
            .iter()
            .filter(|(_, field)| fits(field))
            .map(|(name, _)| name)
            .collect();
        match random.below(4) {
            0 => words += "${instance}",
            1 | 2 if !fields.is_empty() => words += &format!("${{config.{}}}", random.pick(&fields)),
            // No place begins in it.
            _ => words += &text(random, "printable").replace('$', ""),
        }
    }
    words
}
