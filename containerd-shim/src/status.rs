//! Whether the broker can work, as conditions with the time of their last change.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cell_proto::broker::v1::BrokerStatus;
use cell_proto::common::v1::{Condition, ConditionStatus};
use cell_proto::ipc::Caller;
use tokio::sync::Mutex;

use crate::engine::{Engine, EngineError, Version};

/// How long Docker has to say its version for the status.
const PROBE_DEADLINE: Duration = Duration::from_secs(3);
/// How long a probe counts, so that asking often costs Docker nothing.
const PROBE_LIFETIME: Duration = Duration::from_secs(1);

/// Remembers when each condition changed.
#[derive(Default)]
pub(crate) struct StatusBook(Mutex<Book>);

#[derive(Default)]
struct Book {
    probe: Option<(Instant, Result<Version, EngineError>)>,
    since: BTreeMap<&'static str, (ConditionStatus, i64)>,
}

impl StatusBook {
    /// The status now, for `caller`.
    pub(crate) async fn read(&self, engine: &impl Engine, caller: &Caller) -> BrokerStatus {
        let mut book = self.0.lock().await;
        let version = book.probe(engine).await;
        let now = unix_ms(SystemTime::now());
        let conditions = vec![
            book.dated(docker_reachable(&version), now),
            book.dated(unit_checked(caller), now),
        ];
        let (docker_version, api_version) = version.map(|v| (v.docker, v.api)).unwrap_or_default();
        BrokerStatus {
            conditions,
            docker_version,
            api_version,
        }
    }
}

impl Book {
    async fn probe(&mut self, engine: &impl Engine) -> Result<Version, EngineError> {
        if let Some((at, outcome)) = &self.probe
            && at.elapsed() < PROBE_LIFETIME
        {
            return outcome.clone();
        }
        let probed = tokio::time::timeout(PROBE_DEADLINE, engine.version()).await;
        let outcome = probed.unwrap_or(Err(EngineError::Slow));
        self.probe = Some((Instant::now(), outcome.clone()));
        outcome
    }

    fn dated(&mut self, aspect: Aspect, now: i64) -> Condition {
        let since = self.since.entry(aspect.kind).or_insert((aspect.status, now));
        if since.0 != aspect.status {
            *since = (aspect.status, now);
        }
        Condition {
            r#type: aspect.kind.to_owned(),
            status: aspect.status.into(),
            reason: aspect.reason.to_owned(),
            message: aspect.message,
            last_transition_unix_ms: since.1,
        }
    }
}

struct Aspect {
    kind: &'static str,
    status: ConditionStatus,
    reason: &'static str,
    message: String,
}

fn docker_reachable(version: &Result<Version, EngineError>) -> Aspect {
    let (status, reason, message) = match version {
        Ok(_) => (ConditionStatus::True, "ANSWERS", "Docker answers".to_owned()),
        Err(EngineError::Unreachable(why)) => (ConditionStatus::False, why.code(), why.to_string()),
        Err(error @ EngineError::Slow) => (ConditionStatus::Unknown, "SLOW", error.to_string()),
        Err(error) => (ConditionStatus::Unknown, "ANSWER", error.to_string()),
    };
    Aspect {
        kind: "DockerReachable",
        status,
        reason,
        message,
    }
}

fn unit_checked(caller: &Caller) -> Aspect {
    let (status, reason, message) = if caller.unit_checked {
        (
            ConditionStatus::True,
            "UNIT",
            "the caller was found to run in its unit",
        )
    } else {
        (
            ConditionStatus::False,
            "USER_ONLY",
            "the caller is known by its user alone: no unit is set, or none can be told",
        )
    };
    Aspect {
        kind: "CallerUnitChecked",
        status,
        reason,
        message: message.to_owned(),
    }
}

fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
