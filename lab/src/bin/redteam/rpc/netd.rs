//! netd: nothing above the root-owned ceiling, nothing that is not its own. Every attempt only asks for a plan
//! (`validate_only`), which is judged like an apply; the control is the same call with an ordinary spec.

use std::net::{IpAddr, Ipv4Addr};

use cell_proto::common::v1::{Endpoint, IpAddress, IpPrefix, Protocol};
use cell_proto::ipc::connect;
use cell_proto::netd::v1::network_service_client::NetworkServiceClient;
use cell_proto::netd::v1::network_status_service_client::NetworkStatusServiceClient;
use cell_proto::netd::v1::{
    AccessPolicy, ApplyNetworkRequest, ApplyNetworkResponse, CellPort, GetNetworkRequest, NetworkSpec,
    PeerSpec, WireguardSpec,
};
use prost::Message;
use tonic::{Code, Response, Status};

use super::raw::call;
use super::{RpcCheck, check, refused, run, worst};
use crate::attempt::Outcome;
use crate::target::Target;

type Answer = Result<Response<ApplyNetworkResponse>, Status>;
/// A change that makes an ordinary spec a bad one.
type Spoil = fn(&mut NetworkSpec);

pub fn checks() -> Vec<RpcCheck> {
    vec![
        check(
            "G17",
            "hand netd rules, commands or netlink messages",
            plans,
            |t| run(raw_rules(t)),
        ),
        check("G18", "open ports of the machine", plans, |t| spoilt(t, PORTS)),
        check("G21", "take over addresses that are not the VPN's", plans, |t| {
            spoilt(t, ADDRESSES)
        }),
        check("G22", "read the private key back", answers, |t| run(read_key(t))),
        check("G23", "aim WireGuard at the machine itself", plans, |t| {
            spoilt(t, ENDPOINTS)
        }),
        check("G25", "take over interfaces that are not netd's", plans, |t| {
            spoilt(t, FOREIGN)
        }),
        check("G26", "names that break out of a rule", plans, |t| {
            spoilt(t, NAMES)
        }),
        check("G28", "a hundred thousand peers", plans, |t| {
            spoilt(
                t,
                &[|spec| {
                    spec.peers = (0..100_000).map(peer).collect();
                }],
            )
        }),
    ]
}

/// Whether netd answers.
pub fn answers(target: &Target) -> Outcome {
    run(async {
        let mut client = NetworkStatusServiceClient::new(connect(target.socket("netd/netd.sock")));
        super::answers(client.get_network(GetNetworkRequest::default()).await)
    })
}

/// Whether netd would do what is ordinary.
fn plans(target: &Target) -> Outcome {
    run(async { super::answers(plan(target, spec()).await) })
}

async fn plan(target: &Target, spec: NetworkSpec) -> Answer {
    let mut client = NetworkServiceClient::new(connect(target.socket("netd/netd.sock")));
    let request = ApplyNetworkRequest {
        spec: Some(spec),
        etag: String::new(),
        validate_only: true,
        confirm_within_seconds: 0,
    };
    client.apply_network(request).await
}

fn spoilt(target: &Target, spoils: &[Spoil]) -> Outcome {
    const REFUSALS: [Code; 4] = [
        Code::InvalidArgument,
        Code::PermissionDenied,
        Code::OutOfRange,
        Code::ResourceExhausted,
    ];
    run(async {
        let mut outcomes = Vec::new();
        for spoil in spoils {
            let mut spoilt = spec();
            spoil(&mut spoilt);
            outcomes.push(refused(plan(target, spoilt).await, &REFUSALS));
        }
        worst(outcomes)
    })
}

/// An ordinary cell with one peer.
fn spec() -> NetworkSpec {
    NetworkSpec {
        wireguard: Some(WireguardSpec {
            interface: "wg0".to_owned(),
            listen_port: 51820,
            addresses: vec![prefix([10, 86, 0, 1], 16)],
            mtu_bytes: 0,
        }),
        peers: vec![peer(1)],
        cell_ports: Vec::new(),
        exits: Vec::new(),
        dns_upstreams: Vec::new(),
        relay_servers: Vec::new(),
        public_http: None,
        service_networks: Vec::new(),
        entries: Vec::new(),
    }
}

fn peer(number: u32) -> PeerSpec {
    let mut public_key = vec![0x42; 32];
    public_key[..4].copy_from_slice(&number.to_be_bytes());
    PeerSpec {
        name: format!("redteam-{number}"),
        public_key,
        addresses: vec![address((0x0a56_0001 + number).to_be_bytes())],
        endpoint: None,
        persistent_keepalive_seconds: 0,
        access: Some(AccessPolicy::default()),
        exit: String::new(),
    }
}

fn address(octets: [u8; 4]) -> IpAddress {
    IpAddress {
        octets: octets.to_vec(),
    }
}

fn prefix(octets: [u8; 4], length: u32) -> IpPrefix {
    IpPrefix {
        address: Some(address(octets)),
        length,
    }
}

fn listen(spec: &mut NetworkSpec, port: u32) {
    spec.wireguard
        .iter_mut()
        .for_each(|wireguard| wireguard.listen_port = port);
}

fn open(spec: &mut NetworkSpec, port: u32, target_port: u32) {
    spec.cell_ports = vec![CellPort {
        protocol: Protocol::Tcp.into(),
        port,
        target_port,
        bound_target_port: 0,
    }];
}

fn vpn(spec: &mut NetworkSpec, octets: [u8; 4], length: u32) {
    spec.peers.clear();
    spec.wireguard
        .iter_mut()
        .for_each(|wireguard| wireguard.addresses = vec![prefix(octets, length)]);
}

fn interface(spec: &mut NetworkSpec, name: &str) {
    spec.wireguard
        .iter_mut()
        .for_each(|wireguard| name.clone_into(&mut wireguard.interface));
}

fn name(spec: &mut NetworkSpec, name: &str) {
    spec.peers
        .iter_mut()
        .for_each(|peer| name.clone_into(&mut peer.name));
}

fn endpoint(spec: &mut NetworkSpec, to: impl Into<IpAddr>, port: u32) {
    let octets = match to.into() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let endpoint = Endpoint {
        address: Some(IpAddress { octets }),
        port,
    };
    spec.peers
        .iter_mut()
        .for_each(|peer| peer.endpoint = Some(endpoint.clone()));
}

const PORTS: &[Spoil] = &[
    |spec| open(spec, 22, 0),
    |spec| open(spec, 3000, 0),
    |spec| open(spec, 443, 22),
    |spec| open(spec, 443, 3000),
    |spec| open(spec, 0, 0),
    |spec| open(spec, 65_536, 0),
    |spec| listen(spec, 53),
    |spec| listen(spec, 0),
    |spec| listen(spec, 70_000),
];

const ADDRESSES: &[Spoil] = &[
    |spec| vpn(spec, [8, 8, 8, 8], 24),
    |spec| vpn(spec, [0, 0, 0, 0], 0),
    |spec| vpn(spec, [127, 0, 0, 1], 8),
    |spec| vpn(spec, [10, 86, 0, 1], 33),
    |spec| spec.peers[0].addresses = vec![address([192, 168, 1, 1])],
    |spec| spec.peers[0].addresses = vec![address([10, 86, 0, 1])],
    |spec| spec.peers[0].addresses.clear(),
    |spec| {
        spec.peers.push(PeerSpec {
            name: "twin".to_owned(),
            ..peer(1)
        })
    },
];

const ENDPOINTS: &[Spoil] = &[
    |spec| endpoint(spec, Ipv4Addr::LOCALHOST, 22),
    |spec| endpoint(spec, [169, 254, 169, 254], 80),
    |spec| endpoint(spec, Ipv4Addr::UNSPECIFIED, 53),
    |spec| endpoint(spec, Ipv4Addr::BROADCAST, 53),
    |spec| endpoint(spec, [224, 0, 0, 1], 53),
    |spec| endpoint(spec, std::net::Ipv6Addr::LOCALHOST, 53),
    |spec| endpoint(spec, [192, 0, 2, 1], 0),
];

const FOREIGN: &[Spoil] = &[
    |spec| interface(spec, "eth0"),
    |spec| interface(spec, "lo"),
    |spec| interface(spec, "docker0"),
    |spec| interface(spec, "wg1"),
];

const NAMES: &[Spoil] = &[
    |spec| interface(spec, "a;reboot"),
    |spec| interface(spec, "wg0\n"),
    |spec| interface(spec, "../wg0"),
    |spec| interface(spec, "sixteen-bytes-0x"),
    |spec| interface(spec, ""),
    |spec| name(spec, "a\" accept comment \"b"),
    |spec| name(spec, "a\nb"),
    |spec| name(spec, "../../etc/passwd"),
    |spec| name(spec, ""),
    |spec| name(spec, &"a".repeat(65)),
    |spec| spec.peers[0].public_key = vec![0; 32],
    |spec| spec.peers[0].public_key = vec![1; 31],
];

/// Verbs that would take what nft, ip or wg take.
const RAW: [&str; 6] = [
    "/cell.netd.v1.NetworkService/RunNft",
    "/cell.netd.v1.NetworkService/ApplyRules",
    "/cell.netd.v1.NetworkService/SendNetlink",
    "/cell.netd.v1.NetworkService/FlushTable",
    "/cell.netd.v1.NftablesService/Apply",
    "/cell.netd.v1.WireguardService/SetConf",
];

/// What must show up in no plan.
const RULE: &str = "add rule inet cell forward accept comment cell-redteam-rule";

/// No RPC takes them, and what rides in fields that no proto has is in no plan.
async fn raw_rules(target: &Target) -> Outcome {
    let socket = || target.socket("netd/netd.sock");
    let mut outcomes = Vec::new();
    for verb in RAW {
        outcomes.push(refused(
            call(socket(), verb, RULE.as_bytes().to_vec()).await,
            &[Code::Unimplemented],
        ));
    }
    // Field 100, length-delimited (protobuf encoding: tag 100 << 3 | 2 as varint), in the spec and beside it.
    let smuggled = || [&[0xa2, 0x06, RULE.len() as u8], RULE.as_bytes()].concat();
    let spec = [spec().encode_to_vec(), smuggled()].concat();
    let mut body = vec![0x0a];
    if let Err(e) = prost::encode_length_delimiter(spec.len(), &mut body) {
        return Outcome::Void(e.to_string());
    }
    body.extend(spec);
    body.extend([0x18, 0x01]); // validate_only
    body.extend(smuggled());
    let method = "/cell.netd.v1.NetworkService/ApplyNetwork";
    outcomes.push(match call(socket(), method, body).await {
        Ok(plan) => {
            let plan = plan.into_inner();
            if plan.windows(RULE.len()).any(|window| window == RULE.as_bytes()) {
                Outcome::Open
            } else {
                Outcome::Closed("in no plan".to_owned())
            }
        }
        refusal @ Err(_) => refused(refusal, &[Code::InvalidArgument]),
    });
    worst(outcomes)
}

/// Looks for the key itself: any 32 bytes of any answer whose public half is the cell's.
async fn read_key(target: &Target) -> Outcome {
    let mut client = NetworkStatusServiceClient::new(connect(target.socket("netd/netd.sock")));
    let answer = match client.get_network(GetNetworkRequest { include_spec: true }).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Outcome::Void(super::told(&status)),
    };
    let public = answer
        .status
        .as_ref()
        .map(|status| status.wireguard_public_key.clone())
        .unwrap_or_default();
    if public.len() != 32 {
        return Outcome::Void("no interface yet".to_owned());
    }
    let refusal = plan(target, NetworkSpec::default()).await;
    let mut seen = answer.encode_to_vec();
    seen.extend(refusal.map_or_else(|e| e.details().to_vec(), |ok| ok.into_inner().encode_to_vec()));
    let is_private = |window: &[u8]| {
        <[u8; 32]>::try_from(window).is_ok_and(|secret| {
            x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(secret)).as_bytes()[..]
                == public[..]
        })
    };
    if seen.windows(32).any(is_private) {
        Outcome::Open
    } else {
        Outcome::Closed("in no answer".to_owned())
    }
}
