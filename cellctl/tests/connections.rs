//! `cellctl connection` against a stand-in for the cell: where secrets are read from, what is sent, what is printed.

#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "tests: a case is one story"
)]

mod support;

use cell_proto::api::v1::ConnectionImport;
use serde_json::{Value, json};
use support::FakeCell;

const SECRET: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";

#[test]
fn a_connection_is_added_from_a_file_shown_renamed_replaced_and_removed() {
    let cell = FakeCell::start();
    let file = cell.dir.path().join("provider.conf");
    let text = format!("[Interface]\nPrivateKey = {SECRET}\n");
    std::fs::write(&file, &text).unwrap();
    let file = file.to_str().unwrap();
    let empty = cell.say(&["connection", "list"]);
    assert!(empty.contains("cellctl connection add"), "{empty}");
    let add = [
        "connection",
        "add",
        "mullvad",
        "--type",
        "wireguard_ext",
        "--from",
        file,
    ];
    let said = cell.run(&add);
    assert!(said.status.success());
    let (out, err) = (
        String::from_utf8(said.stdout).unwrap(),
        String::from_utf8(said.stderr).unwrap(),
    );
    assert!(
        out.contains("[2001:db8::1]:51820") && out.contains("wgext_6f1d2c3a"),
        "{out}"
    );
    assert!(err.contains("Table is not used"), "{err}");
    assert!(!out.contains(SECRET) && !err.contains(SECRET));
    assert_eq!(
        cell.state.lock().unwrap().imports,
        [ConnectionImport {
            file: text,
            ..ConnectionImport::default()
        }]
    );
    let again = cell.run(&add);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        String::from_utf8(again.stderr)
            .unwrap()
            .contains("a connection of this name")
    );

    let listed = cell.say(&["connection", "list"]);
    assert!(
        listed.contains("mullvad") && listed.contains("0x1000") && listed.contains("unknown"),
        "{listed}"
    );
    assert!(
        cell.say(&["connection", "rename", "mullvad", "sweden"])
            .contains("sweden")
    );
    assert!(
        cell.say(&["connection", "show", "sweden"])
            .contains("conn_6f1d_private_key")
    );
    let now = jiff_now();
    let proven = |at: i64| {
        let mut state = cell.state.lock().unwrap();
        state.connections[0].status.get_or_insert_default().proven_unix_ms = at;
    };
    for (at, ago) in [(now - 7_200_000, "2 h 0 min ago"), (0, "never")] {
        proven(at);
        for command in [&["connection", "list"][..], &["connection", "show", "sweden"]] {
            let said = cell.say(command);
            assert!(
                said.to_lowercase().contains("last proven") && said.contains(ago),
                "{said}"
            );
        }
    }
    let health = cell.say(&["connection", "health", "sweden"]);
    assert!(health.starts_with("unknown: "), "{health}");
    assert!(health.trim_end().ends_with("last proven: never"), "{health}");
    let gone = cell.run(&["connection", "show", "mullvad"]);
    assert_eq!(gone.status.code(), Some(1));
    cell.say(&["connection", "replace", "sweden", "--from", file]);
    assert_eq!(cell.state.lock().unwrap().imports.len(), 2);
    assert!(cell.say(&["connection", "remove", "sweden"]).contains("removed"));
    assert!(cell.state.lock().unwrap().connections.is_empty());
    assert_eq!(
        cell.run(&["connection", "remove", "sweden"]).status.code(),
        Some(1)
    );
}

fn jiff_now() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

#[test]
fn each_type_reads_its_secrets_from_files_or_standard_input() {
    let cell = FakeCell::start();
    let write = |name: &str, text: &str| {
        let path = cell.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (profile, password) = (write("a.ovpn", "client\n"), write("password", "hunter2\nmore\n"));
    let (key, hosts) = (
        write("id", "-----BEGIN\n"),
        write("hosts", "box ssh-ed25519 AAAA\n"),
    );
    let url = cell.run_with(
        &["connection", "add", "p", "--type", "proxy", "--from", "-"],
        "socks5://anna:hunter2@p:1\n",
    );
    assert!(url.status.success());
    let openvpn = [
        "connection",
        "add",
        "o",
        "--type",
        "openvpn",
        "--from",
        &profile,
        "--username",
        "anna",
    ];
    cell.say(&[&openvpn[..], &["--password-file", &password]].concat());
    let ssh = [
        "connection",
        "add",
        "s",
        "--type",
        "sshuttle",
        "--from",
        &key,
        "--target",
        "anna@box",
    ];
    cell.say(&[&ssh[..], &["--host-keys", &hosts]].concat());
    cell.say(&["connection", "add", "t", "--type", "tor"]);
    let none = ConnectionImport::default;
    let expected = [
        ConnectionImport {
            url: "socks5://anna:hunter2@p:1".to_owned(),
            ..none()
        },
        ConnectionImport {
            file: "client\n".to_owned(),
            username: "anna".to_owned(),
            password: "hunter2".to_owned(),
            ..none()
        },
        ConnectionImport {
            target: "anna@box".to_owned(),
            private_key: "-----BEGIN\n".to_owned(),
            host_keys: "box ssh-ed25519 AAAA\n".to_owned(),
            ..none()
        },
    ];
    assert_eq!(cell.state.lock().unwrap().imports, expected);

    // A name without its password, a type that nobody makes, files that are none: nothing is sent.
    assert_eq!(cell.run(&openvpn).status.code(), Some(2));
    let relay = ["connection", "add", "r", "--type", "cell_relay"];
    assert_eq!(cell.run(&relay).status.code(), Some(2));
    for bad in [
        "/nonexistent",
        &write("empty", "\n"),
        &write("huge", &"a".repeat(200_000)),
    ] {
        let refused = cell.run(&["connection", "add", "x", "--type", "openvpn", "--from", bad]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(String::from_utf8(refused.stderr).unwrap().contains("cannot read"));
    }
    assert_eq!(cell.state.lock().unwrap().connections.len(), 4);
}

#[test]
fn json_has_the_shapes_of_the_rest_api() {
    let cell = FakeCell::start();
    let parse = |args: &[&str]| serde_json::from_str::<Value>(&cell.say(args)).unwrap();
    let connection = json!({
        "id": "id-of-onion", "type": "tor", "name": "onion", "mark": "0x1000", "table": 1000,
        "iface": "wgext_6f1d2c3a", "redirect_port": null,
        "config": {
            "servers": [{"protocol": "wireguard", "host": "2001:db8::1", "port": 51820,
                         "public_key": "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="}],
            "username": null, "addresses": [], "resolvers": [], "host_public_keys": [],
        },
        "vault_names": ["conn_6f1d_private_key"],
        "status": {"health": "unknown", "timestamp": null, "proven_at": null, "detail": "nothing uses it yet"},
        "version": "1", "created_at": "2023-11-14T22:13:20Z",
    });
    let added = parse(&["connection", "add", "onion", "--type", "tor", "--json"]);
    assert_eq!(
        added,
        json!({"connection": connection, "notes": ["Table is not used"]})
    );
    assert_eq!(
        parse(&["connection", "list", "--json"]),
        json!({"connections": [connection]})
    );
    assert_eq!(parse(&["connection", "show", "onion", "--json"]), connection);
    assert_eq!(
        parse(&["connection", "remove", "onion", "--json"]),
        json!({"removed": "onion"})
    );
}

#[test]
fn a_device_is_bound_to_a_connection_and_says_what_happens_when_that_fails() {
    let cell = FakeCell::start();
    let shown = |words: &[&str]| {
        let out = cell.run(&[&["--json", "peer"], words].concat()).stdout;
        let document: Value = serde_json::from_slice(&out).unwrap();
        let of = |field: &str| document[field].clone();
        [
            of("exit_connection_id"),
            of("fail_open"),
            of("fallback_connection_ids"),
        ]
    };
    let unset = [Value::Null, Value::Null, json!([])];
    cell.run(&["peer", "add", "phone", "--exit", "home"]);
    assert_eq!(shown(&["show", "phone"])[0], json!("home"));
    assert_eq!(shown(&["set", "phone", "--exit", ""]), unset);
    let set = [
        "set",
        "phone",
        "--exit",
        "work",
        "--fail-open",
        "no",
        "--fallback",
        "spare",
        "--fallback",
        "other",
    ];
    let all = [json!("work"), json!(false), json!(["spare", "other"])];
    assert_eq!(shown(&set), all);
    // What is not named stays, and a new device has all of it at once.
    assert_eq!(shown(&["set", "phone", "--internet", "yes"]), all);
    let added = ["tv", "--exit", "work", "--fail-open", "no", "--fallback", "spare"];
    let added = shown(&[&["add"], &added[..]].concat());
    assert_eq!(
        shown(&["show", "tv"]),
        [json!("work"), json!(false), json!(["spare"])]
    );
    assert_eq!(added[0], Value::Null, "the answer is the configuration");
    let said = cell.say(&["peer", "show", "phone"]);
    assert!(said.contains("goes nowhere while that does not work"), "{said}");
    assert_eq!(shown(&["set", "phone", "--fail-open", "yes"])[1], json!(true));
    let undone = shown(&["set", "phone", "--fail-open", "default", "--no-fallbacks"]);
    assert_eq!(undone, [json!("work"), Value::Null, json!([])]);
    for bad in [
        &["peer", "set", "phone"][..],
        &["peer", "set", "phone", "--fail-open", "perhaps"],
        &["peer", "set", "phone", "--fallback", "a", "--no-fallbacks"],
    ] {
        assert_eq!(cell.run(bad).status.code(), Some(2), "{bad:?}");
    }
}

/// It cannot be taken back: so it is told beforehand, and who sits behind it says that they mean it.
#[test]
fn what_replaces_a_connection_is_told_and_meant() {
    let cell = FakeCell::start();
    let file = cell.dir.path().join("provider.conf");
    std::fs::write(&file, "[Interface]\n").unwrap();
    let file = file.to_str().unwrap();
    cell.say(&[
        "connection",
        "add",
        "home",
        "--type",
        "wireguard_ext",
        "--from",
        file,
    ]);
    cell.say(&["peer", "add", "laptop"]);
    cell.state.lock().unwrap().peers[0].exit_connection_id = "id-of-home".to_owned();
    let replace = ["connection", "replace", "home", "--from", file];
    let told = cell.run(&[&replace[..], &["--dry-run"]].concat());
    let (out, err) = (
        String::from_utf8(told.stdout).unwrap(),
        String::from_utf8(told.stderr).unwrap(),
    );
    assert!(
        out.contains("Open connections of laptop") && out.contains("Nothing was changed."),
        "{out}"
    );
    assert!(err.contains("Table is not used"), "{err}");
    let imports = || cell.state.lock().unwrap().imports.len();
    assert_eq!(imports(), 1);
    let (own, other) = ("10.86.0.2 50000 10.86.0.1 22", "10.86.0.3 50000 10.86.0.1 22");
    let refused = cell.run_by(&replace, "", own);
    let err = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && err.contains("--at-once"), "{err}");
    assert_eq!(imports(), 1);
    for (from, options) in [(own, &["--at-once"][..]), (other, &[]), ("", &[])] {
        let before = imports();
        assert!(
            cell.run_by(&[&replace[..], options].concat(), "", from)
                .status
                .success()
        );
        assert_eq!(imports(), before + 1, "{from} {options:?}");
    }
}
