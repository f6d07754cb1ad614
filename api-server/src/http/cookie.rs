//! The session cookie (RFC 6265bis).

use std::time::Duration;

use axum_extra::extract::cookie::{Cookie, SameSite};
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::transport::Transport;

/// `__Host-` makes the browser insist on HTTPS, this host and no domain; it cannot be had on plain loopback.
fn name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tls => "__Host-cell",
        Transport::Loopback => "cell",
    }
}

/// The cookie of a new session.
pub fn set(transport: Transport, token: &str, lifetime: Duration) -> HeaderValue {
    let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
    render(transport, token.to_owned(), seconds)
}

/// Takes the cookie back.
pub fn clear(transport: Transport) -> HeaderValue {
    render(transport, String::new(), 0)
}

/// The cookie's value. Two of them are none: which one would be meant?
pub fn read(transport: Transport, headers: &HeaderMap) -> Option<String> {
    let pairs = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim_matches([' ', '\t']).split_once('='));
    let mut own = pairs.filter(|(found, _)| *found == name(transport));
    let ((_, only), more) = (own.next()?, own.next());
    more.is_none().then(|| only.to_owned())
}

fn render(transport: Transport, value: String, max_age_seconds: i64) -> HeaderValue {
    let mut cookie = Cookie::new(name(transport), value);
    cookie.set_http_only(true);
    cookie.set_same_site(SameSite::Strict);
    cookie.set_path("/");
    cookie.set_secure(transport == Transport::Tls);
    let attributes = format!("{cookie}; Max-Age={max_age_seconds}");
    // The token is base64; the rest is ours.
    HeaderValue::from_str(&attributes).unwrap_or(HeaderValue::from_static(""))
}
