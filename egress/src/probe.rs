//! Looks whether Tor's port speaks SOCKS, apart from anything that goes through it: so that a Tor that is not there is told from one
//! that does not get through, and both soon and without a peer's connection.

use std::time::Duration;

use cell_egress_core::exit::{Exit, Kind, Server};
use cell_egress_core::policy::Timeouts;
use cell_egress_core::socks5::{GREETING, judge_greeted};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use crate::counters::Counters;
use crate::dial::connect;
use crate::dns::canary::{EVERY, EVERY_AT_FIRST, about};
use crate::failure::Failure;

/// Probes under way at the same time: one of each exit. Each holds one descriptor.
pub const PROBES_MAX: usize = 100;
/// How long the answer to a greeting may take. Tor gives it at once, whatever state it is in.
const ANSWER: Duration = Duration::from_secs(5);

/// Probes the server of an exit again and again, until it is dropped; of other types than Tor never.
pub async fn probe(exit: &Exit, timeouts: &Timeouts, counters: &Counters) {
    let Kind::Tor(server) = &exit.kind else {
        return std::future::pending().await;
    };
    loop {
        let outcome = once(*server, timeouts).await;
        match &outcome {
            Err(failure) if failure.is_local() => {
                tracing::warn!(id = %exit.id, %failure, "the exit's server could not be looked at, which says nothing of it");
            }
            Err(failure) => {
                tracing::debug!(id = %exit.id, reason = failure.reason(), %failure, "its server does not speak SOCKS");
                counters.probed(Some(failure));
            }
            Ok(()) => counters.probed(None),
        }
        sleep(about(if outcome.is_ok() { EVERY } else { EVERY_AT_FIRST })).await;
    }
}

/// Greets it, and hangs up.
async fn once(server: Server, timeouts: &Timeouts) -> Result<(), Failure> {
    let mut stream = connect(server, timeouts).await?;
    let talk = async {
        let mut answer = [0; 2];
        stream.write_all(&GREETING).await?;
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    let answer = timeout(ANSWER, talk)
        .await
        .map_err(|_| Failure::HandshakeTimeout)?;
    Ok(judge_greeted(answer.map_err(Failure::talking)?)?)
}
