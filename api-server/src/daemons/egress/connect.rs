//! Connections to containers of services: cell-api has no network, so `cell-egress` makes them.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use cell_proto::egress::v1::{ConnectServiceRequest, ConnectServiceResponse};
use cell_proto::fault;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::EgressClient;

/// How long it may take until the connection is there.
const PATIENCE: Duration = Duration::from_secs(8);
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
        tokio::spawn(asked_of(reading, sender));
        tokio::spawn(answered_to(writing, answers));
        Ok(own)
    }
}

async fn asked_of(mut from: ReadHalf<DuplexStream>, to: mpsc::Sender<ConnectServiceRequest>) {
    let mut piece = zeroize::Zeroizing::new(vec![0; ROOM]);
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        let message = ConnectServiceRequest {
            to: None,
            data: piece[..count].to_vec(),
        };
        if to.send(message).await.is_err() {
            return;
        }
    }
}

async fn answered_to(mut to: WriteHalf<DuplexStream>, mut from: Streaming<ConnectServiceResponse>) {
    while let Ok(Some(message)) = from.message().await {
        if to.write_all(&message.data).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

fn words(status: &Status) -> String {
    match fault::reason(status) {
        Some(reason) => format!("{} ({reason})", status.message()),
        None => "cell-egress, which connects the cell to services, does not answer".to_owned(),
    }
}
