//! What a setting of the domain of services may say.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use cell_api_core::domain::{DnsProvider, Domain, DomainFields, Mailbox};
use proptest::prelude::*;

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

fn fields(all: &[(&str, &str)]) -> DomainFields {
    let mut fields = DomainFields::default();
    for (name, text) in all {
        if *name == "mode" {
            (*text).clone_into(&mut fields.mode);
            continue;
        }
        let text = Some((*text).to_owned());
        match *name {
            "domain" => fields.domain = text,
            "email" => fields.email = text,
            "provider" => fields.provider = text,
            "server" => fields.server = text,
            "tsig_name" => fields.tsig_name = text,
            "tsig_algorithm" => fields.tsig_algorithm = text,
            "acme_directory" => fields.acme_directory = text,
            _ => fields.acme_authority = text,
        }
    }
    fields
}

fn generic() -> DomainFields {
    fields(&[
        ("mode", "dns01"),
        ("domain", "home.example.org"),
        ("email", "post@example.org"),
        ("provider", "generic"),
        ("server", "192.0.2.53"),
        ("tsig_name", "cell"),
        ("acme_directory", "https://192.0.2.10:9000/acme/acme/directory"),
        ("acme_authority", PEM),
    ])
}

fn wrong(fields: &DomainFields) -> Vec<String> {
    let faults = Domain::check(fields).unwrap_err();
    faults
        .into_violations()
        .into_iter()
        .map(|one| one.field)
        .collect()
}

#[test]
fn what_is_shown_is_what_is_read() {
    let first = Domain::check(&generic()).unwrap();
    let shown = first.fields();
    assert_eq!(Domain::check(&shown).unwrap(), first);
    assert_eq!(
        (shown.server.as_deref(), shown.tsig_algorithm.as_deref()),
        (Some("192.0.2.53:53"), Some("hmac-sha256"))
    );
    let http = fields(&[
        ("mode", "http01"),
        ("domain", "home.example.org"),
        ("email", "post@example.org"),
        ("acme_directory", "https://192.0.2.10:9000/acme/acme/directory"),
        ("acme_authority", PEM),
    ]);
    let read = Domain::check(&http).unwrap();
    assert_eq!((read.mode(), read.fields()), ("http01", http));
    assert!(read.public().unwrap().is_asked_by_http() && !first.public().unwrap().is_asked_by_http());
    let lan = fields(&[("mode", "lan"), ("domain", "")]);
    assert_eq!(Domain::check(&lan).unwrap(), Domain::Lan);
    assert_eq!(Domain::check(&Domain::Lan.fields()).unwrap(), Domain::Lan);
}

#[test]
fn every_fault_is_told_at_once() {
    assert_eq!(wrong(&fields(&[("mode", "dns01")])), ["provider", "domain"]);
    assert_eq!(wrong(&fields(&[("mode", "http01")])), ["domain"]);
    let proven_otherwise = [
        ("mode", "http01"),
        ("domain", "a.example"),
        ("provider", "duckdns"),
        ("server", "192.0.2.1"),
    ];
    assert_eq!(wrong(&fields(&proven_otherwise)), ["provider", "server"]);
    assert_eq!(wrong(&fields(&[("mode", "")])), ["mode"]);
    let lan = [("mode", "lan"), ("email", "a@b.example"), ("server", "192.0.2.1")];
    assert_eq!(wrong(&fields(&lan)), ["email", "server"]);
    let many = [
        ("mode", "dns01"),
        ("domain", "home.cell"),
        ("email", "{env.HOME}@b"),
        ("provider", "generic"),
        ("server", "ns.example.org"),
        ("tsig_algorithm", "hmac-md5"),
        ("acme_directory", "http://ca.example.org/"),
        ("acme_authority", "no pem"),
    ];
    assert_eq!(
        wrong(&fields(&many)),
        [
            "server",
            "tsig_name",
            "tsig_algorithm",
            "domain",
            "email",
            "acme_directory",
            "acme_authority"
        ]
    );
    let duckdns = [
        ("mode", "dns01"),
        ("domain", "home.example.org"),
        ("provider", "duckdns"),
        ("tsig_name", "k"),
    ];
    assert_eq!(wrong(&fields(&duckdns)), ["tsig_name", "domain"]);
    let alone = [
        ("mode", "dns01"),
        ("domain", "a.example"),
        ("provider", "cloudflare"),
        ("acme_authority", PEM),
    ];
    assert_eq!(wrong(&fields(&alone)), ["acme_authority"]);
}

#[test]
fn a_domain_is_public_and_leaves_room_for_services() {
    let domain = |text: &str| {
        let mut fields = generic();
        fields.domain = Some(text.to_owned());
        Domain::check(&fields).is_ok()
    };
    let long = ["a".repeat(63), "b".repeat(63), "c".repeat(61)].join(".");
    assert!(domain("example.org") && domain(&long));
    for bad in [
        "example",
        "*.example.org",
        "home.cell",
        "a.local",
        "10.0.0.1",
        "Example.org",
        "a..org",
        "{env.X}.org",
        &format!("{long}d"),
    ] {
        assert!(!domain(bad), "{bad}");
    }
}

#[test]
fn what_is_at_home_is_reached_by_its_address_and_nothing_else_is() {
    let domain = Domain::check(&generic()).unwrap();
    let public = domain.public().unwrap();
    let shown: Vec<String> = public
        .reach()
        .iter()
        .map(|one| format!("{:?} {}:{}", one.protocol, one.address, one.port))
        .collect();
    assert_eq!(
        shown,
        ["Udp 192.0.2.53:53", "Tcp 192.0.2.53:53", "Tcp 192.0.2.10:9000"]
    );
    for nowhere in [
        "127.0.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1:0",
        "::1",
    ] {
        let mut fields = generic();
        fields.server = Some(nowhere.to_owned());
        assert_eq!(wrong(&fields), ["server"], "{nowhere}");
        let mut fields = generic();
        fields.acme_directory = Some(format!("https://{nowhere}/d"));
        assert_eq!(wrong(&fields), ["acme_directory"], "{nowhere}");
    }
    for bad in [
        "https://{env.X}/d",
        "https://a:b@c.example/",
        "ftp://c.example/",
        "https://c.example/#d",
        "https://[2001:db8::1]/d",
    ] {
        let mut fields = generic();
        fields.acme_directory = Some(bad.to_owned());
        assert_eq!(wrong(&fields), ["acme_directory"], "{bad}");
    }
}

#[test]
fn a_token_is_one_that_its_provider_could_have_given() {
    let domain = Domain::check(&generic()).unwrap();
    let provider = domain.public().unwrap().proof.provider().unwrap();
    assert!(
        provider
            .check_token("c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IDMyISE=")
            .is_ok()
    );
    for bad in [
        "",
        "c2hvcnQ=",
        "not base64 at all, and long",
        "a7c4d0ad-114e-40ef-ba1d-d217904a50f2",
    ] {
        assert!(provider.check_token(bad).is_err(), "{bad}");
    }
    for provider in [DnsProvider::Duckdns, DnsProvider::Cloudflare] {
        assert!(
            provider
                .check_token("a7c4d0ad-114e-40ef-ba1d-d217904a50f2")
                .is_ok()
        );
        for bad in [
            "",
            "short",
            "with a space in it",
            "line\nline-line",
            &"a".repeat(257),
        ] {
            assert!(provider.check_token(bad).is_err(), "{bad}");
        }
    }
}

#[test]
fn a_mailbox_has_nothing_that_caddy_replaces() {
    assert!(Mailbox::parse("post.master-1@home.example").is_some());
    for bad in [
        "",
        "a",
        "a@",
        "@b",
        "{env.X}@b",
        "a@{env.X}",
        "a@b@c",
        "a b@c",
        "a@B",
    ] {
        assert_eq!(Mailbox::parse(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn nothing_that_is_taken_is_read_otherwise_later(texts in proptest::array::uniform8("[ -~]{0,24}"), mode in "lan|dns01|http01|x") {
        let names = ["domain", "email", "provider", "server", "tsig_name", "tsig_algorithm", "acme_directory", "acme_authority"];
        let mut all = vec![("mode", mode.as_str())];
        all.extend(names.into_iter().zip(texts.iter().map(String::as_str)));
        if let Ok(domain) = Domain::check(&fields(&all)) {
            prop_assert_eq!(Domain::check(&domain.fields()).unwrap(), domain);
        }
    }
}
