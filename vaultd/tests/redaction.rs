//! No log line, error or `Debug` holds a secret. A program of its own, because it listens to everything that is logged.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::{Arc, Mutex};

use cell_proto::vault::v1::secret_service_client::SecretServiceClient;
use cell_proto::vault::v1::service_secret_service_client::ServiceSecretServiceClient;
use cell_proto::vault::v1::wireguard_key_service_client::WireguardKeyServiceClient;
use cell_proto::vault::v1::{GenerateSecretRequest, GetWireguardPrivateKeyRequest, ReadServiceSecretRequest};
use common::served::{Served, put};
use tonic::Request;
use tonic::transport::Channel;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Another that the vault made; both are read as the broker reads them.
async fn made_for_a_service(
    served: &Served,
    secrets: &mut SecretServiceClient<Channel>,
    secret: &[u8],
    told: &mut String,
) -> String {
    let mut services = ServiceSecretServiceClient::new(served.channel("broker"));
    let generate = GenerateSecretRequest {
        name: "svc_a_made".to_owned(),
        length: 32,
        expected_version: 0,
    };
    *told += &format!("{:?}", secrets.generate_secret(generate).await.unwrap());
    let mut read = Vec::new();
    for name in ["svc_a_b", "svc_a_made"] {
        let request = ReadServiceSecretRequest {
            name: name.to_owned(),
        };
        let answer = services.read_service_secret(request).await.unwrap();
        *told += &format!("{answer:?}");
        read.push(answer.into_inner().value);
    }
    assert_eq!(read[0], secret);
    let made = String::from_utf8(read.remove(1)).unwrap();
    assert_eq!(made.len(), 43, "32 bytes as base64url");
    made
}

/// With everything logged that any crate of the process logs, down to HTTP/2 frames.
#[tokio::test]
async fn no_secret_byte_is_in_logs_errors_or_debug() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let served = Served::open();
    let secret = b"xyzzy-do-not-tell-plugh";
    let mut secrets = SecretServiceClient::new(served.channel("api"));
    let mut told = String::new();
    for request in [
        put("conn_a", secret, 0),
        put("conn_a", secret, 0),
        put("wg_a", secret, 0),
        put("no name", secret, 0),
        put("svc_a_b", secret, 0),
    ] {
        told += &format!("{request:?} {:?}", Request::new(request.clone()));
        told += &format!("{:?}", secrets.put_secret(request).await);
    }
    let made = made_for_a_service(&served, &mut secrets, secret, &mut told).await;
    let mut key = WireguardKeyServiceClient::new(served.channel("netd"));
    let answer = key
        .get_wireguard_private_key(GetWireguardPrivateKeyRequest {})
        .await
        .unwrap();
    told += &format!("{answer:?}");
    let private = answer.into_inner().private_key;
    told += &served.log();
    let logged = captured.0.lock().unwrap().clone();
    assert!(logged.len() > 1_000, "the log was captured");
    assert!(
        String::from_utf8_lossy(&logged).contains("PutSecret"),
        "and holds our own lines"
    );
    let list = private.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let text = std::str::from_utf8(secret).unwrap().to_owned();
    let decimal = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    for haystack in [String::from_utf8_lossy(&logged).into_owned(), told] {
        for needle in [
            &text,
            &decimal,
            &list,
            &hex::encode(secret),
            &made,
            &hex::encode(&private),
        ] {
            assert!(!haystack.contains(needle.as_str()), "{needle} is told");
        }
        let raw = haystack.as_bytes();
        assert!(
            !raw.windows(32).any(|window| window == private),
            "the key is told raw"
        );
    }
}
