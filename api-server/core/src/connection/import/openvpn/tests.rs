#![allow(clippy::unwrap_used, reason = "tests")]
use proptest::prelude::*;

use super::*;

fn pem(label: &str) -> String {
    format!("-----BEGIN {label}-----\nTUlJQg==\n-----END {label}-----\n")
}

fn profile(more: &str) -> String {
    let (certificate, key, tls) = (
        pem("CERTIFICATE"),
        pem("PRIVATE KEY"),
        pem("OpenVPN Static key V1"),
    );
    format!(
        "# a provider's\nclient\ndev tun\nproto udp\nremote vpn.example.org 1194\nremote 192.0.2.7 443 tcp-client\n\
         cipher AES-256-GCM\nremote-cert-tls server\nverb 3\nredirect-gateway def1\n{more}\n\
         <ca>\n{certificate}</ca>\n<cert>\n{certificate}</cert>\n<key>\n{key}</key>\n<tls-crypt>\n{tls}</tls-crypt>\n"
    )
}

fn fault(text: &str) -> String {
    read(text, None).unwrap_err().to_string()
}

/// Host, port, and whether by TCP, of each server.
fn remotes_of(config: &OpenvpnExit) -> Vec<(String, u16, bool)> {
    let remotes = config.remotes.iter();
    remotes
        .map(|remote| (remote.host.to_string(), remote.port, remote.tcp))
        .collect()
}

#[test]
fn a_providers_profile_is_read() {
    let imported = read(
        &profile("--auth \"SHA512\"  ; why not\nverify-x509-name 'a server' name"),
        None,
    )
    .unwrap();
    let config = imported.config;
    let remotes = remotes_of(&config);
    assert_eq!(
        remotes,
        [
            ("vpn.example.org".to_owned(), 1194, false),
            ("192.0.2.7".to_owned(), 443, true)
        ]
    );
    assert!(config.options.contains(&vec![
        "verify-x509-name".to_owned(),
        "a server".to_owned(),
        "name".to_owned()
    ]));
    assert_eq!(config.certificates.len(), 2);
    assert_eq!(config.sealed, ["key", "tls-crypt"]);
    let fields: Vec<&str> = imported
        .secrets
        .iter()
        .map(|secret| secret.field.as_str())
        .collect();
    assert_eq!(fields, ["key", "tls_crypt"]);
    assert_eq!(imported.notes.len(), 2, "{:?}", imported.notes);
    assert!(!config.user_password);
}

#[test]
fn what_runs_a_program_or_touches_the_cell_is_refused_by_its_line() {
    for directive in [
        "up /bin/sh",
        "down x",
        "route-up x",
        "route-pre-down x",
        "ipchange x",
        "tls-verify x",
        "auth-user-pass-verify x via-env",
        "client-connect x",
        "client-disconnect x",
        "learn-address x",
        "plugin /tmp/a.so",
        "iproute /tmp/ip",
        "engine dynamic",
        "management 127.0.0.1 7505",
        "config /etc/passwd",
        "cd /",
        "chroot /",
        "log /etc/shadow",
        "status x",
        "writepid x",
        "ca /etc/passwd",
        "key k",
        "tls-auth ta.key 1",
        "askpass f",
        "auth-user-pass creds.txt",
        "http-proxy p 1",
        "server 10.8.0.0 255.0.0.0",
        "dev tap",
        "\"up\" x",
        "--up x",
        "  \tup\tx",
        "dev-node /dev/mem",
        "compress lzo",
        "tls-crypt-v2-verify x",
        "pkcs11-providers x.so",
        "unheard-of",
        "</connection>",
        "<up>",
        "u\\p x",
        "'up' 'x'",
    ] {
        let said = fault(&profile(directive));
        assert!(said.starts_with("line 11"), "{directive}: {said}");
    }
}

#[test]
fn a_user_and_password_come_from_the_block_or_the_caller() {
    let asks = profile("auth-user-pass");
    assert!(fault(&asks).starts_with("username: "));
    let values = |imported: &Imported<OpenvpnExit>| -> Vec<(String, String)> {
        let users = imported
            .secrets
            .iter()
            .filter(|s| s.field.starts_with("openvpn_"));
        users.map(|s| (s.field.clone(), s.value.to_string())).collect()
    };
    let expected = [
        (SEALED_USERNAME.to_owned(), "anna".to_owned()),
        (SEALED_PASSWORD.to_owned(), "hunter2".to_owned()),
    ];
    assert_eq!(values(&read(&asks, Some(("anna", "hunter2"))).unwrap()), expected);
    let inline = profile("<auth-user-pass>\nanna\nhunter2\n</auth-user-pass>");
    let imported = read(&inline, None).unwrap();
    assert_eq!(values(&imported), expected);
    assert!(imported.config.user_password && !imported.config.sealed.contains(&"auth-user-pass".to_owned()));
    assert!(!format!("{imported:?}").contains("hunter2"));
}

#[test]
fn what_is_missing_is_named_at_once() {
    let said = fault("verb 3\n");
    for what in [
        "client is missing",
        "dev tun is missing",
        "remote, the server",
        "<ca>",
        "neither <cert>",
    ] {
        assert!(said.contains(what), "{what}: {said}");
    }
}

#[test]
fn a_block_holds_what_it_is_for_and_ends() {
    for (more, why) in [
        ("<extra-certs>\nhello\n</extra-certs>", "certificates in PEM"),
        (
            "<tls-auth>\n-----BEGIN CERTIFICATE-----\nTQ==\n-----END CERTIFICATE-----\n</tls-auth>",
            "as OpenVPN writes it",
        ),
        (
            "<extra-certs>\n-----BEGIN CERTIFICATE-----\n<up>\n-----END CERTIFICATE-----\n</extra-certs>",
            "certificates in PEM",
        ),
        ("<tls-auth>\n", "does not end"),
    ] {
        let said = fault(&profile(more));
        assert!(said.contains(why), "{more}: {said}");
    }
    let twice = profile(&format!("<ca>\n{}</ca>", pem("CERTIFICATE")));
    assert!(fault(&twice).contains("second <ca>"));
}

#[test]
fn a_profile_is_bounded() {
    assert!(fault(&"#\n".repeat(MAX)).contains("128 KiB"));
    assert!(fault(&profile(&"remote h 1\n".repeat(70))).contains("more than 64 servers"));
    assert!(fault(&profile("auth a b c d e f g h i j")).contains("fewer words"));
    assert!(fault(&profile("auth \"SHA")).contains("quotes"));
    assert!(fault(&profile("auth SHA\\")).contains("backslash"));
}

/// Shaped as providers' of some years: what OpenVPN has taken away since, servers in blocks of their own, and a list of what is
/// revoked.
#[test]
fn an_older_providers_profile_is_read() {
    let more = format!(
        "ns-cert-type server\nkeysize 256\ntun-mtu-extra 32\ndisable-occ\ncomp-noadapt\nremote-random-hostname\n\
         route-ipv6-gateway ::1\ntxqueuelen 1000\nmtu-disc yes\ninactive 3600\ndisable-dco\n\
         <connection>\n# first\nremote nl.example.org\nport 8080\nproto tcp\nnobind\n</connection>\n\
         <connection>\nremote de.example.org 1195 udp\n</connection>\n\
         <crl-verify>\n{}</crl-verify>",
        pem("X509 CRL")
    );
    let imported = read(&profile(&more), None).unwrap();
    let config = imported.config;
    let remotes = remotes_of(&config);
    assert_eq!(
        remotes[2..],
        [
            ("nl.example.org".to_owned(), 8080, true),
            ("de.example.org".to_owned(), 1195, false)
        ]
    );
    let checks = vec!["remote-cert-tls".to_owned(), "server".to_owned()];
    assert_eq!(config.options.iter().filter(|words| **words == checks).count(), 1);
    assert!(config.certificates.iter().any(|(block, _)| block == "crl-verify"));
    for name in [
        "keysize",
        "tun-mtu-extra",
        "disable-occ",
        "comp-noadapt",
        "inactive",
        "disable-dco",
        "nobind",
    ] {
        assert!(
            imported
                .notes
                .iter()
                .any(|note| note.starts_with(&format!("{name} is not used"))),
            "{name}"
        );
    }
    assert!(
        !config
            .options
            .iter()
            .any(|words| words[0] == "keysize" || words[0] == "nobind")
    );
}

#[test]
fn a_block_of_a_server_is_no_way_around() {
    for (more, why) in [
        (
            "<connection>\nremote a.example.org\nup /bin/sh\n</connection>",
            "line 13 (up)",
        ),
        (
            "<connection>\nremote a.example.org\n<connection>\n</connection>",
            "within <connection>",
        ),
        ("<connection>\n<ca>\n</connection>", "within <connection>"),
        ("<connection>\nproto udp\n</connection>", "without a remote"),
        ("<connection>\nremote a.example.org", "within <connection>"),
        (
            "<connection>\nremote a.example.org\nproto icmp\n</connection>",
            "must be udp",
        ),
        ("</connection>", "does not begin"),
        ("ns-cert-type client", "must be server"),
        (
            "<crl-verify>\n-----BEGIN CERTIFICATE-----\nTQ==\n-----END CERTIFICATE-----\n</crl-verify>",
            "revoked",
        ),
        ("crl-verify /etc/passwd", "file of the cell"),
    ] {
        let said = fault(&profile(more));
        assert!(said.contains(why), "{more}: {said}");
    }
    let end = profile("").replace(
        "</tls-crypt>\n",
        "</tls-crypt>\n<connection>\nremote a.example.org\n",
    );
    assert!(fault(&end).contains("does not end"));
    let many = "<connection>\nremote h 1\n</connection>\n".repeat(70);
    assert!(fault(&profile(&many)).contains("more than 64 servers"));
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "((client|dev|remote|up|<ca>|</ca>|[a-z-]{0,10}|\\PC{0,12})[ \"'\\\\]{0,2}|\n){0,60}") {
        prop_assert!(read(&text, None).is_err());
    }

    /// Whatever is put into a good profile: if it is taken, nothing of it is a directive that the table does not keep.
    #[test]
    fn only_what_is_kept_gets_through(line in "[a-z\"'\\\\ #;<>/-]{0,24}") {
        if let Ok(imported) = read(&profile(&line), None) {
            for option in &imported.config.options {
                let kept = directive::rule(&option[0]).map(|(_, rule)| matches!(rule, Rule::Keep(..)));
                prop_assert_eq!(kept, Some(true), "{:?}", option);
            }
        }
    }
}
