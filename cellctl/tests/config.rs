//! The cell's configuration: shown, and changed where it can be.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use cell_proto::api::v1::{DnsUpstreams, UpdateCellConfigRequest};
use serde_json::{Value, json};
use support::FakeCell;

fn upstreams(addresses: &[&str]) -> Option<DnsUpstreams> {
    let addresses = addresses.iter().map(|at| (*at).to_owned()).collect();
    Some(DnsUpstreams { addresses })
}

#[test]
fn it_is_shown_with_what_is_not_known_yet() {
    let cell = FakeCell::start();
    let said = cell.say(&["config", "show"]);
    assert!(
        said.contains("home") && said.contains("not known yet") && said.contains("9.9.9.9"),
        "{said}"
    );
    let document: Value = serde_json::from_str(&cell.say(&["config", "show", "--json"])).unwrap();
    assert_eq!(
        (&document["endpoint_host"], &document["dns_upstreams"]),
        (&Value::Null, &json!(["9.9.9.9"]))
    );
}

#[test]
fn what_is_not_named_stays() {
    let cell = FakeCell::start();
    for (options, endpoint_host, dns_upstreams) in [
        (
            &["--endpoint", "home.example.net"][..],
            Some("home.example.net"),
            None,
        ),
        (&["--endpoint", ""], Some(""), None),
        (
            &["--dns", "192.0.2.1", "--dns", "[2001:db8::1]:5353"],
            None,
            upstreams(&["192.0.2.1", "[2001:db8::1]:5353"]),
        ),
        (&["--default-dns"], None, upstreams(&[])),
    ] {
        let said = cell.say(&[&["config", "set"], options].concat());
        let asked = cell.state.lock().unwrap().configured.take();
        let expected = UpdateCellConfigRequest {
            endpoint_host: endpoint_host.map(str::to_owned),
            dns_upstreams,
        };
        assert_eq!(asked, Some(expected), "{options:?}");
        assert!(
            options[0] != "--dns" || said.contains("192.0.2.1 [2001:db8::1]:5353"),
            "{said}"
        );
    }
    for wrong in [&[][..], &["--dns", "192.0.2.1", "--default-dns"]] {
        let output = cell.run(&[&["config", "set"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(cell.state.lock().unwrap().configured.is_none());
    }
}
