//! Proxy URLs: `socks5://[user:password@]host[:port]` and `http://[user:password@]host:port`.

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::host::{self, Loopback};
use super::{Imported, Secret};
use crate::fault::Faults;
use crate::name::EndpointHost;

/// The longest URL, bytes.
const MAX: usize = 2048;
/// The longest user name or password, bytes (RFC 1929, section 2).
const CREDENTIAL_MAX: usize = 255;
/// Where a SOCKS server listens if nothing is said (RFC 1928, section 3).
const SOCKS_PORT: u16 = 1080;

/// The password's field at the vault.
pub const PASSWORD: &str = "password";

/// How the proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// SOCKS5 (RFC 1928); names are resolved by the proxy.
    Socks5,
    /// HTTP CONNECT (RFC 9110, section 9.3.6).
    HttpConnect,
}

/// A proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyExit {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Where it is.
    pub host: EndpointHost,
    /// Its TCP port.
    pub port: u16,
    /// Whom to sign in as, if anybody; the vault has the password then.
    pub username: Option<String>,
}

/// Reads a URL.
///
/// # Errors
/// Every fault; none repeats the URL, which may hold a password.
pub fn read(text: &str) -> Result<Imported<ProxyExit>, Faults> {
    if text.len() > MAX {
        return Err(Faults::one("url", format!("must have at most {MAX} bytes")));
    }
    let url =
        Url::parse(text).map_err(|_| Faults::one("url", "must be like socks5://proxy.example.org:1080"))?;
    let mut faults = Faults::default();
    let protocol = match url.scheme() {
        "socks5" | "socks5h" => Some(Protocol::Socks5),
        "http" => Some(Protocol::HttpConnect),
        "https" | "socks4" | "socks4a" => {
            faults.add(
                "url",
                "must begin with socks5:// or http://; https and SOCKS4 proxies are not supported",
            );
            None
        }
        _ => {
            faults.add("url", "must begin with socks5:// or http://");
            None
        }
    };
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        faults.add("url", "must end after the port");
    }
    let host = faults.keep("url.host", host(&url));
    let port = match (url.port(), protocol) {
        (Some(0), _) => {
            faults.add("url.port", "must be from 1 to 65535");
            None
        }
        (Some(port), _) => Some(port),
        (None, Some(Protocol::Socks5)) => Some(SOCKS_PORT),
        (None, Some(Protocol::HttpConnect) | None) => url.port_or_known_default(),
    };
    let credentials = credentials(&url, protocol, &mut faults);
    let (Some(protocol), Some(host), Some(port), true) = (protocol, host, port, faults.is_empty()) else {
        return Err(faults);
    };
    let (username, secrets) = match credentials {
        Some((username, password)) => (
            Some(username),
            vec![Secret {
                field: PASSWORD.to_owned(),
                value: password,
            }],
        ),
        None => (None, Vec::new()),
    };
    Ok(Imported {
        config: ProxyExit {
            protocol,
            host,
            port,
            username,
        },
        secrets,
        notes: Vec::new(),
    })
}

fn host(url: &Url) -> Result<EndpointHost, String> {
    let text = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => return Err("is required".to_owned()),
    };
    host::server(&text, Loopback::Listed)
}

/// User name and password, decoded; none where the URL has neither.
fn credentials(
    url: &Url,
    protocol: Option<Protocol>,
    faults: &mut Faults,
) -> Option<(String, Zeroizing<String>)> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let username = decoded("url.username", url.username(), faults)?;
    let password = decoded("url.password", url.password().unwrap_or_default(), faults)?;
    // The name ends at the first colon of what is sent (RFC 7617, section 2).
    if protocol == Some(Protocol::HttpConnect) && username.contains(':') {
        faults.add("url.username", "must not hold a colon");
    }
    Some((username.as_str().to_owned(), password))
}

fn decoded(field: &str, text: &str, faults: &mut Faults) -> Option<Zeroizing<String>> {
    let Ok(decoded) = percent_decode_str(text).decode_utf8() else {
        faults.add(field, "must be UTF-8");
        return None;
    };
    let decoded = Zeroizing::new(decoded.into_owned());
    if decoded.is_empty() || decoded.len() > CREDENTIAL_MAX || decoded.chars().any(char::is_control) {
        faults.add(
            field,
            format!("must be 1-{CREDENTIAL_MAX} bytes without control characters"),
        );
        return None;
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_that_people_have_are_read() {
        for (text, protocol, host, port, username, password) in [
            (
                "socks5://127.0.0.1",
                Protocol::Socks5,
                "127.0.0.1",
                1080,
                None,
                None,
            ),
            (
                "socks5h://[2001:db8::1]:9050",
                Protocol::Socks5,
                "2001:db8::1",
                9050,
                None,
                None,
            ),
            (
                "http://proxy.example.org",
                Protocol::HttpConnect,
                "proxy.example.org",
                80,
                None,
                None,
            ),
            (
                "http://anna:p%40ss@Proxy.Example.org:3128/",
                Protocol::HttpConnect,
                "proxy.example.org",
                3128,
                Some("anna"),
                Some("p@ss"),
            ),
            (
                "socks5://a%3Ab:c:d@box:1",
                Protocol::Socks5,
                "box",
                1,
                Some("a:b"),
                Some("c:d"),
            ),
        ] {
            let imported = read(text).unwrap();
            let config = imported.config;
            assert_eq!(
                (config.protocol, config.host.to_string().as_str(), config.port),
                (protocol, host, port),
                "{text}"
            );
            assert_eq!(config.username.as_deref(), username, "{text}");
            assert_eq!(
                imported.secrets.first().map(|secret| secret.value.as_str()),
                password,
                "{text}"
            );
        }
    }

    #[test]
    fn other_urls_are_refused_without_repeating_them() {
        for (text, place, why) in [
            ("", "url", "must be like"),
            ("proxy.example.org:1080", "url", "must begin"),
            ("https://u:hunter2@p:1", "url", "https"),
            ("ftp://p:1", "url", "must begin"),
            ("socks5://:0", "url", "must be like"),
            ("socks5://p:0", "url.port", "1 to 65535"),
            ("socks5://0.0.0.0:1080", "url.host", "connect to"),
            ("socks5://p:1/path?x=hunter2", "url", "end after the port"),
            ("socks5://anna@p:1", "url.password", "1-255"),
            ("socks5://:hunter2@p:1", "url.username", "1-255"),
            ("socks5://a%ff:hunter2@p:1", "url.username", "UTF-8"),
            ("socks5://a:b%0ac@p:1", "url.password", "control"),
            ("http://a%3Ab:hunter2@p:1", "url.username", "colon"),
        ] {
            let faults = read(text).unwrap_err();
            let said = faults.to_string();
            let named = faults
                .violations()
                .iter()
                .any(|v| v.field == place && v.description.contains(why));
            assert!(named && !said.contains("hunter2"), "{text}: {said}");
        }
        assert!(
            read(&format!("http://{}", "a".repeat(MAX)))
                .unwrap_err()
                .to_string()
                .contains("2048")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "(socks5|http|[a-z]{0,6})(://)?[ -~]{0,40}|\\PC{0,60}") {
            if let Ok(imported) = read(&text) {
                prop_assert!(imported.config.port > 0);
                prop_assert_eq!(imported.config.username.is_some(), imported.secrets.len() == 1);
            }
        }
    }
}
