//! What people read of a service: a project of Docker Compose that Debian's docker-compose takes as it is, whatever was set.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests: a case is one story")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use cell_api_core::service_network::Place;
use cell_api_core::services::compose;
use cell_api_core::services::core_network::CoreNetwork;
use cell_manifest::Manifest;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

fn whole() -> Manifest {
    let limits = json!({"memory_mib": 64, "cpu_milli": 500, "pids": 64, "shm_mib": 8, "files": 256});
    let image = |name: &str| format!("reg.example/store/{name}@sha256:{}", "0f".repeat(32));
    let manifest = json!({
        "schema_version": 3, "kind": "store", "id": "notes", "name": "Notes", "version": "1",
        "flags": {"has_subdomain": true, "has_admin_config": true, "has_storage": true},
        "instanceable": true,
        "config_schema": {
            "greeting": {"type": "string", "pattern": "printable", "max_length": 200, "default": ""},
            "size": {"type": "integer", "min": 1, "max": 9, "default": 3}
        },
        "containers": [
            {"name": "main", "image": image("main"), "user": "1000:1000", "limits": limits,
                "entrypoint": ["/bin/notes"], "command": ["--size=${config.size}", "yes", "0x1", "~"],
                "environment": {"GREETING": "${config.greeting}", "NAME": "${instance}"},
                "working_dir": "/srv", "capabilities": ["NET_BIND_SERVICE"],
                "mounts": [{"type": "volume", "volume": "data", "target": "/data"},
                    {"type": "bind", "root": "media", "path": "films", "target": "/media", "read_only": true},
                    {"type": "tmpfs", "size_mib": 16, "mode": "1777", "target": "/tmp"}],
                "health": {"command": ["/bin/ok"], "interval_seconds": 10, "timeout_seconds": 5, "retries": 3},
                "restart": {"policy": "unless-stopped"}, "ports": [{"port": 8080}, {"port": 53, "protocol": "udp",
                    "publish": {"address": "192.0.2.1", "port": 5353}}]},
            {"name": "db", "image": image("db"), "user": "1001:1001", "limits": limits, "gateway": true,
                "capabilities": ["NET_ADMIN"], "secrets": [{"name": "token"}]}
        ],
        "routing": {"subdomain": "notes", "backend": "main:8080"}
    });
    Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap()
}

fn rendered(manifest: &Manifest, greeting: &str) -> String {
    let place = Place {
        number: 7,
        subnet: "172.21.0.96/28".parse().unwrap(),
    };
    let parameters = BTreeMap::from([("greeting".to_owned(), greeting.to_owned())]);
    compose::render(manifest, "home", &parameters, CoreNetwork::SHIPPED, Some(&place)).unwrap()
}

fn install(program: &str, package: &str) {
    let found = Command::new("which").arg(program).stdout(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return;
    }
    let installed = Command::new("apt-get")
        .args([
            "-o",
            "DPkg::Lock::Timeout=300",
            "install",
            "-y",
            "--no-install-recommends",
            package,
        ])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .unwrap();
    assert!(
        installed.status.success(),
        "{}",
        String::from_utf8_lossy(&installed.stderr)
    );
}

/// YAML by another reader than whoever wrote it: that of docker-compose.
fn read(yaml: &str) -> Value {
    let script = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)";
    let mut child = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(yaml.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "no YAML: {yaml}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What docker-compose makes of a project.
fn taken(folder: &Path, text: &str) -> Value {
    std::fs::write(folder.join("docker-compose.yml"), text).unwrap();
    let output = Command::new("docker-compose")
        .arg("config")
        .current_dir(folder)
        .env("HOME", "/elsewhere")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{text}");
    assert!(!said.contains("not set"), "a value was taken for a place: {said}");
    read(&String::from_utf8(output.stdout).unwrap())[0].take()
}

/// Every service that is shipped, with images by the names that `compose/images/build.sh` gives them.
#[test]
fn docker_compose_takes_what_is_shipped() {
    install("docker-compose", "docker-compose");
    let shipped = Path::new("../compose");
    let place = Place {
        number: 7,
        subnet: "172.21.0.96/28".parse().unwrap(),
    };
    let mut images = 0;
    for entry in std::fs::read_dir(shipped.join("catalog")).unwrap() {
        let Ok(bytes) = std::fs::read(entry.unwrap().path().join("manifest.json")) else {
            continue;
        };
        let manifest = Manifest::parse(&bytes).unwrap();
        let domain = BTreeMap::from([("domain".to_owned(), "home.cell".to_owned())]);
        let parameters = match manifest.values(&domain) {
            Ok(_) => domain,
            Err(_) => BTreeMap::new(),
        };
        let core = CoreNetwork::SHIPPED;
        let text = compose::render(&manifest, "", &parameters, core, Some(&place)).unwrap();
        let project = taken(tempfile::tempdir().unwrap().path(), &text);
        for service in project["services"].as_object().unwrap().values() {
            let image = service["image"].as_str().unwrap();
            let name = image
                .strip_prefix("cell/")
                .and_then(|rest| rest.strip_suffix(":local"));
            assert!(shipped.join("images").join(name.unwrap()).is_dir(), "{image}");
            images += 1;
        }
    }
    assert!(images > 6, "{images}");
}

#[test]
fn docker_compose_takes_it_as_it_is() {
    install("docker-compose", "docker-compose");
    let folder = tempfile::tempdir().unwrap();
    let hostile = "$HOME ${PATH} $$ \"': #{}[]&*!|>%@` - a: b\u{2028}é";
    let text = rendered(&whole(), hostile);
    let project = taken(folder.path(), &text);
    let main = &project["services"]["main"];
    // docker-compose writes a dollar as it has to be read again.
    assert_eq!(main["environment"]["GREETING"], json!(hostile.replace('$', "$$")));
    assert_eq!(main["environment"]["NAME"], "notes-home");
    assert_eq!(main["command"], json!(["--size=3", "yes", "0x1", "~"]));
    for (field, value) in [
        ("restart", json!("no")),
        ("read_only", json!(true)),
        ("cap_drop", json!(["ALL"])),
        ("cap_add", json!(["NET_BIND_SERVICE"])),
        ("security_opt", json!(["no-new-privileges:true"])),
        ("user", json!("1000:1000")),
        ("stop_signal", json!("SIGTERM")),
    ] {
        assert_eq!(main[field], value, "{field}");
    }
    assert_eq!(main["ports"], json!(["192.0.2.1:5353:53/udp"]));
    assert!(main["devices"].is_null() && main["sysctls"].is_null() && main["secrets"].is_null());
    let db = &project["services"]["db"];
    assert!(db["ports"].is_null(), "nothing of it is published");
    assert_eq!(db["devices"], json!(["/dev/net/tun:/dev/net/tun:rw"]));
    assert_eq!(db["sysctls"]["net.ipv4.conf.all.src_valid_mark"], "1");
    assert_eq!(db["secrets"], json!([{"source": "db-token", "target": "token"}]));
    let network = &project["networks"]["own"];
    // Somebody beyond it is answered: its published port.
    assert_ne!(network["internal"], json!(true));
    assert_eq!(
        network["driver_opts"]["com.docker.network.bridge.enable_ip_masquerade"],
        "false"
    );
    assert_eq!(
        network["driver_opts"]["com.docker.network.bridge.name"],
        "cellsvc7"
    );
    assert_eq!(network["ipam"]["config"][0]["subnet"], "172.21.0.96/28");
    assert_eq!(project["volumes"]["data"]["name"], "cell-notes-home.data");
    assert_eq!(project["services"].as_object().unwrap().len(), 2);
}

/// Whatever is set stays one text: it makes no key, no other document and no place.
#[test]
fn no_value_becomes_anything_else() {
    let manifest = whole();
    let before = read(&rendered(&manifest, "x"));
    let mut texts = Vec::new();
    let mut runner = TestRunner::new(Config {
        cases: 400,
        ..Config::default()
    });
    let take = |text: String| {
        if manifest
            .values(&BTreeMap::from([("greeting".to_owned(), text.clone())]))
            .is_ok()
        {
            texts.push(text);
        }
    };
    let take = std::cell::RefCell::new(take);
    let text =
        proptest::string::string_regex("[ -~\\u{80}-\\u{ff}\\u{2028}\\u{feff}\\u{1f600}]{0,40}").unwrap();
    runner
        .run(&text, |text| {
            (take.borrow_mut())(text);
            Ok(())
        })
        .unwrap();
    assert!(texts.len() > 100, "{}", texts.len());
    // All in one run of the reader, which takes longer to start than to read.
    let separator = "---\n";
    let all: String = texts
        .iter()
        .map(|text| rendered(&manifest, text) + separator)
        .collect();
    let documents = read(&all);
    let documents = documents.as_array().unwrap();
    for (text, document) in texts.iter().zip(documents) {
        let mut expected = before[0].clone();
        expected["services"]["main"]["environment"]["GREETING"] = json!(text.replace('$', "$$"));
        assert_eq!(*document, expected, "{text:?}");
    }
}
