//! Backups of what services keep.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use tokio_util::sync::CancellationToken;

use super::store::Query;
use crate::app::App;
use crate::http::dto::problem::Problems;
use crate::http::extract::{Segment, Who};
use crate::http::problem::Refusal;
use crate::service::auth;
use crate::service::store::{self, BackupStream};

/// How often it is looked whether whoever reads is still signed in.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// What a service's manifest wants in a backup: a tar, encrypted by the broker for the keys that root has put into its policy file
/// (age-encryption.org/v1). If it cannot be whole, the connection breaks off in the middle: what came until then cannot be opened.
#[utoipa::path(get, path = "/api/services/{service}/backup", tag = "store", operation_id = "get_service_backup",
    params(("service" = String, Path),
        ("validate_only" = Option<bool>, Query, description = "only says whether there could be one: 204")),
    responses((status = 200, content_type = "application/octet-stream", body = [u8]), (status = 204), Problems))]
pub async fn get(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(service): Segment,
    query: Query,
) -> Result<Response, Refusal> {
    if query.only_flag("validate_only")? {
        store::could_back_up(&app, &service).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let backup = store::backup(&app, &who.actor(), &service).await?;
    // A service's name and a day: nothing in it has to be quoted.
    let disposition = format!("attachment; filename=\"{}\"", backup.file_name);
    let state = Reader {
        ended: app.events.ended(),
        app,
        who,
        service,
        backup,
    };
    let pieces = stream::try_unfold(state, |mut state| async move {
        let piece = state.next().await?;
        Ok::<_, io::Error>(piece.map(|piece| (piece, state)))
    });
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_DISPOSITION, disposition),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

struct Reader {
    app: Arc<App>,
    who: Who,
    service: String,
    backup: BackupStream,
    ended: CancellationToken,
}

impl Reader {
    /// The next piece; `None`: it is whole.
    ///
    /// # Errors
    /// It will not be whole; the error breaks off the connection, so that nobody takes it for the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let broken = |service: &str, why: &str| {
            tracing::warn!(service, why, "a backup is not whole");
            io::Error::other("the backup is not whole")
        };
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = self.ended.cancelled() => return Err(broken(&self.service, "the process ends")),
                piece = self.backup.next() => return match piece {
                    None => Ok(None),
                    Some(Ok(piece)) => Ok(Some(piece.into())),
                    Some(Err(fault)) => Err(broken(&self.service, &fault.to_string())),
                },
                _ = look.tick() => if !auth::still_open(&self.app, &self.who.session) {
                    return Err(broken(&self.service, "the session ended"));
                }
            }
        }
    }
}
