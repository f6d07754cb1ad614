//! The catalog's index, made from its manifests: `compose/catalog/index.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use cell_manifest::{Digest, Manifest};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

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
}

/// The text of the index of all manifests below `catalog`, by id; the cell's own containers too.
///
/// # Errors
/// A manifest that is not right, named with all its faults, or that lies in a folder of another name.
pub fn index(catalog: &Path) -> Result<String> {
    let mut services = Vec::new();
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
        services.push(Entry {
            id: name.clone(),
            title: manifest.title.clone(),
            description: manifest.description.clone(),
            version: manifest.version.clone(),
            manifest: format!("{name}/manifest.json"),
            digest: Digest::of_sha256(Sha256::digest(&bytes).into()).to_string(),
        });
    }
    services.sort_by(|a, b| a.id.cmp(&b.id));
    let index = Index {
        schema_version: 1,
        services,
    };
    Ok(serde_json::to_string_pretty(&index)? + "\n")
}
