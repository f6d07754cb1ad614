//! Reads a JSON document field by field, so that a wrong type, an unknown field and a field given twice are all named
//! at once. serde alone stops at the first.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::fault::Faults;
use crate::json::{parse, printable};

/// Reads `bytes` as one JSON object and hands its fields to `read`. Fields that `read` does not take are faults. Once
/// there is one, `check` says what else is wrong with what could be read, so that the caller hears of everything at
/// once; a value without faults is for its service to check.
///
/// # Errors
/// Every fault that was found; `read`'s value is dropped then.
pub fn read_object<T>(
    bytes: &[u8],
    read: impl FnOnce(&mut Fields, &mut Faults) -> T,
    check: impl FnOnce(T) -> Faults,
) -> Result<T, Faults> {
    let mut faults = Faults::default();
    let document = match parse(bytes, &mut faults) {
        Ok(Value::Object(map)) => map,
        Ok(_) => return Err(Faults::one("", "must be a JSON object")),
        // serde_json's own text can quote what was sent; the position cannot.
        Err(error) => {
            let place = format!(
                "is not valid JSON (line {}, column {})",
                error.line(),
                error.column()
            );
            return Err(Faults::one("", place));
        }
    };
    let mut fields = Fields {
        path: String::new(),
        map: document,
    };
    let value = read(&mut fields, &mut faults);
    fields.finish(&mut faults);
    if faults.is_empty() {
        return Ok(value);
    }
    faults.merge_of_unread(check(value));
    Err(faults)
}

/// The fields of one JSON object that are still to be read.
#[derive(Debug)]
pub struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    /// A string that must be there; empty after a fault.
    pub fn string(&mut self, name: &str, faults: &mut Faults) -> String {
        match self.optional_string(name, faults) {
            Some(text) => text,
            None => {
                faults.add(self.path_of(name), "is required");
                String::new()
            }
        }
    }

    /// A string that may be absent or null.
    pub fn optional_string(&mut self, name: &str, faults: &mut Faults) -> Option<String> {
        match self.map.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                faults.add(self.path_of(name), "must be a string");
                None
            }
        }
    }

    /// A string that may be absent, which is `None`, or null, which is empty.
    pub fn nullable_string(&mut self, name: &str, faults: &mut Faults) -> Option<String> {
        match self.map.get(name) {
            Some(Value::Null) => self.map.remove(name).map(|_| String::new()),
            _ => self.optional_string(name, faults),
        }
    }

    /// A string or null that must be there; empty for null, and after a fault.
    pub fn required_nullable_string(&mut self, name: &str, faults: &mut Faults) -> String {
        if !self.map.contains_key(name) {
            faults.add(self.path_of(name), "is required: a text or null");
        }
        self.nullable_string(name, faults).unwrap_or_default()
    }

    /// A boolean or null that must be there; `None` for null, and after a fault.
    pub fn nullable_flag(&mut self, name: &str, faults: &mut Faults) -> Option<bool> {
        match self.map.remove(name) {
            Some(Value::Null) => {}
            Some(Value::Bool(flag)) => return Some(flag),
            Some(_) => faults.add(self.path_of(name), "must be true, false or null"),
            None => faults.add(self.path_of(name), "is required: true, false or null"),
        }
        None
    }

    /// A boolean or null that may be absent, which is `None`.
    pub fn nullable_flag_if_there(&mut self, name: &str, faults: &mut Faults) -> Option<Option<bool>> {
        let is_there = self.map.contains_key(name);
        is_there.then(|| self.nullable_flag(name, faults))
    }

    /// A boolean that may be absent or null, which is `None`.
    pub fn optional_flag(&mut self, name: &str, faults: &mut Faults) -> Option<bool> {
        self.nullable_flag_if_there(name, faults).flatten()
    }

    /// A list of strings that may be absent or null.
    pub fn optional_strings(&mut self, name: &str, faults: &mut Faults) -> Option<Vec<String>> {
        if matches!(self.map.get(name), None | Some(Value::Null)) {
            self.map.remove(name);
            return None;
        }
        Some(self.strings(name, faults))
    }

    /// A list of strings that must be there; empty after a fault.
    pub fn strings(&mut self, name: &str, faults: &mut Faults) -> Vec<String> {
        let items = match self.map.remove(name) {
            Some(Value::Array(items)) => items,
            Some(_) => {
                faults.add(self.path_of(name), "must be a list");
                return Vec::new();
            }
            None => {
                faults.add(self.path_of(name), "is required");
                return Vec::new();
            }
        };
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text),
                _ => faults.add(format!("{}[{index}]", self.path_of(name)), "must be a string"),
            }
        }
        texts
    }

    /// Whether there is a field of this name that was not read yet.
    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Texts by their names; none when absent or null. Numbers and booleans are taken for their texts.
    pub fn texts(&mut self, name: &str, faults: &mut Faults) -> BTreeMap<String, String> {
        let map = match self.map.remove(name) {
            None | Some(Value::Null) => return BTreeMap::new(),
            Some(Value::Object(map)) => map,
            Some(_) => {
                faults.add(self.path_of(name), "must be an object of texts");
                return BTreeMap::new();
            }
        };
        let mut texts = BTreeMap::new();
        for (key, value) in map {
            let text = match value {
                Value::String(text) => text,
                Value::Bool(flag) => flag.to_string(),
                Value::Number(number) => number.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    let path = format!("{}.{}", self.path_of(name), printable(&key));
                    faults.add(path, "must be a text");
                    continue;
                }
            };
            texts.insert(key, text);
        }
        texts
    }

    /// A boolean; `false` when absent or null.
    pub fn flag(&mut self, name: &str, faults: &mut Faults) -> bool {
        match self.map.remove(name) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => flag,
            Some(_) => {
                faults.add(self.path_of(name), "must be true or false");
                false
            }
        }
    }

    /// A whole number of at most 64 bits that must be there; 0 after a fault.
    pub fn number(&mut self, name: &str, faults: &mut Faults) -> u64 {
        match self.map.remove(name) {
            None | Some(Value::Null) => faults.add(self.path_of(name), "is required"),
            Some(value) => match value.as_u64() {
                Some(number) => return number,
                None => faults.add(self.path_of(name), "must be a whole number, 0 or greater"),
            },
        }
        0
    }

    /// An object that may be absent or null.
    pub fn optional_object<T>(
        &mut self,
        name: &str,
        faults: &mut Faults,
        read: impl FnOnce(&mut Fields, &mut Faults) -> T,
    ) -> Option<T> {
        match self.map.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(read_nested(self.path_of(name), map, faults, read)),
            Some(_) => {
                faults.add(self.path_of(name), "must be an object");
                None
            }
        }
    }

    /// A list of objects that must be there; empty after a fault.
    pub fn required_objects<T>(
        &mut self,
        name: &str,
        faults: &mut Faults,
        read: impl FnMut(&mut Fields, &mut Faults) -> T,
    ) -> Vec<T> {
        if matches!(self.map.get(name), None | Some(Value::Null)) {
            faults.add(self.path_of(name), "is required: a list, which may be empty");
        }
        self.objects(name, faults, read)
    }

    /// A list of objects; empty when absent or null.
    pub fn objects<T>(
        &mut self,
        name: &str,
        faults: &mut Faults,
        mut read: impl FnMut(&mut Fields, &mut Faults) -> T,
    ) -> Vec<T> {
        // What is no object is replaced by an empty one, so that those after it keep their place.
        let items = match self.map.remove(name) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                faults.add(self.path_of(name), "must be a list");
                return Vec::new();
            }
        };
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(name));
            match item {
                Value::Object(map) => values.push(read_nested(path, map, faults, &mut read)),
                _ => {
                    values.push(read_nested(
                        path.clone(),
                        Map::new(),
                        &mut Faults::default(),
                        &mut read,
                    ));
                    faults.add(path, "must be an object");
                }
            }
        }
        values
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn finish(self, faults: &mut Faults) {
        for name in self.map.keys() {
            faults.add(self.path_of(&printable(name)), "is not a known field");
        }
    }
}

fn read_nested<T>(
    path: String,
    map: Map<String, Value>,
    faults: &mut Faults,
    read: impl FnOnce(&mut Fields, &mut Faults) -> T,
) -> T {
    let mut fields = Fields { path, map };
    let value = read(&mut fields, faults);
    fields.finish(faults);
    value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    type Body = (String, u64, Vec<bool>);

    fn read(json: &str) -> Result<Body, Faults> {
        let read = |fields: &mut Fields, faults: &mut Faults| {
            let name = fields.string("name", faults);
            let number = fields.number("number", faults);
            let list = fields.objects("list", faults, |fields, faults| fields.flag("on", faults));
            (name, number, list)
        };
        let check = |(_, number, list): Body| {
            let mut faults = Faults::default();
            if number > 9 {
                faults.add("number", "must be at most 9");
            }
            if let Some(place) = list.iter().position(|on| *on) {
                faults.add(format!("list[{place}].on"), "must be false");
            }
            faults
        };
        read_object(json.as_bytes(), read, check)
    }

    #[test]
    fn a_good_document_is_read() {
        let body = read(r#"{"name": "a", "number": 7, "list": [{"on": true}, {}]}"#).unwrap();
        assert_eq!(body, ("a".to_owned(), 7, vec![true, false]));
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let faults =
            read(r#"{"name": 7, "number": -1, "list": [{"on": 1}, 3, {"off": 0}], "x": {}, "x": 1}"#);
        let fields: Vec<_> = faults
            .unwrap_err()
            .into_violations()
            .into_iter()
            .map(|v| v.field)
            .collect();
        assert_eq!(
            fields,
            ["x", "name", "number", "list[0].on", "list[1]", "list[2].off"]
        );
    }

    #[test]
    fn what_could_be_read_is_checked_too() {
        let faults = read(r#"{"name": 7, "number": 10, "list": [3, {"on": true}]}"#).unwrap_err();
        let fields: Vec<_> = faults.violations().iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["name", "list[0]", "number", "list[1].on"]);
    }

    #[test]
    fn null_is_told_from_absent() {
        type Read = (Option<String>, Option<bool>, Vec<String>);
        let read = |json: &str| {
            let read = |fields: &mut Fields, faults: &mut Faults| -> Read {
                let text = fields.nullable_string("text", faults);
                let flag = fields.nullable_flag("flag", faults);
                (text, flag, fields.strings("list", faults))
            };
            read_object(json.as_bytes(), read, |_| Faults::default())
        };
        let good = |json| read(json).unwrap();
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(good(r#"{"flag": null, "list": []}"#), (None, None, list(&[])));
        assert_eq!(
            good(r#"{"text": null, "flag": false, "list": ["a", "b"]}"#),
            (Some(String::new()), Some(false), list(&["a", "b"]))
        );
        let faults = read(r#"{"text": 1, "flag": "yes", "list": ["a", 2]}"#).unwrap_err();
        let fields: Vec<_> = faults.violations().iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["text", "flag", "list[1]"]);
        let faults = read("{}").unwrap_err();
        let fields: Vec<_> = faults.violations().iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["flag", "list"], "these must be there");
    }

    #[test]
    fn texts_are_read_by_name_and_each_that_is_none_is_named() {
        let read = |json: &str| {
            read_object(
                json.as_bytes(),
                |fields, faults| fields.texts("of", faults),
                |_| Faults::default(),
            )
        };
        let texts = read("{\"of\": {\"a\": \"x\", \"b\": 7, \"c\": true}}").unwrap();
        let texts: Vec<_> = texts
            .iter()
            .map(|(name, text)| format!("{name}={text}"))
            .collect();
        assert_eq!(texts, ["a=x", "b=7", "c=true"]);
        let faults = read("{\"of\": {\"a\": null, \"b\": [], \"c\": \"x\"}}").unwrap_err();
        let named: Vec<_> = faults.violations().iter().map(|v| v.field.as_str()).collect();
        assert_eq!(named, ["of.a", "of.b"]);
        assert!(read("{\"of\": []}").is_err() && read("{}").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_object_or_no_json_is_one_fault() {
        for json in [
            "",
            "{",
            "[]",
            "null",
            "\"name\"",
            "{\"name\": \"a\"} x",
            "{\"name\": \"\u{0}\"}",
            "\u{feff}{}",
        ] {
            let faults = read(json).unwrap_err();
            assert_eq!(faults.violations().len(), 1, "{json:?}: {faults}");
            assert_eq!(faults.violations()[0].field, "", "{json:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(read(&deep).is_err(), "nesting is bounded");
    }
}
