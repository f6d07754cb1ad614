//! The second reader of requests (`support/looked`), by which random ones are judged, finds each thing that is wrong: for each of the 72
//! fields that are sent a value that may not stand there, each of the 99 others, keys that nobody knows, and what is not there.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/looked/mod.rs"]
mod looked;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use cell_broker_core::deploy::{FIELDS, FieldClass};
use looked::{Asked, Found, look};
use serde_json::{Map, Value, json};
use support::{DIGEST, ceiling, given, image, judged_as, rich, verified};

const NETWORK: &str = "abababababababababababababababababababababababababababababababab";

/// The manifest that uses every part.
fn manifest() -> Value {
    let mut manifest = rich(&image());
    manifest["containers"][0]["secrets"] = json!([{"name": "token"}]);
    manifest
}

/// What is said of a body as that of the manifest's container `n`.
fn said(n: usize, body: &Value) -> Found {
    let (ceiling, manifest, parameters) = (ceiling(), manifest(), BTreeMap::new());
    let verified = verified(&manifest);
    let approved = judged_as(&ceiling, &verified, &[]).unwrap();
    let asked = Asked {
        manifest: &manifest,
        digest: verified.digest().as_str(),
        service: "gateway".to_owned(),
        parameters: &parameters,
        ceiling: &ceiling,
        given: &given(&ceiling, &approved),
        network: Ipv4Addr::new(172, 21, 0, 16),
    };
    look(&asked, n, body)
}

fn body(n: usize) -> Value {
    let (ceiling, verified) = (ceiling(), verified(&manifest()));
    let approved = judged_as(&ceiling, &verified, &[]).unwrap();
    let given = given(&ceiling, &approved);
    approved.finish(&ceiling, &given, n).unwrap().body().clone()
}

/// A field, where it is, and what may not be there.
type Wrong = (&'static str, &'static str, Value);

#[allow(clippy::too_many_lines, reason = "a table")]
fn wrong_config() -> Vec<Wrong> {
    let endpoint = "NetworkingConfig.EndpointsConfig{}";
    vec![
        ("Cmd", "/Cmd", json!(["-c", "id"])),
        ("Cmd", "/Cmd/1", json!("exec sleep ${config.quota}")),
        ("Entrypoint", "/Entrypoint", json!(["/bin/busybox"])),
        ("Env", "/Env/0", json!("LD_PRELOAD=/x")),
        ("Env", "/Env/0", json!("GREETING=another")),
        ("Env", "/Env", json!([])),
        (
            "ExposedPorts",
            "/ExposedPorts",
            json!({"8080/tcp": {}, "8081/tcp": {}}),
        ),
        ("Healthcheck", "/Healthcheck", json!(null)),
        (
            "Healthcheck.Test",
            "/Healthcheck/Test",
            json!(["CMD-SHELL", "/bin/true"]),
        ),
        ("Healthcheck.Test", "/Healthcheck/Test", json!(["NONE"])),
        (
            "Healthcheck.Interval",
            "/Healthcheck/Interval",
            json!(1_000_000_000),
        ),
        (
            "Healthcheck.StartInterval",
            "/Healthcheck/StartInterval",
            json!(1),
        ),
        ("Healthcheck.StartPeriod", "/Healthcheck/StartPeriod", json!(1)),
        ("Healthcheck.Timeout", "/Healthcheck/Timeout", json!(0)),
        ("Healthcheck.Retries", "/Healthcheck/Retries", json!(11)),
        ("Hostname", "/Hostname", json!("side")),
        ("Hostname", "/Hostname", json!("a.example")),
        ("Image", "/Image", json!("127.0.0.1:5000/store/files:1")),
        ("Image", "/Image", json!(DIGEST)),
        ("Labels", "/Labels/org.example", json!("x")),
        ("Labels", "/Labels/cell.part-of", json!("files")),
        (
            "NetworkingConfig.EndpointsConfig",
            "/NetworkingConfig/EndpointsConfig/host",
            json!({}),
        ),
        (
            "NetworkingConfig.EndpointsConfig",
            "/NetworkingConfig/EndpointsConfig",
            json!({}),
        ),
        (
            "{}.Aliases",
            "/NetworkingConfig/EndpointsConfig/NETWORK/Aliases",
            json!(["main", "files"]),
        ),
        (
            "{}.IPAMConfig",
            "/NetworkingConfig/EndpointsConfig/NETWORK/IPAMConfig",
            json!("x"),
        ),
        (
            "{}.IPAMConfig.IPv4Address",
            "/NetworkingConfig/EndpointsConfig/NETWORK/IPAMConfig/IPv4Address",
            json!("172.21.0.19"),
        ),
        (
            "{}.IPAMConfig.IPv6Address",
            "/NetworkingConfig/EndpointsConfig/NETWORK/IPAMConfig/IPv6Address",
            json!("fd00::2"),
        ),
        ("StopSignal", "/StopSignal", json!("SIGKILL")),
        ("StopTimeout", "/StopTimeout", json!(61)),
        ("User", "/User", json!("0:0")),
        ("User", "/User", json!("")),
        ("WorkingDir", "/WorkingDir", json!("/proc/self/fd/8")),
    ]
    .into_iter()
    .map(|(field, at, value)| match field.strip_prefix("{}") {
        Some(below) => (
            format!("{endpoint}{below}").leak() as &str,
            at.replace("NETWORK", NETWORK).leak() as &str,
            value,
        ),
        None => (field, at, value),
    })
    .collect()
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn wrong_mounts() -> Vec<Wrong> {
    let at = |field: &'static str, pointer: &'static str, value: Value| {
        let (field, pointer) = (
            format!("HostConfig.Mounts{field}"),
            format!("/HostConfig/Mounts{pointer}"),
        );
        (field.leak() as &str, pointer.leak() as &str, value)
    };
    let volume = json!({"Type": "volume", "Source": "cell-gateway.data", "Target": "/more", "ReadOnly": false, "VolumeOptions": {"NoCopy": false}});
    vec![
        at("", "", json!([volume])),
        at("", "/0/Target", json!("/tmp/data")),
        at("[].Type", "/0/Type", json!("cluster")),
        at(
            "[].Type",
            "/0/BindOptions",
            json!({"Propagation": "rprivate", "ReadOnlyForceRecursive": true}),
        ),
        at("[].Source", "/0/Source", json!("cell-files.data")),
        at("[].Source", "/0/Source", json!("/etc")),
        at("[].Source", "/1/Source", json!("/srv/cell/data")),
        at("[].Source", "/1/Source", json!("/srv/cell/data/films/../x")),
        at(
            "[].Source",
            "/4/Source",
            json!("/run/cell/broker-secrets/gateway/side"),
        ),
        at("[].Source", "/4/Target", json!("/run/other")),
        at("[].Target", "/0/Target", json!("/proc/x")),
        at("[].Target", "/0/Target", json!("/")),
        at("[].Target", "/0/Target", json!("/run/docker.sock")),
        at("[].ReadOnly", "/1/ReadOnly", json!(false)),
        at("[].ReadOnly", "/4/ReadOnly", json!(false)),
        at("[].ReadOnly", "/0/ReadOnly", json!(null)),
        at("[].BindOptions", "/1/BindOptions", json!({})),
        at(
            "[].BindOptions",
            "/1/BindOptions/ReadOnlyForceRecursive",
            json!(false),
        ),
        at(
            "[].BindOptions.Propagation",
            "/1/BindOptions/Propagation",
            json!("rshared"),
        ),
        at(
            "[].BindOptions.ReadOnlyForceRecursive",
            "/1/BindOptions/ReadOnlyForceRecursive",
            json!("no"),
        ),
        at(
            "[].TmpfsOptions",
            "/0/TmpfsOptions",
            json!({"SizeBytes": 1, "Mode": 1}),
        ),
        at("[].TmpfsOptions.Mode", "/3/TmpfsOptions/Mode", json!(0o4755)),
        at(
            "[].TmpfsOptions.SizeBytes",
            "/3/TmpfsOptions/SizeBytes",
            json!(1_u64 << 40),
        ),
        at("[].Source", "/3/TmpfsOptions/SizeBytes", json!(1)),
        at("[].VolumeOptions", "/1/VolumeOptions", json!({"NoCopy": true})),
        at("[].VolumeOptions.NoCopy", "/0/VolumeOptions/NoCopy", json!("x")),
    ]
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn wrong_host() -> Vec<Wrong> {
    let at = |field: &'static str, pointer: &'static str, value: Value| {
        let (field, pointer) = (format!("HostConfig.{field}"), format!("/HostConfig/{pointer}"));
        (field.leak() as &str, pointer.leak() as &str, value)
    };
    let tun =
        json!({"PathOnHost": "/dev/net/tun", "PathInContainer": "/dev/net/tun", "CgroupPermissions": "rw"});
    vec![
        at("CapAdd", "CapAdd", json!(["SYS_ADMIN"])),
        at("CapAdd", "CapAdd", json!(["SETUID"])),
        at("CapAdd", "CapAdd", json!(["CHOWN", "CAP_CHOWN"])),
        at("CapDrop", "CapDrop", json!([])),
        at("CgroupParent", "CgroupParent", json!("/")),
        at("CgroupnsMode", "CgroupnsMode", json!("host")),
        at("CpuShares", "CpuShares", json!(1025)),
        at("Devices", "Devices", json!([])),
        at("Devices", "Devices", json!([tun, tun])),
        at(
            "Devices[].CgroupPermissions",
            "Devices/0/CgroupPermissions",
            json!("rwm"),
        ),
        at(
            "Devices[].PathInContainer",
            "Devices/0/PathInContainer",
            json!("/dev/x"),
        ),
        at("Devices[].PathOnHost", "Devices/0/PathOnHost", json!("/dev/mem")),
        at("Dns", "Dns", json!(["1.1.1.1"])),
        at("Init", "Init", json!(false)),
        at("IpcMode", "IpcMode", json!("host")),
        at("LogConfig", "LogConfig", json!({"Type": "local"})),
        at(
            "LogConfig.Config",
            "LogConfig/Config",
            json!({"max-size": "51m", "max-file": "3"}),
        ),
        at("LogConfig.Config", "LogConfig/Config/tag", json!("x")),
        at("LogConfig.Type", "LogConfig/Type", json!("syslog")),
        at("Memory", "Memory", json!(0)),
        at("Memory", "Memory", json!(128 << 20)),
        at("MemoryReservation", "MemoryReservation", json!(1_u64 << 40)),
        at("MemorySwap", "MemorySwap", json!(-1)),
        at("NanoCpus", "NanoCpus", json!(0)),
        at("NetworkMode", "NetworkMode", json!("host")),
        at("NetworkMode", "NetworkMode", json!("cd".repeat(32))),
        at("OomScoreAdj", "OomScoreAdj", json!(-1000)),
        at("PidsLimit", "PidsLimit", json!(-1)),
        at(
            "PortBindings",
            "PortBindings",
            json!({"8080/tcp": [{"HostIp": "", "HostPort": "20001"}]}),
        ),
        at(
            "PortBindings",
            "PortBindings",
            json!({"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "20002"}]}),
        ),
        at("PortBindings", "PortBindings", json!({})),
        at("Privileged", "Privileged", json!(true)),
        at("PublishAllPorts", "PublishAllPorts", json!(true)),
        at("ReadonlyRootfs", "ReadonlyRootfs", json!(false)),
        at("RestartPolicy", "RestartPolicy", json!({"Name": "no"})),
        at(
            "RestartPolicy.MaximumRetryCount",
            "RestartPolicy/MaximumRetryCount",
            json!(11),
        ),
        at("RestartPolicy.Name", "RestartPolicy/Name", json!("always")),
        at("SecurityOpt", "SecurityOpt", json!(["no-new-privileges"])),
        at("SecurityOpt", "SecurityOpt/1", json!("seccomp=unconfined")),
        at("SecurityOpt", "SecurityOpt/0", json!("no-new-privileges=false")),
        at("ShmSize", "ShmSize", json!(1_u64 << 40)),
        at("Sysctls", "Sysctls/kernel.shmmax", json!("1")),
        at("Ulimits", "Ulimits", json!([])),
        at("Ulimits[].Hard", "Ulimits/0/Hard", json!(65_537)),
        at("Ulimits[].Name", "Ulimits/0/Name", json!("memlock")),
        at("Ulimits[].Soft", "Ulimits/0/Soft", json!(1_000_000)),
    ]
}

/// The body with something else at one place.
fn changed(mut body: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match body.pointer_mut(parent).unwrap() {
        Value::Object(map) => drop(map.insert(key.to_owned(), value)),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        other => panic!("{pointer}: {other}"),
    }
    body
}

#[test]
fn a_wrong_value_of_each_field_that_is_sent_is_found_there() {
    let good = body(0);
    for n in [0, 1] {
        assert_eq!(said(n, &body(n)).faults, Vec::<String>::new(), "control");
    }
    let all = [wrong_config(), wrong_mounts(), wrong_host()].concat();
    for (field, pointer, value) in &all {
        let faults = said(0, &changed(good.clone(), pointer, value.clone())).faults;
        let blamed = format!("{field}: ");
        assert!(
            faults.iter().any(|fault| fault.starts_with(&blamed)),
            "{pointer} {value}: {faults:?}"
        );
    }
    let tried: BTreeSet<&str> = all.iter().map(|(field, ..)| *field).collect();
    assert_eq!(tried, looked::fields());
}

/// Of the table that the broker goes by, these are all that are sent.
#[test]
fn its_fields_are_those_of_the_policy() {
    let sent = FIELDS.iter().filter(|(_, class, _)| *class == FieldClass::Emit);
    assert_eq!(
        sent.map(|(name, ..)| name).collect::<BTreeSet<_>>(),
        looked::fields()
    );
    assert_eq!(looked::fields().len(), 72);
    assert_eq!(
        looked::paths(&body(0))
            .into_iter()
            .filter(|path| !looked::fields().contains(path.as_str()))
            .count(),
        0
    );
}

/// Has the field stand in the body, whatever it takes.
fn put(value: &mut Value, path: &str) {
    let Some((head, rest)) = path
        .split_once('.')
        .map_or((!path.is_empty()).then_some((path, "")), Some)
    else {
        return;
    };
    let key = head.trim_end_matches("[]").trim_end_matches("{}");
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let below = &mut value[key];
    let item = match head.len() - key.len() {
        0 => below,
        _ if head.ends_with("[]") => {
            if !below.is_array() {
                *below = json!([{}]);
            }
            &mut below[0]
        }
        _ => &mut below[NETWORK],
    };
    put(item, rest);
}

#[test]
fn what_is_never_sent_is_found_at_any_depth_and_so_is_what_is_missing() {
    let good = body(0);
    let mut never = 0;
    for (name, ..) in FIELDS.iter().filter(|(_, class, _)| *class == FieldClass::Never) {
        let mut changed = good.clone();
        put(&mut changed, name);
        let faults = said(0, &changed).faults;
        let is_blamed = |fault: &String| {
            let field = fault.strip_suffix(" is never sent");
            field.is_some_and(|field| name.starts_with(field))
        };
        assert!(faults.iter().any(is_blamed), "{name}: {faults:?}");
        never += 1;
    }
    assert_eq!(never, 99);
    for pointer in [
        "/x",
        "/hostconfig",
        "/HostConfig/privileged",
        "/HostConfig/Mounts/0/source",
        "/HostConfig/Mounts/1/BindOptions/x",
        "/HostConfig/Devices/0/x",
        "/HostConfig/Ulimits/0/x",
        "/NetworkingConfig/x",
        "/Healthcheck/x",
    ] {
        let faults = said(0, &changed(good.clone(), pointer, json!(null))).faults;
        assert!(
            faults.iter().any(|fault| fault.ends_with(" is never sent")),
            "{pointer}: {faults:?}"
        );
    }
    for field in looked::fields()
        .into_iter()
        .filter(|field| !field.contains(['[', '{']))
    {
        let mut changed = good.clone();
        let (parent, key) = field.rsplit_once('.').unwrap_or(("", field));
        let parent = if parent.is_empty() {
            String::new()
        } else {
            format!("/{}", parent.replace('.', "/"))
        };
        let map = changed.pointer_mut(&parent).unwrap().as_object_mut().unwrap();
        assert!(map.remove(key).is_some(), "{field}");
        let faults = said(0, &changed).faults;
        assert!(
            faults.contains(&format!("{field} is missing")),
            "{field}: {faults:?}"
        );
    }
}
