//! A backup of what a service keeps: the broker makes and encrypts it, for recipients that root names. Here it is written down who
//! took one, and passed on. No byte of it means anything to this process.

use std::sync::Arc;
use std::time::Duration;

use cell_proto::broker::v1::ReadBackupResponse;
use tonic::Streaming;

use super::{refused, running};
use crate::app::App;
use crate::daemons::deployments::BrokerFault;
use crate::service::{Actor, ServiceError};
use crate::store::services as table;
use crate::store::transaction::Origin;

/// How long the broker may say nothing in the middle.
const SILENCE: Duration = Duration::from_secs(120);

/// A backup as it comes. It is whole when it ends without a fault; the broker stops when this is dropped.
#[derive(Debug)]
pub struct BackupStream {
    pieces: Streaming<ReadBackupResponse>,
    /// What to call it: the service, the day, and what it is.
    pub file_name: String,
}

impl BackupStream {
    /// The next piece, or why it will not be whole; `None`: it is.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, BrokerFault>> {
        match tokio::time::timeout(SILENCE, self.pieces.message()).await {
            Ok(Ok(piece)) => Some(Ok(piece?.chunk)),
            Ok(Err(status)) => Some(Err(status.into())),
            Err(_) => Some(Err(BrokerFault::Later {
                code: "UNREACHABLE".to_owned(),
                message: "the broker said nothing for two minutes".to_owned(),
            })),
        }
    }
}

/// Whether there could be a backup of a service: somebody whom it is for, and something that it holds.
///
/// # Errors
/// As [`backup`].
pub async fn could_back_up(app: &App, name: &str) -> Result<(), ServiceError> {
    let service = app.store.read(|connection| table::get(connection, name))?;
    running(&service)?;
    let mut none = app.streams.backup(name, true).await.map_err(refused)?;
    let ended = none.message().await.map_err(BrokerFault::from);
    ended.map(drop).map_err(refused)
}

/// Begins a backup of a service.
///
/// # Errors
/// [`ServiceError::NoService`], [`ServiceError::ServiceNotNow`], [`ServiceError::Unreachable`], [`ServiceError::BrokerRefuses`],
/// [`ServiceError::Storage`]. Nobody is given a byte before it is written down that he took it.
pub async fn backup(app: &Arc<App>, actor: &Actor, name: &str) -> Result<BackupStream, ServiceError> {
    let service = app.store.read(|connection| table::get(connection, name))?;
    running(&service)?;
    let pieces = app.streams.backup(name, false).await.map_err(refused)?;
    let sought = name.to_owned();
    app.store
        .mutate(Origin::new(actor, app.now()), move |tx| {
            tx.audit("service.backup", &sought, "begun");
            Ok(())
        })
        .await?;
    let day = jiff::Timestamp::from_millisecond(app.now()).unwrap_or_default();
    Ok(BackupStream {
        pieces,
        file_name: format!("{name}-{}.tar.age", day.strftime("%Y-%m-%d")),
    })
}
