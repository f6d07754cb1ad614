//! The program against a stand-in for the cell: what it sends, what it prints, how it ends.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cell_proto::api::v1::setup_step::Step;
use serde_json::{Value, json};
use support::{FakeCell, TOKEN};

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn private_key(config: &str) -> &str {
    config
        .lines()
        .find_map(|line| line.strip_prefix("PrivateKey = "))
        .unwrap()
}

/// Runs `program` with `input`; what it printed.
fn tool(program: &str, args: &[&str], input: &[u8]) -> String {
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child
        .unwrap_or_else(|error| panic!("{program}: {error}; apt-get install wireguard-tools zbar-tools"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn the_private_key_stays_here() {
    let cell = FakeCell::start();
    let config = cell.say(&["peer", "add", "laptop", "--internet"]);
    let private = private_key(&config);
    let raw = STANDARD.decode(private).unwrap();
    assert_eq!(raw.len(), 32);

    let public = cell.state.lock().unwrap().peers[0].public_key.clone();
    assert!(cell.was_sent(public.as_bytes()), "the recorder sees what is sent");
    assert!(!cell.was_sent(private.as_bytes()));
    assert!(!cell.was_sent(&raw));
    assert!(!cell.was_sent(&raw[..8]));
    // WireGuard's own tool agrees on the public half.
    assert_eq!(tool("wg", &["pubkey"], private.as_bytes()), public);
}

#[test]
fn the_configuration_goes_to_a_new_file_for_the_owner_alone() {
    let cell = FakeCell::start();
    let path = cell.dir.path().join("laptop.conf");
    let said = cell.say(&["peer", "add", "laptop", "--output", path.to_str().unwrap()]);
    let config = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(!said.contains(private_key(&config)), "{said}");

    // A file that is there is not written over, and no peer is made for it.
    let again = cell.run(&["peer", "add", "phone", "--output", path.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("nothing was added"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), config);
    assert_eq!(cell.state.lock().unwrap().peers.len(), 1);

    // A refusal leaves no file behind.
    let fresh = cell.dir.path().join("fresh.conf");
    assert_eq!(
        cell.run(&["peer", "add", "laptop", "--output", fresh.to_str().unwrap()])
            .status
            .code(),
        Some(1)
    );
    assert!(!fresh.exists());
}

#[test]
fn the_qr_code_in_the_terminal_can_be_read() {
    let cell = FakeCell::start();
    let said = cell.say(&["peer", "add", "laptop", "--internet", "--qr"]);
    let (drawn, config): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.starts_with('\x1b'));
    let config = config.join("\n") + "\n";
    assert!(
        drawn
            .iter()
            .all(|line| line.starts_with("\x1b[38;5;16;48;5;231m") && line.ends_with("\x1b[0m"))
    );
    // As a camera sees it: each character is two modules, drawn 4 pixels wide.
    let rows = drawn.iter().flat_map(|line| {
        let cells = line
            .trim_start_matches("\x1b[38;5;16;48;5;231m")
            .trim_end_matches("\x1b[0m");
        let row = |dark: [char; 2]| cells.chars().map(move |c| dark.contains(&c)).collect::<Vec<_>>();
        [row(['█', '▀']), row(['█', '▄'])]
    });
    let rows: Vec<Vec<bool>> = rows.collect();
    let (width, height) = (rows[0].len() * 4, rows.len() * 4);
    let mut image = format!("P5 {width} {height} 255\n").into_bytes();
    for row in rows.iter().flat_map(|row| std::iter::repeat_n(row, 4)) {
        image.extend(row.iter().flat_map(|dark| [if *dark { 0 } else { 255 }; 4]));
    }
    let path = cell.dir.path().join("qr.pgm");
    std::fs::write(&path, image).unwrap();
    assert_eq!(
        tool("zbarimg", &["--quiet", "--raw", path.to_str().unwrap()], b"").trim_end(),
        config.trim_end()
    );
}

#[test]
fn a_key_of_the_device_or_of_the_server_is_an_explicit_choice() {
    let cell = FakeCell::start();
    let own = cell.say(&[
        "peer",
        "add",
        "phone",
        "--public-key",
        "RUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUU=",
        "--qr",
    ]);
    assert!(own.contains("PrivateKey = \n") && !own.contains('█'), "{own}");
    let server = cell.say(&["peer", "add", "tv", "--server-key"]);
    assert!(!private_key(&server).is_empty());
    assert_eq!(
        cell.run(&["peer", "add", "x", "--server-key", "--public-key", "k"])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn json_has_the_shapes_of_the_rest_api() {
    let cell = FakeCell::start();
    let parse = |args: &[&str]| serde_json::from_str::<Value>(&cell.say(args)).unwrap();
    let mut added = parse(&[
        "--json",
        "peer",
        "add",
        "laptop",
        "--service",
        "tcp://[fd00::5]:443",
    ]);
    let key = added["peer"]["public_key"].take();
    assert_eq!(STANDARD.decode(key.as_str().unwrap()).unwrap().len(), 32);
    assert_eq!(private_key(added["config"].as_str().unwrap()).len(), 44);
    let peer = json!({
        "name": "laptop", "public_key": null, "ipv4": "10.86.0.2", "ipv6": "fd12:3456:789a::2",
        "access": {"internet": false, "peer_to_peer": false,
                   "services": [{"address": "fd00::5", "protocol": "tcp", "port": 443}]},
        "tunnel": "full", "exit_connection_id": null, "fail_open": null, "fallback_connection_ids": [],
        "config_needs_reinstall": false, "version": "v1", "way": "", "way_connection_id": null, "created_at": "2023-11-14T22:13:20Z", "activity": null,
    });
    assert_eq!(added["peer"], peer);
    assert_eq!(added["config_file"], Value::Null);
    assert_eq!(
        parse(&["peer", "list", "--json"])["peers"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        parse(&["peer", "remove", "laptop", "--json"]),
        json!({"removed": "laptop"})
    );
    assert_eq!(parse(&["peer", "list", "--json"]), json!({"peers": []}));
    let status = json!({
        "cell_name": "home", "domain_mode": "lan", "domain": "home.cell", "uptime_seconds": 3700, "version": "0.1.0",
        "generation": 3, "observed_generation": 3, "peer_count": 2, "connected_peer_count": 1,
        "daemons": [
            {"name": "broker", "reachable": true, "conditions": [{"type": "DockerReachable", "status": "false",
             "reason": "NO_SOCKET", "message": "Docker is not running"}]},
            {"name": "netd", "reachable": false, "conditions": []},
        ],
    });
    assert_eq!(parse(&["status", "--json"]), status);
    let changes = cell.say(&["status", "--watch", "--json"]);
    let generations: Vec<Value> = changes
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["generation"].take())
        .collect();
    assert_eq!(generations, [json!(3), json!(4)]);
}

#[test]
fn people_get_tables() {
    let cell = FakeCell::start();
    cell.say(&[
        "peer",
        "add",
        "laptop",
        "--internet",
        "--peer-to-peer",
        "--service",
        "udp://10.0.0.9:53",
    ]);
    let listed = cell.say(&["peer", "list"]);
    assert!(
        listed.starts_with("NAME") && listed.contains("internet, peers, 1 service"),
        "{listed}"
    );
    assert!(
        listed.contains("unknown"),
        "an absent activity is unknown, not off: {listed}"
    );
    let status = cell.say(&["status"]);
    for part in [
        "home (home.cell, lan)",
        "up 1 h 1 min",
        "NOT REACHABLE",
        "DockerReachable: false",
        "NO_SOCKET",
    ] {
        assert!(status.contains(part), "{part} in {status}");
    }
}

#[test]
fn set_keeps_what_is_not_named() {
    let cell = FakeCell::start();
    cell.say(&[
        "peer",
        "add",
        "laptop",
        "--internet",
        "--service",
        "tcp://10.0.0.9:80",
    ]);
    cell.say(&[
        "peer",
        "set",
        "laptop",
        "--peer-to-peer",
        "yes",
        "--add-service",
        "tcp://10.0.0.9:443",
    ]);
    cell.say(&[
        "peer",
        "set",
        "laptop",
        "--internet",
        "no",
        "--remove-service",
        "tcp://10.0.0.9:80",
    ]);
    let access = cell.state.lock().unwrap().peers[0].access.clone().unwrap();
    assert_eq!((access.internet, access.peer_to_peer), (false, true));
    assert_eq!(access.services.iter().map(|s| s.port).collect::<Vec<_>>(), [443]);
    assert_eq!(cell.state.lock().unwrap().confirm_within, 0);
    let set = ["peer", "set", "laptop", "--tunnel", "split", "--confirm-within"];
    let output = cell.run(&[&set[..], &["60"]].concat());
    assert!(
        stderr(&output).contains("cellctl change confirm"),
        "{}",
        stderr(&output)
    );
    assert_eq!(cell.state.lock().unwrap().confirm_within, 60);
    for wrong in ["4", "3601"] {
        assert_eq!(cell.run(&[&set[..], &[wrong]].concat()).status.code(), Some(2));
    }
    assert_eq!(cell.run(&["peer", "set", "laptop"]).status.code(), Some(2));
    assert_eq!(
        cell.run(&["peer", "set", "laptop", "--remove-service", "tcp://10.0.0.9:80"])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn setup_runs_without_a_terminal_when_all_is_given() {
    let cell = FakeCell::start();
    let folder = cell.dir.path().join("lib/api");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("claim-token"), format!("{TOKEN}\n")).unwrap();
    assert!(cell.say(&["setup", "token"]).starts_with(TOKEN));
    assert!(cell.say(&["setup", "status"]).contains("cellctl setup claim"));

    let given = [
        "setup",
        "run",
        "--name",
        "home",
        "--range",
        "10.86.0.0/24",
        "--admin",
        "ada",
        "--password-file",
        "-",
    ];
    let output = cell.run_with(&given, "correct horse battery\nnot this\n");
    assert!(output.status.success(), "{}", stderr(&output));
    let state = cell.state.lock().unwrap();
    assert!(state.complete);
    let [
        Step::Claim(claim),
        Step::Identity(_),
        Step::Network(network),
        Step::Admin(admin),
    ] = state.steps.as_slice()
    else {
        panic!("{} steps", state.steps.len());
    };
    assert_eq!(
        (claim.claim_token.as_str(), network.vpn_range_ipv4.as_str()),
        (TOKEN, "10.86.0.0/24")
    );
    assert_eq!(
        (admin.username.as_str(), admin.password.as_str()),
        ("ada", "correct horse battery")
    );
}

#[test]
fn setup_names_every_gap_and_sends_nothing() {
    let cell = FakeCell::start();
    let output = cell.run(&["setup", "run", "--name", "home"]);
    assert_eq!(output.status.code(), Some(2));
    for option in ["--range", "--admin", "--password-file"] {
        assert!(stderr(&output).contains(option), "{}", stderr(&output));
    }
    assert!(cell.state.lock().unwrap().steps.is_empty());
}

#[test]
fn a_refusal_names_every_fault_and_what_to_do_next() {
    let cell = FakeCell::start();
    let token = cell.dir.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let token = token.to_str().unwrap();
    let output = cell.run(&["setup", "network", "8.8.8.0/24", "--claim-token-file", token]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(
        said.contains("vpn_range_ipv4: is not a private range") && said.contains("endpoint_host: "),
        "{said}"
    );

    let output = cell.run(&[
        "--json",
        "setup",
        "network",
        "8.8.8.0/24",
        "--claim-token-file",
        token,
    ]);
    let document: Value = serde_json::from_str(&stderr(&output)).unwrap();
    let expected = json!({"error": {"code": "INVALID", "message": "the step has faults", "violations": [
        {"field": "vpn_range_ipv4", "description": "is not a private range"},
        {"field": "endpoint_host", "description": "is not a host name"},
    ]}});
    assert_eq!(document, expected);
    assert!(output.stdout.is_empty());

    cell.say(&["peer", "add", "laptop"]);
    let output = cell.run(&["peer", "add", "laptop"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cellctl peer remove"));
}

#[test]
fn explain_says_what_becomes_of_a_packet_and_why() {
    let cell = FakeCell::start();
    let passes = cell.say(&["explain", "laptop", "10.0.5.7:443"]);
    for words in [
        "laptop (10.86.0.2) to 10.0.5.7:443: passes, because the service is granted.",
        "with the machine's own address",
        "  c_forward rule 3: jump c_from_peer",
        "exit is mullvad (6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5b): mark 0x1000, table 1000, interface wgext_6f1d2c3a.",
    ] {
        assert!(passes.contains(words), "{words}\n{passes}");
    }
    let dropped = cell.say(&["explain", "laptop", "[fd00::7]:443", "--udp"]);
    assert!(dropped.contains("is dropped") && dropped.contains("Counted as from_peer_default."));
    let json: serde_json::Value =
        serde_json::from_str(&cell.say(&["--json", "explain", "laptop", "10.0.5.7"])).unwrap();
    assert_eq!(
        (&json["passes"], &json["translated_to"]),
        (&false.into(), &serde_json::Value::Null)
    );
    let nobody = cell.run(&["explain", "nobody", "10.0.5.7"]);
    assert_ne!(nobody.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("there is no such peer"));
}

#[test]
fn a_broken_audit_chain_is_a_failure() {
    let cell = FakeCell::start();
    assert_eq!(
        cell.say(&["audit", "verify"]).trim(),
        "Intact: 9 records and 2 anchors checked."
    );
    cell.state.lock().unwrap().broken_audit = true;
    let output = cell.run(&["audit", "verify"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("BROKEN from record 7 on"));
}

#[test]
fn a_cell_that_is_not_there_has_its_own_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let run = |socket: &std::path::Path| {
        Command::new(env!("CARGO_BIN_EXE_cellctl"))
            .arg("status")
            .arg("--socket")
            .arg(socket)
            .output()
            .unwrap()
    };
    let absent = run(&dir.path().join("api.sock"));
    assert_eq!(absent.status.code(), Some(3));
    assert!(stderr(&absent).contains("make run"));
    let dead = dir.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    assert_eq!(run(&dead).status.code(), Some(3));
    // One that accepts and hangs up at once.
    let mute = dir.path().join("mute.sock");
    let listener = std::os::unix::net::UnixListener::bind(&mute).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    // When it hangs up is a matter of luck, and so what it breaks.
    for _ in 0..20 {
        let output = run(&mute);
        assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    }
}

#[test]
fn a_forgotten_password_is_reset_from_a_file_or_standard_input() {
    let cell = FakeCell::start();
    let path = cell.dir.path().join("password");
    std::fs::write(&path, "a new password\n").unwrap();
    let said = cell.say(&[
        "user",
        "reset-password",
        "anna",
        "--password-file",
        path.to_str().unwrap(),
    ]);
    assert!(
        said.contains("anna can log in") && !said.contains("a new password"),
        "{said}"
    );
    let output = cell.run_with(
        &["--json", "user", "reset-password", "anna", "--password-file", "-"],
        "another password\n",
    );
    assert!(output.status.success());
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).unwrap(),
        json!({"reset": "anna"})
    );
    let pair = |password: &str| ("anna".to_owned(), password.to_owned());
    let expected = [pair("a new password"), pair("another password")];
    assert_eq!(cell.state.lock().unwrap().passwords, expected);
    // There is no terminal here: then it is not guessed.
    let asked = cell.run(&["user", "reset-password", "anna"]);
    assert_eq!(asked.status.code(), Some(2));
    let unknown = cell.run(&[
        "user",
        "reset-password",
        "eve",
        "--password-file",
        path.to_str().unwrap(),
    ]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("cellctl user list"));
}

#[test]
fn users_are_listed_with_what_needs_attention() {
    let cell = FakeCell::start();
    let said = cell.say(&["user", "list"]);
    assert!(
        said.contains("anna") && said.contains("locked until 2023-11-14T22:13:20Z"),
        "{said}"
    );
    assert!(said.contains("must change the password"), "{said}");
    let document: Value = serde_json::from_str(&cell.say(&["user", "list", "--json"])).unwrap();
    let expected = json!({"users": [
        {"username": "anna", "role": "admin", "must_change_password": false, "locked_until": "2023-11-14T22:13:20Z"},
        {"username": "ben", "role": "peer", "must_change_password": true, "locked_until": null},
    ]});
    assert_eq!(document, expected);
}

#[test]
fn a_change_by_somebody_else_in_between_is_not_undone() {
    let cell = FakeCell::start();
    cell.say(&["peer", "add", "laptop", "--internet"]);
    cell.state.lock().unwrap().changed_meanwhile = Some(cell_proto::api::v1::PeerAccess::default());
    let output = cell.run(&["peer", "set", "laptop", "--peer-to-peer", "yes"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("changed meanwhile"),
        "{}",
        stderr(&output)
    );
    let access = cell.state.lock().unwrap().peers[0].access.clone().unwrap();
    assert!(!access.internet, "what was taken away stays away");
    cell.say(&["peer", "set", "laptop", "--peer-to-peer", "yes"]);
    let access = cell.state.lock().unwrap().peers[0].access.clone().unwrap();
    assert!(access.peer_to_peer && !access.internet);
}

#[test]
fn a_configuration_is_read_again_and_delivered_only_when_asked() {
    let cell = FakeCell::start();
    cell.say(&["peer", "add", "laptop"]);
    let said = cell.say(&["peer", "config", "laptop"]);
    assert_eq!(said, "# laptop\nPrivateKey = \n");
    assert!(cell.state.lock().unwrap().delivered.is_empty());
    let document: Value =
        serde_json::from_str(&cell.say(&["peer", "config", "laptop", "--delivered", "--json"])).unwrap();
    assert_eq!(document, json!({"config": "# laptop\nPrivateKey = \n"}));
    assert_eq!(cell.state.lock().unwrap().delivered, ["laptop"]);
}
