//! What Docker made, against what was asked for: it fills in defaults of its own, of its configuration and of the image.

use cell_manifest::AbsolutePath;
use serde_json::{Map, Value};

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The field of Docker's answer.
    pub field: String,
}

/// Fields of the request that an older Docker does not know, and leaves out of its answer.
const NEWER: [&str; 1] = ["StartInterval"];
/// What Docker answers beside what was asked, where it means nothing: fields of `HostConfig` with the value that they must have.
const FILLED: [(&str, &[&str]); 5] = [
    ("ConsoleSize", &["[0,0]"]),
    ("Isolation", &["\"default\""]),
    ("Runtime", &["\"runc\"", "\"io.containerd.runc.v2\""]),
    ("MaskedPaths", &[]),
    ("ReadonlyPaths", &[]),
];
/// Paths that Docker hides, of which none may be missing.
const MASKED: [&str; 6] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/sys/firmware",
];
/// Paths that Docker makes read-only, of which none may be missing.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Compares Docker's answer to `GET /containers/{id}/json` with the body that was sent. Every difference; a field that nobody
/// knows and that says something is one.
pub fn compare(body: &Value, answer: &Value) -> Vec<Difference> {
    let mut compare = Compare(Vec::new());
    compare.host(body, answer);
    compare.config(body, answer);
    compare.mounts(body, answer);
    compare.networks(body, answer);
    compare.0
}

struct Compare(Vec<Difference>);

impl Compare {
    fn must(&mut self, holds: bool, field: &str) {
        if !holds {
            let field = field.chars().filter(|c| !c.is_control()).take(120).collect();
            self.0.push(Difference { field });
        }
    }

    fn host(&mut self, body: &Value, answer: &Value) {
        let empty = Map::new();
        let asked = body["HostConfig"].as_object().unwrap_or(&empty);
        let Some(got) = answer["HostConfig"].as_object() else {
            return self.must(false, "HostConfig");
        };
        for (key, asked) in asked {
            let got = got.get(key).unwrap_or(&Value::Null);
            self.must(same(asked, got), &format!("HostConfig.{key}"));
        }
        for (key, got) in got.iter().filter(|(key, _)| !asked.contains_key(*key)) {
            let field = format!("HostConfig.{key}");
            match FILLED.iter().find(|(name, _)| name == key) {
                Some(("MaskedPaths", _)) => self.must(has_all(got, &MASKED), &field),
                Some(("ReadonlyPaths", _)) => self.must(has_all(got, &READ_ONLY), &field),
                Some((_, values)) => {
                    let text = got.to_string();
                    self.must(is_empty(got) || values.contains(&text.as_str()), &field);
                }
                None => self.must(is_empty(got), &field),
            }
        }
        for list in ["MaskedPaths", "ReadonlyPaths"] {
            self.must(got.contains_key(list), &format!("HostConfig.{list}"));
        }
    }

    fn config(&mut self, body: &Value, answer: &Value) {
        let config = &answer["Config"];
        for key in ["User", "Hostname", "Image", "Labels", "StopSignal", "StopTimeout"] {
            // Labels of the image are added to ours; ours win.
            let good = if key == "Labels" {
                within(&body[key], &config[key])
            } else {
                same(&body[key], &config[key])
            };
            self.must(good, &format!("Config.{key}"));
        }
        // One that is named by its id is that one.
        let by_id = |asked: &Value| asked.as_str().is_some_and(|text| text.starts_with("sha256:"));
        self.must(
            !by_id(&body["Image"]) || body["Image"] == answer["Image"],
            "Image",
        );
        for key in ["Entrypoint", "Cmd", "WorkingDir"] {
            // Absent, they are the image's.
            let good = body.get(key).is_none_or(|asked| same(asked, &config[key]));
            self.must(good, &format!("Config.{key}"));
        }
        self.must(
            same(&body["Healthcheck"], &config["Healthcheck"]),
            "Config.Healthcheck",
        );
        // The image's own are beside ours, and must do nothing to what starts the container.
        let environment = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let (asked, got) = (environment(&body["Env"]), environment(&config["Env"]));
        let all = asked.iter().all(|entry| got.contains(entry));
        let mut others = got.iter().filter(|entry| !asked.contains(entry));
        self.must(all && others.all(is_harmless), "Config.Env");
        // Where a manifest names none: of a folder behind an open descriptor the program would be outside (CVE-2024-21626).
        let folder = config["WorkingDir"].as_str().unwrap_or_default();
        let within = matches!(folder, "" | "/") || AbsolutePath::new(folder.trim_end_matches('/')).is_ok();
        self.must(within, "Config.WorkingDir");
        let known = |key: &String| !key.starts_with("cell.") || !body["Labels"][key].is_null();
        let labels = config["Labels"].as_object();
        self.must(labels.is_none_or(|all| all.keys().all(known)), "Config.Labels");
        for key in [
            "Tty",
            "OpenStdin",
            "StdinOnce",
            "AttachStdin",
            "NetworkDisabled",
            "MacAddress",
            "Domainname",
        ] {
            self.must(is_empty(&config[key]), &format!("Config.{key}"));
        }
    }

    /// What is mounted is what was asked, and nothing that the image brings.
    fn mounts(&mut self, body: &Value, answer: &Value) {
        let asked = body["HostConfig"]["Mounts"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let Some(got) = answer["Mounts"].as_array() else {
            return self.must(false, "Mounts");
        };
        self.must(got.len() == asked.len(), "Mounts");
        for mount in got {
            let known = asked.iter().any(|asked| {
                let source = match asked["Type"].as_str() {
                    Some("volume") => mount["Name"] == asked["Source"] && mount["Driver"] == "local",
                    Some("bind") => mount["Source"] == asked["Source"],
                    Some("tmpfs") => true,
                    Some(_) | None => false,
                };
                source
                    && mount["Type"] == asked["Type"]
                    && mount["Destination"] == asked["Target"]
                    && mount["RW"].as_bool() == asked["ReadOnly"].as_bool().map(|read_only| !read_only)
            });
            self.must(known, "Mounts");
        }
        let image_volumes = answer["Config"]["Volumes"].as_object();
        let ours = image_volumes.is_none_or(|volumes| {
            let mounted = |path: &String| asked.iter().any(|mount| mount["Target"] == path.as_str());
            volumes.keys().all(mounted)
        });
        self.must(ours, "Config.Volumes");
    }

    fn networks(&mut self, body: &Value, answer: &Value) {
        let asked = body["NetworkingConfig"]["EndpointsConfig"].as_object();
        let got = answer["NetworkSettings"]["Networks"].as_object();
        let (Some(asked), Some(got)) = (asked, got) else {
            return self.must(false, "NetworkSettings.Networks");
        };
        self.must(asked.len() == got.len(), "NetworkSettings.Networks");
        for (endpoint, found) in asked.values().zip(got.values()) {
            let address = &endpoint["IPAMConfig"]["IPv4Address"];
            self.must(
                found["IPAMConfig"]["IPv4Address"] == *address,
                "NetworkSettings.Networks",
            );
        }
    }
}

/// Whether a variable that an image brings does nothing to what starts its program: the loader, the C library and Docker's own tools read
/// some.
fn is_harmless(entry: &Value) -> bool {
    entry.as_str().is_some_and(|text| {
        let reads = ["LD_", "GLIBC_", "DOCKER_"]
            .iter()
            .any(|prefix| text.starts_with(prefix));
        text.contains('=') && !reads && !text.contains(['\0', '\r', '\n'])
    })
}

/// Equal, or what Docker writes for the same: null for empty, and fields left out that it does not know yet.
fn same(asked: &Value, got: &Value) -> bool {
    match (asked, got) {
        (Value::Object(asked), Value::Object(got)) => {
            let ours = asked.iter().all(|(key, value)| match got.get(key) {
                Some(found) => same(value, found),
                None => is_empty(value) || NEWER.contains(&key.as_str()) || key == "ReadOnlyForceRecursive",
            });
            ours && got
                .iter()
                .all(|(key, value)| asked.contains_key(key) || is_empty(value))
        }
        (Value::Array(asked), Value::Array(got)) => {
            asked.len() == got.len() && asked.iter().zip(got).all(|(asked, got)| same(asked, got))
        }
        (asked, got) => asked == got || (is_empty(asked) && is_empty(got)),
    }
}

fn within(asked: &Value, got: &Value) -> bool {
    let (Some(asked), Some(got)) = (asked.as_object(), got.as_object()) else {
        return false;
    };
    asked.iter().all(|(key, value)| got.get(key) == Some(value))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.values().all(is_empty),
    }
}

fn has_all(got: &Value, wanted: &[&str]) -> bool {
    got.as_array()
        .is_some_and(|paths| wanted.iter().all(|path| paths.iter().any(|got| got == path)))
}
