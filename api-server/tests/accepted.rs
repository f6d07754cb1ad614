//! Whatever is published, CoreDNS and Caddy take what follows from it, and CoreDNS answers each peer as it should. Needs root.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[path = "../core/tests/support/published.rs"]
mod states;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use cell_api::published::Folder;
use cell_api_core::derive::caddy::{
    self, AdminListen, CaddySettings, Certificates, LoadedCertificate, LogLevel,
};
use cell_api_core::derive::corefile::{CorefileSettings, QueryLog};
use cell_api_core::derive::zones::views;
use cell_api_core::domain::{Domain, DomainFields};
use cell_api_core::published::Published;
use cell_egress_core::dns::proxied::{Over, header};
use cell_lab::netns::Namespace;
use cell_lab::process::until;
use cell_lab::tools;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const STATES: usize = 16;
const PATIENCE: Duration = Duration::from_secs(20);
const PORT: u16 = 53;

fn states() -> Vec<Published> {
    let mut runner = TestRunner::default();
    let mut some = || states::any_published().new_tree(&mut runner).unwrap().current();
    (0..STATES).map(|_| some()).collect()
}

/// What CoreDNS says to a peer of a name.
fn asked(peer: IpAddr, name: &str) -> (ResponseCode, Vec<Ipv4Addr>) {
    let at = (Ipv4Addr::LOCALHOST, PORT).into();
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(
        Name::from_ascii(format!("{name}.")).unwrap(),
        RecordType::A,
    ));
    let bytes = [header(Over::Udp, peer, at), message.to_vec().unwrap()].concat();
    let answer = || -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send_to(&bytes, at)?;
        let mut buffer = vec![0; 4096];
        let length = socket.recv(&mut buffer)?;
        buffer.truncate(length);
        Ok(buffer)
    };
    let answer = Message::from_vec(&answer().unwrap()).unwrap();
    let addresses = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(ip) => Some(ip.0),
        _ => None,
    });
    (answer.metadata.response_code, addresses.collect())
}

/// The same, once CoreDNS has more to say than that it cannot tell (SERVFAIL), as it does for a moment on a busy machine.
fn settled(peer: IpAddr, name: &str) -> (ResponseCode, Vec<Ipv4Addr>) {
    until(PATIENCE, &format!("CoreDNS knows {name} for {peer}"), || {
        Some(asked(peer, name)).filter(|(code, _)| *code != ResponseCode::ServFail)
    })
    .unwrap()
}

/// Each name for each peer, by both of its addresses, against what its view has.
fn compare(published: &Published) {
    let views = views(published);
    let labels = published.labels();
    for reader in &published.readers {
        for address in &reader.addresses {
            let mine = views.iter().find(|view| view.readers.contains(address));
            for (place, service) in published.services.iter().enumerate() {
                let is_mine = mine.is_some_and(|view| view.services.contains(&place));
                for (label, domain) in labels[place].iter().flat_map(|label| {
                    published
                        .distinct_domains()
                        .into_iter()
                        .map(move |domain| (*label, domain))
                }) {
                    let (code, found) = settled(*address, domain.child(label).unwrap().as_str());
                    let expected = if is_mine {
                        (ResponseCode::NoError, vec![service.address])
                    } else {
                        (ResponseCode::NXDomain, Vec::new())
                    };
                    assert_eq!((code, found), expected, "{label}.{domain} for {address}");
                }
            }
        }
    }
}

#[test]
fn coredns_takes_every_state_and_answers_by_it() {
    let coredns = tools::coredns().unwrap();
    let space = Namespace::new("acc").unwrap();
    for (number, published) in states().into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let settings = CorefileSettings {
            relay: Ipv4Addr::LOCALHOST,
            log: [QueryLog::Errors, QueryLog::Questions, QueryLog::Off][number % 3],
            folder: folder.path().to_str().unwrap(),
            port: PORT,
        };
        Folder::new(folder.path())
            .publish(&published, &settings, 1000)
            .unwrap();
        let corefile = folder.path().join("Corefile");
        let mut process = space
            .spawn("coredns", Command::new(&coredns).arg("-conf").arg(&corefile))
            .unwrap();
        process
            .wait_for(PATIENCE, "CoreDNS", |output| {
                output.contains("CoreDNS-").then_some(())
            })
            .unwrap();
        space.inside(|| compare(&published)).unwrap();
        let (code, _) = space
            .inside(|| asked([10, 8, 0, 2].into(), "example.org"))
            .unwrap();
        assert_eq!(code, ResponseCode::Refused, "what is nobody's");
        process.terminate(PATIENCE).unwrap();
        let log = process.output();
        assert!(!log.contains("[ERROR]") || !published.links.is_empty(), "{log}");
    }
}

fn settings(folder: &Path, log: LogLevel) -> CaddySettings {
    CaddySettings {
        admin: AdminListen {
            path: folder.join("admin.sock").to_str().unwrap().to_owned(),
            // Debian's Caddy knows no permissions of sockets.
            mode: None,
        },
        ports: [8443, 8080],
        vpn: ["10.8.0.0/16".parse().unwrap(), "fd08::/64".parse().unwrap()],
        log,
    }
}

fn validate(
    program: &Path,
    folder: &Path,
    published: &Published,
    certificates: &Certificates,
    log: LogLevel,
) -> Output {
    let (config, _) = caddy::config(published, &settings(folder, log), certificates);
    let file = folder.join("config.json");
    fs::write(&file, serde_json::to_vec(&config).unwrap()).unwrap();
    Command::new(program)
        .args(["validate", "--config"])
        .arg(file)
        .env("HOME", folder)
        .output()
        .unwrap()
}

#[test]
fn caddy_takes_every_state() {
    let program = tools::caddy().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["mail.home.cell".to_owned()]).unwrap();
    let loaded = Certificates::from(vec![LoadedCertificate {
        chain: made.cert.pem(),
        key: made.signing_key.serialize_pem().into(),
    }]);
    let kinds = [Certificates::default(), loaded];
    for (number, published) in states().into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let log = if number % 2 == 0 {
            LogLevel::Error
        } else {
            LogLevel::Info
        };
        let told = validate(
            &program,
            folder.path(),
            &published,
            &kinds[number % kinds.len()],
            log,
        );
        let words = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success(), "{words}");
    }
}

/// Debian's Caddy has none of the cell's modules: it says so, and cell-api keeps what is in force.
#[test]
fn debians_caddy_gets_no_certificate_of_a_public_domain() {
    let program = tools::caddy().unwrap();
    for (provider, domain) in [
        ("duckdns", "home.duckdns.org"),
        ("cloudflare", "home.example.org"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let fields = DomainFields {
            mode: "dns01".to_owned(),
            domain: Some(domain.to_owned()),
            provider: Some(provider.to_owned()),
            ..DomainFields::default()
        };
        let certificates = Certificates {
            public: Domain::check(&fields).unwrap().public().cloned(),
            ..Certificates::default()
        };
        let told = validate(
            &program,
            folder.path(),
            &states::one_service(),
            &certificates,
            LogLevel::Error,
        );
        let words = String::from_utf8_lossy(&told.stderr);
        assert!(!told.status.success() && words.contains(".cell"), "{words}");
        assert!(
            words.contains("unknown module") || words.contains("not registered"),
            "{words}"
        );
    }
}
