//! Certificates of a public domain by DNS-01 and by HTTP-01, with real parts: Caddy as the image has it, Pebble as the authority (Let's Encrypt's own
//! test server), and BIND for the domain. Needs root.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[path = "../core/tests/support/published.rs"]
mod states;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use cell_api::published::Proxy;
use cell_api_core::derive::caddy::{
    self, AdminListen, CHALLENGE_PORT, CaddySettings, Certificates, Config, LogLevel,
};
use cell_api_core::domain::{Domain, DomainFields};
use cell_api_core::published::{HostName, Published, Reader};
use cell_lab::netns::Namespace;
use cell_lab::process::{Process, until};
use cell_lab::tools;
use serde_json::json;

/// A machine that does much else builds and proves slowly.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of Caddy, of a peer with access, of one without, of the authority and of the name server.
const CELL: &str = "10.8.0.1";
const FRIEND: &str = "10.8.0.2";
const OTHER: &str = "10.8.0.3";
const AUTHORITY: &str = "192.0.2.10";
const SERVER: &str = "192.0.2.53";
const NAME: &str = "*.home.example.org";
/// Published, so it has a certificate where each name is proven by itself.
const HOST: &str = "calendar.home.example.org";
const KEY: &str = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IDMyISE=";
/// Of the right form, and not the one that the server knows.
const WRONG_KEY: &str = "bm90IHRoZSBrZXkgdGhhdCB0aGUgc2VydmVyIGhhcw==";

struct Lab {
    space: Namespace,
    folder: tempfile::TempDir,
    proxy: Proxy,
    authority: String,
    named: Process,
    _pebble: Process,
    caddy: Process,
}

impl Lab {
    fn new() -> Lab {
        let space = Namespace::new("acme").unwrap();
        for address in [CELL, FRIEND, OTHER, AUTHORITY, SERVER] {
            space
                .add_address("lo", format!("{address}/32").parse().unwrap())
                .unwrap();
        }
        space.inside(backend).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let named = named(&space, folder.path());
        let (pebble, authority) = pebble(&space, folder.path());
        let (caddy, proxy) = caddy(&space, folder.path());
        Lab {
            space,
            folder,
            proxy,
            authority,
            named,
            _pebble: pebble,
            caddy,
        }
    }

    fn config(&self, log: LogLevel) -> Config {
        let fields = DomainFields {
            mode: "dns01".to_owned(),
            domain: Some("home.example.org".to_owned()),
            email: Some("post@example.org".to_owned()),
            provider: Some("generic".to_owned()),
            server: Some(SERVER.to_owned()),
            tsig_name: Some("cell".to_owned()),
            acme_directory: Some(format!("https://{AUTHORITY}:14000/dir")),
            acme_authority: Some(self.authority.clone()),
            ..DomainFields::default()
        };
        self.configured(&fields, log)
    }

    fn config_by_http(&self, log: LogLevel) -> Config {
        let fields = DomainFields {
            mode: "http01".to_owned(),
            domain: Some("home.example.org".to_owned()),
            acme_directory: Some(format!("https://{AUTHORITY}:14000/dir")),
            acme_authority: Some(self.authority.clone()),
            ..DomainFields::default()
        };
        self.configured(&fields, log)
    }

    fn configured(&self, fields: &DomainFields, log: LogLevel) -> Config {
        let certificates = Certificates {
            public: Domain::check(fields).unwrap().public().cloned(),
            ..Certificates::default()
        };
        let settings = CaddySettings {
            admin: AdminListen {
                path: self.proxy.path().to_str().unwrap().to_owned(),
                mode: Some(0o660),
            },
            ports: [8443, 8080],
            vpn: ["10.8.0.0/24".parse().unwrap(), "fd08::/64".parse().unwrap()],
            log,
        };
        caddy::config(&published(), &settings, &certificates).0
    }

    /// Caddy reads it at `/run/secrets/dns_token`, as in its container.
    fn give(&self, key: &str) {
        fs::write(self.folder.path().join("secrets/dns_token"), format!("{key}\n")).unwrap();
    }

    async fn outcome(&self, what: &str, holds: impl Fn(Option<i64>, Option<&str>) -> bool) {
        self.outcome_of(NAME, what, holds).await;
    }

    async fn outcome_of(&self, name: &str, what: &str, holds: impl Fn(Option<i64>, Option<&str>) -> bool) {
        let mut last = None;
        for _ in 0..PATIENCE.as_millis() / 200 {
            let told = self.proxy.certificate(name).await.unwrap();
            if holds(told.not_after, told.fault.as_deref()) {
                return;
            }
            last = Some(told);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!(
            "{what}: {last:?}\n{}\n{}",
            self.caddy.output(),
            self.named.output()
        );
    }

    fn curl(&self, arguments: &[&str]) -> String {
        let run = || {
            Command::new("curl")
                .args(["-sS", "--max-time", "20", "--noproxy", "*"])
                .args(arguments)
                .output()
                .unwrap()
        };
        let told = self.space.inside(run).unwrap();
        String::from_utf8_lossy(&told.stdout).into_owned()
    }

    fn status(&self, peer: &str, root: &Path) -> String {
        let (resolve, url) = (format!("{HOST}:8443:{CELL}"), format!("https://{HOST}:8443/"));
        let ca = root.to_str().unwrap();
        let arguments = [
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--interface",
            peer,
            "--cacert",
            ca,
            "--resolve",
        ];
        self.curl(&[&arguments[..], &[&resolve, &url]].concat())
    }

    fn root(&self) -> PathBuf {
        let root = self.folder.path().join("root.pem");
        let told = self.curl(&["-k", &format!("https://{AUTHORITY}:15000/roots/0")]);
        fs::write(&root, told).unwrap();
        root
    }

    /// Whether somebody listens where the authority asks.
    fn is_open(&self) -> bool {
        let at = (CELL, CHALLENGE_PORT);
        self.space.inside(|| TcpStream::connect(at).is_ok()).unwrap()
    }

    /// What the port answers to somebody who asks for a service, and for a proof that is not there; 000: nobody listens.
    fn looks(&self) -> BTreeSet<String> {
        let paths = ["/", "/.well-known/acme-challenge/guess"];
        let one = |path: &str| {
            let (host, url) = (
                format!("Host: {HOST}"),
                format!("http://{CELL}:{CHALLENGE_PORT}{path}"),
            );
            self.curl(&["-o", "/dev/null", "-w", "%{http_code}", "-H", &host, &url])
        };
        paths.into_iter().map(one).collect()
    }

    fn proofs(&self) -> String {
        let server = format!("@{SERVER}");
        let arguments = [
            server.as_str(),
            "+short",
            "_acme-challenge.home.example.org",
            "TXT",
        ];
        self.space.run("dig", &arguments).unwrap()
    }
}

fn published() -> Published {
    let mut published = states::one_service();
    published
        .domains
        .push(HostName::parse("home.example.org").unwrap());
    published.services[0].web = Some("127.0.0.1:9000".parse().unwrap());
    let grant = published.services[0].web_grant();
    let reader = |address: &str, granted| Reader {
        addresses: vec![address.parse().unwrap()],
        granted,
    };
    published.readers = vec![
        reader(FRIEND, BTreeSet::from([grant])),
        reader(OTHER, BTreeSet::new()),
    ];
    published
}

/// A service's container.
fn backend() {
    let listener = TcpListener::bind("127.0.0.1:9000").unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// It has example.org, and takes TXT records from whoever has the key.
fn named(space: &Namespace, folder: &Path) -> Process {
    let dir = folder.join("named");
    fs::create_dir(&dir).unwrap();
    let place = dir.display();
    let config = format!(
        "options {{ directory \"{place}\"; listen-on {{ {SERVER}; }}; listen-on-v6 {{ none; }}; pid-file none; \
           session-keyfile none; recursion no; dnssec-validation no; }};\ncontrols {{ }};\n\
         key \"cell\" {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\n\
         zone \"example.org\" {{ type primary; file \"{place}/zone\"; update-policy {{ grant cell zonesub TXT; }}; }};\n"
    );
    fs::write(dir.join("named.conf"), config).unwrap();
    let zone = format!(
        "$TTL 5\n@ IN SOA ns.example.org. host.example.org. 1 60 60 60 5\n@ IN NS ns.example.org.\nns IN A {SERVER}\n*.home IN A {CELL}\n"
    );
    fs::write(dir.join("zone"), zone).unwrap();
    let mut command = Command::new(tools::named().unwrap());
    command.args(["-4", "-g", "-c"]).arg(dir.join("named.conf"));
    let mut named = space.spawn("named", &mut command).unwrap();
    named
        .wait_for(PATIENCE, "the name server", |output| {
            output.contains("running").then_some(())
        })
        .unwrap();
    named
}

/// It asks the name server for proofs. Also gives the certificate that it shows itself.
fn pebble(space: &Namespace, folder: &Path) -> (Process, String) {
    let made = rcgen::generate_simple_self_signed(vec![AUTHORITY.to_owned()]).unwrap();
    let (certificate, key) = (folder.join("pebble.pem"), folder.join("pebble.key"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let config = json!({"pebble": {
        "listenAddress": format!("{AUTHORITY}:14000"), "managementListenAddress": format!("{AUTHORITY}:15000"),
        "certificate": certificate, "privateKey": key, "httpPort": CHALLENGE_PORT, "tlsPort": 5001,
        "externalAccountBindingRequired": false}});
    let file = folder.join("pebble.json");
    fs::write(&file, config.to_string()).unwrap();
    let mut command = Command::new(tools::pebble().unwrap());
    command
        .args(["-strict", "-dnsserver", &format!("{SERVER}:53"), "-config"])
        .arg(file)
        .env("PEBBLE_VA_NOSLEEP", "1");
    let mut pebble = space.spawn("pebble", &mut command).unwrap();
    pebble
        .wait_for(PATIENCE, "the authority", |output| {
            output.contains("Listening on").then_some(())
        })
        .unwrap();
    (pebble, made.cert.pem())
}

fn caddy(space: &Namespace, folder: &Path) -> (Process, Proxy) {
    let (secrets, socket) = (folder.join("secrets"), folder.join("admin.sock"));
    fs::create_dir(&secrets).unwrap();
    // In a place of its own, so that nothing of this machine's /run is touched.
    let script = "mount -t tmpfs none /run && mkdir /run/secrets && mount --bind \"$1\" /run/secrets && exec \"$2\" run";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&secrets)
        .arg(tools::cell_caddy().unwrap())
        .env("HOME", folder)
        .env("XDG_DATA_HOME", folder.join("data"))
        .env("CADDY_ADMIN", format!("unix/{}|0660", socket.display()));
    let caddy = space.spawn("caddy", &mut command).unwrap();
    until(PATIENCE, "Caddy at its socket", || {
        UnixStream::connect(&socket).ok()
    })
    .unwrap();
    (caddy, Proxy::new(&socket))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_certificate_is_had_by_dns_and_served() {
    let lab = Lab::new();
    // It can be asked before it has a configuration at all.
    let first = lab.proxy.certificate(NAME).await.unwrap();
    assert_eq!((first.not_after, first.fault), (None, None));

    // Without the key, and with another, it says why.
    lab.proxy.load(&lab.config(LogLevel::Error)).await.unwrap();
    lab.outcome("no key", |_, fault| {
        fault.is_some_and(|why| why.contains("token is not there"))
    })
    .await;
    lab.give(WRONG_KEY);
    lab.proxy.load(&lab.config(LogLevel::Info)).await.unwrap();
    lab.outcome("another key", |_, fault| {
        fault.is_some_and(|why| why.contains("NOTAUTH"))
    })
    .await;

    lab.give(KEY);
    lab.proxy.load(&lab.config(LogLevel::Error)).await.unwrap();
    lab.outcome("the certificate", |not_after, fault| {
        not_after.is_some() && fault.is_none()
    })
    .await;
    let root = lab.root();
    assert_eq!(lab.status(FRIEND, &root), "200");
    assert_eq!(lab.status(OTHER, &root), "403", "who is not granted it");
    until(PATIENCE, "the proof is taken away again", || {
        lab.proofs().is_empty().then_some(())
    })
    .unwrap();
    let said = lab.caddy.output();
    assert!(!said.contains(KEY) && !said.contains(WRONG_KEY), "{said}");

    // It is kept: another start of the same configuration asks nobody.
    let asked = lab.named.output().matches("update").count();
    lab.proxy.load(&lab.config(LogLevel::Info)).await.unwrap();
    lab.outcome("it is still there", |not_after, fault| {
        not_after.is_some() && fault.is_none()
    })
    .await;
    assert_eq!(lab.named.output().matches("update").count(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_published_name_is_proven_at_a_port_that_is_open_meanwhile_and_never_else() {
    let lab = Lab::new();
    assert!(!lab.is_open(), "before");
    let config = lab.config_by_http(LogLevel::Error);
    lab.proxy.load(&config).await.unwrap();
    // Whoever looks meanwhile sees neither a service nor where it is.
    let mut seen = BTreeSet::new();
    loop {
        seen.extend(lab.looks());
        let told = lab.proxy.certificate(HOST).await.unwrap();
        if told.not_after.is_some() || told.fault.is_some() {
            break;
        }
    }
    lab.outcome_of(HOST, "the certificate", |not_after, fault| {
        not_after.is_some() && fault.is_none()
    })
    .await;
    seen.extend(lab.looks());
    assert!(
        seen.iter().all(|status| status == "000" || status == "404"),
        "{seen:?}"
    );
    until(PATIENCE, "nobody listens any more", || {
        (!lab.is_open()).then_some(())
    })
    .unwrap();
    let root = lab.root();
    assert_eq!(lab.status(FRIEND, &root), "200");
    assert_eq!(lab.status(OTHER, &root), "403", "who is not granted it");
    let wildcard = lab.proxy.certificate(NAME).await.unwrap();
    assert_eq!((wildcard.not_after, wildcard.fault), (None, None));

    // It is kept: another start of the same configuration asks nobody.
    lab.proxy.load(&lab.config_by_http(LogLevel::Info)).await.unwrap();
    lab.outcome_of(HOST, "it is still there", |not_after, fault| {
        not_after.is_some() && fault.is_none()
    })
    .await;
    assert!(!lab.is_open(), "after");
}
