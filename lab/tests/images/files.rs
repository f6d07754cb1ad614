//! Files.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::service::{Service, eventually, repository};

const ALICE: &str = "alice's password";
const BOB: &str = "bob's password, too";

struct Files {
    service: Service,
    address: String,
}

impl Files {
    fn new() -> Self {
        let mut service = Service::new(&["webdav", "accounts"]);
        service.deploy("files", &BTreeMap::new());
        service.healthy("files");
        let address = service.address("cell-files-webdav");
        let files = Files { service, address };
        assert_eq!(files.account("PUT", "alice", ALICE), "201");
        assert_eq!(files.account("PUT", "bob", BOB), "201");
        eventually("Apache answers", Duration::from_secs(20), || {
            let status = files.status("alice", ALICE, "PROPFIND", "/dav/alice/", &[]);
            (status == "207")
                .then_some(())
                .ok_or(status + &files.service.logs())
        });
        files
    }

    fn account(&self, method: &str, user: &str, password: &str) -> String {
        let body = if password.is_empty() {
            String::new()
        } else {
            json!({"password": password}).to_string()
        };
        self.service
            .accounts("cell-files-accounts", method, &format!("/accounts/{user}"), &body)
    }

    fn status(&self, user: &str, password: &str, method: &str, path: &str, headers: &[&str]) -> String {
        let (url, login) = (
            format!("http://{}:8000{path}", self.address),
            format!("{user}:{password}"),
        );
        let mut args = vec![
            "-s",
            "--max-time",
            "10",
            "--path-as-is",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-X",
            method,
        ];
        // Of a folder and all below it, nobody is told at once.
        args.extend(["-u", &login]);
        if method == "PROPFIND" {
            args.extend(["-H", "Depth: 1"]);
        }
        headers.iter().for_each(|header| args.extend(["-H", header]));
        args.push(&url);
        String::from_utf8(self.service.outside("curl", &args).stdout).unwrap()
    }
}

#[test]
fn a_webdav_client_writes_and_reads_back_and_nobody_reaches_anothers_files() {
    let files = Files::new();
    let service = &files.service;
    let hidden = service.out("rclone", &["obscure", ALICE]);
    let remote = format!(
        ":webdav,url='http://{}:8000/dav/alice/',user=alice,pass='{hidden}':",
        files.address
    );
    let local = service.dockerd.dir().join("up");
    std::fs::create_dir_all(local.join("Größe & co")).unwrap();
    std::fs::write(local.join("Größe & co/a b#c.txt"), "hello").unwrap();
    std::fs::write(local.join("big"), vec![7; 3_000_000]).unwrap();
    let local = local.to_str().unwrap();
    service.out(
        "rclone",
        &[
            "--config=",
            "--retries=1",
            "--low-level-retries=2",
            "copy",
            local,
            &remote,
        ],
    );
    service.out("rclone", &["--config=", "check", "--download", local, &remote]);

    // The litmus of WebDAV servers: classes 1 and 2.
    let url = format!("http://{}:8000/dav/bob/", files.address);
    let said = service.out(
        "env",
        &[
            "-C",
            service.dockerd.dir().to_str().unwrap(),
            "TESTS=basic copymove locks",
            "litmus",
            &url,
            "bob",
            BOB,
        ],
    );
    assert!(!said.contains("FAIL"), "{said}");
    assert!(said.matches("summary for").count() == 3, "{said}");

    // What is hers is hers: read, written, copied from or to by no other, by no spelling.
    let destination = |user: &str| format!("Destination: http://{}:8000/dav/{user}/stolen", files.address);
    for (method, path, headers, expected) in [
        ("GET", "/dav/alice/big", vec![], "403"),
        ("PROPFIND", "/dav/alice/", vec![], "403"),
        ("PUT", "/dav/alice/new", vec![], "403"),
        ("DELETE", "/dav/alice/big", vec![], "403"),
        ("PROPFIND", "/dav/", vec![], "403"),
        ("PROPFIND", "/dav", vec![], "403"),
        ("GET", "/dav/bob/../alice/big", vec![], "403"),
        ("GET", "/dav/bob/%2e%2e/alice/big", vec![], "403"),
        ("GET", "/dav/bob/%2e%2e%2falice/big", vec![], "404"),
        ("GET", "/dav//alice/big", vec![], "403"),
        ("GET", "//dav/alice/big", vec![], "403"),
        ("COPY", "/dav/alice/big", vec![destination("bob")], "403"),
        ("GET", "/accounts/users", vec![], "404"),
    ] {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        assert_eq!(
            files.status("bob", BOB, method, path, &headers),
            expected,
            "{method} {path}"
        );
    }
    assert_eq!(files.status("bob", BOB, "MKCOL", "/dav/bob/mine/", &[]), "201");
    // Nor moved or copied into, by no spelling of the destination.
    let host = format!("http://{}:8000", files.address);
    for to in [
        format!("Destination: {host}/dav/alice/stolen"),
        "Destination: /dav/alice/stolen".to_owned(),
        format!("Destination: {host}/dav/bob/../alice/stolen"),
        format!("Destination: {host}/dav/bob/%2e%2e/alice/stolen"),
        format!("Destination: {host}/dav/bob/%2E./alice/stolen"),
        format!("Destination: {host}/dav/bob//../../alice/stolen"),
        format!("Destination: {host}//dav/alice/stolen"),
        "Destination: alice/stolen".to_owned(),
    ] {
        for method in ["MOVE", "COPY"] {
            let status = files.status("bob", BOB, method, "/dav/bob/mine/", &[&to]);
            assert_eq!(status, "403", "{method} {to}");
        }
    }
    let old = files.status(
        "bob",
        BOB,
        "MOVE",
        "/dav/bob/mine/",
        &["New-uri: /dav/alice/stolen"],
    );
    assert_eq!(old, "400", "the header of an old browser is no destination");
    assert_eq!(
        files.status("bob", BOB, "MOVE", "/dav/bob/mine/", &[&destination("bob")]),
        "201"
    );
    // As a client behind the proxy names it.
    let by_proxy = "Destination: https://files.cell.example/dav/bob/renamed";
    let into = "Destination: https://files.cell.example/dav/alice/stolen";
    assert_eq!(
        files.status("bob", BOB, "MOVE", "/dav/bob/stolen", &[into]),
        "403"
    );
    assert_eq!(
        files.status("bob", BOB, "MOVE", "/dav/bob/stolen", &[by_proxy]),
        "201"
    );
    assert_eq!(
        files.status("alice", ALICE, "GET", "/dav/alice/stolen", &[]),
        "404"
    );
    assert_eq!(files.status("alice", ALICE, "GET", "/dav/alice/big", &[]), "200");
    assert_eq!(files.status("alice", BOB, "GET", "/dav/alice/big", &[]), "401");

    // Removed with what it had; the next of that name inherits nothing.
    assert_eq!(files.account("DELETE", "alice", ""), "204");
    assert_eq!(files.status("alice", ALICE, "GET", "/dav/alice/big", &[]), "401");
    assert_eq!(files.account("PUT", "alice", ALICE), "201");
    assert_eq!(files.status("alice", ALICE, "GET", "/dav/alice/big", &[]), "404");
    service.print_memory();
}

/// The page, as a person uses it in Chromium.
#[test]
fn files_are_managed_in_a_browser() {
    let files = Files::new();
    let script = repository().join("lab/tests/images/files_browser.mjs");
    let url = format!("http://{}:8000/", files.address);
    let said = files
        .service
        .out("node", &[script.to_str().unwrap(), &url, "alice", ALICE]);
    assert!(said.ends_with("the page works"), "{said}");
    assert_eq!(
        files.status("alice", ALICE, "GET", "/dav/alice/Holiday/second.txt", &[]),
        "200"
    );
    assert_eq!(
        files.status("alice", ALICE, "GET", "/dav/alice/first.txt", &[]),
        "404"
    );
}
