//! What a service is: the signed manifest, schema version 3. One schema and one validator for the broker, which builds
//! containers from it, for `cell-api`, which shows and configures it, and for catalogs. Pure: bytes in, a [`Manifest`] that
//! cannot be wrong out, or every [`Fault`].
//!
//! Names that reach DNS, a proxy or Docker are typed ([`Name`]); what an administrator may set is typed ([`Kind`]) and stands
//! in commands and environments by placeholders alone ([`Template`]). There is no key for a privilege that no service may
//! have: what is absent here cannot be asked in any spelling.

#![forbid(unsafe_code)]

mod check;
mod container;
mod direct;
mod exits;
mod field;
mod image;
mod manifest;
mod name;
mod path;
mod rule;
mod secret;
mod signature;
mod strict;
mod template;
mod wire;

pub use container::{
    Capability, Container, Health, Limits, Mount, Port, Protocol, Published, ReloadSignal, Restart, Source,
    StopSignal, User,
};
pub use exits::EXITS;
pub use field::{Field, Kind, Pattern, Values};
pub use image::{Digest, Image, ImageSource};
pub use manifest::{
    Accounts, Backend, Backup, CONTAINERS_MAX, Content, Egress, Flags, MANIFEST_MAX_BYTES, Manifest, Purpose,
    Routing,
};
pub use name::{InvalidName, Name, RESERVED};
pub use path::{AbsolutePath, BelowRoot};
pub use rule::{Fault, Faults, Rule};
pub use secret::{
    InvalidSecretName, SECRETS_MAX, SECRETS_TARGET, Secret, SecretName, SecretUse, VAULT_PREFIX, from_vault,
    vault_prefix,
};
pub use signature::{InvalidKey, Key};
pub use strict::{Malformed, parse as parse_json};
pub use template::{PLACE_INSTANCE, Part, Template};
