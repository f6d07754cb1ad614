//! A catalog of two small services and one of the cell's own.

use std::path::Path;

use cell_api_core::services::catalog::digest_of;
use serde_json::{Value, json};

pub fn container(name: &str, ports: &Value) -> Value {
    json!({"name": name, "image": format!("reg.example/store/{name}@sha256:{}", "0f".repeat(32)),
        "user": "1000:1000", "limits": {"memory_mib": 32, "cpu_milli": 100, "pids": 16}, "ports": ports})
}

/// `notes`: a web page and a port of its own, with something to set.
pub fn notes(version: &str) -> Value {
    let mut main = container("notes", &json!([{"port": 8080}, {"port": 993}]));
    main["command"] = json!(["/bin/notes", "--size=${config.size}"]);
    main["environment"] = json!({"GREETING": "${config.greeting}"});
    main["mounts"] = json!([{"type": "volume", "volume": "data", "target": "/data"},
        {"type": "tmpfs", "size_mib": 4, "mode": "1777", "target": "/tmp"}]);
    json!({"schema_version": 3, "kind": "store", "id": "notes", "name": "Notes", "version": version,
        "flags": {"has_subdomain": true, "has_admin_config": true, "has_storage": true},
        "config_schema": {
            "size": {"type": "integer", "label": "Size", "min": 1, "max": 9, "default": 3},
            "greeting": {"type": "string", "pattern": "printable", "max_length": 40, "default": "$HOME ${X}"}
        },
        "containers": [main],
        "routing": {"subdomain": "notes", "backend": "notes:8080"}})
}

/// `notes` with a check of its container's.
pub fn checked(mut notes: Value) -> Value {
    notes["containers"][0]["health"] =
        json!({"command": ["/bin/check"], "interval_seconds": 5, "timeout_seconds": 1, "retries": 1});
    notes
}

/// `board`: needs `notes`, and can be there several times.
pub fn board() -> Value {
    json!({"schema_version": 3, "kind": "store", "id": "board", "name": "Board", "version": "1.0.0",
        "instanceable": true, "requires": ["notes"],
        "containers": [container("web", &json!([{"port": 7000}])), container("db", &json!([]))]})
}

pub fn caddy() -> Value {
    core("caddy")
}

/// One of the cell's own.
pub fn core(id: &str) -> Value {
    json!({"schema_version": 3, "kind": "core", "id": id, "name": id, "version": "1.0.0",
        "containers": [container(id, &json!([]))]})
}

/// One of the cell's own, of an image that root builds on the machine.
pub fn built(id: &str) -> Value {
    let mut manifest = core(id);
    manifest["containers"][0]["image"] = json!(format!("local:{id}"));
    manifest
}

/// The digest of a manifest as [`write`] writes it.
pub fn digest(manifest: &Value) -> String {
    digest_of(&serde_json::to_vec(manifest).unwrap()).to_string()
}

/// Writes a catalog of these; the digests, in their order.
pub fn write(folder: &Path, manifests: &[Value]) -> Vec<String> {
    std::fs::create_dir_all(folder).unwrap();
    let (mut lines, mut digests) = (Vec::new(), Vec::new());
    for manifest in manifests {
        let id = manifest["id"].as_str().unwrap();
        let bytes = serde_json::to_vec(manifest).unwrap();
        let digest = digest_of(&bytes).to_string();
        std::fs::create_dir_all(folder.join(id)).unwrap();
        std::fs::write(folder.join(id).join("manifest.json"), bytes).unwrap();
        lines.push(
            json!({"id": id, "title": manifest["name"], "description": "", "version": manifest["version"],
            "manifest": format!("{id}/manifest.json"), "digest": digest}),
        );
        digests.push(digest);
    }
    let index = json!({"schema_version": 1, "services": lines});
    std::fs::write(folder.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    digests
}
