#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::Ipv4Addr;

use serde_json::json;

use super::*;
use crate::access::Protocol;
use crate::domain::{Domain, DomainFields};
use crate::published::Label;
use crate::service_network::ServiceName;

fn settings() -> CaddySettings {
    CaddySettings {
        admin: AdminListen {
            path: "/run/cell/caddy/admin.sock".to_owned(),
            mode: Some(0o660),
        },
        ports: [HTTPS_PORT, HTTP_PORT],
        vpn: ["10.8.0.0/24".parse().unwrap(), "fd08::/64".parse().unwrap()],
        log: LogLevel::Error,
    }
}

fn nothing() -> Published {
    Published {
        domains: vec![HostName::parse("home.cell").unwrap()],
        services: Vec::new(),
        readers: Vec::new(),
        links: Vec::new(),
    }
}

#[test]
fn the_mark_is_of_all_that_is_in_it() {
    let mark =
        |settings: &CaddySettings, certificates: &Certificates| config(&nothing(), settings, certificates).1;
    let loaded = |key: &str| {
        Certificates::from(vec![LoadedCertificate {
            chain: "chain".to_owned(),
            key: Zeroizing::new(key.to_owned()),
        }])
    };
    let first = mark(&settings(), &loaded("a"));
    assert_eq!(first, mark(&settings(), &loaded("a")));
    assert_ne!(first, mark(&settings(), &loaded("b")));
    let mut other = settings();
    other.log = LogLevel::Info;
    assert_ne!(first, mark(&other, &loaded("a")));
    assert_eq!(first.len(), 5 + 64);
}

#[test]
fn keys_are_not_shown() {
    let certificates = Certificates::from(vec![LoadedCertificate {
        chain: "chain".to_owned(),
        key: Zeroizing::new("hidden".to_owned()),
    }]);
    let (config, _) = config(&nothing(), &settings(), &certificates);
    let shown = format!("{config:?} {certificates:?}");
    assert!(!shown.contains("hidden"), "{shown}");
    assert!(
        serde_json::to_string(&config).unwrap().contains("hidden"),
        "control"
    );
}

#[test]
fn the_socket_is_as_caddy_writes_it() {
    let rendered = |mode| {
        AdminListen {
            path: "/run/x.sock".to_owned(),
            mode,
        }
        .rendered()
    };
    assert_eq!(rendered(Some(0o660)), "unix//run/x.sock|0660");
    assert_eq!(rendered(None), "unix//run/x.sock");
}

fn public(provider: &str, more: DomainFields) -> Certificates {
    let domain = if provider == "duckdns" {
        "home.duckdns.org"
    } else {
        "home.example.org"
    };
    let fields = DomainFields {
        mode: "dns01".to_owned(),
        domain: Some(domain.to_owned()),
        provider: Some(provider.to_owned()),
        ..more
    };
    Certificates {
        public: Domain::check(&fields).unwrap().public().cloned(),
        ..Certificates::default()
    }
}

#[test]
fn a_public_domain_has_one_certificate_for_all_its_names() {
    let generic = DomainFields {
        server: Some("192.0.2.53".to_owned()),
        tsig_name: Some("cell".to_owned()),
        email: Some("post@example.org".to_owned()),
        acme_directory: Some("https://ca.example.org/directory".to_owned()),
        ..DomainFields::default()
    };
    let mut certificates = public("generic", generic);
    certificates.loaded.push(LoadedCertificate {
        chain: "chain".to_owned(),
        key: Zeroizing::new("key".to_owned()),
    });
    let (shown, _) = config(&nothing(), &settings(), &certificates);
    let shown = serde_json::to_value(&shown).unwrap();
    let tls = &shown["apps"]["tls"];
    assert_eq!(
        tls["certificates"],
        json!({"load_pem": [{"certificate": "chain", "key": "key"}], "automate": ["*.home.example.org"]})
    );
    assert_eq!(
        tls["automation"]["policies"],
        json!([{"subjects": ["*.home.example.org"], "issuers": [{
            "module": "cell", "email": "post@example.org", "ca": "https://ca.example.org/directory",
            "challenges": {"http": {"disabled": true}, "tls-alpn": {"disabled": true}, "dns": {
                "provider": {"name": "cell", "provider": "rfc2136", "token_file": "/run/secrets/dns_token",
                    "server": "192.0.2.53:53", "key_name": "cell", "key_algorithm": "hmac-sha256"},
                "resolvers": ["192.0.2.53:53"]}}}]}])
    );
    assert_eq!(
        shown["apps"]["events"]["subscriptions"][0]["handlers"][0]["handler"],
        "cell"
    );
    assert_eq!(
        shown["apps"]["http"]["servers"]["services"]["automatic_https"]["disable"],
        true
    );
}

#[test]
fn names_that_are_proven_by_http_have_a_certificate_each_and_what_is_not_published_has_none() {
    let fields = DomainFields {
        mode: "http01".to_owned(),
        domain: Some("home.example.org".to_owned()),
        ..DomainFields::default()
    };
    let certificates = Certificates {
        public: Domain::check(&fields).unwrap().public().cloned(),
        ..Certificates::default()
    };
    let tls = |published: &Published| {
        let (shown, _) = config(published, &settings(), &certificates);
        serde_json::to_value(&shown).unwrap()["apps"]["tls"].clone()
    };
    assert_eq!(tls(&nothing()), json!({}), "no policy is one for every name");
    let mut published = nothing();
    published
        .domains
        .push(HostName::parse("home.example.org").unwrap());
    published.services.push(ServiceRecord {
        name: ServiceName::parse("calendar").unwrap(),
        subdomains: [Label::parse("calendar").unwrap()].into(),
        address: Ipv4Addr::new(10, 8, 1, 0),
        ports: [(Protocol::Tcp, 443)].into(),
        everyone: false,
        web: Some("172.21.0.2:5232".parse().unwrap()),
    });
    let named: Vec<String> = (hosts(&published).iter())
        .map(ToString::to_string)
        .filter(|name| name.ends_with(".home.example.org"))
        .collect();
    assert!(!named.is_empty() && hosts(&published).len() > named.len());
    let tls = tls(&published);
    assert_eq!(tls["certificates"], json!({"automate": named}));
    assert_eq!(
        tls["automation"]["policies"],
        json!([{"subjects": named, "issuers": [{
            "module": "cell",
            "challenges": {"http": {"alternate_port": 8480}, "tls-alpn": {"disabled": true}}}]}])
    );
}

#[test]
fn what_nobody_can_see_is_waited_for() {
    for provider in ["duckdns", "cloudflare"] {
        let (shown, mark) = config(
            &nothing(),
            &settings(),
            &public(provider, DomainFields::default()),
        );
        let shown = serde_json::to_value(&shown).unwrap();
        let dns = &shown["apps"]["tls"]["automation"]["policies"][0]["issuers"][0]["challenges"]["dns"];
        assert_eq!(
            *dns,
            json!({"provider": {"name": "cell", "provider": provider, "token_file": "/run/secrets/dns_token"},
                "propagation_delay": 45_000_000_000_i64, "propagation_timeout": -1})
        );
        let (plain, other) = config(&nothing(), &settings(), &Certificates::default());
        assert_ne!(mark, other);
        let plain = serde_json::to_value(&plain).unwrap();
        assert_eq!(plain["apps"]["tls"], json!({}));
        assert!(
            plain["apps"].get("events").is_none(),
            "another Caddy takes it, too"
        );
    }
}
