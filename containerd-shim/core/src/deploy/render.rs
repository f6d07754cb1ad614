//! An approval becomes the body of a create request: every field that matters stands in it.

use std::collections::{BTreeMap, BTreeSet};

use cell_manifest::{
    BelowRoot, Capability, Container, Digest, Health, Limits, Name, SECRETS_TARGET, Source, Template,
};
use serde_json::{Map, Value, json};

use super::ceiling::Ceiling;
use super::judge::{Approved, ApprovedContainer, volume};
use super::recheck::{Violations, recheck};

/// The seccomp profile of all containers: an allow-list, the same whatever the daemon's own is.
pub const SECCOMP: &str = include_str!("seccomp.json");
/// The cgroup of all containers.
pub(super) const CGROUP: &str = "cell-apps.slice";
/// The one kernel parameter, of gateways.
pub(super) const GATEWAY_SYSCTL: (&str, &str) = ("net.ipv4.conf.all.src_valid_mark", "1");
const MIB: u64 = 1024 * 1024;
const SECOND_NS: u64 = 1_000_000_000;

/// What the broker made or looked up for a deployment, by which it is rendered and looked at once more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Given {
    /// Full id of its network.
    pub network: String,
    /// Folders of the machine, as they were walked.
    pub binds: BTreeMap<(Name, BelowRoot), String>,
    /// Ids of images that root built on the machine, which this deployment uses.
    pub images: BTreeSet<Digest>,
    /// Which attempt: a word that only this deployment's containers bear.
    pub attempt: String,
    /// Whether its manifest is one of the ceiling's gateways.
    pub gateway: bool,
}

/// A request that may be sent: it passed [`recheck`]. Only [`Approved::finish`] makes one.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    name: String,
    handle: String,
    body: Value,
}

/// Why there is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfinished {
    /// The approval has no such container.
    #[error("there is no such container")]
    NoContainer,
    /// A folder was not walked, or there is none for secrets.
    #[error("a bind was not looked up")]
    NoBind,
    /// It breaks the field policy: a fault of the broker's own.
    #[error("the finished request breaks the field policy: {0}")]
    Violations(#[from] Violations),
}

impl Finished {
    /// Docker's name for the container.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What other verbs know it by.
    pub fn handle(&self) -> &str {
        &self.handle
    }

    /// The body.
    pub fn body(&self) -> &Value {
        &self.body
    }
}

impl Approved {
    /// The request for container `n`, looked at once more.
    ///
    /// # Errors
    /// [`Unfinished`]; nothing may then be sent.
    pub fn finish(&self, ceiling: &Ceiling, given: &Given, n: usize) -> Result<Finished, Unfinished> {
        let approved = self.containers.get(n).ok_or(Unfinished::NoContainer)?;
        let body = self.render(ceiling, given, approved).ok_or(Unfinished::NoBind)?;
        recheck(&body, ceiling, Some(given))?;
        Ok(Finished {
            name: format!("cell-{}-{}", self.service, approved.container.name),
            handle: approved.handle.clone(),
            body,
        })
    }

    fn render(&self, ceiling: &Ceiling, given: &Given, approved: &ApprovedContainer) -> Option<Value> {
        let container = &approved.container;
        let fill = |template: &Template| template.fill(&self.service, &self.values);
        let words = |words: &[Template]| words.iter().map(fill).collect::<Vec<_>>();
        let environment: Vec<String> = container
            .environment
            .iter()
            .map(|(key, value)| format!("{key}={}", fill(value)))
            .collect();
        let mut body = json!({
            "Hostname": container.name.as_str(),
            "User": container.user.to_string(),
            "Image": approved.image_id.as_ref().map_or_else(|| container.image.to_string(), Digest::to_string),
            "Env": environment,
            "Labels": self.labels(ceiling, given, approved),
            "Healthcheck": self.health(container.health.as_ref()),
            "StopSignal": container.stop_signal.word(),
            "StopTimeout": container.stop_timeout_seconds,
            "ExposedPorts": ports(container, |_| json!({})),
            "HostConfig": self.host(ceiling, given, approved)?,
            "NetworkingConfig": {"EndpointsConfig": {given.network.clone(): {
                "Aliases": [container.name.as_str()],
                "IPAMConfig": {"IPv4Address": approved.address.to_string(), "IPv6Address": ""},
            }}},
        });
        // Absent, the image has them: it is known by its digest.
        let optional = [
            (
                "Entrypoint",
                (!container.entrypoint.is_empty()).then(|| json!(words(&container.entrypoint))),
            ),
            (
                "Cmd",
                (!container.command.is_empty()).then(|| json!(words(&container.command))),
            ),
            (
                "WorkingDir",
                container.working_dir.as_ref().map(|dir| json!(dir.as_str())),
            ),
        ];
        let object = body.as_object_mut()?;
        object.extend(
            optional
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?))),
        );
        Some(body)
    }

    fn labels(&self, ceiling: &Ceiling, given: &Given, approved: &ApprovedContainer) -> Value {
        let mut labels: BTreeMap<String, String> = ceiling.ownership.labels(&approved.handle);
        labels.insert("cell.part-of".to_owned(), self.service.to_string());
        labels.insert("cell.manifest".to_owned(), self.digest.to_string());
        labels.insert("cell.attempt".to_owned(), given.attempt.clone());
        json!(labels)
    }

    fn health(&self, health: Option<&Health>) -> Value {
        let Some(health) = health else {
            // Also where the image brings a check of its own.
            return json!({"Test": ["NONE"]});
        };
        let words = health
            .command
            .iter()
            .map(|word| word.fill(&self.service, &self.values));
        let test: Vec<String> = std::iter::once("CMD".to_owned()).chain(words).collect();
        json!({
            "Test": test,
            "Interval": u64::from(health.interval_seconds) * SECOND_NS,
            "Timeout": u64::from(health.timeout_seconds) * SECOND_NS,
            "Retries": health.retries,
            "StartPeriod": u64::from(health.start_period_seconds) * SECOND_NS,
            "StartInterval": 5 * SECOND_NS,
        })
    }

    fn host(&self, ceiling: &Ceiling, given: &Given, approved: &ApprovedContainer) -> Option<Value> {
        let container = &approved.container;
        let capabilities: Vec<&str> = container
            .capabilities
            .iter()
            .map(|c: &Capability| c.word())
            .collect();
        let sysctls: BTreeMap<_, _> = container.gateway.then_some(GATEWAY_SYSCTL).into_iter().collect();
        let mut host = json!({
            "Privileged": false,
            "CapAdd": capabilities,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges", format!("seccomp={SECCOMP}")],
            "ReadonlyRootfs": container.read_only_root,
            "Devices": devices(container.gateway),
            "Sysctls": sysctls,
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "CgroupParent": CGROUP,
            "NetworkMode": given.network,
            "Dns": [self.network.gateway.to_string()],
            "PublishAllPorts": false,
            "PortBindings": ports(container, |published| json!([published])),
            "Init": true,
            "OomScoreAdj": 500,
            // Docker starts nothing by itself, at boot least of all: the broker does (`crate::supervise`).
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
            "Mounts": self.mounts(ceiling, given, container)?,
        });
        host.as_object_mut()?.extend(limits(container.limits));
        Some(host)
    }

    fn mounts(&self, ceiling: &Ceiling, given: &Given, container: &Container) -> Option<Value> {
        let mount = |mount: &cell_manifest::Mount| {
            let (target, read_only) = (mount.target.as_str(), mount.read_only);
            Some(match &mount.source {
                Source::Volume(name) => json!({
                    "Type": "volume", "Source": volume(&self.service, name), "Target": target, "ReadOnly": read_only,
                    "VolumeOptions": {"NoCopy": false},
                }),
                Source::Bind { root, below } => {
                    ceiling.bind_roots.get(root)?;
                    let source = given.binds.get(&(root.clone(), below.clone()))?;
                    json!({
                        "Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only,
                        "BindOptions": {"Propagation": "rprivate", "ReadOnlyForceRecursive": read_only},
                    })
                }
                Source::Tmpfs { size_mib, mode } => json!({
                    "Type": "tmpfs", "Source": "", "Target": target, "ReadOnly": read_only,
                    "TmpfsOptions": {"SizeBytes": u64::from(*size_mib) * MIB, "Mode": mode},
                }),
            })
        };
        let secrets = (!container.secrets.is_empty()).then(|| {
            let source = ceiling.secrets.as_ref()?.of(&self.service, &container.name);
            Some(json!({
                "Type": "bind", "Source": source, "Target": SECRETS_TARGET, "ReadOnly": true,
                "BindOptions": {"Propagation": "rprivate", "ReadOnlyForceRecursive": true},
            }))
        });
        container
            .mounts
            .iter()
            .map(mount)
            .chain(secrets)
            .collect::<Option<Vec<_>>>()
            .map(Value::Array)
    }
}

fn limits(limits: Limits) -> Map<String, Value> {
    let memory = u64::from(limits.memory_mib) * MIB;
    let ulimit = |name: &str, most: u32| json!({"Name": name, "Soft": most, "Hard": most});
    [
        ("Memory", json!(memory)),
        ("MemorySwap", json!(memory)),
        ("MemoryReservation", json!(memory / 2)),
        ("NanoCpus", json!(u64::from(limits.cpu_milli) * 1_000_000)),
        ("CpuShares", json!(512)),
        ("PidsLimit", json!(limits.pids)),
        ("ShmSize", json!(u64::from(limits.shm_mib) * MIB)),
        (
            "Ulimits",
            json!([
                ulimit("nofile", limits.files),
                ulimit("nproc", 4096),
                ulimit("core", 0)
            ]),
        ),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

fn devices(gateway: bool) -> Value {
    if gateway {
        json!([{"PathOnHost": "/dev/net/tun", "PathInContainer": "/dev/net/tun", "CgroupPermissions": "rw"}])
    } else {
        json!([])
    }
}

/// Published ports, by the container's own.
fn ports(container: &Container, entry: impl Fn(Value) -> Value) -> Value {
    let published = container.ports.iter().filter_map(|port| {
        let at = port.published?;
        let host = json!({"HostIp": at.address.to_string(), "HostPort": at.port.to_string()});
        Some((format!("{}/{}", port.port, port.protocol.word()), entry(host)))
    });
    Value::Object(published.collect())
}
