//! The manifest as it is written. Unknown keys are refused.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub schema_version: u32,
    pub kind: String,
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub description: String,
    pub version: String,
    #[serde(default)]
    pub author: String,
    #[serde(default)]
    pub flags: Flags,
    #[serde(default)]
    pub instanceable: bool,
    #[serde(default)]
    pub config_schema: BTreeMap<String, Field>,
    pub containers: Vec<Container>,
    pub routing: Option<Routing>,
    pub accounts: Option<Accounts>,
    pub backup: Option<Backup>,
    pub egress: Option<Egress>,
    #[serde(default)]
    pub requires: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Flags {
    pub has_subdomain: bool,
    pub has_accounts: bool,
    pub has_admin_config: bool,
    pub has_storage: bool,
    pub has_egress: bool,
    pub has_api_hooks: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Field {
    pub r#type: String,
    #[serde(default)]
    pub label: String,
    pub min: Option<i64>,
    pub max: Option<i64>,
    pub pattern: Option<String>,
    pub max_length: Option<u64>,
    pub values: Option<Vec<String>>,
    #[serde(default)]
    pub secret: bool,
    pub default: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Container {
    pub name: String,
    pub image: String,
    #[serde(default)]
    pub entrypoint: Vec<String>,
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    pub working_dir: Option<String>,
    pub user: String,
    #[serde(default = "yes")]
    pub read_only_root: bool,
    #[serde(default)]
    pub gateway: bool,
    #[serde(default)]
    pub capabilities: Vec<String>,
    #[serde(default)]
    pub mounts: Vec<Mount>,
    #[serde(default)]
    pub secrets: Vec<Secret>,
    pub limits: Limits,
    pub health: Option<Health>,
    #[serde(default)]
    pub restart: Restart,
    pub stop_signal: Option<String>,
    pub reload_signal: Option<String>,
    pub stop_timeout_seconds: Option<u32>,
    #[serde(default)]
    pub ports: Vec<Port>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mount {
    pub r#type: String,
    pub target: String,
    #[serde(default)]
    pub read_only: bool,
    pub volume: Option<String>,
    pub root: Option<String>,
    pub path: Option<String>,
    pub size_mib: Option<u32>,
    pub mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Secret {
    pub name: String,
    #[serde(default)]
    pub optional: bool,
    pub generate: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub memory_mib: u32,
    pub cpu_milli: u32,
    pub pids: u32,
    pub shm_mib: Option<u32>,
    pub files: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Health {
    pub command: Vec<String>,
    pub interval_seconds: u32,
    pub timeout_seconds: u32,
    pub retries: u32,
    #[serde(default)]
    pub start_period_seconds: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restart {
    pub policy: String,
    pub retries: Option<u32>,
}

impl Default for Restart {
    fn default() -> Self {
        Restart {
            policy: "no".to_owned(),
            retries: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Port {
    pub port: u16,
    pub protocol: Option<String>,
    pub publish: Option<Publish>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Publish {
    pub address: String,
    pub port: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Routing {
    pub subdomain: String,
    pub backend: String,
    #[serde(default)]
    pub extra_subdomains: Vec<String>,
    #[serde(default)]
    pub extra_backends: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Accounts {
    pub backend: String,
    pub path: String,
    #[serde(default)]
    pub certificate: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backup {
    pub paths: Vec<BackupPath>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackupPath {
    pub volume: String,
    #[serde(default)]
    pub path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Egress {
    pub allowed: Vec<String>,
    pub default: Option<String>,
}
