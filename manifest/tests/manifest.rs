//! The whole manifest: what is right is read, and every fault is named by its rule.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use cell_manifest::{Manifest, Name, ReloadSignal, Rule, SecretName, SecretUse, from_vault};
use proptest::prelude::*;
use serde_json::{Value, json};

fn good() -> Value {
    json!({
        "schema_version": 3, "kind": "store", "id": "files", "name": "Files", "version": "1.2.0",
        "flags": {"has_subdomain": true, "has_admin_config": true, "has_storage": true, "has_accounts": true, "has_egress": true},
        "instanceable": true,
        "config_schema": {
            "quota": {"type": "integer", "label": "Quota", "min": 1, "max": 100, "default": 10},
            "greeting": {"type": "string", "pattern": "printable", "max_length": 40, "default": ""},
            "mode": {"type": "enum", "values": ["fast", "safe"], "default": "safe"},
            "domain": {"type": "string", "pattern": "hostname", "max_length": 100},
            "dns_token": {"type": "string", "pattern": "printable", "max_length": 200, "secret": true}
        },
        "containers": [{
            "name": "files", "image": format!("reg.example/store/files:1@sha256:{}", "0f".repeat(32)),
            "command": ["/bin/files", "--quota=${config.quota}", "--name=${instance}"],
            "environment": {"GREETING": "${config.greeting}", "DOMAIN": "${config.domain}"},
            "user": "1000:1000", "capabilities": ["NET_BIND_SERVICE"],
            "mounts": [
                {"type": "volume", "volume": "data", "target": "/data"},
                {"type": "bind", "root": "media", "path": "films", "target": "/media", "read_only": true},
                {"type": "tmpfs", "size_mib": 16, "mode": "1777", "target": "/tmp"}
            ],
            "secrets": [{"name": "dns_token", "optional": true}, {"name": "session_key", "generate": 32}],
            "limits": {"memory_mib": 64, "cpu_milli": 500, "pids": 64},
            "health": {"command": ["/bin/ok"], "interval_seconds": 10, "timeout_seconds": 5, "retries": 3},
            "restart": {"policy": "on-failure", "retries": 3},
            "ports": [{"port": 8080}, {"port": 8081, "protocol": "udp"}]
        }],
        "routing": {"subdomain": "files", "backend": "files:8080", "extra_subdomains": ["webdav"], "extra_backends": {"webdav": "files:8080"}},
        "accounts": {"backend": "files:8080", "path": "/accounts"},
        "backup": {"paths": [{"volume": "data"}]},
        "egress": {"allowed": ["tor", "wireguard_ext"], "default": "tor"},
        "requires": ["email"]
    })
}

fn parse(value: &Value) -> Result<Manifest, cell_manifest::Faults> {
    Manifest::parse(&serde_json::to_vec(value).unwrap())
}

fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn a_manifest_is_read_and_its_places_are_filled() {
    let manifest = parse(&good()).unwrap();
    let instance = manifest.service_name("home").unwrap();
    assert_eq!(instance.as_str(), "files-home");
    let set = manifest
        .values(&values(&[("domain", "a.example"), ("quota", "7")]))
        .unwrap();
    let container = &manifest.containers[0];
    let words: Vec<String> = container
        .command
        .iter()
        .map(|word| word.fill(&instance, &set))
        .collect();
    assert_eq!(words, ["/bin/files", "--quota=7", "--name=files-home"]);
    assert_eq!(container.environment["DOMAIN"].fill(&instance, &set), "a.example");
    assert_eq!(manifest.routing.as_ref().unwrap().extra.len(), 1);
    assert!(
        !parse(&json!({"a": 1}))
            .unwrap_err()
            .iter()
            .any(|fault| fault.description.is_empty())
    );
    assert!(manifest.service_name("").is_err() && manifest.service_name("A").is_err());
}

#[test]
fn values_of_no_field_of_another_kind_and_missing_ones_are_named_at_once() {
    let manifest = parse(&good()).unwrap();
    let bad = values(&[
        ("quota", "101"),
        ("mode", "slow"),
        ("evil\n", "x"),
        ("greeting", "a\nb"),
    ]);
    let faults = manifest.values(&bad).unwrap_err();
    assert_eq!(faults.iter().count(), 5, "{faults}");
    assert!(faults.iter().all(|fault| fault.rule == Rule::S3));
    assert!(!faults.to_string().contains("evil"));
}

/// Each change of the good manifest, by a JSON pointer, and the rule that it breaks.
#[allow(clippy::too_many_lines, reason = "a table")]
fn changes() -> Vec<(&'static str, Value, Rule)> {
    vec![
        ("/schema_version", json!(2), Rule::S4),
        ("/kind", json!("system"), Rule::S4),
        ("/id", json!("admin"), Rule::S2),
        ("/id", json!("cell"), Rule::S2),
        ("/id", json!("network"), Rule::S2),
        ("/id", json!("../files"), Rule::S2),
        ("/version", json!("1.x"), Rule::S4),
        ("/flags/has_api_hooks", json!(true), Rule::S4),
        ("/flags/has_storage", json!(false), Rule::S4),
        ("/privileged", json!(true), Rule::S1),
        ("/containers/0/privileged", json!(true), Rule::S1),
        ("/containers/0/HostConfig", json!({"Privileged": true}), Rule::S1),
        (
            "/containers/0/image",
            json!("reg.example/store/files:1"),
            Rule::I1,
        ),
        ("/containers/0/user", json!("0:0"), Rule::P7),
        ("/containers/0/user", json!("01000:1000"), Rule::P7),
        ("/containers/0/user", json!("root"), Rule::P7),
        ("/containers/0/user", json!("4294967295:1000"), Rule::P7),
        ("/containers/0/capabilities", json!(["ALL"]), Rule::P2),
        ("/containers/0/capabilities", json!(["cap_chown"]), Rule::P2),
        ("/containers/0/capabilities", json!(["CHOWN", "CHOWN"]), Rule::P2),
        ("/containers/0/capabilities", json!(["NET_ADMIN"]), Rule::P2),
        ("/containers/0/working_dir", json!("/proc/self/fd/8"), Rule::I3),
        ("/containers/0/environment/LD_PRELOAD", json!("/x.so"), Rule::I4),
        ("/containers/0/environment/lower", json!("x"), Rule::I4),
        ("/containers/0/environment/NL", json!("a\nb"), Rule::I4),
        ("/containers/0/command/1", json!("${config.greeting}"), Rule::I2),
        ("/containers/0/command/1", json!("${config.absent}"), Rule::S3),
        ("/containers/0/command/1", json!("${HOME}"), Rule::I2),
        ("/containers/0/command/1", json!("${config.quota"), Rule::I2),
        ("/containers/0/mounts/0/target", json!("/media/deeper"), Rule::M6),
        (
            "/containers/0/mounts/0/target",
            json!("/dev/shm/../../etc"),
            Rule::M6,
        ),
        ("/containers/0/mounts/0/type", json!("cluster"), Rule::M5),
        ("/containers/0/mounts/0/driver", json!("x"), Rule::S1),
        ("/containers/0/mounts/0/root", json!("media"), Rule::M2),
        ("/containers/0/mounts/1/path", json!("../etc"), Rule::M1),
        ("/containers/0/mounts/1/root", json!("/"), Rule::M1),
        ("/containers/0/mounts/2/mode", json!("4777"), Rule::M2),
        ("/containers/0/mounts/2/size_mib", json!(999_999), Rule::M2),
        ("/containers/0/limits/memory_mib", json!(0), Rule::R1),
        ("/containers/0/limits/pids", json!(-1), Rule::S1),
        ("/containers/0/limits/pids", json!(0), Rule::R1),
        ("/containers/0/limits/shm_mib", json!(1_048_576), Rule::R1),
        ("/containers/0/health/interval_seconds", json!(0), Rule::I2),
        ("/containers/0/restart/policy", json!("always"), Rule::R3),
        ("/containers/0/stop_signal", json!("SIGKILL"), Rule::R3),
        ("/containers/0/stop_timeout_seconds", json!(999_999), Rule::R3),
        (
            "/containers/0/ports/0/publish",
            json!({"address": "0.0.0.0", "port": 8080}),
            Rule::N6,
        ),
        (
            "/containers/0/ports/0/publish",
            json!({"address": "127.0.0.1", "port": 22}),
            Rule::N6,
        ),
        ("/containers/0/ports/1", json!({"port": 8080}), Rule::N6),
        ("/containers/0/secrets/0/name", json!("dns-token"), Rule::S2),
        ("/containers/0/secrets/1/name", json!("../key"), Rule::S2),
        ("/containers/0/secrets/1/name", json!("dns_token"), Rule::S2),
        ("/containers/0/secrets/1/generate", json!(15), Rule::S4),
        ("/containers/0/secrets/1/generate", json!(65), Rule::S4),
        ("/containers/0/secrets/1/value", json!("x"), Rule::S1),
        ("/containers/0/secrets/0/name", json!("other"), Rule::S4),
        ("/containers/0/secrets/0/generate", json!(32), Rule::S4),
        ("/containers/0/mounts/0/target", json!("/run/secrets"), Rule::M6),
        (
            "/containers/0/mounts/0/target",
            json!("/run/secrets/data"),
            Rule::M6,
        ),
        ("/containers/0/mounts/0/target", json!("/run"), Rule::M6),
        (
            "/containers/0/environment/TOKEN",
            json!("${config.dns_token}"),
            Rule::S3,
        ),
        ("/config_schema/dns_token/default", json!("x"), Rule::S3),
        ("/config_schema/quota/secret", json!(true), Rule::S3),
        ("/config_schema/quota/max", json!(null), Rule::S3),
        ("/config_schema/quota/pattern", json!("label"), Rule::S3),
        ("/config_schema/quota/default", json!(1000), Rule::S3),
        ("/config_schema/domain/pattern", json!(".*"), Rule::S3),
        ("/routing/subdomain", json!("api"), Rule::S2),
        ("/routing/subdomain", json!("a.b"), Rule::S2),
        ("/routing/subdomain", json!("a\n}"), Rule::S2),
        ("/routing/backend", json!("other:8080"), Rule::S4),
        ("/routing/backend", json!("files:8081"), Rule::S4),
        ("/routing/backend", json!("169.254.169.254:80"), Rule::S2),
        ("/routing/extra_subdomains", json!(["webdav", "admin"]), Rule::S2),
        ("/routing/subdomain", json!("cell"), Rule::S2),
        ("/routing/extra_backends/other", json!("files:8080"), Rule::S4),
        ("/accounts/path", json!("/a/../b"), Rule::S2),
        ("/accounts/certificate", json!("yes"), Rule::S1),
        ("/backup/paths/0/volume", json!("other"), Rule::S4),
        ("/egress/allowed", json!(["direct"]), Rule::S4),
        ("/egress/default", json!("proxy"), Rule::S4),
        ("/requires", json!(["files"]), Rule::S4),
    ]
}

#[test]
fn each_fault_is_named_by_its_rule_and_nothing_else_is() {
    for (pointer, value, rule) in changes() {
        let mut manifest = good();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match manifest.pointer_mut(parent).unwrap() {
            Value::Object(map) => {
                map.insert(key.to_owned(), value.clone());
            }
            Value::Array(items) => items[key.parse::<usize>().unwrap()] = value.clone(),
            other => panic!("{pointer}: {other}"),
        }
        let faults = parse(&manifest).expect_err(pointer);
        assert!(faults.against(rule), "{pointer} = {value}: {faults}");
        assert!(
            faults
                .iter()
                .all(|fault| fault.rule == rule || fault.rule == Rule::S4),
            "{pointer} = {value}: {faults}"
        );
    }
}

#[test]
fn all_faults_are_named_at_once() {
    let mut manifest = good();
    manifest["id"] = json!("API");
    manifest["containers"][0]["user"] = json!("0:0");
    manifest["containers"][0]["limits"]["pids"] = json!(0);
    let faults = parse(&manifest).unwrap_err();
    for rule in [Rule::S2, Rule::P7, Rule::R1] {
        assert!(faults.against(rule), "{rule} in {faults}");
    }
}

#[test]
fn a_manifest_is_bounded_and_each_key_stands_once() {
    let text = serde_json::to_string(&good()).unwrap();
    let twice = text.replacen("\"kind\":", "\"kind\":\"store\",\"kind\":", 1);
    assert!(Manifest::parse(twice.as_bytes()).unwrap_err().against(Rule::J1));
    assert!(
        Manifest::parse(format!("{text}{{}}").as_bytes())
            .unwrap_err()
            .against(Rule::J1)
    );
    let long = format!("{text}{}", " ".repeat(70_000));
    assert!(Manifest::parse(long.as_bytes()).unwrap_err().against(Rule::J2));
    assert!(Manifest::parse(text.as_bytes()).is_ok(), "control");
}

#[test]
fn a_container_is_reloaded_by_one_of_two_signals_and_made_of_an_image_of_one_of_two_kinds() {
    let with = |key: &str, value: Value| {
        let mut manifest = good();
        manifest["containers"][0][key] = value;
        parse(&manifest)
    };
    for (word, signal) in [("SIGHUP", ReloadSignal::Hup), ("SIGUSR1", ReloadSignal::Usr1)] {
        let manifest = with("reload_signal", json!(word)).unwrap();
        assert_eq!(manifest.containers[0].reload_signal, Some(signal));
    }
    assert_eq!(parse(&good()).unwrap().containers[0].reload_signal, None);
    for bad in ["SIGKILL", "SIGTERM", "HUP", "1", ""] {
        let faults = with("reload_signal", json!(bad)).unwrap_err();
        assert!(
            faults
                .iter()
                .any(|fault| fault.rule == Rule::R3 && fault.path.ends_with("reload_signal")),
            "{bad}"
        );
    }
    let local = with("image", json!("local:caddy")).unwrap();
    assert!(local.containers[0].image.local().is_some());
    let faults = with("image", json!("local:../x")).unwrap_err();
    assert!(faults.iter().any(|fault| fault.rule == Rule::I1));
}

#[test]
fn ports_are_direct_unless_the_cell_alone_asks_them() {
    let direct = |ports: Value, routed: bool| -> Vec<String> {
        let mut changed = good();
        changed["containers"][0]["ports"] = ports;
        if !routed {
            changed.as_object_mut().unwrap().remove("routing");
            changed["flags"]["has_subdomain"] = json!(false);
        }
        let manifest = parse(&changed).unwrap();
        let ports = manifest.direct_ports().into_iter();
        ports
            .map(|((protocol, port), container)| format!("{container} {}/{port}", protocol.word()))
            .collect()
    };
    let all = json!([
        {"port": 8080}, {"port": 8080, "protocol": "udp"}, {"port": 443}, {"port": 80},
        {"port": 443, "protocol": "udp"}, {"port": 993}
    ]);
    assert_eq!(
        direct(all.clone(), true),
        ["files tcp/993", "files udp/443", "files udp/8080"]
    );
    // Without a name the proxy answers nothing of it; 8080 is that for accounts still.
    assert_eq!(
        direct(all, false),
        [
            "files tcp/80",
            "files tcp/443",
            "files tcp/993",
            "files udp/443",
            "files udp/8080"
        ]
    );
}

#[test]
fn a_secret_is_no_value_and_is_optional_where_all_say_so() {
    let manifest = parse(&good()).unwrap();
    let name = |text: &str| SecretName::try_from(text).unwrap();
    let used = |is_optional, generate| SecretUse {
        is_optional,
        generate,
    };
    let expected = BTreeMap::from([
        (name("dns_token"), used(true, None)),
        (name("session_key"), used(false, Some(32))),
    ]);
    assert_eq!(manifest.secrets(), expected);
    assert!(manifest.config_schema["dns_token"].is_secret);
    let set = manifest.values(&values(&[("domain", "a.example")])).unwrap();
    assert_eq!(set.get("dns_token"), None, "nobody has to set it here");
    let told = values(&[("domain", "a.example"), ("dns_token", "xyzzy")]);
    let faults = manifest.values(&told).unwrap_err();
    assert!(faults.iter().any(|fault| fault.path == "parameters.dns_token"));
    assert!(!faults.to_string().contains("xyzzy"));

    // A second container that needs it: the service does.
    let mut two = good();
    let mut second = two["containers"][0].clone();
    second["name"] = json!("worker");
    second["ports"] = json!([]);
    second["secrets"] = json!([{"name": "dns_token"}]);
    two["containers"].as_array_mut().unwrap().push(second);
    assert_eq!(
        parse(&two).unwrap().secrets()[&name("dns_token")],
        used(false, None)
    );
    two["containers"][1]["secrets"] = json!([{"name": "session_key", "generate": 16}]);
    assert!(parse(&two).unwrap_err().against(Rule::S4), "made of two lengths");
    let many: Vec<_> = (0..17).map(|n| json!({"name": format!("s{n}")})).collect();
    two["containers"][1]["secrets"] = json!(many);
    assert!(parse(&two).unwrap_err().against(Rule::J2));
}

proptest! {
    /// Whatever is written as a name: it is one path segment and a part of a name in the vault, or refused; and what the vault
    /// calls it belongs to its own service alone.
    #[test]
    fn names_of_secrets_stay_in_their_place(text in "\\PC{0,40}", one in "[a-z][a-z0-9-]{0,8}", other in "[a-z][a-z0-9-]{0,8}", good in "[a-z][a-z0-9_]{0,31}") {
        let manifest = good_with(&text);
        let accepted = parse(&manifest).is_ok();
        prop_assert_eq!(accepted, SecretName::try_from(text.as_str()).is_ok() && text != "session_key");
        if accepted {
            prop_assert!(!text.contains(['/', '.', '\0', '\n']) && !text.is_empty() && text.len() <= 32);
        }
        if let (Ok(one), Ok(other)) = (Name::try_from(one.as_str()), Name::try_from(other.as_str())) {
            let name = SecretName::try_from(good.as_str()).unwrap();
            let stored = name.in_vault(&one);
            prop_assert!(stored.len() <= 128 && stored.starts_with("svc_"));
            prop_assert!(stored.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            prop_assert_eq!(from_vault(&one, &stored), Some(name));
            prop_assert_eq!(from_vault(&other, &stored).is_some(), one == other);
        }
    }
}

fn good_with(name: &str) -> Value {
    let mut manifest = good();
    manifest["containers"][0]["secrets"][0]["name"] = json!(name);
    manifest["config_schema"]
        .as_object_mut()
        .unwrap()
        .remove("dns_token");
    manifest
}
