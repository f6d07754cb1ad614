//! vaultd: secrets go in and never come back.

use cell_proto::ipc::connect;
use cell_proto::vault::v1::audit_anchor_service_client::AuditAnchorServiceClient;
use cell_proto::vault::v1::secret_service_client::SecretServiceClient;
use cell_proto::vault::v1::vault_status_service_client::VaultStatusServiceClient;
use cell_proto::vault::v1::{
    AppendAuditAnchorRequest, DeleteSecretRequest, GetVaultStatusRequest, ListAuditAnchorsRequest,
    ListSecretsRequest, PutSecretRequest, RotateSecretRequest,
};
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::raw::call;
use super::{RpcCheck, check, refused, run, worst};
use crate::attempt::Outcome;
use crate::target::Target;

/// What must never be seen again once it was stored.
const CANARY: &[u8] = b"cell-redteam-canary-7d1f";

pub fn checks() -> Vec<RpcCheck> {
    vec![
        check(
            "G02",
            "read a stored secret back out of any answer",
            answers,
            |t| run(read_back(t)),
        ),
        check(
            "G04",
            "overwrite, rotate or delete a secret without its version",
            answers,
            |t| run(without_version(t)),
        ),
        check("G05", "write secrets that are not the API's", answers, |t| {
            run(foreign_names(t))
        }),
        check("G06", "names and values that no secret has", answers, |t| {
            run(odd_secrets(t))
        }),
        check(
            "G13",
            "unseal the vault, or change its key or its policy",
            answers,
            |t| run(rule(t)),
        ),
        check("G42", "rewrite the anchors of the audit chain", answers, |t| {
            run(rewrite_anchors(t))
        }),
    ]
}

/// Whether vaultd answers.
pub fn answers(target: &Target) -> Outcome {
    run(async {
        let mut client = VaultStatusServiceClient::new(connect(target.socket("vault/vault.sock")));
        super::answers(client.get_vault_status(GetVaultStatusRequest {}).await)
    })
}

fn client(target: &Target) -> SecretServiceClient<Channel> {
    SecretServiceClient::new(connect(target.socket("vault/vault.sock")))
}

/// A name that the shipped policy lets the API write.
fn name() -> String {
    format!("svc_redteam_{}", std::process::id())
}

fn put(name: &str, value: &[u8], expected_version: u64) -> PutSecretRequest {
    PutSecretRequest {
        name: name.to_owned(),
        value: value.to_vec(),
        expected_version,
        revision: 0,
    }
}

fn remove(name: &str, expected_version: u64) -> DeleteSecretRequest {
    DeleteSecretRequest {
        name: name.to_owned(),
        expected_version,
    }
}

/// Every byte of an answer, refusals with their details included.
fn bytes<M: Message>(answer: Result<Response<M>, Status>) -> Vec<u8> {
    match answer {
        Ok(answer) => answer.into_inner().encode_to_vec(),
        Err(status) => [
            status.message().as_bytes(),
            status.details(),
            format!("{status:?}").as_bytes(),
        ]
        .concat(),
    }
}

async fn read_back(target: &Target) -> Outcome {
    let (mut client, name) = (client(target), name());
    if let Err(status) = client.put_secret(put(&name, CANARY, 0)).await {
        return Outcome::Void(super::told(&status));
    }
    let rotate = |version| RotateSecretRequest {
        name: name.clone(),
        expected_version: version,
    };
    let seen = [
        bytes(client.put_secret(put(&name, b"other", 0)).await),
        bytes(client.put_secret(put(&name, b"other", 99)).await),
        bytes(
            client
                .list_secrets(ListSecretsRequest {
                    prefix: String::new(),
                })
                .await,
        ),
        bytes(
            client
                .list_secrets(ListSecretsRequest { prefix: name.clone() })
                .await,
        ),
        bytes(client.rotate_secret(rotate(99)).await),
        bytes(client.rotate_secret(rotate(1)).await),
        bytes(client.delete_secret(remove(&name, 2)).await),
    ];
    let shown = seen
        .iter()
        .any(|answer| answer.windows(CANARY.len()).any(|window| window == CANARY));
    if shown {
        Outcome::Open
    } else {
        Outcome::Closed("in none of 7 answers".to_owned())
    }
}

async fn without_version(target: &Target) -> Outcome {
    let (mut client, name) = (client(target), name());
    for version in 0..2 {
        if let Err(status) = client.put_secret(put(&name, b"x", version)).await {
            return Outcome::Void(super::told(&status));
        }
    }
    let mut outcomes = Vec::new();
    for version in [0, 1, 3, u64::MAX] {
        outcomes.push(refused(
            client.put_secret(put(&name, b"y", version)).await,
            &[Code::Aborted],
        ));
        let rotate = RotateSecretRequest {
            name: name.clone(),
            expected_version: version,
        };
        outcomes.push(refused(
            client.rotate_secret(rotate).await,
            &[Code::Aborted, Code::InvalidArgument],
        ));
    }
    for version in [0, 1, 3] {
        let answer = client.delete_secret(remove(&name, version)).await;
        outcomes.push(refused(answer, &[Code::Aborted, Code::InvalidArgument]));
    }
    let removed = client.delete_secret(remove(&name, 2)).await;
    outcomes.extend(removed.err().map(|status| Outcome::Void(super::told(&status))));
    worst(outcomes)
}

async fn foreign_names(target: &Target) -> Outcome {
    let mut outcomes = Vec::new();
    for name in [
        "wireguard",
        "wireguard_private_key",
        "kek",
        "ca_root",
        "netd_key",
        "sv",
        "svc",
        "connx",
    ] {
        let answer = client(target).put_secret(put(name, b"x", 0)).await;
        outcomes.push(refused(answer, &[Code::PermissionDenied, Code::InvalidArgument]));
    }
    worst(outcomes)
}

async fn odd_secrets(target: &Target) -> Outcome {
    const REFUSALS: [Code; 4] = [
        Code::InvalidArgument,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::OutOfRange,
    ];
    let long = format!("svc_{}", "a".repeat(10_240));
    let names = [
        "",
        "svc_\0",
        "svc_../../etc/passwd",
        "svc_\u{202e}x",
        "svc_A",
        "svc_\n",
        "svc_ä",
        "../svc_x",
        &long,
    ];
    let mut outcomes = Vec::new();
    for name in names {
        outcomes.push(refused(
            client(target).put_secret(put(name, b"x", 0)).await,
            &REFUSALS,
        ));
    }
    for size in [0, 65_537, 1 << 20, 20 << 20] {
        outcomes.push(refused(
            client(target).put_secret(put(&name(), &vec![1; size], 0)).await,
            &REFUSALS,
        ));
    }
    worst(outcomes)
}

/// Verbs of whoever rules a vault.
const RULER: [&str; 8] = [
    "/cell.vault.v1.VaultStatusService/Unseal",
    "/cell.vault.v1.VaultAdminService/Unseal",
    "/cell.vault.v1.VaultAdminService/Seal",
    "/cell.vault.v1.VaultAdminService/RotateKeyEncryptionKey",
    "/cell.vault.v1.VaultAdminService/SetPolicy",
    "/cell.vault.v1.SecretService/GetSecret",
    "/cell.vault.v1.SecretService/ExportSecrets",
    "/cell.vault.v1.WireguardKeyService/RotateWireguardPrivateKey",
];

async fn rule(target: &Target) -> Outcome {
    let mut outcomes = Vec::new();
    for verb in RULER {
        let answer = call(target.socket("vault/vault.sock"), verb, Vec::new()).await;
        outcomes.push(refused(answer, &[Code::Unimplemented]));
    }
    worst(outcomes)
}

/// Only what is there already is tried again: a new anchor would be a false one.
async fn rewrite_anchors(target: &Target) -> Outcome {
    let mut client = AuditAnchorServiceClient::new(connect(target.socket("vault/vault.sock")));
    let anchors = match client
        .list_audit_anchors(ListAuditAnchorsRequest::default())
        .await
    {
        Ok(answer) => answer.into_inner().anchors,
        Err(status) => return Outcome::Void(super::told(&status)),
    };
    let Some(last) = anchors.last().map(|anchor| anchor.sequence) else {
        return Outcome::Void("no anchor yet".to_owned());
    };
    let mut outcomes = Vec::new();
    for (sequence, size) in [(last, 32), (1, 32), (0, 32), (last + 1, 31), (last + 1, 0)] {
        let forged = AppendAuditAnchorRequest {
            sequence,
            hash: vec![0; size],
        };
        let answer = client.append_audit_anchor(forged).await;
        outcomes.push(refused(answer, &[Code::Aborted, Code::InvalidArgument]));
    }
    worst(outcomes)
}
