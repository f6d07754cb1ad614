//! What managers ask of services: tests, configuration, how they were, what is wrong.

use std::collections::BTreeMap;

use cell_api_core::derive::corefile::QueryLog;
use cell_api_core::fault::Faults;
use cell_api_core::fields::Fields;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rfc3339;
use super::store::FormField;
use crate::http::input::FromFields;
use crate::service::managers as from;

/// A service's configuration.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceConfig {
    /// What can be set, in the order of names.
    pub form: Vec<FormField>,
    /// What was set; what is not here has its default.
    pub parameters: BTreeMap<String, String>,
}

/// That a configuration can be set.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConfigValid {
    /// Always true: what cannot be set is refused with every fault.
    pub valid: bool,
}

/// What a test of a service gave.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceTest {
    /// In the order in which they were made.
    pub checks: Vec<ServiceCheck>,
}

/// One thing that was asked.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceCheck {
    /// What: `containers`, `port`, `name`, `route`, `names`, `admin` or `time`.
    pub name: String,
    /// Whether it works.
    pub ok: bool,
    /// For people.
    pub detail: String,
    /// How long it took, milliseconds.
    pub ms: u64,
}

/// How a service was.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthHistory {
    /// Transitions, the last first; at most 1,000.
    pub entries: Vec<HealthEntry>,
}

/// From when on a service was so.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthEntry {
    /// RFC 3339.
    pub at: String,
    /// `installing`, `removing`, `failed`, `stopped`, `unknown`, `down`, `unhealthy`, `starting` or `healthy`.
    pub state: String,
    /// For people.
    pub detail: String,
}

/// What is wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct Alerts {
    /// The oldest first. One that is over is not here any more.
    pub alerts: Vec<Alert>,
}

/// Something that is wrong with a service.
#[derive(Debug, Serialize, ToSchema)]
pub struct Alert {
    /// Its number.
    pub id: String,
    /// The service.
    pub service: String,
    /// RFC 3339.
    pub since: String,
    /// `critical` or `warning`.
    pub severity: String,
    /// For people.
    pub text: String,
    /// Whether somebody has seen it.
    pub acknowledged: bool,
}

/// What the cell's CoreDNS logs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryLogLevel {
    /// `off`; `errors`, failures alone; or `questions`: every one as well, so that the log has what each device looks up.
    pub level: String,
}

impl From<from::ConfigView> for ServiceConfig {
    fn from(view: from::ConfigView) -> Self {
        ServiceConfig {
            form: view.form.into_iter().map(Into::into).collect(),
            parameters: view.parameters,
        }
    }
}

impl From<Vec<from::Check>> for ServiceTest {
    fn from(checks: Vec<from::Check>) -> Self {
        let checks = checks.into_iter().map(|check| ServiceCheck {
            name: check.name,
            ok: check.ok,
            detail: check.detail,
            ms: check.ms,
        });
        ServiceTest {
            checks: checks.collect(),
        }
    }
}

impl From<Vec<from::HealthEntry>> for HealthHistory {
    fn from(entries: Vec<from::HealthEntry>) -> Self {
        let entries = entries.into_iter().map(|entry| HealthEntry {
            at: rfc3339(entry.at),
            state: entry.state,
            detail: entry.detail,
        });
        HealthHistory {
            entries: entries.collect(),
        }
    }
}

impl From<Vec<from::StoredAlert>> for Alerts {
    fn from(alerts: Vec<from::StoredAlert>) -> Self {
        let alerts = alerts.into_iter().map(|alert| Alert {
            id: alert.id.to_string(),
            service: alert.service,
            since: rfc3339(alert.since),
            severity: alert.severity,
            text: alert.text,
            acknowledged: alert.acknowledged,
        });
        Alerts {
            alerts: alerts.collect(),
        }
    }
}

impl From<QueryLog> for QueryLogLevel {
    fn from(level: QueryLog) -> Self {
        QueryLogLevel {
            level: level.as_str().to_owned(),
        }
    }
}

impl FromFields for QueryLogLevel {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        QueryLogLevel {
            level: fields.string("level", faults),
        }
    }

    fn check(self) -> Faults {
        let mut faults = Faults::default();
        faults.keep("level", QueryLog::parse(&self.level));
        faults
    }
}
