//! What programs for mail ask to set themselves up: the file of Thunderbird's autoconfiguration, which others read too, at
//! `/mail/config-v1.1.xml`. For everybody who reaches the service; there is no secret in it. On a port of its own, so that the
//! proxy that stands before it does not reach the interface for accounts.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

/// A domain of addresses: labels of `[a-z0-9-]` with dots between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain(String);

impl std::str::FromStr for Domain {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(known)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        (text.len() <= 253 && text.split('.').all(label))
            .then(|| Domain(text.to_owned()))
            .ok_or("is a domain: labels of a-z, 0-9 and hyphens with dots between them")
    }
}

/// How to set up a program for mail of `domain`: the servers are `mail.` before it.
pub fn autoconfig(domain: &Domain) -> String {
    let Domain(domain) = domain;
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<clientConfig version="1.1">
  <emailProvider id="{domain}">
    <domain>{domain}</domain>
    <displayName>{domain}</displayName>
    <incomingServer type="imap">
      <hostname>mail.{domain}</hostname>
      <port>993</port>
      <socketType>SSL</socketType>
      <authentication>password-cleartext</authentication>
      <username>%EMAILLOCALPART%</username>
    </incomingServer>
    <outgoingServer type="smtp">
      <hostname>mail.{domain}</hostname>
      <port>587</port>
      <socketType>STARTTLS</socketType>
      <authentication>password-cleartext</authentication>
      <username>%EMAILLOCALPART%</username>
    </outgoingServer>
  </emailProvider>
</clientConfig>
"#
    )
}

/// Serves it.
pub fn router(domain: &Domain) -> Router {
    let text: Arc<str> = autoconfig(domain).into();
    let answer = move || async move {
        (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "text/xml; charset=utf-8")],
            text.to_string(),
        )
            .into_response()
    };
    Router::new()
        .route("/mail/config-v1.1.xml", get(answer.clone()))
        .route("/.well-known/autoconfig/mail/config-v1.1.xml", get(answer))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_domain_means_nothing_in_xml() {
        let domain: Domain = "home.cell".parse().unwrap();
        assert!(autoconfig(&domain).contains("<hostname>mail.home.cell</hostname>"));
        for bad in [
            "",
            "a..b",
            ".a",
            "A",
            "a<b",
            "a&b",
            "a b",
            "-a",
            "a\n",
            "a\"b",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<Domain>().is_err(), "{bad:?}");
        }
    }
}
