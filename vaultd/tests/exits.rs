//! Secrets of exits over real Unix sockets: each daemon reads its own, is refused the other's with the reason, and the API reads
//! none.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use cell_proto::fault;
use cell_proto::vault::v1::exit_secret_service_client::ExitSecretServiceClient;
use cell_proto::vault::v1::secret_service_client::SecretServiceClient;
use cell_proto::vault::v1::wireguard_key_service_client::WireguardKeyServiceClient;
use cell_proto::vault::v1::{
    GetWireguardPrivateKeyRequest, ListSecretsRequest, PutSecretRequest, ReadExitSecretRequest,
};
use cell_vaultd::vault::EXIT_READS_PER_MINUTE;
use cell_vaultd_core::seal::SealReason;
use common::served::{Served, put};
use tonic::{Code, Status};

const ID: &str = "0123456789abcdef0123456789abcdef";

fn name(field: &str) -> String {
    format!("conn_{ID}_{field}")
}

async fn read(served: &Served, listener: &str, name: String) -> Result<Vec<u8>, Status> {
    let mut client = ExitSecretServiceClient::new(served.channel(listener));
    let answer = client.read_exit_secret(ReadExitSecretRequest { name }).await?;
    Ok(answer.into_inner().value)
}

fn told(result: Result<Vec<u8>, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), fault::reason(&status).unwrap_or_default())
}

#[tokio::test]
async fn each_daemon_reads_its_own_and_the_api_none() {
    let served = Served::open();
    let mut secrets = SecretServiceClient::new(served.channel("api"));
    for field in ["wireguard_key", "preshared_key_2", "password", "openvpn_password"] {
        secrets
            .put_secret(put(&name(field), field.as_bytes(), 0))
            .await
            .unwrap();
    }
    for (reader, other, field) in [
        ("netd", "egress", "wireguard_key"),
        ("netd", "egress", "preshared_key_2"),
        ("egress", "netd", "password"),
        ("openvpn", "egress", "openvpn_password"),
    ] {
        assert_eq!(
            read(&served, reader, name(field)).await.unwrap(),
            field.as_bytes()
        );
        let denied = (Code::PermissionDenied, "NAME_NOT_ALLOWED".to_owned());
        assert_eq!(told(read(&served, other, name(field)).await), denied, "{field}");
        let api = read(&served, "api", name(field)).await.unwrap_err();
        assert_eq!(api.code(), Code::Unimplemented, "{field}");
    }
    assert_eq!(
        told(read(&served, "netd", name("preshared_key_1")).await),
        (Code::NotFound, "NO_SECRET".to_owned())
    );
    for malformed in ["", "conn_../x", "CONN"] {
        let refused = (Code::InvalidArgument, "INVALID_REQUEST".to_owned());
        assert_eq!(told(read(&served, "egress", malformed.to_owned()).await), refused);
    }
    let mut key = WireguardKeyServiceClient::new(served.channel("egress"));
    let key = key
        .get_wireguard_private_key(GetWireguardPrivateKeyRequest {})
        .await;
    assert_eq!(
        key.unwrap_err().code(),
        Code::Unimplemented,
        "egress has no business with it"
    );

    let log = served.log();
    let expected = [
        format!("netd ReadExitSecret {} ALLOWED", name("wireguard_key")),
        format!("egress ReadExitSecret {} NAME_NOT_ALLOWED", name("wireguard_key")),
        format!("egress ReadExitSecret {} ALLOWED", name("password")),
        "netd ReadExitSecret - NO_SECRET".to_owned(),
        "egress ReadExitSecret - INVALID_REQUEST".to_owned(),
    ];
    for expected in expected {
        let words: Vec<&str> = expected.split(' ').collect();
        let told = log.lines().filter(|line| {
            words
                .iter()
                .all(|word| line.split(' ').any(|field| field == *word))
        });
        assert!(told.count() > 0, "{expected}: {log}");
    }
}

/// Which import a secret is of comes with it, also from a vault that was started anew.
#[tokio::test]
async fn a_secret_says_of_which_import_it_is() {
    let mut served = Served::open();
    let name = name("password");
    let put_of = |value: &'static [u8], version, revision| {
        let request = PutSecretRequest {
            revision,
            ..put(&name, value, version)
        };
        let mut secrets = SecretServiceClient::new(served.channel("api"));
        async move { secrets.put_secret(request).await.unwrap().into_inner().metadata }
    };
    let told = async |served: &Served| {
        let mut client = ExitSecretServiceClient::new(served.channel("egress"));
        let request = ReadExitSecretRequest { name: name.clone() };
        let answer = client.read_exit_secret(request).await.unwrap().into_inner();
        (answer.value, answer.revision)
    };
    assert_eq!(put_of(b"a", 0, 0).await.unwrap().revision, 0);
    assert_eq!(
        told(&served).await,
        (b"a".to_vec(), 0),
        "as before there were any"
    );
    assert_eq!(put_of(b"b", 1, 4).await.unwrap().revision, 4);
    assert_eq!(told(&served).await, (b"b".to_vec(), 4));
    let mut secrets = SecretServiceClient::new(served.channel("api"));
    let listed = secrets.list_secrets(ListSecretsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().secrets[0].revision, 4);
    served = served.restarted();
    assert_eq!(told(&served).await, (b"b".to_vec(), 4), "after a restart");
}

/// Whatever exits read, the cell's own key is told.
#[tokio::test]
async fn many_reads_leave_room_for_the_cells_own_key() {
    let served = Served::open();
    let mut secrets = SecretServiceClient::new(served.channel("api"));
    secrets
        .put_secret(put(&name("wireguard_key"), b"k", 0))
        .await
        .unwrap();
    let mut client = ExitSecretServiceClient::new(served.channel("netd"));
    let mut refused = None;
    for _ in 0..=EXIT_READS_PER_MINUTE {
        let request = ReadExitSecretRequest {
            name: name("wireguard_key"),
        };
        if let Err(status) = client.read_exit_secret(request).await {
            refused = fault::reason(&status);
        }
    }
    assert_eq!(refused.as_deref(), Some("RATE"));
    let mut key = WireguardKeyServiceClient::new(served.channel("netd"));
    key.get_wireguard_private_key(GetWireguardPrivateKeyRequest {})
        .await
        .unwrap();
}

#[tokio::test]
async fn a_sealed_vault_gives_none() {
    let served = Served::sealed(SealReason::KekMissing);
    for listener in ["netd", "egress", "openvpn"] {
        let sealed = (Code::FailedPrecondition, "SEALED".to_owned());
        assert_eq!(told(read(&served, listener, name("password")).await), sealed);
    }
}
