//! JSON as one reader reads it: a key that stands twice is refused, where parsers differ in which of the two they take.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::rule::Rule;

/// Not JSON that all readers read alike.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than allowed.
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// Not JSON, a key twice, or something after the end.
    #[error("is not JSON with each key once: {0}")]
    Syntax(String),
}

impl Malformed {
    /// The rule that it breaks.
    pub fn rule(&self) -> Rule {
        match self {
            Malformed::TooLong(_) => Rule::J2,
            Malformed::Syntax(_) => Rule::J1,
        }
    }
}

/// Parses at most `longest` bytes of JSON, nested at most 128 deep.
///
/// # Errors
/// [`Malformed`]; nothing of what was sent is repeated but a position.
pub fn parse(bytes: &[u8], longest: usize) -> Result<Value, Malformed> {
    if bytes.len() > longest {
        return Err(Malformed::TooLong(longest));
    }
    serde_json::from_slice::<Strict>(bytes)
        .map(|strict| strict.0)
        .map_err(|error| Malformed::Syntax(format!("line {}, column {}", error.line(), error.column())))
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Strict)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("no number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if all.insert(key, value).is_some() {
                return Err(serde::de::Error::custom("a key stands twice"));
            }
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_key_twice_and_what_follows_the_end_are_refused() {
        let good = br#"{"a":[1,-2,0.5,true,null,"x"],"b":{"a":1}}"#;
        assert_eq!(
            parse(good, 100).unwrap(),
            serde_json::from_slice::<Value>(good).unwrap()
        );
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            r#"[{"a":1,"\u0061":2}]"#,
            r#"{"a":1}{"b":2}"#,
            r#"{"a":1} x"#,
            r#"{"a":1,}"#,
            "",
            "{",
        ] {
            assert_eq!(parse(bad.as_bytes(), 100).unwrap_err().rule(), Rule::J1, "{bad}");
        }
        assert_eq!(parse(&[b'['; 200], 1000).unwrap_err().rule(), Rule::J1);
        assert_eq!(parse(good, 5).unwrap_err().rule(), Rule::J2);
    }
}
