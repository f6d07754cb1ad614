//! Reads request bodies and queries: bounded in size and time, every fault named at once.

use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request};
use cell_api_core::fault::Faults;
use cell_api_core::fields::{self, Fields};
use cell_api_core::flow::FlowInput;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use zeroize::Zeroizing;

use super::problem::Refusal;

/// Largest body, bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long a client may take to send it.
const DEADLINE: Duration = Duration::from_secs(10);
const MAX_PAGE: u32 = 1_000;
const DEFAULT_PAGE: u32 = 100;

/// Something that is read from the fields of a JSON object.
pub trait FromFields: Sized {
    /// Reads all fields; what is wrong is noted and replaced by something harmless.
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self;

    /// What the service would refuse in it, so that a body with an unreadable field hears of its other faults too.
    fn check(self) -> Faults;
}

/// A JSON body.
pub struct Input<T>(pub T);

impl<T: FromFields, S: Send + Sync> FromRequest<S> for Input<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        if !is_json(request.headers()) {
            let text = "the body must be application/json";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "NOT_JSON", text));
        }
        let body = tokio::time::timeout(DEADLINE, collect(request))
            .await
            .map_err(|_| slow())??;
        Ok(Input(fields::read_object(&body, T::read, T::check)?))
    }
}

/// Refusal of a client that sends too slowly.
fn slow() -> Refusal {
    Refusal::new(
        StatusCode::REQUEST_TIMEOUT,
        "SLOW",
        "the body took longer than 10 seconds",
    )
}

/// Refusal of a body that is too large.
pub fn too_large() -> Refusal {
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "TOO_LARGE",
        "the body is larger than 64 KiB",
    )
}

/// The body may hold a password, so our copy of it is zeroed.
async fn collect(request: Request) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let mut body = Limited::new(request.into_body(), MAX_BODY_BYTES);
    // Room for all of it from the start: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BODY_BYTES));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => too_large(),
            None => Refusal::new(StatusCode::BAD_REQUEST, "BODY", "the body broke off"),
        })?;
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// `application/json`, with no charset or UTF-8. A browser form can send nothing of the kind without asking first.
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let Ok(value) = value.to_str() else { return false };
    let mut parts = value.split(';').map(str::trim);
    parts
        .next()
        .is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
        && parts
            .all(|p| p.eq_ignore_ascii_case("charset=utf-8") || p.eq_ignore_ascii_case("charset=\"utf-8\""))
}

/// `?from=&limit=&order=`.
#[derive(Debug, Clone, Copy)]
pub struct Paging {
    /// First sequence wanted, from 1; `None`: where the order begins.
    pub from: Option<u64>,
    /// Which way from there.
    pub order: Order,
    /// 1-1,000.
    pub limit: u32,
}

/// The order of a list whose entries are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let mut faults = Faults::default();
        let (mut from, mut limit, mut order) = (None, None, None);
        for pair in parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "from" | "limit" | "order" if value.is_empty() => {}
                "from" if from.is_none() => {
                    let rule = "must be a whole number, 1 or greater, that fits 63 bits";
                    let number = value
                        .parse()
                        .ok()
                        .filter(|n| (1..=i64::MAX as u64).contains(n))
                        .ok_or(rule);
                    from = faults.keep("from", number);
                }
                "limit" if limit.is_none() => {
                    let number = value
                        .parse()
                        .ok()
                        .filter(|n| (1..=MAX_PAGE).contains(n))
                        .ok_or("must be 1-1000");
                    limit = faults.keep("limit", number);
                }
                "order" if order.is_none() => {
                    let known = match value {
                        "asc" => Ok(Order::Ascending),
                        "desc" => Ok(Order::Descending),
                        _ => Err("must be asc or desc"),
                    };
                    order = faults.keep("order", known);
                }
                "from" | "limit" | "order" => faults.add(name, "is given twice"),
                _ => faults.add("query", "knows only from, limit and order"),
            }
        }
        if !faults.is_empty() {
            return Err(faults.into());
        }
        Ok(Paging {
            from,
            order: order.unwrap_or(Order::Ascending),
            limit: limit.unwrap_or(DEFAULT_PAGE),
        })
    }
}

/// `?destination=&protocol=&port=`. What the values may be is for the service to say.
#[derive(Debug)]
pub struct FlowQuery(pub FlowInput);

impl<S: Send + Sync> FromRequestParts<S> for FlowQuery {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let mut faults = Faults::default();
        let mut flow = FlowInput::default();
        for (name, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            let field = match name.as_ref() {
                "destination" => &mut flow.destination,
                "protocol" => &mut flow.protocol,
                "port" => &mut flow.port,
                _ => {
                    faults.add("query", "knows only destination, protocol and port");
                    continue;
                }
            };
            if field.is_empty() {
                *field = value.into_owned();
            } else {
                faults.add(name, "is given twice");
            }
        }
        if !faults.is_empty() {
            return Err(faults.into());
        }
        Ok(FlowQuery(flow))
    }
}
