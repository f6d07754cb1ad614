//! Secrets of a service: their names, what a manifest says of each, and how the vault calls them.

use std::collections::BTreeMap;
use std::fmt;

use crate::container::Container;
use crate::name::Name;
use crate::path::AbsolutePath;

/// Most secrets of one container.
pub const SECRETS_MAX: usize = 16;
/// Where a container finds its secrets: one file for each, by its name. Nothing else is mounted there, above it or below.
pub const SECRETS_TARGET: &str = "/run/secrets";
/// How the vault's names of services' secrets begin: what the broker may read there.
pub const VAULT_PREFIX: &str = "svc_";

/// 1-32 characters of `[a-z0-9_]`, a letter first: a file's name, and the end of a name in the vault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName(String);

/// Not a secret's name. Does not repeat what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is 1-32 characters of a-z, 0-9 and underscore, and starts with a letter")]
pub struct InvalidSecretName;

impl SecretName {
    /// Longest.
    pub const LONGEST: usize = 32;

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the vault calls this secret of `service`: `svc_SERVICE_NAME`, each hyphen of the service's name written as two
    /// underscores. No two services meet in one: the first single underscore after the prefix ends the service's name, because
    /// that ends in no hyphen and a secret's name starts with a letter.
    pub fn in_vault(&self, service: &Name) -> String {
        format!("{}{}", vault_prefix(service), self.0)
    }
}

/// How the vault's names of one service's secrets begin. Names of another service may begin so as well (`a` and `a-b`), so what
/// begins so is told apart by [`from_vault`].
pub fn vault_prefix(service: &Name) -> String {
    format!("{VAULT_PREFIX}{}_", service.as_str().replace('-', "__"))
}

/// The secret of `service` that the vault calls so; none: it is another's, or no name that [`SecretName::in_vault`] makes.
pub fn from_vault(service: &Name, text: &str) -> Option<SecretName> {
    let rest = text.strip_prefix(&vault_prefix(service))?;
    SecretName::try_from(rest).ok()
}

impl TryFrom<&str> for SecretName {
    type Error = InvalidSecretName;

    fn try_from(text: &str) -> Result<Self, InvalidSecretName> {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let good = (1..=Self::LONGEST).contains(&text.len())
            && text.bytes().all(known)
            && text.as_bytes()[0].is_ascii_lowercase();
        good.then(|| SecretName(text.to_owned())).ok_or(InvalidSecretName)
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A secret that a container is given as a file below [`SECRETS_TARGET`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its name, and the file's.
    pub name: SecretName,
    /// Whether the container starts without it; the file is then absent.
    pub is_optional: bool,
    /// How many random bytes the vault makes of it, 16-64, written as base64url; none: somebody sets it.
    pub generate: Option<u32>,
}

/// What all containers of a service say of one secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretUse {
    /// Whether every container that names it starts without it.
    pub is_optional: bool,
    /// How many random bytes the vault makes of it; none: somebody sets it.
    pub generate: Option<u32>,
}

/// Every secret that one of `containers` names.
pub(crate) fn used(containers: &[Container]) -> BTreeMap<SecretName, SecretUse> {
    let mut all = BTreeMap::new();
    for secret in containers.iter().flat_map(|container| &container.secrets) {
        let entry = all.entry(secret.name.clone()).or_insert(SecretUse {
            is_optional: true,
            generate: secret.generate,
        });
        entry.is_optional &= secret.is_optional;
    }
    all
}

/// Whether a mount at `target` would meet the secrets.
pub(crate) fn meets(target: &AbsolutePath) -> bool {
    AbsolutePath::new(SECRETS_TARGET).is_ok_and(|secrets| secrets.overlaps(target))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn service(text: &str) -> Name {
        Name::try_from(text).unwrap()
    }

    #[test]
    fn names_are_files_and_ends_of_names_in_the_vault() {
        for good in ["a", "dns_token", "a1", "a__b", "a_", &"x".repeat(32)] {
            let name = SecretName::try_from(good).unwrap();
            assert_eq!(name.in_vault(&service("caddy")), format!("svc_caddy_{good}"));
        }
        for bad in [
            "",
            "_a",
            "1a",
            "A",
            "a-b",
            "a.b",
            "../a",
            "a/b",
            "a\0",
            "a\n",
            "å",
            &"x".repeat(33),
        ] {
            assert_eq!(SecretName::try_from(bad), Err(InvalidSecretName), "{bad:?}");
        }
    }

    /// Services and secrets made of the few pieces that could be taken for one another: all names in the vault differ, and each
    /// belongs to its own service alone.
    #[test]
    fn no_two_services_meet_in_a_name_of_the_vault() {
        let pieces = ["a", "a-a", "a--a", "a-a-a", "a---a", "aa", "a-aa"];
        let secrets = ["a", "a_a", "a__a", "a_", "a__", "a___a", "aa"];
        let mut seen = BTreeMap::new();
        for one in pieces {
            for secret in secrets {
                let name = SecretName::try_from(secret).unwrap();
                let text = name.in_vault(&service(one));
                assert_eq!(seen.insert(text.clone(), (one, secret)), None, "{text}");
                for other in pieces {
                    let owner = from_vault(&service(other), &text);
                    assert_eq!(owner.is_some(), other == one, "{text} of {other}");
                }
            }
        }
    }
}
