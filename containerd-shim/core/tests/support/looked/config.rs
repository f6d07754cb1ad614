//! The fields of the container itself, and of its one endpoint.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{Look, Seen, has_keys, is_below, is_clean, is_hex, is_label, within};

const SECOND: u64 = 1_000_000_000;

pub const LOOKS: &[(&str, Look)] = &[
    ("Cmd", |seen, _, value| is_process(seen, "command", value)),
    ("Entrypoint", |seen, _, value| {
        is_process(seen, "entrypoint", value)
    }),
    ("Env", |seen, _, value| environment(seen, value)),
    ("ExposedPorts", |seen, _, value| {
        let bound = seen.body["HostConfig"]["PortBindings"].as_object();
        let exposed = bound.map(|all| all.keys().map(|port| (port.clone(), json!({}))).collect());
        exposed.is_some_and(|all: serde_json::Map<_, _>| *value == Value::Object(all))
    }),
    ("Healthcheck", |_, _, value| value.is_object()),
    (
        "Healthcheck.Test",
        |seen, _, value| match &seen.container["health"] {
            Value::Null => *value == json!(["NONE"]),
            health => {
                let mut words = seen.words(&health["command"]);
                words.insert(0, "CMD".to_owned());
                words.len() > 1 && *value == json!(words)
            }
        },
    ),
    ("Healthcheck.Interval", |seen, _, value| {
        within(value, 5 * SECOND, u64::MAX) && seconds(seen, "/health/interval_seconds", value)
    }),
    ("Healthcheck.StartInterval", |_, _, value| {
        within(value, 5 * SECOND, u64::MAX)
    }),
    ("Healthcheck.StartPeriod", |seen, _, value| {
        seconds(seen, "/health/start_period_seconds", value)
    }),
    ("Healthcheck.Timeout", |seen, _, value| {
        seconds(seen, "/health/timeout_seconds", value)
    }),
    ("Healthcheck.Retries", |seen, _, value| {
        within(value, 1, 10) && *value == seen.container["health"]["retries"]
    }),
    ("Hostname", |seen, _, value| {
        value.as_str().is_some_and(is_label) && *value == seen.container["name"]
    }),
    ("Image", |seen, _, value| {
        value.as_str().is_some_and(|image| is_image(seen, image))
    }),
    ("Labels", |seen, _, value| *value == json!(labels(seen))),
    ("NetworkingConfig.EndpointsConfig", |seen, _, value| {
        let endpoint = &value[&seen.asked.given.network];
        has_keys(value, &[&seen.asked.given.network])
            && has_keys(endpoint, &["Aliases", "IPAMConfig"])
            && has_keys(&endpoint["IPAMConfig"], &["IPv4Address", "IPv6Address"])
    }),
    ("NetworkingConfig.EndpointsConfig{}.Aliases", |seen, _, value| {
        *value == json!([seen.container["name"]])
    }),
    ("NetworkingConfig.EndpointsConfig{}.IPAMConfig", |_, _, value| {
        value.is_object()
    }),
    (
        "NetworkingConfig.EndpointsConfig{}.IPAMConfig.IPv4Address",
        |seen, _, value| address(seen).is_some_and(|address| *value == json!(address)),
    ),
    (
        "NetworkingConfig.EndpointsConfig{}.IPAMConfig.IPv6Address",
        |_, _, value| *value == json!(""),
    ),
    ("StopSignal", |seen, _, value| {
        let asked = seen.container["stop_signal"].as_str().unwrap_or("SIGTERM");
        ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1"].contains(&asked) && *value == json!(asked)
    }),
    ("StopTimeout", |seen, _, value| {
        within(value, 0, 60) && *value == json!(seen.number("/stop_timeout_seconds", 10))
    }),
    ("User", |seen, _, value| {
        let number = |text: &str| {
            text.parse::<u32>()
                .is_ok_and(|n| n >= 1000 && n.to_string() == text)
        };
        let ids = value.as_str().and_then(|text| text.split_once(':'));
        ids.is_some_and(|(user, group)| number(user) && number(group)) && *value == seen.container["user"]
    }),
    ("WorkingDir", |seen, _, value| {
        let folders = ["/proc", "/sys", "/dev"];
        let is_right = |path: &str| is_clean(path) && !folders.iter().any(|folder| is_below(path, folder));
        value.as_str().is_some_and(is_right) && *value == seen.container["working_dir"]
    }),
];

/// The words that the manifest says, where it says some.
fn is_process(seen: &Seen<'_>, key: &str, value: &Value) -> bool {
    let words = seen.words(&seen.container[key]);
    !words.is_empty() && *value == json!(words)
}

/// Nanoseconds of seconds that the manifest says.
fn seconds(seen: &Seen<'_>, pointer: &str, value: &Value) -> bool {
    !seen.container["health"].is_null() && *value == json!(seen.number(pointer, 0) * SECOND)
}

/// Every variable that the manifest declares, with its value, and no other.
fn environment(seen: &Seen<'_>, value: &Value) -> bool {
    let Some(lines) = value.as_array() else {
        return false;
    };
    let right = |key: &str, value: &str| {
        let known = |b: u8| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_');
        (1..=64).contains(&key.len())
            && key.bytes().all(known)
            && !key.as_bytes()[0].is_ascii_digit()
            && !["LD_", "GLIBC_", "DOCKER_"]
                .iter()
                .any(|prefix| key.starts_with(prefix))
            && value.len() <= 8192
            && !value.contains(['\0', '\r', '\n'])
    };
    let pairs: Option<BTreeMap<&str, &str>> =
        lines.iter().map(|line| line.as_str()?.split_once('=')).collect();
    let asked = seen.container["environment"].as_object();
    let asked: BTreeMap<&str, String> = asked
        .into_iter()
        .flatten()
        .map(|(key, text)| (key.as_str(), seen.filled(text.as_str().unwrap())))
        .collect();
    pairs.is_some_and(|pairs| {
        pairs.len() == lines.len()
            && pairs.iter().all(|(key, value)| right(key, value))
            && pairs
                .into_iter()
                .eq(asked.iter().map(|(key, value)| (*key, value.as_str())))
    })
}

/// The manifest's, of a registry of the ceiling by name and digest, or by an id that root listed.
fn is_image(seen: &Seen<'_>, image: &str) -> bool {
    let asked = seen.container["image"].as_str().unwrap();
    if asked.starts_with("local:") {
        let is_listed = seen.asked.given.images.iter().any(|id| id.as_str() == image);
        return is_listed && image.strip_prefix("sha256:").is_some_and(|hex| is_hex(hex, 64));
    }
    let Some((name, digest)) = image.split_once("@sha256:") else {
        return false;
    };
    let (named, asked_digest) = asked.split_once("@sha256:").unwrap();
    // Without its tag: what follows the last colon, if that is no registry's port.
    let untagged = named
        .rsplit_once(':')
        .filter(|(_, tag)| !tag.contains('/'))
        .map_or(named, |(name, _)| name);
    let registries = &seen.asked.ceiling.registries;
    is_hex(digest, 64)
        && digest == asked_digest
        && name == untagged
        && registries
            .iter()
            .any(|registry| name.starts_with(&format!("{registry}/")))
}

/// All of the broker's own prefix.
fn labels(seen: &Seen<'_>) -> BTreeMap<&'static str, String> {
    let (service, container) = (&seen.asked.service, seen.container["name"].as_str().unwrap());
    let handle = match seen.n {
        0 => service.clone(),
        _ => format!("{service}-{container}"),
    };
    BTreeMap::from([
        ("cell.owner", "default".to_owned()),
        ("cell.service", handle),
        ("cell.part-of", service.clone()),
        ("cell.manifest", seen.asked.digest.to_owned()),
        ("cell.attempt", seen.asked.given.attempt.clone()),
    ])
}

/// That of the ceiling for the cell's own; for a service the third of its network, and those after.
fn address(seen: &Seen<'_>) -> Option<Ipv4Addr> {
    if seen.is_core() {
        let id = seen.asked.manifest["id"].as_str().unwrap();
        let mut core = seen.asked.ceiling.core.iter();
        return core
            .find(|(name, _)| name.as_str() == id)
            .map(|(_, address)| *address);
    }
    let n = u32::try_from(seen.n).unwrap();
    Some(Ipv4Addr::from(u32::from(seen.asked.network) + 2 + n))
}
