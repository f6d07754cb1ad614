//! The catalog: an index of services, each with a manifest beside it. A fault of one service is told with it, and the others stand.

use cell_manifest::{Digest, Manifest, Name, parse_json};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::images::{self, ImageSignature};

/// Longest index, bytes.
pub const INDEX_MAX_BYTES: usize = 256 * 1024;
/// Most services of a catalog.
pub const MOST: usize = 512;

/// One line of the index. Its id is a name, so that its path leads nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The id.
    pub id: Name,
    /// For people.
    pub title: String,
    /// For people.
    pub description: String,
    /// For people, and for order.
    pub version: String,
    /// What the manifest's bytes have to be.
    pub digest: Digest,
    /// Of its images.
    pub images: Vec<ImageSignature>,
}

/// What the index says, and what of it cannot be used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// In the order of ids, each once.
    pub lines: Vec<Line>,
    /// Lines that are left out, with why.
    pub faults: Vec<String>,
}

/// A manifest as the catalog offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Exactly the bytes that the broker is given.
    pub bytes: Vec<u8>,
    /// Of these.
    pub digest: Digest,
    /// Base64 of a signature over them; empty where the catalog has none: the broker knows the bytes, or refuses them.
    pub signature: String,
    /// Signatures of its images.
    pub images: Vec<ImageSignature>,
    /// What they say.
    pub manifest: Manifest,
}

/// An index that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the catalog's index.json {0}")]
pub struct InvalidIndex(pub(super) String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenIndex {
    schema_version: u32,
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
    manifest: String,
    digest: String,
    #[serde(default)]
    images: Vec<ImageSignature>,
}

/// Where the manifest of an id lies, below the catalog's folder.
pub fn manifest_path(id: &Name) -> String {
    format!("{id}/manifest.json")
}

/// Where its signature lies, if it has one.
pub fn signature_path(id: &Name) -> String {
    format!("{id}/manifest.json.sig")
}

/// Reads an index.
///
/// # Errors
/// [`InvalidIndex`] when nothing of it can be used; what is wrong with single lines is in [`Index::faults`].
pub fn index(bytes: &[u8]) -> Result<Index, InvalidIndex> {
    let value =
        parse_json(bytes, INDEX_MAX_BYTES).map_err(|malformed| InvalidIndex(malformed.to_string()))?;
    let written: WrittenIndex =
        serde_json::from_value(value).map_err(|error| InvalidIndex(plain(&error.to_string())))?;
    if written.schema_version != 1 {
        return Err(InvalidIndex("has a schema_version other than 1".to_owned()));
    }
    if written.services.len() > MOST {
        return Err(InvalidIndex(format!("has more than {MOST} services")));
    }
    let mut index = Index::default();
    for (place, value) in written.services.into_iter().enumerate() {
        match line(value) {
            Ok(line) if index.lines.iter().any(|known| known.id == line.id) => {
                index
                    .faults
                    .push(format!("services[{place}]: {} is there twice", line.id));
            }
            Ok(line) => index.lines.push(line),
            Err(fault) => index.faults.push(format!("services[{place}]: {fault}")),
        }
    }
    index.lines.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(index)
}

fn line(value: serde_json::Value) -> Result<Line, String> {
    let written: WrittenLine = serde_json::from_value(value).map_err(|error| plain(&error.to_string()))?;
    let id = Name::try_from(written.id.as_str()).map_err(|fault| format!("id {fault}"))?;
    if written.manifest != manifest_path(&id) {
        return Err(format!("manifest must be {}", manifest_path(&id)));
    }
    images::check(&written.images)?;
    Ok(Line {
        images: written.images,
        digest: Digest::try_from(written.digest.as_str()).map_err(|fault| format!("digest {fault}"))?,
        title: plain(&written.title),
        description: plain(&written.description),
        version: plain(&written.version),
        id,
    })
}

/// Longest signature, bytes.
pub const SIGNATURE_MAX_BYTES: usize = 256;

/// Judges the bytes that lie where a line says, and the signature beside them, if there is one.
///
/// # Errors
/// Every fault, for people.
pub fn offer(line: &Line, bytes: Vec<u8>, signature: Option<&[u8]>) -> Result<Offer, Vec<String>> {
    let signature = signature_of(signature.unwrap_or_default())?;
    let digest = digest_of(&bytes);
    if digest != line.digest {
        return Err(vec![format!(
            "the manifest is another than the index says ({digest} instead of {})",
            line.digest
        )]);
    }
    let manifest = Manifest::parse(&bytes)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    if manifest.id != line.id {
        return Err(vec![format!("the manifest is of {}", manifest.id)]);
    }
    Ok(Offer {
        bytes,
        digest,
        signature,
        images: line.images.clone(),
        manifest,
    })
}

/// Base64 on one line; what it signs is for the broker to say.
pub(super) fn signature_of(bytes: &[u8]) -> Result<String, Vec<String>> {
    let text = bytes.trim_ascii();
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    match std::str::from_utf8(text) {
        Ok(text) if text.len() <= SIGNATURE_MAX_BYTES && text.bytes().all(|b| plain(&b)) => {
            Ok(text.to_owned())
        }
        Ok(_) | Err(_) => Err(vec!["the signature is no line of base64".to_owned()]),
    }
}

/// The digest of bytes.
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::of_sha256(Sha256::digest(bytes).into())
}

/// Text of somebody else's, for people: bounded, without control characters.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(1_000).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn manifest(id: &str) -> Vec<u8> {
        let container = json!({"name": "main", "image": format!("reg.example/a@sha256:{}", "0f".repeat(32)),
            "user": "1000:1000", "limits": {"memory_mib": 32, "cpu_milli": 100, "pids": 16}});
        let whole = json!({"schema_version": 3, "kind": "store", "id": id, "name": "A", "version": "1",
            "containers": [container]});
        serde_json::to_vec(&whole).unwrap()
    }

    fn entry(id: &str, bytes: &[u8]) -> Value {
        json!({"id": id, "title": "A", "description": "", "version": "1",
            "manifest": format!("{id}/manifest.json"), "digest": digest_of(bytes).as_str()})
    }

    fn read(services: &[Value]) -> Index {
        index(&serde_json::to_vec(&json!({"schema_version": 1, "services": services})).unwrap()).unwrap()
    }

    #[test]
    fn a_fault_of_one_leaves_the_others() {
        let mut elsewhere = entry("b", b"");
        elsewhere["manifest"] = json!("../../etc/shadow");
        let mut unknown = entry("c", b"");
        unknown["more"] = json!(1);
        let bytes = manifest("a");
        let found = read(&[
            entry("z", b""),
            elsewhere,
            unknown,
            entry("a", &bytes),
            entry("a", b""),
        ]);
        let ids: Vec<&str> = found.lines.iter().map(|line| line.id.as_str()).collect();
        assert_eq!(
            (ids.as_slice(), found.faults.len()),
            (&["a", "z"][..], 3),
            "{found:?}"
        );
        assert_eq!(
            offer(&found.lines[0], bytes.clone(), None)
                .unwrap()
                .manifest
                .id
                .as_str(),
            "a"
        );
    }

    #[test]
    fn a_changed_byte_and_somebody_elses_manifest_are_refused() {
        let bytes = manifest("a");
        let found = read(&[entry("a", &bytes), entry("b", &bytes)]);
        let mut changed = bytes.clone();
        changed.push(b' ');
        let fault = offer(&found.lines[0], changed, None).unwrap_err();
        assert!(fault[0].contains("another than the index says"), "{fault:?}");
        assert_eq!(
            offer(&found.lines[1], bytes.clone(), None).unwrap_err(),
            ["the manifest is of a"]
        );
        let none = read(&[entry("c", b"{}")]);
        assert!(
            !offer(&none.lines[0], b"{}".to_vec(), None)
                .unwrap_err()
                .is_empty()
        );
        let signed = offer(&found.lines[0], bytes.clone(), Some(b"MEUCIQ==\n")).unwrap();
        assert_eq!(signed.signature, "MEUCIQ==");
        for bad in [&b"a b"[..], b"\xff", &[b'a'; 257]] {
            assert!(offer(&found.lines[0], bytes.clone(), Some(bad)).is_err());
        }
        assert!(offer(&found.lines[0], bytes, None).is_ok(), "the control");
    }

    #[test]
    fn what_is_no_index_is_told() {
        for bad in [
            &b""[..],
            b"[]",
            b"{\"schema_version\":2,\"services\":[]}",
            b"{\"services\":[]}",
        ] {
            assert!(index(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_ends_it(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            drop(index(&bytes));
        }
    }
}
