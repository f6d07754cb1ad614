//! Lines for `target/reports/brokertest.json`, written where `make brokertest` asks for them.

use std::io::Write;

use serde_json::json;

/// A fact that was asserted just before: whoever calls this has seen it hold.
pub fn holds(name: &str, value: impl ToString, unit: &str, goal: &str) {
    let value = value.to_string();
    println!("{name}: {value} {unit}");
    let Some(path) = std::env::var_os("CELL_BROKER_ROWS") else {
        return;
    };
    let line = json!({"name": name, "value": value, "unit": unit, "goal": goal, "ok": true});
    let mut file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}
