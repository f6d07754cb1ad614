//! What is wrong in a manifest, or right in a way that somebody may stumble over.

use serde_json::{Value, json};

use crate::random::Random;
use crate::support::signed::{DIGEST, REGISTRY};

/// Texts that mean something to somebody on the way.
pub const TEXTS: [&str; 22] = [
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
    // Any text in one half of the draws.
    let with = |some: Vec<Value>| {
        let some = some.iter().cycle().take(TEXTS.len());
        texts().into_iter().chain(some.cloned()).collect()
    };
    let bind = |root: &str, read_only: bool| json!([{"type": "bind", "root": root, "target": "/b", "read_only": read_only}]);
    vec![
        ("/id", with(vec![json!("gateway"), json!("files"), json!("api")])),
        ("/kind", vec![json!("store"), json!("core"), json!("x")]),
        ("/instanceable", vec![json!(true), json!(false)]),
        ("/containers/0/name", with(vec![json!("other")])),
        (
            "/containers/0/image",
            with(vec![
                json!(format!("evil.example/a@{DIGEST}")),
                json!("local:caddy"),
                json!("local:absent"),
                json!("local:absent"),
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
                json!("${config.absent}"),
                json!("${instance}"),
                json!("${instance"),
            ]),
        ),
        (
            "/containers/0/environment/X",
            with(vec![json!("${instance}${instance}")]),
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
                json!({"command": ["a", "${instance}"], "interval_seconds": 5, "timeout_seconds": 60, "retries": 10, "start_period_seconds": 600}),
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
        (
            "/containers/0/mounts",
            vec![
                bind("dns", true),
                bind("etc", true),
                bind("media", false),
                bind("inbox", false),
                json!([{"type": "volume", "volume": "a", "target": "/a"}, {"type": "volume", "volume": "b", "target": "/a/b"}]),
            ],
        ),
        (
            "/containers/0/secrets",
            vec![
                json!([]),
                json!([{"name": "a"}, {"name": "a"}]),
                json!([{"name": "../a"}]),
            ],
        ),
        (
            "/containers/1/capabilities",
            vec![json!(["NET_ADMIN"]), json!(["CHOWN"])],
        ),
        ("/containers/1/gateway", vec![json!(true)]),
        (
            "/egress",
            vec![json!({"allowed": ["tor"]}), json!({"allowed": []}), json!(null)],
        ),
        ("/flags/has_api_hooks", vec![json!(true)]),
    ]
}

/// Keys that a manifest does not have; most of them are Docker's.
const UNKNOWN: [&str; 20] = [
    "privileged",
    "Privileged",
    "devices",
    "network",
    "network_mode",
    "HostConfig",
    "hostconfig",
    "Binds",
    "pid",
    "ipc",
    "runtime",
    "labels",
    "sysctls",
    "security_opt",
    "extra_hosts",
    "dns",
    "cap_add",
    "userns_mode",
    "volumes",
    "platform",
];

/// What is changed, drawn up once.
pub struct Places {
    known: Vec<(&'static str, Vec<Value>)>,
    anything: Vec<Value>,
}

impl Places {
    pub fn new() -> Self {
        let mut anything: Vec<Value> = TEXTS.iter().map(|text| json!(text)).collect();
        anything.extend([
            json!(null),
            json!(true),
            json!(false),
            json!([]),
            json!({}),
            json!(0),
            json!(-1),
            json!(1),
            json!(64),
            json!(u32::MAX),
            json!(u64::MAX),
            json!(0.5),
            json!(["SYS_ADMIN"]),
            json!({"Privileged": true}),
            json!([{"type": "bind", "root": "etc", "target": "/x"}]),
        ]);
        Places {
            known: places(),
            anything,
        }
    }
}

/// Changes none, one or a few places: of many, nothing would be approved.
pub fn spoil(random: &mut Random, places: &Places, manifest: &mut Value) {
    let changes = match random.below(100) {
        0..45 => 0,
        45..80 => 1,
        80..95 => 2,
        _ => 3,
    };
    for _ in 0..changes {
        if random.chance(65) {
            let (pointer, values) = random.pick(&places.known);
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let value = random.pick(&values);
            put(manifest, parent, key, Some(value));
        } else {
            anywhere(random, &places.anything, manifest);
        }
    }
}

/// Puts a value at a key that the parent has or takes, or removes what is there.
fn put(manifest: &mut Value, parent: &str, key: &str, value: Option<Value>) {
    match (manifest.pointer_mut(parent), value) {
        (Some(Value::Object(map)), Some(value)) => drop(map.insert(key.to_owned(), value)),
        (Some(Value::Object(map)), None) => drop(map.remove(key)),
        (Some(Value::Array(items)), value) => {
            let at = key.parse().ok().filter(|at| *at < items.len());
            match (at, value) {
                (Some(at), Some(value)) => items[at] = value,
                (Some(at), None) => drop(items.remove(at)),
                (None, _) => {}
            }
        }
        (Some(_) | None, _) => {}
    }
}

/// Something else at any place, something less, or a key more.
fn anywhere(random: &mut Random, anything: &[Value], manifest: &mut Value) {
    let mut pointers = Vec::new();
    pointers_of(manifest, String::new(), &mut pointers);
    let pointer = random.pick(&pointers);
    let value = random.pick(anything);
    if random.chance(25) {
        put(manifest, &pointer, random.pick(&UNKNOWN), Some(value));
    } else if let Some((parent, key)) = pointer.rsplit_once('/') {
        let value = (!random.chance(30)).then_some(value);
        put(manifest, parent, key, value);
    }
}

fn pointers_of(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| pointers_of(value, format!("{at}/{key}"), found)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(n, value)| pointers_of(value, format!("{at}/{n}"), found)),
        _ => {}
    }
    found.push(at);
}
