//! cell-api is connected to containers of services, and to nothing else.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cell_egress::catalog::CatalogCeiling;
use cell_egress::config::Config;
use cell_egress::connect::Connector;
use cell_egress::engine::Engine;
use cell_egress::service;
use cell_egress::vault::{Cached, Vault};
use cell_proto::egress::v1::ConnectServiceRequest;
use cell_proto::egress::v1::egress_service_client::EgressServiceClient;
use cell_proto::fault;
use cell_proto::ipc::{self, CallerPolicy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tonic::Status;
use tonic::transport::Channel;

type Client = EgressServiceClient<Channel>;

/// A relay that may connect to networks of loopback, where a container echoes.
async fn lab(folder: &std::path::Path) -> (Client, SocketAddr) {
    let text = include_str!("../../systemd/etc/egress.toml");
    let config = Config::parse(text, |_| Some(nix::unistd::getuid().as_raw())).unwrap();
    let vault = Cached::new(Vault::new(folder.join("vault.sock")));
    let engine = Arc::new(Engine::new(config.rules, Box::new(vault)));
    let connector = Connector::new(vec!["127.3.0.0/16".parse().unwrap()], Vec::new());
    let catalogs = CatalogCeiling {
        ports: config.catalog_ports,
        reach: engine.rules().reach.clone(),
        services: config.services,
        listen: engine.rules().listen.clone(),
    };
    let routes = service::routes(engine, None, connector, catalogs);
    let path = folder.join("egress.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let callers = CallerPolicy {
        uids: vec![nix::unistd::getuid().as_raw()],
        unit: None,
    };
    tokio::spawn(ipc::serve(listener, callers, routes, std::future::pending()));
    let container = TcpListener::bind("127.3.0.2:0").await.unwrap();
    let at = container.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = container.accept().await {
            tokio::spawn(async move {
                let mut piece = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut piece).await {
                    if stream.write_all(&piece[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (EgressServiceClient::new(ipc::connect(&path)), at)
}

fn to(at: SocketAddr) -> ConnectServiceRequest {
    ConnectServiceRequest {
        to: Some(at.into()),
        data: Vec::new(),
    }
}

fn bytes(data: &[u8]) -> ConnectServiceRequest {
    ConnectServiceRequest {
        to: None,
        data: data.to_vec(),
    }
}

/// All that is answered to these messages.
async fn said(client: &mut Client, messages: Vec<ConnectServiceRequest>) -> Result<Vec<u8>, Status> {
    let mut answer = client
        .connect_service(tokio_stream::iter(messages))
        .await?
        .into_inner();
    let mut all = Vec::new();
    while let Some(message) = answer.message().await? {
        all.extend(message.data);
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_and_what_is_no_container_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut client, at) = lab(folder.path()).await;
    let echoed = said(&mut client, vec![to(at), bytes(b"hello "), bytes(b"there")]).await;
    assert_eq!(echoed.unwrap(), b"hello there");

    let port = at.port();
    for elsewhere in [
        "127.0.0.1",
        "127.3.0.0",
        "127.3.0.1",
        "127.3.0.15",
        "127.3.0.17",
        "127.4.0.2",
        "10.0.0.2",
    ] {
        let elsewhere = SocketAddr::new(elsewhere.parse().unwrap(), port);
        let refused = said(&mut client, vec![to(elsewhere)]).await.unwrap_err();
        assert_eq!(
            fault::reason(&refused).as_deref(),
            Some("NOT_A_SERVICE"),
            "{elsewhere}"
        );
    }
    for bad in [
        vec![],
        vec![bytes(b"x")],
        vec![to("[::1]:80".parse().unwrap())],
        vec![to("127.3.0.2:0".parse().unwrap())],
    ] {
        let refused = said(&mut client, bad).await.unwrap_err();
        assert_eq!(fault::reason(&refused).as_deref(), Some("INVALID_REQUEST"));
    }
    // Where nobody listens.
    let free = TcpListener::bind("127.3.0.3:0").await.unwrap();
    let nobody = free.local_addr().unwrap();
    drop(free);
    let refused = said(&mut client, vec![to(nobody)]).await.unwrap_err();
    assert_eq!(fault::reason(&refused).as_deref(), Some("NO_ANSWER"));
    assert!(
        !format!("{:?}", bytes(b"secret")).contains("115"),
        "no log has what is carried"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_at_a_time_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (mut client, at) = lab(folder.path()).await;
    let mut held = Vec::new();
    for _ in 0..16 {
        let (sender, messages) = tokio::sync::mpsc::channel(2);
        sender.send(to(at)).await.unwrap();
        let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
        let mut answer = client.connect_service(messages).await.unwrap().into_inner();
        assert!(
            answer.message().await.unwrap().unwrap().data.is_empty(),
            "it is there"
        );
        held.push((sender, answer));
    }
    let refused = said(&mut client, vec![to(at)]).await.unwrap_err();
    assert_eq!(fault::reason(&refused).as_deref(), Some("BUSY"));
    drop(held);
    for _ in 0..100 {
        match said(&mut client, vec![to(at), bytes(b"x")]).await {
            Ok(echoed) => return assert_eq!(echoed, b"x"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("places are never free again");
}
