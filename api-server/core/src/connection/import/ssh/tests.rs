#![allow(clippy::unwrap_used, reason = "tests")]
use proptest::prelude::*;
use ssh_key::LineEnding;
use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey};
use ssh_key::public::Ed25519PublicKey;

use super::*;

const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINX5727K9nGitSTLUvW7FEObhgvDtquLmlfFyQnsRMyO";
/// A key that was made for this test and sealed with a passphrase nobody knows.
const SEALED: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABC3RHARd1
tyyzb+Jcc+XU9QAAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIF7cIuF7fQLh87Rd
+41KrI1sqa5/l+c3mwHstGAxePwxAAAAkNhG7iasjkYhFVrbFC38c/1c2vT/VOoyQv5LNR
Z9PXyFPKxRm+JBKWKjh593t0MqiocvqEtFhWpztvQTd1mg6Xy8RJdOfCt/dVefkoERD991
XCIJ4fS3Wr/U0jCSPg0yvShysRA866jnH3SWnPnDXRTxmDPNa7Zl/Vm0qgeyTkLbTlBX9l
lxPBMwe9LefSHWWA==
-----END OPENSSH PRIVATE KEY-----
";

fn private_key() -> String {
    let public = Ed25519PublicKey([7; 32]);
    let pair = Ed25519Keypair {
        public,
        private: Ed25519PrivateKey::from_bytes(&[8; 32]),
    };
    PrivateKey::from(pair)
        .to_openssh(LineEnding::LF)
        .unwrap()
        .to_string()
}

fn fault(target: &str, key: &str, host_keys: &str) -> String {
    read(target, key, host_keys).unwrap_err().to_string()
}

#[test]
fn targets_that_people_have_are_read() {
    for (text, user, host, port) in [
        ("anna@box.example.org", "anna", "box.example.org", 22),
        ("ssh://anna@Box.Example.Org:2222", "anna", "box.example.org", 2222),
        ("a.b-c_d@192.0.2.1:22", "a.b-c_d", "192.0.2.1", 22),
        ("root@2001:db8::1", "root", "2001:db8::1", 22),
        ("root@[2001:db8::1]:2200", "root", "2001:db8::1", 2200),
    ] {
        let imported = read(text, &private_key(), HOST_KEY).unwrap();
        let SshExit {
            host: found,
            port: at,
            user: who,
            host_keys,
        } = imported.config;
        assert_eq!((who.as_str(), found.to_string().as_str(), at), (user, host, port));
        assert_eq!(host_keys, [HOST_KEY]);
        assert_eq!(imported.secrets[0].value.as_str(), private_key());
    }
}

#[test]
fn other_targets_are_refused() {
    for bad in [
        "",
        "box",
        "@box",
        "-oProxyCommand=id@box",
        "anna@",
        "anna@box:0",
        "anna@box:65536",
        "anna@box:+22",
        "anna@box:",
        "anna@[2001:db8::1",
        "anna@[2001:db8::1]x",
        "a b@box",
        "anna@box/etc",
        "anna@b@c",
        "anna@box:22\n",
    ] {
        assert!(
            fault(bad, &private_key(), HOST_KEY).starts_with("target: "),
            "{bad}"
        );
    }
}

#[test]
fn a_key_is_in_the_clear_and_of_a_known_kind() {
    assert!(fault("a@box", SEALED, HOST_KEY).contains("no passphrase"));
    for bad in ["", "hunter2", HOST_KEY, &"x".repeat(KEY_MAX + 1)] {
        let said = fault("a@box", bad, HOST_KEY);
        assert!(
            said.starts_with("private_key: ") && !said.contains("hunter2"),
            "{said}"
        );
    }
}

#[test]
fn the_server_is_pinned() {
    let keys = |text: &str| read("a@box", &private_key(), text).map(|imported| imported.config.host_keys);
    assert!(keys("").unwrap_err().to_string().contains("server's key"));
    assert!(keys("# nothing\n").is_err());
    for good in [
        HOST_KEY.to_owned(),
        format!("# from ssh-keyscan\nbox {HOST_KEY} a comment\n"),
        format!("other,BOX {HOST_KEY}\n{HOST_KEY}"),
        format!("[box]:22 {HOST_KEY}"),
        format!("|1|abc=|def= {HOST_KEY}"),
    ] {
        assert_eq!(keys(&good).unwrap(), [HOST_KEY], "{good}");
    }
    for (bad, why) in [
        (format!("elsewhere {HOST_KEY}"), "another host"),
        (format!("@cert-authority * {HOST_KEY}"), "not supported"),
        ("ssh-ed25519 AAAA".to_owned(), "public key"),
        ("ssh-ed25519".to_owned(), "public key"),
        ("box ssh-ed25519 !!!".to_owned(), "public key"),
    ] {
        let said = keys(&bad).unwrap_err().to_string();
        assert!(
            said.starts_with("host_keys line 1: ") && said.contains(why),
            "{bad}: {said}"
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_answered(target in "[ -~]{0,40}", key in "\\PC{0,80}", hosts in "[ -~\n]{0,120}") {
        prop_assert!(read(&target, &key, &hosts).is_err());
    }
}
