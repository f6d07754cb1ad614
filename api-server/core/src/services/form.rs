//! A manifest's configuration as a form: what an administrator may set, of which kind, with which default.

use std::collections::BTreeMap;

use cell_manifest::{Field, Kind, Manifest, Pattern};

use crate::fault::Faults;

/// One field of the form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormField {
    /// Its name, as parameters have it.
    pub name: String,
    /// What people read; the name where the manifest has no words.
    pub label: String,
    /// `integer`, `boolean`, `string` or `enum`.
    pub kind: &'static str,
    /// Least number.
    pub min: Option<i64>,
    /// Greatest number.
    pub max: Option<i64>,
    /// Which texts: `label`, `hostname`, `word`, `email` or `printable`.
    pub pattern: Option<&'static str>,
    /// Most bytes of a text.
    pub max_length: Option<u64>,
    /// What can be chosen.
    pub values: Vec<String>,
    /// Its value where none is set; none: one has to be set.
    pub default: Option<String>,
    /// What it takes, in words.
    pub help: String,
}

/// The form of a manifest, in the order of names. Secrets are not in it: they are set by themselves (`services::secrets`).
pub fn form(manifest: &Manifest) -> Vec<FormField> {
    manifest
        .config_schema
        .iter()
        .filter(|(_, field)| !field.is_secret)
        .map(|(name, field)| form_field(name, field))
        .collect()
}

fn form_field(name: &str, field: &Field) -> FormField {
    let Field {
        label,
        kind,
        default,
        is_secret: _,
    } = field;
    let mut made = FormField {
        name: name.to_owned(),
        label: if label.is_empty() { name } else { label }.to_owned(),
        kind: "boolean",
        min: None,
        max: None,
        pattern: None,
        max_length: None,
        values: Vec::new(),
        default: default.clone(),
        help: kind.words(),
    };
    match kind {
        Kind::Boolean => {}
        Kind::Integer { min, max } => {
            made.kind = "integer";
            (made.min, made.max) = (Some(*min), Some(*max));
        }
        Kind::Text { pattern, max_length } => {
            made.kind = "string";
            made.pattern = Some(word_of(*pattern));
            made.max_length = u64::try_from(*max_length).ok();
        }
        Kind::Choice { values } => {
            made.kind = "enum";
            made.values.clone_from(values);
        }
    }
    made
}

fn word_of(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::Label => "label",
        Pattern::Hostname => "hostname",
        Pattern::Word => "word",
        Pattern::Email => "email",
        Pattern::Printable => "printable",
    }
}

/// Checks parameters and the instance's name against a manifest; the service's name.
///
/// # Errors
/// Every fault at once, by the field of the request.
pub fn check(
    manifest: &Manifest,
    instance: &str,
    parameters: &BTreeMap<String, String>,
) -> Result<String, Faults> {
    let mut faults = Faults::default();
    let name = manifest.service_name(instance);
    let gathered = [name.as_ref().err(), manifest.values(parameters).as_ref().err()]
        .into_iter()
        .flatten()
        .flat_map(cell_manifest::Faults::iter)
        .map(|fault| (fault.path.clone(), fault.description.clone()))
        .collect::<Vec<_>>();
    for (path, description) in gathered {
        faults.add(path, description);
    }
    match name {
        Ok(name) if faults.is_empty() => Ok(name.to_string()),
        Ok(_) | Err(_) => Err(faults),
    }
}
