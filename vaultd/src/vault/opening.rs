//! From key-encryption key and state folder to an open vault, or to the reason why it stays sealed.
//!
//! A new vault is built whole in a folder that does not count and then renamed into place: a first start that is
//! interrupted leaves nothing that the next one would have to guess about.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cell_vaultd_core::access_log;
use cell_vaultd_core::profile;
use cell_vaultd_core::rate::Window;
use cell_vaultd_core::seal::{Decision, KekFinding, SealReason, StateFinding, decide};
use cell_vaultd_core::{ItemName, Policy};

use super::{
    ANCHORS_PER_MINUTE, EXIT_READS_PER_MINUTE, Findings, HOUR, MINUTE, RECORDED_PER_MINUTE, Vault,
    certificates, serial,
};
use crate::anchors::{self, AnchorFile, ReadAnchorsError};
use crate::authority::{Authority, AuthorityKey};
use crate::clock::Clock;
use crate::error::VaultError;
use crate::files::Files;
use crate::kek::Kek;
use crate::keyring::{Keyring, random};
use crate::log::{self, AccessLog, OpenLogError};
use crate::store::{Store, StoreError};

const VAULT: &str = "vault";
const DRAFT: &str = "vault.draft";
const VERIFIER: &str = "verifier";

/// What a vault stands on.
pub struct Surroundings {
    /// The policy file.
    pub policy: Policy,
    /// The state folder.
    pub files: Arc<dyn Files>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Opens the vault, or makes it where there is none. What is in doubt is not touched.
///
/// # Errors
/// Why it stays sealed.
pub fn open(around: Surroundings, kek: Result<Kek, KekFinding>) -> Result<Vault, SealReason> {
    let (found, kek) = match kek {
        Ok(kek) => (KekFinding::Present, Some(kek)),
        Err(finding) => (finding, None),
    };
    let (state, keyring) = look(&*around.files, kek.as_ref()).map_err(|error| unreadable(&error))?;
    match (decide(found, state), kek, keyring) {
        (Decision::StaySealed(reason), _, _) => Err(reason),
        (Decision::Open, _, Some(keyring)) => open_existing(around, Arc::new(keyring)),
        (Decision::Initialise, Some(kek), _) => {
            if !around.clock.now().is_plausible() {
                return Err(SealReason::ClockUnset);
            }
            let made =
                initialise(&around, &kek).map_err(|error| failed("the vault could not be made", &error))?;
            tracing::info!("a new vault was made");
            open_existing(around, made)
        }
        (Decision::Open | Decision::Initialise, _, _) => Err(SealReason::StateDamaged),
    }
}

fn look(files: &dyn Files, kek: Option<&Kek>) -> io::Result<(StateFinding, Option<Keyring>)> {
    if files.list(Path::new(VAULT))?.is_none() {
        return Ok((StateFinding::Fresh, None));
    }
    let Some(kek) = kek else {
        return Ok((StateFinding::Unreadable, None));
    };
    let verifier = files.read(&Path::new(VAULT).join(VERIFIER), 1024)?;
    Ok(match verifier.map(|bytes| Keyring::open(kek, &bytes)) {
        None | Some(Err(_)) => (StateFinding::Unreadable, None),
        Some(Ok(None)) => (StateFinding::OtherKey, None),
        Some(Ok(Some(keyring))) => (StateFinding::SameKey, Some(keyring)),
    })
}

fn initialise(around: &Surroundings, kek: &Kek) -> Result<Arc<Keyring>, VaultError> {
    let Surroundings { policy, files, clock } = around;
    let draft = PathBuf::from(DRAFT);
    match files.list(&draft)? {
        Some(left) => left.iter().try_for_each(|name| files.remove(&draft.join(name)))?,
        None => files.make_folder(&draft)?,
    }
    let (keyring, verifier) = Keyring::create(kek)?;
    let keyring = Arc::new(keyring);
    files.create(&draft.join(VERIFIER), &verifier)?;
    files.sync(&draft.join(VERIFIER))?;
    AccessLog::create(
        Arc::clone(files),
        draft.clone(),
        Arc::clone(&keyring),
        log::LIMITS,
    )?;
    AnchorFile::create(Arc::clone(files), draft.join(anchors::FILE), Arc::clone(&keyring))?;
    let mut store = Store::create(Arc::clone(files), draft.clone(), Arc::clone(&keyring))?;
    let now = clock.now();
    let label = hex_label()?;
    let root_key = AuthorityKey::generate()?;
    let root = Authority::self_signed(
        &label,
        &profile::root(&label, &policy.scope, serial()?, now),
        &root_key,
    )?;
    let (intermediate, key) = certificates::make_intermediate(&root, &root_key, now)?;
    store.write(&ItemName::RootAuthority, &root.encode(&root_key), 0, 0, now)?;
    store.write(
        &ItemName::IntermediateAuthority,
        &intermediate.encode(&key),
        0,
        0,
        now,
    )?;
    files.sync(&draft)?;
    files.rename(&draft, Path::new(VAULT))?;
    files.sync(Path::new(""))?;
    Ok(keyring)
}

fn open_existing(around: Surroundings, keyring: Arc<Keyring>) -> Result<Vault, SealReason> {
    let Surroundings { policy, files, clock } = around;
    let folder = PathBuf::from(VAULT);
    let store =
        Store::open(Arc::clone(&files), folder.clone(), Arc::clone(&keyring)).map_err(|e| sealed_by(&e))?;
    let mut findings = Findings::default();
    for (name, damage) in store.damaged() {
        tracing::error!(item = %name, damage, "an item of the vault is damaged");
        match name {
            ItemName::Secret(name) => findings.damaged_secrets.push(name.to_string()),
            ItemName::RootAuthority | ItemName::IntermediateAuthority | ItemName::WireguardKey => {
                return Err(SealReason::StateDamaged);
            }
        }
    }
    let authority = |name: ItemName| {
        let value = store
            .read(&name)
            .map_err(|error| sealed_by(&error))?
            .ok_or(SealReason::StateDamaged)?;
        Authority::decode(&value)
            .map(|(authority, _)| authority)
            .map_err(|_| SealReason::StateDamaged)
    };
    let root = authority(ItemName::RootAuthority)?;
    let intermediate = authority(ItemName::IntermediateAuthority)?;
    let log = open_log(&files, &folder, &keyring, &mut findings)?;
    if log.generation() > store.index().generation {
        return Err(SealReason::StateRolledBack);
    }
    let anchors = match AnchorFile::open(Arc::clone(&files), folder.join(anchors::FILE), keyring) {
        Ok(file) => Ok(file),
        Err(ReadAnchorsError::Io(error)) => return Err(unreadable(&error)),
        Err(ReadAnchorsError::Damaged(damage)) => {
            tracing::error!(%damage, "the audit anchors are damaged");
            Err(damage.to_string())
        }
    };
    Ok(Vault {
        issuances: Window::new(policy.issuances_per_hour, HOUR),
        requests: std::array::from_fn(|_| Window::new(RECORDED_PER_MINUTE, MINUTE)),
        exit_reads: std::array::from_fn(|_| Window::new(EXIT_READS_PER_MINUTE, MINUTE)),
        anchorings: Window::new(ANCHORS_PER_MINUTE, MINUTE),
        policy,
        clock,
        store,
        log,
        anchors,
        root,
        intermediate,
        findings,
    })
}

/// The access log. One that was changed is kept beside as evidence, under a number of its own, and a new one is begun, so
/// that a damaged log does not stop the cell; the condition AccessLogIntact tells as long as it lies there.
fn open_log(
    files: &Arc<dyn Files>,
    folder: &Path,
    keyring: &Arc<Keyring>,
    findings: &mut Findings,
) -> Result<AccessLog, SealReason> {
    let opened = AccessLog::open(
        Arc::clone(files),
        folder.to_owned(),
        Arc::clone(keyring),
        log::LIMITS,
    );
    let kept = files
        .list(folder)
        .map_err(|error| unreadable(&error))?
        .unwrap_or_default();
    let kept = kept.iter().filter(|name| name.starts_with(log::DAMAGED)).count();
    if kept > 0 {
        findings.damaged_log = Some(format!(
            "{kept} damaged access logs are kept as {}*",
            log::DAMAGED
        ));
    }
    let damage = match opened {
        Ok(log) => return Ok(log),
        Err(OpenLogError::Io(error)) => return Err(unreadable(&error)),
        Err(OpenLogError::Damaged(damage)) => damage,
    };
    tracing::error!(%damage, "the access log is damaged and is set aside");
    let set_aside = || -> io::Result<AccessLog> {
        log::set_aside(&**files, folder)?;
        let log = AccessLog::create(
            Arc::clone(files),
            folder.to_owned(),
            Arc::clone(keyring),
            log::LIMITS,
        )?;
        files.sync(folder)?;
        Ok(log)
    };
    findings.damaged_log = Some(format!("{}: {damage}", access_log::HEADER.trim_end()));
    set_aside().map_err(|error| unreadable(&error))
}

fn hex_label() -> Result<String, VaultError> {
    Ok(hex::encode(random::<4>()?))
}

fn sealed_by(error: &StoreError) -> SealReason {
    match error {
        StoreError::Damaged { .. } => {
            tracing::error!(%error, "the vault stays sealed");
            SealReason::StateDamaged
        }
        _ => failed("the vault stays sealed", error),
    }
}

fn unreadable(error: &io::Error) -> SealReason {
    failed("the vault stays sealed", error)
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> SealReason {
    tracing::error!(%error, "{what}");
    SealReason::StateUnreadable
}
