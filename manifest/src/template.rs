//! Text with places for values: `${instance}` and `${config.FIELD}`. Anything else is text.

use crate::field::Values;
use crate::name::Name;

/// The place of the instance's name.
pub const PLACE_INSTANCE: &str = "instance";

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it stands.
    Text(String),
    /// The value of a field of the configuration.
    Config(String),
    /// The name that the service has: its id, with the instance's name after a hyphen where it has instances.
    Instance,
}

/// A checked text with places. Each place names a field that the manifest declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.bytes().any(|b| matches!(b, 0 | b'\r' | b'\n')) {
            return Err("has no NUL and no line break");
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let Some((place, after)) = after.split_once('}') else {
                return Err("closes each ${ with }");
            };
            parts.push(match place.strip_prefix("config.") {
                Some(field) => Part::Config(field.to_owned()),
                None if place == PLACE_INSTANCE => Part::Instance,
                None => return Err("has no places but ${instance} and ${config.FIELD}"),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Template(parts))
    }

    /// Its pieces.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// The names of fields that it uses.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Config(field) => Some(field.as_str()),
            Part::Text(_) | Part::Instance => None,
        })
    }

    /// With every place filled. A field without a value is empty; [`Values`] of the same manifest have one for each.
    pub fn fill(&self, instance: &Name, values: &Values) -> String {
        let piece = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Instance => instance.to_string(),
            Part::Config(field) => values.get(field).unwrap_or_default().to_owned(),
        };
        self.0.iter().map(piece).collect()
    }
}
