//! Secrets of a service: what can be set, which the vault makes, and whether a value may be one.

use cell_manifest::{Manifest, SecretName};

use crate::fault::Faults;

/// A secret as people see it. Its value nobody sees again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretField {
    /// Its name.
    pub name: SecretName,
    /// What people read; the name where the manifest has no words.
    pub label: String,
    /// What it takes, in words; empty: nobody sets it here.
    pub help: String,
    /// Whether the service starts without it.
    pub is_optional: bool,
    /// How many random bytes the vault makes of it; none: it is set.
    pub generate: Option<u32>,
    /// Whether people set it.
    pub can_be_set: bool,
}

/// Secrets of a manifest, in the order of names.
pub fn secrets(manifest: &Manifest) -> Vec<SecretField> {
    let used = manifest.secrets().into_iter();
    used.map(|(name, secret)| {
        let field = manifest.config_schema.get(name.as_str());
        let field = field.filter(|field| field.is_secret);
        let label = field
            .map(|field| field.label.as_str())
            .filter(|label| !label.is_empty());
        SecretField {
            label: label.unwrap_or(name.as_str()).to_owned(),
            help: field.map(|field| field.kind.words()).unwrap_or_default(),
            is_optional: secret.is_optional,
            generate: secret.generate,
            can_be_set: field.is_some(),
            name,
        }
    })
    .collect()
}

/// The secret that people may set, by its name.
///
/// # Errors
/// There is none of that name.
pub fn settable(manifest: &Manifest, name: &str) -> Result<SecretName, Faults> {
    let all = secrets(manifest);
    let found = all
        .iter()
        .find(|secret| secret.can_be_set && secret.name.as_str() == name);
    found.map(|secret| secret.name.clone()).ok_or_else(|| {
        let names: Vec<&str> = all
            .iter()
            .filter(|secret| secret.can_be_set)
            .map(|secret| secret.name.as_str())
            .collect();
        let words = if names.is_empty() {
            "is none: this service has no secret that is set".to_owned()
        } else {
            format!("must be one of: {}", names.join(", "))
        };
        Faults::one("secret", words)
    })
}

/// Checks the value of a secret that people may set. The value is not repeated.
///
/// # Errors
/// As [`settable`]; or what the value has to be.
pub fn check(manifest: &Manifest, name: &str, value: &str) -> Result<SecretName, Faults> {
    let secret = settable(manifest, name)?;
    let field = manifest.config_schema.get(secret.as_str());
    if value.is_empty() {
        return Err(Faults::one(
            "value",
            "must not be empty: remove the secret instead",
        ));
    }
    match field {
        Some(field) if field.kind.takes(value) => Ok(secret),
        Some(field) => Err(Faults::one(
            "value",
            format!("must be what the field takes: it {}", field.kind.words()),
        )),
        None => Err(Faults::one("secret", "is no field of the configuration")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn manifest() -> Manifest {
        let digest = "0f".repeat(32);
        let text = format!(
            r#"{{"schema_version":3,"kind":"store","id":"notes","name":"Notes","version":"1.0","flags":{{"has_admin_config":true}},
            "config_schema":{{"dns_token":{{"type":"string","label":"Token","pattern":"word","max_length":20,"secret":true}},
                "greeting":{{"type":"string","pattern":"printable","max_length":20,"default":""}}}},
            "containers":[{{"name":"main","image":"reg.example/store/notes@sha256:{digest}","user":"1000:1000",
                "secrets":[{{"name":"dns_token","optional":true}},{{"name":"key","generate":32}},{{"name":"other"}}],
                "limits":{{"memory_mib":64,"cpu_milli":500,"pids":64}}}}]}}"#
        );
        Manifest::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_people_set_is_told_apart_from_what_the_vault_makes() {
        let all = secrets(&manifest());
        let shown: Vec<_> = all
            .iter()
            .map(|one| {
                (
                    one.name.as_str(),
                    one.label.as_str(),
                    one.is_optional,
                    one.generate,
                    one.can_be_set,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("dns_token", "Token", true, None, true),
                ("key", "key", false, Some(32), false),
                ("other", "other", false, None, false)
            ]
        );
    }

    #[test]
    fn a_value_is_of_its_kind_and_is_not_repeated() {
        let manifest = manifest();
        assert_eq!(
            check(&manifest, "dns_token", "abc").unwrap().as_str(),
            "dns_token"
        );
        for (name, value) in [
            ("dns_token", ""),
            ("dns_token", "two words xyzzy"),
            ("dns_token", "xyzzy-that-is-much-too-long"),
            ("key", "xyzzy"),
            ("other", "xyzzy"),
            ("greeting", "xyzzy"),
            ("absent", "xyzzy"),
            ("../x", "xyzzy"),
        ] {
            let faults = check(&manifest, name, value).unwrap_err();
            assert!(!format!("{faults:?}").contains("xyzzy"), "{name} {value}");
        }
    }
}
