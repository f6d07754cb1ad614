//! Random manifests and values: whatever is approved and rendered, the field policy holds.
//!
//! 100,000 times here; `CELL_BROKER_CASES=1000000` for longer (`make brokertest`).

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;

use cell_broker_core::deploy::{FIELDS, FieldClass, ImagePolicy, Verified, recheck};
use serde_json::{Value, json};
use support::signed::{DIGEST, REGISTRY, bundle, ceiling, given, judged_as, rich};

/// A generator of our own (xorshift64*), so that a seed gives the same run everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

/// Texts that mean something to somebody on the way.
const TEXTS: [&str; 22] = [
    "",
    "a",
    "main",
    "true",
    "0",
    "1",
    "-1",
    "7",
    "100",
    "101",
    "a.example",
    "$(id)",
    "${config.quota}",
    "x\",\"Privileged\":true",
    "../../etc",
    "/",
    "/proc/1/root",
    "/var/run/docker.sock",
    "a\nb",
    "LD_PRELOAD=/x",
    "\u{202e}",
    "SYS_ADMIN",
];

/// Places of a manifest and what may stand there, right and wrong.
#[allow(clippy::too_many_lines, reason = "a table")]
fn places() -> Vec<(&'static str, Vec<Value>)> {
    let texts = || TEXTS.iter().map(|text| json!(text)).collect::<Vec<_>>();
    let with = |mut more: Vec<Value>| {
        more.extend(texts());
        more
    };
    vec![
        ("/id", with(vec![json!("gateway"), json!("files"), json!("api")])),
        ("/kind", vec![json!("store"), json!("core"), json!("x")]),
        ("/instanceable", vec![json!(true), json!(false)]),
        ("/containers/0/name", with(vec![json!("other")])),
        (
            "/containers/0/image",
            with(vec![
                json!(format!("evil.example/a@{DIGEST}")),
                json!(format!("{REGISTRY}/b:9@{DIGEST}")),
            ]),
        ),
        (
            "/containers/0/user",
            with(vec![json!("1000:1000"), json!("0:0"), json!("65534:1000")]),
        ),
        ("/containers/0/gateway", vec![json!(true), json!(false)]),
        ("/containers/0/read_only_root", vec![json!(true), json!(false)]),
        (
            "/containers/0/capabilities",
            vec![
                json!([]),
                json!(["CHOWN"]),
                json!(["NET_ADMIN"]),
                json!(["SETUID"]),
                json!(["SYS_ADMIN"]),
            ],
        ),
        (
            "/containers/0/command/1",
            with(vec![
                json!("${config.quota}"),
                json!("${config.greeting}"),
                json!("${instance}"),
            ]),
        ),
        (
            "/containers/0/environment/X",
            with(vec![json!("${config.greeting}${config.domain}${instance}")]),
        ),
        ("/containers/0/environment/LD_PRELOAD", vec![json!("x")]),
        ("/containers/0/working_dir", texts()),
        ("/containers/0/mounts/0/volume", texts()),
        (
            "/containers/0/mounts/0/target",
            with(vec![json!("/data/x"), json!("/media"), json!("/dev/x")]),
        ),
        ("/containers/0/mounts/1/path", texts()),
        (
            "/containers/0/mounts/1/root",
            with(vec![json!("inbox"), json!("media")]),
        ),
        (
            "/containers/0/mounts/1/read_only",
            vec![json!(true), json!(false)],
        ),
        (
            "/containers/0/mounts/2/read_only",
            vec![json!(true), json!(false)],
        ),
        (
            "/containers/0/mounts/3/mode",
            with(vec![json!("1777"), json!("4755"), json!("7")]),
        ),
        (
            "/containers/0/mounts/3/size_mib",
            vec![json!(1), json!(256), json!(257), json!(0)],
        ),
        (
            "/containers/0/limits/memory_mib",
            vec![json!(6), json!(512), json!(513), json!(0), json!(u32::MAX)],
        ),
        (
            "/containers/0/limits/cpu_milli",
            vec![json!(10), json!(1000), json!(1001), json!(0)],
        ),
        (
            "/containers/0/limits/pids",
            vec![json!(1), json!(256), json!(257), json!(0)],
        ),
        (
            "/containers/0/limits/shm_mib",
            vec![json!(1), json!(64), json!(65)],
        ),
        (
            "/containers/0/limits/files",
            vec![json!(64), json!(65536), json!(65537)],
        ),
        (
            "/containers/0/health",
            vec![
                json!(null),
                json!({"command": ["a", "${config.domain}"], "interval_seconds": 5, "timeout_seconds": 60, "retries": 10, "start_period_seconds": 600}),
            ],
        ),
        (
            "/containers/0/restart",
            vec![
                json!({"policy": "no"}),
                json!({"policy": "unless-stopped"}),
                json!({"policy": "on-failure", "retries": 10}),
                json!({"policy": "always"}),
            ],
        ),
        (
            "/containers/0/stop_signal",
            vec![json!("SIGUSR1"), json!("SIGHUP"), json!("SIGKILL")],
        ),
        (
            "/containers/0/stop_timeout_seconds",
            vec![json!(0), json!(60), json!(61)],
        ),
        (
            "/containers/0/ports/0/publish",
            vec![
                json!(null),
                json!({"address": "127.0.0.1", "port": 20099}),
                json!({"address": "127.0.0.1", "port": 20100}),
                json!({"address": "0.0.0.0", "port": 20000}),
            ],
        ),
        ("/config_schema/greeting/max_length", vec![json!(1), json!(4096)]),
    ]
}

fn random_manifest(random: &mut Random, places: &[(&'static str, Vec<Value>)]) -> Value {
    let mut manifest = rich(&format!("{REGISTRY}/store/files@{DIGEST}"));
    // Most changes are of one or two places: of many, nothing would be approved.
    for _ in 0..random.below(4) {
        let (pointer, values) = random.pick(places);
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let value = random.pick(&values);
        match manifest.pointer_mut(parent) {
            Some(Value::Object(map)) => {
                map.insert(key.to_owned(), value);
            }
            Some(Value::Array(items)) => items[key.parse::<usize>().unwrap()] = value,
            Some(_) | None => {}
        }
    }
    manifest
}

/// Every key of a body as the policy writes it, without its rules: a second reader.
fn only_fields_that_are_sent(body: &Value, known: &BTreeSet<&str>) {
    let top = |key: &String| known.contains(key.as_str()) || key == "HostConfig" || key == "NetworkingConfig";
    assert!(body.as_object().unwrap().keys().all(top), "{body}");
    let host = body["HostConfig"].as_object().unwrap();
    assert!(
        host.keys()
            .all(|key| known.contains(format!("HostConfig.{key}").as_str())),
        "{body}"
    );
}

#[test]
fn no_request_that_is_rendered_breaks_the_policy() {
    let number = |key: &str| std::env::var(key).ok().and_then(|n| n.parse::<u64>().ok());
    let wanted = usize::try_from(number("CELL_BROKER_CASES").unwrap_or(100_000)).unwrap();
    let seed = number("CELL_BROKER_SEED").unwrap_or(0x5eed);
    let (mut ceiling, places, mut random) = (ceiling(), places(), Random(seed));
    // Signatures of images have a test of their own, and take most of the time.
    ceiling.image_policy = ImagePolicy::Off;
    ceiling.image_keys.clear();
    let emit = FIELDS.iter().filter(|(_, class, _)| *class == FieldClass::Emit);
    let known: BTreeSet<&str> = emit.map(|(name, ..)| name).collect();
    let (mut tried, mut sent, mut unread, mut denied) = (0_usize, 0_usize, 0_usize, 0_usize);
    while tried < wanted {
        let opened = Verified::open(
            bundle(&random_manifest(&mut random, &places)),
            &ceiling.manifest_keys,
        );
        let Ok(verified) = opened else {
            (tried, unread) = (tried + 1, unread + 1);
            continue;
        };
        // A manifest is signed once and deployed with many values.
        for _ in 0..40 {
            tried += 1;
            let values: Vec<(&str, &str)> = (0..random.below(3))
                .map(|_| {
                    (
                        random.pick(&["quota", "greeting", "domain", "Privileged"]),
                        random.pick(&TEXTS),
                    )
                })
                .collect();
            let Ok(approved) = judged_as(&ceiling, &verified, &values) else {
                denied += 1;
                continue;
            };
            let given = given(&ceiling, &approved);
            for n in 0..approved.containers().len() {
                // `finish` looks by itself, and fails the test where it finds something; these two look at what comes of it.
                let finished = approved.finish(&ceiling, &given, n).unwrap();
                only_fields_that_are_sent(finished.body(), &known);
                if sent % 8 == 0 {
                    let bytes = serde_json::to_vec(finished.body()).unwrap();
                    let read = cell_manifest::parse_json(&bytes, 1 << 20).unwrap();
                    assert_eq!(recheck(&read, &ceiling, Some(&given)), Ok(()), "seed {seed}");
                }
                sent += 1;
            }
        }
    }
    assert!(
        sent > wanted / 20 && denied > wanted / 100 && unread > wanted / 1000,
        "{sent} {denied} {unread}"
    );
    let told = format!("{tried} tried, {unread} not read, {denied} denied, {sent} requests");
    support::report::holds(
        "random manifests and parameters that break the field policy",
        told,
        "",
        "0",
    );
}

/// Of a hundred that are handed in at once each is kept for a while, and never more than the ceiling allows: Docker is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn manifests_that_come_at_once_are_all_taken_and_the_last_are_kept() {
    let state = tempfile::tempdir().unwrap();
    let docker = state.path().join("no.sock");
    let broker = support::deployed::Deployed::start(&docker, state.path(), ceiling());
    let puts = (0..100).map(|n| {
        let mut asked = rich(&support::signed::image());
        asked["version"] = json!(format!("2.{n}"));
        let client = cell_proto::ipc::connect(broker.socket());
        let mut client =
            cell_proto::broker::v1::deployment_service_client::DeploymentServiceClient::new(client);
        async move {
            client
                .put_manifest(support::deployed::put_request(bundle(&asked)))
                .await
        }
    });
    let answers = futures_util::future::join_all(puts).await;
    for answer in answers {
        assert!(answer.is_ok(), "{answer:?}");
    }
    let kept = std::fs::read_dir(state.path().join("manifests")).unwrap().count();
    assert_eq!(kept, usize::from(ceiling().limits.manifests));
}
