//! A service as a project of Docker Compose, for people to read: the same manifest, the same values. Nothing is started from it:
//! the broker builds its requests from the manifest alone. All of it is typed and written by one YAML writer, so that no value
//! becomes a key; a `$` of a value is one, and no place of Compose's own.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use cell_manifest::{
    Container, Faults, Health, ImageSource, Manifest, Mount, Name, Port, Purpose, Source, Template, Values,
};
use serde::Serialize;

use crate::service_network::Place;
use crate::services::core_network::CoreNetwork;

/// What a gateway is given, as the broker gives it (`cell_broker_core::deploy`).
const TUN: &str = "/dev/net/tun:/dev/net/tun:rw";
const GATEWAY_SYSCTL: (&str, &str) = ("net.ipv4.conf.all.src_valid_mark", "1");

/// A project.
#[derive(Debug, Serialize)]
struct Project {
    services: BTreeMap<String, Service>,
    networks: BTreeMap<&'static str, Network>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    volumes: BTreeMap<String, Volume>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    secrets: BTreeMap<String, Secret>,
}

#[derive(Debug, Serialize)]
struct Service {
    image: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    command: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    environment: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_dir: Option<String>,
    user: String,
    read_only: bool,
    cap_drop: [&'static str; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cap_add: Vec<&'static str>,
    security_opt: [&'static str; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    volumes: Vec<Volumed>,
    mem_limit: String,
    memswap_limit: String,
    cpus: f64,
    pids_limit: u32,
    shm_size: String,
    ulimits: BTreeMap<&'static str, u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Healthcheck>,
    restart: &'static str,
    stop_signal: &'static str,
    stop_grace_period: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    expose: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    devices: Vec<&'static str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sysctls: BTreeMap<&'static str, &'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Given>,
    networks: [&'static str; 1],
}

/// A secret as its container finds it: `/run/secrets/TARGET`.
#[derive(Debug, Serialize)]
struct Given {
    source: String,
    target: String,
}

/// Where it comes from: vaultd's business, shown by a name.
#[derive(Debug, Serialize)]
struct Secret {
    file: String,
}

#[derive(Debug, Serialize)]
struct Volumed {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    read_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tmpfs: Option<Tmpfs>,
}

#[derive(Debug, Serialize)]
struct Tmpfs {
    size: u64,
}

#[derive(Debug, Serialize)]
struct Healthcheck {
    test: Vec<String>,
    interval: String,
    timeout: String,
    retries: u32,
    start_period: String,
}

#[derive(Debug, Serialize)]
struct Network {
    name: String,
    driver: &'static str,
    driver_opts: BTreeMap<&'static str, String>,
    internal: bool,
    ipam: Ipam,
}

#[derive(Debug, Serialize)]
struct Ipam {
    config: [Pool; 1],
}

#[derive(Debug, Serialize)]
struct Pool {
    subnet: String,
}

#[derive(Debug, Serialize)]
struct Volume {
    name: String,
}

/// No project can be written.
#[derive(Debug, thiserror::Error)]
pub enum Unwritten {
    /// The values do not fit the manifest.
    #[error("the parameters do not fit the manifest")]
    Values(#[from] Faults),
    /// The writer of YAML refuses.
    #[error("it cannot be written as YAML: {0}")]
    Yaml(String),
}

/// The project of a service, as YAML. `place` is `None` for the cell's own containers, which lie in `core`.
///
/// # Errors
/// [`Unwritten`].
pub fn render(
    manifest: &Manifest,
    instance: &str,
    parameters: &BTreeMap<String, String>,
    core: CoreNetwork,
    place: Option<&Place>,
) -> Result<String, Unwritten> {
    let name = manifest.service_name(instance)?;
    let values = manifest.values(parameters)?;
    let network = match (manifest.purpose, place) {
        (Purpose::Store, Some(place)) => network(
            format!("cell-service-{name}"),
            place.bridge(),
            place.subnet.to_string(),
            !manifest.has_way_out(),
        ),
        (Purpose::Store | Purpose::Core, _) => {
            let bridge = super::CORE_BRIDGE.to_owned();
            network(
                "cell-network".to_owned(),
                bridge,
                core.subnet().to_string(),
                false,
            )
        }
    };
    let mut volumes = BTreeMap::new();
    let (mut services, mut secrets) = (BTreeMap::new(), BTreeMap::new());
    for container in &manifest.containers {
        for secret in &container.secrets {
            let file = format!("./secrets/{}/{}", container.name, secret.name);
            secrets.insert(format!("{}-{}", container.name, secret.name), Secret { file });
        }
        for mount in &container.mounts {
            if let Source::Volume(volume) = &mount.source {
                let full = format!("cell-{name}.{volume}");
                volumes.insert(volume.to_string(), Volume { name: full });
            }
        }
        services.insert(container.name.to_string(), service(container, &name, &values));
    }
    let project = Project {
        services,
        networks: BTreeMap::from([("own", network)]),
        volumes,
        secrets,
    };
    let text = serde_saphyr::to_string(&project).map_err(|error| Unwritten::Yaml(error.to_string()))?;
    Ok(format!(
        "# {name}: written by cell-api from the manifest, for people to read. What runs is made by cell-broker; changes here\n\
         # are written over and change nothing.\n{text}"
    ))
}

/// As Docker knows it: one that was built on the machine by the name that `compose/images/build.sh` gives it. What the broker runs under
/// that name is the image that root listed.
fn image(source: &ImageSource) -> String {
    match source {
        ImageSource::Registry(image) => image.to_string(),
        ImageSource::Local(name) => format!("cell/{name}:local"),
    }
}

fn service(container: &Container, name: &Name, values: &Values) -> Service {
    let fill = |template: &Template| literal(&template.fill(name, values));
    let words = |all: &[Template]| all.iter().map(fill).collect::<Vec<_>>();
    let limits = container.limits;
    Service {
        image: image(&container.image),
        entrypoint: words(&container.entrypoint),
        command: words(&container.command),
        environment: container
            .environment
            .iter()
            .map(|(key, value)| (key.clone(), fill(value)))
            .collect(),
        working_dir: container
            .working_dir
            .as_ref()
            .map(|path| literal(&path.to_string())),
        user: container.user.to_string(),
        read_only: container.read_only_root,
        cap_drop: ["ALL"],
        cap_add: container.capabilities.iter().map(|one| one.word()).collect(),
        security_opt: ["no-new-privileges:true"],
        volumes: container.mounts.iter().map(mounted).collect(),
        mem_limit: format!("{}m", limits.memory_mib),
        memswap_limit: format!("{}m", limits.memory_mib),
        cpus: f64::from(limits.cpu_milli) / 1_000.0,
        pids_limit: limits.pids,
        shm_size: format!("{}m", limits.shm_mib),
        ulimits: BTreeMap::from([("nofile", limits.files)]),
        healthcheck: container.health.as_ref().map(|health| healthcheck(health, &fill)),
        // Docker starts nothing by itself at boot, before netd judges what it sends.
        restart: "no",
        stop_signal: container.stop_signal.word(),
        stop_grace_period: format!("{}s", container.stop_timeout_seconds),
        expose: container
            .ports
            .iter()
            .map(|port| format!("{}/{}", port.port, port.protocol.word()))
            .collect(),
        ports: container.ports.iter().filter_map(published).collect(),
        devices: container.gateway.then_some(TUN).into_iter().collect(),
        sysctls: container.gateway.then_some(GATEWAY_SYSCTL).into_iter().collect(),
        secrets: container
            .secrets
            .iter()
            .map(|secret| Given {
                source: format!("{}-{}", container.name, secret.name),
                target: secret.name.to_string(),
            })
            .collect(),
        networks: ["own"],
    }
}

fn published(port: &Port) -> Option<String> {
    let at = port.published?;
    let host = SocketAddr::new(at.address, at.port);
    Some(format!("{host}:{}/{}", port.port, port.protocol.word()))
}

fn mounted(mount: &Mount) -> Volumed {
    let (kind, source, tmpfs) = match &mount.source {
        Source::Volume(name) => ("volume", Some(name.to_string()), None),
        // Where the root lies is the broker's ceiling's business: it is shown by its id.
        Source::Bind { root, below } => {
            let source = format!("./{root}/{}", below.as_str());
            ("bind", Some(literal(source.trim_end_matches('/'))), None)
        }
        Source::Tmpfs { size_mib, mode: _ } => {
            let size = u64::from(*size_mib) * 1024 * 1024;
            ("tmpfs", None, Some(Tmpfs { size }))
        }
    };
    Volumed {
        r#type: kind,
        source,
        target: literal(&mount.target.to_string()),
        read_only: tmpfs.is_none().then_some(mount.read_only),
        tmpfs,
    }
}

fn healthcheck(health: &Health, fill: &impl Fn(&Template) -> String) -> Healthcheck {
    let command = health.command.iter().map(fill);
    Healthcheck {
        test: std::iter::once("CMD".to_owned()).chain(command).collect(),
        interval: format!("{}s", health.interval_seconds),
        timeout: format!("{}s", health.timeout_seconds),
        retries: health.retries,
        start_period: format!("{}s", health.start_period_seconds),
    }
}

fn network(name: String, bridge: String, subnet: String, internal: bool) -> Network {
    Network {
        name,
        driver: "bridge",
        // What leaves it is netd's to judge and to send out.
        driver_opts: BTreeMap::from([
            ("com.docker.network.bridge.name", bridge),
            (
                "com.docker.network.bridge.enable_ip_masquerade",
                "false".to_owned(),
            ),
        ]),
        internal,
        ipam: Ipam {
            config: [Pool { subnet }],
        },
    }
}

/// A text in which Compose finds no place to fill.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}
