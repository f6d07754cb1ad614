//! Malformed REST requests, as data: what is sent, and which faults the answer must name.

use serde_json::{Value, json};

/// One malformed request.
pub struct Case {
    /// What is wrong with it.
    pub what: String,
    /// HTTP method.
    pub method: &'static str,
    /// Request target, as sent.
    pub path: String,
    /// Body bytes, as sent.
    pub body: Vec<u8>,
    /// Content type.
    pub content_type: &'static str,
    /// Fields that the answer's violations must name, every one of them.
    pub fields: Vec<&'static str>,
}

/// A valid base64 key, so that only what a case plants is wrong.
pub const KEY: &str = "jNQKmw+JjoJiqxTjRLOl0UnDrNy5LCFrCyFgxt8GUXE=";

/// All of them.
pub fn all() -> Vec<Case> {
    let mut cases = names();
    cases.extend(keys());
    cases.extend(services());
    cases.extend(shapes());
    cases.extend(many_faults());
    cases.extend(paths());
    cases.extend(bodies());
    cases.extend(accounts());
    cases.extend(config());
    cases.extend(connections());
    cases.extend(first_version());
    cases
}

fn post_peer(what: impl Into<String>, body: &Value, fields: Vec<&'static str>) -> Case {
    Case {
        what: what.into(),
        method: "POST",
        path: "/api/peers".into(),
        body: body.to_string().into_bytes(),
        content_type: "application/json",
        fields,
    }
}

fn names() -> Vec<Case> {
    let long = "a".repeat(65);
    let bad = [
        ("empty", ""),
        ("a space", " "),
        ("65 characters", &long),
        ("starts with a dot", ".hidden"),
        ("starts with a dash", "-rf"),
        ("path", "../../etc/passwd"),
        ("slash", "a/b"),
        ("backslash", "a\\b"),
        ("newline", "a\nb"),
        ("carriage return", "a\rb"),
        ("NUL", "a\0b"),
        ("tab", "a\tb"),
        ("escape", "a\u{1b}[31m"),
        ("quote", "a\"b"),
        ("apostrophe", "a'b"),
        ("semicolon", "a;reboot"),
        ("dollar", "$(id)"),
        ("backtick", "`id`"),
        ("pipe", "a|b"),
        ("ampersand", "a&b"),
        ("percent", "a%00b"),
        ("angle", "<script>"),
        ("brace", "{{7*7}}"),
        ("umlaut", "küche"),
        ("cyrillic look-alike", "lаptop"),
        ("right-to-left override", "a\u{202e}b"),
        ("zero width space", "a\u{200b}b"),
        ("byte order mark", "\u{feff}a"),
        ("emoji", "📱"),
        ("combining", "e\u{301}"),
        ("full width", "ａbc"),
        ("line separator", "a\u{2028}b"),
        ("bracket", "[Peer]"),
        ("hash", "a#b"),
        ("equals", "a=b"),
    ];
    bad.iter()
        .map(|(what, name)| {
            post_peer(
                format!("peer name: {what}"),
                &json!({"name": name, "public_key": KEY}),
                vec!["name"],
            )
        })
        .collect()
}

fn keys() -> Vec<Case> {
    let zero = "A".repeat(43) + "=";
    let bad = [
        ("empty", ""),
        ("31 bytes", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="),
        ("not base64", "!!!!"),
        ("no padding", &KEY[..43]),
        ("newline at the end", &format!("{KEY}\n")),
        ("space in front", &format!(" {KEY}")),
        ("hexadecimal", &"ab".repeat(32)),
        ("url-safe alphabet", &KEY.replace('+', "-")),
        ("all zero", &zero),
        ("two keys", &format!("{KEY}{KEY}")),
        ("a config line", "k\n[Peer]\nPublicKey = x"),
        ("64 KiB", &"A".repeat(60_000)),
    ];
    bad.iter()
        .map(|(what, key)| {
            post_peer(
                format!("public key: {what}"),
                &json!({"name": "bad", "public_key": key}),
                vec!["public_key"],
            )
        })
        .collect()
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn services() -> Vec<Case> {
    let addresses = [
        "",
        "10.0.0",
        "10.0.0.256",
        "10.0.0.1/32",
        "010.0.0.1",
        "0x0a000001",
        "1",
        "10.0.0.1:80",
        "::g",
        "fe80::1%eth0",
        "[::1]",
        "localhost",
        "10.0.0.1 ",
        "1.2.3.4.5",
        "10.0.0.1\n",
        "::ffff:10.0.0.999",
        "2001:db8::/32",
        "*",
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "224.0.0.1",
        "239.1.1.1",
        "ff02::1",
        "ff05::1",
        "169.254.1.1",
        "fe80::1",
        "169.254.169.254",
        "169.254.67.1",
        "febf:ffff::1",
        "0.1.2.3",
    ];
    let mut cases: Vec<Case> = addresses
        .iter()
        .map(|address| {
            let service = json!({"address": address, "protocol": "tcp", "port": 443});
            let body = json!({"name": "bad", "public_key": KEY, "access": {"services": [service]}});
            post_peer(
                format!("service address {address:?}"),
                &body,
                vec!["access.services[0].address"],
            )
        })
        .collect();
    for port in [
        json!(0),
        json!(65536),
        json!(-1),
        json!(1e30),
        json!(4.5),
        json!("443"),
        json!(null),
        json!([443]),
    ] {
        let body = json!({"name": "bad", "public_key": KEY, "access": {"services": [{"address": "10.9.9.9", "protocol": "tcp", "port": port}]}});
        cases.push(post_peer(
            format!("service port {port}"),
            &body,
            vec!["access.services[0].port"],
        ));
    }
    for protocol in [
        json!(""),
        json!("TCP"),
        json!("icmp"),
        json!("tcp,udp"),
        json!(6),
        json!(null),
        json!("tcp\0"),
    ] {
        let body = json!({"name": "bad", "public_key": KEY, "access": {"services": [{"address": "10.9.9.9", "protocol": protocol, "port": 1}]}});
        cases.push(post_peer(
            format!("service protocol {protocol}"),
            &body,
            vec!["access.services[0].protocol"],
        ));
    }
    let service = json!({"address": "10.9.9.9", "protocol": "tcp", "port": 1});
    let body = json!({"name": "bad", "public_key": KEY, "access": {"services": vec![service; 257]}});
    cases.push(post_peer("257 services", &body, vec!["access.services"]));
    cases
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn shapes() -> Vec<Case> {
    let ok = |extra: Value| {
        let mut body = json!({"name": "bad", "public_key": KEY});
        let (Some(body_map), Value::Object(extra)) = (body.as_object_mut(), extra) else {
            return body;
        };
        body_map.extend(extra);
        body
    };
    vec![
        post_peer(
            "unknown field",
            &ok(json!({"private_key": KEY})),
            vec!["private_key"],
        ),
        post_peer(
            "unknown field in access",
            &ok(json!({"access": {"lan": true}})),
            vec!["access.lan"],
        ),
        post_peer(
            "prototype field",
            &ok(json!({"__proto__": {"role": "admin"}})),
            vec!["__proto__"],
        ),
        post_peer(
            "name is a number",
            &json!({"name": 7, "public_key": KEY}),
            vec!["name"],
        ),
        post_peer(
            "name is null",
            &json!({"name": null, "public_key": KEY}),
            vec!["name"],
        ),
        post_peer(
            "name is a list",
            &json!({"name": ["a"], "public_key": KEY}),
            vec!["name"],
        ),
        post_peer("name is missing", &json!({"public_key": KEY}), vec!["name"]),
        post_peer(
            "internet is a string",
            &ok(json!({"access": {"internet": "yes"}})),
            vec!["access.internet"],
        ),
        post_peer(
            "internet is 1",
            &ok(json!({"access": {"internet": 1}})),
            vec!["access.internet"],
        ),
        post_peer(
            "peer_to_peer is null",
            &ok(json!({"access": {"peer_to_peer": "on"}})),
            vec!["access.peer_to_peer"],
        ),
        post_peer("access is a list", &ok(json!({"access": []})), vec!["access"]),
        post_peer(
            "access is a string",
            &ok(json!({"access": "all"})),
            vec!["access"],
        ),
        post_peer(
            "services is an object",
            &ok(json!({"access": {"services": {}}})),
            vec!["access.services"],
        ),
        post_peer(
            "service is a string",
            &ok(json!({"access": {"services": ["tcp/443"]}})),
            vec!["access.services[0]"],
        ),
        post_peer("tunnel is half", &ok(json!({"tunnel": "half"})), vec!["tunnel"]),
        post_peer("tunnel is a number", &ok(json!({"tunnel": 1})), vec!["tunnel"]),
        post_peer(
            "key and server_makes_key",
            &ok(json!({"server_makes_key": true})),
            vec!["server_makes_key"],
        ),
        post_peer(
            "neither key nor server_makes_key",
            &json!({"name": "bad"}),
            vec!["public_key"],
        ),
    ]
}

fn many_faults() -> Vec<Case> {
    let service = json!({"address": "nowhere", "protocol": "smtp", "port": 0});
    let body =
        json!({"name": "../x", "public_key": "?", "tunnel": "half", "access": {"services": [service]}});
    let all = vec![
        "name",
        "public_key",
        "tunnel",
        "access.services[0].address",
        "access.services[0].protocol",
        "access.services[0].port",
    ];
    let mut put = post_peer(
        "every field of an update wrong",
        &json!({"public_key": "?", "tunnel": "half", "name": "x"}),
        vec!["public_key", "tunnel", "name"],
    );
    put.method = "PUT";
    put.path = "/api/peers/anchor".into();
    vec![post_peer("six faults at once", &body, all), put]
}

fn paths() -> Vec<Case> {
    let bad = [
        "/api/peers/..%2f..%2fetc%2fpasswd",
        "/api/peers/%00",
        "/api/peers/a%0d%0aSet-Cookie:%20x=1",
        "/api/peers/%ff%fe",
        "/api/peers/../config",
        "/api/peers//anchor",
        "/api/peers/anchor/",
        "/api/./peers",
        "/api/peers/%2e%2e",
        "/api/nothing",
        "/api/peers/anchor%2fconfig",
        "/api//peers",
        "/api/peers/absent",
        "/api/peers/anchor/config/x",
        "/api/audit?from=-1",
        "/api/audit?from=x",
        "/api/audit?limit=100000000000000000000",
        "/api/audit?limit=0",
        "/api/audit?limit=1e9",
        "/api/peers/anchor/explain?destination=10.0.5.7&port=0",
        "/api/services/absent/backup",
        "/api/services/..%2f..%2fetc/backup?validate_only=true",
        "/api/services/absent/backup?validate_only=yes",
        "/api/services/absent/backup?recipient=age1x&path=/etc",
        "/api/connectivity/services/..%2fx/explain?destination=10.0.5.7",
        "/api/connectivity/services/absent/explain?destination=10.0.5.7",
        "/api/connectivity/services/absent/explain?destination=$(id)&port=99999&protocol=sctp",
        "/api/connectivity/services/absent/explain?destination=10.0.5.7&destination=10.0.5.8",
    ];
    let mut cases: Vec<Case> = bad
        .iter()
        .map(|path| Case {
            what: format!("path {path}"),
            method: "GET",
            path: (*path).into(),
            body: Vec::new(),
            content_type: "application/json",
            fields: Vec::new(),
        })
        .collect();
    for method in ["PATCH", "DELETE", "PUT", "TRACE", "PROPFIND"] {
        cases.push(Case {
            what: format!("{method} where it is not"),
            method,
            path: "/api/peers".into(),
            body: b"{}".to_vec(),
            content_type: "application/json",
            fields: Vec::new(),
        });
    }
    cases
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn bodies() -> Vec<Case> {
    let deep = "[".repeat(10_000);
    let raw: Vec<(&str, Vec<u8>, &'static str)> = vec![
        ("empty", Vec::new(), "application/json"),
        ("not JSON", b"name=laptop".to_vec(), "application/json"),
        (
            "form",
            b"name=laptop&public_key=x".to_vec(),
            "application/x-www-form-urlencoded",
        ),
        ("plain text", br#"{"name":"a"}"#.to_vec(), "text/plain"),
        (
            "multipart",
            b"--x\r\n".to_vec(),
            "multipart/form-data; boundary=x",
        ),
        ("cut short", br#"{"name": "lap"#.to_vec(), "application/json"),
        (
            "trailing data",
            br#"{"name": "a"} {"name": "b"}"#.to_vec(),
            "application/json",
        ),
        (
            "trailing comma",
            br#"{"name": "a",}"#.to_vec(),
            "application/json",
        ),
        (
            "duplicate key",
            format!(r#"{{"name": "one", "name": "two", "public_key": "{KEY}"}}"#).into_bytes(),
            "application/json",
        ),
        (
            "invalid UTF-8",
            b"{\"name\": \"\xff\xfe\"}".to_vec(),
            "application/json",
        ),
        (
            "UTF-16",
            "{\"name\":\"a\"}"
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect(),
            "application/json",
        ),
        (
            "lone surrogate",
            br#"{"name": "\ud800"}"#.to_vec(),
            "application/json",
        ),
        ("number", b"7".to_vec(), "application/json"),
        ("string", b"\"laptop\"".to_vec(), "application/json"),
        ("null", b"null".to_vec(), "application/json"),
        ("list", b"[]".to_vec(), "application/json"),
        ("NaN", br#"{"name": NaN}"#.to_vec(), "application/json"),
        (
            "comment",
            br#"{"name": "a" /* x */}"#.to_vec(),
            "application/json",
        ),
        ("10,000 brackets", deep.into_bytes(), "application/json"),
        (
            "65 KiB",
            format!(r#"{{"name": "{}"}}"#, "a".repeat(66_000)).into_bytes(),
            "application/json",
        ),
        ("5 MiB", vec![b' '; 5 * 1024 * 1024], "application/json"),
        ("NUL bytes", vec![0; 100], "application/json"),
        (
            "byte order mark",
            b"\xef\xbb\xbf{\"name\": \"a\"}".to_vec(),
            "application/json",
        ),
    ];
    raw.into_iter()
        .map(|(what, body, content_type)| Case {
            what: format!("body: {what}"),
            method: "POST",
            path: "/api/peers".into(),
            body,
            content_type,
            fields: Vec::new(),
        })
        .collect()
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn accounts() -> Vec<Case> {
    let long = "x".repeat(1025);
    let bad: Vec<(&str, &'static str, Value, Vec<&'static str>)> = vec![
        (
            "short password",
            "/api/auth/users",
            json!({"username": "bob", "password": "short", "role": "peer"}),
            vec!["password"],
        ),
        (
            "password of 1,025",
            "/api/auth/users",
            json!({"username": "bob", "password": long, "role": "peer"}),
            vec!["password"],
        ),
        (
            "username with slash",
            "/api/auth/users",
            json!({"username": "b/ob", "password": "long enough 1", "role": "peer"}),
            vec!["username"],
        ),
        (
            "empty username",
            "/api/auth/users",
            json!({"username": "", "password": "long enough 1", "role": "peer"}),
            vec!["username"],
        ),
        (
            "role root",
            "/api/auth/users",
            json!({"username": "bob", "password": "long enough 1", "role": "root"}),
            vec!["role"],
        ),
        (
            "role missing",
            "/api/auth/users",
            json!({"username": "bob", "password": "long enough 1"}),
            vec!["role"],
        ),
        (
            "three faults",
            "/api/auth/users",
            json!({"username": "\u{0}", "password": "x", "role": 1}),
            vec!["username", "password", "role"],
        ),
        (
            "unknown field",
            "/api/auth/users",
            json!({"username": "bob", "password": "long enough 1", "role": "peer", "admin": true}),
            vec!["admin"],
        ),
        (
            "reset of nobody",
            "/api/auth/admin/reset-password",
            json!({"username": "nobody", "new_password": "long enough 1"}),
            vec![],
        ),
        (
            "reset, short",
            "/api/auth/admin/reset-password",
            json!({"username": "admin", "new_password": "x"}),
            vec!["new_password"],
        ),
        (
            "change, wrong current",
            "/api/auth/change-password",
            json!({"current_password": "not it at all", "new_password": "long enough 1"}),
            vec![],
        ),
        (
            "change, short",
            "/api/auth/change-password",
            json!({"current_password": "x", "new_password": "y"}),
            vec!["new_password"],
        ),
        (
            "setup again",
            "/api/setup/step/claim",
            json!({"claim_token": "AAAA-AAAA"}),
            vec![],
        ),
        ("setup complete again", "/api/setup/complete", json!({}), vec![]),
        (
            "login, no password",
            "/api/auth/login",
            json!({"username": "admin"}),
            vec!["password"],
        ),
        (
            "login, numbers",
            "/api/auth/login",
            json!({"username": 1, "password": 2}),
            vec!["username", "password"],
        ),
    ];
    bad.into_iter()
        .map(|(what, path, body, fields)| Case {
            what: format!("account: {what}"),
            method: "POST",
            path: path.into(),
            body: body.to_string().into_bytes(),
            content_type: "application/json",
            fields,
        })
        .collect()
}

fn config() -> Vec<Case> {
    let long = "a.".repeat(200);
    let hosts = [
        " ",
        "a b",
        "http://x",
        "x:51820",
        "x/y",
        "-x.example",
        "x-.example",
        "x..example",
        "[::1]:5",
        "\n",
        "x\0",
        "exämple.org",
        "10.0.0.256",
        &long,
        "_x.example",
        "x.example;id",
    ];
    let mut cases: Vec<Case> = hosts
        .iter()
        .map(|host| Case {
            what: format!("endpoint host {:?}", &host[..host.len().min(20)]),
            method: "PUT",
            path: "/api/config".into(),
            body: json!({"endpoint_host": host}).to_string().into_bytes(),
            content_type: "application/json",
            fields: vec!["endpoint_host"],
        })
        .collect();
    for field in [
        "cell_name",
        "domain_mode",
        "vpn_range_ipv4",
        "wireguard_port",
        "colour",
    ] {
        cases.push(Case {
            what: format!("config field {field}"),
            method: "PUT",
            path: "/api/config".into(),
            body: json!({field: "x"}).to_string().into_bytes(),
            content_type: "application/json",
            fields: vec![field],
        });
    }
    cases
}

/// Imports that are none, of every type: what would run a program, what nobody could connect to, what is for another type.
#[expect(clippy::too_many_lines, reason = "a table")]
fn connections() -> Vec<Case> {
    let path = "/api/connectivity/connections";
    let post = |what: &str, kind: &str, import: Value, fields| Case {
        path: path.into(),
        ..post_peer(
            format!("connection: {what}"),
            &json!({"name": "exit", "type": kind, "import": import}),
            fields,
        )
    };
    let wireguard = format!("[Interface]\nPrivateKey = {KEY}\nAddress = 10.2.0.2/32\n");
    let runs = format!("{wireguard}PostUp = reboot\n");
    let tap = "client\ndev tap\nup /bin/sh\nplugin x.so\n";
    let twice = format!("{wireguard}[Interface]\n");
    let mut cases = vec![
        post(
            "a hook",
            "wireguard_ext",
            json!({"file": runs}),
            vec!["import.file line 4 (PostUp)"],
        ),
        post(
            "no server",
            "wireguard_ext",
            json!({"file": wireguard}),
            vec!["import.file"],
        ),
        post(
            "two interfaces",
            "wireguard_ext",
            json!({"file": twice}),
            vec!["import.file line 4"],
        ),
        post("no file", "wireguard_ext", json!({}), vec!["import.file"]),
        post(
            "NUL",
            "wireguard_ext",
            json!({"file": "[Interface]\0"}),
            vec!["import.file line 1"],
        ),
        post(
            "many lines",
            "openvpn",
            json!({"file": "\n".repeat(20_000)}),
            vec!["import.file"],
        ),
        post(
            "programs",
            "openvpn",
            json!({"file": tap, "username": "a"}),
            vec![
                "import.file line 2 (dev)",
                "import.file line 3 (up)",
                "import.file line 4 (plugin)",
                "import.password",
            ],
        ),
        post("a file", "tor", json!({"file": "x"}), vec!["import.file"]),
        post(
            "https",
            "proxy",
            json!({"url": "https://a:b@p:1"}),
            vec!["import.url"],
        ),
        post(
            "port 0",
            "proxy",
            json!({"url": "socks5://p:0"}),
            vec!["import.url.port"],
        ),
        post(
            "an option for ssh",
            "sshuttle",
            json!({"target": "-oProxyCommand=reboot@h", "private_key": "x", "host_keys": "@cert-authority *"}),
            vec!["import.target", "import.private_key", "import.host_keys line 1"],
        ),
        post("made by hand", "cell_relay", json!({}), vec!["type"]),
        post("no type of ours", "Tor\n", json!({}), vec!["type"]),
        post(
            "wrong shapes",
            "proxy",
            json!({"url": [], "x": 1}),
            vec!["import.url", "import.x"],
        ),
        post("no object", "proxy", json!("socks5://p"), vec!["import"]),
    ];
    cases.extend(exits());
    for id in ["x", "%00", "..%2f..", "00000000-0000-4000-8000-000000000000"] {
        for method in ["GET", "DELETE", "PUT"] {
            cases.push(Case {
                what: format!("connection: {method} {id}"),
                method,
                path: format!("{path}/{id}"),
                body: json!({"name": "other"}).to_string().into_bytes(),
                content_type: "application/json",
                fields: Vec::new(),
            });
        }
    }
    cases
}

/// Files of the first version that are none, hold what runs a program, or say two things at once.
fn first_version() -> Vec<Case> {
    let post = |what: &str, config: &str, fields| Case {
        path: "/api/connectivity/import".into(),
        ..post_peer(
            format!("first version: {what}"),
            &json!({"config": config}),
            fields,
        )
    };
    let hook = json!({"conf": format!("[Interface]\nPrivateKey = {KEY}\nPostUp = reboot\n")});
    let of = |exit: Value| json!({"connectivity": exit}).to_string();
    let deep = format!("{{\"connectivity\": {}", "[".repeat(20_000));
    let twice = "{\"connectivity\": {\"tor\": {}, \"tor\": {}}}";
    vec![
        post("no JSON", "{", vec!["config"]),
        post("deep", &deep, vec!["config"]),
        post("a NUL", "{\"connectivity\": {\"tor\": \"\0\"}}", vec!["config"]),
        post("no section", "{}", vec!["config"]),
        post("twice", twice, vec!["config.connectivity.tor"]),
        post(
            "a hook",
            &of(json!({"wireguard_ext": hook})),
            vec!["config.connectivity.wireguard_ext.conf line 3 (PostUp)"],
        ),
        post(
            "a vault of old",
            &of(json!({"proxy": {"host": "p", "password_ref": "x"}, "openvpn": {"profile": {"vault": "x"}}})),
            vec![
                "config.connectivity.proxy.password_ref",
                "config.connectivity.openvpn.profile.vault",
            ],
        ),
        post(
            "wrong shapes",
            &of(json!({"version": [], "exits": [7, {"type": "smoke"}], "tor": 1, "peers": "x"})),
            vec![
                "config.connectivity.version",
                "config.connectivity.exits[0]",
                "config.connectivity.exits[1].type",
                "config.connectivity.tor",
                "config.connectivity.peers",
            ],
        ),
    ]
}

/// What carries a device: to connections that are none, by values that are none.
#[expect(clippy::too_many_lines, reason = "a table")]
fn exits() -> Vec<Case> {
    let stranger = "00000000-0000-4000-8000-000000000000";
    let put = |what: &str, path: &str, body: Value, field| Case {
        what: format!("exit: {what}"),
        method: "PUT",
        path: format!("/api/connectivity/peers/anchor/{path}"),
        body: body.to_string().into_bytes(),
        content_type: "application/json",
        fields: vec![field],
    };
    let to = |id: Value| json!({"connection_id": id});
    let many = |list: Vec<&str>| json!({"connection_ids": list});
    let mut cases = vec![
        put("a stranger", "exit", to(json!(stranger)), "connection_id"),
        put("NUL", "exit", to(json!("default\0")), "connection_id"),
        put("a path", "exit", to(json!("../anchor")), "connection_id"),
        put("SQL", "exit", to(json!("' OR 1=1 --")), "connection_id"),
        put(
            "very long",
            "exit",
            to(json!("x".repeat(20_000))),
            "connection_id",
        ),
        put("a number", "exit", to(json!(7)), "connection_id"),
        put("a list", "exit", to(json!(["default"])), "connection_id"),
        put("nothing", "exit", json!({}), "connection_id"),
        put(
            "one field more",
            "exit",
            json!({"connection_id": null, "mark": 1}),
            "mark",
        ),
        put(
            "open by a text",
            "failopen",
            json!({"fail_open": "true"}),
            "fail_open",
        ),
        put(
            "open by a number",
            "failopen",
            json!({"fail_open": 1}),
            "fail_open",
        ),
        put("open by nothing", "failopen", json!({}), "fail_open"),
        put(
            "no list",
            "fallbacks",
            json!({"connection_ids": stranger}),
            "connection_ids",
        ),
        put("nine", "fallbacks", many(vec![stranger; 9]), "connection_ids"),
        put(
            "the cell's own way",
            "fallbacks",
            many(vec!["default"]),
            "connection_ids[0]",
        ),
        put(
            "a strange stand-in",
            "fallbacks",
            many(vec![stranger]),
            "connection_ids[0]",
        ),
    ];
    for (field, value) in [
        ("exit_connection_id", json!(stranger)),
        ("route_via", json!("no such")),
        ("exit_via", json!("no such")),
    ] {
        cases.push(Case {
            what: format!("exit: {field} of a change"),
            method: "PUT",
            path: "/api/peers/anchor".into(),
            body: json!({field: value}).to_string().into_bytes(),
            content_type: "application/json",
            fields: vec!["exit_connection_id"],
        });
    }
    for path in ["exit", "failopen", "fallbacks"] {
        for name in ["..%2f..", "%00", "nobody"] {
            cases.push(Case {
                what: format!("exit: {path} of {name}"),
                method: "PUT",
                path: format!("/api/connectivity/peers/{name}/{path}"),
                body: json!({"connection_id": null}).to_string().into_bytes(),
                content_type: "application/json",
                fields: Vec::new(),
            });
        }
    }
    cases
}
