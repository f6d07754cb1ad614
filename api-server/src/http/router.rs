//! What both listeners serve: every request passes the gate and the guards before a route is looked for, and every answer
//! leaves with the headers, those to panics included. There is no other way to a handler.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cell_api_core::role;
use cell_api_core::setup::Step;
use futures_util::FutureExt;
use http::StatusCode;
use hyper::body::Incoming;
use tower::Service;

use super::extract::Admitted;
use super::problem::Refusal;
use super::transport::Connection;
use super::{assets, gate, guards, headers, routes};
use crate::app::App;

/// The REST API and the web UI.
#[derive(Clone)]
pub struct Site {
    app: Arc<App>,
    routes: Router,
}

impl Site {
    /// All of it.
    pub fn new(app: Arc<App>) -> Self {
        let (mut routes, _) = routes::all().split_for_parts();
        // A literal path hides the pattern `/api/setup/step/{step}` for every method.
        for step in Step::ALL {
            let path = format!("/api/setup/step/{}", step.as_str());
            routes = routes.route(&path, get(routes::setup::step));
        }
        let routes = routes
            .fallback(not_routed)
            .method_not_allowed_fallback(wrong_method)
            .with_state(Arc::clone(&app));
        Site { app, routes }
    }

    /// Answers one request. Plain calls rather than layers of the router: those are cloned and boxed for each request.
    pub fn answer(
        &self,
        connection: &Connection,
        request: http::Request<Incoming>,
    ) -> impl Future<Output = Response> + Send + use<> {
        let (transport, is_api) = (connection.transport, role::is_api(request.uri().path()));
        // What panics must not take the other requests of its connection along.
        let begun = catch_unwind(AssertUnwindSafe(|| {
            let request = self.let_through(connection, request)?;
            Ok(AssertUnwindSafe(self.routes.clone().call(request)).catch_unwind())
        }));
        async move {
            let mut answer = match begun {
                Ok(Ok(routed)) => match routed.await {
                    Ok(Ok(answer)) => answer,
                    Err(panic) => panicked(panic),
                },
                Ok(Err(refusal)) => Refusal::into_response(refusal),
                Err(panic) => panicked(panic),
            };
            headers::add(answer.headers_mut(), transport, is_api);
            answer
        }
    }

    fn let_through(
        &self,
        connection: &Connection,
        request: http::Request<Incoming>,
    ) -> Result<Request, Refusal> {
        gate::check(connection, &request)?;
        let admitted = Admitted {
            transport: connection.transport,
            remote: connection.remote,
            who: guards::check(&self.app, connection, &request)?,
        };
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(admitted);
        Ok(request)
    }
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
