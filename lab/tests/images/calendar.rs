//! Calendar and contacts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::service::{Service, eventually};

#[test]
fn a_caldav_client_syncs_and_nobody_reads_anothers_calendar() {
    let mut service = Service::new(&["radicale", "accounts"]);
    service.deploy("calendar", &BTreeMap::new());
    service.healthy("calendar");
    let url = format!("http://{}:5232/", service.address("cell-calendar-radicale"));
    let account = |method: &str, user: &str, password: &str| {
        let body = if password.is_empty() {
            String::new()
        } else {
            json!({"password": password}).to_string()
        };
        service.accounts(
            "cell-calendar-accounts",
            method,
            &format!("/accounts/{user}"),
            &body,
        )
    };
    let (alice, bob) = ("alice's password", "bob's password, too");
    only_the_machine_asks(&service);
    assert_eq!(account("PUT", "alice", alice), "201");
    assert_eq!(account("PUT", "bob", bob), "201");

    // Alice writes an event, syncs by token, and finds it; Bob, whose password is good, finds nothing of hers.
    let said = service.client("caldav_client.py", &["write", &url, "alice", alice]);
    assert_eq!(
        said,
        json!({"calendars": 1, "events": ["Meet Bob"], "changed": ["Meet Bob"]})
    );
    let said = service.client("caldav_client.py", &["read", &url, "bob", bob, "alice"]);
    assert_eq!(said, json!({"own": 200, "others": 403}));
    let said = service.client("caldav_client.py", &["read", &url, "alice", alice, "alice"]);
    assert_eq!(said, json!({"own": 200, "others": 200}));
    let wrong = service.client("caldav_client.py", &["read", &url, "alice", bob, "alice"]);
    assert_eq!(wrong, json!({"own": 401, "others": 401}));

    // Nor is anything moved into another's.
    let said = service.client("caldav_client.py", &["move", &url, "alice", alice, "bob"]);
    assert_eq!(said["own"], 201, "{said}");
    for status in said["into"].as_array().unwrap() {
        assert_eq!(status, 403, "{said}");
    }

    // Another password counts at once; a removed account is gone with its calendars, and its name is nobody's.
    assert_eq!(account("PUT", "alice", "alice's next one"), "200");
    assert_eq!(
        service.client("caldav_client.py", &["read", &url, "alice", alice, "alice"])["own"],
        401
    );
    assert_eq!(
        service.client(
            "caldav_client.py",
            &["read", &url, "alice", "alice's next one", "alice"]
        )["own"],
        200
    );
    assert_eq!(account("DELETE", "alice", ""), "204");
    assert_eq!(
        service.client(
            "caldav_client.py",
            &["read", &url, "alice", "alice's next one", "alice"]
        )["own"],
        401
    );
    assert_eq!(account("PUT", "alice", "somebody else's"), "201");
    let said = service.client("caldav_client.py", &["list", &url, "alice", "somebody else's"]);
    assert_eq!(said, json!({"calendars": 0}));

    // What is kept outlives the containers.
    assert_eq!(
        service.client("caldav_client.py", &["write", &url, "bob", bob])["calendars"],
        1
    );
    service
        .dockerd
        .say(&["restart", "cell-calendar-radicale", "cell-calendar-accounts"]);
    service.healthy("calendar");
    let url = format!("http://{}:5232/", service.address("cell-calendar-radicale"));
    eventually("Bob's calendar", Duration::from_secs(5), || {
        let said = service.client("caldav_client.py", &["list", &url, "bob", bob]);
        (said == json!({"calendars": 1}))
            .then_some(())
            .ok_or(said.to_string())
    });
    service.print_memory();
}

/// Another container of the same network (where the proxy has a leg), and a device by its own address: nothing, not even whether
/// it works.
fn only_the_machine_asks(service: &Service) {
    const ASK: &str = "import sys, urllib.request as u, urllib.error as e
r = u.Request(sys.argv[1], method=sys.argv[2], data=b'{\"password\": \"a password\"}', headers={'Content-Type': 'application/json'})
try: print(u.urlopen(r, timeout=10).status)
except e.HTTPError as refused: print(refused.code)";
    service.devices(&["10.42.0.2"]);
    let host = service.address("cell-calendar-accounts");
    for (method, path) in [
        ("PUT", "/accounts/mallory"),
        ("GET", "/accounts"),
        ("GET", "/health"),
    ] {
        let url = format!("http://{host}:8090{path}");
        let ask = [
            "exec",
            "cell-calendar-radicale",
            "/usr/bin/python3",
            "-I",
            "-c",
            ASK,
        ];
        let said = service.dockerd.say(&[&ask[..], &[&url, method]].concat());
        assert_eq!(said, "403", "{method} {path} from another container");
        let device = service.accounts_as("10.42.0.2", "cell-calendar-accounts", method, path, "");
        assert_eq!(device, "403", "{method} {path} from a device");
    }
    let container = "cell-calendar-accounts";
    assert_eq!(service.accounts(container, "GET", "/accounts/mallory", ""), "404");
    assert_eq!(service.accounts(container, "GET", "/health", ""), "200");
}
