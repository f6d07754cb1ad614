//! Names of services: the relay before a real CoreDNS, whose configuration is the one that cell-api derives. Needs root, and Go
//! or the cache of `cell_lab::tools`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use cell_api_core::access::{Protocol, Service};
use cell_api_core::derive::corefile::{self, CorefileSettings, QueryLog};
use cell_api_core::published::{HostName, Label, LinkedZone, Published, Reader, ServiceRecord};
use cell_api_core::service_network::ServiceName;
use cell_lab::netns::{self, Namespace};
use cell_lab::process::{Process, until};
use cell_lab::tools;
use cell_proto::egress::v1;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;
use support::PATIENCE;
use support::dns::{
    DEFAULT, DnsLab, Heard, OF_FIRST, OF_NONE, OF_REDIRECT, OF_SECOND, Relay, STRANGER, UNBOUND, resolver,
    spec,
};

const AUTHORITY: &str = "172.20.0.3:53";
const CALENDAR: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 250);
const FILES: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 249);
/// How soon it is known that nobody listens.
const AT_ONCE: Duration = Duration::from_millis(1000);

fn service(name: &str, address: Ipv4Addr, everyone: bool) -> ServiceRecord {
    ServiceRecord {
        name: ServiceName::parse(name).unwrap(),
        subdomains: BTreeSet::from([Label::parse(name).unwrap()]),
        address,
        ports: BTreeSet::from([(Protocol::Tcp, 443)]),
        everyone,
        web: None,
    }
}

fn reader(addresses: &[&str], granted: &[Ipv4Addr]) -> Reader {
    Reader {
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        granted: granted
            .iter()
            .map(|ip| Service {
                address: (*ip).into(),
                protocol: Protocol::Tcp,
                port: 443,
            })
            .collect(),
    }
}

/// Calendar for two peers, one of them with files; nothing for the others.
fn published() -> Published {
    Published {
        domains: vec![HostName::parse("home.arpa").unwrap()],
        services: vec![
            service("calendar", CALENDAR, false),
            service("files", FILES, false),
        ],
        readers: vec![
            reader(&[OF_FIRST, "fd08::3"], &[CALENDAR]),
            reader(&[OF_NONE], &[CALENDAR, FILES]),
            reader(&[UNBOUND, OF_SECOND, OF_REDIRECT], &[]),
        ],
        links: vec![LinkedZone {
            zone: HostName::parse("other.arpa").unwrap(),
            resolver: "172.20.0.1:5300".parse().unwrap(),
        }],
    }
}

struct Core {
    namespace: Namespace,
    folder: tempfile::TempDir,
}

impl Core {
    fn new(lab: &DnsLab) -> Result<Self> {
        let namespace = Namespace::new("edn")?;
        netns::join((&lab.cell, "cellsvc0"), (&namespace, "eth0"))?;
        lab.cell.add_address("cellsvc0", "172.20.0.1/24".parse()?)?;
        namespace.add_address("eth0", "172.20.0.3/24".parse()?)?;
        let folder = tempfile::tempdir()?;
        Ok(Core { namespace, folder })
    }

    fn write(&self, published: &Published, serial: u32) -> Result<()> {
        let folder = self.folder.path();
        let settings = CorefileSettings {
            relay: [172, 20, 0, 1].into(),
            log: QueryLog::Errors,
            folder: folder.to_str().unwrap(),
            port: 53,
        };
        for (name, text) in corefile::files(published, &settings, serial) {
            fs::write(folder.join(name), text)?;
        }
        Ok(())
    }

    fn start(&self, coredns: &Path) -> Result<Process> {
        let corefile = self.folder.path().join("Corefile");
        let mut process = self
            .namespace
            .spawn("coredns", Command::new(coredns).arg("-conf").arg(corefile))?;
        process.wait_for(PATIENCE, "CoreDNS", |output| {
            output.contains("CoreDNS-").then_some(())
        })?;
        Ok(process)
    }
}

fn with_authority() -> v1::DnsSpec {
    v1::DnsSpec {
        authority: Some(AUTHORITY.parse::<std::net::SocketAddr>().unwrap().into()),
        authority_zones: vec!["other.arpa".to_owned()],
        ..spec()
    }
}

fn asked_nobody(lab: &DnsLab, heard: &Heard) -> Result<()> {
    assert_eq!(lab.by_default()?, 0, "a name of the cell left it");
    assert!(heard.lock().unwrap().is_empty());
    Ok(())
}

#[test]
fn each_peer_finds_the_services_that_it_may_use() -> Result<()> {
    let coredns = tools::coredns()?;
    let lab = DnsLab::new()?;
    let heard = resolver(&lab.far, DEFAULT);
    let core = Core::new(&lab)?;
    core.write(&published(), 7)?;
    let _process = core.start(&coredns)?;
    let relay = Relay::start(&lab)?;
    relay.apply(with_authority())?;
    for _ in 0..2 {
        assert_eq!(lab.addresses(OF_FIRST, "calendar.home.arpa"), [CALENDAR]);
        assert_eq!(lab.code(OF_FIRST, "files.home.arpa"), ResponseCode::NXDomain);
        assert_eq!(
            lab.addresses(OF_NONE, "files.home.arpa"),
            [FILES],
            "whatever its exit is"
        );
        for peer in [UNBOUND, OF_SECOND, OF_REDIRECT] {
            assert_eq!(
                lab.code(peer, "calendar.home.arpa"),
                ResponseCode::NXDomain,
                "{peer}"
            );
        }
    }
    assert_eq!(lab.code(STRANGER, "calendar.home.arpa"), ResponseCode::Refused);
    // Each question was asked on its own: nothing is remembered.
    let status = relay.status();
    assert_eq!((status.authority_asked, status.authority_failed), (12, 0));
    let tcp = lab.ask_tcp(OF_FIRST, "calendar.home.arpa", RecordType::A);
    assert_eq!(support::dns::addresses(&tcp), [CALENDAR]);
    let absent = lab.ask(OF_FIRST, "calendar.home.arpa", RecordType::AAAA);
    assert_eq!(
        (absent.metadata.response_code, absent.answers.len()),
        (ResponseCode::NoError, 0)
    );
    // A peer that says in EDNS where it is, is not believed: the relay's word counts. And CoreDNS takes no one else's.
    let direct = lab
        .cell
        .run("python3", &["-c", &forged("172.20.0.1", "10.8.0.3")])?;
    assert_eq!(
        direct.trim(),
        "0",
        "control: with the relay's address a header counts"
    );
    lab.cell.add_address("cellsvc0", "172.20.0.9/24".parse()?)?;
    let direct = lab
        .cell
        .run("python3", &["-c", &forged("172.20.0.9", "10.8.0.3")])?;
    assert_eq!(direct.trim(), "none", "a header of somebody else's");
    asked_nobody(&lab, &heard)
}

#[test]
fn what_changes_is_followed_and_what_is_away_is_asked_nowhere_else() -> Result<()> {
    let coredns = tools::coredns()?;
    let lab = DnsLab::new()?;
    let heard = resolver(&lab.far, DEFAULT);
    let core = Core::new(&lab)?;
    core.write(&published(), 7)?;
    let mut process = core.start(&coredns)?;
    let relay = Relay::start(&lab)?;
    relay.apply(with_authority())?;
    assert_eq!(
        lab.addresses(OF_FIRST, "calendar.home.arpa"),
        [CALENDAR],
        "control"
    );
    // Another state, read on a signal: no question is lost or answered by halves.
    let mut without = published();
    without.readers[0].granted.clear();
    core.write(&without, 8)?;
    process.signal(Signal::SIGUSR1)?;
    until(PATIENCE, "the calendar's absence", || {
        let code = lab.code(OF_FIRST, "calendar.home.arpa");
        (code == ResponseCode::NXDomain).then_some(())
    })?;
    assert_eq!(
        lab.addresses(OF_NONE, "calendar.home.arpa"),
        [CALENDAR],
        "control"
    );

    // It is away: nobody else is asked, and the cell's own names are there.
    process.terminate(PATIENCE)?;
    let start = Instant::now();
    assert_eq!(lab.code(OF_NONE, "calendar.home.arpa"), ResponseCode::ServFail);
    assert_eq!(lab.code(OF_NONE, "x.other.arpa"), ResponseCode::ServFail);
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    assert_eq!(lab.addresses(OF_NONE, "nas.home.arpa").len(), 1);
    assert!(relay.status().authority_failed >= 2);
    asked_nobody(&lab, &heard)?;
    let again = core.start(&coredns)?;
    assert_eq!(
        lab.addresses(OF_NONE, "calendar.home.arpa"),
        [CALENDAR],
        "its silence is not remembered"
    );
    drop(again);
    assert_eq!(
        lab.addresses(UNBOUND, "example.org"),
        [DEFAULT],
        "control: what is others' goes out"
    );
    assert!(lab.by_default()? > 0);
    let log = relay.process.output();
    assert!(!log.contains("calendar"), "a name is in the log:\n{log}");
    Ok(())
}

/// Asks CoreDNS itself, from `source`, for `peer`, and prints the code of the answer, or "none".
fn forged(source: &str, peer: &str) -> String {
    format!(
        r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("{source}", 0)); s.settimeout(0.7)
header = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\x00\x0c" + socket.inet_aton("{peer}") + socket.inet_aton("172.20.0.3") + b"\0\0\0\x35"
question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x08calendar\x04home\x04arpa\0\0\x01\0\x01"
s.sendto(header + question, ("172.20.0.3", 53))
try:
    print(s.recv(4096)[3] & 15)
except TimeoutError:
    print("none")
"#
    )
}
