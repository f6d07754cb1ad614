//! Networks of services by the command line: what their containers may reach besides.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use cell_proto::api::v1::ServiceNetwork;
use serde_json::{Value, json};
use support::FakeCell;

const DISK: &str = "tcp://192.168.1.20:445";
const DNS: &str = "udp://10.0.5.7:53";

fn cell() -> FakeCell {
    let cell = FakeCell::start();
    let network = ServiceNetwork {
        service: "files".to_owned(),
        has_way_out: true,
        ..ServiceNetwork::default()
    };
    cell.state.lock().unwrap().networks.push(network);
    cell
}

#[test]
fn places_are_added_and_removed_and_the_others_stay() {
    let cell = cell();
    let shown = cell.say(&["service", "reach", "files"]);
    assert_eq!(shown, "Containers of files may reach nothing besides.\n");
    let planned = cell.say(&["service", "reach", "files", "--add", DISK, "--validate-only"]);
    assert_eq!(planned, "files reaches 1.\n");
    assert!(cell.state.lock().unwrap().networks[0].reach.is_empty());

    cell.say(&["service", "reach", "files", "--add", DISK, "--add", DISK]);
    let both = cell.say(&["service", "reach", "files", "--add", DNS]);
    let lines = format!("Containers of files may reach besides:\n  {DISK}\n  {DNS}\n");
    assert_eq!(both, lines);
    assert_eq!(cell.say(&["service", "reach", "files"]), lines);
    let same = cell.say(&["service", "reach", "files", "--add", DNS, "--validate-only"]);
    assert_eq!(same, "Nothing would change.\n");
    let one = cell.say(&["service", "reach", "files", "--remove", DISK, "--json"]);
    let one: Value = serde_json::from_str(&one).unwrap();
    let dns = json!([{"address": "10.0.5.7", "protocol": "udp", "port": 53}]);
    assert_eq!(one["network"]["reach"], dns);
    let listed: Value = serde_json::from_str(&cell.say(&["service", "networks", "--json"])).unwrap();
    assert_eq!(listed["services"][0]["reach"], dns);
    cell.say(&["service", "reach", "files", "--none"]);
    assert!(cell.state.lock().unwrap().networks[0].reach.is_empty());
}

#[test]
fn what_cannot_be_is_said() {
    let cell = cell();
    for (args, code, why) in [
        (
            &["files", "--remove", DISK][..],
            2,
            "files has no tcp://192.168.1.20:445 to remove",
        ),
        (&["files", "--add", "192.168.1.20:445"], 2, "tcp://ADDRESS:PORT"),
        (&["files", "--none", "--add", DISK], 2, "cannot be used with"),
        (&["mail", "--add", DISK], 1, "mail has no network"),
    ] {
        let output = cell.run(&[&["service", "reach"], args].concat());
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(why), "{told}");
    }
}
