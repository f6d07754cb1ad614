//! The manifest as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use crate::container::Container;
use crate::field::{Field, Values};
use crate::name::Name;
use crate::path::BelowRoot;
use crate::rule::{Faults, Rule};
use crate::secret::{self, SecretName, SecretUse};
use crate::{check, strict, wire};

/// Longest manifest, bytes.
pub const MANIFEST_MAX_BYTES: usize = 64 * 1024;
/// Most containers of one service.
pub const CONTAINERS_MAX: usize = 8;

/// A manifest that was found right. Only [`Manifest::parse`] makes one, and nothing changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest(Content);

/// What a manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// What it is for.
    pub purpose: Purpose,
    /// The service's id: first label of its names, and of its containers, volumes and networks.
    pub id: Name,
    /// For people.
    pub title: String,
    /// For people.
    pub description: String,
    /// For people, and for order: dotted numbers.
    pub version: String,
    /// For people.
    pub author: String,
    /// What the service has.
    pub flags: Flags,
    /// Whether there can be several, each with a name of its own.
    pub instanceable: bool,
    /// What an administrator may set, by name.
    pub config_schema: BTreeMap<String, Field>,
    /// One or more.
    pub containers: Vec<Container>,
    /// By which names it is reached.
    pub routing: Option<Routing>,
    /// How accounts are made.
    pub accounts: Option<Accounts>,
    /// What a backup holds.
    pub backup: Option<Backup>,
    /// By which exits it may reach the internet. See [`Manifest::has_way_out`] for what has none.
    pub egress: Option<Egress>,
    /// Services that have to be there.
    pub requires: BTreeSet<Name>,
}

/// What a manifest is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A service of the store, on a network of its own.
    Store,
    /// A container of the cell itself (proxy, DNS, time), on the cell's network. The ceiling has to list its id.
    Core,
}

/// What a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// A name below the cell's domain.
    pub has_subdomain: bool,
    /// Accounts of peers.
    pub has_accounts: bool,
    /// Something for an administrator to set.
    pub has_admin_config: bool,
    /// Data to keep.
    pub has_storage: bool,
    /// A way to the internet.
    pub has_egress: bool,
}

/// A port of one of the service's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The container's name.
    pub container: Name,
    /// One of its TCP ports.
    pub port: u16,
}

/// Names and what answers them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// First label of the service's name.
    pub subdomain: Name,
    /// What answers it.
    pub backend: Backend,
    /// More names with backends of their own.
    pub extra: BTreeMap<Name, Backend>,
}

/// The service's own interface for accounts: HTTP on its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// Who answers.
    pub backend: Backend,
    /// Path that accounts lie below.
    pub path: String,
    /// Whether the service speaks TLS itself, and takes the certificate of its names there (`PUT /certificate`).
    pub certificate: bool,
}

/// What a backup holds: folders in volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Volume and folder in it.
    pub paths: Vec<(Name, BelowRoot)>,
}

/// Kinds of exits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// What an administrator may choose from.
    pub allowed: BTreeSet<String>,
    /// What is chosen at first.
    pub default: Option<String>,
}

impl Manifest {
    /// Parses and validates at most [`MANIFEST_MAX_BYTES`] of JSON.
    ///
    /// # Errors
    /// Every fault of its values at once; of its form, the first.
    pub fn parse(bytes: &[u8]) -> Result<Self, Faults> {
        let value = strict::parse(bytes, MANIFEST_MAX_BYTES)
            .map_err(|malformed| Faults::one("manifest", malformed.rule(), malformed.to_string()))?;
        let written: wire::Manifest = serde_json::from_value(value).map_err(|error| {
            // serde names the key that it does not know, as the author wrote it.
            let words: String = error
                .to_string()
                .chars()
                .filter(|c| !c.is_control())
                .take(300)
                .collect();
            Faults::one("manifest", Rule::S1, words)
        })?;
        check::manifest(written).map(Manifest)
    }

    /// What a service of this manifest is called: its id, and the instance's name after a hyphen.
    ///
    /// # Errors
    /// An instance of what has none, none of what has some, or a name that is too long.
    pub fn service_name(&self, instance: &str) -> Result<Name, Faults> {
        let whole = match (self.instanceable, instance) {
            (false, "") => return Ok(self.id.clone()),
            (true, instance) if Name::try_from(instance).is_ok() => format!("{}-{instance}", self.id),
            (true, _) => return Err(Faults::one("instance", Rule::S2, "is required, and a name")),
            (false, _) => return Err(Faults::one("instance", Rule::S4, "the service has no instances")),
        };
        Name::try_from(whole.as_str()).map_err(|_| {
            Faults::one(
                "instance",
                Rule::S2,
                "with the service's id has at most 32 characters",
            )
        })
    }

    /// Every secret that one of its containers is given.
    pub fn secrets(&self) -> BTreeMap<SecretName, SecretUse> {
        secret::used(&self.containers)
    }

    /// The values that parameters and defaults give.
    ///
    /// # Errors
    /// See [`Values::of`].
    pub fn values(&self, parameters: &BTreeMap<String, String>) -> Result<Values, Faults> {
        Values::of(&self.config_schema, parameters)
    }
}

impl Deref for Manifest {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.0
    }
}
