#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::connection::choice::ExitChoice;
use crate::connection::config::Config;
use crate::connection::id::ConnectionId;
use crate::connection::kind::Kind;
use crate::connection::reference::Known;
use crate::fault::Faults;
use crate::name::PeerName;

const ALL: &str = include_str!("../../tests/v1/all.json");
const ALL_PEERS: &str = include_str!("../../tests/v1/all_peers.json");
const TOR: &str = include_str!("../../tests/v1/tor.json");
const PARTS: &str = include_str!("../../tests/v1/parts.json");
const BROKEN: &str = include_str!("../../tests/v1/broken.json");
const REFERENCES: &str = include_str!("../../tests/v1/references.json");
const REFERENCES_SECRETS: &str = include_str!("../../tests/v1/references_secrets.json");
const SECOND: &str = include_str!("../../tests/v1/second.json");
const TWICE: &str = include_str!("../../tests/v1/twice.json");
/// What is secret in these files, and parts of it.
const SECRETS: [&str; 12] = [
    "yAnz5TF",
    "FpCyhws9",
    "correct-horse-1",
    "correct-horse-2",
    "battery@staple:2",
    "battery%40staple",
    "battery-staple-3",
    "never-shown-4",
    "hunter22",
    "OPENSSH",
    "203.0.113.1",
    "script-security 2",
];

fn with_key(text: &str) -> String {
    use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey};
    let pair = Ed25519Keypair {
        public: ssh_key::public::Ed25519PublicKey([7; 32]),
        private: Ed25519PrivateKey::from_bytes(&[8; 32]),
    };
    let key = ssh_key::PrivateKey::from(pair)
        .to_openssh(ssh_key::LineEnding::LF)
        .unwrap();
    text.replace("@SSH_PRIVATE_KEY@", &key.replace('\n', "\\n"))
}

fn texts<'a>(config: &'a str, peers: Option<&'a str>) -> Texts<'a> {
    Texts {
        config,
        peers,
        secrets: None,
    }
}

fn first(config: &str, peers: Option<&str>) -> Result<First, Faults> {
    first_of(texts(config, peers))
}

fn first_of(texts: Texts<'_>) -> Result<First, Faults> {
    match read(texts)? {
        File::First(first) => Ok(first),
        File::Later(version) => panic!("version {version}"),
    }
}

/// A cell in memory: what a plan makes of it is the cell that the next plan sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    connections: Vec<(ConnectionId, String, Kind)>,
    carried: Carried,
    peers: BTreeMap<PeerName, ExitChoice>,
}

impl State {
    fn with_peers(names: &[&str]) -> State {
        let peer = |name: &&str| (PeerName::parse(name).unwrap(), ExitChoice::default());
        State {
            peers: names.iter().map(peer).collect(),
            ..State::default()
        }
    }

    fn add(&mut self, name: &str, kind: Kind) -> ConnectionId {
        let number = u8::try_from(self.connections.len()).unwrap();
        let id = ConnectionId::from_random([number; 16]);
        self.connections.push((id, name.to_owned(), kind));
        id
    }

    fn plan(&self, config: &str, peers: Option<&str>) -> Result<Plan, Faults> {
        self.plan_of(texts(config, peers))
    }

    fn plan_of(&self, texts: Texts<'_>) -> Result<Plan, Faults> {
        let known: Vec<Known<'_>> = self
            .connections
            .iter()
            .map(|(id, name, kind)| Known {
                id: *id,
                name,
                kind: *kind,
            })
            .collect();
        let cell = Cell {
            connections: &known,
            carried: &self.carried,
            peers: &self.peers,
        };
        plan(first_of(texts)?, &cell)
    }

    fn apply(&mut self, plan: &Plan) {
        for make in &plan.make {
            let id = self.add(make.name.as_str(), make.kind());
            self.carried.insert(make.kind(), id);
        }
        for bind in &plan.bind {
            let to = bind.to.map(|to| match to {
                Target::Made(kind) => self.carried[&kind],
                Target::There(id) => id,
            });
            let choice = self.peers.get_mut(&bind.peer).unwrap();
            *choice = bind.applied_to(choice, to).unwrap();
        }
    }

    fn exit_of(&self, peer: &str) -> (Option<&str>, Option<bool>) {
        let choice = &self.peers[&PeerName::parse(peer).unwrap()];
        let name = choice.bound().map(|bound| {
            let found = self.connections.iter().find(|(id, _, _)| *id == bound);
            found.unwrap().1.as_str()
        });
        (name, choice.fail_open())
    }
}

fn keeps_quiet(shown: &str) {
    for secret in SECRETS {
        assert!(!shown.contains(secret), "{secret} is shown: {shown}");
    }
}

fn household() -> State {
    State::with_peers(&["phone", "laptop", "tv", "desk", "nas", "guest"])
}

#[test]
fn a_household_with_an_exit_of_each_type_is_carried() {
    let mut state = household();
    let plan = state.plan(&with_key(ALL), Some(ALL_PEERS)).unwrap();
    let made: Vec<(String, Kind, Vec<String>)> = plan
        .make
        .iter()
        .map(|make| {
            let secrets = make.imported.secrets.iter().map(|secret| secret.field.clone());
            (make.name.to_string(), make.kind(), secrets.collect())
        })
        .collect();
    let of = |name: &str, kind, secrets: &[&str]| {
        let secrets = secrets.iter().map(|field| (*field).to_owned()).collect();
        (name.to_owned(), kind, secrets)
    };
    assert_eq!(
        made,
        [
            of(
                "wireguard_ext-v1",
                Kind::WireguardExt,
                &["wireguard_key", "preshared_key_1"]
            ),
            of(
                "openvpn-v1",
                Kind::Openvpn,
                &["openvpn_username", "openvpn_password"]
            ),
            of("tor-v1", Kind::Tor, &[]),
            of("sshuttle-v1", Kind::Sshuttle, &["private_key"]),
            of("proxy-v1", Kind::Proxy, &["password"]),
        ]
    );
    let password = &plan.make[4].imported.secrets[0].value;
    assert_eq!(
        password.as_str(),
        "battery@staple:2",
        "what is made a URL is read back as it was"
    );
    state.apply(&plan);
    assert_eq!(state.exit_of("phone"), (Some("wireguard_ext-v1"), None));
    assert_eq!(state.exit_of("laptop"), (Some("tor-v1"), Some(false)));
    assert_eq!(state.exit_of("tv"), (Some("proxy-v1"), Some(true)));
    assert_eq!(
        state.exit_of("nas"),
        (Some("sshuttle-v1"), None),
        "the older name counts beside default"
    );
    assert_eq!(state.exit_of("guest"), (None, None));

    let again = state.plan(&with_key(ALL), Some(ALL_PEERS)).unwrap();
    assert!(again.is_done(), "{again:?}");
    assert_eq!(again.words().last().unwrap(), "There is nothing to do.");
}

#[test]
fn a_plan_is_told_in_words_and_what_is_not_carried_too() {
    let plan = household().plan(&with_key(ALL), Some(ALL_PEERS)).unwrap();
    keeps_quiet(&format!("{plan:?} {:?}", plan.words()));
    for note in [
        "of config only connectivity is read, not _identity, _meta, logging, wireguard",
        "config.connectivity.exits.proxy.redsocks_port is not known and not carried",
        "config.connectivity.egress_overrides is not carried (services email, files): choose the exit of a service once it \
         is installed",
        "of peers only their exits are carried, not internet_access, ip, peer_access, public_key, service_access",
        "no device here is called old-phone: add it, and import again to bind it to its exit",
        "config.connectivity.exits.wireguard_ext: Table is not used: the cell chooses ports, marks and routes itself",
    ] {
        assert!(
            plan.notes.iter().any(|one| one == note),
            "{note}: {:#?}",
            plan.notes
        );
    }
    assert_eq!(
        plan.words(),
        [
            "A connection wireguard_ext-v1 of type wireguard_ext is made, with a mark and a table of its own in place of 0x10 \
             and 110.",
            "Secrets of wireguard_ext-v1 go to the vault: conn_<id>_wireguard_key, conn_<id>_preshared_key_1.",
            "A connection openvpn-v1 of type openvpn is made, with a mark and a table of its own in place of 0x20 and 120.",
            "Secrets of openvpn-v1 go to the vault: conn_<id>_openvpn_username, conn_<id>_openvpn_password.",
            "A connection tor-v1 of type tor is made, with a mark and a table of its own in place of 0x30 and 130.",
            "A connection sshuttle-v1 of type sshuttle is made, with a mark and a table of its own in place of 0x40 and 140.",
            "Secrets of sshuttle-v1 go to the vault: conn_<id>_private_key.",
            "A connection proxy-v1 of type proxy is made, with a mark and a table of its own in place of 0x50 and 150.",
            "Secrets of proxy-v1 go to the vault: conn_<id>_password.",
            "desk: bound to openvpn-v1.",
            "tv: bound to proxy-v1.",
            "nas: bound to sshuttle-v1.",
            "laptop: bound to tor-v1.",
            "phone: bound to wireguard_ext-v1.",
            "laptop: out nowhere while the exit does not work.",
            "tv: out directly while the exit does not work.",
        ]
    );
}

#[test]
fn exits_in_parts_and_lists_are_read_and_named() {
    let mut state = State::with_peers(&["phone", "tv", "guest"]);
    let plan = state.plan(PARTS, None).unwrap();
    assert_eq!(plan.make[0].name.as_str(), "mullvad");
    let Config::WireguardExt(exit) = &plan.make[0].imported.config else {
        panic!("{:?}", plan.make[0])
    };
    assert_eq!((exit.addresses.len(), exit.peers[0].keepalive_seconds), (2, 25));
    let Config::Proxy(exit) = &plan.make[1].imported.config else {
        panic!("{:?}", plan.make[1])
    };
    assert_eq!((exit.port, exit.username.as_deref()), (3128, Some("anna")));
    keeps_quiet(&format!("{plan:?} {:?}", plan.words()));
    state.apply(&plan);
    assert_eq!(state.exit_of("phone").0, Some("mullvad"));
    assert_eq!(state.exit_of("tv").0, Some("proxy-v1"));
    assert_eq!(state.exit_of("guest").0, None);
}

#[test]
fn what_was_not_enabled_is_noted_and_any_tor_is_as_good() {
    let mut state = State::default();
    state.add("onion", Kind::Tor);
    let plan = state.plan(TOR, None).unwrap();
    assert!(plan.is_done(), "{plan:?}");
    assert_eq!(plan.keep[0].name, "onion");
    let off = "config.connectivity.proxy is not carried: it was not enabled".to_owned();
    assert!(plan.notes.contains(&off), "{:?}", plan.notes);
}

#[test]
fn every_fault_is_named_at_once_and_no_value() {
    let faults = first(BROKEN, Some("[{\"name\": \"a\", \"exit_via\": {}}, 7]")).unwrap_err();
    let text = faults.to_string();
    keeps_quiet(&text);
    let fields: Vec<&str> = faults.violations().iter().map(|one| one.field.as_str()).collect();
    for field in [
        "config.connectivity.version",
        "config.connectivity.exits.wireguard_ext.mark",
        "config.connectivity.exits.wireguard_ext.conf line 7 (PostUp)",
        "config.connectivity.exits.openvpn.password",
        "config.connectivity.exits.openvpn.profile line 14 (up)",
        "config.connectivity.exits.sshuttle.host",
        "config.connectivity.exits.sshuttle.private_key",
        "config.connectivity.exits.sshuttle.host_keys",
        "config.connectivity.exits.proxy.url",
        "peers[0].exit_via",
        "peers[1]",
    ] {
        assert!(fields.contains(&field), "{field}: {fields:#?}");
    }
}

#[test]
fn what_is_given_twice_is_named() {
    let text = first(TWICE, None).unwrap_err().to_string();
    for field in ["tor", "tor.mark", "proxy.url"] {
        let fault = format!("config.connectivity.{field}: is given twice");
        assert!(text.contains(&fault), "{fault}: {text}");
    }
    let other = json!({"connectivity": {"exits": {"tor": {}}, "tor": {}}}).to_string();
    let text = first(&other, None).unwrap_err().to_string();
    assert!(text.contains("must not be a second exit of type tor"), "{text}");
    let other = json!({"connectivity": {"proxy": {"url": "socks5://a.example.org", "upstream": "x"}}});
    let text = first(&other.to_string(), None).unwrap_err().to_string();
    assert!(
        text.contains("proxy.upstream: must not be given beside"),
        "{text}"
    );
}

#[test]
fn parts_of_a_url_do_not_become_others() {
    for (part, value) in [
        ("host", "a@b"),
        ("port", "1@b.example.org"),
        ("scheme", "socks5://a.example.org/"),
        ("host", "a/b#"),
    ] {
        let mut exit = json!({"host": "p.example.org", "username": "anna", "password": "a@b/c#d"});
        exit[part] = json!(value);
        let text = first(&json!({"proxy": exit}).to_string(), None)
            .unwrap_err()
            .to_string();
        assert!(
            text.contains(&format!("config.proxy.{part}: must not hold")),
            "{text}"
        );
    }
    let good = json!({"proxy": {"host": "p.example.org", "username": "anna", "password": "a@b/c#d"}});
    let read = first(&good.to_string(), None).unwrap();
    assert_eq!(
        read.exits[&Kind::Proxy].imported.secrets[0].value.as_str(),
        "a@b/c#d"
    );
}

#[test]
fn the_second_version_is_known_and_nothing_of_it_migrated() {
    assert!(matches!(read(texts(SECOND, None)).unwrap(), File::Later(2)));
    let later = json!({"connectivity": {"version": 7}}).to_string();
    assert!(matches!(read(texts(&later, None)).unwrap(), File::Later(7)));
    let unsaid = json!({"connections": []}).to_string();
    assert!(matches!(read(texts(&unsaid, None)).unwrap(), File::Later(2)));
    let first = json!({"connectivity": {"version": 1, "tor": {}}}).to_string();
    assert!(matches!(read(texts(&first, None)).unwrap(), File::First(_)));
}

#[test]
fn references_to_the_old_vault_lead_to_what_is_given_with_the_files() {
    let mut state = household();
    let (config, secrets) = (with_key(REFERENCES), with_key(REFERENCES_SECRETS));
    let given = Texts {
        config: &config,
        peers: Some(ALL_PEERS),
        secrets: Some(&secrets),
    };
    let plan = state.plan_of(given).unwrap();
    let inline = household().plan(&with_key(ALL), Some(ALL_PEERS)).unwrap();
    assert_eq!(plan.words(), inline.words());
    for (one, other) in plan.make.iter().zip(&inline.make) {
        assert_eq!(one.imported.config, other.imported.config);
        assert_eq!(one.imported.secrets, other.imported.secrets, "{}", one.name);
    }
    let unused =
        "1 of the secrets are referred to by no exit that is carried: they are not carried".to_owned();
    assert!(plan.notes.contains(&unused), "{:?}", plan.notes);
    keeps_quiet(&format!("{plan:?} {:?}", plan.words()));
    state.apply(&plan);
    assert!(state.plan_of(given).unwrap().is_done());
}

#[test]
fn references_that_lead_nowhere_are_faults_that_say_what_to_do() {
    for (exit, field) in [
        (
            json!({"host": "p.example.org", "username": "anna", "password_ref": "old_name"}),
            "password_ref",
        ),
        (
            json!({"host": "p.example.org", "username": "anna", "password": {"vault": "old_name"}}),
            "password.vault",
        ),
        (
            json!({"host": "p.example.org", "username": "anna", "password": "vault:old_name"}),
            "password",
        ),
        (
            json!({"url": "socks5://p.example.org", "username": "a", "secret_refs": {"password": "old_name"}}),
            "secret_refs.password",
        ),
    ] {
        let config = json!({"connectivity": {"proxy": exit}}).to_string();
        for (secrets, why) in [
            (None, "put the value itself here"),
            (Some("{\"other\": \"x\"}"), "not among the secrets"),
        ] {
            let texts = Texts {
                config: &config,
                peers: None,
                secrets,
            };
            let text = first_of(texts).unwrap_err().to_string();
            assert!(
                text.contains(why) && text.contains(&format!("proxy.{field}: ")),
                "{text}"
            );
            assert!(!text.contains("old_name"), "{text}");
        }
        let texts = Texts {
            config: &config,
            peers: None,
            secrets: Some("{\"old_name\": \"hunter22\"}"),
        };
        assert_eq!(
            first_of(texts).unwrap().exits[&Kind::Proxy].imported.secrets[0]
                .value
                .as_str(),
            "hunter22"
        );
    }
}

#[test]
fn a_key_beside_a_file_that_has_it_is_a_fault_and_so_are_secrets_that_are_none() {
    let both = json!({"proxy": {"url": "socks5://a:b@p.example.org", "password_ref": "x"}}).to_string();
    let texts = Texts {
        config: &both,
        peers: None,
        secrets: Some("{\"x\": \"y\"}"),
    };
    assert!(first_of(texts).unwrap_err().to_string().contains("not both"));
    for bad in ["[]", "{\"x\": 1}", "{\"x\": \"1\", \"x\": \"2\"}", "x"] {
        let texts = Texts {
            config: TOR,
            peers: None,
            secrets: Some(bad),
        };
        let faults = first_of(texts).unwrap_err();
        assert!(
            faults.violations()[0].field.starts_with("secrets"),
            "{bad}: {faults}"
        );
    }
}

#[test]
fn a_peer_that_would_leave_by_another_way_holds_the_migration_up() {
    let peers = |exit: &str| json!({"phone": exit}).to_string();
    let tor = json!({"connectivity": {"tor": {}}}).to_string();
    let mut state = State::with_peers(&["phone"]);
    let fault = |state: &State, exit: &str| state.plan(&tor, Some(&peers(exit))).unwrap_err().to_string();
    assert!(fault(&state, "proxy").contains("names the type proxy, and no connection has it"));
    assert!(fault(&state, "cousins-cell").contains("no type of exit and no connection here"));
    let cousin = state.add("cousins-cell", Kind::CellRelay);
    assert!(fault(&state, "cousins-cell").contains("another cell, which nothing carries yet"));
    assert!(fault(&state, &cousin.to_string()).contains("another cell"));
    let home = state.add("home", Kind::Proxy);
    let plan = state.plan(&tor, Some(&peers("proxy"))).unwrap();
    assert_eq!(plan.bind[0].to, Some(Target::There(home)), "the one of its type");
    assert_eq!(plan.words()[1], "phone: bound to home.");
    state.add("work", Kind::Proxy);
    assert!(
        fault(&state, "proxy").ends_with("name one of home, work"),
        "{}",
        fault(&state, "proxy")
    );
    assert!(state.plan(&tor, Some(&peers("home"))).is_ok(), "a name is a name");
    // The file's own exit is what the file means, whatever else is of its type.
    let proxy = json!({"proxy": {"url": "socks5://p.example.org"}}).to_string();
    let plan = state.plan(&proxy, Some(&peers("proxy"))).unwrap();
    assert_eq!(plan.bind[0].to, Some(Target::Made(Kind::Proxy)));
}

#[test]
fn what_was_chosen_here_stays() {
    let mut state = State::with_peers(&["phone", "tv"]);
    let own = state.add("own", Kind::WireguardExt);
    for (peer, choice) in [
        ("phone", ExitChoice::default().bound_to(Some(own))),
        ("tv", ExitChoice::default().failing_open(Some(false))),
    ] {
        state.peers.insert(PeerName::parse(peer).unwrap(), choice);
    }
    let record = json!({"exit_via": "tor", "failopen": true});
    let peers = json!({"phone": record, "tv": record}).to_string();
    let plan = state.plan(TOR, Some(&peers)).unwrap();
    state.apply(&plan);
    assert_eq!(
        state.exit_of("phone"),
        (Some("own"), None),
        "what would open another exit is not carried"
    );
    assert_eq!(state.exit_of("tv"), (Some("tor-v1"), Some(false)));
    let kept = plan.notes.iter().filter(|note| note.contains("stays so")).count();
    assert_eq!(kept, 2, "{:?}", plan.notes);
}

#[test]
fn what_somebody_chose_since_the_plan_stays() {
    let mut state = State::with_peers(&["phone"]);
    let own = state.add("own", Kind::WireguardExt);
    let peers = json!({"phone": {"exit_via": "tor", "failopen": true}}).to_string();
    let plan = state.plan(TOR, Some(&peers)).unwrap();
    let (bind, made) = (&plan.bind[0], Some(ConnectionId::from_random([9; 16])));
    let since = ExitChoice::default();
    let bound = bind.applied_to(&since, made).unwrap();
    assert_eq!((bound.bound(), bound.fail_open()), (made, Some(true)));
    assert_eq!(bind.applied_to(&since.bound_to(Some(own)), made), None);
    let closed = bind.applied_to(&since.failing_open(Some(false)), made).unwrap();
    assert_eq!((closed.bound(), closed.fail_open()), (made, Some(false)));
}

#[test]
fn hostile_files_are_bounded() {
    let deep = format!("{{\"connectivity\": {}", "[".repeat(100_000));
    assert!(
        first(&deep, None)
            .unwrap_err()
            .to_string()
            .contains("not valid JSON")
    );
    let nested = format!(
        "{{\"connectivity\": {}1{}}}",
        "{\"a\": ".repeat(5_000),
        "}".repeat(5_000)
    );
    assert!(first(&nested, None).is_err());
    let huge = format!("{{\"connectivity\": \"{}\"}}", "x".repeat(CONFIG_MAX));
    assert!(
        first(&huge, None)
            .unwrap_err()
            .to_string()
            .contains("at most 512 KiB")
    );
    let many: Vec<String> = (0..40_000)
        .map(|number| format!("\"k{number}\": 1, \"k{number}\": 1"))
        .collect();
    let faults = first(&format!("{{{}}}", many.join(",")), None).unwrap_err();
    assert!(faults.violations().len() <= 101, "{}", faults.violations().len());
    let nobody = format!("[{}]", vec!["{}"; 20_001].join(","));
    let faults = first("{\"tor\": {}}", Some(&nobody)).unwrap_err();
    assert!(faults.to_string().contains("at most 20000 peers"));
    let unknown: Vec<String> = (0..20_000)
        .map(|number| format!("\"secret{number}\": \"{number}\""))
        .collect();
    let unknown = format!("{{\"connectivity\": {{{}}}}}", unknown.join(","));
    let File::First(read) = read(texts(&unknown, None)).unwrap() else {
        panic!("the first version")
    };
    assert_eq!(read.notes.len(), 101);
    assert_eq!(read.notes.last().unwrap(), "and 19900 more that are not carried");
    for bad in [
        "",
        "[]",
        "null",
        "7",
        "{}",
        "{\"connectivity\": []}",
        "{\"a\": 1} x",
    ] {
        assert!(first(bad, None).is_err(), "{bad}");
    }
    let long = json!({"phone": "x".repeat(1_000_000)}).to_string();
    assert!(
        first("{\"tor\": {}}", Some(&long))
            .unwrap_err()
            .to_string()
            .contains("at most 64 bytes")
    );
}

mod properties;
