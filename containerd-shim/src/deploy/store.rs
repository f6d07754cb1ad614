//! The broker's own memory of what it made: the authority for ids. Each service is one file, replaced as a whole and fsynced;
//! what is about to be made is written down before it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cell_broker_core::deploy::{Bundle, ImageSignature, Owner, Place, Signer};
use cell_manifest::{Digest, Name, Restart};
use serde::{Deserialize, Serialize};

/// Largest file that is read, bytes: a manifest in base64 with sixteen signatures of images.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// A service as it was made, or is being made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its name.
    pub service: String,
    /// The number of its network, or none for the cell's own.
    pub number: Option<u16>,
    /// The network's id, once it is there.
    pub network: Option<String>,
    /// The network's addresses.
    pub subnet: String,
    /// Its bridge.
    pub bridge: String,
    /// Names of all volumes that were made for it.
    pub volumes: BTreeSet<String>,
    /// What runs.
    pub live: Option<Attempt>,
    /// What is being made.
    pub next: Option<Attempt>,
    /// Ids of containers that are still to be removed.
    pub garbage: Vec<String>,
    /// That it is being removed, and whether with its volumes.
    pub removing: Option<bool>,
    /// What ran before what runs: the way back of whoever tries a new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<Former>,
}

/// Whose a service is, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerRecord {
    /// Its manifest's id.
    pub id: String,
    /// The signer's key as PEM; none: root shipped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A manifest that ran, with the images that it ran with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Former {
    /// The manifest.
    pub digest: String,
    /// Ids of images that were built on the machine, by the names that the manifest has for them.
    pub local_images: BTreeMap<String, String>,
}

impl From<&Owner> for OwnerRecord {
    fn from(owner: &Owner) -> Self {
        OwnerRecord {
            id: owner.id.to_string(),
            key: match &owner.signer {
                Signer::Root => None,
                Signer::Key(pem) => Some(pem.clone()),
            },
        }
    }
}

impl OwnerRecord {
    /// As the judge has it; none: what is written there is no id.
    pub fn owner(&self) -> Option<Owner> {
        Some(Owner {
            id: Name::try_from(self.id.as_str()).ok()?,
            signer: self.key.clone().map_or(Signer::Root, Signer::Key),
        })
    }
}

/// One making of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// A word that its containers bear.
    pub word: String,
    /// Its manifest.
    pub digest: String,
    /// Its instance's name.
    pub instance: String,
    /// Values that were set.
    pub parameters: BTreeMap<String, String>,
    /// Its containers.
    pub containers: Vec<Made>,
    /// Ids of images that were built on the machine.
    pub local_images: BTreeSet<String>,
    /// The same by the names that the manifest has for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub local_names: BTreeMap<String, String>,
    /// Whose it is; none: made by a broker that did not write it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerRecord>,
    /// Memory of all of them, MiB.
    pub memory_mib: u32,
    /// Volumes that were not there before it.
    pub new_volumes: BTreeSet<String>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// What other verbs know it by.
    pub handle: String,
    /// Its name in the manifest.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its id, once it is there.
    pub id: Option<String>,
    /// The manifest's word on starting it again.
    pub restart: Restarting,
    /// The boot in which a verb last started it.
    pub boot: Option<String>,
    /// That a verb stopped it.
    pub stopped: bool,
    /// What has it read its configuration again, as Docker names it.
    pub reload: Option<String>,
    /// Seconds that it has to end by itself, by its manifest.
    #[serde(default = "stop_seconds")]
    pub stop_seconds: u32,
    /// Names of its secrets, and whether it starts without.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, bool>,
    /// That its secrets are being replaced: it has to be started anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_renewing: bool,
}

/// As brokers did that did not write it down.
fn stop_seconds() -> u32 {
    10
}

/// When a container that ended is started again, as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restarting {
    /// Never.
    No,
    /// When it failed, so often.
    OnFailure(u32),
    /// Always.
    UnlessStopped,
}

impl From<Restart> for Restarting {
    fn from(restart: Restart) -> Self {
        match restart {
            Restart::No => Restarting::No,
            Restart::OnFailure(times) => Restarting::OnFailure(times),
            Restart::UnlessStopped => Restarting::UnlessStopped,
        }
    }
}

impl From<Restarting> for Restart {
    fn from(restart: Restarting) -> Self {
        match restart {
            Restarting::No => Restart::No,
            Restarting::OnFailure(times) => Restart::OnFailure(times),
            Restarting::UnlessStopped => Restart::UnlessStopped,
        }
    }
}

impl Made {
    /// Whether it is to run, as far as somebody asked for it in the boot `boot`.
    pub fn runs_in(&self, boot: &BootId) -> bool {
        !self.stopped && self.boot.as_deref() == Some(boot.as_str())
    }
}

/// Which boot of the machine: what was started in another one is not started again until somebody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootId(String);

impl BootId {
    /// The service manager's word for this boot (`CELL_BOOT_ID`, `%b` of systemd), or the kernel's (random(4)): the unit shows the
    /// broker nothing of `/proc/sys`.
    ///
    /// # Errors
    /// Without one nobody knows what may run.
    pub fn of_machine() -> io::Result<Self> {
        if let Ok(told) = std::env::var("CELL_BOOT_ID")
            && !told.is_empty()
        {
            return Ok(BootId(told));
        }
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        Ok(BootId(text.trim().to_owned()))
    }

    /// By its text.
    pub fn new(text: impl Into<String>) -> Self {
        BootId(text.into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Record {
    /// Where its network lies; none for the cell's own.
    pub fn place(&self) -> Option<Place> {
        Some(Place {
            number: self.number?,
            subnet: self.subnet.parse().ok()?,
        })
    }

    /// Whether the manifest is that of what ran before what runs.
    pub fn is_former(&self, digest: &Digest) -> bool {
        let former = self.former.as_ref().map(|former| former.digest.as_str());
        let live = self.live.as_ref().map(|live| live.digest.as_str());
        former == Some(digest.as_str()) && live != former
    }

    /// All handles of what runs and of what is being made.
    pub fn handles(&self) -> impl Iterator<Item = &str> {
        let attempts = self.live.iter().chain(&self.next);
        attempts
            .flat_map(|attempt| &attempt.containers)
            .map(|made| made.handle.as_str())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    manifest: String,
    signature: String,
    images: Vec<(String, String)>,
}

/// The folder.
#[derive(Debug)]
pub struct Store {
    services: PathBuf,
    manifests: PathBuf,
}

impl Store {
    /// Below `state`; makes its folders.
    pub fn open(state: &Path) -> io::Result<Self> {
        let store = Store {
            services: state.join("services"),
            manifests: state.join("manifests"),
        };
        for folder in [&store.services, &store.manifests] {
            fs::create_dir_all(folder)?;
        }
        File::open(state)?.sync_all()?;
        Ok(store)
    }

    /// Every service, by name. A file that cannot be read is an error: without it something would be forgotten.
    pub fn read(&self) -> io::Result<BTreeMap<String, Record>> {
        let mut records = BTreeMap::new();
        for entry in fs::read_dir(&self.services)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "json") {
                let record: Record = serde_json::from_slice(&bounded(&path)?)?;
                records.insert(record.service.clone(), record);
            }
        }
        Ok(records)
    }

    /// Writes a service down; when this returns it survives the power's loss.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        let bytes = serde_json::to_vec(record)?;
        replace(
            &self.services,
            &format!("{}.json", file_name(&record.service)?),
            &bytes,
        )
    }

    /// Forgets a service.
    pub fn forget(&self, service: &str) -> io::Result<()> {
        let path = self.services.join(format!("{}.json", file_name(service)?));
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => File::open(&self.services)?.sync_all(),
        }
    }

    /// Keeps a bundle, by its manifest's digest.
    pub fn keep(&self, digest: &Digest, bundle: &Bundle) -> io::Result<()> {
        let kept = Kept {
            manifest: STANDARD.encode(&bundle.manifest),
            signature: bundle.signature.clone(),
            images: bundle
                .images
                .iter()
                .map(|image| (STANDARD.encode(&image.payload), image.signature.clone()))
                .collect(),
        };
        replace(
            &self.manifests,
            &format!("{}.json", digest.hex()),
            &serde_json::to_vec(&kept)?,
        )
    }

    /// The bundle of a manifest, as it was handed in: whoever reads it verifies it again.
    pub fn bundle(&self, digest: &Digest) -> io::Result<Option<Bundle>> {
        let bytes = match bounded(&self.manifests.join(format!("{}.json", digest.hex()))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let kept: Kept = serde_json::from_slice(&bytes)?;
        let decode = |text: &str| STANDARD.decode(text).map_err(io::Error::other);
        let images = kept.images.iter().map(|(payload, signature)| {
            Ok(ImageSignature {
                payload: decode(payload)?,
                signature: signature.clone(),
            })
        });
        Ok(Some(Bundle {
            manifest: decode(&kept.manifest)?,
            signature: kept.signature,
            images: images.collect::<io::Result<_>>()?,
        }))
    }

    /// Makes room for one manifest more among at most `most`, by those that no service is of.
    /// False: all are in use.
    pub fn make_room(&self, most: usize, used: &BTreeSet<String>) -> io::Result<bool> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.manifests)? {
            let path = entry?.path();
            let hex = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default()
                .to_owned();
            if path.extension().is_some_and(|end| end == "json") {
                kept.push((fs::metadata(&path)?.modified()?, hex, path));
            }
        }
        kept.sort();
        let mut over = (kept.len() + 1).saturating_sub(most);
        for (_, hex, path) in kept {
            if over > 0 && !used.contains(&format!("sha256:{hex}")) {
                fs::remove_file(path)?;
                over -= 1;
            }
        }
        Ok(over == 0)
    }
}

/// A service's name as a file's: only what is a name becomes one.
fn file_name(service: &str) -> io::Result<Name> {
    Name::try_from(service).map_err(io::Error::other)
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(io::Error::other("longer than anything that the broker writes"));
    }
    Ok(bytes)
}

fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let aside = folder.join(format!("{name}.new"));
    let mut file = File::create(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, folder.join(name))?;
    File::open(folder)?.sync_all()
}
