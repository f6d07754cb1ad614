//! What every request must get past before anybody asks who sent it: a name of ours, a body of bearable size, and no
//! other site behind it.

use http::header::{CONTENT_LENGTH, HOST, ORIGIN};
use http::{HeaderMap, Method, Request, StatusCode, Uri};

use super::input::{MAX_BODY_BYTES, too_large};
use super::problem::Refusal;
use super::transport::{Connection, Transport};

/// Whether a request may come before the guards.
///
/// # Errors
/// The refusal of one that may not.
pub fn check<B>(connection: &Connection, request: &Request<B>) -> Result<(), Refusal> {
    let authority = authority(request.uri(), request.headers()).ok_or_else(wrong_host)?;
    if !connection.hosts.allows(authority) {
        return Err(wrong_host());
    }
    if declared_length(request.headers()) > MAX_BODY_BYTES as u64 {
        return Err(too_large());
    }
    if changes_state(request.method()) && !is_same_site(request.headers(), authority, connection.transport) {
        let text = "the request comes from another site";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "CROSS_SITE", text));
    }
    Ok(())
}

/// Whether a method changes state. TRACE and whatever is invented are treated as if they did.
pub fn changes_state(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The one name that the request was sent to: HTTP/2's `:authority` or an absolute target, the Host header, or both if
/// they agree. X-Forwarded-Host is nobody's business.
fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let mut hosts = headers.get_all(HOST).iter();
    let (header, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return None;
    }
    let header = header.map(|value| value.to_str()).transpose().ok()?;
    match (uri.authority().map(http::uri::Authority::as_str), header) {
        (Some(target), Some(header)) if !target.eq_ignore_ascii_case(header) => None,
        (Some(name), _) | (None, Some(name)) => Some(name),
        (None, None) => None,
    }
}

fn wrong_host() -> Refusal {
    let text = "the cell does not answer to this name; allowed_hosts in api.toml adds one";
    Refusal::new(StatusCode::MISDIRECTED_REQUEST, "HOST", text)
}

fn declared_length(headers: &HeaderMap) -> u64 {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    length.map_or(0, |text| text.parse().unwrap_or(u64::MAX))
}

/// Browsers say where a request comes from (Fetch Metadata, RFC 6454); programs say nothing, and they have no cookie
/// jar that somebody could ride on.
fn is_same_site(headers: &HeaderMap, authority: &str, transport: Transport) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("invalid"));
    if let Some(site) = text("sec-fetch-site")
        && !matches!(site, "same-origin" | "none")
    {
        return false;
    }
    let scheme = match transport {
        Transport::Loopback => "http",
        Transport::Tls => "https",
    };
    text(ORIGIN.as_str()).is_none_or(|origin| origin.eq_ignore_ascii_case(&format!("{scheme}://{authority}")))
}
