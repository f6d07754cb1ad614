//! A real server on a real path socket, and callers of several users.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, BufMut};
use cell_proto::fault;
use cell_proto::ipc::serve::MAX_MESSAGE_BYTES;
use cell_proto::ipc::{Caller, CallerPolicy, connect, serve};
use cell_proto::vault::v1::secret_service_client::SecretServiceClient;
use cell_proto::vault::v1::secret_service_server::{SecretService, SecretServiceServer};
use cell_proto::vault::v1::vault_status_service_client::VaultStatusServiceClient;
use cell_proto::vault::v1::{
    DeleteSecretRequest, DeleteSecretResponse, GenerateSecretRequest, GenerateSecretResponse,
    GetVaultStatusRequest, ListSecretsRequest, ListSecretsResponse, PutSecretRequest, PutSecretResponse,
    RotateSecretRequest, RotateSecretResponse, SecretMetadata,
};
use tokio::net::UnixListener;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

const ROOT: u32 = 0;
const NOBODY: u32 = 65534;

/// Counts what reaches it.
#[derive(Default, Clone)]
struct Counting(Arc<AtomicUsize>);

#[tonic::async_trait]
impl SecretService for Counting {
    async fn put_secret(
        &self,
        request: Request<PutSecretRequest>,
    ) -> Result<Response<PutSecretResponse>, Status> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let caller = request
            .extensions()
            .get::<Caller>()
            .cloned()
            .ok_or_else(|| Status::internal("no caller"))?;
        let metadata = SecretMetadata {
            name: format!("uid_{}", caller.uid),
            ..Default::default()
        };
        Ok(Response::new(PutSecretResponse {
            metadata: Some(metadata),
        }))
    }

    async fn list_secrets(
        &self,
        _: Request<ListSecretsRequest>,
    ) -> Result<Response<ListSecretsResponse>, Status> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(ListSecretsResponse::default()))
    }

    async fn rotate_secret(
        &self,
        _: Request<RotateSecretRequest>,
    ) -> Result<Response<RotateSecretResponse>, Status> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(RotateSecretResponse::default()))
    }

    async fn generate_secret(
        &self,
        _: Request<GenerateSecretRequest>,
    ) -> Result<Response<GenerateSecretResponse>, Status> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(GenerateSecretResponse::default()))
    }

    async fn delete_secret(
        &self,
        _: Request<DeleteSecretRequest>,
    ) -> Result<Response<DeleteSecretResponse>, Status> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(DeleteSecretResponse::default()))
    }
}

/// A server for the callers `uids`, on a thread of its own, with a socket that anybody may connect to, so that the
/// caller check alone decides.
struct Daemon {
    socket: PathBuf,
    calls: Counting,
    _folder: tempfile::TempDir,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Daemon {
    fn start(uids: &[u32]) -> Self {
        let folder = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let socket = folder.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
        let policy = CallerPolicy {
            uids: uids.to_vec(),
            unit: None,
        };
        let calls = Counting::default();
        let service = SecretServiceServer::new(calls.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            block_on(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = UnixListener::from_std(listener).unwrap();
                let ended = async { drop(stopped.await) };
                serve(listener, policy, Routes::new(service), ended)
                    .await
                    .unwrap();
            });
        });
        Daemon {
            socket,
            calls,
            _folder: folder,
            _stop: stop,
        }
    }

    fn calls(&self) -> usize {
        self.calls.0.load(Ordering::SeqCst)
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Runs `future` on a thread that is `uid`. The kernel keeps credentials by thread; glibc's setresuid(3) would change all.
fn as_user<T: Send + 'static>(uid: u32, future: impl Future<Output = T> + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        // SAFETY: numbers only; the thread ends after this function and runs nothing else.
        let rc = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
        assert_eq!(rc, 0, "the tests run as root");
        block_on(future)
    });
    thread.join().unwrap()
}

/// Stores a secret of `size` bytes as `uid`.
fn put(daemon: &Daemon, uid: u32, size: usize) -> Result<PutSecretResponse, Status> {
    let channel = daemon.socket.clone();
    as_user(uid, async move {
        let request = PutSecretRequest {
            value: vec![0x5a; size],
            ..Default::default()
        };
        let mut client = SecretServiceClient::new(connect(channel));
        client.put_secret(request).await.map(Response::into_inner)
    })
}

#[test]
fn the_known_user_passes_and_the_service_knows_who_it_is() {
    for uid in [ROOT, NOBODY] {
        let daemon = Daemon::start(&[uid]);
        let name = put(&daemon, uid, 1).unwrap().metadata.unwrap().name;
        assert_eq!(name, format!("uid_{uid}"));
        assert_eq!(daemon.calls(), 1);
    }
}

#[test]
fn any_other_user_is_refused_root_included() {
    for (known, caller) in [(ROOT, NOBODY), (NOBODY, ROOT), (NOBODY, 1)] {
        let daemon = Daemon::start(&[known]);
        let status = put(&daemon, caller, 1).unwrap_err();
        assert_eq!(
            status.code(),
            Code::PermissionDenied,
            "{caller} where {known} is known"
        );
        assert_eq!(fault::reason(&status).as_deref(), Some("CALLER_UNKNOWN_USER"));
        assert_eq!(daemon.calls(), 0);
    }
}

#[test]
fn nobody_passes_where_nobody_is_known() {
    let daemon = Daemon::start(&[]);
    assert_eq!(put(&daemon, ROOT, 1).unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(daemon.calls(), 0);
}

/// Sends bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

/// Sends what is no PutSecretRequest.
fn put_garbage(daemon: &Daemon, uid: u32) -> Status {
    let socket = daemon.socket.clone();
    as_user(uid, async move {
        let mut client = tonic::client::Grpc::new(connect(socket));
        client.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/cell.vault.v1.SecretService/PutSecret");
        client
            .unary(Request::new(vec![0xff; 64]), path, Raw)
            .await
            .unwrap_err()
    })
}

#[test]
fn a_refused_caller_s_message_is_not_decoded() {
    let daemon = Daemon::start(&[ROOT]);
    let control = put_garbage(&daemon, ROOT);
    assert_eq!(
        (control.code(), fault::reason(&control).as_deref()),
        (Code::InvalidArgument, Some("MALFORMED_MESSAGE")),
        "control: a known caller's garbage fails to decode: {control:?}"
    );
    let (garbage, well_formed) = (put_garbage(&daemon, NOBODY), put(&daemon, NOBODY, 1).unwrap_err());
    assert_eq!(garbage.code(), Code::PermissionDenied);
    assert_eq!(
        (garbage.code(), garbage.message()),
        (well_formed.code(), well_formed.message())
    );
    assert_eq!(fault::reason(&garbage), fault::reason(&well_formed));
    assert_eq!(daemon.calls(), 0);
}

/// Sends PutSecret with these bytes as ROOT.
fn put_bytes(daemon: &Daemon, message: Vec<u8>) -> Result<Vec<u8>, Status> {
    let socket = daemon.socket.clone();
    block_on(async move {
        let mut client = tonic::client::Grpc::new(connect(socket));
        client.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/cell.vault.v1.SecretService/PutSecret");
        client
            .unary(Request::new(message), path, Raw)
            .await
            .map(Response::into_inner)
    })
}

#[test]
fn a_field_that_this_version_does_not_know_is_refused_by_its_number() {
    let daemon = Daemon::start(&[ROOT]);
    // Field 1, the name, is "conn_a"; then field 99 as each kind of value that there is.
    let known = [&[0x0a, 6][..], b"conn_a"].concat();
    assert!(put_bytes(&daemon, known.clone()).is_ok(), "control");
    for unknown in [
        &[0x98, 0x06, 1][..],
        &[0x99, 0x06, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x9a, 0x06, 2, b'h', b'i'],
        &[0x9b, 0x06, 0x9c, 0x06],
        &[0x9d, 0x06, 0, 0, 0, 0],
    ] {
        for message in [[&known[..], unknown].concat(), [unknown, &known[..]].concat()] {
            let status = put_bytes(&daemon, message).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
            assert_eq!(fault::reason(&status).as_deref(), Some("UNKNOWN_FIELD"));
            assert_eq!(fault::metadata(&status)["field"], "99");
            assert_eq!(
                fault::metadata(&status)["message"],
                "cell.vault.v1.PutSecretRequest"
            );
        }
    }
    assert_eq!(daemon.calls(), 1, "the control alone");
}

#[test]
fn what_is_not_registered_on_the_listener_does_not_exist() {
    let daemon = Daemon::start(&[ROOT]);
    let socket = daemon.socket.clone();
    let status = block_on(async move {
        VaultStatusServiceClient::new(connect(socket))
            .get_vault_status(GetVaultStatusRequest {})
            .await
            .unwrap_err()
    });
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(
        put(&daemon, ROOT, 1).is_ok(),
        "control: what is registered answers"
    );
}

#[test]
fn a_message_beyond_the_limit_is_refused() {
    let daemon = Daemon::start(&[ROOT]);
    assert!(
        put(&daemon, ROOT, 5 << 20).is_ok(),
        "control: more than tonic's own limit of 4 MiB passes"
    );
    let status = put(&daemon, ROOT, MAX_MESSAGE_BYTES).unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{}", status.message());
    assert_eq!(daemon.calls(), 1);
}

#[test]
fn a_daemon_that_is_away_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("socket");
    let status = block_on(async move {
        SecretServiceClient::new(connect(absent))
            .list_secrets(ListSecretsRequest::default())
            .await
            .unwrap_err()
    });
    assert_eq!(status.code(), Code::Unavailable);
}
