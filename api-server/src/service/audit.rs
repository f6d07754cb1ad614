//! The audit chain: read it, check it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cell_api_core::audit::{Record, Verdict, Verifier};

use super::ServiceError;
use crate::app::App;
use crate::store::audit as table;

/// Records read at once while checking, so that a long chain is never in memory.
const PAGE: u32 = 1_000;

/// At most `limit` records from `from` on, and where the next page starts.
///
/// # Errors
/// [`ServiceError::Storage`].
pub async fn page(app: &Arc<App>, from: u64, limit: u32) -> Result<(Vec<Record>, Option<u64>), ServiceError> {
    let mut records = app
        .store
        .read_much(move |connection| Ok(table::page(connection, from, limit + 1)?))
        .await?;
    let next = records.get(limit as usize).map(|record| record.sequence);
    records.truncate(limit as usize);
    Ok((records, next))
}

/// At most `limit` records from `from` back (`None`: from the newest), newest first, and where the next page starts. As cheap
/// at the end of a long chain as of a short one: nothing is checked.
///
/// # Errors
/// [`ServiceError::Storage`].
pub async fn tail(
    app: &Arc<App>,
    from: Option<u64>,
    limit: u32,
) -> Result<(Vec<Record>, Option<u64>), ServiceError> {
    let mut records = app
        .store
        .read_much(move |connection| Ok(table::page_back(connection, from, limit + 1)?))
        .await?;
    let next = records.get(limit as usize).map(|record| record.sequence);
    records.truncate(limit as usize);
    Ok((records, next))
}

/// Checks the chain and its anchors in vaultd. Without vaultd there is no verdict: a chain that was rewritten as a
/// whole would pass.
///
/// # Errors
/// [`ServiceError::Unreachable`], [`ServiceError::Storage`].
pub async fn verify(app: &Arc<App>) -> Result<Verdict, ServiceError> {
    // Anchors first: every anchored record is in a snapshot taken later.
    let anchors: BTreeMap<u64, [u8; 32]> = app.vault.anchors().await?;
    app.store
        .read_much(move |connection| {
            let mut verifier = Verifier::new(anchors);
            let mut from = 1;
            loop {
                let records = table::page(connection, from, PAGE)?;
                let Some(last) = records.last() else {
                    return Ok(verifier.finish());
                };
                from = last.sequence.saturating_add(1);
                records.iter().for_each(|record| verifier.push(record));
            }
        })
        .await
}
