//! The router with everything that stands before it.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cell_api_core::role;
use cell_api_core::setup::Step;
use http::StatusCode;
use tower_http::catch_panic::CatchPanicLayer;

use super::problem::Refusal;
use super::{assets, gate, guards, headers, routes};
use crate::app::App;

/// The whole of what both listeners serve. Layers run from the last to the first.
pub fn router(app: Arc<App>) -> Router {
    let (mut routes, _) = routes::all().split_for_parts();
    // A literal path hides the pattern `/api/setup/step/{step}` for every method.
    for step in Step::ALL {
        let path = format!("/api/setup/step/{}", step.as_str());
        routes = routes.route(&path, get(routes::setup::step));
    }
    routes
        .fallback(not_routed)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Arc::clone(&app))
        .layer(from_fn_with_state(app, guards::guards))
        .layer(from_fn(gate::gate))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(headers::headers))
}

/// A path that no route has: below `/api` nothing, elsewhere the web UI.
async fn not_routed(request: Request) -> Response {
    if role::is_api(request.uri().path()) {
        return Refusal::new(StatusCode::NOT_FOUND, "NO_ROUTE", "there is nothing here").into_response();
    }
    assets::serve(&request)
}

async fn wrong_method() -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD",
        "this route does not know the method",
    )
}

/// The panic itself is in the log, by the panic hook; outside it is only a failure.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    Refusal::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "INTERNAL",
        "the request failed",
    )
    .into_response()
}
