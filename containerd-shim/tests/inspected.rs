//! What was started is judged once more, by a program that shares nothing with the broker (`lab/inspected.py`), from what
//! `docker inspect` says: random manifests that were approved, and containers that somebody else planted, which it finds.
//!
//! Three manifests here; `CELL_BROKER_STARTED=20` for longer (`make brokertest`).

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use support::deployed::Deployed;
use support::dockerd::Dockerd;
use support::registry;
use support::signed::{REGISTRY, bundle, ceiling, container, judged, manifest};

/// A generator of our own (xorshift64*): a seed gives the same run everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % n
    }

    fn pick(&mut self, all: &[Value]) -> Value {
        all[self.below(all.len())].clone()
    }
}

/// Keys of a container, and what may stand there and run.
#[allow(clippy::too_many_lines, reason = "a table")]
fn choices() -> Vec<(&'static str, Vec<Value>)> {
    let limits = |memory: u32, more: Value| {
        let mut limits = json!({"memory_mib": memory, "cpu_milli": 200, "pids": 32});
        let more = more.as_object().unwrap().clone();
        limits.as_object_mut().unwrap().extend(more);
        limits
    };
    let volume = json!({"type": "volume", "volume": "data", "target": "/data"});
    let tmpfs = json!({"type": "tmpfs", "size_mib": 16, "mode": "1777", "target": "/tmp"});
    vec![
        (
            "user",
            vec![json!("1000:1000"), json!("20001:20002"), json!("65534:1000")],
        ),
        (
            "command",
            vec![
                json!(["/bin/sleep", "1000"]),
                json!(["/bin/sh", "-c", "exec sleep 1000"]),
            ],
        ),
        ("working_dir", vec![json!("/srv"), json!("/tmp")]),
        (
            "environment",
            vec![
                json!({}),
                json!({"A": "b"}),
                json!({"LONG": "x".repeat(400), "_": "é"}),
            ],
        ),
        (
            "capabilities",
            vec![json!([]), json!(["CHOWN"]), json!(["CHOWN", "NET_BIND_SERVICE"])],
        ),
        ("read_only_root", vec![json!(true), json!(false)]),
        (
            "mounts",
            vec![json!([]), json!([volume]), json!([tmpfs]), json!([volume, tmpfs])],
        ),
        (
            "limits",
            vec![
                limits(16, json!({})),
                limits(64, json!({"shm_mib": 8, "files": 256})),
                limits(100, json!({"files": 1024})),
            ],
        ),
        (
            "health",
            vec![
                Value::Null,
                json!({"command": ["/bin/sleep", "0"], "interval_seconds": 5, "timeout_seconds": 2, "retries": 3}),
            ],
        ),
        (
            "restart",
            vec![
                json!({"policy": "no"}),
                json!({"policy": "on-failure", "retries": 3}),
            ],
        ),
        (
            "ports",
            vec![
                json!([]),
                json!([{"port": 8081}]),
                json!([{"port": 8080, "publish": {"address": "127.0.0.1", "port": 20001}}]),
            ],
        ),
        ("stop_timeout_seconds", vec![json!(1), json!(10)]),
    ]
}

fn random(random: &mut Random, image: &str) -> Value {
    let mut asked = manifest(image);
    asked["flags"] = json!({"has_storage": true});
    let mut one = container(image);
    for (key, values) in choices() {
        let value = random.pick(&values);
        if !value.is_null() {
            one[key] = value;
        }
    }
    // The checker looks for a volume where it says that there is one.
    if !one["mounts"].to_string().contains("volume") {
        asked["flags"] = json!({});
    }
    asked["containers"] = json!([one]);
    asked
}

/// What the checker says of what `docker inspect` says.
fn inspected(dockerd: &Dockerd, ids: &[&str]) -> Output {
    let told = dockerd.say(&[&["inspect"], ids].concat());
    let mut checker = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../lab/inspected.py"))
        .args(["--root", "/srv/cell"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    checker.stdin.take().unwrap().write_all(told.as_bytes()).unwrap();
    checker.wait_with_output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_started_is_right_by_another_judge_too() {
    let rounds = std::env::var("CELL_BROKER_STARTED").map_or(3, |n| n.parse().unwrap());
    let dockerd = Dockerd::start();
    let digest = registry::serve(&dockerd, &json!({"Env": ["PATH=/bin"]}));
    let state = tempfile::tempdir().unwrap();
    let broker = Deployed::start(&dockerd.socket(), state.path(), ceiling());
    let image = format!("{REGISTRY}/store/files@{digest}");
    let seed = std::env::var("CELL_BROKER_SEED").map_or(0x5eed, |n| n.parse().unwrap());
    let mut chance = Random(seed);
    for round in 0..rounds {
        let asked = random(&mut chance, &image);
        assert!(judged(&ceiling(), &asked, &[]).is_ok(), "round {round}: {asked}");
        let named = broker.put(bundle(&asked)).await.unwrap();
        broker.pull(&named).await.unwrap();
        let made = broker.deploy(&named, &[]).await;
        let made = made.unwrap_or_else(|refused| panic!("round {round}: {refused:?} of {asked}"));
        let made = made.deployment.unwrap();
        let ids: Vec<&str> = made.containers.iter().map(|one| one.id.as_str()).collect();
        let told = inspected(&dockerd, &ids);
        let words = String::from_utf8_lossy(&told.stdout);
        assert!(told.status.success(), "round {round}: {words} of {asked}");
        broker.remove("files", true).await.unwrap();
    }
    planted(&dockerd);
    let told = format!("{rounds} random manifests, seed {seed}");
    support::report::holds(
        "started containers, judged again from inspect",
        told,
        "",
        "none is wrong",
    );
}

/// By Docker itself, each with one thing that the policy does not let through: the control of the checker. Without that thing, the
/// same container is not blamed for it.
fn planted(dockerd: &Dockerd) {
    let profile = concat!(
        "--security-opt=seccomp=",
        env!("CARGO_MANIFEST_DIR"),
        "/core/src/deploy/seccomp.json"
    );
    let base = ["--user=1000:1000", "--security-opt=no-new-privileges", profile];
    let blamed = |options: &[&str]| {
        let labels = [("cell.owner", "default"), ("cell.service", "files")];
        let id = dockerd.create(&[&base[..], options].concat(), &labels, "sleep 1000");
        let told = inspected(dockerd, &[id.as_str()]);
        assert_eq!(told.status.code(), Some(1), "{options:?}");
        dockerd.say(&["rm", id.as_str()]);
        String::from_utf8(told.stdout).unwrap()
    };
    let without = blamed(&[]);
    for (option, field) in [
        ("--privileged", "HostConfig.Privileged (P1)"),
        ("--volume=/etc:/e:ro", "HostConfig.Binds (M1)"),
        ("--cap-add=SYS_ADMIN", "HostConfig.CapAdd (P2)"),
        ("--pid=host", "HostConfig.PidMode (N1)"),
        ("--security-opt=seccomp=unconfined", "HostConfig.SecurityOpt (P3)"),
        (
            "--security-opt=systempaths=unconfined",
            "HostConfig.MaskedPaths (P4)",
        ),
        ("--device=/dev/null", "HostConfig.Devices (P5)"),
        ("--restart=always", "HostConfig.RestartPolicy.Name (R3)"),
        ("--user=0:0", "User (P7)"),
        ("--label=org.example=x", "Labels (I5)"),
        (
            "--mount=type=bind,source=/run,target=/r",
            "HostConfig.Mounts[].Source (M1/M3)",
        ),
    ] {
        let blame = format!(": {field}");
        assert!(!without.contains(&blame), "without {option}: {without}");
        let words = blamed(&[option]);
        assert!(words.contains(&blame), "{option}: {words}");
    }
}
