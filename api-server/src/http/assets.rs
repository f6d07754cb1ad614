//! The web UI, embedded: `webui/dist` as it was when this was compiled.

use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use rust_embed::{Embed, EmbeddedFile};

use super::problem::Refusal;

#[derive(Embed)]
#[folder = "../webui/dist"]
struct Dist;

const INDEX: &str = "index.html";
const NOT_BUILT: &str = "The web UI is not part of this binary. Build it first: \
                         (cd webui && npm ci && npm run build), then build cell-api again. The API is at /api.\n";

/// Serves a file, or the application's page for any other path: its router runs in the browser.
pub fn serve(request: &Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = "only GET and HEAD are known here";
        return Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD", text).into_response();
    }
    let path = request.uri().path().trim_start_matches('/');
    let known = !path.is_empty() && Dist::get(path).is_some();
    // A missing script must not be answered by a page: the browser would cache the wrong thing under its name.
    if !known && path.starts_with("assets/") {
        return Refusal::new(StatusCode::NOT_FOUND, "NO_ROUTE", "there is nothing here").into_response();
    }
    let name = if known { path } else { INDEX };
    match choose(name, request.headers()) {
        Some((file, encoding)) => send(name, file, encoding, request.headers()),
        None => (StatusCode::SERVICE_UNAVAILABLE, NOT_BUILT).into_response(),
    }
}

type Encoding = Option<&'static str>;

/// The smallest form of the file that the client takes.
fn choose(name: &str, headers: &HeaderMap) -> Option<(EmbeddedFile, Encoding)> {
    for (encoding, suffix) in [("br", ".br"), ("gzip", ".gz")] {
        if accepts(headers, encoding)
            && let Some(file) = Dist::get(&format!("{name}{suffix}"))
        {
            return Some((file, Some(encoding)));
        }
    }
    Dist::get(name).map(|file| (file, None))
}

/// RFC 9110, section 12.5.3, without weights: what is refused by `;q=0` is not taken.
fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    let accepted = headers
        .get(ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    accepted.split(',').any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(encoding));
        named
            && !parts.any(|part| {
                matches!(
                    part.replace(' ', "").as_str(),
                    "q=0" | "q=0.0" | "q=0.00" | "q=0.000"
                )
            })
    })
}

fn send(name: &str, file: EmbeddedFile, encoding: Encoding, request: &HeaderMap) -> Response {
    let etag = format!("\"{}\"", hex::encode(file.metadata.sha256_hash()));
    // Names below assets/ carry a hash of their content; every other file may be another one tomorrow.
    let cache = if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let unchanged = request.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()) == Some(etag.as_str());
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        // Embedded, so nothing is copied: who asks for it a thousand times and reads none must not cost memory.
        let body = match file.data {
            Cow::Borrowed(embedded) => Bytes::from_static(embedded),
            Cow::Owned(read) => Bytes::from(read),
        };
        body.into_response()
    };
    let headers = response.headers_mut();
    let kind = mime_guess::from_path(name).first_or_octet_stream();
    let kind = if kind.type_() == "text" {
        format!("{kind}; charset=utf-8")
    } else {
        kind.to_string()
    };
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_str(&kind).unwrap_or(HeaderValue::from_static("text/plain")),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    if let Some(encoding) = encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}
