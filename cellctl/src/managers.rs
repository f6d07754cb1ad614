//! What managers ask of services: whether they work, how they were, what is wrong, their configuration and their logs as they grow.

use cell_proto::api::v1 as wire;
use cell_proto::api::v1::manager_service_client::ManagerServiceClient;
use serde::Serialize;
use tonic::transport::Channel;

use crate::cell::Cell;
use crate::cli::{Alerts, LogsOf, QueryLog};
use crate::failure::Failure;
use crate::human;
use crate::output::Output;
use crate::peers::now_ms;

type Client = ManagerServiceClient<Channel>;

#[derive(Debug, Serialize)]
struct Test {
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    ok: bool,
    detail: String,
    ms: u64,
}

#[derive(Debug, Serialize)]
struct History {
    entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    at_unix_ms: i64,
    state: String,
    detail: String,
}

#[derive(Debug, Serialize)]
struct AllAlerts {
    alerts: Vec<Alert>,
}

#[derive(Debug, Serialize)]
struct Alert {
    id: String,
    service: String,
    since_unix_ms: i64,
    severity: String,
    text: String,
    acknowledged: bool,
}

#[derive(Debug, Serialize)]
struct Config {
    form: Vec<Field>,
}

#[derive(Debug, Serialize)]
struct Field {
    name: String,
    label: String,
    help: String,
    value: Option<String>,
    is_default: bool,
}

#[derive(Debug, Serialize)]
struct Valid {
    valid: bool,
}

#[derive(Debug, Serialize)]
struct Level {
    level: String,
}

#[derive(Debug, Serialize)]
struct Lines {
    lines: Vec<String>,
    skipped: bool,
}

/// Tests a service. One that does not work is a failure of the command, too.
pub(crate) async fn test(cell: &Cell, output: Output, service: String) -> Result<(), Failure> {
    let mut client: Client = cell.managers()?;
    let request = wire::TestServiceRequest {
        service: service.clone(),
    };
    let told = client.test_service(request).await?.into_inner();
    let checks = told.checks.into_iter().map(|one| Check {
        name: one.name,
        ok: one.ok,
        detail: one.detail,
        ms: one.ms,
    });
    let test = Test {
        checks: checks.collect(),
    };
    output.result(&test, || {
        let row = |one: &Check| {
            let ok = if one.ok { "works" } else { "FAILS" };
            vec![
                one.name.clone(),
                ok.to_owned(),
                format!("{} ms", one.ms),
                one.detail.clone(),
            ]
        };
        human::table(&["CHECK", "", "TOOK", "DETAIL"], test.checks.iter().map(row))
    })?;
    match test.checks.iter().filter(|one| !one.ok).count() {
        0 => Ok(()),
        failed => {
            let all = test.checks.len();
            Err(Failure::Local(format!(
                "{failed} of {all} checks of {service} fail"
            )))
        }
    }
}

/// How a service was.
pub(crate) async fn health(cell: &Cell, output: Output, service: String) -> Result<(), Failure> {
    let mut client: Client = cell.managers()?;
    let request = wire::GetServiceHealthHistoryRequest { service };
    let told = client.get_service_health_history(request).await?.into_inner();
    let entries = told.entries.into_iter().map(|one| Entry {
        at_unix_ms: one.at_unix_ms,
        state: one.state,
        detail: one.detail,
    });
    let history = History {
        entries: entries.collect(),
    };
    output.result(&history, || {
        let now = now_ms();
        let row = |one: &Entry| {
            vec![
                human::ago(one.at_unix_ms, now),
                one.state.clone(),
                one.detail.clone(),
            ]
        };
        match history.entries.is_empty() {
            true => "Nothing has been seen of it yet.".to_owned(),
            false => human::table(&["SINCE", "STATE", "DETAIL"], history.entries.iter().map(row)),
        }
    })
}

/// What is wrong, or that somebody has seen it.
pub(crate) async fn alerts(cell: &Cell, output: Output, command: Option<Alerts>) -> Result<(), Failure> {
    let mut client: Client = cell.managers()?;
    if let Some(Alerts::Acknowledge { id }) = command {
        client
            .acknowledge_alert(wire::AcknowledgeAlertRequest { id })
            .await?;
    }
    let told = client.list_alerts(wire::ListAlertsRequest {}).await?.into_inner();
    let alerts = told.alerts.into_iter().map(|one| Alert {
        id: one.id,
        service: one.service,
        since_unix_ms: one.since_unix_ms,
        severity: one.severity,
        text: one.text,
        acknowledged: one.acknowledged,
    });
    let all = AllAlerts {
        alerts: alerts.collect(),
    };
    output.result(&all, || {
        if all.alerts.is_empty() {
            return "Nothing is wrong.".to_owned();
        }
        let now = now_ms();
        let row = |one: &Alert| {
            let seen = if one.acknowledged { "seen" } else { "" };
            vec![
                one.id.clone(),
                one.severity.clone(),
                human::ago(one.since_unix_ms, now),
                seen.to_owned(),
                one.text.clone(),
            ]
        };
        human::table(
            &["ID", "SEVERITY", "SINCE", "", "WHAT"],
            all.alerts.iter().map(row),
        )
    })
}

/// A service's configuration: each field with its value.
pub(crate) async fn config(cell: &Cell, output: Output, service: String) -> Result<(), Failure> {
    let mut client: Client = cell.managers()?;
    let request = wire::GetServiceConfigRequest { service };
    let wire::GetServiceConfigResponse { form, parameters } =
        client.get_service_config(request).await?.into_inner();
    let form = form.into_iter().map(|field| {
        let set = parameters.iter().find(|one| one.name == field.name);
        Field {
            is_default: set.is_none(),
            value: set.map(|one| one.text.clone()).or(field.default),
            name: field.name,
            label: field.label,
            help: field.help,
        }
    });
    let config = Config { form: form.collect() };
    output.result(&config, || {
        if config.form.is_empty() {
            return "Nothing of it can be set.".to_owned();
        }
        let row = |field: &Field| {
            let value = field.value.clone().unwrap_or_default();
            let of = if field.is_default { "default" } else { "set" };
            vec![field.name.clone(), value, of.to_owned(), field.help.clone()]
        };
        human::table(&["FIELD", "VALUE", "", "TAKES"], config.form.iter().map(row))
    })
}

/// Whether a configuration could be set.
pub(crate) async fn check(
    cell: &Cell,
    output: Output,
    service: String,
    parameters: Vec<wire::ServiceParameter>,
) -> Result<(), Failure> {
    let mut client: Client = cell.managers()?;
    let request = wire::ValidateServiceConfigRequest { service, parameters };
    client.validate_service_config(request).await?;
    output.result(&Valid { valid: true }, || "It can be set so.".to_owned())
}

/// A container's log as it grows, until it ends or somebody ends this.
pub(crate) async fn follow(cell: &Cell, output: Output, wanted: LogsOf) -> Result<(), Failure> {
    let mut client: Client = cell.managers()?;
    let request = wire::FollowServiceLogsRequest {
        service: wanted.service,
        container: wanted.container.unwrap_or_default(),
        lines: wanted.lines,
    };
    let mut parts = client.follow_service_logs(request).await?.into_inner();
    while let Some(part) = parts.message().await? {
        let wire::FollowServiceLogsResponse { lines, skipped } = part;
        if skipped {
            output.note("... lines were left out: more came than can be told ...");
        }
        let part = Lines { lines, skipped };
        output.one_of_many(&part, || part.lines.join("\n"))?;
    }
    Ok(())
}

/// What CoreDNS logs, or what it is to log.
pub(crate) async fn query_log(cell: &Cell, output: Output, level: Option<QueryLog>) -> Result<(), Failure> {
    let mut client: Client = cell.managers()?;
    let level = match level {
        None => {
            let told = client.get_query_log(wire::GetQueryLogRequest {}).await?;
            told.into_inner().level
        }
        Some(level) => {
            let request = wire::SetQueryLogRequest {
                level: level.as_str().to_owned(),
            };
            client.set_query_log(request).await?.into_inner().level
        }
    };
    let level = Level { level };
    output.result(&level, || {
        let what = match level.level.as_str() {
            "questions" => "every question as well: its log has what each device looks up",
            "errors" => "failures alone",
            _ => "nothing",
        };
        format!("{} (the names of services: {what})", level.level)
    })
}
