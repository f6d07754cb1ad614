//! What cell-api accepts of connections and resolvers, netd accepts: of as many as there may be, and wherever their servers
//! are. One that netd refused would take all others with it. And what it accepts of SSH servers' keys, cell-egress knows.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[path = "support/wire.rs"]
mod wire;

use std::net::{IpAddr, SocketAddr};

use cell_api_core::connection::allocation::{Allocation, Pools};
use cell_api_core::connection::config::Config;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::import::ssh::SshExit;
use cell_api_core::connection::input::{ConnectionInput, ImportInput};
use cell_api_core::connection::names::Names;
use cell_api_core::derive::dns::{PORT, Upstreams};
use cell_api_core::derive::exits::{ExitSpec, Source, exit_spec};
use cell_api_core::derive::network_spec;
use cell_api_core::range::{self, VpnRange};
use cell_egress_core::pin::HostKey;
use cell_netd_core::validate::{Rejection, validate};
use wire::{addresses, carried, ceiling, settings};

const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const SSH_KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACAW07yLJu7JAKvRLlFGQ6IWqy6V6CtToz4sMpeqTLOfdwAAAIhYQsghWELI
IQAAAAtzc2gtZWQyNTUxOQAAACAW07yLJu7JAKvRLlFGQ6IWqy6V6CtToz4sMpeqTLOfdw
AAAEDmnVNEZlQWbd8LDqIgMYTIkA7EV4Fx8xosfNXEmHdjRxbTvIsm7skAq9EuUUZDohar
LpXoK1OjPiwyl6pMs593AAAAAAECAwQF
-----END OPENSSH PRIVATE KEY-----
";
/// Keys of one server, by each algorithm that OpenSSH makes.
const SCANNED: [&str; 5] = [
    "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC4h8+Wqbn+h1/yoFIn2JSTtNAR2KnHyYGkr8xuHeMcIIVmT3qcxbWYW30QBxHaDGqHN97430TXvYn1beUrXPmD1xENQKsAoDS47qnJbmVDMbZ0IdtUat8Gj1b/Qb1Y/CcBi1Fu4fb/p4eGBdtsh08UQbb9MyeFIv+xZou0x7GrbQ==",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBbTvIsm7skAq9EuUUZDoharLpXoK1OjPiwyl6pMs593",
    "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBBbQMgTnjGU9VEvC5mZXYDCtFHuvpBkCa/gHG0eMBH32jtZbNj9pj3BxPQx2Vli5r1AseQMGUbfRtbgjPpKIYdw=",
    "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBDkkz9vBKbrsryyizOOT6AdB077uAHK+C4o2xSaM/HD+kS9/h6bizl+5X/7IXQ2b2Vqeos3LhRAq8NQFhiAdI9/MxKQWlHalQxVg+KpIN9A17skGki8bLwCKzHORq74KcA==",
    "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBADt9rHA/+LY/xRLMLe3tvmLPzJj/z76wzZZFfz8F+Wv0sZGD7n+Fax8cQ9QH0w6AiEmzsKi1B7FUxMiEMTSsmh6agC1B82vN6yWM2ztReBPlxO5V5GReGtFbiy5hQtwkP7upFceEX4SgGcoDGq2a4lqc++clb35q1X7CFAodtg7wGCc+A==",
];
/// Connections in all, and of those that `cell-egress` carries.
const CONNECTIONS: u8 = 255;
const CARRIED: u8 = 100;

fn range() -> VpnRange {
    VpnRange::new(
        range::parse_v4("10.86.0.0/24").unwrap(),
        range::parse_v6("fd86::/64").unwrap(),
    )
    .unwrap()
}

fn judged(exits: Vec<ExitSpec>, upstreams: &Upstreams) -> Result<(), Rejection> {
    let spec = network_spec(&settings(), Some(&range()), [], exits, Some(upstreams));
    validate(&carried(spec), &ceiling(), None).map(|_| ())
}

fn id(number: u8) -> ConnectionId {
    ConnectionId::from_random([number; 16])
}

fn at(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

fn wireguard(endpoint: &str) -> ConnectionInput {
    let file = format!(
        "[Interface]\nPrivateKey = {KEY}\nAddress = 172.20.0.2/32, fd20::2/128\n\
         [Peer]\nPublicKey = {KEY}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {endpoint}\n"
    );
    ConnectionInput {
        name: "a".to_owned(),
        kind: "wireguard_ext".to_owned(),
        import: ImportInput {
            file: Some(file.into()),
            ..ImportInput::default()
        },
    }
}

fn proxy(server: &str) -> ConnectionInput {
    ConnectionInput {
        name: "a".to_owned(),
        kind: "proxy".to_owned(),
        import: ImportInput {
            url: Some(format!("socks5://{server}").into()),
            ..ImportInput::default()
        },
    }
}

/// The private key was made for this test and signs in nowhere.
fn ssh(host_keys: &str) -> ConnectionInput {
    let import = ImportInput {
        target: Some("anna@203.0.113.9".to_owned().into()),
        private_key: Some(SSH_KEY.to_owned().into()),
        host_keys: Some(host_keys.to_owned().into()),
        ..ImportInput::default()
    };
    ConnectionInput {
        name: "a".to_owned(),
        kind: "sshuttle".to_owned(),
        import,
    }
}

fn tor() -> ConnectionInput {
    ConnectionInput {
        name: "a".to_owned(),
        kind: "tor".to_owned(),
        import: ImportInput::default(),
    }
}

/// What netd would be told of it; `None` where the API refuses it already.
fn told(id: ConnectionId, input: &ConnectionInput, pools: &mut Pools) -> Option<ExitSpec> {
    let config = input.check().ok()?.imported.config;
    let allocation = pools.allocate(&id, config.kind()).unwrap();
    Some(spec(id, &config, &allocation))
}

fn spec(id: ConnectionId, config: &Config, allocation: &Allocation) -> ExitSpec {
    let source = Source {
        id,
        allocation,
        config,
        secrets_whole: true,
        revision: 1,
        secret_revision: 1,
        // `tor_socks` of api.toml.
        tor: SocketAddr::from(([127, 0, 0, 1], 9150)),
        names: &Names::new(),
        pushed: None,
    };
    exit_spec(&source).unwrap()
}

#[test]
fn as_many_connections_as_the_api_gives_netd_takes() {
    let mut pools = Pools::default();
    let exits: Vec<ExitSpec> = (0..=CONNECTIONS)
        .map(|number| {
            let input = match number {
                0..50 => proxy("203.0.113.9:1080"),
                50..CARRIED => tor(),
                CARRIED.. => wireguard("203.0.113.9:51820"),
            };
            told(id(number), &input, &mut pools).unwrap()
        })
        .collect();
    assert_eq!(exits.len(), 256);
    assert_eq!(judged(exits, &Upstreams::default()), Ok(()));
    let more = pools.allocate(
        &id(1),
        wireguard("203.0.113.9:51820")
            .check()
            .unwrap()
            .imported
            .config
            .kind(),
    );
    assert!(more.is_err(), "and no more");
}

/// The hidden service address of netd's ceiling, which the API does not know; where it is a resolver DNS waits, and says why.
const HIDDEN: &str = "fd43:454c:4c00::1";

#[test]
fn wherever_the_api_takes_a_server_netd_takes_it() {
    let (mut taken, mut refused) = (0, Vec::new());
    for ip in addresses().filter(|ip| *ip != HIDDEN.parse::<IpAddr>().unwrap()) {
        for input in [
            wireguard(&format!("{}:51820", at(ip))),
            proxy(&format!("{}:1080", at(ip))),
        ] {
            let Some(exit) = told(id(1), &input, &mut Pools::default()) else {
                refused.push((input.kind, ip));
                continue;
            };
            let said = judged(vec![exit], &Upstreams::default());
            // On the machine itself the policy files decide.
            if ip.to_canonical().is_loopback() {
                assert!(matches!(said, Err(Rejection::AboveCeiling(_))), "{ip} {said:?}");
            } else {
                assert_eq!(said, Ok(()), "{} {ip}", input.kind);
                taken += 1;
            }
        }
    }
    assert!(taken > 1400, "{taken}");
    for (kind, wanted) in [
        ("wireguard_ext", "127.0.0.1"),
        ("proxy", "0.0.0.1"),
        ("proxy", "fe80::1"),
        ("wireguard_ext", "169.254.169.254"),
    ] {
        let wanted = (kind.to_owned(), wanted.parse().unwrap());
        assert!(refused.contains(&wanted), "{wanted:?} is refused by the API");
    }
}

#[test]
fn every_resolver_that_the_api_takes_netd_takes() {
    let (mut taken, mut refused) = (0, Vec::new());
    for ip in addresses().filter(|ip| *ip != HIDDEN.parse::<IpAddr>().unwrap()) {
        match Upstreams::parse([ip.to_string().as_str()]) {
            Ok(upstreams) => {
                assert_eq!(upstreams.as_slice(), [SocketAddr::new(ip, PORT)]);
                assert_eq!(judged(vec![], &upstreams), Ok(()), "{ip}");
                taken += 1;
            }
            Err(_) => refused.push(ip),
        }
    }
    assert!(taken > 700, "{taken}");
    for wanted in ["127.0.0.1", "fe80::1", "ff02::1", "0.0.0.1", "255.255.255.255"] {
        assert!(
            refused.contains(&wanted.parse().unwrap()),
            "{wanted} is refused by the API"
        );
    }
    let most: Vec<String> = (1..=8).map(|host| format!("203.0.113.{host}")).collect();
    let most = Upstreams::parse(most.iter().map(String::as_str)).unwrap();
    assert_eq!(judged(vec![], &most), Ok(()), "as many as there may be");
}

/// All that `ssh-keyscan` prints of a server with each kind of key.
#[test]
fn every_host_key_that_the_api_takes_egress_knows() {
    let line = |key: &str| format!("203.0.113.9 {key}\n");
    let scanned: String = SCANNED.map(line).concat();
    let Config::Sshuttle(exit) = ssh(&scanned).check().unwrap().imported.config else {
        panic!("an SSH server");
    };
    assert_eq!(exit.host_keys.len(), SCANNED.len() - 1, "all but that of RSA");
    for (key, said) in SCANNED.map(|key| (key, HostKey::parse(key))) {
        let alone = ssh(&line(key)).check();
        assert_eq!(alone.is_ok(), said.is_ok(), "{key}");
    }
    // And what an older version stored, of which egress would refuse all for the one.
    let stored = SshExit {
        host_keys: SCANNED.map(str::to_owned).to_vec(),
        ..exit
    };
    let told = stored.used_host_keys();
    assert_eq!(told.len(), SCANNED.len() - 1);
    assert!(told.iter().all(|key| HostKey::parse(key).is_ok()), "{told:?}");
}
