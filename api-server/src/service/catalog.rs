//! The catalog, as it lies in its folder now. Whoever writes it is root; it is read bounded and judged all the same.

use std::io::{self, Read as _};
use std::path::Path;

use cell_api_core::services::catalog::{self, INDEX_MAX_BYTES, Index, Line, Offer, SIGNATURE_MAX_BYTES};
use cell_api_core::services::form::{self, FormField};
use cell_api_core::services::remote;
use cell_manifest::{Key, MANIFEST_MAX_BYTES, Purpose};

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
    /// The remote catalog that it is of; none: the folder of this machine.
    pub origin: Option<String>,
    /// Whether the broker takes its signature; none: not asked, or the broker did not say.
    pub deployable: Option<Deployable>,
}

/// Whether the broker's ceiling takes a manifest's signature. Who refuses is the broker; this is what it says beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deployable {
    /// It does.
    Yes,
    /// It does not, and what to do.
    No {
        /// For people.
        fix: String,
    },
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
    /// Whether its containers have a way out of their network.
    pub has_way_out: bool,
    /// Types of connections that may carry it.
    pub exit_types: Vec<&'static str>,
    /// The type that carries it where nobody chooses.
    pub default_exit_type: Option<String>,
    /// What can be set.
    pub form: Vec<FormField>,
    /// Names of services that are installed of it.
    pub installed: Vec<String>,
    /// Why it cannot be installed.
    pub faults: Vec<String>,
    /// See [`Item::origin`].
    pub origin: Option<String>,
    /// See [`Item::deployable`].
    pub deployable: Option<bool>,
    /// What makes it deployable, where it is not.
    pub deployable_fix: Option<String>,
}

impl Item {
    /// In words, with what is installed of it.
    pub fn shown(self, installed: &[View]) -> Shown {
        let Item {
            line,
            offer,
            origin,
            deployable,
        } = self;
        let (deployable, deployable_fix) = match deployable {
            None => (None, None),
            Some(Deployable::Yes) => (Some(true), None),
            Some(Deployable::No { fix }) => (Some(false), Some(fix)),
        };
        let of_it = installed.iter().filter(|view| view.manifest.id == line.id);
        let installed = of_it.map(|view| view.service.name.to_string()).collect();
        let manifest = offer.as_ref().ok().map(|offer| &offer.manifest);
        let requires = manifest.into_iter().flat_map(|manifest| &manifest.requires);
        Shown {
            purpose: manifest.map(|manifest| purpose(manifest.purpose)),
            instanceable: manifest.is_some_and(|manifest| manifest.instanceable),
            requires: requires.map(ToString::to_string).collect(),
            has_way_out: manifest.is_some_and(|manifest| manifest.has_way_out()),
            exit_types: manifest.map(|manifest| manifest.exits()).unwrap_or_default(),
            default_exit_type: manifest
                .and_then(|manifest| manifest.default_exit())
                .map(str::to_owned),
            form: manifest.map(form::form).unwrap_or_default(),
            faults: offer.err().unwrap_or_default(),
            installed,
            line,
            origin,
            deployable,
            deployable_fix,
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

/// Reads all of it: what lies in the folder of this machine, and what remote catalogs have beside it. A cell without a catalog has an empty one.
///
/// # Errors
/// [`ServiceError::NoCatalog`], [`ServiceError::Storage`].
pub async fn read(app: &App) -> Result<Catalog, ServiceError> {
    let mut catalog = shipped(app).await?;
    let held = app.remote.held(app).await?;
    let (now_s, mut items, mut told) = (app.now() / 1000, Vec::new(), Vec::new());
    let ids: Vec<(&str, Vec<&str>)> = held
        .iter()
        .map(|held| {
            let ids = held.items.iter().map(|item| item.line.id.as_str());
            (held.name.as_str(), ids.collect())
        })
        .collect();
    let own = catalog.items.iter().map(|item| item.line.id.as_str());
    let (counts, clashes) = remote::merge(own, &ids);
    for held in held.iter() {
        let name = &held.name;
        told.extend(
            held.faults
                .iter()
                .map(|fault| format!("the catalog {name}: {fault}")),
        );
        if held.expires_s <= now_s {
            told.push(format!(
                "the catalog {name} has expired: whoever publishes it has not renewed it, or somebody holds newer ones back"
            ));
        }
        let counting = counts.get(name.as_str());
        let counts = |item: &&Item| counting.is_some_and(|ids| ids.contains(item.line.id.as_str()));
        items.extend(held.items.iter().filter(counts).cloned());
    }
    catalog.items.extend(items);
    catalog.items.sort_by(|a, b| a.line.id.cmp(&b.line.id));
    catalog.faults.extend(clashes);
    catalog.faults.extend(told);
    Ok(catalog)
}

/// Says of each item with a signature whether the broker takes it. Without the broker nothing is said.
///
/// # Errors
/// [`ServiceError::Storage`].
pub async fn judge(app: &App, catalog: &mut Catalog) -> Result<(), ServiceError> {
    let is_signed = |item: &Item| item.offer.as_ref().is_ok_and(|offer| !offer.signature.is_empty());
    if !catalog.items.iter().any(is_signed) {
        return Ok(());
    }
    let keys = match app.deployments.manifest_keys().await {
        Ok(pem) => Ok(pem
            .iter()
            .filter_map(|pem| Key::from_pem(pem).ok())
            .collect::<Vec<_>>()),
        Err(fault) if fault.code() == "NO_CEILING" => Err(()),
        Err(_) => return Ok(()),
    };
    let held = app.remote.held(app).await?;
    for item in &mut catalog.items {
        let Ok(offer) = &item.offer else { continue };
        if offer.signature.is_empty() {
            continue;
        }
        let signs = |key: &&Key| key.verifies(&offer.bytes, &offer.signature);
        item.deployable = Some(match &keys {
            Ok(keys) if keys.iter().any(|key| signs(&key)) => Deployable::Yes,
            Ok(_) => {
                let of = held.iter().find(|held| Some(&held.name) == item.origin.as_ref());
                let key = of.and_then(|held| held.keys.iter().find(signs));
                Deployable::No { fix: fix(key) }
            }
            Err(()) => Deployable::No {
                fix: "broker.toml has no table [deploy], so nothing is deployed: see docs/runtime.md"
                    .to_owned(),
            },
        });
    }
    Ok(())
}

/// What makes the broker take what `key` signed.
fn fix(key: Option<&Key>) -> String {
    match key {
        Some(key) => format!(
            "the broker takes nothing that this key signed, and only root can change that: in [deploy] of /etc/cell/broker.toml \
             have manifest_keys = [\"{}\"] (beside those that are there), and start cell-broker anew",
            key.to_pem().trim().replace('\n', "\\n")
        ),
        None => "it is signed by a key that neither the broker nor its catalog knows: ask whoever publishes it for the key \
                 (cosign.pub), and root to put it into manifest_keys in [deploy] of /etc/cell/broker.toml"
            .to_owned(),
    }
}

async fn shipped(app: &App) -> Result<Catalog, ServiceError> {
    let folder = app.config.catalog.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let Index { lines, faults } = index(&folder)?;
        let items = lines.into_iter().map(|line| Item {
            offer: offer(&folder, &line),
            line,
            origin: None,
            deployable: None,
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
    let (folder, wanted) = (app.config.catalog.clone(), id.to_owned());
    let reading = tokio::task::spawn_blocking(move || {
        let lines = index(&folder)?.lines;
        let line = lines.into_iter().find(|line| line.id.as_str() == wanted);
        let found = line.map(|line| offer(&folder, &line).map_err(ServiceError::CatalogFault));
        found.transpose()
    });
    if let Some(offer) = reading.await.unwrap_or_else(|_| Err(cut_off()))? {
        return Ok(offer);
    }
    let held = app.remote.held(app).await?;
    let items = held.iter().flat_map(|held| &held.items);
    let item = items.into_iter().find(|item| item.line.id.as_str() == id);
    let offer = item.ok_or(ServiceError::NotInCatalog)?.offer.clone();
    offer.map_err(ServiceError::CatalogFault)
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
