//! The listeners over real Unix sockets: what each offers, what each refuses and how it says so, and that no answer, error
//! or log line holds a secret.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::too_many_lines, reason = "tables of cases read best in one piece")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use cell_proto::common::v1::ConditionStatus;
use cell_proto::fault;
use cell_proto::vault::v1::audit_anchor_service_client::AuditAnchorServiceClient;
use cell_proto::vault::v1::certificate_service_client::CertificateServiceClient;
use cell_proto::vault::v1::secret_service_client::SecretServiceClient;
use cell_proto::vault::v1::vault_status_service_client::VaultStatusServiceClient;
use cell_proto::vault::v1::wireguard_key_service_client::WireguardKeyServiceClient;
use cell_proto::vault::v1::*;
use cell_vaultd::files::StateFolder;
use cell_vaultd_core::seal::SealReason;
use common::served::{Served, issue, own_uid, put};
use common::{KEK, machine_clock, open_with};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

fn told<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), fault::reason(&status).unwrap_or_default())
}

fn refused(code: Code, reason: &str) -> (Code, String) {
    (code, reason.to_owned())
}

#[tokio::test]
async fn each_listener_offers_its_own_services_and_no_other() {
    let served = Served::open();
    let (api, netd) = (served.channel("api"), served.channel("netd"));
    let key = |channel| async move {
        WireguardKeyServiceClient::new(channel)
            .get_wireguard_private_key(GetWireguardPrivateKeyRequest {})
            .await
    };
    assert_eq!(
        key(netd.clone()).await.unwrap().into_inner().private_key.len(),
        32,
        "the control"
    );
    assert_eq!(key(api.clone()).await.unwrap_err().code(), Code::Unimplemented);

    let mut secrets = SecretServiceClient::new(netd.clone());
    let mut certificates = CertificateServiceClient::new(netd.clone());
    let mut status = VaultStatusServiceClient::new(netd.clone());
    let mut anchors = AuditAnchorServiceClient::new(netd);
    let codes = [
        secrets
            .put_secret(put("conn_a", b"x", 0))
            .await
            .unwrap_err()
            .code(),
        secrets
            .list_secrets(ListSecretsRequest::default())
            .await
            .unwrap_err()
            .code(),
        secrets
            .rotate_secret(RotateSecretRequest::default())
            .await
            .unwrap_err()
            .code(),
        secrets
            .delete_secret(DeleteSecretRequest::default())
            .await
            .unwrap_err()
            .code(),
        certificates
            .issue_server_certificate(issue(&["a.cell"]))
            .await
            .unwrap_err()
            .code(),
        certificates
            .get_trust_bundle(GetTrustBundleRequest {})
            .await
            .unwrap_err()
            .code(),
        status
            .get_vault_status(GetVaultStatusRequest {})
            .await
            .unwrap_err()
            .code(),
        status
            .get_wireguard_public_key(GetWireguardPublicKeyRequest {})
            .await
            .unwrap_err()
            .code(),
        anchors
            .append_audit_anchor(AppendAuditAnchorRequest::default())
            .await
            .unwrap_err()
            .code(),
        anchors
            .list_audit_anchors(ListAuditAnchorsRequest::default())
            .await
            .unwrap_err()
            .code(),
    ];
    assert_eq!(codes, [Code::Unimplemented; 10]);
    let mut secrets = SecretServiceClient::new(api);
    assert!(
        secrets.put_secret(put("conn_a", b"x", 0)).await.is_ok(),
        "the control"
    );
}

#[tokio::test]
async fn a_user_that_the_policy_does_not_name_is_refused_on_both() {
    let folder = tempfile::tempdir().unwrap();
    let vault = open_with(Arc::new(StateFolder::new(folder.path())), machine_clock(), &KEK);
    let served = Served::start(vault, folder, vec![own_uid()[0] + 1]);
    let denied = refused(Code::PermissionDenied, "CALLER_UNKNOWN_USER");
    let mut api = VaultStatusServiceClient::new(served.channel("api"));
    assert_eq!(told(api.get_vault_status(GetVaultStatusRequest {}).await), denied);
    let mut netd = WireguardKeyServiceClient::new(served.channel("netd"));
    assert_eq!(
        told(
            netd.get_wireguard_private_key(GetWireguardPrivateKeyRequest {})
                .await
        ),
        denied
    );
    assert_eq!(served.log().lines().count(), 1, "the header: nothing was decoded");
}

#[tokio::test]
async fn both_listeners_tell_halves_of_one_clamped_key() {
    let served = Served::open();
    let mut netd = WireguardKeyServiceClient::new(served.channel("netd"));
    let mut api = VaultStatusServiceClient::new(served.channel("api"));
    let public = api
        .get_wireguard_public_key(GetWireguardPublicKeyRequest {})
        .await
        .unwrap()
        .into_inner()
        .public_key;
    for _ in 0..2 {
        let answer = netd
            .get_wireguard_private_key(GetWireguardPrivateKeyRequest {})
            .await
            .unwrap()
            .into_inner();
        let private: [u8; 32] = answer.private_key.try_into().unwrap();
        assert_eq!((private[0] & 7, private[31] & 0xc0), (0, 0x40));
        let secret = x25519_dalek::StaticSecret::from(private);
        assert_eq!(
            x25519_dalek::PublicKey::from(&secret).as_bytes().as_slice(),
            public
        );
    }
}

#[tokio::test]
async fn secrets_are_put_listed_rotated_and_deleted_by_version() {
    let served = Served::open();
    let mut secrets = SecretServiceClient::new(served.channel("api"));
    let mut version = 0;
    for _ in 0..2 {
        let metadata = secrets
            .put_secret(put("conn_a", b"value", version))
            .await
            .unwrap()
            .into_inner()
            .metadata
            .unwrap();
        assert_eq!(
            (metadata.name.as_str(), metadata.version),
            ("conn_a", version + 1)
        );
        version = metadata.version;
    }
    secrets.put_secret(put("ddns_b", b"value", 0)).await.unwrap();
    let list = |prefix: &str| ListSecretsRequest {
        prefix: prefix.to_owned(),
    };
    let names = |answer: ListSecretsResponse| {
        answer
            .secrets
            .into_iter()
            .map(|s| (s.name, s.version))
            .collect::<Vec<_>>()
    };
    let all = names(secrets.list_secrets(list("")).await.unwrap().into_inner());
    assert_eq!(all, [("conn_a".to_owned(), 2), ("ddns_b".to_owned(), 1)]);
    assert_eq!(
        names(secrets.list_secrets(list("ddns_")).await.unwrap().into_inner()),
        all[1..]
    );

    let rotate = |name: &str, expected_version| RotateSecretRequest {
        name: name.to_owned(),
        expected_version,
    };
    let delete = |name: &str, expected_version| DeleteSecretRequest {
        name: name.to_owned(),
        expected_version,
    };
    let mismatch = refused(Code::Aborted, "VERSION_MISMATCH");
    assert_eq!(told(secrets.put_secret(put("conn_a", b"v", 1)).await), mismatch);
    assert_eq!(told(secrets.put_secret(put("conn_a", b"v", 0)).await), mismatch);
    assert_eq!(told(secrets.rotate_secret(rotate("conn_a", 1)).await), mismatch);
    assert_eq!(told(secrets.delete_secret(delete("conn_a", 3)).await), mismatch);
    let absent = refused(Code::NotFound, "NO_SECRET");
    assert_eq!(told(secrets.rotate_secret(rotate("conn_x", 1)).await), absent);
    assert_eq!(told(secrets.delete_secret(delete("conn_x", 1)).await), absent);
    let rotated = secrets
        .rotate_secret(rotate("conn_a", 2))
        .await
        .unwrap()
        .into_inner()
        .metadata
        .unwrap();
    assert_eq!(rotated.version, 3);
    secrets.delete_secret(delete("conn_a", 3)).await.unwrap();
    assert_eq!(
        names(secrets.list_secrets(list("")).await.unwrap().into_inner()),
        all[1..]
    );
}

#[tokio::test]
async fn what_is_malformed_too_large_or_not_allowed_is_told_apart_and_changes_nothing() {
    let served = Served::open();
    let mut secrets = SecretServiceClient::new(served.channel("api"));
    let invalid = secrets.put_secret(put("../etc", b"", 0)).await.unwrap_err();
    let fields: Vec<String> = fault::violations(&invalid)
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    assert_eq!(
        (invalid.code(), fields),
        (Code::InvalidArgument, vec!["name".to_owned(), "value".to_owned()])
    );
    for name in [
        "",
        "a\0b",
        "\u{202e}conn_a",
        &"a".repeat(10_240),
        "conn_A",
        "Conn_a",
    ] {
        let put = secrets.put_secret(put(name, b"x", 0)).await;
        assert_eq!(
            told(put),
            refused(Code::InvalidArgument, "INVALID_REQUEST"),
            "{name:?}"
        );
    }
    let large = secrets.put_secret(put("conn_a", &vec![1; 65_537], 0)).await;
    assert_eq!(told(large), refused(Code::InvalidArgument, "INVALID_REQUEST"));
    let huge = secrets
        .put_secret(put("conn_a", &vec![1; 10 * 1024 * 1024], 0))
        .await
        .unwrap_err();
    assert_eq!(huge.code(), Code::OutOfRange, "not decoded at all");
    let foreign = secrets.put_secret(put("wg_key", b"x", 0)).await;
    assert_eq!(told(foreign), refused(Code::PermissionDenied, "NAME_NOT_ALLOWED"));
    for n in 0..4 {
        secrets
            .put_secret(put(&format!("conn_{n}"), &vec![1; 65_536], 0))
            .await
            .unwrap();
    }
    let more = secrets.put_secret(put("conn_more", b"x", 0)).await;
    assert_eq!(told(more), refused(Code::ResourceExhausted, "QUOTA"));
    assert_eq!(
        secrets
            .list_secrets(ListSecretsRequest::default())
            .await
            .unwrap()
            .into_inner()
            .secrets
            .len(),
        4
    );
}

#[tokio::test]
async fn certificates_come_with_their_chain_and_refusals_with_their_reason() {
    let served = Served::open();
    let mut service = CertificateServiceClient::new(served.channel("api"));
    let bundle = service
        .get_trust_bundle(GetTrustBundleRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(bundle.root_sha256, Sha256::digest(&bundle.root_der).to_vec());
    assert!(bundle.root_pem.starts_with("-----BEGIN CERTIFICATE-----\n"));
    let answer = service
        .issue_server_certificate(issue(&["home.cell"]))
        .await
        .unwrap()
        .into_inner();
    let certificate = answer.certificate.unwrap();
    assert_eq!(certificate.serial.len(), 16);
    assert_eq!(
        certificate.not_after_unix_ms - certificate.not_before_unix_ms,
        24 * 3_600_000 - 1_000
    );
    assert_eq!(answer.intermediates_der.len(), 1);

    let outside = service
        .issue_server_certificate(issue(&["home.cell", "google.com"]))
        .await
        .unwrap_err();
    assert_eq!(
        fault::metadata(&outside).get("name").map(String::as_str),
        Some("google.com")
    );
    assert_eq!(
        told::<()>(Err(outside)),
        refused(Code::PermissionDenied, "NAME_NOT_ALLOWED")
    );
    let wildcard = service.issue_server_certificate(issue(&["*.cell"])).await;
    assert_eq!(told(wildcard), refused(Code::InvalidArgument, "INVALID_REQUEST"));
    let none = service.issue_server_certificate(issue(&[])).await;
    assert_eq!(told(none), refused(Code::InvalidArgument, "INVALID_REQUEST"));
    let garbage = IssueServerCertificateRequest {
        csr_der: b"no".to_vec(),
        names: vec!["a.cell".into()],
        addresses: vec![],
    };
    assert_eq!(
        told(service.issue_server_certificate(garbage).await),
        refused(Code::InvalidArgument, "INVALID_CSR")
    );
    for _ in 0..4 {
        service
            .issue_server_certificate(issue(&["home.cell"]))
            .await
            .unwrap();
    }
    let more = service
        .issue_server_certificate(issue(&["home.cell"]))
        .await
        .unwrap_err();
    assert!(fault::metadata(&more)["retry_after_ms"].parse::<u64>().unwrap() > 3_000_000);
    assert_eq!(told::<()>(Err(more)), refused(Code::ResourceExhausted, "RATE"));
}

#[tokio::test]
async fn anchors_only_grow() {
    let served = Served::open();
    let mut service = AuditAnchorServiceClient::new(served.channel("api"));
    let anchor = |sequence, hash: &[u8]| AppendAuditAnchorRequest {
        sequence,
        hash: hash.to_vec(),
    };
    for sequence in [3, 4, 9] {
        service
            .append_audit_anchor(anchor(sequence, &[sequence as u8; 32]))
            .await
            .unwrap();
    }
    service.append_audit_anchor(anchor(9, &[9; 32])).await.unwrap();
    let not_newer = refused(Code::Aborted, "NOT_NEWER");
    assert_eq!(
        told(service.append_audit_anchor(anchor(9, &[8; 32])).await),
        not_newer
    );
    assert_eq!(
        told(service.append_audit_anchor(anchor(4, &[4; 32])).await),
        not_newer
    );
    let invalid = refused(Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(
        told(service.append_audit_anchor(anchor(0, &[0; 32])).await),
        invalid
    );
    assert_eq!(
        told(service.append_audit_anchor(anchor(10, &[0; 31])).await),
        invalid
    );
    let from = |from_sequence| ListAuditAnchorsRequest { from_sequence };
    let listed = service
        .list_audit_anchors(from(4))
        .await
        .unwrap()
        .into_inner()
        .anchors;
    assert_eq!(
        listed.iter().map(|anchor| anchor.sequence).collect::<Vec<_>>(),
        [4, 9]
    );
    for sequence in 10..66 {
        service
            .append_audit_anchor(anchor(sequence, &[1; 32]))
            .await
            .unwrap();
    }
    assert_eq!(
        told(service.append_audit_anchor(anchor(66, &[1; 32])).await),
        refused(Code::ResourceExhausted, "RATE"),
        "sixty in a minute, the repeated one among them"
    );
}

#[tokio::test]
async fn a_sealed_vault_says_so_to_every_call_and_why_in_its_status() {
    for reason in [
        SealReason::KekMissing,
        SealReason::KekWrong,
        SealReason::KekLength,
    ] {
        let served = Served::sealed(reason);
        let (api, netd) = (served.channel("api"), served.channel("netd"));
        let sealed = refused(Code::FailedPrecondition, "SEALED");
        let mut secrets = SecretServiceClient::new(api.clone());
        let mut certificates = CertificateServiceClient::new(api.clone());
        let mut status = VaultStatusServiceClient::new(api.clone());
        let mut anchors = AuditAnchorServiceClient::new(api);
        let mut key = WireguardKeyServiceClient::new(netd);
        assert_eq!(told(secrets.put_secret(put("conn_a", b"x", 0)).await), sealed);
        assert_eq!(
            told(secrets.list_secrets(ListSecretsRequest::default()).await),
            sealed
        );
        assert_eq!(
            told(secrets.rotate_secret(RotateSecretRequest::default()).await),
            sealed
        );
        assert_eq!(
            told(secrets.delete_secret(DeleteSecretRequest::default()).await),
            sealed
        );
        assert_eq!(
            told(certificates.issue_server_certificate(issue(&["a.cell"])).await),
            sealed
        );
        assert_eq!(
            told(certificates.get_trust_bundle(GetTrustBundleRequest {}).await),
            sealed
        );
        assert_eq!(
            told(
                status
                    .get_wireguard_public_key(GetWireguardPublicKeyRequest {})
                    .await
            ),
            sealed
        );
        assert_eq!(
            told(
                anchors
                    .append_audit_anchor(AppendAuditAnchorRequest::default())
                    .await
            ),
            sealed
        );
        assert_eq!(
            told(
                anchors
                    .list_audit_anchors(ListAuditAnchorsRequest::default())
                    .await
            ),
            sealed
        );
        assert_eq!(
            told(
                key.get_wireguard_private_key(GetWireguardPrivateKeyRequest {})
                    .await
            ),
            sealed
        );
        let told = status
            .get_vault_status(GetVaultStatusRequest {})
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap();
        let unsealed = told
            .conditions
            .iter()
            .find(|condition| condition.r#type == "Unsealed")
            .unwrap();
        assert_eq!(
            (unsealed.status(), unsealed.reason.as_str()),
            (ConditionStatus::False, reason.code())
        );
    }
}

#[tokio::test]
async fn an_open_vault_tells_its_conditions() {
    let served = Served::open();
    let mut status = VaultStatusServiceClient::new(served.channel("api"));
    SecretServiceClient::new(served.channel("api"))
        .put_secret(put("conn_a", b"x", 0))
        .await
        .unwrap();
    let told = status
        .get_vault_status(GetVaultStatusRequest {})
        .await
        .unwrap()
        .into_inner()
        .status
        .unwrap();
    assert_eq!(told.secret_count, 1);
    assert!(told.intermediate_not_after_unix_ms > 0);
    let holding: BTreeSet<(&str, bool)> = told
        .conditions
        .iter()
        .map(|condition| {
            (
                condition.r#type.as_str(),
                condition.status() == ConditionStatus::True,
            )
        })
        .collect();
    let expected = [
        ("AccessLogIntact", true),
        ("AnchorsIntact", true),
        ("CallerUnitChecked", false),
        ("MemoryLocked", false),
        ("SecretsIntact", true),
        ("Unsealed", true),
    ];
    assert_eq!(holding, expected.into());
}

#[tokio::test]
async fn every_request_is_recorded_with_its_verdict_and_without_a_value() {
    let served = Served::open();
    let mut secrets = SecretServiceClient::new(served.channel("api"));
    secrets.put_secret(put("conn_a", b"sesame", 0)).await.unwrap();
    secrets.put_secret(put("wg_key", b"sesame", 0)).await.unwrap_err();
    secrets
        .put_secret(put("bad name\n99 forged", b"sesame", 0))
        .await
        .unwrap_err();
    let mut certificates = CertificateServiceClient::new(served.channel("api"));
    certificates
        .issue_server_certificate(issue(&["home.cell"]))
        .await
        .unwrap();
    let mut key = WireguardKeyServiceClient::new(served.channel("netd"));
    key.get_wireguard_private_key(GetWireguardPrivateKeyRequest {})
        .await
        .unwrap();
    let uid = own_uid()[0];
    let pid = std::process::id();
    let recorded: Vec<String> = served
        .log()
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            assert_eq!(fields.len(), 10, "{line}");
            assert_eq!(
                (fields[4], fields[5]),
                (uid.to_string().as_str(), pid.to_string().as_str())
            );
            [fields[0], fields[3], fields[6], fields[7], fields[8]].join(" ")
        })
        .collect();
    let expected = [
        "1 api PutSecret conn_a ALLOWED",
        "2 api PutSecret wg_key NAME_NOT_ALLOWED",
        "3 api PutSecret - INVALID_REQUEST",
        "4 api IssueServerCertificate home.cell ALLOWED",
        "5 netd GetWireguardPrivateKey - ALLOWED",
    ];
    assert_eq!(recorded, expected);
}

/// Over the compiled protos (K2, K7): an answer that could carry a key or a value exists on the services of netd and egress
/// alone.
#[test]
fn no_answer_to_the_api_has_a_field_for_key_material() {
    let set = FileDescriptorSet::decode(cell_proto::DESCRIPTORS).unwrap();
    let files: Vec<_> = set
        .file
        .iter()
        .filter(|file| file.package() == "cell.vault.v1")
        .collect();
    let bytes_of = |message: &str| -> Vec<String> {
        let name = message.rsplit('.').next().unwrap();
        let found = files
            .iter()
            .flat_map(|file| &file.message_type)
            .find(|candidate| candidate.name() == name);
        let fields = &found.unwrap().field;
        fields
            .iter()
            .filter(|field| field.r#type() == prost_types::field_descriptor_proto::Type::Bytes)
            .map(|field| field.name().to_owned())
            .collect()
    };
    let mut carrying = BTreeSet::new();
    let mut methods = 0;
    for service in files.iter().flat_map(|file| &file.service) {
        for method in &service.method {
            methods += 1;
            carrying.extend(
                bytes_of(method.output_type())
                    .into_iter()
                    .map(|field| format!("{}.{field}", service.name())),
            );
        }
    }
    assert_eq!(
        methods,
        cell_vaultd_core::Action::ALL.len(),
        "an RPC that no action stands for"
    );
    let expected = [
        "CertificateService.intermediates_der",
        "CertificateService.root_der",
        "CertificateService.root_sha256",
        "ExitSecretService.value",
        "ServiceSecretService.value",
        "VaultStatusService.public_key",
        "WireguardKeyService.private_key",
    ];
    assert_eq!(carrying, expected.map(str::to_owned).into());
    let secret_messages = [
        "SecretMetadata",
        "PutSecretResponse",
        "RotateSecretResponse",
        "ListSecretsResponse",
    ];
    assert!(secret_messages.iter().all(|message| bytes_of(message).is_empty()));
}
