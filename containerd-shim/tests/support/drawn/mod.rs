//! Random manifests of every part that there is, and values for their fields: right so far; [`spoiled`] changes that.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod container;
mod spoiled;
mod values;

use serde_json::{Map, Value, json};

use crate::random::Random;
use container::container;
use values::{name, text, value};

pub use spoiled::{Places, spoil};
pub use values::parameters;

/// Which of the three kinds that a ceiling tells apart: by their ids it gives more to two of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Store,
    Gateway,
    Core,
}

/// A manifest that is read, and that the ceiling of the tests lets be.
pub fn manifest(random: &mut Random) -> Value {
    let kind = match random.below(8) {
        0 => Kind::Core,
        1 | 2 => Kind::Gateway,
        _ => Kind::Store,
    };
    let id = match kind {
        Kind::Core => "caddy".to_owned(),
        Kind::Gateway => "gateway".to_owned(),
        Kind::Store => name(random, 12),
    };
    let schema = schema(random);
    let count = if kind == Kind::Core {
        1
    } else {
        1 + random.below(3)
    };
    let containers: Vec<Value> = (0..count).map(|n| container(random, kind, n, &schema)).collect();
    let title = text(random, "printable");
    let version = format!("{}.{}", random.below(1000), random.below(1000));
    let mut manifest = json!({
        "schema_version": 3, "kind": if kind == Kind::Core { "core" } else { "store" }, "id": id, "name": title,
        "version": version, "config_schema": schema, "containers": containers,
        "instanceable": kind == Kind::Store && random.chance(30),
    });
    if random.chance(20) {
        with_secret_field(random, &mut manifest);
    }
    parts(random, kind, &mut manifest);
    flags(&mut manifest);
    manifest
}

/// Fields of all kinds.
fn schema(random: &mut Random) -> Map<String, Value> {
    let mut fields = Map::new();
    // Without a field, a manifest has one set of values.
    for n in 0..=random.below(5) {
        let mut field = match random.below(8) {
            0 => json!({"type": "boolean"}),
            1 | 2 => {
                let (min, span) = (random.within(-1_000_000, 1_000_000), random.within(0, 1_000_000));
                json!({"type": "integer", "min": min, "max": min + span})
            }
            3 => {
                let values: Vec<String> = (0..2 + random.below(20)).map(|_| name(random, 12)).collect();
                json!({"type": "enum", "values": values})
            }
            _ => {
                let pattern = random.pick(&["label", "hostname", "word", "email", "printable", "printable"]);
                json!({"type": "string", "pattern": pattern, "max_length": random.within(60, 4096)})
            }
        };
        if random.chance(80) {
            let text = value(random, &field);
            field["default"] = match field["type"].as_str() {
                Some("integer") => json!(text.parse::<i64>().unwrap()),
                Some("boolean") => json!(text == "true"),
                _ => json!(text),
            };
        }
        let letters = random.below(8);
        fields.insert(format!("{}_{n}", values::letters(random, letters)), field);
    }
    fields
}

/// A field that is a secret: of the first container, and never among values.
fn with_secret_field(random: &mut Random, manifest: &mut Value) {
    let optional = random.chance(50);
    manifest["containers"][0]["secrets"] = json!([{"name": "token", "optional": optional}]);
    manifest["config_schema"]["token"] =
        json!({"type": "string", "pattern": "printable", "max_length": 100, "secret": true});
}

/// What a manifest says beside its containers.
fn parts(random: &mut Random, kind: Kind, manifest: &mut Value) {
    let containers = manifest["containers"].as_array().unwrap().clone();
    let of = |key: &'static str| {
        let each = move |container: &Value| container[key].as_array().cloned().unwrap_or_default();
        containers.iter().flat_map(move |container| {
            each(container)
                .into_iter()
                .map(|one| (container["name"].clone(), one))
        })
    };
    let tcp = of("ports").find(|(_, port)| port["protocol"].is_null());
    if let Some((container, port)) = tcp.filter(|_| random.chance(50)) {
        let backend = format!("{}:{}", container.as_str().unwrap(), port["port"]);
        manifest["routing"] = json!({"subdomain": name(random, 10), "backend": backend});
        if random.chance(50) {
            manifest["accounts"] =
                json!({"backend": backend, "path": "/accounts", "certificate": random.chance(50)});
        }
    }
    if kind != Kind::Core && random.chance(25) {
        let exit = random.pick(&["wireguard_ext", "openvpn", "tor", "proxy"]);
        manifest["egress"] = json!({"allowed": [exit], "default": exit});
    }
    let volume = of("mounts").find(|(_, mount)| mount["type"] == "volume");
    if let Some((_, mount)) = volume.filter(|_| random.chance(30)) {
        manifest["backup"] = json!({"paths": [{"volume": mount["volume"], "path": ""}]});
    }
}

/// The flags say what is there.
fn flags(manifest: &mut Value) {
    let mounts = manifest["containers"].as_array().unwrap().iter();
    let mut mounts = mounts.flat_map(|container| container["mounts"].as_array().unwrap());
    let has_storage = mounts.any(|mount| mount["type"] != "tmpfs");
    let there = |key: &str| !manifest[key].is_null();
    let flags = json!({
        "has_subdomain": there("routing"), "has_accounts": there("accounts"), "has_egress": there("egress"),
        "has_admin_config": !manifest["config_schema"].as_object().unwrap().is_empty(), "has_storage": has_storage,
    });
    manifest["flags"] = flags;
}
