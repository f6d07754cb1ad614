//! Hears of the broker what containers do: browsers are told within a second, what the broker has otherwise is looked at then, and whoever
//! judges how services are (`crate::health`) goes by it. Where it cannot be watched it is asked every now and then, as before.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::daemons::deployments::BrokerFault;
use crate::daemons::watch;
use crate::events::Topic;

const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

/// Runs until `shutdown`.
pub async fn run(app: Arc<App>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = keep_watching(&app) => {}
    }
}

async fn keep_watching(app: &App) {
    app.set_up().await;
    let mut backoff = FIRST_BACKOFF;
    loop {
        let mut told = 0_u64;
        let ended = session(app, &mut told).await;
        if told > 0 {
            backoff = FIRST_BACKOFF;
            tracing::info!(reason = ended.code(), "the broker is lost");
            app.services.broker_lost();
            app.events.publish([Topic::Services, Topic::Status]);
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

/// One connection, until it is lost.
async fn session(app: &App, told: &mut u64) -> BrokerFault {
    let ended = || BrokerFault::Later {
        code: "UNREACHABLE".to_owned(),
        message: "it ended".to_owned(),
    };
    let mut all = match app.streams.deployments().await {
        Ok(all) => all,
        Err(fault) => return fault,
    };
    loop {
        match all.message().await {
            // All of it each time: what differs is compared with what is stored, not with what was told before.
            Ok(Some(message)) => {
                *told += 1;
                app.services.broker_told(watch::seen(message));
                app.events.publish([Topic::Services]);
            }
            Ok(None) => return ended(),
            Err(status) => return status.into(),
        }
    }
}
