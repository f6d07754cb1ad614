//! A real Caddy behind its admin socket, and a real client: who may open what, changes under load, and what is refused. Needs root.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[path = "../core/tests/support/published.rs"]
mod states;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cell_api::published::{Proxy, ProxyError};
use cell_api_core::derive::caddy::{
    self, AdminListen, CaddySettings, Certificates, Config, LoadedCertificate, LogLevel,
};
use cell_api_core::domain::{Domain, DomainFields};
use cell_api_core::published::{Published, Reader};
use cell_lab::netns::Namespace;
use cell_lab::process::{Process, until};
use cell_lab::tools;
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);
/// How long a request takes that is under way while the configuration changes, several times.
const SLOW: Duration = Duration::from_millis(1500);
/// Of Caddy, of a peer with access, and of one without.
const CELL: &str = "10.8.0.1";
const FRIEND: &str = "10.8.0.2";
const OTHER: &str = "10.8.0.3";
const HOST: &str = "calendar.home.cell";

struct Lab {
    space: Namespace,
    folder: tempfile::TempDir,
    proxy: Proxy,
    certificates: Certificates,
    caddy: Process,
}

impl Lab {
    fn new() -> Lab {
        let space = Namespace::new("pxy").unwrap();
        for address in [CELL, FRIEND, OTHER] {
            space
                .add_address("lo", format!("{address}/32").parse().unwrap())
                .unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let initial = folder.path().join("initial.json");
        let admin =
            json!({"admin": {"listen": format!("unix/{}", socket.display()), "config": {"persist": false}}});
        fs::write(&initial, admin.to_string()).unwrap();
        let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
        fs::write(folder.path().join("ca.pem"), made.cert.pem()).unwrap();
        let certificates = Certificates::from(vec![LoadedCertificate {
            chain: made.cert.pem(),
            key: made.signing_key.serialize_pem().into(),
        }]);
        let program = tools::caddy().unwrap();
        let mut command = Command::new(program);
        command
            .args(["run", "--config"])
            .arg(&initial)
            .env("HOME", folder.path());
        let caddy = space.spawn("caddy", &mut command).unwrap();
        until(PATIENCE, "Caddy at its socket", || {
            UnixStream::connect(&socket).ok()
        })
        .unwrap();
        let proxy = Proxy::new(&socket);
        let lab = Lab {
            space,
            folder,
            proxy,
            certificates,
            caddy,
        };
        lab.space.inside(backend).unwrap();
        lab
    }

    fn config(&self, published: &Published, log: LogLevel, certificates: &Certificates) -> (Config, String) {
        let settings = CaddySettings {
            admin: AdminListen {
                path: self.proxy.path().to_str().unwrap().to_owned(),
                mode: None,
            },
            ports: [8443, 8080],
            vpn: ["10.8.0.0/24".parse().unwrap(), "fd08::/64".parse().unwrap()],
            log,
        };
        caddy::config(published, &settings, certificates)
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The status that a peer is answered with; 0: no handshake, or no answer.
    fn status(&self, peer: &str, host: &str, sent: &str) -> u32 {
        status(&self.space, &self.ca(), (peer, host, sent), "", "0")
    }
}

/// `host` is who the certificate is to be of, `sent` who the request is for. `retries`: how often the client opens another
/// connection when one is closed before its request is taken, as browsers do.
fn status(
    space: &Namespace,
    ca: &Path,
    (peer, host, sent): (&str, &str, &str),
    path: &str,
    retries: &str,
) -> u32 {
    let (resolve, url) = (
        format!("{host}:8443:{CELL}"),
        format!("https://{host}:8443/{path}"),
    );
    let sent = format!("Host: {sent}");
    let arguments = [
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--max-time",
        "20",
        "--retry",
        retries,
        "--retry-all-errors",
        "--noproxy",
        "*",
        "--interface",
        peer,
        "--cacert",
        ca.to_str().unwrap(),
        "--resolve",
        &resolve,
        "-H",
        &sent,
        &url,
    ];
    let run = || Command::new("curl").args(arguments).output().unwrap();
    let told = space.inside(run).unwrap();
    String::from_utf8_lossy(&told.stdout).parse().unwrap()
}

/// A service's container.
fn backend() {
    let listener = TcpListener::bind("127.0.0.1:9000").unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let (mut stream, mut buffer) = (stream, [0; 4096]);
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    if buffer[..length].starts_with(b"GET /slow") {
                        thread::sleep(SLOW);
                    }
                    if stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
}

fn published() -> Published {
    let mut published = states::one_service();
    published.services[0].web = Some("127.0.0.1:9000".parse().unwrap());
    let grant = published.services[0].web_grant();
    published.readers = vec![
        Reader {
            addresses: vec![FRIEND.parse().unwrap()],
            granted: BTreeSet::from([grant]),
        },
        Reader {
            addresses: vec![OTHER.parse().unwrap()],
            granted: BTreeSet::new(),
        },
    ];
    published
}

#[tokio::test(flavor = "multi_thread")]
async fn each_peer_opens_what_it_may() {
    let lab = Lab::new();
    let (config, mark) = lab.config(&published(), LogLevel::Error, &lab.certificates);
    assert!(!lab.proxy.has(&mark).await.unwrap());
    lab.proxy.load(&config).await.unwrap();
    assert!(lab.proxy.has(&mark).await.unwrap());
    assert_eq!(lab.status(FRIEND, HOST, HOST), 200);
    assert_eq!(lab.status(OTHER, HOST, HOST), 403);
    assert_eq!(lab.status(CELL, HOST, HOST), 403, "who is no peer");
    assert_eq!(
        lab.status(FRIEND, HOST, "files.home.cell"),
        421,
        "a host that is none"
    );
    // A host as no browser writes it: what chooses the container takes letters as they are.
    assert_eq!(lab.status(FRIEND, HOST, &HOST.to_uppercase()), 421);
    assert_eq!(
        lab.status(FRIEND, "files.home.cell", "files.home.cell"),
        0,
        "it has no certificate for it"
    );
    // HTTP leads to HTTPS, for names that there are.
    let plain = |host: &str| {
        let arguments = [
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{redirect_url}",
            "--noproxy",
            "*",
            "-H",
            host,
            "http://10.8.0.1:8080/x?y",
        ];
        let told = lab
            .space
            .inside(|| Command::new("curl").args(arguments).output().unwrap())
            .unwrap();
        String::from_utf8_lossy(&told.stdout).into_owned()
    };
    assert_eq!(
        plain("Host: calendar.home.cell"),
        "308 https://calendar.home.cell/x?y"
    );
    assert_eq!(plain("Host: evil.example"), "421 ");

    // Taken away, and at once.
    let mut without = published();
    without.readers[0].granted.clear();
    let (config, second) = lab.config(&without, LogLevel::Error, &lab.certificates);
    lab.proxy.load(&config).await.unwrap();
    assert_eq!(lab.status(FRIEND, HOST, HOST), 403);
    assert!(lab.proxy.has(&second).await.unwrap() && !lab.proxy.has(&mark).await.unwrap());
    assert_eq!(
        fs::read_dir(lab.folder.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name() == "autosave.json")
            .count(),
        0
    );
    assert!(!lab.caddy.output().contains("PRIVATE KEY"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_caddy_refuses_changes_nothing() {
    let lab = Lab::new();
    let (config, mark) = lab.config(&published(), LogLevel::Error, &lab.certificates);
    lab.proxy.load(&config).await.unwrap();
    let fields = DomainFields {
        mode: "dns01".to_owned(),
        domain: Some("home.duckdns.org".to_owned()),
        provider: Some("duckdns".to_owned()),
        ..DomainFields::default()
    };
    let unknown = Certificates {
        public: Domain::check(&fields).unwrap().public().cloned(),
        ..Certificates::default()
    };
    let (bad, bad_mark) = lab.config(&published(), LogLevel::Error, &unknown);
    let refused = lab.proxy.load(&bad).await.unwrap_err();
    assert!(
        matches!(&refused, ProxyError::Refused(words) if words.contains(".cell")),
        "{refused}"
    );
    assert_eq!(refused.reason(), "REFUSED");
    assert_eq!(lab.status(FRIEND, HOST, HOST), 200, "the former is in force");
    assert!(lab.proxy.has(&mark).await.unwrap() && !lab.proxy.has(&bad_mark).await.unwrap());
    let nobody = Proxy::new(&lab.folder.path().join("nobody.sock"));
    assert_eq!(nobody.load(&config).await.unwrap_err().reason(), "AWAY");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_while_it_changes() {
    let lab = Lab::new();
    let configs =
        [LogLevel::Error, LogLevel::Info].map(|log| lab.config(&published(), log, &lab.certificates).0);
    lab.proxy.load(&configs[0]).await.unwrap();
    let ended = AtomicBool::new(false);
    let (ca, space) = (lab.ca(), &lab.space);
    let ask = |path: &str, retries: &str| status(space, &ca, (FRIEND, HOST, HOST), path, retries);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (under_way, meanwhile): (Vec<u32>, Vec<u32>) = thread::scope(|scope| {
        // Those that Caddy has taken, without another try.
        let slow: Vec<_> = (0..4).map(|_| scope.spawn(|| ask("slow", "0"))).collect();
        thread::sleep(SLOW / 3);
        let asking = scope.spawn(|| {
            let mut seen = Vec::new();
            while !ended.load(Ordering::SeqCst) {
                seen.push(ask("", "3"));
            }
            seen
        });
        let proxy = lab.proxy.clone();
        let changing = scope.spawn(move || {
            for round in 0..20 {
                runtime.block_on(proxy.load(&configs[(round + 1) % 2])).unwrap();
                thread::sleep(Duration::from_millis(50));
            }
        });
        changing.join().unwrap();
        ended.store(true, Ordering::SeqCst);
        let under_way = slow.into_iter().map(|slow| slow.join().unwrap()).collect();
        (under_way, asking.join().unwrap())
    });
    assert_eq!(under_way, [200; 4], "those that were under way");
    assert!(
        !meanwhile.is_empty() && meanwhile.iter().all(|status| *status == 200),
        "{meanwhile:?}"
    );
}
