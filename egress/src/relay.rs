//! Carries bytes both ways until both sides are done, one breaks, or nothing moves any more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::carry::{Kept, carry};
use crate::client::Client;
use crate::dial::Opened;

/// How a relay ended that carried not all.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// Nothing moved for the time that a connection may be idle.
    #[error("nothing moved for too long")]
    Idle,
    /// One side broke.
    #[error("a side broke: {0}")]
    Broken(#[from] io::Error),
}

/// Relays until the end. Each direction is read from only when what came before is written, so the slower side sets the pace; the
/// end of one direction is passed on, and the other goes on (half-close).
///
/// # Errors
/// [`Cut`]: both sides are reset, as they are when this is dropped half-way.
pub async fn relay(mut client: Client, opened: Opened, idle: Duration, kept: &Arc<Kept>) -> Result<(), Cut> {
    let Opened { mut stream, early } = opened;
    let moved = client.moved();
    let outcome = tokio::select! {
        carried = carry(&mut client, &mut stream, early, kept) => carried.map_err(Cut::from),
        () = idle_for(&moved, idle) => Err(Cut::Idle),
    };
    if outcome.is_ok() {
        client.carried();
        stream.carried();
    }
    outcome
}

/// Ends when `moved` has stood still for `idle`; looks once in that time, so it ends after at most twice of it.
async fn idle_for(moved: &AtomicU64, idle: Duration) {
    let mut seen = moved.load(Ordering::Relaxed);
    loop {
        sleep(idle).await;
        let now = moved.load(Ordering::Relaxed);
        if now == seen {
            return;
        }
        seen = now;
    }
}
