//! The store: its catalog, and services that are installed.

mod convert;
mod input;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What can be installed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Catalog {
    /// In the order of ids.
    pub services: Vec<CatalogService>,
    /// What of the catalog cannot be used, a sentence each.
    pub faults: Vec<String>,
}

/// A service of the catalog.
#[derive(Debug, Serialize, ToSchema)]
pub struct CatalogService {
    /// Its id.
    pub id: String,
    /// For people.
    pub title: String,
    /// For people.
    pub description: String,
    /// For people, and for order.
    pub version: String,
    /// Of the manifest's bytes.
    pub digest: String,
    /// `store`, or `core`: one of the cell's own containers. Null: its manifest cannot be used.
    #[schema(required)]
    pub purpose: Option<String>,
    /// Whether there can be several, each with a name of its own.
    pub instanceable: bool,
    /// Ids of services that have to be installed before.
    pub requires: Vec<String>,
    /// Whether its containers have a way out of their network at all. Without, nothing can carry them.
    pub has_way_out: bool,
    /// Types of connections that may carry it.
    pub exit_types: Vec<String>,
    /// The type of the connection that carries it where nobody chooses; null: nothing does.
    #[schema(required)]
    pub default_exit_type: Option<String>,
    /// What can be set, in the order of names.
    pub form: Vec<FormField>,
    /// Names of services that are installed of it.
    pub installed: Vec<String>,
    /// Why it cannot be installed, a sentence each.
    pub faults: Vec<String>,
    /// The remote catalog that it is of; null: it came with the cell.
    #[schema(required)]
    pub origin: Option<String>,
    /// Whether the broker's ceiling takes its manifest's signature; null: it has none or cannot be used, or the broker does not say.
    #[schema(required)]
    pub deployable: Option<bool>,
    /// What makes it deployable, where it is not: the line for broker.toml.
    #[schema(required)]
    pub deployable_fix: Option<String>,
}

/// A field of the configuration.
#[derive(Debug, Serialize, ToSchema)]
pub struct FormField {
    /// Its name, as parameters have it.
    pub name: String,
    /// What people read.
    pub label: String,
    /// `integer`, `boolean`, `string` or `enum`.
    pub kind: String,
    /// Least number.
    #[schema(required)]
    pub min: Option<i64>,
    /// Greatest number.
    #[schema(required)]
    pub max: Option<i64>,
    /// Which texts: `label`, `hostname`, `word`, `email` or `printable`.
    #[schema(required)]
    pub pattern: Option<String>,
    /// Most bytes of a text.
    #[schema(required)]
    pub max_length: Option<u64>,
    /// What can be chosen.
    pub values: Vec<String>,
    /// Its value where none is set; null: one has to be set.
    #[schema(required)]
    pub default: Option<String>,
    /// What it takes, in words.
    pub help: String,
}

/// Services that are installed, or on their way.
#[derive(Debug, Serialize, ToSchema)]
pub struct InstalledServices {
    /// In the order of names.
    pub services: Vec<Service>,
}

/// A service that is installed, or on its way.
#[derive(Debug, Serialize, ToSchema)]
pub struct Service {
    /// What it is called.
    pub name: String,
    /// Its id in the catalog.
    pub id: String,
    /// The instance's name; empty: there is one alone.
    pub instance: String,
    /// For people.
    pub title: String,
    /// For people.
    pub version: String,
    /// Of the manifest's bytes.
    pub digest: String,
    /// `store`, or `core`: one of the cell's own containers.
    pub purpose: String,
    /// Where it stands.
    pub phase: ServicePhase,
    /// What is being done, or was when it failed; empty when it is installed.
    pub step: String,
    /// How far an image is, while images are fetched.
    #[schema(required)]
    pub progress: Option<ServiceProgress>,
    /// What the step waits for.
    #[schema(required)]
    pub waiting: Option<ServiceFault>,
    /// Why it is not as it was asked to be.
    #[schema(required)]
    pub error: Option<ServiceFault>,
    /// Whether somebody stopped it.
    pub stopped: bool,
    /// Whether devices are let to it.
    pub published: bool,
    /// Its address in the VPN.
    #[schema(required)]
    pub address: Option<String>,
    /// The names by which devices find it, its own first.
    pub names: Vec<String>,
    /// Where its containers lie.
    #[schema(required)]
    pub subnet: Option<String>,
    /// Name of its bridge.
    #[schema(required)]
    pub bridge: Option<String>,
    /// What was set of its configuration.
    pub parameters: BTreeMap<String, String>,
    /// Whether it has accounts of its own.
    pub has_accounts: bool,
    /// What can be set, in the order of names.
    pub form: Vec<FormField>,
    /// Whether every device may reach it.
    pub everyone: bool,
    /// Else these.
    pub allowed_peers: Vec<String>,
    /// What the catalog has instead.
    #[schema(required)]
    pub update: Option<ServiceUpdate>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
}

/// Where a service stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServicePhase {
    /// On the way in.
    Installing,
    /// It is there.
    Installed,
    /// On the way to another manifest or other parameters.
    Updating,
    /// On the way out.
    Removing,
    /// It went no further.
    Failed,
}

/// How far an image is.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceProgress {
    /// Which image.
    pub image: String,
    /// Docker's word for what it does.
    pub status: String,
    /// Bytes so far of the part that this is about; 0: not told.
    pub current_bytes: u64,
    /// Of so many.
    pub total_bytes: u64,
}

/// Why something is not so.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceFault {
    /// UPPER_SNAKE.
    pub code: String,
    /// For people.
    pub message: String,
}

/// Another manifest of the catalog's.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceUpdate {
    /// Its version.
    pub version: String,
    /// Its digest.
    pub digest: String,
}

/// A service as it is now, or what a change would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceOrPlan {
    /// As it is now; null with `validate_only`.
    #[schema(required)]
    pub service: Option<Service>,
    /// With `validate_only`: what it would do, a sentence each.
    pub plan: Vec<String>,
}

/// Installs a service.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InstallService {
    /// Where there can be several: this one's name.
    pub instance: Option<String>,
    /// Fields of the configuration by name, as texts; those that are not named have their defaults. Numbers in decimal, `true` or
    /// `false`.
    pub parameters: Option<BTreeMap<String, String>>,
    /// Whether every device may reach it.
    pub everyone: Option<bool>,
    /// Else the names of those that may; none: nobody, until some are named.
    pub allowed_peers: Option<Vec<String>>,
    /// What carries its containers to the internet: a connection's id, its name, or its type where one connection alone has it;
    /// `direct`: the cell's own way; `none`: nothing. Null, or left out: what its manifest has for it, else nothing.
    pub connection_id: Option<String>,
}

/// Sets the configuration of a service, whole.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigureService {
    /// Fields of the configuration by name, as texts; those that are not named have their defaults.
    pub parameters: BTreeMap<String, String>,
}

/// Secrets of a service.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceSecrets {
    /// In the order of names.
    pub secrets: Vec<ServiceSecret>,
}

/// A secret of a service. Its value is in the vault, and nobody is told it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceSecret {
    /// Its name, that of the file below `/run/secrets` in the containers too.
    pub name: String,
    /// What people read.
    pub label: String,
    /// What it takes, in words; empty: it cannot be set here.
    pub help: String,
    /// Whether the service starts without it.
    pub optional: bool,
    /// Whether the vault makes it.
    pub generated: bool,
    /// Whether it can be set here.
    pub can_be_set: bool,
    /// Whether the vault has it.
    pub is_set: bool,
}

/// The value of a secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetServiceSecret {
    /// As its field takes it. It goes to the vault alone.
    #[schema(format = Password)]
    pub value: String,
}

/// Says who may reach a service.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreAccess {
    /// Whether every device may reach it.
    pub everyone: Option<bool>,
    /// Else the names of those that may.
    pub allowed_peers: Vec<String>,
}

/// How a service is, with its containers as the broker has them now.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceStatus {
    /// The service.
    pub service: Service,
    /// Its containers, the main one first; those that the broker says nothing of are left out.
    pub containers: Vec<ServiceContainer>,
    /// Why nothing is known of some containers.
    #[schema(required)]
    pub fault: Option<String>,
}

/// One container of a service.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceContainer {
    /// Its name in the manifest.
    pub name: String,
    /// Its address.
    pub address: String,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead` or `unknown`.
    pub state: String,
    /// `healthy`, `unhealthy`, `starting`; null when there is no health check.
    #[schema(required)]
    pub health: Option<String>,
    /// RFC 3339; null: never.
    #[schema(required)]
    pub started_at: Option<String>,
    /// How often it was started again.
    pub restart_count: u32,
}

/// The last lines of a container's log.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceLogs {
    /// The container's name.
    pub container: String,
    /// Oldest first.
    pub lines: Vec<String>,
    /// Whether older ones were left out.
    pub truncated: bool,
}
