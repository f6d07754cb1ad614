//! One container: its image, its process, what it is given and what it may use.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Kind;
use super::values::{letters, name, template};
use crate::random::Random;
use crate::support::signed::REGISTRY;

fn image(random: &mut Random) -> String {
    if random.chance(5) {
        return "local:caddy".to_owned();
    }
    let tag = if random.chance(30) { ":1.2" } else { "" };
    let digest = random.text("0123456789abcdef", 64);
    format!(
        "{REGISTRY}/{}/{}{tag}@sha256:{digest}",
        name(random, 8),
        name(random, 8)
    )
}

pub fn container(random: &mut Random, kind: Kind, n: usize, schema: &Map<String, Value>) -> Value {
    let mut capabilities: Vec<&str> = vec!["CHOWN", "NET_BIND_SERVICE"];
    let is_gateway = kind == Kind::Gateway && random.chance(70);
    if is_gateway {
        capabilities.push("NET_ADMIN");
    }
    capabilities.retain(|_| random.chance(50));
    let user = [0, 0].map(|_| random.within(1000, i64::from(u32::MAX) - 1));
    let mut made = json!({
        "name": format!("{}{n}", name(random, 10)), "image": image(random), "user": format!("{}:{}", user[0], user[1]),
        "limits": limits(random), "gateway": is_gateway, "capabilities": capabilities,
        "mounts": mounts(random, kind), "ports": ports(random),
    });
    let words = |random: &mut Random| -> Vec<String> {
        let count = 1 + random.below(3);
        (0..count).map(|_| template(random, schema, true)).collect()
    };
    let environment = |random: &mut Random| -> BTreeMap<String, String> {
        let key = |random: &mut Random| format!("{}_{}", random.text("ABCXYZ_", 1), random.text("AB_09", 6));
        let count = random.below(5);
        (0..count)
            .map(|_| (key(random), template(random, schema, false)))
            .collect()
    };
    let mut may = |percent: usize, key: &str, value: &dyn Fn(&mut Random) -> Value| {
        if random.chance(percent) {
            made[key] = value(random);
        }
    };
    may(40, "entrypoint", &|random| json!(words(random)));
    may(80, "command", &|random| json!(words(random)));
    may(70, "environment", &|random| json!(environment(random)));
    may(40, "working_dir", &|random| {
        json!(format!("/{}/{}", name(random, 9), name(random, 9)))
    });
    may(30, "read_only_root", &|random| json!(random.chance(50)));
    may(
        25,
        "secrets",
        &|random| json!([{"name": format!("s_{}", letters(random, 5)), "optional": random.chance(50)}]),
    );
    may(40, "health", &|random| {
        json!({
            "command": words(random), "interval_seconds": random.within(5, 3600), "timeout_seconds": random.within(1, 60),
            "retries": random.within(1, 10), "start_period_seconds": random.within(0, 600)
        })
    });
    may(50, "restart", &|random| {
        let retries = random.within(1, 10);
        random.pick(&[
            json!({"policy": "no"}),
            json!({"policy": "unless-stopped"}),
            json!({"policy": "on-failure", "retries": retries}),
        ])
    });
    may(30, "stop_signal", &|random| {
        json!(random.pick(&["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1"]))
    });
    may(30, "stop_timeout_seconds", &|random| json!(random.within(0, 60)));
    made
}

fn limits(random: &mut Random) -> Value {
    let mut limits = json!({
        "memory_mib": random.within(6, 512), "cpu_milli": random.within(10, 1000), "pids": random.within(1, 256),
    });
    if random.chance(40) {
        limits["shm_mib"] = json!(random.within(1, 64));
    }
    if random.chance(40) {
        limits["files"] = json!(random.within(64, 65_536));
    }
    limits
}

fn mounts(random: &mut Random, kind: Kind) -> Vec<Value> {
    let count = random.below(6);
    let mount = |n: usize| {
        let folder = random.pick(&["", "/srv", "/var/lib", "/etc", "/run/app"]);
        // No two begin alike.
        let target = format!("{folder}/m{n}{}", name(random, 8));
        let roots = if kind == Kind::Core { 3 } else { 2 };
        let mut mount = match random.below(3) {
            0 => json!({"type": "volume", "volume": name(random, 10), "read_only": random.chance(30)}),
            1 => {
                let root = ["inbox", "media", "dns"][random.below(roots)];
                let read_only = root != "inbox" || random.chance(50);
                json!({"type": "bind", "root": root, "read_only": read_only})
            }
            _ => json!({"type": "tmpfs", "size_mib": random.within(1, 256), "read_only": random.chance(10)}),
        };
        if mount["type"] == "bind" && random.chance(60) {
            mount["path"] = json!(format!("{}/{}", name(random, 6), name(random, 6)));
        }
        if mount["type"] == "tmpfs" && random.chance(60) {
            mount["mode"] = json!(format!("{:o}", random.within(1, 0o1777)));
        }
        mount["target"] = json!(target);
        mount
    };
    (0..count).map(mount).collect()
}

fn ports(random: &mut Random) -> Vec<Value> {
    let numbers: BTreeSet<i64> = (0..random.below(4)).map(|_| random.within(1, 65_535)).collect();
    let port = |port: i64| {
        let mut port = json!({"port": port});
        if random.chance(20) {
            port["protocol"] = json!("udp");
        }
        if random.chance(40) {
            port["publish"] = json!({"address": "127.0.0.1", "port": random.within(20_000, 20_099)});
        }
        port
    };
    numbers.into_iter().map(port).collect()
}
