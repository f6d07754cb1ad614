//! Remote catalogs: an index that somebody else signs and serves over HTTPS. Here is what of it counts; who fetches it is elsewhere.
//!
//! The index is refused as a whole where its signature, its form or its number is not right. What it names lies beside it under the digest of
//! its bytes, so that a catalog can be published file by file without a moment at which it is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use cell_manifest::{Digest, Key, Manifest, Purpose, parse_json};
use serde::Deserialize;

use super::catalog::{INDEX_MAX_BYTES, InvalidIndex, Line, digest_of, plain};
use super::images::{self, ImageSignature};

/// Most remote catalogs.
pub const CATALOGS_MAX: usize = 16;
/// Most services of one.
pub const SERVICES_MAX: usize = 256;
/// Most keys of one.
pub const KEYS_MAX: usize = 8;
/// Longest text of keys or of authorities, bytes.
pub const PEM_MAX_BYTES: usize = 32 * 1024;
/// Longest signature file, bytes.
pub const SIGNATURE_MAX_BYTES: usize = super::catalog::SIGNATURE_MAX_BYTES;
/// Longest address, bytes.
pub const URL_MAX_BYTES: usize = 512;
/// The schema of a signed index.
pub const SCHEMA: u32 = 2;
/// How far before its own date an index may be taken, seconds: clocks differ.
const CLOCK_LEEWAY_S: i64 = 24 * 3600;
/// The latest date, seconds since 1970-01-01T00:00:00Z: the end of the year 9999.
const LATEST_S: i64 = 253_402_300_799;

/// Where a catalog lies: `https://`, a host, a port and a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogUrl {
    host: String,
    port: u16,
    /// Begins and ends with a slash.
    folder: String,
}

/// Text that is no [`CatalogUrl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Longer than [`URL_MAX_BYTES`].
    #[error("is longer than {URL_MAX_BYTES} bytes")]
    TooLong,
    /// Not an address at all.
    #[error("is no address: write https://HOST/FOLDER/")]
    NoUrl,
    /// Another scheme.
    #[error(
        "begins with https://: what is fetched otherwise can be held back or replaced by whoever is on the way"
    )]
    NotHttps,
    /// A name or a password in it.
    #[error("has no user or password in it")]
    User,
    /// `?` or `#`.
    #[error("has no query and no fragment: it is the folder that index.json lies in")]
    Query,
    /// No usable host.
    #[error("has a name of a host, or an address of one")]
    Host,
}

impl CatalogUrl {
    /// Reads an address. One that ends with `index.json` means its folder.
    ///
    /// # Errors
    /// [`InvalidUrl`].
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let text = text.trim();
        if text.len() > URL_MAX_BYTES {
            return Err(InvalidUrl::TooLong);
        }
        let url = url::Url::parse(text).map_err(|_| InvalidUrl::NoUrl)?;
        if url.scheme() != "https" {
            return Err(InvalidUrl::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidUrl::User);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidUrl::Query);
        }
        let host = match url.host() {
            Some(url::Host::Domain(name)) if is_host(name) => name.trim_end_matches('.').to_owned(),
            Some(url::Host::Ipv4(ip)) => ip.to_string(),
            Some(url::Host::Ipv6(ip)) => ip.to_string(),
            Some(url::Host::Domain(_)) | None => return Err(InvalidUrl::Host),
        };
        let port = url.port().unwrap_or(443);
        let path = url.path();
        let folder = path.strip_suffix("index.json").unwrap_or(path);
        let folder = format!("{}/", folder.trim_end_matches('/'));
        if port == 0 || !folder.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidUrl::NoUrl);
        }
        Ok(CatalogUrl { host, port, folder })
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host, where it is an address.
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As HTTP's field `Host` has it.
    pub fn authority(&self) -> String {
        let host = match self.address() {
            Some(IpAddr::V6(ip)) => format!("[{ip}]"),
            Some(IpAddr::V4(_)) | None => self.host.clone(),
        };
        match self.port {
            443 => host,
            port => format!("{host}:{port}"),
        }
    }

    /// The path of a file of it.
    pub fn path(&self, file: &str) -> String {
        format!("{}{file}", self.folder)
    }
}

/// Written out: the folder, with its slash.
impl fmt::Display for CatalogUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority(), self.folder)
    }
}

fn is_host(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(is_label)
}

/// The file of the index.
pub const INDEX_FILE: &str = "index.json";
/// Its signature.
pub const INDEX_SIGNATURE_FILE: &str = "index.json.sig";

/// Where the manifest of a digest lies, below the catalog's folder.
pub fn manifest_file(digest: &Digest) -> String {
    let hash = digest.as_str().trim_start_matches("sha256:");
    format!("manifests/{hash}.json")
}

/// Where its signature lies.
pub fn signature_file(digest: &Digest) -> String {
    format!("{}.sig", manifest_file(digest))
}

/// Public keys that may sign an index, as their text has them one after the other.
///
/// # Errors
/// What is wrong, for people.
pub fn keys(texts: &[String]) -> Result<Vec<Key>, String> {
    if texts.iter().map(String::len).sum::<usize>() > PEM_MAX_BYTES {
        return Err(format!("are at most {PEM_MAX_BYTES} bytes"));
    }
    let blocks: Vec<String> = texts.iter().flat_map(|text| blocks(text)).collect();
    if !(1..=KEYS_MAX).contains(&blocks.len()) {
        return Err(format!(
            "are 1 to {KEYS_MAX} public keys in PEM, as cosign.pub has one"
        ));
    }
    let read = blocks.iter().map(|pem| Key::from_pem(pem));
    read.collect::<Result<_, _>>()
        .map_err(|why| format!("each {why}"))
}

/// PEM blocks of a text; what is no whole block is one by itself, and none.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find("-----END ").and_then(|at| {
            let after = at + "-----END ".len();
            rest[after..].find("-----").map(|dashes| after + dashes + 5)
        });
        let (block, after) = rest.split_at(end.unwrap_or(rest.len()));
        blocks.push(block.trim().to_owned());
        rest = after.trim();
    }
    blocks
}

/// A signed index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteIndex {
    /// Grows with each index of this catalog.
    pub serial: u64,
    /// When it was made, seconds since 1970-01-01T00:00:00Z.
    pub issued_s: i64,
    /// Until when it counts, seconds since 1970-01-01T00:00:00Z.
    pub expires_s: i64,
    /// In the order of ids, each once.
    pub lines: Vec<Line>,
    /// Lines that are left out, with why.
    pub faults: Vec<String>,
    /// Of its bytes.
    pub digest: Digest,
}

/// The number of the index that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// See [`RemoteIndex::serial`].
    pub serial: u64,
    /// See [`RemoteIndex::digest`].
    pub digest: String,
}

/// Why an index is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// By none of the catalog's keys.
    #[error(
        "the index is not signed by a key of this catalog (index.json.sig, as cosign sign-blob writes it)"
    )]
    Signature,
    /// Signed, and wrong.
    #[error("{0}")]
    Index(#[from] InvalidIndex),
    /// Older than the one that is kept.
    #[error(
        "the server gives an older index than before (serial {found}, {kept} is kept): somebody holds newer ones back, or the \
         catalog was put back; what was fetched stays"
    )]
    Rollback {
        /// Its number.
        found: u64,
        /// The number of the one that is kept.
        kept: u64,
    },
    /// Another of the same number.
    #[error(
        "the server gives another index of the same serial ({0}): whoever publishes it must raise the serial"
    )]
    SameSerial(u64),
    /// Made in the future.
    #[error(
        "the index is dated more than a day in the future: see whether the clock of this machine is right"
    )]
    Future,
    /// It has ended.
    #[error(
        "the index has expired: whoever publishes the catalog has not renewed it, or somebody holds newer ones back"
    )]
    Expired,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenIndex {
    schema_version: u32,
    serial: u64,
    issued_unix_s: i64,
    expires_unix_s: i64,
    services: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLine {
    id: String,
    title: String,
    #[serde(default)]
    description: String,
    version: String,
    digest: String,
    #[serde(default)]
    images: Vec<ImageSignature>,
}

impl RemoteIndex {
    /// Judges bytes that came from elsewhere: the signature first, over exactly the bytes that are then read.
    ///
    /// # Errors
    /// [`Refused`]. Of an index that nobody signed nothing is read.
    pub fn open(bytes: &[u8], signature: &[u8], keys: &[Key]) -> Result<Self, Refused> {
        let text = std::str::from_utf8(signature).unwrap_or_default();
        if bytes.len() > INDEX_MAX_BYTES || text.len() > SIGNATURE_MAX_BYTES {
            return Err(Refused::Signature);
        }
        if !keys.iter().any(|key| key.verifies(bytes, text)) {
            return Err(Refused::Signature);
        }
        Ok(Self::parse(bytes)?)
    }

    /// Reads an index that was verified before.
    ///
    /// # Errors
    /// [`InvalidIndex`] when nothing of it can be used; what is wrong with single lines is in [`RemoteIndex::faults`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidIndex> {
        let wrong = |words: &str| InvalidIndex(words.to_owned());
        let value = parse_json(bytes, INDEX_MAX_BYTES).map_err(|why| InvalidIndex(why.to_string()))?;
        let written: WrittenIndex =
            serde_json::from_value(value).map_err(|error| InvalidIndex(plain(&error.to_string())))?;
        let WrittenIndex {
            schema_version,
            serial,
            issued_unix_s: issued_s,
            expires_unix_s: expires_s,
            services,
        } = written;
        if schema_version != SCHEMA {
            return Err(wrong("has a schema_version other than 2"));
        }
        // SQLite has signed numbers.
        if !(1..=i64::MAX.unsigned_abs()).contains(&serial) {
            return Err(wrong("has a serial from 1 on"));
        }
        if !(0..=LATEST_S).contains(&issued_s) || !(issued_s + 1..=LATEST_S).contains(&expires_s) {
            return Err(wrong("has no sound dates: it ends after it was made"));
        }
        if services.len() > SERVICES_MAX {
            return Err(InvalidIndex(format!("has more than {SERVICES_MAX} services")));
        }
        let mut index = RemoteIndex {
            serial,
            issued_s,
            expires_s,
            lines: Vec::new(),
            faults: Vec::new(),
            digest: digest_of(bytes),
        };
        for (place, value) in services.into_iter().enumerate() {
            match line(value) {
                Ok(line) if index.lines.iter().any(|known| known.id == line.id) => {
                    let fault = format!("services[{place}]: {} is there twice", line.id);
                    index.faults.push(fault);
                }
                Ok(line) => index.lines.push(line),
                Err(fault) => index.faults.push(format!("services[{place}]: {fault}")),
            }
        }
        index.lines.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(index)
    }

    /// Whether it may stand in the place of the one that is kept, at `now_s` (seconds since 1970-01-01T00:00:00Z). False: it is that one.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn replaces(&self, kept: Option<&Kept>, now_s: i64) -> Result<bool, Refused> {
        if let Some(kept) = kept {
            if self.serial < kept.serial {
                return Err(Refused::Rollback {
                    found: self.serial,
                    kept: kept.serial,
                });
            }
            if self.serial == kept.serial {
                return match kept.digest == self.digest.as_str() {
                    true => Ok(false),
                    false => Err(Refused::SameSerial(self.serial)),
                };
            }
        }
        if self.issued_s > now_s.saturating_add(CLOCK_LEEWAY_S) {
            return Err(Refused::Future);
        }
        if self.is_expired(now_s) {
            return Err(Refused::Expired);
        }
        Ok(true)
    }

    /// Whether it has ended at `now_s`.
    pub fn is_expired(&self, now_s: i64) -> bool {
        self.expires_s <= now_s
    }
}

fn line(value: serde_json::Value) -> Result<Line, String> {
    let written: WrittenLine = serde_json::from_value(value).map_err(|error| plain(&error.to_string()))?;
    images::check(&written.images)?;
    Ok(Line {
        images: written.images,
        id: cell_manifest::Name::try_from(written.id.as_str()).map_err(|fault| format!("id {fault}"))?,
        digest: Digest::try_from(written.digest.as_str()).map_err(|fault| format!("digest {fault}"))?,
        title: plain(&written.title),
        description: plain(&written.description),
        version: plain(&written.version),
    })
}

/// Why a manifest is none that a remote catalog may have.
///
/// # Errors
/// Why, for people.
pub fn may_offer(manifest: &Manifest) -> Result<(), Vec<String>> {
    match manifest.purpose {
        Purpose::Store => Ok(()),
        // They are the cell's own containers, which it installs by itself.
        Purpose::Core => Err(vec![
            "a remote catalog has services of the store alone: this one is part of a cell".to_owned(),
        ]),
    }
}

/// Which catalog's service of each id counts: what came with the cell before all others, then the catalog that was added first.
/// `remotes` are in that order.
///
/// The ids that count, by catalog, and what is told of those that do not.
pub fn merge<'a>(
    shipped: impl IntoIterator<Item = &'a str>,
    remotes: &[(&'a str, Vec<&'a str>)],
) -> (BTreeMap<&'a str, BTreeSet<&'a str>>, Vec<String>) {
    let mut taken: BTreeMap<&str, Option<&str>> = shipped.into_iter().map(|id| (id, None)).collect();
    let (mut counts, mut faults) = (BTreeMap::<_, BTreeSet<_>>::new(), Vec::new());
    for (name, ids) in remotes {
        for id in ids {
            match taken.get(id) {
                None => {
                    taken.insert(id, Some(name));
                    counts.entry(*name).or_default().insert(*id);
                }
                Some(None) => faults.push(format!(
                    "the catalog {name} has {id}, which came with the cell: the cell's own is what can be installed"
                )),
                Some(Some(first)) => faults.push(format!(
                    "the catalogs {first} and {name} both have {id}: that of {first}, which was added first, is what can be installed"
                )),
            }
        }
    }
    (counts, faults)
}

#[cfg(test)]
#[path = "remote/tests.rs"]
mod tests;
