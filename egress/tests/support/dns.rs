//! A cell with two exits by interfaces, and resolvers of one and the same address behind each way, which answer differently: so
//! an answer tells by which way it came.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use cell_lab::activation::{self, Listener};
use cell_lab::netns::{self, Namespace};
use cell_lab::process::{Process, run_with_input};
use cell_proto::egress::v1;
use cell_proto::egress::v1::egress_service_client::EgressServiceClient;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use super::{Ceiling, id};

const NOBODY: u32 = 65534;
/// Where the relay listens.
pub const RELAY: &str = "169.254.67.1:9053";
/// And where netd turns to it what comes from whoever is bound.
pub const RELAY_OF_BOUND: &str = "169.254.67.1:9054";
/// The resolver of every way.
pub const RESOLVER: &str = "198.51.100.53:53";
/// What each way's resolver answers.
pub const DEFAULT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
pub const FIRST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// Peers: without exit, of the first, of the second, of an exit that has no DNS, of a redirect exit, and none.
pub const UNBOUND: &str = "10.8.0.2";
pub const OF_FIRST: &str = "10.8.0.3";
pub const OF_SECOND: &str = "10.8.0.4";
pub const OF_NONE: &str = "10.8.0.5";
pub const OF_REDIRECT: &str = "10.8.0.6";
pub const STRANGER: &str = "10.8.0.7";

/// What the cell sends to resolvers, by interface.
const RULES: &str = "
table inet t {
    counter default {}
    chain out {
        type filter hook postrouting priority 0;
        oifname \"eth1\" meta l4proto { tcp, udp } th dport 53 counter name default
    }
}";

/// Peers, the cell, what lies beyond it, and what lies beyond its exits.
pub struct DnsLab {
    pub peer: Namespace,
    pub cell: Namespace,
    pub far: Namespace,
    pub exits: [Namespace; 2],
}

impl DnsLab {
    pub fn new() -> Result<Self> {
        let lab = DnsLab {
            peer: Namespace::new("edp")?,
            cell: Namespace::new("edc")?,
            far: Namespace::new("edf")?,
            exits: [Namespace::new("ed1")?, Namespace::new("ed2")?],
        };
        netns::join((&lab.peer, "eth0"), (&lab.cell, "eth0"))?;
        netns::join((&lab.cell, "eth1"), (&lab.far, "eth0"))?;
        netns::join((&lab.cell, "wgext_1"), (&lab.exits[0], "eth0"))?;
        netns::join((&lab.cell, "wgext_2"), (&lab.exits[1], "eth0"))?;
        for last in 2..=7 {
            lab.peer
                .add_address("eth0", format!("10.8.0.{last}/24").parse()?)?;
        }
        for (namespace, link, address) in [
            (&lab.cell, "eth0", "10.8.0.1/24"),
            (&lab.cell, "lo", "169.254.67.1/32"),
            (&lab.cell, "eth1", "192.0.2.1/24"),
            (&lab.far, "eth0", "192.0.2.2/24"),
            (&lab.far, "lo", "198.51.100.53/32"),
            (&lab.cell, "wgext_1", "10.99.1.1/24"),
            (&lab.exits[0], "eth0", "10.99.1.2/24"),
            (&lab.exits[0], "lo", "198.51.100.53/32"),
            (&lab.cell, "wgext_2", "10.99.2.1/24"),
            (&lab.exits[1], "eth0", "10.99.2.2/24"),
            (&lab.exits[1], "lo", "198.51.100.53/32"),
        ] {
            namespace.add_address(link, address.parse()?)?;
        }
        lab.peer.ip("route add 169.254.67.1 via 10.8.0.1")?;
        lab.cell.ip("route add default via 192.0.2.2")?;
        for number in [1, 2] {
            // As netd has it: what is sent out of an exit's interface goes by the exit's table.
            let table = 1000 + number;
            lab.cell
                .ip(&format!("rule add oif wgext_{number} lookup {table}"))?;
            lab.cell.ip(&format!(
                "route add default via 10.99.{number}.2 dev wgext_{number} table {table}"
            ))?;
        }
        for link in ["all", "wgext_1", "wgext_2"] {
            lab.cell.set_sysctl(&format!("ipv4/conf/{link}/rp_filter"), "2")?;
        }
        lab.cell
            .inside(|| run_with_input(Command::new("nft").args(["-f", "-"]), RULES))??;
        Ok(lab)
    }

    /// Packets that left the cell for resolvers by the default way.
    pub fn by_default(&self) -> Result<u64> {
        let told = self
            .cell
            .run("nft", &["list", "counter", "inet", "t", "default"])?;
        let mut words = told.split_whitespace().skip_while(|word| *word != "packets");
        Ok(words.nth(1).context("packets")?.parse()?)
    }

    /// Sends bytes from a peer's address, and answers what comes back within `patience`.
    pub fn send(&self, source: &str, bytes: &[u8], patience: Duration) -> Option<Vec<u8>> {
        self.send_to(RELAY, source, bytes, patience)
    }

    /// The same, to either port of the relay.
    pub fn send_to(&self, relay: &str, source: &str, bytes: &[u8], patience: Duration) -> Option<Vec<u8>> {
        let sent = self.peer.inside(|| -> io::Result<Vec<u8>> {
            let socket = UdpSocket::bind((source, 0))?;
            socket.connect(relay)?;
            socket.set_read_timeout(Some(patience))?;
            socket.send(bytes)?;
            let mut answer = vec![0; 4096];
            let length = socket.recv(&mut answer)?;
            answer.truncate(length);
            Ok(answer)
        });
        sent.unwrap().ok()
    }

    /// Asks by UDP.
    pub fn ask(&self, source: &str, name: &str, kind: RecordType) -> Message {
        let question = question(name, kind);
        let answer = self.send(source, &question.to_vec().unwrap(), super::PATIENCE);
        let answer = Message::from_vec(&answer.expect("an answer")).unwrap();
        assert_eq!(answer.metadata.id, question.metadata.id);
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        answer
    }

    /// Asks by TCP.
    pub fn ask_tcp(&self, source: &str, name: &str, kind: RecordType) -> Message {
        self.ask_tcp_of(RELAY, source, name, kind).expect("an answer")
    }

    /// The same, of either port of the relay. None: the connection ends without an answer.
    pub fn ask_tcp_of(&self, relay: &str, source: &str, name: &str, kind: RecordType) -> Option<Message> {
        let question = question(name, kind).to_vec().unwrap();
        let answer = self.peer.inside(|| -> io::Result<Vec<u8>> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let stream = runtime.block_on(async {
                let socket = tokio::net::TcpSocket::new_v4()?;
                socket.bind(SocketAddr::new(source.parse().unwrap(), 0))?;
                socket.connect(relay.parse().unwrap()).await?.into_std()
            })?;
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(super::PATIENCE))?;
            write_framed(&stream, &question)?;
            read_framed(&stream)
        });
        Some(Message::from_vec(&answer.unwrap().ok()?).unwrap())
    }

    /// The addresses that a name has for a peer.
    pub fn addresses(&self, source: &str, name: &str) -> Vec<Ipv4Addr> {
        let answer = self.ask(source, name, RecordType::A);
        assert_eq!(
            answer.metadata.response_code,
            ResponseCode::NoError,
            "{source} {name}"
        );
        addresses(&answer)
    }

    /// How it ends for a peer.
    pub fn code(&self, source: &str, name: &str) -> ResponseCode {
        self.ask(source, name, RecordType::A).metadata.response_code
    }
}

pub fn addresses(answer: &Message) -> Vec<Ipv4Addr> {
    let of = |record: &Record| match &record.data {
        RData::A(A(ip)) => Some(*ip),
        _ => None,
    };
    answer.answers.iter().filter_map(of).collect()
}

pub fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    message.set_edns(edns);
    message
}

fn write_framed(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).unwrap();
    stream.write_all(&[length.to_be_bytes().as_slice(), bytes].concat())
}

fn read_framed(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// What a resolver was asked: names in lower case, in order.
pub type Heard = Arc<Mutex<Vec<String>>>;

/// A resolver that has `address` for every name, and does what the first label says.
pub fn resolver(namespace: &Namespace, address: Ipv4Addr) -> Heard {
    let heard = Heard::default();
    let bound = namespace.inside(|| (UdpSocket::bind(RESOLVER), TcpListener::bind(RESOLVER)));
    let (udp, tcp) = bound.unwrap();
    let (udp, tcp) = (udp.unwrap(), tcp.unwrap());
    let told = Arc::clone(&heard);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            for answer in answers(&buffer[..length], address, false, &told) {
                let _ = udp.send_to(&answer, from);
            }
        }
    });
    let told = Arc::clone(&heard);
    thread::spawn(move || {
        for stream in tcp.incoming().map_while(Result::ok) {
            if let Ok(question) = read_framed(&stream) {
                for answer in answers(&question, address, true, &told) {
                    let _ = write_framed(&stream, &answer);
                }
            }
        }
    });
    heard
}

fn answers(bytes: &[u8], address: Ipv4Addr, tcp: bool, heard: &Heard) -> Vec<Vec<u8>> {
    let question = Message::from_vec(bytes).unwrap();
    assert!(question.metadata.recursion_desired);
    let query = question.queries[0].clone();
    let name = query.name().to_ascii().to_lowercase();
    // The relay's own question, of which nobody is told.
    if name != "." {
        heard.lock().unwrap().push(name.clone());
    }
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.add_query(query.clone());
    let record = |ip: Ipv4Addr| Record::from_rdata(query.name().clone(), 60, RData::A(A(ip)));
    let is_address = query.query_type() == RecordType::A;
    match name.split('.').next().unwrap() {
        "slow" => return Vec::new(),
        "fail" => answer.metadata.response_code = ResponseCode::ServFail,
        "nx" => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            let root = Name::root();
            let start = SOA::new(root.clone(), root.clone(), 1, 1, 1, 1, 60);
            answer.add_authority(Record::from_rdata(root, 60, RData::SOA(start)));
        }
        "inside" => drop(answer.add_answer(record(Ipv4Addr::new(10, 8, 0, 1)))),
        "big" if !tcp => answer.metadata.truncation = true,
        "big" => {
            answer.answers = (0..200)
                .map(|last| record(Ipv4Addr::new(203, 0, 113, last)))
                .collect();
        }
        "case" => {
            answer.queries[0].set_name(query.name().to_lowercase());
            answer.add_answer(record(address));
        }
        "forged" if !tcp => {
            // Somebody who guesses: the id, the question, a query instead of an answer.
            let forged = |change: &dyn Fn(&mut Message)| {
                let mut message = answer.clone();
                message.add_answer(record(Ipv4Addr::new(203, 0, 113, 66)));
                change(&mut message);
                message.to_vec().unwrap()
            };
            let other = Name::from_ascii("other.example.").unwrap();
            let mut all = vec![
                forged(&|message| message.metadata.id ^= 1),
                forged(&|message| message.metadata.message_type = MessageType::Query),
                forged(&|message| message.queries[0].name = other.clone()),
                forged(&|message| message.queries.clear()),
                b"noise".to_vec(),
            ];
            answer.add_answer(record(address));
            all.push(answer.to_vec().unwrap());
            return all;
        }
        "short" => {
            let mut record = record(address);
            record.ttl = 1;
            answer.add_answer(record);
        }
        _ if is_address => drop(answer.add_answer(record(address))),
        _ => {}
    }
    vec![answer.to_vec().unwrap()]
}

/// The program under test: unprivileged, sandboxed, in the cell's namespace.
pub struct Relay {
    pub process: Process,
    runtime: Runtime,
    client: EgressServiceClient<Channel>,
    _folder: tempfile::TempDir,
}

const CEILING: &str = "[dns]\nupstreams = [\"192.0.2.0/24\", \"198.51.100.0/24\"]\nlocal_upstreams = []\n\
                       interface_prefixes = [\"wgext_\"]\n\
                       authorities = [\"172.20.0.3:53\"]\n";

impl Relay {
    pub fn start(lab: &DnsLab) -> Result<Self> {
        Relay::start_under(lab, CEILING)
    }

    /// With `[dns]` as it is given.
    pub fn start_under(lab: &DnsLab, dns: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let config = folder.path().join("egress.toml");
        // Datagrams are answered from where they came to.
        let text = Ceiling::default().text();
        let text = text.replace("[\"0.0.0.0\", \"::\"]", "[\"169.254.67.1\"]");
        std::fs::write(&config, text + dns)?;
        let socket = folder.path().join("egress.sock");
        let listeners = [Listener::stream("api", &socket)?];
        let arguments = ["--config", config.to_str().context("path")?];
        let program = Path::new(env!("CARGO_BIN_EXE_cell-egress"));
        let mut command = activation::command(program, &arguments, NOBODY, &listeners)?;
        // So that a name in the log would be seen.
        command.env("RUST_LOG", "cell_egress=trace");
        let process = lab.cell.spawn("cell-egress", &mut command)?;
        let runtime = Runtime::new()?;
        let channel = runtime.block_on(async { cell_proto::ipc::connect(socket) });
        let client = EgressServiceClient::new(channel);
        Ok(Relay {
            process,
            runtime,
            client,
            _folder: folder,
        })
    }

    pub fn apply(&self, dns: v1::DnsSpec) -> Result<v1::DnsStatus, tonic::Status> {
        let request = v1::ApplyDnsRequest { dns: Some(dns) };
        let applied = self.runtime.block_on(self.client.clone().apply_dns(request))?;
        Ok(applied.into_inner().status.unwrap())
    }

    pub fn lead(&self, revision: u64, peers: Vec<v1::DnsPeer>) -> Result<u64, tonic::Status> {
        let request = v1::LeadPeersRequest { revision, peers };
        let led = self.runtime.block_on(self.client.clone().lead_peers(request))?;
        Ok(led.into_inner().revision)
    }

    pub fn apply_exits(&self, exits: Vec<v1::Exit>) -> Result<(), tonic::Status> {
        let request = v1::ApplyExitsRequest { exits };
        self.runtime
            .block_on(self.client.clone().apply_exits(request))
            .map(drop)
    }

    /// A connection to a catalog, on which all of these messages are said at once; what it answers, until it has said `length` bytes.
    pub fn catalog(
        &self,
        messages: Vec<v1::ConnectCatalogRequest>,
        length: usize,
    ) -> Result<Vec<u8>, tonic::Status> {
        self.runtime.block_on(async {
            let mut client = self.client.clone();
            let messages = tokio_stream::iter(messages);
            let mut answer = client.connect_catalog(messages).await?.into_inner();
            let mut said = Vec::new();
            while said.len() < length {
                match answer.message().await? {
                    Some(message) => said.extend(message.data),
                    None => break,
                }
            }
            Ok(said)
        })
    }

    /// Holds connections to a catalog while something is done.
    pub fn held<T>(&self, count: usize, first: &v1::ConnectCatalogRequest, act: impl FnOnce() -> T) -> T {
        let mut held = Vec::new();
        for _ in 0..count {
            let (sender, messages) = tokio::sync::mpsc::channel(2);
            let answer = self.runtime.block_on(async {
                sender.send(first.clone()).await.unwrap();
                let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
                let mut answer = self.client.clone().connect_catalog(messages).await?.into_inner();
                answer.message().await?;
                Ok::<_, tonic::Status>(answer)
            });
            held.push((sender, answer.unwrap()));
        }
        act()
    }

    pub fn status(&self) -> v1::DnsStatus {
        let told = self
            .runtime
            .block_on(self.client.clone().get_dns_status(v1::GetDnsStatusRequest {}));
        told.unwrap().into_inner().status.unwrap()
    }

    /// Of the way of an exit; none: the default one.
    pub fn way(&self, exit: Option<u16>) -> v1::DnsWayStatus {
        let wanted = exit.map(id).unwrap_or_default();
        let ways = self.status().ways;
        ways.into_iter().find(|way| way.exit_id == wanted).unwrap()
    }

    pub fn resolve(&self, names: &[&str]) -> Result<Vec<v1::ResolvedName>, tonic::Status> {
        self.resolve_by(names, "")
    }

    /// By the resolvers of an exit.
    pub fn resolve_by(&self, names: &[&str], by: &str) -> Result<Vec<v1::ResolvedName>, tonic::Status> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let request = v1::ResolveRequest {
            names,
            exit_id: by.to_owned(),
        };
        let resolved = self.runtime.block_on(self.client.clone().resolve(request))?;
        Ok(resolved.into_inner().names)
    }
}

/// The specification that the tests begin with.
pub fn spec() -> v1::DnsSpec {
    let endpoint = || vec![RESOLVER.parse::<SocketAddr>().unwrap().into()];
    let address = |text: &str| text.parse::<IpAddr>().unwrap().into();
    let record = |name: &str, data| v1::DnsRecord {
        name: name.to_owned(),
        ttl_seconds: 60,
        data: Some(data),
    };
    let exit = |number, reached| v1::DnsExit {
        id: id(number),
        upstreams: endpoint(),
        reached: Some(reached),
    };
    let peer = |text: &str, exit: Option<u16>| v1::DnsPeer {
        addresses: vec![address(text)],
        exit_id: exit.map(id).unwrap_or_default(),
    };
    v1::DnsSpec {
        zones: vec!["home.arpa".to_owned()],
        records: vec![
            record(
                "nas.home.arpa",
                v1::dns_record::Data::Address(address("10.8.0.1")),
            ),
            record("nas.home.arpa", v1::dns_record::Data::Address(address("fd08::1"))),
            record(
                "www.home.arpa",
                v1::dns_record::Data::Alias("nas.home.arpa".to_owned()),
            ),
        ],
        upstreams: endpoint(),
        exits: vec![
            exit(1, v1::dns_exit::Reached::Interface("wgext_1".to_owned())),
            exit(2, v1::dns_exit::Reached::Interface("wgext_2".to_owned())),
            exit(4, v1::dns_exit::Reached::Redirect(v1::DnsByRedirect {})),
        ],
        peers: vec![
            peer(UNBOUND, None),
            peer(OF_FIRST, Some(1)),
            peer(OF_SECOND, Some(2)),
            peer(OF_NONE, Some(3)),
            peer(OF_REDIRECT, Some(4)),
        ],
        authority: None,
        authority_zones: Vec::new(),
    }
}
