//! Connections to containers of services and to catalogs: cell-api has no network, so `cell-egress` makes them.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use cell_api_core::connection::id::ConnectionId;
use cell_proto::egress::v1::{
    ConnectCatalogRequest, ConnectCatalogResponse, ConnectServiceRequest, ConnectServiceResponse,
};
use cell_proto::fault;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::EgressClient;

/// How long it may take until the connection is there.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long it may take until the connection to a catalog is there, through whatever exit.
const CATALOG_PATIENCE: Duration = Duration::from_secs(70);
/// Bytes that wait between here and there.
const ROOM: usize = 32 * 1024;

impl EgressClient {
    /// A connection to a container's port.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn connect(&self, at: SocketAddrV4) -> Result<DuplexStream, String> {
        let (sender, messages) = mpsc::channel(4);
        let first = ConnectServiceRequest {
            to: Some(SocketAddr::V4(at).into()),
            data: Vec::new(),
        };
        // There is room for it.
        let _ = sender.send(first).await;
        let mut client = self.0.clone();
        let asked = client.connect_service(ReceiverStream::new(messages));
        let answer = tokio::time::timeout(PATIENCE, asked)
            .await
            .map_err(|_| "cell-egress does not connect in time".to_owned())?;
        let answers = answer.map_err(|status| words(&status))?.into_inner();
        let (own, far) = tokio::io::duplex(ROOM);
        let (reading, writing) = tokio::io::split(far);
        // Either ends with the connection, whoever ends it.
        let message = |data| ConnectServiceRequest { to: None, data };
        tokio::spawn(asked_of(reading, sender, message));
        tokio::spawn(answered_to(
            writing,
            answers,
            |message: ConnectServiceResponse| message.data,
        ));
        Ok(own)
    }

    /// A connection to a catalog's server, through an exit or by the cell's own way.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn connect_catalog(
        &self,
        at: SocketAddr,
        by: Option<ConnectionId>,
    ) -> Result<DuplexStream, String> {
        let (sender, messages) = mpsc::channel(4);
        let first = ConnectCatalogRequest {
            to: Some(at.into()),
            exit_id: by.map(|id| id.to_string()).unwrap_or_default(),
            data: Vec::new(),
        };
        // There is room for it.
        let _ = sender.send(first).await;
        let mut client = self.0.clone();
        let asked = client.connect_catalog(ReceiverStream::new(messages));
        let answer = tokio::time::timeout(CATALOG_PATIENCE, asked)
            .await
            .map_err(|_| "cell-egress does not connect in time".to_owned())?;
        let answers = answer.map_err(|status| words(&status))?.into_inner();
        let (own, far) = tokio::io::duplex(ROOM);
        let (reading, writing) = tokio::io::split(far);
        let message = |data| ConnectCatalogRequest {
            to: None,
            exit_id: String::new(),
            data,
        };
        tokio::spawn(asked_of(reading, sender, message));
        tokio::spawn(answered_to(
            writing,
            answers,
            |message: ConnectCatalogResponse| message.data,
        ));
        Ok(own)
    }
}

async fn asked_of<T>(
    mut from: ReadHalf<DuplexStream>,
    to: mpsc::Sender<T>,
    message: impl Fn(Vec<u8>) -> T + Send,
) {
    let mut piece = zeroize::Zeroizing::new(vec![0; ROOM]);
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        if to.send(message(piece[..count].to_vec())).await.is_err() {
            return;
        }
    }
}

async fn answered_to<T>(
    mut to: WriteHalf<DuplexStream>,
    mut from: Streaming<T>,
    data: impl Fn(T) -> Vec<u8> + Send,
) {
    while let Ok(Some(message)) = from.message().await {
        if to.write_all(&data(message)).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

fn words(status: &Status) -> String {
    match fault::reason(status) {
        Some(reason) => format!("{} ({reason})", status.message()),
        None => "cell-egress, which connects the cell to services and catalogs, does not answer".to_owned(),
    }
}
