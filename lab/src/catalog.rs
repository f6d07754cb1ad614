//! The catalog's index, made from its manifests: `compose/catalog/index.json`; and the same signed, as others fetch it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cell_api_core::services::images::{self, ImageSignature};
use cell_api_core::services::remote;
use cell_manifest::{Digest, Manifest, Purpose};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::DecodePrivateKey as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// Beside a manifest, OPTIONAL: signatures of its images, a list in JSON of each cosign payload and its signature.
const IMAGES_FILE: &str = "images.json";

/// The index.
#[derive(Serialize)]
struct Index {
    schema_version: u32,
    services: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    id: String,
    title: String,
    description: String,
    version: String,
    /// Of the file, below the index.
    manifest: String,
    /// Of exactly the file's bytes.
    digest: String,
    /// Signatures of its images, as [`IMAGES_FILE`] has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<ImageSignature>,
}

/// The text of the index of all manifests below `catalog`, by id; the cell's own containers too.
///
/// # Errors
/// A manifest that is not right, named with all its faults, or that lies in a folder of another name.
pub fn index(catalog: &Path) -> Result<String> {
    let entry = |(bytes, manifest): (Vec<u8>, Manifest)| {
        Ok(Entry {
            images: images(catalog, &manifest)?,
            manifest: format!("{}/manifest.json", manifest.id),
            id: manifest.id.to_string(),
            title: manifest.title.clone(),
            description: manifest.description.clone(),
            version: manifest.version.clone(),
            digest: digest(&bytes).to_string(),
        })
    };
    let index = Index {
        schema_version: 1,
        services: manifests(catalog)?
            .into_iter()
            .map(entry)
            .collect::<Result<_>>()?,
    };
    Ok(serde_json::to_string_pretty(&index)? + "\n")
}

/// The signed index of a remote catalog.
#[derive(Serialize)]
struct SignedIndex {
    schema_version: u32,
    serial: u64,
    issued_unix_s: i64,
    expires_unix_s: i64,
    services: Vec<SignedEntry>,
}

#[derive(Serialize)]
struct SignedEntry {
    id: String,
    title: String,
    description: String,
    version: String,
    digest: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<ImageSignature>,
}

/// What an index says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Edition {
    /// Greater than that of each index before.
    pub serial: u64,
    /// When it is made, seconds since 1970-01-01T00:00:00Z.
    pub issued_s: i64,
    /// Until when it counts, seconds since 1970-01-01T00:00:00Z.
    pub expires_s: i64,
}

/// A key that signs, as `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` writes it (PKCS #8 in PEM).
///
/// # Errors
/// Text that is no such key.
pub fn signing_key(pem: &str) -> Result<SigningKey> {
    SigningKey::from_pkcs8_pem(pem.trim()).map_err(|_| {
        anyhow::anyhow!("it is no private key of ECDSA on P-256 in PEM (PKCS #8, not encrypted)")
    })
}

/// Writes a catalog that others can fetch into `out`: the services of the store below `catalog`, each under its digest with its
/// signature, and last the signed index, so that whoever fetches meanwhile has the former one whole.
///
/// # Errors
/// A manifest that is not right, or a file that cannot be written.
pub fn publish(catalog: &Path, key: &SigningKey, edition: Edition, out: &Path) -> Result<()> {
    let mut services = Vec::new();
    fs::create_dir_all(out.join("manifests"))?;
    for (bytes, manifest) in manifests(catalog)? {
        if manifest.purpose != Purpose::Store {
            continue;
        }
        let digest = digest(&bytes);
        replace(&out.join(remote::manifest_file(&digest)), &bytes)?;
        replace(&out.join(remote::signature_file(&digest)), &sign(key, &bytes))?;
        services.push(SignedEntry {
            id: manifest.id.to_string(),
            title: manifest.title.clone(),
            description: manifest.description.clone(),
            version: manifest.version.clone(),
            digest: digest.to_string(),
            images: images(catalog, &manifest)?,
        });
    }
    let index = SignedIndex {
        schema_version: remote::SCHEMA,
        serial: edition.serial,
        issued_unix_s: edition.issued_s,
        expires_unix_s: edition.expires_s,
        services,
    };
    let bytes = serde_json::to_vec_pretty(&index)?;
    // As whoever fetches it reads it.
    let read = remote::RemoteIndex::parse(&bytes)?;
    if let Some(fault) = read.faults.first() {
        bail!("the index would have a fault: {fault}");
    }
    replace(&out.join(remote::INDEX_SIGNATURE_FILE), &sign(key, &bytes))?;
    replace(&out.join(remote::INDEX_FILE), &bytes)
}

/// As `cosign sign-blob` writes it: base64 of DER.
pub fn sign(key: &SigningKey, bytes: &[u8]) -> Vec<u8> {
    let signature: DerSignature = key.sign(bytes);
    STANDARD.encode(signature.as_bytes()).into_bytes()
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes)
        .and_then(|()| fs::rename(&beside, path))
        .with_context(|| path.display().to_string())
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::of_sha256(Sha256::digest(bytes).into())
}

/// The signatures of a manifest's images; none where there is no such file.
fn images(catalog: &Path, manifest: &Manifest) -> Result<Vec<ImageSignature>> {
    let name = format!("{}/{IMAGES_FILE}", manifest.id);
    let text = match fs::read(catalog.join(&name)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(name),
    };
    let signatures: Vec<ImageSignature> = serde_json::from_slice(&text).with_context(|| name.clone())?;
    if let Err(why) = images::check(&signatures) {
        bail!("{name}: {why}");
    }
    Ok(signatures)
}

/// All manifests below a folder, by id.
fn manifests(catalog: &Path) -> Result<Vec<(Vec<u8>, Manifest)>> {
    let mut all = Vec::new();
    for folder in fs::read_dir(catalog)? {
        let folder = folder?;
        if !folder.file_type()?.is_dir() {
            continue;
        }
        let name = folder.file_name().to_string_lossy().into_owned();
        let bytes =
            fs::read(folder.path().join("manifest.json")).with_context(|| format!("{name}/manifest.json"))?;
        let manifest = Manifest::parse(&bytes).with_context(|| format!("{name}/manifest.json"))?;
        if manifest.id.as_str() != name {
            bail!(
                "{name}/manifest.json has the id {}: its folder is named so",
                manifest.id
            );
        }
        all.push((bytes, manifest));
    }
    all.sort_by(|(_, a), (_, b)| a.id.cmp(&b.id));
    Ok(all)
}
