//! From what is asked for to the profile that OpenVPN gets.
#![allow(clippy::unwrap_used, reason = "tests")]

use cell_openvpn_core::exit::{Exit, SealedBlock};
use cell_openvpn_core::profile::{Sealed, login, render};
use cell_openvpn_core::request::{AskedExit, Ceiling, exits};
use proptest::prelude::*;
use zeroize::Zeroizing;

const ID: &str = "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5b";
const OTHER: &str = "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5c";
const PEM: &str = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nS0VZ\n-----END PRIVATE KEY-----\n";
const STATIC: &str = "#\n# 2048 bit OpenVPN static key\n#\n-----BEGIN OpenVPN Static key V1-----\n0a1b\n\
                      -----END OpenVPN Static key V1-----\n";

fn ceiling() -> Ceiling {
    Ceiling {
        interface_prefix: "ovpn_".to_owned(),
        exits_max: 2,
    }
}

fn asked<'a>(id: &'a str, interface: &'a str) -> AskedExit<'a> {
    AskedExit {
        id,
        interface,
        remotes: vec![(Ok("192.0.2.1:1194".parse().unwrap()), Ok(false))],
        directives: vec![],
        certificates: vec![("ca", PEM)],
        sealed: &[],
        has_login: true,
        revision: 1,
        secret_revision: 1,
    }
}

fn faults(asked: &[AskedExit<'_>]) -> Vec<String> {
    let faults = exits(asked, &ceiling()).unwrap_err();
    faults.into_iter().map(|fault| fault.field).collect()
}

fn one(asked: AskedExit<'_>) -> Exit {
    let mut exits = exits(&[asked], &ceiling()).unwrap();
    exits.pop_first().unwrap().1
}

fn secret(block: SealedBlock, text: &str) -> Sealed {
    (block, Zeroizing::new(text.to_owned()))
}

#[test]
fn a_profile_has_what_was_asked_for_and_what_holds_in_any_case() {
    let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
    let (cipher, retry) = (words("cipher AES-256-GCM"), words("auth-retry interact"));
    let name = ["verify-x509-name".to_owned(), "C=DE, \"CN\"=x".to_owned()];
    let sealed = ["key".to_owned(), "tls-crypt".to_owned()];
    let mut wanted = asked(ID, "ovpn_1a");
    wanted
        .remotes
        .push((Ok("[2001:db8::1]:443".parse().unwrap()), Ok(true)));
    wanted.directives = vec![&cipher, &retry, &name];
    wanted.certificates.push(("cert", PEM));
    wanted.sealed = &sealed;
    let exit = one(wanted);
    let secrets = [
        secret(SealedBlock::Key, KEY),
        secret(SealedBlock::TlsCrypt, STATIC),
    ];
    let profile = render(&exit, &secrets, "/run/cell/openvpn/management.sock").unwrap();
    for line in [
        "dev \"ovpn_1a\"",
        "dev-type tun",
        "ifconfig-noexec",
        "route-noexec",
        "script-security 0",
        "management-client",
        "management \"/run/cell/openvpn/management.sock\" \"unix\"",
        "auth-user-pass",
        "auth-retry none",
        "remote \"192.0.2.1\" \"1194\" \"udp4\"",
        "remote \"2001:db8::1\" \"443\" \"tcp6-client\"",
        "cipher \"AES-256-GCM\"",
        "verify-x509-name \"C=DE, \\\"CN\\\"=x\"",
        "<tls-crypt>",
        "</key>",
        "S0VZ",
    ] {
        assert!(
            profile.lines().any(|known| known == line),
            "{line}:\n{}",
            *profile
        );
    }
    assert!(!profile.contains("interact"), "the cell decides that");
}

#[test]
fn every_fault_is_named() {
    let bad = ["up".to_owned(), "/bin/sh".to_owned()];
    let sealed = ["ca".to_owned(), "key".to_owned()];
    let wrong = AskedExit {
        id: "x",
        interface: "wg0",
        remotes: vec![
            (Ok("127.0.0.1:1".parse().unwrap()), Err("is required".to_owned())),
            (Err("is required".to_owned()), Ok(true)),
            (Ok("192.0.2.1:0".parse().unwrap()), Ok(true)),
        ],
        directives: vec![&bad, &[]],
        certificates: vec![("key", KEY), ("ca", KEY)],
        sealed: &sealed,
        has_login: false,
        revision: 0,
        secret_revision: 0,
    };
    let named = faults(&[wrong]);
    for field in [
        "exits[0].id",
        "exits[0].interface",
        "exits[0].remotes[0].server",
        "exits[0].remotes[0].protocol",
        "exits[0].remotes[1].server",
        "exits[0].remotes[2].server",
        "exits[0].directives[0]",
        "exits[0].directives[1]",
        "exits[0].certificates[0].block",
        "exits[0].certificates[1].pem",
        "exits[0].certificates",
        "exits[0].sealed_blocks[0]",
    ] {
        assert!(named.iter().any(|known| known == field), "{field}: {named:?}");
    }
    let mut none = asked(ID, "ovpn_1");
    none.remotes.clear();
    assert_eq!(faults(&[none]), ["exits[0].remotes"]);
}

#[test]
fn what_two_exits_share_and_too_many_are_faults() {
    assert_eq!(
        faults(&[asked(ID, "ovpn_1"), asked(ID, "ovpn_2")]),
        ["exits[1].id"]
    );
    assert_eq!(
        faults(&[asked(ID, "ovpn_1"), asked(OTHER, "ovpn_1")]),
        ["exits[1].interface"]
    );
    let many = [
        asked(ID, "ovpn_1"),
        asked(OTHER, "ovpn_2"),
        asked(OTHER, "ovpn_3"),
    ];
    assert_eq!(faults(&many), ["exits"]);
}

/// Whatever the vault holds, it is a block, and nothing beside it.
#[test]
fn a_secret_that_is_none_of_its_kind_is_not_passed_on() {
    let exit = one(asked(ID, "ovpn_1"));
    for bad in [
        "",
        "up /bin/sh",
        STATIC,
        &format!("{KEY}</key>\nup /bin/sh\n"),
        &format!("</key>\nup /bin/sh\n<key>\n{KEY}"),
        "-----BEGIN PRIVATE KEY-----\n</key>\n-----END PRIVATE KEY-----",
        &format!("{KEY}{PEM}"),
    ] {
        let rendered = render(&exit, &[secret(SealedBlock::Key, bad)], "/s");
        assert!(rendered.is_err(), "{bad}");
    }
    assert!(render(&exit, &[secret(SealedBlock::Key, KEY)], "/s").is_ok());
}

#[test]
fn a_login_is_two_lines_whatever_it_holds() {
    let answer = login("Auth", "bob \"x\"", "a\\b'c").unwrap();
    let lines: Vec<&str> = answer.lines().collect();
    assert_eq!(
        lines,
        [
            "username \"Auth\" \"bob \\\"x\\\"\"",
            "password \"Auth\" \"a\\\\b'c\""
        ]
    );
    for bad in ["", "a\nsignal SIGTERM", "\0"] {
        assert!(login("Auth", "bob", bad).is_none(), "{bad:?}");
        assert!(login("Auth", bad, "pw").is_none(), "{bad:?}");
    }
}

proptest! {
    /// No value of a directive becomes a line of its own.
    #[test]
    fn a_directive_is_one_line(value in ".*") {
        let words = ["cipher".to_owned(), value];
        let mut wanted = asked(ID, "ovpn_1");
        wanted.directives = vec![&words];
        if let Ok(exits) = exits(&[wanted], &ceiling()) {
            let exit = exits.values().next().unwrap();
            let plain = render(&one(asked(ID, "ovpn_1")), &[], "/s").unwrap();
            let profile = render(exit, &[], "/s").unwrap();
            prop_assert_eq!(profile.lines().count(), plain.lines().count() + 1);
        }
    }

    #[test]
    fn no_secret_opens_a_line_beside_its_block(text in "(-----BEGIN PRIVATE KEY-----\n)?[-<>/a-zA-Z \n]*(-----END PRIVATE KEY-----\n)?") {
        let exit = one(asked(ID, "ovpn_1"));
        if let Ok(profile) = render(&exit, &[secret(SealedBlock::Key, &text)], "/s") {
            prop_assert_eq!(profile.lines().filter(|line| *line == "</key>").count(), 1);
            prop_assert!(profile.ends_with("\n</key>\n"));
        }
    }
}

/// A list of what is revoked is a block like the others, and no certificate.
#[test]
fn what_is_revoked_is_given_to_the_program() {
    const CRL: &str = "-----BEGIN X509 CRL-----\nQUJD\n-----END X509 CRL-----\n";
    let mut wanted = asked(ID, "ovpn_1a");
    wanted.certificates.push(("crl-verify", CRL));
    let profile = render(&one(wanted), &[], "/run/cell/openvpn/management.sock").unwrap();
    assert!(
        profile.contains(&format!("<crl-verify>\n{CRL}</crl-verify>")),
        "{}",
        *profile
    );
    for (block, pem) in [("crl-verify", PEM), ("ca", CRL), ("cert", CRL)] {
        let mut wrong = asked(ID, "ovpn_1a");
        wrong.certificates = vec![("extra-certs", PEM), (block, pem)];
        assert!(
            faults(&[wrong]).contains(&"exits[0].certificates[1].pem".to_owned()),
            "{block}"
        );
    }
}
