//! The way back: root puts a backup into the volumes of a service that is stopped. A command of its own beside the running broker,
//! which holds no lock on its store: what a verb stopped the broker does not start, and that is what is asked for here.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use age::x25519::Identity;
use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use cell_broker_core::backup::{HEAD, Head};
use cell_broker_core::model::ServiceName;
use cell_broker_core::restore::{Kind, Restorer};
use tar::{Archive, Builder, Entry, EntryType};
use tokio::sync::mpsc;

use super::pack::{Counted, anew};
use crate::Config;
use crate::deploy::{BootId, Deployments, WayBack};
use crate::engine::Maker;

/// Largest file of keys, bytes.
const IDENTITY_MAX_BYTES: u64 = 64 * 1024;
/// Most that is read from one entry's bytes to the next entry's, bytes: its header, and names that are too long for it. Linux has
/// none above 4 KiB (PATH_MAX); each stands there twice at most, once in pax(1)'s way.
const HEADER_MAX_BYTES: u64 = 64 * 1024;
/// What goes to Docker at once, bytes.
const PIECE: usize = 64 * 1024;

/// What is put back where.
#[derive(Debug, Clone)]
pub struct Restore {
    /// The broker's state folder.
    pub state: PathBuf,
    /// The service, which is installed and stopped.
    pub service: String,
    /// The secret key.
    pub identity: PathBuf,
    /// The backup.
    pub backup: PathBuf,
}

/// Looks at the whole backup, and then puts it back, volume by volume. What it did.
///
/// # Errors
/// Why it did not; and, where something was written already, that it has to be done again.
pub async fn restore(config: Config, restore: Restore) -> anyhow::Result<String> {
    let Restore {
        state,
        service,
        identity,
        backup,
    } = restore;
    let service = ServiceName::try_from(service.as_str()).map_err(|why| anyhow!("--service: {why}"))?;
    let ceiling = config.ceiling.context("the policy file has no table [deploy]")?;
    ensure!(
        state.join("services").is_dir(),
        "{} is not the broker's state folder",
        state.display()
    );
    let maker = Maker::new(config.docker_socket, config.docker_deadline, ceiling);
    let boot = BootId::of_machine().context("reading which boot of the machine this is")?;
    let deployments = Deployments::open(&state, maker, boot).context("reading the broker's store")?;
    let ways = deployments.ways_back(&service).await?;
    let opener = Arc::new(Opener {
        identities: identities(&identity)?,
        backup,
        service: service.to_string(),
        volumes: ways.keys().cloned().collect(),
    });
    let looking = Arc::clone(&opener);
    let found = tokio::task::spawn_blocking(move || looking.walk(|_, _| Ok(())))
        .await?
        .context("nothing was written")?;
    for volume in &found.volumes {
        let written = async {
            // Looking took its time, and so did the volume before: Docker is asked anew whether somebody has started it.
            let ways = deployments.ways_back(&service).await?;
            let way = ways.get(volume).context("a volume without a container")?;
            put(&deployments, Arc::clone(&opener), volume.clone(), way).await
        };
        written
            .await
            .with_context(|| {
            format!(
                "the volume {volume} may be there by half: leave {service} stopped, and say the same command again when the cause \
                 is gone"
            )
        })?;
    }
    let volumes: Vec<&str> = found.volumes.iter().map(String::as_str).collect();
    Ok(format!(
        "{} entries are back in {} of {service}. What was in there and is not in the backup is there still. Start it: cellctl \
         service start {service}",
        found.entries,
        volumes.join(", ")
    ))
}

async fn put(
    deployments: &Deployments,
    opener: Arc<Opener>,
    volume: String,
    way: &WayBack,
) -> anyhow::Result<()> {
    let (pieces, given) = mpsc::channel(1);
    let writing = tokio::task::spawn_blocking(move || opener.write(&volume, &pieces));
    let put = deployments.put_back(way, given).await;
    writing.await??;
    put.map_err(|error| anyhow!("{error}; the words are above"))
}

/// Secret keys, a line each, as `cell-broker backup-key` and `age-keygen` write them.
fn identities(file: &Path) -> anyhow::Result<Vec<Identity>> {
    let mut text = zeroize::Zeroizing::new(String::new());
    let opened = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    opened
        .take(IDENTITY_MAX_BYTES)
        .read_to_string(&mut text)
        .with_context(|| format!("reading {}", file.display()))?;
    let lines = text.lines().map(str::trim);
    let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    // Not the line: it may be a key with a fault.
    let parsed = keys.map(|line| {
        line.parse::<Identity>()
            .map_err(|_| anyhow!("has a line that is no key of age"))
    });
    let found = parsed.collect::<anyhow::Result<Vec<_>>>();
    let found = found.with_context(|| file.display().to_string())?;
    ensure!(!found.is_empty(), "{} has no key", file.display());
    Ok(found)
}

/// Reads a backup, as often as it is asked.
struct Opener {
    identities: Vec<Identity>,
    backup: PathBuf,
    service: String,
    volumes: BTreeSet<String>,
}

/// What is in it.
struct Found {
    volumes: BTreeSet<String>,
    entries: u64,
}

/// Where an entry belongs: volume, name in it, and the file that it is another name of.
type Place = (String, Vec<u8>, Option<Vec<u8>>);

impl Opener {
    /// Every entry with its place, to the very end: a backup that was cut is an error.
    fn walk(
        &self,
        mut each: impl FnMut(&Place, &mut Entry<'_, &mut dyn Read>) -> anyhow::Result<()>,
    ) -> anyhow::Result<Found> {
        let file = File::open(&self.backup).with_context(|| format!("opening {}", self.backup.display()))?;
        let opened = age::Decryptor::new(BufReader::new(file)).context("this is no file of age's")?;
        let identities = self.identities.iter().map(|one| one as &dyn age::Identity);
        let left = Rc::new(Cell::new(HEADER_MAX_BYTES));
        let mut plain = Metered {
            of: opened.decrypt(identities).context("it is not for this key")?,
            left: Rc::clone(&left),
        };
        let reader: &mut dyn Read = &mut plain;
        let mut archive = Archive::new(&mut *reader);
        let mut entries = archive.entries()?;
        let mut next = || {
            left.set(HEADER_MAX_BYTES);
            let entry = entries.next();
            left.set(u64::MAX);
            entry
        };
        let mut first = next().context("the backup is empty")??;
        let mut restorer = Restorer::new(&head(&mut first)?, &self.service, self.volumes.clone())?;
        let mut found = Found {
            volumes: BTreeSet::new(),
            entries: 0,
        };
        while let Some(entry) = next() {
            let mut entry = entry.context("the backup is damaged, or was cut")?;
            let place = place(&mut restorer, &entry)?;
            each(&place, &mut entry)?;
            // age tells the truth about bytes that were read.
            io::copy(&mut entry, &mut io::sink()).context("the backup is damaged, or was cut")?;
            found.entries += 1;
            found.volumes.insert(place.0);
        }
        io::copy(&mut plain, &mut io::sink()).context("the backup is damaged, or was cut")?;
        Ok(found)
    }

    /// All that is of one volume, as an archive for Docker. One that breaks off says so.
    fn write(&self, volume: &str, pieces: &mpsc::Sender<io::Result<Bytes>>) -> anyhow::Result<()> {
        let written = self.write_all(volume, pieces);
        if written.is_err() {
            let _ = pieces.blocking_send(Err(io::Error::other("the backup breaks off")));
        }
        written
    }

    fn write_all(&self, volume: &str, pieces: &mpsc::Sender<io::Result<Bytes>>) -> anyhow::Result<()> {
        let mut tar = Builder::new(BufWriter::with_capacity(PIECE, Pieces(pieces)));
        self.walk(|(of, name, file), entry| {
            if of != volume {
                return Ok(());
            }
            let name = if name.is_empty() { b".".as_slice() } else { name };
            let name = Path::new(OsStr::from_bytes(name));
            let mut header = anew(entry)?;
            match (header.entry_type(), file) {
                (EntryType::Link, Some(file)) => {
                    tar.append_link(&mut header, name, Path::new(OsStr::from_bytes(file)))?;
                }
                (EntryType::Symlink, _) => {
                    let to = entry.link_name_bytes().context("a link to nowhere")?.into_owned();
                    tar.append_link(&mut header, name, Path::new(OsStr::from_bytes(&to)))?;
                }
                (EntryType::Regular, _) => {
                    let (size, mut counted) = (entry.size(), Counted { entry, bytes: 0 });
                    tar.append_data(&mut header, name, &mut counted)?;
                    ensure!(counted.bytes == size, "the backup is damaged, or was cut");
                }
                _ => tar.append_data(&mut header, name, io::empty())?,
            }
            Ok(())
        })?;
        tar.into_inner()?.flush()?;
        Ok(())
    }
}

/// Gives no more than is left: what the archive's reader would keep in memory between two entries is bounded.
struct Metered<R> {
    of: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 {
            return Err(io::Error::other("a name in it is longer than any of Linux's"));
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.of.read(&mut buffer[..most])?;
        self.left.set(left - u64::try_from(read).unwrap_or(left));
        Ok(read)
    }
}

fn head(first: &mut Entry<'_, &mut dyn Read>) -> anyhow::Result<Head> {
    ensure!(
        *first.path_bytes() == *HEAD.as_bytes() && first.size() <= Head::MAX_BYTES,
        "this is no backup of a service"
    );
    let mut bytes = Vec::new();
    first.read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes).context("what it says of itself is not understood")
}

fn place(restorer: &mut Restorer, entry: &Entry<'_, &mut dyn Read>) -> anyhow::Result<Place> {
    let name = entry.path_bytes();
    let link = entry.link_name_bytes().unwrap_or_default();
    let kind = match entry.header().entry_type() {
        // Whoever reads it otherwise would take what follows for entries that nobody has looked at.
        EntryType::Directory | EntryType::Symlink | EntryType::Link if entry.size() > 0 => {
            bail!("the backup has a folder or link with content")
        }
        EntryType::Regular | EntryType::Directory => Kind::Plain,
        EntryType::Symlink => Kind::Symbolic,
        EntryType::Link => Kind::Hard(&link),
        _ => bail!("the backup has something that is no file, folder or link"),
    };
    let (volume, rest, file) = restorer.place(&name, kind)?;
    Ok((volume.to_owned(), rest.to_vec(), file.map(<[u8]>::to_vec)))
}

/// To Docker.
struct Pieces<'a>(&'a mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::other("Docker takes no more"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
