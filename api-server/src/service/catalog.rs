//! The catalog, as it lies in its folder now. Whoever writes it is root; it is read bounded and judged all the same.

use std::io::{self, Read as _};
use std::path::Path;

use cell_api_core::services::catalog::{self, INDEX_MAX_BYTES, Index, Line, Offer, SIGNATURE_MAX_BYTES};
use cell_api_core::services::form::{self, FormField};
use cell_manifest::{MANIFEST_MAX_BYTES, Purpose};

use super::ServiceError;
use super::store::View;
use crate::app::App;

/// What the catalog has of one service.
#[derive(Debug, Clone)]
pub struct Item {
    /// What the index says.
    pub line: Line,
    /// The manifest, or what is wrong with it.
    pub offer: Result<Offer, Vec<String>>,
}

/// The catalog.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// In the order of ids.
    pub items: Vec<Item>,
    /// Lines of the index that cannot be used.
    pub faults: Vec<String>,
}

/// What people are told of one line of the catalog.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What the index says.
    pub line: Line,
    /// What it is for; none: its manifest cannot be used.
    pub purpose: Option<&'static str>,
    /// Whether there can be several.
    pub instanceable: bool,
    /// Ids of services that have to be installed before.
    pub requires: Vec<String>,
    /// What can be set.
    pub form: Vec<FormField>,
    /// Names of services that are installed of it.
    pub installed: Vec<String>,
    /// Why it cannot be installed.
    pub faults: Vec<String>,
}

impl Item {
    /// In words, with what is installed of it.
    pub fn shown(self, installed: &[View]) -> Shown {
        let Item { line, offer } = self;
        let of_it = installed.iter().filter(|view| view.manifest.id == line.id);
        let installed = of_it.map(|view| view.service.name.to_string()).collect();
        let manifest = offer.as_ref().ok().map(|offer| &offer.manifest);
        let requires = manifest.into_iter().flat_map(|manifest| &manifest.requires);
        Shown {
            purpose: manifest.map(|manifest| purpose(manifest.purpose)),
            instanceable: manifest.is_some_and(|manifest| manifest.instanceable),
            requires: requires.map(ToString::to_string).collect(),
            form: manifest.map(form::form).unwrap_or_default(),
            faults: offer.err().unwrap_or_default(),
            installed,
            line,
        }
    }
}

/// What a manifest is for, in a word.
pub fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Store => "store",
        Purpose::Core => "core",
    }
}

/// Reads all of it. A cell without a catalog has an empty one.
///
/// # Errors
/// [`ServiceError::NoCatalog`].
pub async fn read(app: &App) -> Result<Catalog, ServiceError> {
    let folder = app.config.catalog.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let Index { lines, faults } = index(&folder)?;
        let items = lines.into_iter().map(|line| {
            let offer = offer(&folder, &line);
            Item { line, offer }
        });
        Ok(Catalog {
            items: items.collect(),
            faults,
        })
    });
    reading.await.unwrap_or_else(|_| Err(cut_off()))
}

/// What it offers of one id.
///
/// # Errors
/// [`ServiceError::NotInCatalog`], [`ServiceError::CatalogFault`], [`ServiceError::NoCatalog`].
pub async fn find(app: &App, id: &str) -> Result<Offer, ServiceError> {
    let (folder, id) = (app.config.catalog.clone(), id.to_owned());
    let reading = tokio::task::spawn_blocking(move || {
        let lines = index(&folder)?.lines;
        let line = lines.into_iter().find(|line| line.id.as_str() == id);
        let line = line.ok_or(ServiceError::NotInCatalog)?;
        offer(&folder, &line).map_err(ServiceError::CatalogFault)
    });
    reading.await.unwrap_or_else(|_| Err(cut_off()))
}

fn index(folder: &Path) -> Result<Index, ServiceError> {
    let bytes = match bounded(&folder.join("index.json"), INDEX_MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Index::default()),
        Err(error) => return Err(ServiceError::NoCatalog(error.to_string())),
    };
    catalog::index(&bytes).map_err(|error| ServiceError::NoCatalog(error.to_string()))
}

fn offer(folder: &Path, line: &Line) -> Result<Offer, Vec<String>> {
    let bytes = bounded(&folder.join(catalog::manifest_path(&line.id)), MANIFEST_MAX_BYTES);
    let bytes = bytes.map_err(|error| vec![format!("the manifest cannot be read: {error}")])?;
    let signature = match bounded(
        &folder.join(catalog::signature_path(&line.id)),
        SIGNATURE_MAX_BYTES,
    ) {
        Ok(signature) => Some(signature),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(vec![format!("the signature cannot be read: {error}")]),
    };
    catalog::offer(line, bytes, signature.as_deref())
}

/// A file, and one byte more than it may have: whoever judges it says so.
fn bounded(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn cut_off() -> ServiceError {
    ServiceError::NoCatalog("the reading was cut off".to_owned())
}
