//! Every route, by resource. The guards stand before all of them; a handler only reads, asks a service and renders.

pub mod accounts;
pub mod audit;
pub mod auth;
mod backup;
pub mod cell;
pub mod connections;
pub mod domain;
pub mod events;
pub mod exits;
pub mod first_version;
pub mod managers;
pub mod network;
pub mod peers;
pub mod remote_catalogs;
pub mod services;
pub mod setup;
pub mod store;

use std::sync::Arc;

use axum::Json;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::Refusal;
use crate::app::App;

/// What a handler answers.
pub type Answer<T> = Result<Json<T>, Refusal>;

/// All routes that the OpenAPI document describes.
pub fn all() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(cell::health))
        .routes(routes!(cell::openapi_document))
        .routes(routes!(setup::status))
        .routes(routes!(setup::step))
        .routes(routes!(setup::claim))
        .routes(routes!(setup::identity))
        .routes(routes!(setup::network))
        .routes(routes!(setup::admin))
        .routes(routes!(setup::complete))
        .routes(routes!(auth::login))
        .routes(routes!(auth::logout))
        .routes(routes!(auth::me))
        .routes(routes!(auth::csrf_token))
        .routes(routes!(auth::change_password))
        .routes(routes!(auth::reset_password))
        .routes(routes!(auth::list_users, auth::create_user))
        .routes(routes!(auth::delete_user))
        .routes(routes!(cell::status))
        .routes(routes!(cell::config, cell::update_config))
        .routes(routes!(cell::wireguard_status))
        .routes(routes!(cell::containers))
        .routes(routes!(cell::active_services))
        .routes(routes!(cell::root_certificate))
        .routes(routes!(peers::list, peers::create))
        .routes(routes!(peers::get, peers::update, peers::delete))
        .routes(routes!(peers::config, peers::deliver_config))
        .routes(routes!(peers::explain))
        .routes(routes!(peers::mine))
        .routes(routes!(domain::get, domain::set))
        .routes(routes!(network::pending))
        .routes(routes!(network::confirm))
        .routes(routes!(network::roll_back))
        .routes(routes!(connections::list, connections::create))
        .routes(routes!(
            connections::get,
            connections::update,
            connections::delete
        ))
        .routes(routes!(first_version::import))
        .routes(routes!(exits::health))
        .routes(routes!(exits::set_exit))
        .routes(routes!(exits::set_route_via))
        .routes(routes!(exits::set_fail_open))
        .routes(routes!(exits::set_fallbacks))
        .routes(routes!(services::list))
        .routes(routes!(services::set_exit))
        .routes(routes!(services::set_reach))
        .routes(routes!(services::explain))
        .merge(of_services())
        .routes(routes!(audit::list))
        .routes(routes!(audit::verify))
        .routes(routes!(events::stream))
}

/// Those of the store and of accounts at its services.
fn of_services() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(store::catalog))
        .routes(routes!(remote_catalogs::list, remote_catalogs::add))
        .routes(routes!(remote_catalogs::remove))
        .routes(routes!(remote_catalogs::refresh))
        .routes(routes!(store::list))
        .routes(routes!(store::get, store::remove))
        .routes(routes!(store::status))
        .routes(routes!(store::logs))
        .routes(routes!(backup::get))
        .routes(routes!(store::install))
        .routes(routes!(store::update))
        .routes(routes!(store::set_access))
        .routes(routes!(store::start))
        .routes(routes!(store::stop))
        .routes(routes!(store::restart))
        .routes(routes!(accounts::list))
        .routes(routes!(accounts::create))
        .routes(routes!(accounts::reset_password))
        .routes(routes!(accounts::remove))
        .merge(of_managers())
}

/// What managers ask of services.
fn of_managers() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(managers::config, store::configure))
        .routes(routes!(managers::validate))
        .routes(routes!(store::list_secrets))
        .routes(routes!(store::set_secret, store::remove_secret))
        .routes(routes!(managers::test))
        .routes(routes!(managers::history))
        .routes(routes!(managers::alerts))
        .routes(routes!(managers::acknowledge))
        .routes(routes!(managers::query_log, managers::set_query_log))
}
