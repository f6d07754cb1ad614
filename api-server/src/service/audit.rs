//! The audit chain: read it, check it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cell_api_core::audit::{Record, Verdict, Verifier};

use super::ServiceError;
use crate::app::App;
use crate::store::audit as table;

/// Records read at once while checking, so that a long chain is never in memory.
const PAGE: u32 = 1_000;

/// At most `limit` records from `from` on, or back, and where the next page starts. Costs what it answers, however long
/// the chain is.
///
/// # Errors
/// [`ServiceError::Storage`].
pub async fn page(
    app: &Arc<App>,
    from: Option<u64>,
    newest_first: bool,
    limit: u32,
) -> Result<(Vec<Record>, Option<u64>), ServiceError> {
    let mut records = app
        .store
        .read_much(move |connection| {
            Ok(if newest_first {
                table::page_back(connection, from.unwrap_or(i64::MAX as u64), limit + 1)?
            } else {
                table::page(connection, from.unwrap_or(1), limit + 1)?
            })
        })
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
