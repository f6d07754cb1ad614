//! gRPC over a Unix socket behind the caller check, against a bare tonic server with the same answer.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use cell_proto::ipc::{CallerPolicy, connect, serve};
use cell_proto::vault::v1::vault_status_service_client::VaultStatusServiceClient;
use cell_proto::vault::v1::vault_status_service_server::{VaultStatusService, VaultStatusServiceServer};
use cell_proto::vault::v1::{
    GetVaultStatusRequest, GetVaultStatusResponse, GetWireguardPublicKeyRequest,
    GetWireguardPublicKeyResponse,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

use cell_lab::measure::{Bench, Goal};

/// Short and many: what else the machine does disturbs some, and the best are compared.
const ROUND: Duration = Duration::from_millis(300);
const AT_ONCE: usize = 8;

/// Answers at once; what is measured is the way there and back.
struct Echo;

#[tonic::async_trait]
impl VaultStatusService for Echo {
    async fn get_vault_status(
        &self,
        _: Request<GetVaultStatusRequest>,
    ) -> Result<Response<GetVaultStatusResponse>, Status> {
        Ok(Response::new(GetVaultStatusResponse::default()))
    }

    async fn get_wireguard_public_key(
        &self,
        _: Request<GetWireguardPublicKeyRequest>,
    ) -> Result<Response<GetWireguardPublicKeyResponse>, Status> {
        Ok(Response::new(GetWireguardPublicKeyResponse {
            public_key: vec![7; 32],
        }))
    }
}

/// Adds the row.
pub async fn run(bench: &mut Bench, dir: &Path, rounds: usize) -> Result<()> {
    let (checked, bare) = (dir.join("checked.sock"), dir.join("bare.sock"));
    let policy = CallerPolicy {
        uids: vec![0],
        unit: None,
    };
    let listener = UnixListener::bind(&checked)?;
    tokio::spawn(serve(
        listener,
        policy,
        Routes::new(VaultStatusServiceServer::new(Echo)),
        std::future::pending(),
    ));
    let incoming = UnixListenerStream::new(UnixListener::bind(&bare)?);
    tokio::spawn(
        Server::builder()
            .add_service(VaultStatusServiceServer::new(Echo))
            .serve_with_incoming(incoming),
    );

    let (checked, bare) = (connect(checked), connect(bare));
    let mut best = (0.0_f64, 0.0_f64);
    for _ in 0..rounds * 3 {
        best.0 = best.0.max(calls_per_second(&checked).await?);
        best.1 = best.1.max(calls_per_second(&bare).await?);
    }
    bench.number("gRPC over UDS with caller check", best.0, "calls/s");
    bench.number("bare tonic over UDS", best.1, "calls/s");
    bench.judge(
        "caller check / bare tonic",
        best.0 / best.1,
        "ratio",
        Goal::AtLeast(0.9),
    );
    Ok(())
}

async fn calls_per_second(channel: &Channel) -> Result<f64> {
    let end = Instant::now() + ROUND;
    let start = Instant::now();
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let mut client = VaultStatusServiceClient::new(channel.clone());
            tokio::spawn(async move {
                let mut calls = 0_u32;
                while Instant::now() < end {
                    client
                        .get_wireguard_public_key(GetWireguardPublicKeyRequest {})
                        .await?;
                    calls += 1;
                }
                Ok::<_, Status>(calls)
            })
        })
        .collect();
    let mut calls = 0;
    for task in tasks {
        calls += task.await??;
    }
    Ok(f64::from(calls) / start.elapsed().as_secs_f64())
}
