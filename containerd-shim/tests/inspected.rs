//! What was started is judged once more, by a program that shares nothing with the broker (`lab/inspected.py`), from what
//! `docker inspect` says: random manifests that were approved, of every part that there is, and containers that somebody else
//! planted, which it finds.
//!
//! Three manifests here, with each part in one of them; `CELL_BROKER_STARTED=20` for longer (`make brokertest`).

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/random.rs"]
mod random;
mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use cell_broker_core::deploy::{Ceiling, SecretsPlace};
use cell_manifest::SecretName;
use cell_proto::broker::v1::{DeployRequest, Deployment};
use random::Random;
use serde_json::{Value, json};
use support::deployed::{Deployed, deploy_request};
use support::dockerd::Dockerd;
use support::registry;
use support::signed::{REGISTRY, bundle, ceiling, name, rich};
use support::vault::Vault;

/// What is counted among what was started, by what `docker inspect` says.
const PARTS: [&str; 15] = [
    "a gateway with a TUN and NET_ADMIN",
    "one of the cell's own",
    "an instance",
    "a second container",
    "values of fields",
    "a volume",
    "a folder of the machine to read",
    "a folder of the machine to write to",
    "memory",
    "secrets",
    "an exit",
    "a published port",
    "a check",
    "a root to write to",
    "an image built here",
];

/// A Docker, a broker before it, and what root and vaultd would have for both.
struct World {
    dockerd: Dockerd,
    broker: Deployed,
    vault: Vault,
    folder: tempfile::TempDir,
    _state: tempfile::TempDir,
    image: String,
}

impl World {
    fn start() -> Self {
        // Every parent is root's: not below /tmp.
        let folder = tempfile::Builder::new()
            .prefix("cell-inspected-")
            .tempdir_in("/srv")
            .unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for below in ["media/films", "inbox", "dns", "secrets", "list"] {
            std::fs::create_dir_all(folder.path().join(below)).unwrap();
        }
        let dockerd = Dockerd::start();
        let digest = registry::serve(&dockerd, &json!({"Env": ["PATH=/bin"]}));
        let image = format!("{REGISTRY}/store/files@{digest}");
        dockerd.say(&["pull", &image]);
        let id = dockerd.say(&["image", "inspect", "--format", "{{.Id}}", &image]);
        let list = folder.path().join("list/images.toml");
        std::fs::write(&list, format!("[images]\ncaddy = {id:?}\n")).unwrap();
        let vault = Vault::serve(&folder.path().join("vault.sock"), nix::unistd::geteuid().as_raw());
        let state = tempfile::tempdir().unwrap();
        let broker = Deployed::start(&dockerd.socket(), state.path(), given(&folder));
        World {
            dockerd,
            broker,
            vault,
            folder,
            _state: state,
            image,
        }
    }

    fn at(&self, below: &str) -> String {
        self.folder.path().join(below).display().to_string()
    }

    /// Hands it in and has it run.
    async fn deploy(&self, drawn: &Drawn) -> Deployment {
        let manifest = &drawn.manifest;
        let service = name(&drawn.service());
        for secret in ["token", "other"] {
            let secret = SecretName::try_from(secret).unwrap();
            self.vault.set(&secret.in_vault(&service), "value");
        }
        let put = self.broker.put(bundle(manifest)).await;
        let named = put.unwrap_or_else(|refused| panic!("{refused:?} of {manifest}"));
        self.broker.pull(&named).await.unwrap();
        let asked = deploy_request(&named, &drawn.values);
        let request = DeployRequest {
            instance: drawn.instance.to_owned(),
            place: asked.place.clone().filter(|_| manifest["kind"] == "store"),
            ..asked
        };
        let made = self.broker.all.clone().deploy(request).await;
        let made = made.unwrap_or_else(|refused| panic!("{refused:?} of {manifest}"));
        made.into_inner().deployment.unwrap()
    }

    /// What `docker inspect` says, and what the checker says of it.
    fn inspected(&self, ids: &[&str]) -> (Value, Output) {
        let told = self.dockerd.say(&[&["inspect"], ids].concat());
        let mut checker = Command::new("python3");
        checker
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../lab/inspected.py"))
            .args(["--root", &self.at("inbox"), "--gateway", "gateway"]);
        for below in ["media", "dns", "secrets"] {
            checker.args(["--read-only", &self.at(below)]);
        }
        let mut checker = checker
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        checker.stdin.take().unwrap().write_all(told.as_bytes()).unwrap();
        (
            serde_json::from_str(&told).unwrap(),
            checker.wait_with_output().unwrap(),
        )
    }
}

/// The ceiling of the tests, with folders that are there.
fn given(folder: &tempfile::TempDir) -> Ceiling {
    let at = |below: &str| folder.path().join(below).display().to_string();
    let mut ceiling = ceiling();
    for id in ["media", "inbox", "dns"] {
        ceiling.bind_roots.get_mut(&name(id)).unwrap().path = at(id);
    }
    ceiling.local_images = Some(at("list/images.toml"));
    ceiling.secrets = Some(SecretsPlace {
        vault_socket: at("vault.sock"),
        folder: at("secrets"),
    });
    ceiling
}

/// A manifest and what a caller says with it.
struct Drawn {
    manifest: Value,
    instance: &'static str,
    values: Vec<(&'static str, &'static str)>,
}

impl Drawn {
    fn service(&self) -> String {
        let id = self.manifest["id"].as_str().unwrap();
        match self.instance {
            "" => id.to_owned(),
            instance => format!("{id}-{instance}"),
        }
    }
}

/// Keys of a container, and what may stand there and run.
fn choices() -> Vec<(&'static str, Vec<Value>)> {
    let limits = |memory: u32, more: Value| {
        let mut limits = json!({"memory_mib": memory, "cpu_milli": 200, "pids": 32});
        let more = more.as_object().unwrap().clone();
        limits.as_object_mut().unwrap().extend(more);
        limits
    };
    let greeting = json!({"GREETING": "${config.greeting}", "WHO": "${instance}"});
    let long = json!({"GREETING": "${config.greeting}", "LONG": "x".repeat(400), "_": "é"});
    vec![
        (
            "user",
            ["1000:1000", "20001:20002", "65534:1000"]
                .map(Value::from)
                .to_vec(),
        ),
        ("working_dir", ["/srv", "/tmp"].map(Value::from).to_vec()),
        ("environment", vec![greeting, long]),
        (
            "limits",
            vec![
                limits(16, json!({})),
                limits(64, json!({"shm_mib": 8, "files": 256})),
                limits(100, json!({"files": 1024})),
            ],
        ),
        (
            "restart",
            vec![
                json!({"policy": "no"}),
                json!({"policy": "on-failure", "retries": 3}),
                json!({"policy": "unless-stopped"}),
            ],
        ),
        (
            "stop_signal",
            ["SIGTERM", "SIGINT", "SIGUSR1"].map(Value::from).to_vec(),
        ),
        ("stop_timeout_seconds", [1, 2].map(Value::from).to_vec()),
    ]
}

/// The manifest that uses every part, with some of them left out. Of three rounds the first is a gateway, the second one of the cell's own
/// containers, the third a service; each part is sure to be there in one of the three.
fn drawn(random: &mut Random, round: usize, image: &str) -> Drawn {
    let kind = round % 3;
    let mut has = |sure: usize| kind == sure || random.chance(50);
    let parts = json!({
        "side": kind != 1 && has(0), "values": has(0), "volume": has(0), "media": has(0), "published": has(0),
        "local": has(1), "check": has(1), "dns": kind == 1 && has(1),
        "inbox": has(2), "memory": has(2), "secrets": has(2), "writable": has(2), "exit": kind != 1 && has(2),
        "instance": kind == 2 && has(2),
    });
    let has = |part: &str| parts[part].as_bool().unwrap();
    let mut manifest = rich(image);
    (manifest["kind"], manifest["id"]) = match kind {
        0 => (json!("store"), json!("gateway")),
        1 => (json!("core"), json!("caddy")),
        _ => (json!("store"), json!("files")),
    };
    manifest["instanceable"] = json!(has("instance"));
    // So many seconds it runs.
    (
        manifest["config_schema"]["quota"]["min"],
        manifest["config_schema"]["quota"]["default"],
    ) = (json!(50), json!(100));
    if has("exit") {
        manifest["egress"] = json!({"allowed": ["tor"], "default": "tor"});
    }
    let containers = manifest["containers"].as_array_mut().unwrap();
    containers[1]["command"] = json!(["/bin/sleep", "1000"]);
    containers.truncate(if has("side") { 2 } else { 1 });
    container(random, kind == 0, &mut containers[0], &has);
    let mounts = manifest["containers"][0]["mounts"].to_string();
    manifest["flags"] = json!({
        "has_admin_config": true, "has_egress": has("exit"), "has_storage": mounts.contains("volume") || mounts.contains("bind"),
    });
    let values = [
        ("greeting", "a b; $(x) ${config.domain}"),
        ("quota", "99"),
        ("domain", "b.example"),
    ];
    Drawn {
        manifest,
        instance: if has("instance") { "home" } else { "" },
        values: if has("values") {
            values.to_vec()
        } else {
            Vec::new()
        },
    }
}

/// The first container, with these parts.
fn container(random: &mut Random, is_gateway: bool, one: &mut Value, has: &dyn Fn(&str) -> bool) {
    for (key, values) in choices() {
        one[key] = random.pick(&values);
    }
    if has("local") {
        one["image"] = json!("local:caddy");
    }
    one["gateway"] = json!(is_gateway);
    let mut capabilities = vec!["CHOWN", "NET_BIND_SERVICE"];
    capabilities.retain(|_| random.chance(50));
    if is_gateway {
        capabilities.push("NET_ADMIN");
    }
    one["capabilities"] = json!(capabilities);
    one["read_only_root"] = json!(!has("writable"));
    let mut mounts = one["mounts"].as_array().unwrap().clone();
    mounts.push(json!({"type": "bind", "root": "dns", "target": "/etc/coredns", "read_only": true}));
    let parts = ["volume", "media", "inbox", "memory", "dns"];
    let kept = mounts.into_iter().zip(parts).filter(|(_, part)| has(part));
    one["mounts"] = kept.map(|(mount, _)| mount).collect();
    if has("secrets") {
        one["secrets"] = json!([{"name": "token"}, {"name": "other", "optional": true}]);
    }
    one["health"] = match has("check") {
        true => {
            json!({"command": ["/bin/sleep", "0"], "interval_seconds": 5, "timeout_seconds": 2, "retries": 3})
        }
        false => Value::Null,
    };
    if !has("published") {
        one["ports"] = json!([]);
    }
}

/// Which parts are there, by what Docker says of the containers of one service.
fn parts(dockerd: &Dockerd, told: &Value, drawn: &Drawn) -> Vec<&'static str> {
    let all = told.as_array().unwrap();
    let any = |holds: &dyn Fn(&Value) -> bool| all.iter().any(holds);
    let mounted =
        |holds: &dyn Fn(&Value) -> bool| any(&|one| one["Mounts"].as_array().unwrap().iter().any(holds));
    let bound = |writable: bool| {
        mounted(&|mount| {
            mount["Type"] == "bind" && mount["RW"] == writable && mount["Destination"] != "/run/secrets"
        })
    };
    let greeted = drawn
        .values
        .first()
        .map(|(_, text)| json!(format!("GREETING={text}")));
    let network = all[0]["HostConfig"]["NetworkMode"].as_str().unwrap();
    let internal = dockerd.say(&["network", "inspect", "--format", "{{.Internal}}", network]);
    let there = [
        any(&|one| {
            let host = &one["HostConfig"];
            host["Devices"][0]["PathOnHost"] == "/dev/net/tun"
                && host["CapAdd"].to_string().contains("NET_ADMIN")
        }),
        any(&|one| !one["NetworkSettings"]["Networks"]["cell-network"].is_null()),
        any(&|one| one["Config"]["Labels"]["cell.part-of"] == "files-home"),
        all.len() == 2,
        any(&|one| {
            let environment = one["Config"]["Env"].as_array().unwrap();
            greeted
                .as_ref()
                .is_some_and(|greeted| environment.contains(greeted))
        }),
        mounted(&|mount| mount["Type"] == "volume"),
        bound(false),
        bound(true),
        mounted(&|mount| mount["Type"] == "tmpfs"),
        mounted(&|mount| mount["Destination"] == "/run/secrets"),
        !drawn.manifest["egress"].is_null() && internal == "false",
        any(&|one| {
            one["HostConfig"]["PortBindings"]
                .as_object()
                .is_some_and(|all| !all.is_empty())
        }),
        any(&|one| one["Config"]["Healthcheck"]["Test"][0] == "CMD"),
        any(&|one| one["HostConfig"]["ReadonlyRootfs"] == false),
        any(&|one| one["Config"]["Image"].as_str().unwrap().starts_with("sha256:")),
    ];
    PARTS
        .into_iter()
        .zip(there)
        .filter(|(_, there)| *there)
        .map(|(part, _)| part)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_started_is_right_by_another_judge_too() {
    let rounds = usize::try_from(random::number("CELL_BROKER_STARTED").unwrap_or(3)).unwrap();
    let seed = random::seed();
    let (world, mut random) = (World::start(), Random::new(seed));
    let (mut counts, mut started) = (BTreeMap::from(PARTS.map(|part| (part, 0))), 0);
    for round in 0..rounds {
        let drawn = drawn(&mut random, round, &world.image);
        let made = world.deploy(&drawn).await;
        let ids: Vec<&str> = made.containers.iter().map(|one| one.id.as_str()).collect();
        let (told, said) = world.inspected(&ids);
        let words = String::from_utf8_lossy(&said.stdout);
        assert!(
            said.status.success(),
            "seed {seed}: {words} of {}",
            drawn.manifest
        );
        let mut running = told.as_array().unwrap().iter();
        assert!(running.all(|one| one["State"]["Running"] == true), "{told}");
        started += ids.len();
        for part in parts(&world.dockerd, &told, &drawn) {
            *counts.get_mut(part).unwrap() += 1;
        }
        world.broker.remove(&drawn.service(), true).await.unwrap();
    }
    planted(&world);
    let missed: Vec<&&str> = counts
        .iter()
        .filter(|(_, n)| **n == 0)
        .map(|(part, _)| part)
        .collect();
    assert!(missed.is_empty(), "never started: {missed:?}");
    let told = format!("{rounds} random manifests, {started} containers, seed {seed}");
    support::report::holds(
        "started containers, judged again from inspect",
        told,
        "",
        "none is wrong",
    );
    let told: Vec<String> = counts.iter().map(|(part, n)| format!("{part} {n}")).collect();
    support::report::holds(
        "what was among them, in how many of the manifests",
        told.join("; "),
        "",
        "each at least once",
    );
}

/// By Docker itself, each with one thing that the policy does not let through: the control of the checker. Without that thing, the
/// same container is not blamed for it; nor is one that has the thing rightly.
fn planted(world: &World) {
    let profile = concat!(
        "--security-opt=seccomp=",
        env!("CARGO_MANIFEST_DIR"),
        "/core/src/deploy/seccomp.json"
    );
    let base = ["--user=1000:1000", "--security-opt=no-new-privileges", profile];
    let blamed = |options: &[&str]| {
        let labels = [("cell.owner", "default"), ("cell.service", "files")];
        let id = world
            .dockerd
            .create(&[&base[..], options].concat(), &labels, "sleep 1000");
        let (_, said) = world.inspected(&[id.as_str()]);
        assert_eq!(said.status.code(), Some(1), "{options:?}");
        world.dockerd.say(&["rm", id.as_str()]);
        String::from_utf8(said.stdout).unwrap()
    };
    let without = blamed(&[]);
    let media = format!("--mount=type=bind,source={},target=/m", world.at("media"));
    let gateway = "--label=cell.part-of=gateway";
    let tun = "--device=/dev/net/tun:/dev/net/tun:rw";
    for (options, field) in [
        (vec!["--privileged"], "HostConfig.Privileged (P1)"),
        (vec!["--volume=/etc:/e:ro"], "HostConfig.Binds (M1)"),
        (vec!["--cap-add=SYS_ADMIN"], "HostConfig.CapAdd (P2)"),
        (vec!["--pid=host"], "HostConfig.PidMode (N1)"),
        (
            vec!["--security-opt=seccomp=unconfined"],
            "HostConfig.SecurityOpt (P3)",
        ),
        (
            vec!["--security-opt=systempaths=unconfined"],
            "HostConfig.MaskedPaths (P4)",
        ),
        (vec!["--device=/dev/null"], "HostConfig.Devices (P5)"),
        (vec!["--restart=always"], "HostConfig.RestartPolicy.Name (R3)"),
        (vec!["--user=0:0"], "User (P7)"),
        (vec!["--label=org.example=x"], "Labels (I5)"),
        (
            vec!["--mount=type=bind,source=/run,target=/r"],
            "HostConfig.Mounts[].Source (M1/M3)",
        ),
        (vec![&*media], "HostConfig.Mounts[].ReadOnly (M2)"),
        (vec![tun], "HostConfig.Devices (P5)"),
        (vec![gateway, "--device=/dev/net/tun"], "HostConfig.Devices (P5)"),
        (vec![gateway, "--cap-add=NET_ADMIN"], "HostConfig.CapAdd (P2)"),
        (vec!["--env=LD_PRELOAD=/x"], "Env (I4)"),
    ] {
        let blame = format!(": {field}");
        assert!(!without.contains(&blame), "without {options:?}: {without}");
        let words = blamed(&options);
        assert!(words.contains(&blame), "{options:?}: {words}");
    }
    let right = blamed(&[&format!("{media},readonly"), gateway, tun, "--cap-add=NET_ADMIN"]);
    for field in ["Mounts[].ReadOnly", "Mounts[].Source", "Devices", "CapAdd"] {
        assert!(!right.contains(&format!(": HostConfig.{field} (")), "{right}");
    }
}
