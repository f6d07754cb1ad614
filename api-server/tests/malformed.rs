//! Bad input gets a typed 4xx with every fault named; nothing changes, nothing dies.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests: a case is one story"
)]

mod support;

use std::time::Duration;

use serde_json::{Map, Value, json};
use support::client::Client;
use support::{ABSENT, Cell, key};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// Whatever is refused leaves the same state and the same chain of network generations.
async fn unchanged(admin: &Client) -> (Value, Value, Value) {
    let status = admin.get("/api/status").await.expect(200).json();
    let peers = admin.get("/api/peers").await.expect(200).json();
    (
        status["generation"].clone(),
        peers,
        admin.get("/api/config").await.expect(200).json(),
    )
}

/// Every field of every body of the document, given a wrong type: each is named, and so is one that nobody knows.
#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_every_body_is_checked_and_named() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let before = unchanged(&admin).await;
    let document: Value = serde_json::from_str(&cell_api::http::openapi::rendered().unwrap()).unwrap();
    let mut bodies = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
            let Some(name) = schema.as_str().map(|name| name.rsplit('/').next().unwrap()) else {
                continue;
            };
            let schema = &document["components"]["schemas"][name];
            assert_eq!(
                schema["additionalProperties"],
                json!(false),
                "{name} refuses unknown fields"
            );
            let empty = Map::new();
            let properties = schema["properties"].as_object().unwrap_or(&empty);
            let mut body: Map<String, Value> = properties
                .keys()
                .map(|name| (name.clone(), json!([[]])))
                .collect();
            body.insert("nobody_knows_this".to_owned(), json!(1));
            let path = path.replace("{name}", "nobody").replace("{username}", "nobody");
            let path = path.replace("{id}", ABSENT);
            let answer = admin
                .send(
                    &method.to_uppercase(),
                    &path,
                    JSON,
                    Some(Value::Object(body.clone()).to_string().into()),
                )
                .await;
            answer.refused(400, "INVALID_REQUEST");
            let fields = answer.fields();
            for field in body.keys() {
                // An item of a list is named by its place.
                let item = format!("{field}[0]");
                assert!(
                    fields.contains(field) || fields.contains(&item),
                    "{method} {path} does not name {field}: {fields:?}"
                );
            }
            bodies += 1;
        }
    }
    assert!(bodies >= 12, "{bodies}");
    assert_eq!(unchanged(&admin).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_bad_peers() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let before = unchanged(&admin).await;
    let mut bad: Vec<(Value, &str)> = Vec::new();
    for name in [
        "",
        " ",
        "a b",
        "a/b",
        "../x",
        "..",
        ".",
        "-rf",
        "a\u{0}b",
        "a\nb",
        "a\r\nSet-Cookie: x",
        "é",
        "а",
        "\u{202e}abc",
        "a%2fb",
        "a;b",
        "a'b",
        "a\"b",
        "$(id)",
        "`id`",
        "a|b",
        "<script>",
        "a\u{feff}",
        "\u{1f600}",
    ] {
        bad.push((json!({"name": name, "public_key": key(1)}), "name"));
    }
    bad.push((json!({"name": "x".repeat(65), "public_key": key(1)}), "name"));
    bad.push((json!({"name": "x".repeat(60_000), "public_key": key(1)}), "name"));
    for value in [
        json!(null),
        json!(1),
        json!(true),
        json!([]),
        json!({}),
        json!(1e300),
    ] {
        bad.push((json!({"name": value, "public_key": key(1)}), "name"));
    }
    let good = key(1);
    for text in [
        "",
        "x",
        "AAAA",
        &good[..43],
        &format!("{good}="),
        &format!(" {good}"),
        &format!("{good}\n"),
        &"A".repeat(44),
        &format!("{}=", "A".repeat(43)),
        &good.replace('=', "-"),
        "ключ",
        &"A".repeat(60_000),
    ] {
        bad.push((json!({"name": "a", "public_key": text}), "public_key"));
    }
    for value in [json!(1), json!(true), json!([good]), json!({"key": good})] {
        bad.push((json!({"name": "a", "public_key": value}), "public_key"));
    }
    for tunnel in [
        json!("Full"),
        json!("half"),
        json!("full "),
        json!(1),
        json!([]),
        json!("\u{0}"),
    ] {
        bad.push((
            json!({"name": "a", "public_key": good, "tunnel": tunnel}),
            "tunnel",
        ));
    }
    for flag in [json!("true"), json!(1), json!(0), json!([]), json!("yes")] {
        bad.push((
            json!({"name": "a", "public_key": good, "server_makes_key": flag}),
            "server_makes_key",
        ));
        for field in ["internet", "peer_to_peer"] {
            let access = json!({field: flag});
            let path = if field == "internet" {
                "access.internet"
            } else {
                "access.peer_to_peer"
            };
            bad.push((json!({"name": "a", "public_key": good, "access": access}), path));
        }
    }
    for access in [json!(1), json!("all"), json!([]), json!(true)] {
        bad.push((
            json!({"name": "a", "public_key": good, "access": access}),
            "access",
        ));
    }
    for services in [json!(1), json!("all"), json!({}), json!({"0": 1})] {
        bad.push((
            json!({"name": "a", "public_key": good, "access": {"services": services}}),
            "access.services",
        ));
    }
    let many: Vec<Value> = (0..300)
        .map(|n| json!({"address": "10.0.0.1", "protocol": "tcp", "port": n + 1}))
        .collect();
    bad.push((
        json!({"name": "a", "public_key": good, "access": {"services": many}}),
        "access.services",
    ));
    for address in [
        "",
        "10.0.0",
        "10.0.0.256",
        "10.0.0.1/32",
        "0x0a.0.0.1",
        "010.0.0.1",
        "167772161",
        "localhost",
        "::1",
        "127.0.0.1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "255.255.255.255",
        "ff02::1",
        "::ffff:10.0.0.1",
        "fe80::1%eth0",
        "10.0.0.1:443",
        "[fd00::1]",
        "10.0.0.1\n",
        " 10.0.0.1",
        "fd00:::1",
        "１０.0.0.1",
        "169.254.169.254",
        "169.254.67.1",
        "fe80::3",
        "febf::1",
        "0.1.2.3",
    ] {
        let service = json!({"address": address, "protocol": "tcp", "port": 1});
        bad.push((
            json!({"name": "a", "public_key": good, "access": {"services": [service]}}),
            "access.services[0].address",
        ));
    }
    for protocol in [
        json!("TCP"),
        json!("icmp"),
        json!(""),
        json!("tcp "),
        json!(6),
        json!(null),
        json!(["tcp"]),
    ] {
        let service = json!({"address": "10.0.0.1", "protocol": protocol, "port": 1});
        bad.push((
            json!({"name": "a", "public_key": good, "access": {"services": [service]}}),
            "access.services[0].protocol",
        ));
    }
    for port in [
        json!(0),
        json!(65_536),
        json!(-1),
        json!(1.5),
        json!("443"),
        json!(null),
        json!(u64::MAX),
        json!(1e30),
        json!([443]),
    ] {
        let service = json!({"address": "10.0.0.1", "protocol": "tcp", "port": port});
        bad.push((
            json!({"name": "a", "public_key": good, "access": {"services": [service]}}),
            "access.services[0].port",
        ));
    }
    for service in [json!(1), json!("10.0.0.1:443"), json!([]), json!(null)] {
        bad.push((
            json!({"name": "a", "public_key": good, "access": {"services": [service]}}),
            "access.services[0]",
        ));
    }
    for field in [
        "Name",
        "NAME",
        "private_key",
        "privateKey",
        "ip",
        "__proto__",
        "constructor",
        "name ",
        "n\u{e4}me",
        "ſerver",
    ] {
        bad.push((json!({"name": "a", "public_key": good, field: "x"}), field));
    }
    for network in [
        "10.86.0.0",
        "10.86.0.0/24",
        "x",
        " ",
        "a\nb",
        "host:1",
        "-a.example",
        "a..b",
        "0.0.0.0",
        "999.1.1.1",
    ] {
        let answer = admin.put("/api/config", &json!({"endpoint_host": network})).await;
        if network != "10.86.0.0" && network != "x" {
            answer.refused(400, "INVALID_REQUEST");
        } else {
            continue;
        }
    }
    let seen = bad.len();
    for (body, field) in bad {
        let answer = admin.post("/api/peers", &body).await;
        assert_eq!(answer.status, 400, "{body:.200}: {}", answer.text);
        assert!(
            answer.fields().iter().any(|named| named == field),
            "{field} is not named for {body:.200}: {}",
            answer.text
        );
        assert!(
            !answer.text.contains("x".repeat(100).as_str()),
            "what was sent is not sent back"
        );
    }
    assert!(seen >= 120, "{seen}");
    admin
        .put("/api/config", &json!({"endpoint_host": "vpn.example.org"}))
        .await
        .expect(200);
    let mut after = unchanged(&admin).await;
    after.2 = before.2.clone();
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_json_or_too_large_or_too_many() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let send = |body: Vec<u8>| {
        let admin = admin.clone();
        async move { admin.send("POST", "/api/peers", JSON, Some(body)).await }
    };
    let deep = format!("{{\"name\":{}1{}}}", "[".repeat(30_000), "]".repeat(30_000));
    for body in [
        &b""[..],
        b"{",
        b"}",
        b"[]",
        b"null",
        b"1",
        b"\"a\"",
        b"{}x",
        b"{'name': 1}",
        b"{\"name\": \"a\",}",
        b"{\"name\": NaN}",
        b"{\"name\": \"\xff\xfe\"}",
        b"\xef\xbb\xbf{}",
        b"{\"name\": \"\\ud800\"}",
        b"\x00",
        b"name=a",
        b"<xml/>",
        deep.as_bytes(),
        b"{\"name\": \"a\", \"name\": \"b\"}",
        b"{\"name\": \"a\", \"n\\u0061me\": \"b\"}",
    ] {
        let answer = send(body.to_vec()).await;
        answer.refused(400, "INVALID_REQUEST");
        assert!(!answer.fields().is_empty());
    }
    send(vec![b' '; 65 * 1024]).await.refused(413, "TOO_LARGE");
    for kind in [
        "",
        "text/plain",
        "application/xml",
        "application/json-patch+json",
        "application/json; charset=latin1",
    ] {
        let answer = admin
            .send(
                "POST",
                "/api/peers",
                &[("content-type", kind)],
                Some(b"{}".to_vec()),
            )
            .await;
        answer.refused(415, "NOT_JSON");
    }
    // No length given: the stream itself is cut.
    let chunked = format!(
        "POST /api/setup/step/claim HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        cell.address,
        "4000\r\n".to_owned() + &" ".repeat(0x4000) + "\r\n"
    ) + &("4000\r\n".to_owned() + &" ".repeat(0x4000) + "\r\n").repeat(4);
    let answer = cell.client().raw(chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer:.200}");
    let huge = format!(
        "GET /health HTTP/1.1\r\nHost: {}\r\nX-A: {}\r\n\r\n",
        cell.address,
        "a".repeat(200_000)
    );
    let answer = cell.client().raw(huge.as_bytes()).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer:.200}"
    );
    for bytes in [
        &b"\x16\x03\x01\x00"[..],
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0\0\0\0",
    ] {
        let mut bytes = bytes.to_vec();
        bytes.extend(b"\r\n\r\n");
        let _ = tokio::time::timeout(Duration::from_secs(15), cell.client().raw(&bytes))
            .await
            .unwrap();
    }
    cell.client().get("/health").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_paths_are_nobodys() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    for path in [
        "/api/peers/..",
        "/api/peers/%2e%2e",
        "/api/peers/a%2fb",
        "/api/peers/%00",
        "/api/peers/%ff",
        "/api/peers/a%0ab",
        "/api/peers/",
        "/api/peers//",
        "/api//peers",
        "/api/peers/a/b",
        "/api/peers/-a",
        &format!("/api/peers/{}", "x".repeat(5_000)),
    ] {
        let answer = admin.get(path).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.text);
        answer.is_problem();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_let_go() {
    let cell = Cell::ready().await;
    let open = || async { tokio::net::TcpStream::connect(cell.address).await.unwrap() };
    let silent = open().await;
    let mut half_header = open().await;
    half_header
        .write_all(b"GET /health HTTP/1.1\r\nHo")
        .await
        .unwrap();
    let mut half_body = open().await;
    let head = format!(
        "POST /api/auth/login HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{{",
        cell.address
    );
    half_body.write_all(head.as_bytes()).await.unwrap();
    let mut idle = open().await;
    idle.write_all(format!("GET /health HTTP/1.1\r\nHost: {}\r\n\r\n", cell.address).as_bytes())
        .await
        .unwrap();
    for (name, mut stream) in [
        ("silent", silent),
        ("half header", half_header),
        ("half body", half_body),
        ("idle", idle),
    ] {
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(25), stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "{name} is still open");
        if name == "half body" {
            assert!(
                String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 408"),
                "{name}"
            );
        }
    }
}

/// A field that cannot be read, or that nobody knows, hides no other fault.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_hides_nothing_else() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    admin
        .post("/api/peers", &json!({"name": "anchor", "public_key": key(1)}))
        .await
        .expect(201);
    let service = json!({"address": "::1", "protocol": "tcp", "port": 1});
    let cases = [
        (
            "PUT",
            "/api/peers/anchor",
            json!({"public_key": "?", "tunnel": "half", "name": "x"}),
            vec!["name", "public_key", "tunnel"],
        ),
        (
            "POST",
            "/api/peers",
            json!({"name": 1, "public_key": "?", "tunnel": "half",
                "access": {"services": [1, service], "all": true}}),
            vec![
                "access.all",
                "access.services[0]",
                "access.services[1].address",
                "name",
                "public_key",
                "tunnel",
            ],
        ),
        (
            "POST",
            "/api/auth/users",
            json!({"username": "\u{0}", "password": "x", "role": 1}),
            vec!["password", "role", "username"],
        ),
        (
            "POST",
            "/api/auth/admin/reset-password",
            json!({"username": 1, "new_password": "x"}),
            vec!["new_password", "username"],
        ),
        (
            "POST",
            "/api/auth/change-password",
            json!({"current_password": 1, "new_password": "x"}),
            vec!["current_password", "new_password"],
        ),
        (
            "PUT",
            "/api/config",
            json!({"endpoint_host": "a b", "cell_name": "x"}),
            vec!["cell_name", "endpoint_host"],
        ),
        (
            "POST",
            "/api/setup/step/identity",
            json!({"cell_name": "a b", "domain_mode": 1}),
            vec!["cell_name", "domain_mode"],
        ),
        (
            "POST",
            "/api/setup/step/network",
            json!({"vpn_range_ipv4": "x", "vpn_range_ipv6": 1, "endpoint_host": "a b"}),
            vec!["endpoint_host", "vpn_range_ipv4", "vpn_range_ipv6"],
        ),
        (
            "POST",
            "/api/setup/step/admin",
            json!({"username": "a b", "password": "x", "role": 1}),
            vec!["password", "role", "username"],
        ),
    ];
    for (method, path, body, expected) in cases {
        let answer = admin
            .send(method, path, JSON, Some(body.to_string().into_bytes()))
            .await;
        answer.refused(400, "INVALID_REQUEST");
        let mut fields = answer.fields();
        fields.sort();
        assert_eq!(fields, expected, "{method} {path}");
    }
}

/// Nobody needs heads of more than 32 KiB, however they are cut.
#[tokio::test(flavor = "multi_thread")]
async fn large_heads_are_refused_before_anybody_looks_at_them() {
    let cell = Cell::ready().await;
    let head = |headers: &str| {
        format!(
            "GET /health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n",
            cell.address
        )
    };
    let field = |length: usize| format!("X-A: {}\r\n", "a".repeat(length));
    let bearable = cell.client().raw(head(&field(8 * 1024)).as_bytes()).await;
    assert!(bearable.starts_with("HTTP/1.1 200"), "{bearable:.200}");
    let target = format!(
        "GET /health?{} HTTP/1.1\r\nHost: {}\r\n\r\n",
        "a".repeat(40_000),
        cell.address
    );
    for large in [
        head(&field(33 * 1024)),
        head(&field(100 * 1024)),
        head(&field(1024).repeat(100)),
        head(&field(1).repeat(100)),
        target,
    ] {
        // A reset while we still send is a refusal too.
        let answer = cell.client().raw(large.as_bytes()).await;
        let refused = ["HTTP/1.1 431", "HTTP/1.1 414", "HTTP/1.1 400"]
            .iter()
            .any(|status| answer.starts_with(status));
        assert!(answer.is_empty() || refused, "{answer:.200}");
    }
    cell.client().get("/health").await.expect(200);
}
