#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

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
        Certificates::Loaded(vec![LoadedCertificate {
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
    let certificates = Certificates::Loaded(vec![LoadedCertificate {
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
