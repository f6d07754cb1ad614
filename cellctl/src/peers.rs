//! `cellctl peer`: devices.

mod change;
mod new_file;

use std::io::IsTerminal;
use std::time::{SystemTime, UNIX_EPOCH};

use cell_proto::api::v1::{
    CreatePeerRequest, DeliverPeerConfigRequest, GetPeerConfigRequest, GetPeerRequest, ListPeersRequest,
    PeerAccess, ServiceAccess,
};
use zeroize::Zeroizing;

use crate::cell::Cell;
use crate::cli::{FailOpen, Peer, PeerAdd, PeerConfig, ServiceUrl};
use crate::failure::Failure;
use crate::keys::KeyPair;
use crate::output::Output;
use crate::{config, human, qr, view};
use new_file::NewFile;

/// Carries out one of the commands.
pub(crate) async fn run(cell: &Cell, output: Output, command: Peer) -> Result<(), Failure> {
    match command {
        Peer::List => list(cell, output).await,
        Peer::Show { name } => show(cell, output, name).await,
        Peer::Add(options) => add(cell, output, options).await,
        Peer::Remove {
            name,
            delete_accounts,
            how,
        } => change::remove(cell, output, name, delete_accounts, how).await,
        Peer::Set(options) => change::set(cell, output, options).await,
        Peer::Config(options) => config_of(cell, output, options).await,
    }
}

async fn list(cell: &Cell, output: Output) -> Result<(), Failure> {
    let peers = cell
        .peers()?
        .list_peers(ListPeersRequest {})
        .await?
        .into_inner()
        .peers;
    let list = view::PeerList {
        peers: peers.into_iter().map(view::Peer::from).collect(),
    };
    output.result(&list, || {
        if list.peers.is_empty() {
            return "There are no peers yet. Add one: cellctl peer add NAME --internet".to_owned();
        }
        let header = [
            "NAME",
            "ADDRESS",
            "REACHES",
            "HANDSHAKE",
            "RECEIVED",
            "SENT",
            "FROM",
        ];
        human::table(&header, list.peers.iter().map(row))
    })
}

fn row(peer: &view::Peer) -> Vec<String> {
    let mut row = vec![peer.name.clone(), peer.ipv4.clone(), reaches(&peer.access)];
    row.extend(moves(peer.activity.as_ref()));
    row
}

/// Last handshake, bytes received, bytes sent, endpoint.
fn moves(activity: Option<&view::Activity>) -> [String; 4] {
    match activity {
        None => ["unknown", "", "", ""].map(str::to_owned),
        Some(activity) => [
            human::ago(activity.latest_handshake_unix_ms, now_ms()),
            human::bytes(activity.received_bytes),
            human::bytes(activity.sent_bytes),
            activity.endpoint.clone().unwrap_or_default(),
        ],
    }
}

fn reaches(access: &view::Access) -> String {
    let services = match access.services.len() {
        0 => None,
        1 => Some("1 service".to_owned()),
        n => Some(format!("{n} services")),
    };
    let named = [
        access.internet.then(|| "internet".to_owned()),
        access.peer_to_peer.then(|| "peers".to_owned()),
        services,
    ];
    let named: Vec<String> = named.into_iter().flatten().collect();
    if named.is_empty() {
        "the cell only".to_owned()
    } else {
        named.join(", ")
    }
}

async fn show(cell: &Cell, output: Output, name: String) -> Result<(), Failure> {
    let peer = cell
        .peers()?
        .get_peer(GetPeerRequest { name })
        .await?
        .into_inner()
        .peer
        .unwrap_or_default()
        .into();
    output.result(&peer, || text(&peer))
}

fn text(peer: &view::Peer) -> String {
    let [handshake, received, sent, endpoint] = moves(peer.activity.as_ref());
    let services = peer.access.services.iter().map(|s| {
        let address = if s.address.contains(':') {
            format!("[{}]", s.address)
        } else {
            s.address.clone()
        };
        format!("{}://{address}:{}", s.protocol, s.port)
    });
    let mut rows = vec![
        ("Name", peer.name.clone()),
        ("Public key", peer.public_key.clone()),
        (
            "Addresses",
            format!("{} {}", peer.ipv4, peer.ipv6).trim().to_owned(),
        ),
        ("Reaches", reaches(&peer.access)),
        ("Services", services.collect::<Vec<_>>().join(" ")),
        ("Tunnel", peer.tunnel.clone()),
        ("Exit", exit(peer)),
        ("Stand-ins", peer.fallback_connection_ids.join(" ")),
        ("Goes now", way(peer)),
        ("Handshake", handshake),
        ("Received", received),
        ("Sent", sent),
        ("From", endpoint),
    ];
    if peer.config_needs_reinstall {
        rows.push((
            "Attention",
            "the device's configuration is older than the cell's: install it anew".to_owned(),
        ));
    }
    human::pairs(rows.into_iter().filter(|(_, value)| !value.is_empty()))
}

/// Which way it has now, where that is not the only one that it ever has.
fn way(peer: &view::Peer) -> String {
    match (
        &peer.exit_connection_id,
        &peer.way_connection_id,
        peer.way.as_str(),
    ) {
        (None, _, _) => String::new(),
        (Some(own), Some(id), _) if own == id => "through that".to_owned(),
        (Some(_), Some(id), _) => format!("through {id}, which stands in"),
        (Some(_), None, "direct") => "directly, by the cell's own way".to_owned(),
        (Some(_), None, "nowhere") => "nowhere: its exit does not work".to_owned(),
        (Some(_), None, other) => other.to_owned(),
    }
}

/// What carries it, and what happens when that does not work.
fn exit(peer: &view::Peer) -> String {
    let Some(id) = &peer.exit_connection_id else {
        return "the cell's own way".to_owned();
    };
    let fails = match peer.fail_open {
        Some(true) => "goes out directly while that does not work",
        Some(false) => "goes nowhere while that does not work",
        None => "what happens while that does not work is for its type to say",
    };
    format!("{id}; {fails}")
}

/// Who makes the key of a new peer.
enum Key {
    /// We: it never leaves this process but into the configuration.
    Here(KeyPair),
    /// The device has it.
    Device(String),
    /// The cell, by explicit choice.
    Server,
}

async fn add(cell: &Cell, output: Output, options: PeerAdd) -> Result<(), Failure> {
    let mut client = cell.peers()?;
    let key = match (options.public_key.clone(), options.server_key) {
        (Some(public), _) => Key::Device(public),
        (None, true) => Key::Server,
        (None, false) => Key::Here(KeyPair::generate()?),
    };
    // Before anything is made at the cell: a file that cannot be written must not leave a peer without its key.
    let file = options.output.clone().map(NewFile::create).transpose()?;
    let public_key = match &key {
        Key::Here(pair) => pair.public(),
        Key::Device(public) => public.clone(),
        Key::Server => String::new(),
    };
    let request = CreatePeerRequest {
        name: options.name,
        public_key,
        server_makes_key: matches!(key, Key::Server),
        access: Some(PeerAccess {
            internet: options.internet,
            peer_to_peer: options.peer_to_peer,
            services: options.services.iter().map(service).collect(),
        }),
        tunnel: options.tunnel.unwrap_or_default(),
        exit: options.exit.unwrap_or_default(),
        fail_open: options.fail_open.and_then(|FailOpen(own)| own),
        fallbacks: options.fallbacks,
    };
    let answer = client.create_peer(request).await?.into_inner();
    let given = Zeroizing::new(answer.config);
    let config = match &key {
        Key::Here(pair) => config::with_private_key(&given, &pair.private())?,
        Key::Device(_) | Key::Server => given,
    };
    let peer = view::Peer::from(answer.peer.unwrap_or_default());
    let path = file.map(|file| file.write(&config)).transpose()?;
    let drawn = wants_qr(options.qr, options.no_qr, output)
        .then(|| draw(&config, output))
        .flatten();
    let shown = path.is_none().then_some(config.as_str());
    let document = view::AddedPeer {
        peer: &peer,
        config: shown,
        config_file: path.as_ref().map(|p| p.display().to_string()),
    };
    output.result(&document, || {
        let mut text = drawn.map(|drawn| drawn.to_string()).unwrap_or_default();
        text.push_str(shown.unwrap_or_default());
        if let Some(path) = &path {
            text.push_str(&format!(
                "{} may connect; its configuration is in {}",
                peer.name,
                path.display()
            ));
        }
        text
    })?;
    output.note("Install it on the device now: nobody else has its private key.");
    Ok(())
}

fn wants_qr(always: bool, never: bool, output: Output) -> bool {
    !output.json && !never && (always || std::io::stdout().is_terminal())
}

fn draw(config: &str, output: Output) -> Option<Zeroizing<String>> {
    if !config::has_private_key(config) {
        output.note("No QR code: the configuration has no private key, the device has it.");
        return None;
    }
    let drawn = qr::draw(config);
    if drawn.is_none() {
        output.note("No QR code: the configuration is too long for one.");
    }
    drawn
}

async fn config_of(cell: &Cell, output: Output, options: PeerConfig) -> Result<(), Failure> {
    let PeerConfig { name, delivered } = options;
    let mut client = cell.peers()?;
    let config = if delivered {
        let request = DeliverPeerConfigRequest { name };
        client.deliver_peer_config(request).await?.into_inner().config
    } else {
        let request = GetPeerConfigRequest { name };
        client.get_peer_config(request).await?.into_inner().config
    };
    output.result(&view::PeerConfig { config: &config }, || config.clone())?;
    output.note("The line PrivateKey is empty: keep the one that the device has.");
    Ok(())
}

/// A place as the cell has it.
pub(crate) fn service(url: &ServiceUrl) -> ServiceAccess {
    ServiceAccess {
        address: url.at.ip().to_string(),
        protocol: url.protocol.to_owned(),
        port: url.at.port().into(),
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
