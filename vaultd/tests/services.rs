//! Secrets of services over real Unix sockets: the broker reads them and nothing else, nobody else does, and the vault makes some
//! that only the broker sees.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use cell_proto::fault;
use cell_proto::vault::v1::exit_secret_service_client::ExitSecretServiceClient;
use cell_proto::vault::v1::secret_service_client::SecretServiceClient;
use cell_proto::vault::v1::service_secret_service_client::ServiceSecretServiceClient;
use cell_proto::vault::v1::{
    GenerateSecretRequest, ListSecretsRequest, ReadExitSecretRequest, ReadServiceSecretRequest,
};
use cell_vaultd_core::seal::SealReason;
use common::served::{Served, put};
use tonic::{Code, Status};

const TOKEN: &str = "svc_caddy_dns_token";

async fn read(served: &Served, listener: &str, name: &str) -> Result<Vec<u8>, Status> {
    let mut client = ServiceSecretServiceClient::new(served.channel(listener));
    let request = ReadServiceSecretRequest {
        name: name.to_owned(),
    };
    Ok(client.read_service_secret(request).await?.into_inner().value)
}

fn told<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), fault::reason(&status).unwrap_or_default())
}

fn generate(name: &str, length: u32, expected_version: u64) -> GenerateSecretRequest {
    GenerateSecretRequest {
        name: name.to_owned(),
        length,
        expected_version,
    }
}

#[tokio::test]
async fn the_broker_reads_secrets_of_services_and_nobody_else_does() {
    let served = Served::open();
    let mut secrets = SecretServiceClient::new(served.channel("api"));
    let exit = "conn_0123456789abcdef0123456789abcdef_password";
    let largest = vec![7; 64 * 1024];
    secrets.put_secret(put(TOKEN, &largest, 0)).await.unwrap();
    secrets.put_secret(put(exit, b"exit", 0)).await.unwrap();
    assert_eq!(read(&served, "broker", TOKEN).await.unwrap(), largest);
    for listener in ["api", "netd", "egress", "openvpn"] {
        let refused = read(&served, listener, TOKEN).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{listener}");
    }
    let denied = (Code::PermissionDenied, "NAME_NOT_ALLOWED".to_owned());
    assert_eq!(told(read(&served, "broker", exit).await), denied);
    let absent = (Code::NotFound, "NO_SECRET".to_owned());
    assert_eq!(told(read(&served, "broker", "svc_caddy_other").await), absent);
    for malformed in ["", "svc_../x", "SVC"] {
        let refused = (Code::InvalidArgument, "INVALID_REQUEST".to_owned());
        assert_eq!(
            told(read(&served, "broker", malformed).await),
            refused,
            "{malformed}"
        );
    }
    // What the broker's socket has beside: nothing.
    let mut exits = ExitSecretServiceClient::new(served.channel("broker"));
    let asked = exits.read_exit_secret(ReadExitSecretRequest {
        name: exit.to_owned(),
    });
    assert_eq!(asked.await.unwrap_err().code(), Code::Unimplemented);
    let mut list = SecretServiceClient::new(served.channel("broker"));
    let asked = list.list_secrets(ListSecretsRequest::default()).await;
    assert_eq!(asked.unwrap_err().code(), Code::Unimplemented);

    let log = served.log();
    for expected in [
        format!("broker ReadServiceSecret {TOKEN} ALLOWED"),
        format!("broker ReadServiceSecret {exit} NAME_NOT_ALLOWED"),
        "broker ReadServiceSecret - NO_SECRET".to_owned(),
    ] {
        let words: Vec<&str> = expected.split(' ').collect();
        let line = log.lines().find(|line| {
            words
                .iter()
                .all(|word| line.split(' ').any(|field| field == *word))
        });
        assert!(line.is_some(), "{expected}: {log}");
    }
}

/// The API has it made, and learns its version alone; what is made is text, and another each time.
#[tokio::test]
async fn the_vault_makes_a_secret_that_only_the_broker_sees() {
    let served = Served::open();
    let mut secrets = SecretServiceClient::new(served.channel("api"));
    let mut made = Vec::new();
    for (length, expected) in [(32, 0), (16, 1), (64, 2), (32, 3)] {
        let answer = secrets.generate_secret(generate(TOKEN, length, expected)).await;
        let metadata = answer.unwrap().into_inner().metadata.unwrap();
        assert_eq!((metadata.name.as_str(), metadata.version), (TOKEN, expected + 1));
        let value = read(&served, "broker", TOKEN).await.unwrap();
        assert_eq!(value.len(), (length as usize * 4).div_ceil(3), "{length}");
        let text = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        assert!(value.iter().all(text), "base64url");
        made.push(value);
    }
    assert_ne!(made[0], made[3]);
    for (request, code, reason) in [
        (generate(TOKEN, 32, 0), Code::Aborted, "VERSION_MISMATCH"),
        (generate(TOKEN, 15, 4), Code::InvalidArgument, "INVALID_REQUEST"),
        (generate(TOKEN, 65, 4), Code::InvalidArgument, "INVALID_REQUEST"),
        (
            generate("wg_key", 32, 0),
            Code::PermissionDenied,
            "NAME_NOT_ALLOWED",
        ),
    ] {
        let refused = told(secrets.generate_secret(request).await);
        assert_eq!(refused, (code, reason.to_owned()));
    }
    assert_eq!(
        read(&served, "broker", TOKEN).await.unwrap(),
        made[3],
        "as it was"
    );
}

#[tokio::test]
async fn a_sealed_vault_gives_none() {
    let served = Served::sealed(SealReason::KekMissing);
    let sealed = (Code::FailedPrecondition, "SEALED".to_owned());
    assert_eq!(told(read(&served, "broker", TOKEN).await), sealed);
}
