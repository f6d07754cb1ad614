#![allow(clippy::unwrap_used, reason = "tests")]
use proptest::prelude::*;

use super::*;

const KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const PUBLIC: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

fn file(more_interface: &str, more_peer: &str) -> String {
    format!(
        "[Interface]\nPrivateKey = {KEY}\nAddress = 10.2.0.2/32, fd00::2\n{more_interface}\n\n\
         [Peer] # the server\nPublicKey={PUBLIC}\nAllowedIPs = 0.0.0.0/0,::/0\nEndpoint = vpn.example.org:51820\n{more_peer}\n"
    )
}

fn faults(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn a_providers_file_is_read() {
    let more = "DNS = 10.2.0.1, corp.example\nMTU = 1380\nListenPort = 7\nTable = off\nFwMark = 0x10\nSaveConfig = true";
    let imported = read(&file(
        more,
        &format!("PresharedKey = {KEY}\nPersistentKeepalive = 25"),
    ))
    .unwrap();
    let config = &imported.config;
    assert_eq!(
        config.addresses,
        ["10.2.0.2/32".parse().unwrap(), "fd00::2/128".parse().unwrap()]
    );
    assert_eq!(config.resolvers, ["10.2.0.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(config.mtu, Some(1380));
    let peer = &config.peers[0];
    assert_eq!(
        (peer.host.to_string(), peer.port),
        ("vpn.example.org".to_owned(), 51820)
    );
    assert_eq!(
        (peer.keepalive_seconds, peer.preshared_key, peer.allowed_ips.len()),
        (25, true, 2)
    );
    let fields: Vec<&str> = imported
        .secrets
        .iter()
        .map(|secret| secret.field.as_str())
        .collect();
    assert_eq!(fields, ["wireguard_key", "preshared_key_1"]);
    assert!(imported.secrets.iter().all(|secret| secret.value.as_str() == KEY));
    assert_eq!(imported.notes.len(), 5, "{:?}", imported.notes);
    assert!(!format!("{imported:?}").contains(KEY), "a secret is shown");
}

#[test]
fn what_runs_a_program_is_refused_by_its_line() {
    for key in ["PreUp", "PostUp", "PreDown", "PostDown", "postup", "POSTUP"] {
        let said = faults(&file(&format!("{key} = iptables -A FORWARD -j ACCEPT"), ""));
        assert!(said.starts_with("line 4 (P"), "{said}");
        assert!(said.contains("runs a program"), "{said}");
        assert!(!said.contains("iptables"), "what was sent is repeated: {said}");
    }
}

#[test]
fn every_fault_is_named_at_once() {
    let said = faults(&format!(
        "[Interface]\nPrivateKey = short\nAddress = 10.2.0.2/33\nMTU = 70000\nColour = blue\n[Peer]\nPublicKey = {KEY}x\n\
         Endpoint = 2001:db8::1:51820\nAllowedIPs = all\nPersistentKeepalive = +5\nnonsense\n[Other]\n"
    ));
    for place in [
        "line 2 (PrivateKey)",
        "line 3 (Address)",
        "line 4 (MTU)",
        "line 5 (unknown key)",
        "line 7 (PublicKey)",
        "line 8 (Endpoint)",
        "line 9 (AllowedIPs)",
        "line 10 (PersistentKeepalive)",
        "line 11:",
        "line 12:",
    ] {
        assert!(said.contains(place), "{place}: {said}");
    }
    assert!(!said.contains("blue") && !said.contains("nonsense"), "{said}");
}

#[test]
fn what_is_missing_is_named() {
    assert!(faults("").contains("PrivateKey is missing"));
    assert!(
        faults(&format!("[Interface]\nPrivateKey={KEY}\nAddress=10.0.0.2\n"))
            .contains("[Peer], the server, is missing")
    );
    let said = faults(&format!(
        "[Interface]\nPrivateKey={KEY}\nAddress=10.0.0.2\n[Peer]\nPublicKey={PUBLIC}\nAllowedIPs=::/0\n"
    ));
    assert_eq!(said, "[Peer] of line 4: Endpoint is missing");
    let twice = file(
        "",
        &format!("[Peer]\nPublicKey={PUBLIC}\nAllowedIPs=::/0\nEndpoint=192.0.2.1:1"),
    );
    assert!(faults(&twice).contains("same PublicKey"));
}

#[test]
fn a_file_is_bounded() {
    assert!(faults(&"#".repeat(MAX + 1)).contains("64 KiB"));
    assert!(faults(&"\n".repeat(5000)).contains("4096 lines"));
    assert!(faults(&file(&format!("DNS = {}", "1".repeat(5000)), "")).contains("line 4"));
    assert!(faults(&file("DNS = 1.1.1.1\0", "")).contains("control"));
    let many = ["10.0.0.1"; ADDRESSES + 1].join(",");
    assert!(faults(&file(&format!("Address = {many}"), "")).contains("more than 8"));
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "(\\[(Interface|Peer|x)\\]|[A-Za-z]{0,12} ?= ?[ -~]{0,24}|\\PC{0,24}|\n){0,60}") {
        let _ = read(&text);
    }

    #[test]
    fn lines_of_a_real_file_in_any_order_are_answered(order in prop::collection::vec(0_usize..12, 0..40)) {
        let text = file("DNS = 1.1.1.1\nPostUp = x", "PresharedKey = z");
        let lines: Vec<&str> = text.lines().collect();
        let mixed: Vec<&str> = order.into_iter().filter_map(|at| lines.get(at).copied()).collect();
        if let Ok(imported) = read(&mixed.join("\n")) {
            prop_assert!(!imported.config.peers.is_empty() && !imported.config.addresses.is_empty());
            prop_assert!(!mixed.iter().any(|line| line.starts_with("PostUp")));
        }
    }
}
