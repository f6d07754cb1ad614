//! A whole daemon inside the sandbox: tokio on several threads, gRPC on a path socket, SQLite, TLS, files, signals, logs.
//! What it needs is exactly what the filter lets through; a call too few shows here.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cell_proto::ipc::{CallerPolicy, connect, serve};
use cell_proto::vault::v1::vault_status_service_client::VaultStatusServiceClient;
use cell_proto::vault::v1::vault_status_service_server::{VaultStatusService, VaultStatusServiceServer};
use cell_proto::vault::v1::{
    GetVaultStatusRequest, GetVaultStatusResponse, GetWireguardPublicKeyRequest,
    GetWireguardPublicKeyResponse, VaultStatus,
};
use cell_sandbox::identity::Identity;
use cell_sandbox::{Family, Sandbox};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

const NOBODY: u32 = 65534;

/// Answers with the number of rows in its database.
struct Rows(std::path::PathBuf);

#[tonic::async_trait]
impl VaultStatusService for Rows {
    async fn get_vault_status(
        &self,
        _: Request<GetVaultStatusRequest>,
    ) -> Result<Response<GetVaultStatusResponse>, Status> {
        let database = self.0.clone();
        let count = tokio::task::spawn_blocking(move || -> rusqlite::Result<u32> {
            let mut connection = rusqlite::Connection::open(database)?;
            let transaction = connection.transaction()?;
            transaction.execute("INSERT INTO secrets (value) VALUES (randomblob(32))", [])?;
            transaction.commit()?;
            connection.query_row("SELECT count(*) FROM secrets", [], |row| row.get(0))
        });
        let count = count
            .await
            .unwrap()
            .map_err(|e| Status::internal(e.to_string()))?;
        let status = VaultStatus {
            secret_count: count,
            ..Default::default()
        };
        Ok(Response::new(GetVaultStatusResponse { status: Some(status) }))
    }

    async fn get_wireguard_public_key(
        &self,
        _: Request<GetWireguardPublicKeyRequest>,
    ) -> Result<Response<GetWireguardPublicKeyResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }
}

#[test]
fn a_daemon_does_all_its_work_inside() {
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    chown(folder.path().join("socket"), Some(NOBODY), Some(NOBODY)).unwrap();
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    // SAFETY: the child runs Rust code in a copy of a process with other threads; glibc keeps its allocator usable
    // after fork(2), and none of std's locks is held by the test harness while a test starts.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let told = std::panic::catch_unwind(|| daemon(folder.path(), listener)).unwrap_or_else(|panic| {
                format!(
                    "panic: {:?} {:?}",
                    panic.downcast_ref::<String>(),
                    panic.downcast_ref::<&str>()
                )
            });
            let failed = writer.write_all(told.as_bytes()).is_err();
            // SAFETY: ends the child without running the parent's exit handlers a second time.
            unsafe { libc::_exit(i32::from(failed)) }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut told = String::new();
            reader.read_to_string(&mut told).unwrap();
            assert_eq!(
                waitpid(child, None).unwrap(),
                WaitStatus::Exited(child, 0),
                "{told}"
            );
            assert_eq!(told, "rows 3, tls pong, files done, signal seen");
        }
    }
}

/// What a daemon's `main` does, in its order.
fn daemon(state: &Path, listener: std::os::unix::net::UnixListener) -> String {
    // Like every daemon, to standard error: a descriptor, no path.
    let logs = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter("error")
        .finish();
    let tls = tls_config();
    Identity {
        uid: NOBODY,
        gid: NOBODY,
        groups: Vec::new(),
    }
    .assume(&[])
    .unwrap();
    let sandbox = Sandbox::new()
        .read_write(state)
        .connect_unix(state.join("socket"))
        .sockets(&[Family::Unix]);
    let report = sandbox.enter().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build()
        .unwrap();
    tracing::subscriber::with_default(logs, || {
        tracing::error!(%report, "a line for standard error");
        runtime.block_on(async {
            let rows = serve_and_ask(state, listener).await;
            let answer = tls_ping(tls).await;
            let files = files(state).await;
            let signal = signal().await;
            format!("rows {rows}, tls {answer}, files {files}, signal {signal}")
        })
    })
}

async fn serve_and_ask(state: &Path, listener: std::os::unix::net::UnixListener) -> u32 {
    let database = state.join("database");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection
        .execute("CREATE TABLE secrets (value BLOB NOT NULL)", [])
        .unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = UnixListener::from_std(listener).unwrap();
    let routes = Routes::new(VaultStatusServiceServer::new(Rows(database)));
    // No unit runs for a test; looking for one must work in here all the same.
    let unit = cell_sandbox::unit_cgroup("cell-no-such.service");
    assert!(!matches!(unit, cell_sandbox::UnitCgroup::Runs(_)), "{unit:?}");
    let policy = CallerPolicy {
        uids: vec![NOBODY],
        unit: None,
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(serve(listener, policy, routes, async { drop(stopped.await) }));
    let mut client = VaultStatusServiceClient::new(connect(state.join("socket")));
    let mut rows = 0;
    for _ in 0..3 {
        let answer = client
            .get_vault_status(GetVaultStatusRequest {})
            .await
            .unwrap()
            .into_inner();
        rows = answer.status.unwrap().secret_count;
    }
    drop((client, stop));
    server.await.unwrap().unwrap();
    connection
        .execute_batch(
            "DELETE FROM secrets; PRAGMA temp_store = MEMORY; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);",
        )
        .unwrap();
    rows
}

type Tls = (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>);

fn tls_config() -> Tls {
    let made = rcgen::generate_simple_self_signed(["cell.test".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let server = rustls::ServerConfig::builder().with_no_client_auth();
    let client = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (
        Arc::new(
            server
                .with_single_cert(vec![made.cert.der().clone()], key)
                .unwrap(),
        ),
        Arc::new(client),
    )
}

async fn tls_ping((server, client): Tls) -> String {
    let (near, far) = UnixStream::pair().unwrap();
    let echo = tokio::spawn(async move {
        let mut stream = tokio_rustls::TlsAcceptor::from(server).accept(far).await.unwrap();
        let mut asked = [0; 4];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"ping");
        stream.write_all(b"pong").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let name = rustls::pki_types::ServerName::try_from("cell.test").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(client)
        .connect(name, near)
        .await
        .unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    echo.await.unwrap();
    answer
}

/// Writes a file the way a daemon keeps its state: a new one beside it, to disk, renamed over the old.
async fn files(state: &Path) -> &'static str {
    tokio::fs::create_dir(state.join("kept")).await.unwrap();
    let (new, kept) = (state.join("kept/.new"), state.join("kept/state"));
    let mut file = tokio::fs::File::create(&new).await.unwrap();
    file.write_all(b"state").await.unwrap();
    file.sync_all().await.unwrap();
    tokio::fs::rename(&new, &kept).await.unwrap();
    tokio::fs::File::open(state.join("kept"))
        .await
        .unwrap()
        .sync_all()
        .await
        .unwrap();
    assert_eq!(tokio::fs::read(&kept).await.unwrap(), b"state");
    let named = tempfile::NamedTempFile::new_in(state).unwrap();
    named.persist(state.join("persisted")).unwrap();
    tokio::fs::remove_file(state.join("persisted")).await.unwrap();
    tokio::fs::remove_dir_all(state.join("kept")).await.unwrap();
    "done"
}

async fn signal() -> &'static str {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    // SAFETY: tgkill(2) to this process, whose handler tokio just set.
    unsafe {
        libc::syscall(
            libc::SYS_tgkill,
            libc::getpid(),
            libc::syscall(libc::SYS_gettid),
            libc::SIGTERM,
        )
    };
    match tokio::time::timeout(Duration::from_secs(5), terminate.recv()).await {
        Ok(Some(())) => "seen",
        _ => "lost",
    }
}
