//! The field policy: all 171 fields of Docker's create request (API 1.40 to 1.56), 72 of which are sent under a constraint
//! and 99 never.

use std::collections::{BTreeMap, BTreeSet};

use cell_manifest::Rule;

/// The table as data: field, class, rule, constraint.
const TABLE: &str = include_str!("fields.tsv");

/// Whether a field is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldClass {
    /// Under its constraint.
    Emit,
    /// Never.
    Never,
}

/// Every field with its class and rule.
#[derive(Debug)]
pub struct Fields {
    fields: BTreeMap<&'static str, (FieldClass, Rule)>,
    /// Every beginning of a field's name that ends before a dot or a bracket.
    above: BTreeSet<&'static str>,
}

/// The table.
pub static FIELDS: std::sync::LazyLock<Fields> = std::sync::LazyLock::new(Fields::read);

/// What the table says of a field, by its exact name.
pub fn field(name: &str) -> Option<(FieldClass, Rule)> {
    FIELDS.find(name)
}

impl Fields {
    fn read() -> Self {
        // A line that is not understood is a field that is never sent.
        let line = |line: &'static str| {
            let mut columns = line.split('\t');
            let name = columns.next().unwrap_or_default();
            let emit = columns.next() == Some("emit");
            let class = if emit { FieldClass::Emit } else { FieldClass::Never };
            (name, (class, rule(name, columns.next().unwrap_or_default())))
        };
        let lines = TABLE.lines().skip(1).filter(|text| !text.is_empty());
        let fields: BTreeMap<_, _> = lines.map(line).collect();
        let above = fields.keys().flat_map(|name| beginnings(name)).collect();
        Fields { fields, above }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, FieldClass, Rule)> + '_ {
        self.fields
            .iter()
            .map(|(name, (class, rule))| (*name, *class, *rule))
    }

    fn find(&self, name: &str) -> Option<(FieldClass, Rule)> {
        self.fields.get(name).copied()
    }

    /// Whether fields lie below `path`, which is written with `[]` and `{}`.
    pub(super) fn has_below(&self, path: &str) -> bool {
        self.above.contains(path)
    }
}

/// `HostConfig`, `HostConfig.Mounts`, `HostConfig.Mounts[]` of `HostConfig.Mounts[].Type`.
fn beginnings(name: &'static str) -> impl Iterator<Item = &'static str> {
    let cuts = (1..name.len()).filter(|at| name[*at..].starts_with(['.', '[', '{']));
    cuts.map(|at| &name[..at])
}

fn rule(name: &str, column: &str) -> Rule {
    match column {
        "win" => Rule::WIN,
        // One line of the source's table for the options of all kinds of mounts.
        "M2/M4/M5" if name.contains("DriverConfig") => Rule::M4,
        _ => {
            let code = column.split([' ', '/', '-']).next().unwrap_or_default();
            Rule::from_code(code).unwrap_or(Rule::S1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_72_fields_that_are_sent_and_99_that_are_not() {
        let sent = FIELDS
            .iter()
            .filter(|(_, class, _)| *class == FieldClass::Emit)
            .count();
        assert_eq!((FIELDS.iter().count(), sent), (171, 72));
        assert!(
            FIELDS
                .iter()
                .all(|(name, _, rule)| !name.is_empty() && rule != Rule::S1)
        );
        assert_eq!(field("HostConfig.Privileged"), Some((FieldClass::Emit, Rule::P1)));
        assert_eq!(field("HostConfig.Binds"), Some((FieldClass::Never, Rule::M1)));
        assert_eq!(field("hostconfig.Privileged"), None);
        assert!(FIELDS.has_below("HostConfig") && FIELDS.has_below("NetworkingConfig.EndpointsConfig"));
        assert!(!FIELDS.has_below("HostConfig.Init") && !FIELDS.has_below("Host"));
    }
}
