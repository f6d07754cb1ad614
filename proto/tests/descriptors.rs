//! A review of the protos by program: no key in an answer, a request and a response of its own for every RPC, and a
//! `Debug` that shows nothing for every message with a secret.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use cell_proto::{DESCRIPTORS, api, egress, vault, wg};
use prost::Message;

/// The part of descriptor.proto that the review reads. prost-types lacks `debug_redact`.
#[derive(Clone, PartialEq, Message)]
struct FileSet {
    #[prost(message, repeated, tag = "1")]
    file: Vec<File>,
}

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "4")]
    message_type: Vec<MessageType>,
    #[prost(message, repeated, tag = "6")]
    service: Vec<Service>,
}

#[derive(Clone, PartialEq, Message)]
struct MessageType {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    field: Vec<Field>,
    #[prost(message, repeated, tag = "3")]
    nested_type: Vec<MessageType>,
}

#[derive(Clone, PartialEq, Message)]
struct Field {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "5")]
    kind: i32,
    #[prost(string, tag = "6")]
    type_name: String,
    #[prost(message, optional, tag = "8")]
    options: Option<FieldOptions>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldOptions {
    #[prost(bool, tag = "16")]
    debug_redact: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    method: Vec<Method>,
}

#[derive(Clone, PartialEq, Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    input_type: String,
    #[prost(string, tag = "3")]
    output_type: String,
}

/// TYPE_STRING and TYPE_BYTES: what can hold a secret.
const TEXT_OR_BYTES: [i32; 2] = [9, 12];

fn files() -> Vec<File> {
    let files = FileSet::decode(DESCRIPTORS).unwrap().file;
    files
        .into_iter()
        .filter(|file| file.package.starts_with("cell."))
        .collect()
}

/// Every message by its full name, as `type_name` writes it (with a leading dot).
fn messages() -> BTreeMap<String, MessageType> {
    let mut messages = BTreeMap::new();
    for file in files() {
        let mut left: Vec<_> = file
            .message_type
            .into_iter()
            .map(|m| (format!(".{}", file.package), m))
            .collect();
        while let Some((prefix, message)) = left.pop() {
            let name = format!("{prefix}.{}", message.name);
            left.extend(
                message
                    .nested_type
                    .iter()
                    .cloned()
                    .map(|nested| (name.clone(), nested)),
            );
            messages.insert(name, message);
        }
    }
    messages
}

/// Every RPC: package, service, method.
fn methods() -> Vec<(String, String, Method)> {
    let of_service = |package: String, service: Service| {
        service
            .method
            .into_iter()
            .map(move |method| (package.clone(), service.name.clone(), method))
    };
    let of_file = |file: File| {
        let package = file.package;
        file.service
            .into_iter()
            .flat_map(move |service| of_service(package.clone(), service))
    };
    files().into_iter().flat_map(of_file).collect()
}

fn redacted(field: &Field) -> bool {
    field.options.as_ref().is_some_and(|options| options.debug_redact)
}

/// A text or bytes field whose name speaks of a secret, or that is marked as one.
fn suspicious(field: &Field) -> bool {
    const WORDS: [&str; 9] = [
        "private",
        "secret",
        "password",
        "passphrase",
        "token",
        "preshared",
        "key",
        "seed",
        "credential",
    ];
    let name = field.name.replace("public_key", "");
    let value = field.name == "value";
    TEXT_OR_BYTES.contains(&field.kind) && (value || WORDS.iter().any(|word| name.contains(word)))
        || redacted(field)
}

#[test]
fn no_answer_carries_a_secret_but_these() {
    let messages = messages();
    let mut found = BTreeSet::new();
    for (_, _, method) in methods() {
        let (mut left, mut seen) = (vec![method.output_type], BTreeSet::new());
        while let Some(name) = left.pop().filter(|name| !name.is_empty()) {
            if !seen.insert(name.clone()) {
                continue;
            }
            for field in &messages[&name].field {
                if suspicious(field) {
                    found.insert(format!("{}.{}", &name[1..], field.name));
                }
                left.extend(
                    messages
                        .contains_key(&field.type_name)
                        .then(|| field.type_name.clone()),
                );
            }
        }
    }
    // netd, egress, openvpn and the broker read keys and secrets on sockets of their own; the text for a device holds a key only if the server made it; an account's
    // password is in the answer to its making alone, and passes through egress as bytes.
    let allowed = [
        "cell.api.v1.AccountCredential.password",
        "cell.api.v1.CreatePeerResponse.config",
        "cell.egress.v1.ConnectServiceResponse.data",
        "cell.vault.v1.GetWireguardPrivateKeyResponse.private_key",
        "cell.vault.v1.ReadExitSecretResponse.value",
        "cell.vault.v1.ReadServiceSecretResponse.value",
    ];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), allowed);
}

#[test]
fn the_review_would_see_a_secret() {
    let field = |name: &str, kind| Field {
        name: name.to_owned(),
        kind,
        ..Default::default()
    };
    for name in [
        "private_key",
        "secret_value",
        "value",
        "claim_token",
        "preshared_key",
        "password_hash",
    ] {
        assert!(
            suspicious(&field(name, 12)) && suspicious(&field(name, 9)),
            "{name}"
        );
    }
    for name in ["public_key", "wireguard_public_key", "endpoint"] {
        assert!(!suspicious(&field(name, 12)), "{name}");
    }
    assert!(!suspicious(&field("secret_count", 13)));
}

#[test]
fn every_rpc_has_a_request_and_a_response_of_its_own() {
    let methods = methods();
    assert!(methods.len() > 30, "the descriptors are all there");
    let mut used = BTreeSet::new();
    for (package, service, method) in methods {
        for (kind, name) in [("Request", method.input_type), ("Response", method.output_type)] {
            assert_eq!(
                name,
                format!(".{package}.{}{kind}", method.name),
                "{service}.{}",
                method.name
            );
            assert!(used.insert(name.clone()), "{name} is used twice");
        }
    }
}

/// What must not show.
const CANARY: &str = "canary";

fn shown<M: std::fmt::Debug>(name: &'static str, message: M) -> (String, String) {
    (name.to_owned(), format!("{message:?} {message:#?}"))
}

/// Every message that has a field marked `debug_redact`, filled.
fn filled() -> Vec<(String, String)> {
    let (text, bytes) = (|| CANARY.to_owned(), || CANARY.as_bytes().to_vec());
    let admin = || api::v1::AdminStep {
        username: text(),
        password: text(),
    };
    let mut filled = vec![
        shown(
            "cell.wg.v1.SetDeviceRequest",
            wg::v1::SetDeviceRequest {
                private_key: bytes(),
                ..Default::default()
            },
        ),
        shown(
            "cell.api.v1.ClaimStep",
            api::v1::ClaimStep { claim_token: text() },
        ),
        shown("cell.api.v1.AdminStep", admin()),
        shown(
            "cell.api.v1.SubmitSetupStepRequest",
            api::v1::SubmitSetupStepRequest {
                step: Some(api::v1::SetupStep {
                    step: Some(api::v1::setup_step::Step::Admin(admin())),
                }),
                claim_token: text(),
            },
        ),
        shown(
            "cell.api.v1.CompleteSetupRequest",
            api::v1::CompleteSetupRequest { claim_token: text() },
        ),
        shown(
            "cell.api.v1.ResetPasswordRequest",
            api::v1::ResetPasswordRequest {
                username: String::new(),
                new_password: text(),
            },
        ),
        shown(
            "cell.api.v1.SetDomainRequest",
            api::v1::SetDomainRequest {
                setting: None,
                token: text(),
            },
        ),
        connection_import(),
        first_version(),
        shown(
            "cell.api.v1.CreatePeerResponse",
            api::v1::CreatePeerResponse {
                peer: None,
                config: text(),
            },
        ),
    ];
    filled.extend(filled_with_keys());
    filled
}

fn filled_with_keys() -> [(String, String); 9] {
    let (text, bytes) = (|| CANARY.to_owned(), || CANARY.as_bytes().to_vec());
    [
        shown(
            "cell.wg.v1.Peer",
            wg::v1::Peer {
                preshared_key: bytes(),
                ..Default::default()
            },
        ),
        shown(
            "cell.vault.v1.PutSecretRequest",
            vault::v1::PutSecretRequest {
                name: text(),
                value: bytes(),
                expected_version: 1,
                revision: 1,
            },
        ),
        shown(
            "cell.vault.v1.GetWireguardPrivateKeyResponse",
            vault::v1::GetWireguardPrivateKeyResponse { private_key: bytes() },
        ),
        shown(
            "cell.vault.v1.ReadExitSecretResponse",
            vault::v1::ReadExitSecretResponse {
                value: bytes(),
                revision: 1,
            },
        ),
        shown(
            "cell.vault.v1.ReadServiceSecretResponse",
            vault::v1::ReadServiceSecretResponse { value: bytes() },
        ),
        shown(
            "cell.api.v1.SetServiceSecretRequest",
            api::v1::SetServiceSecretRequest {
                value: text(),
                ..Default::default()
            },
        ),
        shown(
            "cell.api.v1.AccountCredential",
            api::v1::AccountCredential {
                password: text(),
                ..Default::default()
            },
        ),
        shown(
            "cell.egress.v1.ConnectServiceRequest",
            egress::v1::ConnectServiceRequest {
                to: None,
                data: bytes(),
            },
        ),
        shown(
            "cell.egress.v1.ConnectServiceResponse",
            egress::v1::ConnectServiceResponse { data: bytes() },
        ),
    ]
}

fn connection_import() -> (String, String) {
    let text = || CANARY.to_owned();
    let import = api::v1::ConnectionImport {
        file: text(),
        username: text(),
        password: text(),
        url: text(),
        target: String::new(),
        private_key: text(),
        host_keys: String::new(),
    };
    shown("cell.api.v1.ConnectionImport", import)
}

fn first_version() -> (String, String) {
    let import = api::v1::ImportFirstVersionRequest {
        config: CANARY.to_owned(),
        peers: CANARY.to_owned(),
        secrets: CANARY.to_owned(),
        validate_only: false,
        confirm_within_seconds: 0,
    };
    shown("cell.api.v1.ImportFirstVersionRequest", import)
}

#[test]
fn messages_with_secrets_show_nothing() {
    let marked: BTreeSet<String> = messages()
        .into_iter()
        .filter(|(_, message)| message.field.iter().any(redacted))
        .map(|(name, _)| name[1..].to_owned())
        .collect();
    assert_eq!(
        filled()
            .into_iter()
            .map(|(name, _)| name)
            .collect::<BTreeSet<_>>(),
        marked
    );
    let bytes = format!("{:?}", CANARY.as_bytes());
    for (name, shown) in filled() {
        let numbers = bytes.trim_matches(['[', ']']);
        assert!(
            !shown.contains(CANARY) && !shown.contains(numbers),
            "{name}: {shown}"
        );
    }
    let control = format!(
        "{:?}",
        api::v1::IdentityStep {
            cell_name: CANARY.to_owned(),
            ..Default::default()
        }
    );
    assert!(
        control.contains(CANARY),
        "control: Debug shows what is not marked"
    );
}

#[test]
fn a_message_around_a_secret_shows_nothing_of_it() {
    let admin = api::v1::AdminStep {
        username: String::new(),
        password: CANARY.to_owned(),
    };
    let step = api::v1::SetupStep {
        step: Some(api::v1::setup_step::Step::Admin(admin)),
    };
    assert!(!format!("{step:?}").contains(CANARY));
}
