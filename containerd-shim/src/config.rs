//! The policy file (`broker.toml`). Unknown keys are refused, and every fault is named at once.

mod backup;
mod ceiling;

use std::path::PathBuf;
use std::time::Duration;

use cell_broker_core::Policy;
use cell_broker_core::deploy::Ceiling;
use cell_broker_core::model::{LabelKey, LabelValue, Ownership};
use cell_proto::ipc::CallerPolicy;
use serde::Deserialize;

use crate::backup::BackupPolicy;

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Docker's socket. Opened anew for each request, so that Docker can come and go.
    pub docker_socket: PathBuf,
    /// What the broker judges by.
    pub policy: Policy,
    /// How many requests are under way at once; more are refused.
    pub max_concurrent: usize,
    /// How long Docker has for one answer, beyond the time that a container is given to stop.
    pub docker_deadline: Duration,
    /// What may be deployed at most; without it nothing is.
    pub ceiling: Option<Ceiling>,
    /// Whom backups are for; without it there are none.
    pub backup: Option<BackupPolicy>,
    /// Who may use the listener `api`.
    pub api: CallerPolicy,
}

/// A policy file that cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// Not TOML, a key that nobody knows, or a value of the wrong type.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// Values that cannot be: "key: what is wrong", one per line.
    #[error("{}", .0.join("\n"))]
    Values(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    docker_socket: PathBuf,
    owner_label: String,
    service_label: String,
    cell_id: String,
    max_concurrent: usize,
    docker_deadline_seconds: u64,
    callers: Callers,
    deploy: Option<ceiling::Table>,
    backup: Option<backup::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Callers {
    api: Caller,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Caller {
    users: Vec<String>,
    #[serde(default)]
    unit: Option<String>,
}

impl Config {
    /// Parses a policy file. `uid_of` finds a user's id, e.g. by getpwnam(3).
    ///
    /// # Errors
    /// [`InvalidConfig`] names all faults.
    pub fn parse(text: &str, uid_of: impl Fn(&str) -> Option<u32>) -> Result<Self, InvalidConfig> {
        let file: File = toml::from_str(text)?;
        let mut faults = Vec::new();
        if !file.docker_socket.is_absolute() {
            faults.push("docker_socket: is an absolute path".to_owned());
        }
        if !(1..=256).contains(&file.max_concurrent) {
            faults.push("max_concurrent: is 1-256".to_owned());
        }
        if !(1..=25).contains(&file.docker_deadline_seconds) {
            // Together with the longest stop (60 s) it must fit into the deadline of a call.
            faults.push("docker_deadline_seconds: is 1-25".to_owned());
        }
        let ownership = ownership(&file, &mut faults);
        let ceiling = match (file.deploy, &ownership) {
            (Some(table), Some(ownership)) => table.ceiling(ownership.clone(), &uid_of, &mut faults),
            (Some(_) | None, _) => None,
        };
        let backup = file.backup.map(|table| table.policy(&mut faults));
        let api = caller(file.callers.api, uid_of, &mut faults);
        match ownership {
            Some(ownership) if faults.is_empty() => Ok(Config {
                docker_socket: file.docker_socket,
                policy: Policy { ownership },
                max_concurrent: file.max_concurrent,
                docker_deadline: Duration::from_secs(file.docker_deadline_seconds),
                ceiling,
                backup,
                api,
            }),
            _ => Err(InvalidConfig::Values(faults)),
        }
    }
}

fn ownership(file: &File, faults: &mut Vec<String>) -> Option<Ownership> {
    let mut named = |key: &str, fault: &dyn ToString| faults.push(format!("{key}: {}", fault.to_string()));
    let owner = LabelKey::try_from(file.owner_label.as_str())
        .map_err(|e| named("owner_label", &e))
        .ok();
    let service = LabelKey::try_from(file.service_label.as_str())
        .map_err(|e| named("service_label", &e))
        .ok();
    let id = LabelValue::try_from(file.cell_id.as_str())
        .map_err(|e| named("cell_id", &e))
        .ok();
    Ownership::new(owner?, id?, service?)
        .map_err(|e| named("service_label", &e))
        .ok()
}

fn caller(caller: Caller, uid_of: impl Fn(&str) -> Option<u32>, faults: &mut Vec<String>) -> CallerPolicy {
    if caller.users.is_empty() {
        faults.push("callers.api.users: name at least one user".to_owned());
    }
    let mut uids = Vec::new();
    for user in caller.users {
        match uid_of(&user) {
            Some(uid) => uids.push(uid),
            None => faults.push(format!(
                "callers.api.users: there is no user {user:?} on this machine"
            )),
        }
    }
    CallerPolicy {
        uids,
        unit: caller.unit,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const GOOD: &str = r#"
        docker_socket = "/run/docker.sock"
        owner_label = "cell.owner"
        service_label = "cell.service"
        cell_id = "default"
        max_concurrent = 16
        docker_deadline_seconds = 20
        [callers.api]
        users = ["cell-api"]
        unit = "cell-api.service"
    "#;

    fn parse(text: &str) -> Result<Config, InvalidConfig> {
        Config::parse(text, |user| (user == "cell-api").then_some(990))
    }

    #[test]
    fn the_documented_file_is_accepted() {
        let config = parse(GOOD).unwrap();
        assert_eq!(
            config.api,
            CallerPolicy {
                uids: vec![990],
                unit: Some("cell-api.service".to_owned())
            }
        );
        assert_eq!(config.policy.ownership.owner_filter(), "cell.owner=default");
    }

    #[test]
    fn unknown_and_missing_keys_are_refused() {
        assert!(
            parse(&format!("allow_all = true\n{GOOD}"))
                .unwrap_err()
                .to_string()
                .contains("allow_all")
        );
        assert!(parse(&GOOD.replace("cell_id", "cellid")).is_err());
        assert!(parse(&GOOD.replace("unit", "units")).is_err());
        assert!(parse("").is_err());
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let bad = GOOD
            .replace("/run/docker.sock", "docker.sock")
            .replace("= 16", "= 0")
            .replace("= 20", "= 600")
            .replace("cell.owner", "cell.owner=x")
            .replace("\"default\"", "\"\"")
            .replace("[\"cell-api\"]", "[\"nobody-here\"]");
        let message = parse(&bad).unwrap_err().to_string();
        let keys = [
            "docker_socket",
            "max_concurrent",
            "docker_deadline_seconds",
            "owner_label",
            "cell_id",
            "callers.api",
        ];
        for key in keys {
            assert!(message.contains(key), "{key} in {message}");
        }
    }

    #[test]
    fn one_label_cannot_answer_both_questions() {
        assert!(
            parse(&GOOD.replace("cell.service", "cell.owner"))
                .unwrap_err()
                .to_string()
                .contains("different keys")
        );
    }

    /// With a table of deployments.
    fn deploying(table: &str) -> String {
        format!(
            "{GOOD}\n[deploy]\nmanifest_keys = []\nimage_policy = \"enforce\"\nregistries = [\"reg.example/store\"]\n\
             cell_network = \"172.20.0.0/24\"\nservice_networks = \"172.21.0.0/16\"\n\
             bridge_prefix = \"cellsvc\"\n{table}\n[deploy.limits]\nmemory_mib = 512\ncpu_milli = 1000\npids = 256\n\
             services = 8\ntotal_memory_mib = 2048\nmanifests = 16\n"
        )
    }

    #[test]
    fn without_a_table_nothing_is_deployed_and_with_one_it_is_the_ceiling() {
        assert_eq!(parse(GOOD).unwrap().ceiling, None);
        let ceiling = parse(&deploying("")).unwrap().ceiling.unwrap();
        assert_eq!(ceiling.limits.services, 8);
        assert!(
            ceiling.bind_roots.is_empty() && ceiling.published.is_empty() && ceiling.capabilities.is_empty()
        );
    }

    #[test]
    fn each_fault_of_the_ceiling_is_named() {
        let root = |path: &str| format!("[deploy.bind_roots.media]\npath = \"{path}\"");
        let paths = [
            "/",
            "/etc",
            "/var/lib",
            "/run/cell",
            "/var/lib/docker/x",
            "/srv/../etc",
            "/proc",
            "srv",
        ];
        for path in paths {
            let message = parse(&deploying(&root(path))).unwrap_err().to_string();
            assert!(message.contains("bind_roots.media"), "{path}: {message}");
        }
        assert!(parse(&deploying(&root("/srv/media"))).is_ok(), "control");
        for (table, key) in [
            ("local_images = \"images.toml\"", "local_images"),
            ("shipped = \"/usr/share/../x\"", "shipped"),
            ("capabilities = [\"SYS_ADMIN\"]", "capabilities[0]"),
            ("image_keys = [\"x\"]", "image_keys[0]"),
            ("core = { caddy = \"10.0.0.1\" }", "core"),
            ("core = { caddy = \"172.20.0.1\" }", "core"),
            ("core = { caddy = \"172.20.0.2\", dns = \"172.20.0.2\" }", "core"),
            (
                "published = [{ address = \"0.0.0.0\", first = 2000, last = 2001 }]",
                "published",
            ),
            (
                "published = [{ address = \"127.0.0.1\", first = 80, last = 81 }]",
                "published",
            ),
            ("privileged = true", "privileged"),
        ] {
            let message = parse(&deploying(table)).unwrap_err().to_string();
            assert!(message.contains(key), "{key}: {message}");
        }
        for (good, bad, key) in [
            ("172.21.0.0/16", "172.20.0.0/17", "service_networks"),
            ("172.21.0.0/16", "172.21.0.0/26", "service_networks"),
            ("\"enforce\"", "\"maybe\"", "image_policy"),
            ("\"cellsvc\"", "\"cellsvc/../x\"", "bridge_prefix"),
            ("172.20.0.0/24", "172.20.0.0/16", "cell_network"),
            ("services = 8", "services = 0", "limits.services"),
            ("reg.example/store", "http://reg.example", "registries"),
        ] {
            let message = parse(&deploying("").replace(good, bad)).unwrap_err().to_string();
            assert!(message.contains(key), "{key}: {message}");
        }
    }

    #[test]
    fn backups_are_for_public_keys_and_a_secret_one_is_not_repeated() {
        let identity = age::x25519::Identity::generate();
        let with = |recipients: &str| parse(&format!("{GOOD}\n[backup]\n{recipients}"));
        assert_eq!(parse(GOOD).unwrap().backup, None);
        let none = with("recipients = []").unwrap().backup.unwrap();
        assert!(none.recipients.is_empty());
        let one = with(&format!(
            "recipients = [\"{}\"]\nmost_mib = 3",
            identity.to_public()
        ))
        .unwrap();
        let one = one.backup.unwrap();
        assert_eq!((one.recipients.len(), one.most_bytes), (1, 3 << 20));
        let secret = identity.to_string();
        let secret = age::secrecy::ExposeSecret::expose_secret(&secret);
        for bad in ["age1qqqq", "ssh-ed25519 AAAA", "", secret] {
            let message = with(&format!("recipients = [\"{bad}\"]"))
                .unwrap_err()
                .to_string();
            assert!(message.contains("backup.recipients[0]"), "{message}");
            assert!(!message.contains("AGE-SECRET-KEY-1"), "{message}");
        }
        for bad in ["recipients = []\nmost_mib = 0", "recipient = []", "most_mib = 1"] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_root_of_the_cells_own_lies_where_the_cell_keeps_such() {
        let root = |path: &str| format!("[deploy.bind_roots.media]\npath = \"{path}\"");
        let of_core = |path: &str, more: &str| {
            format!("[deploy.bind_roots.media]\npath = \"{path}\"\nowner = \"cell-api\"\n{more}")
        };
        let good = parse(&deploying(&of_core("/var/lib/cell/core/dns", "core = true"))).unwrap();
        let roots = good.ceiling.unwrap().bind_roots;
        assert!(
            roots.values().all(|root| root.core && root.owner == Some(990)),
            "control"
        );
        for (path, more) in [
            ("/var/lib/cell/core/dns", ""),
            ("/var/lib/cell/coredns", "core = true"),
            ("/var/lib/cell", "core = true"),
            ("/run/cell/broker", "core = true"),
            ("/etc/cell", "core = true"),
        ] {
            let message = parse(&deploying(&of_core(path, more))).unwrap_err().to_string();
            assert!(message.contains("bind_roots.media"), "{path}: {message}");
        }
        let stranger = root("/srv/media") + "\nowner = \"stranger\"";
        assert!(
            parse(&deploying(&stranger))
                .unwrap_err()
                .to_string()
                .contains("media.owner")
        );
    }
}
