//! Secrets of services: their values go to vaultd and never come back; here are their names.

use std::collections::BTreeMap;
use std::sync::Arc;

use cell_api_core::services::phase::{NotNow, Phase};
use cell_api_core::services::secrets::{self, SecretField};
use cell_manifest::{Manifest, Name, SecretName, from_vault, vault_prefix};
use zeroize::Zeroizing;

use super::{View, get};
use crate::app::App;
use crate::events::Topic;
use crate::service::{Actor, ServiceError};
use crate::store::services::{self as table, StoredService};
use crate::store::transaction::Origin;

/// A secret as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretView {
    /// What the manifest says of it.
    pub field: SecretField,
    /// Whether vaultd has it.
    pub is_set: bool,
}

/// Secrets of a service, in the order of names.
///
/// # Errors
/// [`ServiceError::NoService`], [`ServiceError::VaultRefuses`], [`ServiceError::Unreachable`].
pub async fn list(app: &App, name: &str) -> Result<Vec<SecretView>, ServiceError> {
    let (service, manifest) = read(app, name)?;
    let fields = secrets::secrets(&manifest);
    if fields.is_empty() {
        return Ok(Vec::new());
    }
    let there = at_vault(app, &service).await?;
    let view = |field: SecretField| SecretView {
        is_set: there.contains_key(&field.name),
        field,
    };
    Ok(fields.into_iter().map(view).collect())
}

/// Gives vaultd the value of a secret; the service's containers are given it, and started anew.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoService`], [`ServiceError::ServiceNotNow`], [`ServiceError::VaultRefuses`],
/// [`ServiceError::Busy`], [`ServiceError::Unreachable`].
pub async fn set(
    app: &Arc<App>,
    actor: &Actor,
    name: &str,
    secret: &str,
    value: Zeroizing<String>,
) -> Result<View, ServiceError> {
    let (_, manifest) = read(app, name)?;
    let secret = secrets::check(&manifest, secret, &value)?;
    let service = noted(app, actor, name, &secret, "service.secret.set").await?;
    let there = at_vault(app, &service).await?;
    let version = there.get(&secret).copied().unwrap_or(0);
    let stored = in_vault(&service, &secret)?;
    app.secrets.put(stored.clone(), &value, version, 0).await?;
    drop(value);
    // It may have gone meanwhile, with all of its secrets but this.
    let is_gone = match app.store.read(|connection| table::get(connection, name)) {
        Ok(service) => matches!(service.phase, Phase::Removing(_)),
        Err(ServiceError::NoService) => true,
        Err(error) => return Err(error),
    };
    if is_gone {
        app.secrets.delete(stored, version.saturating_add(1)).await?;
        return Err(ServiceError::NoService);
    }
    ask_again(app, name);
    get(app, name).await
}

/// Removes a secret at vaultd. Containers that need it do not start any more.
///
/// # Errors
/// As [`set`].
pub async fn remove(app: &Arc<App>, actor: &Actor, name: &str, secret: &str) -> Result<View, ServiceError> {
    let (_, manifest) = read(app, name)?;
    let secret = secrets::settable(&manifest, secret)?;
    let service = noted(app, actor, name, &secret, "service.secret.remove").await?;
    if let Some(version) = at_vault(app, &service).await?.get(&secret) {
        app.secrets.delete(in_vault(&service, &secret)?, *version).await?;
    }
    ask_again(app, name);
    get(app, name).await
}

/// Has vaultd make those secrets that it is to make and does not have.
///
/// # Errors
/// As [`set`].
pub(crate) async fn generate(
    app: &App,
    service: &StoredService,
    manifest: &Manifest,
) -> Result<(), ServiceError> {
    let all = manifest.secrets();
    let made: BTreeMap<&SecretName, u32> = all
        .iter()
        .filter_map(|(name, secret)| Some((name, secret.generate?)))
        .collect();
    if made.is_empty() {
        return Ok(());
    }
    let there = at_vault(app, service).await?;
    let wanted: Vec<(SecretName, u32)> = made
        .into_iter()
        .filter(|(name, _)| !there.contains_key(*name))
        .map(|(name, length)| (name.clone(), length))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let names: Vec<SecretName> = wanted.iter().map(|(name, _)| name.clone()).collect();
    let of = service.name.to_string();
    app.store
        .jot(move |connection| Ok(table::note_secrets(connection, &of, &names)?))
        .await?;
    for (name, length) in wanted {
        app.secrets.generate(in_vault(service, &name)?, length).await?;
    }
    Ok(())
}

/// Removes all secrets of a service at vaultd. What was never written down is not there, and vaultd is not asked.
///
/// # Errors
/// As [`set`].
pub(crate) async fn forget(app: &App, service: &StoredService) -> Result<(), ServiceError> {
    let name = service.name.as_str();
    let noted = app
        .store
        .read(|connection| Ok(table::noted_secrets(connection, name)?))?;
    if noted.is_empty() {
        return Ok(());
    }
    for (secret, version) in at_vault(app, service).await? {
        app.secrets.delete(in_vault(service, &secret)?, version).await?;
    }
    Ok(())
}

fn read(app: &App, name: &str) -> Result<(StoredService, Manifest), ServiceError> {
    app.store.read(|connection| {
        let service = table::get(connection, name)?;
        let manifest = table::manifest(connection, &service.make.digest)?.manifest;
        Ok((service, manifest))
    })
}

/// Written down first: a removal finds it, whoever is killed in between.
async fn noted(
    app: &App,
    actor: &Actor,
    name: &str,
    secret: &SecretName,
    action: &'static str,
) -> Result<StoredService, ServiceError> {
    let (name, secret) = (name.to_owned(), secret.clone());
    app.store
        .mutate(Origin::new(actor, app.now()), move |tx| {
            let service = table::get(tx, &name)?;
            if matches!(service.phase, Phase::Removing(_)) {
                return Err(NotNow(service.phase).into());
            }
            table::note_secrets(tx, &name, [&secret])?;
            tx.audit(action, &name, &secret);
            tx.effects.topics.insert(Topic::Services);
            Ok(service)
        })
        .await
}

/// What vaultd has of a service, with versions.
async fn at_vault(app: &App, service: &StoredService) -> Result<BTreeMap<SecretName, u64>, ServiceError> {
    let name = vault_name(service)?;
    let listed = app.secrets.list(vault_prefix(&name)).await?;
    Ok(listed
        .into_iter()
        .filter_map(|(text, version)| Some((from_vault(&name, &text)?, version)))
        .collect())
}

fn in_vault(service: &StoredService, secret: &SecretName) -> Result<String, ServiceError> {
    Ok(secret.in_vault(&vault_name(service)?))
}

fn vault_name(service: &StoredService) -> Result<Name, ServiceError> {
    Name::try_from(service.name.as_str())
        .map_err(|_| ServiceError::Storage("a stored service's name is none"))
}

/// The broker is asked again: it gives the containers what vaultd has now.
fn ask_again(app: &Arc<App>, name: &str) {
    app.services.asked(name);
    app.services.lost(name);
    app.services.wished();
    app.events.publish([Topic::Services]);
}
