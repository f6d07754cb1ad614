//! What both listeners serve: every request passes the gate and the guards before a route is looked for, and every answer
//! leaves with the headers, those to panics included. There is no other way to a handler.

use std::any::Any;
use std::convert::Infallible;
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
use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode};
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
        let is_head = request.method() == Method::HEAD;
        let begin = || {
            let request = self.let_through(connection, request)?;
            Ok(self.routes.clone().call(request))
        };
        let answer = caught(catch_unwind(AssertUnwindSafe(begin)));
        async move {
            let mut answer = answer.await;
            headers::add(answer.headers_mut(), transport, is_api);
            if is_head { without_body(answer) } else { answer }
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

/// The answer of what was begun, a refusal, or that of a panic: it must not take the other requests of its connection along.
async fn caught<F>(begun: std::thread::Result<Result<F, Refusal>>) -> Response
where
    F: Future<Output = Result<Response, Infallible>>,
{
    match begun {
        Ok(Ok(routed)) => match AssertUnwindSafe(routed).catch_unwind().await {
            Ok(Ok(answer)) => answer,
            Err(panic) => panicked(panic),
        },
        Ok(Err(refusal)) => refusal.into_response(),
        Err(panic) => panicked(panic),
    }
}

/// HEAD is told how long the answer to GET is and gets none of it (RFC 9110 section 9.3.2); over HTTP/2 hyper sends what
/// it is given.
fn without_body(mut answer: Response) -> Response {
    let length = hyper::body::Body::size_hint(answer.body()).exact();
    if let Some(length) = length.filter(|length| *length > 0) {
        answer
            .headers_mut()
            .entry(CONTENT_LENGTH)
            .or_insert(length.into());
    }
    *answer.body_mut() = Body::empty();
    answer
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use http_body_util::BodyExt as _;

    async fn status<F>(begin: impl FnOnce() -> Result<F, Refusal>) -> StatusCode
    where
        F: Future<Output = Result<Response, Infallible>>,
    {
        caught(catch_unwind(AssertUnwindSafe(begin))).await.status()
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let fine = || async { Ok(StatusCode::CREATED.into_response()) };
        assert_eq!(status(|| Ok(fine())).await, StatusCode::CREATED);
        let refused = || Err::<std::future::Pending<_>, _>(Refusal::new(StatusCode::FORBIDDEN, "NO", "no"));
        assert_eq!(status(refused).await, StatusCode::FORBIDDEN);
        let in_a_guard = || -> Result<std::future::Pending<_>, _> { panic!("in a guard") };
        assert_eq!(status(in_a_guard).await, StatusCode::INTERNAL_SERVER_ERROR);
        let in_a_handler = || Ok(async { panic!("in a handler") });
        assert_eq!(status(in_a_handler).await, StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[tokio::test]
    async fn head_gets_the_length_and_nothing_more() {
        let refusal = Refusal::new(StatusCode::UNAUTHORIZED, "NO_SESSION", "log in first").into_response();
        let length = hyper::body::Body::size_hint(refusal.body()).exact().unwrap();
        let answer = without_body(refusal);
        assert_eq!(answer.headers()[CONTENT_LENGTH], length.to_string());
        assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
}
