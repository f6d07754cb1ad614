//! Who may call: the daemons know their callers, whatever the file system lets connect.

use tonic::Code;

use super::raw::call;
use super::{RpcCheck, broker, check, netd, refused, run, vault_secrets, worst};
use crate::attempt::Outcome;
use crate::stance::Stance;
use crate::target::Target;

pub fn checks() -> Vec<RpcCheck> {
    vec![
        RpcCheck {
            id: "G40",
            what: "root calls what is cell-api's",
            control: |target| {
                worst_control([
                    vault_secrets::answers(target),
                    netd::answers(target),
                    broker::answers(target),
                ])
            },
            stance: Stance::Root,
            attack: |target| {
                let methods = [
                    ("netd/netd.sock", "/cell.netd.v1.NetworkStatusService/GetNetwork"),
                    (
                        "broker/broker.sock",
                        "/cell.broker.v1.ContainerStatusService/ListContainers",
                    ),
                    ("vault/vault.sock", "/cell.vault.v1.SecretService/ListSecrets"),
                ];
                refused_to_root(target, &methods)
            },
        },
        RpcCheck {
            id: "G41",
            what: "root calls what is netd's",
            control: vault_secrets::answers,
            stance: Stance::Root,
            attack: |target| {
                refused_to_root(
                    target,
                    &[(
                        "keys/vault.sock",
                        "/cell.vault.v1.WireguardKeyService/GetWireguardPrivateKey",
                    )],
                )
            },
        },
        check(
            "G01",
            "ask for netd's key on the API's socket",
            vault_secrets::answers,
            |target| {
                let path = "/cell.vault.v1.WireguardKeyService/GetWireguardPrivateKey";
                let asked = call(target.socket("vault/vault.sock"), path, Vec::new());
                run(async { refused(asked.await, &[Code::Unimplemented]) })
            },
        ),
    ]
}

/// All daemons must answer.
fn worst_control(answers: [Outcome; 3]) -> Outcome {
    answers
        .into_iter()
        .find(|answer| *answer != Outcome::Open)
        .unwrap_or(Outcome::Open)
}

fn refused_to_root(target: &Target, methods: &[(&str, &'static str)]) -> Outcome {
    run(async {
        let mut outcomes = Vec::new();
        for (socket, method) in methods {
            outcomes.push(refused(
                call(target.socket(socket), method, Vec::new()).await,
                &[Code::PermissionDenied],
            ));
        }
        worst(outcomes)
    })
}
