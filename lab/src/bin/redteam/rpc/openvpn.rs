//! The supervisor of OpenVPN: a profile is a command line, and what of it acts on the machine is not taken.

use cell_proto::common::v1::Protocol;
use cell_proto::ipc::connect;
use cell_proto::openvpn::v1::openvpn_service_client::OpenvpnServiceClient;
use cell_proto::openvpn::v1::{ApplyExitsRequest, Certificate, Directive, Exit, GetStatusRequest, Remote};
use tonic::Code;

use super::{RpcCheck, check, refused, run, worst};
use crate::attempt::Outcome;
use crate::target::Target;

const PEM: &str = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n";
/// What runs a program, touches a file, opens a port, leads elsewhere, or is more than one line.
const FORBIDDEN: [&[&str]; 9] = [
    &["up", "/bin/sh"],
    &["plugin", "/tmp/x.so"],
    &["script-security", "2"],
    &["tls-verify", "/bin/sh"],
    &["log", "/tmp/x"],
    &["ca", "/etc/shadow"],
    &["management", "127.0.0.1", "7505"],
    &["http-proxy", "192.0.2.1", "80"],
    &["cipher", "X\nup /bin/sh"],
];

pub fn checks() -> Vec<RpcCheck> {
    vec![
        check(
            "G48",
            "have OpenVPN run a program, or act on the machine",
            takes_an_exit,
            |target| {
                run(async {
                    let mut outcomes = Vec::new();
                    for words in FORBIDDEN {
                        outcomes.push(apply(target, exit("ovpn_redteam", words)).await);
                    }
                    worst(outcomes)
                })
            },
        ),
        check(
            "G49",
            "have OpenVPN use another interface, or speak to the machine itself",
            takes_an_exit,
            |target| {
                run(async {
                    let mut local = exit("ovpn_redteam", &["nobind"]);
                    local.remotes = vec![remote("127.0.0.1:22")];
                    let mut outcomes = vec![apply(target, local).await];
                    for interface in ["wg0", "wgext_1", "../tun"] {
                        outcomes.push(apply(target, exit(interface, &["nobind"])).await);
                    }
                    worst(outcomes)
                })
            },
        ),
    ]
}

/// Whether it takes what its ceiling allows, and is as before afterwards.
fn takes_an_exit(target: &Target) -> Outcome {
    run(async {
        let mut client = OpenvpnServiceClient::new(connect(target.socket("openvpn/openvpn.sock")));
        match client.get_status(GetStatusRequest {}).await {
            Ok(told) if told.get_ref().exits.is_empty() => {}
            Ok(_) => return Outcome::Void("it drives exits already".to_owned()),
            Err(status) => return Outcome::Void(status.to_string()),
        }
        let taken = apply(target, exit("ovpn_redteam", &["nobind"])).await;
        let cleared = client.apply_exits(ApplyExitsRequest { exits: vec![] }).await;
        match cleared {
            Ok(_) => taken,
            Err(status) => Outcome::Void(status.to_string()),
        }
    })
}

fn remote(at: &str) -> Remote {
    Remote {
        server: at.parse::<std::net::SocketAddr>().ok().map(Into::into),
        protocol: Protocol::Udp.into(),
    }
}

fn exit(interface: &str, words: &[&str]) -> Exit {
    Exit {
        id: "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a00".to_owned(),
        interface: interface.to_owned(),
        remotes: vec![remote("192.0.2.1:1194")],
        directives: vec![Directive {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        }],
        certificates: vec![Certificate {
            block: "ca".to_owned(),
            pem: PEM.to_owned(),
        }],
        ..Exit::default()
    }
}

async fn apply(target: &Target, exit: Exit) -> Outcome {
    let mut client = OpenvpnServiceClient::new(connect(target.socket("openvpn/openvpn.sock")));
    let answer = client.apply_exits(ApplyExitsRequest { exits: vec![exit] }).await;
    refused(answer, &[Code::InvalidArgument])
}
