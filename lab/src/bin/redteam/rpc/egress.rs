//! The relay of exits: it connects to servers that its own ceiling allows, and on this machine to the listed ones alone.

use cell_proto::egress::v1::egress_service_client::EgressServiceClient;
use cell_proto::egress::v1::exit::Kind;
use cell_proto::egress::v1::{ApplyExitsRequest, Exit, GetStatusRequest, TorExit};
use cell_proto::ipc::connect;
use tonic::Code;

use super::{RpcCheck, check, refused, run, worst};
use crate::attempt::Outcome;
use crate::target::Target;

/// On this machine, and none of `local_servers`: SSH, Docker's port, the web UI, the resolver, the cell's own HTTPS.
const FORBIDDEN: [&str; 6] = [
    "127.0.0.1:22",
    "127.0.0.1:2375",
    "127.0.0.1:3000",
    "[::1]:53",
    "[::ffff:127.0.0.1]:2375",
    "127.0.0.2:9150",
];

pub fn checks() -> Vec<RpcCheck> {
    vec![check(
        "G47",
        "have egress connect to this machine, beyond its ceiling",
        takes_an_exit,
        |target| {
            run(async {
                let mut outcomes = Vec::new();
                for server in FORBIDDEN {
                    outcomes.push(apply(target, Some(server)).await);
                }
                outcomes.push(apply(target, None).await);
                worst(outcomes)
            })
        },
    )]
}

/// Whether it takes what its ceiling allows, and is as before afterwards.
fn takes_an_exit(target: &Target) -> Outcome {
    run(async {
        let mut client = EgressServiceClient::new(connect(target.socket("egress/egress.sock")));
        match client.get_status(GetStatusRequest {}).await {
            Ok(told) if told.get_ref().exits.is_empty() => {}
            Ok(_) => return Outcome::Void("it carries exits already".to_owned()),
            Err(status) => return Outcome::Void(status.to_string()),
        }
        let taken = apply(target, Some("127.0.0.1:9150")).await;
        let cleared = client.apply_exits(ApplyExitsRequest { exits: vec![] }).await;
        match cleared {
            Ok(_) => taken,
            Err(status) => Outcome::Void(status.to_string()),
        }
    })
}

/// Asks for one exit; without a server it is one of a port that others listen on.
async fn apply(target: &Target, server: Option<&str>) -> Outcome {
    let Ok(at) = server.unwrap_or("127.0.0.1:9150").parse::<std::net::SocketAddr>() else {
        return Outcome::Void("not an address".to_owned());
    };
    let exit = Exit {
        id: "6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a00".to_owned(),
        redirect_port: if server.is_some() { 9100 } else { 3443 },
        kind: Some(Kind::Tor(TorExit {
            server: Some(at.into()),
        })),
        secret_revision: 0,
    };
    let mut client = EgressServiceClient::new(connect(target.socket("egress/egress.sock")));
    let answer = client.apply_exits(ApplyExitsRequest { exits: vec![exit] }).await;
    refused(answer, &[Code::InvalidArgument])
}
