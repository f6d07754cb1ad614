//! What managers ask of services.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::response::sse::{Event, KeepAlive, Sse};
use cell_api_core::derive::corefile::QueryLog;
use cell_api_core::fault::Faults;
use futures_util::stream;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Answer;
use crate::app::App;
use crate::http::dto::managers::{
    Alerts, ConfigValid, HealthHistory, QueryLogLevel, ServiceConfig, ServiceTest,
};
use crate::http::dto::problem::Problems;
use crate::http::dto::store::ConfigureService;
use crate::http::extract::{Segment, Who};
use crate::http::input::Input;
use crate::http::problem::Refusal;
use crate::service::managers::{self, LogStream};
use crate::service::{ServiceError, auth};

const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a browser opens a stream again that has ended.
const RETRY: Duration = Duration::from_secs(3);

/// A service's configuration: what can be set, and what is.
#[utoipa::path(get, path = "/api/services/{service}/config", tag = "store", operation_id = "get_service_config",
    params(("service" = String, Path)), responses((status = 200, body = ServiceConfig), Problems))]
pub async fn config(State(app): State<Arc<App>>, Segment(service): Segment) -> Answer<ServiceConfig> {
    Ok(Json(managers::config(&app, &service).await?.into()))
}

/// Says whether a configuration could be set, and sets nothing.
#[utoipa::path(post, path = "/api/services/{service}/config/validate", tag = "store",
    operation_id = "validate_service_config", params(("service" = String, Path)), request_body = ConfigureService,
    responses((status = 200, body = ConfigValid), Problems))]
pub async fn validate(
    State(app): State<Arc<App>>,
    Segment(service): Segment,
    Input(config): Input<ConfigureService>,
) -> Answer<ConfigValid> {
    managers::validate(&app, &service, &config.parameters).await?;
    Ok(Json(ConfigValid { valid: true }))
}

/// Tests a service: its containers, the ports that devices are led to, its names and its route.
#[utoipa::path(post, path = "/api/services/{service}/test", tag = "store", operation_id = "test_service",
    params(("service" = String, Path)), responses((status = 200, body = ServiceTest), Problems))]
pub async fn test(State(app): State<Arc<App>>, Segment(service): Segment) -> Answer<ServiceTest> {
    Ok(Json(managers::test(&app, &service).await?.into()))
}

/// How a service was.
#[utoipa::path(get, path = "/api/services/{service}/health/history", tag = "store",
    operation_id = "get_service_health_history", params(("service" = String, Path)),
    responses((status = 200, body = HealthHistory), Problems))]
pub async fn history(State(app): State<Arc<App>>, Segment(service): Segment) -> Answer<HealthHistory> {
    Ok(Json(managers::history(&app, &service).await?.into()))
}

/// What is wrong with services. The event `alerts` says when to ask again.
#[utoipa::path(get, path = "/api/alerts", tag = "store", operation_id = "list_alerts",
    responses((status = 200, body = Alerts), Problems))]
pub async fn alerts(State(app): State<Arc<App>>) -> Answer<Alerts> {
    Ok(Json(managers::alerts(&app).await?.into()))
}

/// Notes that somebody has seen an alert. It goes when it is over.
#[utoipa::path(post, path = "/api/alerts/{id}/acknowledge", tag = "store", operation_id = "acknowledge_alert",
    params(("id" = String, Path)), responses((status = 204), Problems))]
pub async fn acknowledge(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(id): Segment,
) -> Result<StatusCode, Refusal> {
    managers::acknowledge(&app, &who.actor(), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the cell's CoreDNS logs.
#[utoipa::path(get, path = "/api/dns/query-log", tag = "cell", operation_id = "get_query_log",
    responses((status = 200, body = QueryLogLevel), Problems))]
pub async fn query_log(State(app): State<Arc<App>>) -> Answer<QueryLogLevel> {
    Ok(Json(managers::query_log(&app)?.into()))
}

/// Says what the cell's CoreDNS logs, from now on, without starting it anew.
#[utoipa::path(put, path = "/api/dns/query-log", tag = "cell", operation_id = "set_query_log",
    request_body = QueryLogLevel, responses((status = 200, body = QueryLogLevel), Problems))]
pub async fn set_query_log(
    State(app): State<Arc<App>>,
    who: Who,
    Input(wanted): Input<QueryLogLevel>,
) -> Answer<QueryLogLevel> {
    let level = QueryLog::parse(&wanted.level);
    let level = level.map_err(|why| ServiceError::from(Faults::one("level", why)))?;
    managers::set_query_log(&app, &who.actor(), level).await?;
    Ok(Json(level.into()))
}

/// A container's log as it grows: events with `{"lines": [text], "skipped": whether lines before these were left out}`. Ends with the
/// container, with the session, and when the broker has told as much as it tells at once; whoever wants more asks again.
///
/// # Errors
/// What refuses a log.
pub async fn follow(
    app: Arc<App>,
    who: Who,
    service: &str,
    container: &str,
    lines: u32,
) -> Result<Response, Refusal> {
    let log = managers::follow(&app, service, container, lines).await?;
    let state = Follower {
        ended: app.events.ended(),
        app,
        who,
        log,
    };
    let events = stream::unfold(state, |mut state| async move {
        let (lines, skipped) = state.next().await?;
        let data = json!({"lines": lines, "skipped": skipped}).to_string();
        Some((
            Ok::<_, Infallible>(Event::default().retry(RETRY).data(data)),
            state,
        ))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

struct Follower {
    app: Arc<App>,
    who: Who,
    log: LogStream,
    ended: CancellationToken,
}

impl Follower {
    /// The next part; `None` when the log, the session or the process ends.
    async fn next(&mut self) -> Option<(Vec<String>, bool)> {
        loop {
            tokio::select! {
                () = self.ended.cancelled() => return None,
                part = self.log.next() => {
                    return part.filter(|_| auth::still_open(&self.app, &self.who.session));
                }
                () = tokio::time::sleep(KEEP_ALIVE) => if !auth::still_open(&self.app, &self.who.session) {
                    return None;
                }
            }
        }
    }
}
