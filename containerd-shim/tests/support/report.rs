//! Lines for `target/reports/brokertest.json`, written where `make brokertest` asks for them.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

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

/// One line of a report that is written whole.
pub fn row(name: &str, value: &str, unit: &str, goal: &str, ok: bool) -> Value {
    json!({"name": name, "value": value, "unit": unit, "goal": goal, "ok": ok})
}

/// Writes `target/reports/NAME.json`, as the reports of the lab are.
pub fn write(name: &str, rows: &[Value]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/reports");
    std::fs::create_dir_all(&folder).unwrap();
    let text = serde_json::to_vec_pretty(rows).unwrap();
    std::fs::write(folder.join(format!("{name}.json")), text).unwrap();
}
