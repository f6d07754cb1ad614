//! What the first version kept of exits.

use std::sync::Arc;

use cell_proto::api::v1::{ImportFirstVersionRequest, ImportFirstVersionResponse, ImportedExit};
use zeroize::Zeroizing;

use crate::app::App;
use crate::service::connections::{self, Carried, FirstVersion, Outcome};
use crate::service::{Actor, ServiceError};
use crate::store::waiting::Wait;

pub(super) async fn import(
    app: &Arc<App>,
    actor: &Actor,
    request: ImportFirstVersionRequest,
    wait: Option<Wait>,
) -> Result<ImportFirstVersionResponse, ServiceError> {
    let ImportFirstVersionRequest {
        config,
        peers,
        secrets,
        validate_only,
        confirm_within_seconds: _,
    } = request;
    let given = |text: String| Some(Zeroizing::new(text)).filter(|text| !text.is_empty());
    let files = FirstVersion {
        config: Zeroizing::new(config),
        peers: given(peers),
        secrets: given(secrets),
    };
    let outcome = if validate_only {
        connections::plan_first_version(app, actor, files).await?
    } else {
        connections::carry(app, actor, files, wait).await?
    };
    let Outcome {
        exits,
        peers,
        waits,
        words,
        notes,
    } = outcome;
    Ok(ImportFirstVersionResponse {
        waits,
        exits: exits.into_iter().map(exit).collect(),
        peers,
        plan: words,
        notes,
    })
}

fn exit(carried: Carried) -> ImportedExit {
    ImportedExit {
        r#type: carried.kind.to_string(),
        name: carried.name,
        id: carried.id.map(|id| id.to_string()).unwrap_or_default(),
        was_there: carried.was_there,
        vault_names: carried.secrets,
    }
}
