//! Secrets of services: read from vaultd when a container is about to start, and put where it finds them, as files of a folder that
//! nobody but the broker enters. Inside the container the mount starts below that folder.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cell_broker_core::deploy::SecretsPlace;
use cell_manifest::{Name, SecretName};
use cell_proto::vault::v1::ReadServiceSecretRequest;
use cell_proto::vault::v1::service_secret_service_client::ServiceSecretServiceClient;
use cell_proto::{fault, ipc};
use tonic::Code;
use tonic::transport::Channel;
use zeroize::Zeroizing;

use super::store::{Made, Record};
use super::{DeployRefusal, Deployments};
use crate::broker::Refusal;

/// How long vaultd may take for one: it answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Largest answer, bytes: the largest secret with room for the rest.
const ANSWER_MAX_BYTES: usize = 65 * 1024;
/// What a file is called until it takes its name. No secret's name has a dot.
const ASIDE: &str = ".new";

type Value = Zeroizing<Vec<u8>>;

/// Where secrets come from and lie.
pub(super) struct Secrets {
    folder: PathBuf,
    vault: ServiceSecretServiceClient<Channel>,
}

/// What containers are to find, by their names: values by the names of secrets. Shows nothing, and is wiped when it goes.
pub(super) struct Delivery(BTreeMap<String, BTreeMap<String, Value>>);

impl Secrets {
    /// Connects when a secret is first wanted. Needs a tokio runtime.
    pub(super) fn new(place: &SecretsPlace) -> Self {
        let channel = ipc::connect(PathBuf::from(&place.vault_socket));
        Secrets {
            folder: PathBuf::from(&place.folder),
            vault: ServiceSecretServiceClient::new(channel).max_decoding_message_size(ANSWER_MAX_BYTES),
        }
    }

    /// One secret; none: it is not set.
    async fn read(&self, name: String) -> Result<Option<Value>, Refusal> {
        let away = |why: &str| Refusal::SecretsAway(why.to_owned());
        let mut vault = self.vault.clone();
        let asked = vault.read_service_secret(ReadServiceSecretRequest { name });
        // A socket whose daemon is away takes connections nevertheless: it was made before the daemon.
        let answer = tokio::time::timeout(PATIENCE, asked)
            .await
            .map_err(|_| away("NO_ANSWER"))?;
        match answer {
            Ok(answer) => Ok(Some(Zeroizing::new(answer.into_inner().value))),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(away(fault::reason(&status).as_deref().unwrap_or("UNREACHABLE"))),
        }
    }

    /// The folder of a container. Names that are none become no path.
    fn of(&self, service: &str, container: &str) -> io::Result<PathBuf> {
        let name = |text: &str| Name::try_from(text).map_err(io::Error::other);
        Ok(self
            .folder
            .join(name(service)?.as_str())
            .join(name(container)?.as_str()))
    }

    /// Makes the folder of a container, which whoever is in the container may list and read.
    fn make(&self, service: &str, container: &str) -> io::Result<PathBuf> {
        let folder = self.of(service, container)?;
        // Whoever made it: below it are files that anybody could read who came so far.
        fs::set_permissions(&self.folder, Permissions::from_mode(0o700))?;
        fs::create_dir_all(&folder)?;
        for path in [Some(folder.as_path()), folder.parent()].into_iter().flatten() {
            fs::set_permissions(path, Permissions::from_mode(0o755))?;
        }
        Ok(folder)
    }

    /// Has the container's folder hold these and nothing else. Each file is replaced as a whole; the folder stays the same, as what
    /// runs has it mounted.
    fn put(&self, service: &str, container: &str, values: &BTreeMap<String, Value>) -> io::Result<()> {
        let folder = self.make(service, container)?;
        for name in listed(&folder)? {
            if !values.keys().any(|key| name.as_str() == key) {
                fs::remove_file(folder.join(&name))?;
            }
        }
        for (name, value) in values {
            let name = SecretName::try_from(name.as_str()).map_err(io::Error::other)?;
            write(&folder, name.as_str(), value)?;
        }
        Ok(())
    }

    /// Whether the container's folder holds exactly these.
    fn holds(&self, service: &str, container: &str, values: &BTreeMap<String, Value>) -> io::Result<bool> {
        let folder = self.of(service, container)?;
        let names = match listed(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            names => names?,
        };
        if names.len() != values.len() {
            return Ok(false);
        }
        for (name, value) in values {
            match fs::read(folder.join(name)).map(Zeroizing::new) {
                Ok(bytes) if bytes == *value => {}
                Ok(_) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Removes what is of no container that `known` names, and files in the others' folders that are none of their secrets.
    fn sweep(&self, known: &BTreeMap<String, BTreeMap<String, BTreeSet<String>>>) -> io::Result<()> {
        let services = match listed(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            services => services?,
        };
        for service in services {
            let path = self.folder.join(&service);
            let Some(containers) = known.get(&service) else {
                remove(&path)?;
                continue;
            };
            for container in listed(&path)? {
                let folder = path.join(&container);
                let Some(secrets) = containers.get(&container) else {
                    remove(&folder)?;
                    continue;
                };
                for name in listed(&folder)? {
                    if !secrets.contains(&name) {
                        remove(&folder.join(name))?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Deployments {
    /// Reads what these containers are to find, from vaultd. All that is missing is named at once.
    pub(super) async fn read_secrets(&self, service: &str, made: &[Made]) -> Result<Delivery, DeployRefusal> {
        let (mut delivery, mut missing) = (BTreeMap::new(), BTreeSet::new());
        let mut known: BTreeMap<&str, Option<Value>> = BTreeMap::new();
        for container in made.iter().filter(|made| !made.secrets.is_empty()) {
            let secrets = self.secrets.as_ref();
            let secrets = secrets.ok_or_else(|| Refusal::SecretsAway("NO_CEILING".to_owned()))?;
            let mut values = BTreeMap::new();
            for (name, is_optional) in &container.secrets {
                if !known.contains_key(name.as_str()) {
                    known.insert(name, secrets.read(in_vault(service, name)?).await?);
                }
                match known.get(name.as_str()).and_then(Option::as_ref) {
                    Some(value) => {
                        values.insert(name.clone(), value.clone());
                    }
                    None if *is_optional => {}
                    None => {
                        missing.insert(name.clone());
                    }
                }
            }
            delivery.insert(container.name.clone(), values);
        }
        if missing.is_empty() {
            return Ok(Delivery(delivery));
        }
        let refusal = Refusal::SecretMissing {
            service: service.to_owned(),
            secret: missing.into_iter().collect::<Vec<_>>().join(","),
        };
        Err(refusal.into())
    }

    /// Makes the folders that are bound into containers.
    pub(super) fn make_folders(&self, service: &str, delivery: &Delivery) -> Result<(), DeployRefusal> {
        for (secrets, container) in self
            .secrets
            .iter()
            .flat_map(|all| delivery.0.keys().map(move |key| (all, key)))
        {
            secrets.make(service, container)?;
        }
        Ok(())
    }

    /// Puts them where containers find them: before these start, and after whoever had others has stopped.
    pub(super) fn write_secrets(&self, service: &str, delivery: &Delivery) -> Result<(), DeployRefusal> {
        let Some(secrets) = &self.secrets else {
            return Ok(());
        };
        for (container, values) in &delivery.0 {
            // What is as it should be is not touched: what runs may be reading it.
            if !secrets.holds(service, container, values)? {
                secrets.put(service, container, values)?;
            }
        }
        Ok(())
    }

    /// Reads and puts them for containers that are about to start.
    pub(super) async fn deliver(&self, service: &str, made: &[Made]) -> Result<(), DeployRefusal> {
        let delivery = self.read_secrets(service, made).await?;
        self.write_secrets(service, &delivery)
    }

    /// Writes down which containers find others from now on, before they do: they are started anew, also after a crash.
    pub(super) fn note_renewed(
        &self,
        mut record: Record,
        delivery: &Delivery,
    ) -> Result<Record, DeployRefusal> {
        let Some(secrets) = &self.secrets else {
            return Ok(record);
        };
        let mut is_noted = false;
        for made in record.live.iter_mut().flat_map(|live| &mut live.containers) {
            let Some(values) = delivery.0.get(&made.name) else {
                continue;
            };
            if !secrets.holds(&record.service, &made.name, values)? {
                made.is_renewing = true;
                is_noted = true;
            }
        }
        if is_noted {
            self.write(&record)?;
        }
        Ok(record)
    }

    /// Removes what no record knows: of services that are gone, of containers that an update dropped, of a crash.
    pub(super) fn sweep_secrets(&self) -> Result<(), DeployRefusal> {
        let Some(secrets) = &self.secrets else {
            return Ok(());
        };
        let mut known: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for record in self.records().into_values() {
            let attempts = record.live.iter().chain(&record.next);
            let containers = attempts.flat_map(|attempt| &attempt.containers);
            for made in containers.filter(|made| !made.secrets.is_empty()) {
                let service = known.entry(record.service.clone()).or_default();
                let names = service.entry(made.name.clone()).or_default();
                names.extend(made.secrets.keys().cloned());
            }
        }
        Ok(secrets.sweep(&known)?)
    }
}

/// What the vault calls a secret.
fn in_vault(service: &str, secret: &str) -> io::Result<String> {
    let service = Name::try_from(service).map_err(io::Error::other)?;
    let secret = SecretName::try_from(secret).map_err(io::Error::other)?;
    Ok(secret.in_vault(&service))
}

/// Names in a folder; what is no text is left to [`remove`] with what it lies in.
fn listed(folder: &Path) -> io::Result<Vec<String>> {
    let name =
        |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().to_str().map(str::to_owned));
    fs::read_dir(folder)?
        .filter_map(|entry| name(entry).transpose())
        .collect()
}

/// A file or a folder with all in it. Links are removed, never followed.
fn remove(path: &Path) -> io::Result<()> {
    tracing::info!(
        path = path.file_name().and_then(OsStr::to_str),
        "secrets that no container has any more are removed"
    );
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

/// Replaces one file. No fsync: it lies in memory, and what a crash leaves is swept.
fn write(folder: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    let aside = folder.join(format!("{name}{ASIDE}"));
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(&aside)?;
    file.write_all(value)?;
    file.set_permissions(Permissions::from_mode(0o444))?;
    fs::rename(&aside, folder.join(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, Value> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Zeroizing::new(value.as_bytes().to_vec())))
            .collect()
    }

    fn secrets(folder: &Path) -> Secrets {
        Secrets::new(&SecretsPlace {
            vault_socket: "/nowhere".to_owned(),
            folder: folder.display().to_string(),
        })
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[tokio::test]
    async fn a_folder_holds_what_was_put_last_and_stays_the_same_folder() {
        let place = tempfile::tempdir().unwrap();
        let all = secrets(place.path());
        let first = values(&[("a", "1"), ("b", "2")]);
        assert!(!all.holds("files", "main", &first).unwrap());
        all.put("files", "main", &first).unwrap();
        assert!(all.holds("files", "main", &first).unwrap());
        let folder = place.path().join("files/main");
        assert_eq!((mode(&folder), mode(&folder.join("a"))), (0o755, 0o444));
        let opened = File::open(&folder).unwrap();
        fs::write(folder.join("a.new"), "half").unwrap();
        let second = values(&[("b", "3")]);
        assert!(!all.holds("files", "main", &second).unwrap());
        all.put("files", "main", &second).unwrap();
        assert!(all.holds("files", "main", &second).unwrap() && !all.holds("files", "main", &first).unwrap());
        assert_eq!(listed(&folder).unwrap(), ["b"]);
        // Through what was mounted before, the new one is seen.
        let same = std::os::unix::fs::MetadataExt::ino(&opened.metadata().unwrap());
        assert_eq!(
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(&folder).unwrap()),
            same
        );
        for bad in ["..", "a/b", "", "."] {
            assert!(all.put(bad, "main", &second).is_err() && all.put("files", bad, &second).is_err());
        }
        assert!(all.put("files", "main", &values(&[("../x", "1")])).is_err());
    }

    #[tokio::test]
    async fn what_nobody_has_is_swept_and_the_rest_stays() {
        let place = tempfile::tempdir().unwrap();
        let all = secrets(place.path());
        all.sweep(&BTreeMap::new()).unwrap();
        for (service, container) in [("files", "main"), ("files", "old"), ("gone", "main")] {
            all.put(service, container, &values(&[("a", "1"), ("b", "2")]))
                .unwrap();
        }
        fs::write(place.path().join("files/main/b.new"), "half").unwrap();
        std::os::unix::fs::symlink("/etc", place.path().join("link")).unwrap();
        let kept = BTreeMap::from([("main".to_owned(), BTreeSet::from(["a".to_owned()]))]);
        let known = BTreeMap::from([("files".to_owned(), kept)]);
        all.sweep(&known).unwrap();
        assert_eq!(listed(place.path()).unwrap(), ["files"]);
        assert_eq!(listed(&place.path().join("files")).unwrap(), ["main"]);
        assert_eq!(listed(&place.path().join("files/main")).unwrap(), ["a"]);
        assert!(Path::new("/etc/passwd").exists(), "a link is not followed");
    }
}
