//! The store: what can be installed, what is, and what becomes of it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use cell_api_core::fault::Faults;
use zeroize::Zeroizing;

use super::Answer;
use crate::app::App;
use crate::http::dto::problem::Problems;
use crate::http::dto::store::{
    Catalog, ConfigureService, InstallService, InstalledServices, Service, ServiceLogs, ServiceOrPlan,
    ServiceSecrets, ServiceStatus, SetServiceSecret, StoreAccess,
};
use crate::http::extract::{Segment, Segments, Who};
use crate::http::input::Input;
use crate::http::problem::Refusal;
use crate::service::store::Run;
use crate::service::{catalog as shelf, store};

/// What can be installed.
#[utoipa::path(get, path = "/api/store/catalog", tag = "store", operation_id = "get_catalog",
    responses((status = 200, body = Catalog), Problems))]
pub async fn catalog(State(app): State<Arc<App>>) -> Answer<Catalog> {
    let (mut read, installed) = (shelf::read(&app).await?, store::list(&app).await?);
    shelf::judge(&app, &mut read).await?;
    Ok(Json(Catalog::of(read, &installed)))
}

/// Services that are installed, or on their way.
#[utoipa::path(get, path = "/api/services", tag = "store", operation_id = "list_services",
    responses((status = 200, body = InstalledServices), Problems))]
pub async fn list(State(app): State<Arc<App>>) -> Answer<InstalledServices> {
    let all = store::list(&app).await?;
    Ok(Json(InstalledServices {
        services: all.into_iter().map(Into::into).collect(),
    }))
}

/// One service.
#[utoipa::path(get, path = "/api/services/{service}", tag = "store", operation_id = "get_service",
    params(("service" = String, Path)), responses((status = 200, body = Service), Problems))]
pub async fn get(State(app): State<Arc<App>>, Segment(service): Segment) -> Answer<Service> {
    Ok(Json(store::get(&app, &service).await?.into()))
}

/// A service, with its containers as the broker has them now.
#[utoipa::path(get, path = "/api/services/{service}/status", tag = "store", operation_id = "get_service_status",
    params(("service" = String, Path)), responses((status = 200, body = ServiceStatus), Problems))]
pub async fn status(State(app): State<Arc<App>>, Segment(service): Segment) -> Answer<ServiceStatus> {
    Ok(Json(store::status(&app, &service).await?.into()))
}

/// The last lines of the log of one of its containers. With `follow=true` a stream (`text/event-stream`) of it as it grows: each event is
/// `{"lines": [text], "skipped": whether lines before these were left out}`; it ends with the container and after ten minutes.
#[utoipa::path(get, path = "/api/services/{service}/logs", tag = "store", operation_id = "get_service_logs",
    params(("service" = String, Path),
        ("container" = Option<String>, Query, description = "its name in the manifest; without it the main one"),
        ("lines" = Option<u32>, Query, description = "1-1000; 100 without it"),
        ("follow" = Option<bool>, Query, description = "goes on as it grows")),
    responses((status = 200, body = ServiceLogs), Problems))]
pub async fn logs(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(service): Segment,
    query: Query,
) -> Result<Response, Refusal> {
    let mut faults = Faults::default();
    query.knows(&["container", "lines", "follow"], &mut faults);
    let follow = query.flag("follow", &mut faults);
    let lines = match query.get("lines") {
        None => Some(0),
        Some(text) => {
            let number = text
                .parse()
                .ok()
                .filter(|n| (1..=1_000).contains(n))
                .ok_or("must be 1-1000");
            faults.keep("lines", number)
        }
    };
    let Some(lines) = lines.filter(|_| faults.is_empty()) else {
        return Err(faults.into());
    };
    let container = query.get("container").unwrap_or_default();
    if follow {
        return super::managers::follow(app, who, &service, container, lines).await;
    }
    let logs = store::logs(&app, &service, container, lines).await?;
    Ok(Json(ServiceLogs::from(logs)).into_response())
}

/// Installs a service of the catalog, by its id. What becomes of it is told by the service and the event `services`.
#[utoipa::path(post, path = "/api/services/{service}/install", tag = "store", operation_id = "install_service",
    params(("service" = String, Path, description = "its id in the catalog"),
        ("validate_only" = Option<bool>, Query, description = "only says what it would do")),
    request_body = InstallService,
    responses((status = 202, body = ServiceOrPlan), (status = 200, body = ServiceOrPlan, description = "with validate_only"),
        Problems))]
pub async fn install(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(id): Segment,
    query: Query,
    Input(install): Input<InstallService>,
) -> Result<Response, Refusal> {
    if query.only_flag("validate_only")? {
        let plan = store::plan_install(&app, &who.actor(), &id, install.into()).await?;
        return Ok(Json(ServiceOrPlan::from(plan)).into_response());
    }
    let view = store::install(&app, &who.actor(), &id, install.into()).await?;
    Ok((StatusCode::ACCEPTED, Json(ServiceOrPlan::from(view))).into_response())
}

/// Brings a service to the catalog's manifest of today. What runs goes on until the new one has started; if that fails it runs again.
#[utoipa::path(post, path = "/api/services/{service}/update", tag = "store", operation_id = "update_service",
    params(("service" = String, Path)), responses((status = 202, body = Service), Problems))]
pub async fn update(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(service): Segment,
) -> Result<Response, Refusal> {
    accepted(store::update(&app, &who.actor(), &service).await?)
}

/// Sets a service's configuration, whole; its containers are made anew.
#[utoipa::path(put, path = "/api/services/{service}/config", tag = "store", operation_id = "configure_service",
    params(("service" = String, Path)), request_body = ConfigureService,
    responses((status = 202, body = Service), Problems))]
pub async fn configure(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(service): Segment,
    Input(config): Input<ConfigureService>,
) -> Result<Response, Refusal> {
    accepted(store::configure(&app, &who.actor(), &service, config.parameters).await?)
}

/// Secrets of a service: which there are, and whether they are set.
#[utoipa::path(get, path = "/api/services/{service}/secrets", tag = "store", operation_id = "list_service_secrets",
    params(("service" = String, Path)), responses((status = 200, body = ServiceSecrets), Problems))]
pub async fn list_secrets(State(app): State<Arc<App>>, Segment(service): Segment) -> Answer<ServiceSecrets> {
    let all = store::secrets::list(&app, &service).await?;
    Ok(Json(ServiceSecrets {
        secrets: all.into_iter().map(Into::into).collect(),
    }))
}

/// Sets a secret of a service: its value goes to the vault alone, and the containers are started anew with it.
#[utoipa::path(put, path = "/api/services/{service}/secrets/{secret}", tag = "store", operation_id = "set_service_secret",
    params(("service" = String, Path), ("secret" = String, Path)), request_body = SetServiceSecret,
    responses((status = 202, body = Service), Problems))]
pub async fn set_secret(
    State(app): State<Arc<App>>,
    who: Who,
    Segments(service, secret): Segments,
    Input(set): Input<SetServiceSecret>,
) -> Result<Response, Refusal> {
    let value = Zeroizing::new(set.value);
    accepted(store::secrets::set(&app, &who.actor(), &service, &secret, value).await?)
}

/// Removes a secret of a service from the vault. Containers that need it do not start any more.
#[utoipa::path(delete, path = "/api/services/{service}/secrets/{secret}", tag = "store", operation_id = "remove_service_secret",
    params(("service" = String, Path), ("secret" = String, Path)),
    responses((status = 202, body = Service), Problems))]
pub async fn remove_secret(
    State(app): State<Arc<App>>,
    who: Who,
    Segments(service, secret): Segments,
) -> Result<Response, Refusal> {
    accepted(store::secrets::remove(&app, &who.actor(), &service, &secret).await?)
}

/// Says which devices may reach a service.
#[utoipa::path(put, path = "/api/services/{service}/access", tag = "store", operation_id = "set_service_access",
    params(("service" = String, Path)), request_body = StoreAccess,
    responses((status = 200, body = Service), Problems))]
pub async fn set_access(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(service): Segment,
    Input(access): Input<StoreAccess>,
) -> Answer<Service> {
    let everyone = access.everyone.unwrap_or_default();
    let set = store::set_access(&app, &who.actor(), &service, everyone, &access.allowed_peers).await;
    Ok(Json(set?.into()))
}

/// Removes a service: devices first, then its containers, then its network. Its data is kept unless it is asked for.
#[utoipa::path(delete, path = "/api/services/{service}", tag = "store", operation_id = "remove_service",
    params(("service" = String, Path),
        ("delete_volumes" = Option<bool>, Query, description = "whether its data goes too, for good"),
        ("validate_only" = Option<bool>, Query, description = "only says what it would do")),
    responses((status = 202, body = ServiceOrPlan), (status = 200, body = ServiceOrPlan, description = "with validate_only"),
        Problems))]
pub async fn remove(
    State(app): State<Arc<App>>,
    who: Who,
    Segment(service): Segment,
    query: Query,
) -> Result<Response, Refusal> {
    let mut faults = Faults::default();
    query.knows(&["delete_volumes", "validate_only"], &mut faults);
    let delete_volumes = query.flag("delete_volumes", &mut faults);
    let validate_only = query.flag("validate_only", &mut faults);
    if !faults.is_empty() {
        return Err(faults.into());
    }
    if validate_only {
        let plan = store::plan_remove(&app, &who.actor(), &service, delete_volumes).await?;
        return Ok(Json(ServiceOrPlan::from(plan)).into_response());
    }
    let view = store::remove(&app, &who.actor(), &service, delete_volumes).await?;
    Ok((StatusCode::ACCEPTED, Json(ServiceOrPlan::from(view))).into_response())
}

/// Starts a service that was stopped.
#[utoipa::path(post, path = "/api/services/{service}/start", tag = "store", operation_id = "start_service",
    params(("service" = String, Path)), responses((status = 200, body = Service), Problems))]
pub async fn start(State(app): State<Arc<App>>, who: Who, Segment(service): Segment) -> Answer<Service> {
    Ok(Json(
        store::run(&app, &who.actor(), &service, Run::Start).await?.into(),
    ))
}

/// Stops a service. It stays stopped until it is started.
#[utoipa::path(post, path = "/api/services/{service}/stop", tag = "store", operation_id = "stop_service",
    params(("service" = String, Path)), responses((status = 200, body = Service), Problems))]
pub async fn stop(State(app): State<Arc<App>>, who: Who, Segment(service): Segment) -> Answer<Service> {
    Ok(Json(
        store::run(&app, &who.actor(), &service, Run::Stop).await?.into(),
    ))
}

/// Stops and starts a service.
#[utoipa::path(post, path = "/api/services/{service}/restart", tag = "store", operation_id = "restart_service",
    params(("service" = String, Path)), responses((status = 200, body = Service), Problems))]
pub async fn restart(State(app): State<Arc<App>>, who: Who, Segment(service): Segment) -> Answer<Service> {
    Ok(Json(
        store::run(&app, &who.actor(), &service, Run::Restart)
            .await?
            .into(),
    ))
}

fn accepted(view: store::View) -> Result<Response, Refusal> {
    Ok((StatusCode::ACCEPTED, Json(Service::from(view))).into_response())
}

/// The parameters of a query; which there may be is for the route to say.
pub struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Query(
            form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        ))
    }
}

impl Query {
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn knows(&self, names: &[&str], faults: &mut Faults) {
        for (place, (name, _)) in self.0.iter().enumerate() {
            if !names.contains(&name.as_str()) {
                faults.add("query", format!("knows only {}", names.join(" and ")));
            } else if self.0[..place].iter().any(|(before, _)| before == name) {
                faults.add(name, "is given twice");
            }
        }
    }

    fn flag(&self, name: &str, faults: &mut Faults) -> bool {
        let flag = match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err("must be true or false"),
        };
        faults.keep(name, flag).unwrap_or_default()
    }

    /// The one flag that there may be.
    pub(super) fn only_flag(&self, name: &str) -> Result<bool, Refusal> {
        let mut faults = Faults::default();
        self.knows(&[name], &mut faults);
        let flag = self.flag(name, &mut faults);
        if faults.is_empty() {
            Ok(flag)
        } else {
            Err(faults.into())
        }
    }
}
