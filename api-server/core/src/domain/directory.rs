//! The directory of an authority that is not the one by default: a household's own step-ca, or a test's.

use std::net::SocketAddrV4;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::{Host, Url};

use super::can_be_reached;
use crate::fault::Faults;

/// Longest PEM text of an authority, bytes.
pub const AUTHORITY_MAX: usize = 16 * 1024;
/// Longest URL, bytes.
const URL_MAX: usize = 512;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Where an ACME authority has its directory (RFC 8555, section 7.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    url: String,
    address: Option<SocketAddrV4>,
    authority: Option<String>,
}

impl Directory {
    /// Reads the URL and the certificates that its own is checked by; `None` after a fault.
    pub fn check(url: &str, authority: Option<&str>, faults: &mut Faults) -> Option<Self> {
        let read = faults.keep("acme_directory", read(url));
        let authority = match authority {
            Some(text) => Some(faults.keep("acme_authority", certificates(text))?),
            None => None,
        };
        let address = read?;
        Some(Directory {
            url: url.to_owned(),
            address,
            authority,
        })
    }

    /// The URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it is, if the URL says so by an address.
    pub fn address(&self) -> Option<SocketAddrV4> {
        self.address
    }

    /// Certificates that its own is checked by, PEM; `None`: those of the web.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }
}

fn read(text: &str) -> Result<Option<SocketAddrV4>, &'static str> {
    // Caddy puts something else in place of what is in braces.
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'{' | b'}' | b'"' | b'\\' | b'<' | b'>');
    let wrong = "must be an https URL of at most 512 bytes, without a user name, e.g. \"https://ca.example.org/acme/directory\"";
    if text.len() > URL_MAX || !text.bytes().all(plain) {
        return Err(wrong);
    }
    let url = Url::parse(text).map_err(|_| wrong)?;
    let is_bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if url.scheme() != "https" || !is_bare {
        return Err(wrong);
    }
    let port = url.port_or_known_default().unwrap_or(443);
    match url.host().ok_or(wrong)? {
        Host::Domain(_) => Ok(None),
        Host::Ipv4(ip) => {
            let at = SocketAddrV4::new(ip, port);
            can_be_reached(at)?;
            Ok(Some(at))
        }
        Host::Ipv6(_) => Err("must name a host or an IPv4 address: containers have no IPv6"),
    }
}

/// Certificates in PEM and nothing else (RFC 7468), one after the other. What is in them is Caddy's to read.
fn certificates(text: &str) -> Result<String, &'static str> {
    let wrong = "must be 1-8 certificates in PEM, of at most 16 KiB, and nothing else";
    if text.len() > AUTHORITY_MAX {
        return Err(wrong);
    }
    let (mut rest, mut whole, mut count) = (text.trim(), String::new(), 0);
    while !rest.is_empty() {
        let (body, after) = rest
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.split_once(END))
            .ok_or(wrong)?;
        let packed: String = body.split_ascii_whitespace().collect();
        let der = STANDARD.decode(&packed).map_err(|_| wrong)?;
        // A sequence, as every certificate is.
        if der.first() != Some(&0x30) {
            return Err(wrong);
        }
        whole.extend([BEGIN, body.trim_end(), "\n", END, "\n"]);
        rest = after.trim_start();
        count += 1;
    }
    if (1..=8).contains(&count) {
        Ok(whole)
    } else {
        Err(wrong)
    }
}
