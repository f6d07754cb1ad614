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

#[test]
fn a_domain_is_set_with_a_token_from_a_file() {
    let cell = FakeCell::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "a7c4d0ad-114e\nmore\n").unwrap();
    let said = cell.say(&[
        "domain",
        "dns01",
        "home.example.org",
        "--provider",
        "generic",
        "--server",
        "192.0.2.53",
        "--tsig-name",
        "cell",
        "--token-file",
        file.to_str().unwrap(),
    ]);
    assert!(
        said.contains("home.example.org (dns01)") && said.contains("is there") && !said.contains("a7c4d0ad"),
        "{said}"
    );
    let asked = cell.state.lock().unwrap().domain.clone().unwrap();
    let setting = asked.setting.unwrap();
    assert_eq!(asked.token, "a7c4d0ad-114e");
    assert_eq!(
        (
            setting.mode.as_str(),
            setting.server.as_str(),
            setting.tsig_name.as_str()
        ),
        ("dns01", "192.0.2.53", "cell")
    );
    let shown: Value = serde_json::from_str(&cell.say(&["domain", "show", "--json"])).unwrap();
    assert_eq!(
        (&shown["domain"], &shown["token_is_set"], &shown["email"]),
        (&json!("home.example.org"), &json!(true), &Value::Null)
    );
}

#[test]
fn a_domain_by_http_needs_no_token() {
    let cell = FakeCell::start();
    let said = cell.say(&[
        "domain",
        "http01",
        "home.example.org",
        "--email",
        "post@example.org",
    ]);
    assert!(
        said.contains("home.example.org (http01)") && !said.contains("token") && !said.contains("Provider"),
        "{said}"
    );
    let asked = cell.state.lock().unwrap().domain.clone().unwrap();
    let setting = asked.setting.unwrap();
    assert_eq!(
        (
            setting.mode.as_str(),
            setting.email.as_str(),
            asked.token.as_str()
        ),
        ("http01", "post@example.org", "")
    );
    let said = cell.say(&["domain", "lan"]);
    assert!(said.contains("the cell's own domain alone"), "{said}");
    let output = cell.run(&["domain", "dns01", "home.example.org"]);
    assert_eq!(output.status.code(), Some(2));
}
