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

/// A key pair that was made for this test and signs in nowhere.
const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC4h8+Wqbn+h1/yoFIn2JSTtNAR2KnHyYGkr8xuHeMcIIVmT3qcxbWYW30QBxHaDGqHN97430TXvYn1beUrXPmD1xENQKsAoDS47qnJbmVDMbZ0IdtUat8Gj1b/Qb1Y/CcBi1Fu4fb/p4eGBdtsh08UQbb9MyeFIv+xZou0x7GrbQ==";
const RSA_PRIVATE: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAlwAAAAdzc2gtcn
NhAAAAAwEAAQAAAIEAuIfPlqm5/odf8qBSJ9iUk7TQEdipx8mBpK/Mbh3jHCCFZk96nMW1
mFt9EAcR2gxqhzfe+N9E172J9W3lK1z5g9cRDUCrAKA0uO6pyW5lQzG2dCHbVGrfBo9W/0
G9WPwnAYtRbuH2/6eHhgXbbIdPFEG2/TMnhSL/sWaLtMexq20AAAH4C+UlrwvlJa8AAAAH
c3NoLXJzYQAAAIEAuIfPlqm5/odf8qBSJ9iUk7TQEdipx8mBpK/Mbh3jHCCFZk96nMW1mF
t9EAcR2gxqhzfe+N9E172J9W3lK1z5g9cRDUCrAKA0uO6pyW5lQzG2dCHbVGrfBo9W/0G9
WPwnAYtRbuH2/6eHhgXbbIdPFEG2/TMnhSL/sWaLtMexq20AAAADAQABAAAAgQCnvZzwgf
y26OxJK39DBVeaJUT21BMRr5UP1VZpyvVF/jIFXL5CgF6gzpmS1jpeEedMX3dql9qGmp8r
4OfvUSbmLGI0jaO0Aey3hgvFY6FgTgK4J3pgFxiPkBajJhV/ihjg6TWdhywvomg4B5n+5P
NbH6UFaW0CKfbZdUVA4RqaAQAAAEEAvSuY5nl9yiwYwr7/QOO3ipLvQSU73EPNe5IJn4UM
GjQHdfRoVWwvwaD+/Dg48k+xXTgS19AhS4Ae1kOisiP3kAAAAEEA4GqzAzoLphtrC5PKMr
ay0UEGQw8UeAkzsqCBQC7w1aGMm0CyyP44Odt3XSadopgiIvjkU2Qu0Uu9exNkZMtBQQAA
AEEA0oAWHzAhmbXGgWoEkG+lHhscRB1Jrf3e22oMeLkJVKmgR1jslWBUM4yTA0g1Mk/dYt
6P5TXF06L5DNSH4OdzLQAAAAAB
-----END OPENSSH PRIVATE KEY-----
";
const NISTP256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBBbQMgTnjGU9VEvC5mZXYDCtFHuvpBkCa/gHG0eMBH32jtZbNj9pj3BxPQx2Vli5r1AseQMGUbfRtbgjPpKIYdw=";

const NISTP256_PRIVATE: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAaAAAABNlY2RzYS
1zaGEyLW5pc3RwMjU2AAAACG5pc3RwMjU2AAAAQQQW0DIE54xlPVRLwuZmV2AwrRR7r6QZ
Amv4BxtHjAR99o7WWzY/aY9wcT0MdlZYua9QLHkDBlG30bW4Iz6SiGHcAAAAmB55eskeeX
rJAAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBBbQMgTnjGU9VEvC
5mZXYDCtFHuvpBkCa/gHG0eMBH32jtZbNj9pj3BxPQx2Vli5r1AseQMGUbfRtbgjPpKIYd
wAAAAgPb4aYjT43om1wO0cn60j8sr/qazchYumhFaBqXm0HQ4AAAAA
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

/// What `ssh-keyscan HOST` prints holds all of the server's keys.
#[test]
fn keys_that_no_exit_is_known_by_are_left_out_and_named() {
    let scanned = format!("# box:22 SSH-2.0-OpenSSH_9.2\nbox {RSA}\nbox {HOST_KEY}\nbox {NISTP256}\n");
    let imported = read("a@box", &private_key(), &scanned).unwrap();
    assert_eq!(imported.config.host_keys, [HOST_KEY, NISTP256]);
    assert!(
        imported.notes[0].contains("ssh-rsa was left out"),
        "{:?}",
        imported.notes
    );
    let said = fault("a@box", &private_key(), RSA);
    assert!(
        said.contains("ssh-rsa is not used") && said.contains("ssh-keyscan -t ed25519"),
        "{said}"
    );
    let said = fault(
        "a@box",
        &private_key(),
        &format!("elsewhere {RSA}\nbox {HOST_KEY}"),
    );
    assert!(said.contains("another host"), "{said}");
    assert!(read("a@box", NISTP256_PRIVATE, HOST_KEY).is_ok());
    let said = fault("a@box", RSA_PRIVATE, HOST_KEY);
    assert!(
        said.starts_with("private_key: ") && said.contains("ssh-keygen -t ed25519"),
        "{said}"
    );
}

#[test]
fn of_keys_that_were_stored_before_those_that_are_known_are_told() {
    let stored = |host_keys: &[&str]| SshExit {
        host_keys: host_keys.iter().map(|key| (*key).to_owned()).collect(),
        ..read("a@box", &private_key(), HOST_KEY).unwrap().config
    };
    assert_eq!(stored(&[RSA, HOST_KEY]).used_host_keys(), [HOST_KEY]);
    assert_eq!(stored(&[RSA]).used_host_keys(), [RSA], "refused, and by name");
}

proptest! {
    #[test]
    fn any_text_is_answered(target in "[ -~]{0,40}", key in "\\PC{0,80}", hosts in "[ -~\n]{0,120}") {
        prop_assert!(read(&target, &key, &hosts).is_err());
    }
}
