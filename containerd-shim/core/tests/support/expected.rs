//! The create cases: those of the reference (`create_cases.jsonl`), whose words are mapped to manifests here, and our own
//! (`own_cases.jsonl`), which say it themselves. For the core's tests, for those at the broker's socket, and for the red team.

#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use serde_json::{Value, json};

const REFERENCE: &str = include_str!("../testdata/create_cases.jsonl");
const OWN: &str = include_str!("../testdata/own_cases.jsonl");

/// How a manifest asks for what a case wants, and what becomes of it.
pub enum Attempt {
    /// Docker's own words in a manifest are keys that it does not have.
    NoSuchKey,
    /// This change of the least manifest is refused by this rule or code.
    Refused(&'static str, Value, &'static str),
    /// It is refused by the judge, of this manifest.
    Rich(&'static str, Value, &'static str),
    /// Whatever is asked, the request has this instead.
    Instead(&'static str, Value),
    /// The first text, replaced by the second in the least manifest as it is written, is refused by this rule.
    Text(&'static str, &'static str, &'static str),
}

use Attempt::{Instead, NoSuchKey, Refused, Rich, Text};

/// Each case of the reference by its number: the rule that the raw body breaks, and the attempt by a manifest.
#[allow(clippy::too_many_lines, reason = "a table")]
fn expected() -> BTreeMap<&'static str, (&'static str, Attempt)> {
    let mount = |mount: Value| json!([mount]);
    let volume = |more: Value| {
        let mut volume = json!({"type": "volume", "volume": "data", "target": "/h"});
        volume
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!([volume])
    };
    let bind = |root: &str, path: &str| {
        mount(json!({"type": "bind", "root": root, "path": path, "target": "/h", "read_only": true}))
    };
    let mounts = "/containers/0/mounts";
    let caps = "/containers/0/capabilities";
    let limits = |key: &'static str, value: Value| {
        let mut limits = json!({"memory_mib": 32, "cpu_milli": 500, "pids": 32});
        limits[key] = value;
        limits
    };
    let publish = |port: u16, address: &str, to: u16| json!([{"port": port, "publish": {"address": address, "port": to}}]);
    BTreeMap::from([
        ("BC001", ("M1", Refused(mounts, bind("/", ""), "M1"))),
        ("BC002", ("M1", Refused(mounts, bind("/etc", ""), "M1"))),
        ("BC004", ("M1", Refused(mounts, bind("media", "/run/cell"), "M1"))),
        (
            "BC005",
            ("M1", Refused(mounts, bind("media", "../../../etc"), "M1")),
        ),
        (
            "BC007",
            ("M1", Refused(mounts, bind("media", "../database"), "M1")),
        ),
        (
            "BC008",
            (
                "M1",
                Rich("/containers/0/mounts/1/root", json!("proc"), "M1_BIND_ROOT"),
            ),
        ),
        (
            "BC010",
            (
                "M1",
                Rich("/containers/0/mounts/1/root", json!("dev"), "M1_BIND_ROOT"),
            ),
        ),
        ("BC011", ("M1", Refused(mounts, bind("/proc/1", "root"), "M1"))),
        // A volume has no service in its name: there is no way to write another's.
        (
            "BC013",
            (
                "M1",
                Refused(
                    mounts,
                    json!([{"type": "volume", "volume": "cell-other.data", "target": "/h"}]),
                    "M3",
                ),
            ),
        ),
        (
            "BC014",
            (
                "M1",
                Refused(
                    mounts,
                    mount(json!({"type": "bind", "source": "/", "target": "/h"})),
                    "S1",
                ),
            ),
        ),
        (
            "BC016",
            (
                "M2",
                Refused(
                    mounts,
                    mount(json!({"type": "bind", "root": "media", "target": "/h", "create": true})),
                    "S1",
                ),
            ),
        ),
        (
            "BC017",
            (
                "M2",
                Refused(
                    mounts,
                    mount(json!({"type": "bind", "root": "media", "target": "/h", "non_recursive": true})),
                    "S1",
                ),
            ),
        ),
        (
            "BC019",
            ("M4", Refused(mounts, volume(json!({"driver": "local"})), "S1")),
        ),
        (
            "BC020",
            (
                "M4",
                Refused(
                    mounts,
                    volume(json!({"driver_options": {"type": "overlay"}})),
                    "S1",
                ),
            ),
        ),
        (
            "BC022",
            (
                "M4",
                Refused(mounts, volume(json!({"driver": "evilplugin"})), "S1"),
            ),
        ),
        (
            "BC023",
            ("M2", Refused(mounts, volume(json!({"path": "../../.."})), "M2")),
        ),
        (
            "BC025",
            (
                "M5",
                Refused(
                    mounts,
                    mount(json!({"type": "cluster", "volume": "x", "target": "/h"})),
                    "M5",
                ),
            ),
        ),
        (
            "BC026",
            (
                "M2",
                Refused(
                    mounts,
                    mount(json!({"type": "tmpfs", "size_mib": 4, "mode": "4777", "target": "/t"})),
                    "M2",
                ),
            ),
        ),
        (
            "BC028",
            (
                "M6",
                Refused(
                    mounts,
                    json!([{"type": "volume", "volume": "v8", "target": "/dev/shm/../../etc"}]),
                    "M6",
                ),
            ),
        ),
        (
            "BC029",
            (
                "M2",
                Refused(
                    mounts,
                    mount(json!({"type": "tmpfs", "size_mib": 999_999, "target": "/t"})),
                    "M2",
                ),
            ),
        ),
        ("BC031", ("M4", NoSuchKey)),
        ("BC032", ("M8", NoSuchKey)),
        ("BC034", ("X2", NoSuchKey)),
        (
            "BC035",
            ("P1", Refused("/containers/0/privileged", json!(true), "S1")),
        ),
        ("BC037", ("P2", Refused(caps, json!(["ALL"]), "P2"))),
        ("BC038", ("P2", Refused(caps, json!(["cap_sys_admin"]), "P2"))),
        ("BC040", ("P2", Refused(caps, json!(["DAC_READ_SEARCH"]), "P2"))),
        ("BC041", ("P2", Refused(caps, json!(["SYS_PTRACE"]), "P2"))),
        (
            "BC043",
            (
                "P2",
                Refused(
                    caps,
                    json!(["SYS_RAWIO", "MKNOD", "BPF", "PERFMON", "SYSLOG", "NET_RAW"]),
                    "P2",
                ),
            ),
        ),
        ("BC044", ("P2", Instead("/HostConfig/CapDrop", json!(["ALL"])))),
        ("BC046", ("P3", NoSuchKey)),
        ("BC047", ("P3", NoSuchKey)),
        ("BC049", ("P3", NoSuchKey)),
        ("BC050", ("P3", NoSuchKey)),
        ("BC052", ("P3", NoSuchKey)),
        ("BC053", ("P4", NoSuchKey)),
        (
            "BC055",
            ("P5", Refused("/containers/0/devices", json!(["/dev/vda"]), "S1")),
        ),
        (
            "BC056",
            ("P5", Refused("/containers/0/gateway", json!("/dev/mem"), "S1")),
        ),
        (
            "BC058",
            ("P5", Refused("/containers/0/gateway", json!(true), "P5_GATEWAY")),
        ),
        ("BC059", ("P5", NoSuchKey)),
        ("BC061", ("P5", NoSuchKey)),
        (
            "BC062",
            ("P6", Refused("/containers/0/runtime", json!("/tmp/evil"), "S1")),
        ),
        (
            "BC064",
            ("P7", Refused("/containers/0/groups", json!(["docker"]), "S1")),
        ),
        ("BC065", ("P7", Refused("/containers/0/user", json!("0:0"), "P7"))),
        ("BC067", ("P8", NoSuchKey)),
        // The broker decides, and decides the same: the raw body breaks no rule of it.
        ("BC068", ("", Instead("/HostConfig/Init", json!(true)))),
        ("BC070", ("N1", NoSuchKey)),
        (
            "BC071",
            ("N2", Refused("/containers/0/network", json!("host"), "S1")),
        ),
        (
            "BC073",
            ("N2", Refused("/containers/0/network", json!("bridge"), "S1")),
        ),
        (
            "BC074",
            ("N2", Refused("/network", json!("ns:/proc/1/ns/net"), "S1")),
        ),
        ("BC076", ("N1", NoSuchKey)),
        ("BC077", ("N1", Instead("/HostConfig/IpcMode", json!("private")))),
        (
            "BC079",
            ("N1", Instead("/HostConfig/CgroupnsMode", json!("private"))),
        ),
        ("BC080", ("N1", NoSuchKey)),
        (
            "BC082",
            (
                "N3",
                Instead("/HostConfig/CgroupParent", json!("cell-apps.slice")),
            ),
        ),
        ("BC083", ("N4", Instead("/HostConfig/Sysctls", json!({})))),
        (
            "BC085",
            (
                "N4",
                Refused(
                    "/containers/0/sysctls",
                    json!({"net.ipv4/../../kernel/core_pattern": "|/x"}),
                    "S1",
                ),
            ),
        ),
        (
            "BC086",
            (
                "N2",
                Refused("/containers/0/networks", json!(["foreign_net"]), "S1"),
            ),
        ),
        ("BC088", ("N5", NoSuchKey)),
        ("BC089", ("N5", NoSuchKey)),
        (
            "BC091",
            ("N6", Refused("/containers/0/ports", publish(80, "", 22), "N6")),
        ),
        (
            "BC092",
            (
                "N6",
                Refused("/containers/0/ports", publish(53, "0.0.0.0", 53), "N6"),
            ),
        ),
        (
            "BC094",
            ("N6", Instead("/HostConfig/PublishAllPorts", json!(false))),
        ),
        ("BC095", ("N6", Instead("/ExposedPorts", json!({})))),
        ("BC097", ("N7", NoSuchKey)),
        ("BC098", ("N7", NoSuchKey)),
        (
            "BC100",
            ("N7", Instead("/HostConfig/Dns", json!(["172.21.0.17"]))),
        ),
        (
            "BC101",
            ("X4", Refused("/containers/0/name", json!("a\n127.0.0.1 x"), "S2")),
        ),
        (
            "BC103",
            (
                "R1",
                Refused("/containers/0/limits", limits("memory_mib", json!(0)), "R1"),
            ),
        ),
        (
            "BC104",
            ("R1", Instead("/HostConfig/MemorySwap", json!(32 * 1024 * 1024))),
        ),
        (
            "BC106",
            (
                "R1",
                Refused("/containers/0/limits", limits("cpu_milli", json!(-1)), "S1"),
            ),
        ),
        (
            "BC107",
            (
                "R1",
                Refused(
                    "/containers/0/limits",
                    limits("cpu_realtime", json!(950_000)),
                    "S1",
                ),
            ),
        ),
        ("BC109", ("R2", NoSuchKey)),
        ("BC110", ("R2", Instead("/HostConfig/OomScoreAdj", json!(500)))),
        (
            "BC112",
            (
                "R1",
                Refused("/containers/0/limits", limits("shm_mib", json!(1_048_576)), "R1"),
            ),
        ),
        ("BC113", ("R1", NoSuchKey)),
        (
            "BC115",
            (
                "R3",
                Refused("/containers/0/restart", json!({"policy": "always"}), "R3"),
            ),
        ),
        ("BC116", ("R3", NoSuchKey)),
        (
            "BC118",
            ("X5", Instead("/HostConfig/LogConfig/Type", json!("json-file"))),
        ),
        (
            "BC119",
            (
                "X5",
                Instead("/HostConfig/LogConfig/Config/max-size", json!("10m")),
            ),
        ),
        (
            "BC121",
            (
                "I1",
                Refused("/containers/0/image", json!("evil/miner:latest"), "I1"),
            ),
        ),
        (
            "BC122",
            ("I1", Refused("/containers/0/image", json!("bb:1"), "I1")),
        ),
        // The process is the manifest's; a caller has no word in it.
        ("BC124", ("", Instead("/Cmd", json!(["/bin/true"])))),
        (
            "BC125",
            (
                "I3",
                Refused("/containers/0/working_dir", json!("/proc/self/fd/8"), "I3"),
            ),
        ),
        (
            "BC127",
            (
                "I5",
                Refused("/containers/0/labels", json!({"org.fk.owner": "system"}), "S1"),
            ),
        ),
        (
            "BC128",
            (
                "I2",
                Refused(
                    "/containers/0/health",
                    json!({"command": ["nc", "-l"], "interval_seconds": 0, "timeout_seconds": 1, "retries": 1}),
                    "I2",
                ),
            ),
        ),
        (
            "BC130",
            ("R3", Refused("/containers/0/stop_signal", json!("SIGKILL"), "R3")),
        ),
        ("BC131", ("I2", NoSuchKey)),
        // A name is the manifest's to give: one that leads elsewhere is none.
        (
            "BC133",
            ("J3", Refused("/containers/0/name", json!("..%2f..%2fx"), "S2")),
        ),
        (
            "BC134",
            (
                "J3",
                Refused("/containers/0/platform", json!("linux/arm64"), "S1"),
            ),
        ),
        (
            "BC136",
            (
                "J1",
                Text(
                    r#""user":"1000:1000""#,
                    r#""user":"1000:1000","user":"0:0""#,
                    "J1",
                ),
            ),
        ),
        (
            "BC137",
            ("J1", Text(r#""pids":32"#, r#""pids":32,"pids":100000"#, "J1")),
        ),
        (
            "BC139",
            (
                "J1",
                Text(
                    r#""version":"1.0"}"#,
                    r#""version":"1.0"}{"containers":[]}"#,
                    "J1",
                ),
            ),
        ),
        (
            "BC140",
            ("J2", Refused("/description", json!("A".repeat(1_100_000)), "J2")),
        ),
        ("BC142", ("J3", NoSuchKey)),
        ("BC143", ("J3", NoSuchKey)),
    ])
}

/// One case.
pub struct Case {
    /// Its number: `BC…` of the reference, `OC…` of our own.
    pub id: String,
    /// What of Docker's create request it is about.
    pub field: String,
    /// Where the raw request goes.
    pub path: String,
    /// The raw request.
    pub body: String,
    /// The rule that the raw body breaks; empty where it breaks none.
    pub rule: &'static str,
    /// The same by a manifest.
    pub attempt: Attempt,
    /// The status that Docker 20.10.24 gives to the raw request: of the reference's as it records them, of our own as they were seen.
    pub docker: u64,
}

/// All there are.
pub fn cases() -> Vec<Case> {
    let mut expected = expected();
    let mut cases = Vec::new();
    for line in REFERENCE.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let id = value["id"].as_str().unwrap();
        let (rule, attempt) = expected
            .remove(id)
            .unwrap_or_else(|| panic!("{id} is not mapped"));
        cases.push(case(&value, rule, attempt, "raw_docker_20_10_status"));
    }
    assert!(expected.is_empty(), "a mapping of no case");
    for line in OWN.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        let rule = word(&value["rule"]);
        cases.push(case(&value, rule, own(&value["attempt"]), "docker"));
    }
    cases
}

fn case(value: &Value, rule: &'static str, attempt: Attempt, docker: &str) -> Case {
    let text = |key: &str| value[key].as_str().unwrap().to_owned();
    let generated = format!(
        r#"{{"Image":"bb:1","Cmd":["/bin/true"],"Labels":{{"p":"{}"}},"HostConfig":{{"Privileged":true}}}}"#,
        "A".repeat(1_100_000)
    );
    let body = text("body");
    Case {
        id: text("id"),
        field: text("field"),
        path: text("path"),
        body: if body.starts_with("<generated") {
            generated
        } else {
            body
        },
        rule,
        attempt,
        docker: value[docker].as_u64().unwrap(),
    }
}

/// Manifests with one of Docker's words in the case's body as a key, in the container and beside it; the key comes first. No manifest
/// has such a key, so each must be refused for it.
pub fn asking(case: &Case, least: &Value) -> Vec<(String, Value)> {
    let mut words = Vec::new();
    gather(&serde_json::from_str(&case.body).unwrap(), &mut words);
    // All bodies begin so, or Docker would not take them: no case is about it.
    let (image, command) = (json!("bb:1"), json!(["/bin/true"]));
    words.retain(|(key, value)| (key != "Image" || *value != image) && (key != "Cmd" || *value != command));
    assert!(!words.is_empty(), "{}: its body says nothing", case.id);
    let mut asking = Vec::new();
    for (key, value) in words {
        let (mut within, mut beside) = (least.clone(), least.clone());
        within["containers"][0][&key] = value.clone();
        beside[&key] = value;
        asking.extend([(key.clone(), within), (key, beside)]);
    }
    asking
}

/// Keys at any depth, each once.
fn gather(value: &Value, words: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if !words.iter().any(|(known, _)| known == key) {
                    words.push((key.clone(), value.clone()));
                }
                gather(value, words);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| gather(item, words)),
        _ => {}
    }
}

/// As `own_cases.jsonl` writes an attempt.
fn own(written: &Value) -> Attempt {
    let value = || written["value"].clone();
    match written["kind"].as_str().unwrap() {
        "no_such_key" => NoSuchKey,
        "refused" => Refused(word(&written["at"]), value(), word(&written["code"])),
        "rich" => Rich(word(&written["at"]), value(), word(&written["code"])),
        "instead" => Instead(word(&written["at"]), value()),
        "text" => Text(
            word(&written["from"]),
            word(&written["to"]),
            word(&written["code"]),
        ),
        other => panic!("{other} is no kind of attempt"),
    }
}

/// The words of a test live as long as it does.
fn word(value: &Value) -> &'static str {
    value.as_str().unwrap().to_owned().leak()
}

/// `from` with `value` at `pointer`, whose parent is there.
pub fn changed(from: &Value, pointer: &str, value: &Value) -> Value {
    let mut changed = from.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    changed.pointer_mut(parent).unwrap()[key] = value.clone();
    changed
}
