#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::connection::config::InvalidConfig;

const KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINX5727K9nGitSTLUvW7FEObhgvDtquLmlfFyQnsRMyO";

fn text(text: &str) -> Option<Zeroizing<String>> {
    Some(Zeroizing::new(text.to_owned()))
}

fn wireguard() -> String {
    format!(
        "[Interface]\nPrivateKey = {KEY}\nAddress = 10.2.0.2/32\nDNS = 10.2.0.1\n\n[Peer]\n\
         PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nAllowedIPs = 0.0.0.0/0\n\
         Endpoint = vpn.example.org:51820\n"
    )
}

fn openvpn(more: &str) -> String {
    let pem = |label| format!("-----BEGIN {label}-----\nTUlJQg==\n-----END {label}-----\n");
    let (certificate, key) = (pem("CERTIFICATE"), pem("PRIVATE KEY"));
    format!(
        "client\ndev tun\nremote vpn.example.org 443 tcp-client\n{more}\n<ca>\n{certificate}</ca>\n\
         <cert>\n{certificate}</cert>\n<key>\n{key}</key>\n"
    )
}

fn ssh_key() -> String {
    use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey};
    let pair = Ed25519Keypair {
        public: ssh_key::public::Ed25519PublicKey([7; 32]),
        private: Ed25519PrivateKey::from_bytes(&[8; 32]),
    };
    let key = ssh_key::PrivateKey::from(pair);
    key.to_openssh(ssh_key::LineEnding::LF).unwrap().to_string()
}

fn input(kind: &str, import: ImportInput) -> ConnectionInput {
    ConnectionInput {
        name: "exit".to_owned(),
        kind: kind.to_owned(),
        import,
    }
}

/// One good input of each type that can be made by hand, with the fields that its secrets have at the vault.
fn good() -> Vec<(ConnectionInput, Kind, Vec<&'static str>)> {
    let file = |file: String| ImportInput {
        file: text(&file),
        ..ImportInput::default()
    };
    let asks = ImportInput {
        username: text("anna"),
        password: text("hunter2"),
        ..file(openvpn("auth-user-pass"))
    };
    let ssh = ImportInput {
        target: text("anna@box.example.org"),
        private_key: text(&ssh_key()),
        host_keys: text(HOST_KEY),
        ..ImportInput::default()
    };
    let proxy = ImportInput {
        url: text("socks5://anna:hunter2@proxy.example.org"),
        ..ImportInput::default()
    };
    vec![
        (
            input("wireguard_ext", file(wireguard())),
            Kind::WireguardExt,
            vec!["wireguard_key"],
        ),
        (input("openvpn", file(openvpn(""))), Kind::Openvpn, vec!["key"]),
        (
            input("openvpn", asks),
            Kind::Openvpn,
            vec!["openvpn_username", "openvpn_password", "key"],
        ),
        (input("tor", ImportInput::default()), Kind::Tor, vec![]),
        (input("sshuttle", ssh), Kind::Sshuttle, vec!["private_key"]),
        (input("proxy", proxy), Kind::Proxy, vec!["password"]),
    ]
}

fn places(result: Result<NewConnection, Faults>) -> Vec<String> {
    let faults = result.unwrap_err();
    faults.violations().iter().map(|v| v.field.clone()).collect()
}

#[test]
fn each_type_is_read_and_its_stored_form_reads_back_without_a_secret() {
    for (input, kind, fields) in good() {
        let new = input.check().unwrap();
        let config = new.imported.config;
        let secrets = new.imported.secrets;
        assert_eq!(config.kind(), kind);
        assert_eq!(
            secrets.iter().map(|s| s.field.as_str()).collect::<Vec<_>>(),
            fields
        );
        let stored = config.to_json().unwrap();
        assert!(stored.contains(&format!("\"type\":\"{kind}\"")), "{stored}");
        for secret in &secrets {
            // A user name of an OpenVPN profile is short enough to be found by chance.
            let value = secret.value.trim();
            assert!(
                value == "anna" || !stored.contains(value),
                "{}: {stored}",
                secret.field
            );
        }
        assert_eq!(Config::from_json(&stored), Ok(config.clone()));
        let has_servers = !config.shown().servers.is_empty();
        assert_eq!(has_servers, kind != Kind::Tor, "{kind}");
    }
    assert_eq!(
        Config::from_json(&Config::CellRelay.to_json().unwrap()),
        Ok(Config::CellRelay)
    );
}

#[test]
fn stored_text_that_no_import_made_is_refused() {
    let (input, ..) = good().swap_remove(0);
    let stored = input.check().unwrap().imported.config.to_json().unwrap();
    assert!(Config::from_json(&stored).is_ok());
    for (from, to) in [
        ("vpn.example.org", "not a host"),
        ("51820", "70000"),
        ("wireguard_ext", "wireguard"),
        ("\"mtu\"", "\"table\""),
        ("xTIBA", "!!!!!"),
    ] {
        let bad = stored.replacen(from, to, 1);
        assert_ne!(bad, stored);
        assert_eq!(Config::from_json(&bad), Err(InvalidConfig), "{bad}");
    }
}

#[test]
fn every_fault_is_named_at_once_and_no_secret_repeated() {
    let post_up = format!(
        "{}PostUp = curl hunter2\n",
        wireguard().replace("\n\n[Peer]", "\nPostUp = hunter2\nFoo = 1\n\n[Peer]")
    );
    let import = ImportInput {
        file: text(&post_up),
        url: text("socks5://a:hunter2@p"),
        ..ImportInput::default()
    };
    let bad = ConnectionInput {
        name: "no name".to_owned(),
        ..input("wireguard_ext", import)
    };
    let faults = bad.check().unwrap_err();
    assert!(!faults.to_string().contains("hunter2"), "{faults}");
    let places: Vec<_> = faults.violations().iter().map(|v| v.field.as_str()).collect();
    assert_eq!(
        places,
        [
            "name",
            "import.url",
            "import.file line 5 (PostUp)",
            "import.file line 6 (unknown key)",
            "import.file line 12 (PostUp)"
        ]
    );
}

#[test]
fn what_a_type_needs_is_asked_for_and_what_it_does_not_take_is_refused() {
    let empty = ImportInput::default;
    for (kind, wanted) in [
        ("wireguard_ext", &["import.file"][..]),
        ("openvpn", &["import.file"]),
        ("proxy", &["import.url"]),
        (
            "sshuttle",
            &["import.target", "import.private_key", "import.host_keys"],
        ),
        ("cell_relay", &["type"]),
        ("vpn", &["type"]),
    ] {
        let found = places(input(kind, empty()).check());
        for place in wanted {
            assert!(found.iter().any(|field| field == place), "{kind}: {found:?}");
        }
    }
    let file = ImportInput {
        file: text("x"),
        ..empty()
    };
    assert_eq!(places(input("tor", file).check()), ["import.file"]);
    let half = ImportInput {
        file: text(&openvpn("auth-user-pass")),
        username: text("anna"),
        ..empty()
    };
    assert!(places(input("openvpn", half).check()).contains(&"import.password".to_owned()));
    let unasked = ImportInput {
        file: text(&openvpn("")),
        username: text("anna"),
        password: text("hunter2"),
        ..empty()
    };
    assert_eq!(places(input("openvpn", unasked).check()), ["import.username"]);
}

#[test]
fn a_change_names_something_and_is_read_for_the_type_there_is() {
    let nothing = ConnectionUpdateInput::default();
    assert_eq!(nothing.faults().violations().len(), 1);
    assert!(nothing.check(Kind::Tor).is_err());
    let (input, ..) = good().pop().unwrap();
    let update = ConnectionUpdateInput {
        name: Some("other".to_owned()),
        import: Some(input.import),
    };
    let read = update.check(Kind::Proxy).unwrap();
    assert_eq!(read.name.unwrap().as_str(), "other");
    assert_eq!(read.imported.unwrap().config.kind(), Kind::Proxy);
    let other_type = update.check(Kind::WireguardExt).unwrap_err();
    assert!(other_type.to_string().contains("import.url"), "{other_type}");
}
