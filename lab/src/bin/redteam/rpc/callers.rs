//! Who may call: the daemons know their callers, whatever the file system lets connect.

use tonic::Code;

use super::raw::call;
use super::{RpcCheck, broker, check, netd, refused, run, vault_secrets};
use crate::attempt::Outcome;
use crate::stance::Stance;
use crate::target::Target;

const READ_EXIT_SECRET: &str = "/cell.vault.v1.ExitSecretService/ReadExitSecret";
const READ_SERVICE_SECRET: &str = "/cell.vault.v1.ServiceSecretService/ReadServiceSecret";

pub fn checks() -> Vec<RpcCheck> {
    vec![
        to_root(
            "G40",
            "root calls netd as if it were cell-api",
            netd::answers,
            |target| {
                let path = "/cell.netd.v1.NetworkStatusService/GetNetwork";
                refused_to_root(target, "netd/netd.sock", path)
            },
        ),
        to_root(
            "G40",
            "root calls the broker as if it were cell-api",
            broker::answers,
            |target| {
                let path = "/cell.broker.v1.ContainerStatusService/ListContainers";
                refused_to_root(target, "broker/broker.sock", path)
            },
        ),
        to_root(
            "G40",
            "root calls vaultd as if it were cell-api",
            vault_secrets::answers,
            |target| {
                refused_to_root(
                    target,
                    "vault/vault.sock",
                    "/cell.vault.v1.SecretService/ListSecrets",
                )
            },
        ),
        to_root(
            "G41",
            "root asks vaultd for the key as if it were netd",
            vault_secrets::answers,
            |target| {
                let path = "/cell.vault.v1.WireguardKeyService/GetWireguardPrivateKey";
                refused_to_root(target, "keys/vault.sock", path)
            },
        ),
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

/// The same for secrets of exits.
pub fn exit_checks() -> Vec<RpcCheck> {
    vec![
        to_root(
            "G45",
            "root asks vaultd for an exit's key as if it were netd",
            vault_secrets::answers,
            |target| refused_to_root(target, "keys/vault.sock", READ_EXIT_SECRET),
        ),
        to_root(
            "G45",
            "root asks vaultd for an exit's password as if it were egress",
            vault_secrets::answers,
            |target| refused_to_root(target, "exit-keys/vault.sock", READ_EXIT_SECRET),
        ),
        to_root(
            "G45",
            "root asks vaultd for an exit's key as if it were cell-openvpn",
            vault_secrets::answers,
            |target| refused_to_root(target, "openvpn-keys/vault.sock", READ_EXIT_SECRET),
        ),
        to_root(
            "G45",
            "root asks vaultd for a service's secret as if it were cell-broker",
            vault_secrets::answers,
            |target| refused_to_root(target, "broker-keys/vault.sock", READ_SERVICE_SECRET),
        ),
        check(
            "G46",
            "ask for a service's secret on the API's socket",
            vault_secrets::answers,
            |target| {
                let asked = call(target.socket("vault/vault.sock"), READ_SERVICE_SECRET, Vec::new());
                run(async { refused(asked.await, &[Code::Unimplemented]) })
            },
        ),
        check(
            "G46",
            "ask for an exit's secret on the API's socket",
            vault_secrets::answers,
            |target| {
                let asked = call(target.socket("vault/vault.sock"), READ_EXIT_SECRET, Vec::new());
                run(async { refused(asked.await, &[Code::Unimplemented]) })
            },
        ),
    ]
}

/// A line made as root: its uid is no caller's.
fn to_root(
    id: &'static str,
    what: &'static str,
    control: fn(&Target) -> Outcome,
    attack: fn(&Target) -> Outcome,
) -> RpcCheck {
    RpcCheck {
        stance: Stance::Root,
        ..check(id, what, control, attack)
    }
}

fn refused_to_root(target: &Target, socket: &str, method: &'static str) -> Outcome {
    run(async {
        refused(
            call(target.socket(socket), method, Vec::new()).await,
            &[Code::PermissionDenied],
        )
    })
}
