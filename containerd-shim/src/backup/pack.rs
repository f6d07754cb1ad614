//! Docker's archives into one, encrypted, as they come: the side that blocks, on a thread of its own. It holds one piece of
//! Docker's, one chunk of age's (64 KiB) and one that waits for its reader.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use age::stream::StreamWriter;
use age::x25519::Recipient;
use bytes::{Buf as _, Bytes};
use cell_broker_core::backup::{HEAD, Head, Part};
use tar::{Archive, Builder, Entry, EntryType, Header};
use tokio::sync::mpsc;

use super::BackupFault;

/// What is to be packed next.
pub(super) enum Job {
    /// A folder, as Docker's archive of it comes.
    Part(Part, mpsc::Receiver<Bytes>),
    /// Nothing more: it is whole.
    Finish,
}

/// Packs all jobs for `recipients`. A backup that does not come to [`Job::Finish`] lacks age's last chunk, and is not decrypted.
///
/// # Errors
/// [`BackupFault`]: what was written until then is to be thrown away.
pub(super) fn pack(
    recipients: &[Recipient],
    most_bytes: u64,
    head: &Head,
    mut jobs: mpsc::Receiver<Job>,
    out: mpsc::Sender<Bytes>,
) -> Result<(), BackupFault> {
    let recipients = recipients
        .iter()
        .map(|recipient| recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(|error| {
        tracing::error!(%error, "a backup cannot be encrypted");
        BackupFault::Failed
    })?;
    // Its header is written here, and age keeps no cause: there is but one.
    let encrypted = encryptor
        .wrap_output(Pieces(out))
        .map_err(|_| BackupFault::Unread)?;
    let mut tar = Builder::new(encrypted);
    add_head(&mut tar, head)?;
    let mut left = most_bytes;
    while let Some(job) = jobs.blocking_recv() {
        match job {
            Job::Part(part, pieces) => left = add(&mut tar, &part, pieces, left)?,
            Job::Finish => {
                tar.into_inner()?.finish()?;
                return Ok(());
            }
        }
    }
    // Whoever gives jobs has the reason.
    Err(BackupFault::Failed)
}

type Packed = Builder<StreamWriter<Pieces>>;

fn add_head(tar: &mut Packed, head: &Head) -> Result<(), BackupFault> {
    let bytes = serde_json::to_vec_pretty(head).map_err(io::Error::other)?;
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_mtime(head.made_unix_ms / 1000);
    header.set_size(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    Ok(tar.append_data(&mut header, HEAD, bytes.as_slice())?)
}

/// Takes one archive of Docker's to its end; how many bytes may still come.
fn add(tar: &mut Packed, part: &Part, pieces: mpsc::Receiver<Bytes>, left: u64) -> Result<u64, BackupFault> {
    let mut feed = Feed {
        pieces,
        piece: Bytes::new(),
        left,
        ended: false,
    };
    let mut left_out = 0_u64;
    let mut archive = Archive::new(&mut feed);
    let mut is_first = true;
    for entry in archive.entries()? {
        let entry = entry?;
        // A link in the folder's place would be followed on the way back.
        if is_first && entry.header().entry_type() != EntryType::Directory {
            return Err(BackupFault::NoFolder(part.prefix()));
        }
        is_first = false;
        if !add_entry(tar, part, entry)? {
            left_out += 1;
        }
    }
    // Docker ends an archive early, and says nothing, where a file became shorter while it was read.
    if feed.ended || is_first {
        return Err(BackupFault::Cut);
    }
    io::copy(&mut feed, &mut io::sink())?;
    if left_out > 0 {
        tracing::warn!(
            part = part.prefix(),
            left_out,
            "a backup is without devices, pipes and the like"
        );
    }
    Ok(feed.left)
}

/// A header of our own with what is kept of an entry's: what stands in the other besides is read by some in one way and by some in another.
/// The size is that of the bytes which follow; of a folder or link there are none.
pub(super) fn anew<R: Read>(entry: &Entry<'_, R>) -> io::Result<Header> {
    let (of, mut header) = (entry.header(), Header::new_gnu());
    header.set_entry_type(of.entry_type());
    header.set_mode(of.mode()?);
    header.set_uid(of.uid()?);
    header.set_gid(of.gid()?);
    header.set_mtime(of.mtime()?);
    let is_file = of.entry_type() == EntryType::Regular;
    header.set_size(if is_file { entry.size() } else { 0 });
    Ok(header)
}

/// False: it is no file, folder or link, and is left out.
fn add_entry(tar: &mut Packed, part: &Part, entry: Entry<'_, &mut Feed>) -> Result<bool, BackupFault> {
    let name = part.kept(&entry.path_bytes())?;
    let name = Path::new(OsStr::from_bytes(&name));
    let kind = entry.header().entry_type();
    let mut header = anew(&entry)?;
    match kind {
        EntryType::Regular => {
            let size = entry.size();
            let mut counted = Counted { entry, bytes: 0 };
            tar.append_data(&mut header, name, &mut counted)?;
            if counted.bytes != size {
                return Err(BackupFault::Cut);
            }
        }
        EntryType::Directory => tar.append_data(&mut header, name, io::empty())?,
        EntryType::Symlink => {
            let to = entry.link_name_bytes().ok_or(BackupFault::Cut)?.into_owned();
            tar.append_link(&mut header, name, Path::new(OsStr::from_bytes(&to)))?;
        }
        EntryType::Link => {
            let to = part.kept(&entry.link_name_bytes().ok_or(BackupFault::Cut)?)?;
            tar.append_link(&mut header, name, Path::new(OsStr::from_bytes(&to)))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Somebody read less than was asked for, or went.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the backup any more")]
struct Unread;

/// Docker gave more than the ceiling allows.
#[derive(Debug, thiserror::Error)]
#[error("longer than the ceiling allows")]
struct TooLong;

impl From<io::Error> for BackupFault {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref();
        if inner.is_some_and(|inner| inner.is::<Unread>()) {
            BackupFault::Unread
        } else if inner.is_some_and(|inner| inner.is::<TooLong>()) {
            BackupFault::TooLarge
        } else {
            // The tar reader's words name no file's content.
            tracing::warn!(%error, "Docker's archive cannot be packed");
            BackupFault::Cut
        }
    }
}

/// What is encrypted, to its reader.
struct Pieces(mpsc::Sender<Bytes>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map_err(|_| io::Error::other(Unread))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What Docker sends, no more than `left`.
struct Feed {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
    left: u64,
    /// Whether somebody read on after its end.
    ended: bool,
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let Some(piece) = self.pieces.blocking_recv() else {
                self.ended = true;
                return Ok(0);
            };
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            self.left = self
                .left
                .checked_sub(length)
                .ok_or_else(|| io::Error::other(TooLong))?;
            self.piece = piece;
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// A file's bytes, counted: one that is cut ends without a word.
pub(super) struct Counted<R> {
    pub(super) entry: R,
    pub(super) bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.entry.read(buffer)?;
        self.bytes += u64::try_from(read).unwrap_or(u64::MAX);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use age::x25519::Identity;
    use cell_manifest::{BelowRoot, Name};

    use super::*;

    const BLOCK: usize = 512;

    fn part() -> Part {
        Part {
            volume: Name::try_from("mail").unwrap(),
            folder: BelowRoot::default(),
            container: Name::try_from("main").unwrap(),
            target: "/data".to_owned(),
        }
    }

    /// An archive as Docker makes it: the folder, and this in it.
    fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_uid(1000);
            header.set_gid(1000);
            header.set_mtime(1_700_000_000);
            header.set_size(u64::try_from(content.len()).unwrap());
            if *kind == EntryType::Symlink {
                header.set_size(0);
                tar.append_link(&mut header, name, "/etc").unwrap();
            } else {
                tar.append_data(&mut header, name, *content).unwrap();
            }
        }
        tar.into_inner().unwrap()
    }

    /// What comes of an archive in pieces of a few bytes; `whole`: whether it is said that nothing more comes.
    fn packed(
        identity: &Identity,
        archive: &[u8],
        most: u64,
        whole: bool,
    ) -> (Vec<u8>, Result<(), BackupFault>) {
        let (jobs, given) = mpsc::channel(2);
        let (out, mut pieces) = mpsc::channel(1);
        let (feed, fed) = mpsc::channel(1);
        jobs.blocking_send(Job::Part(part(), fed)).unwrap();
        if whole {
            jobs.blocking_send(Job::Finish).unwrap();
        }
        drop(jobs);
        let archive = archive.to_vec();
        let feeding = std::thread::spawn(move || {
            let fed = |piece: &[u8]| feed.blocking_send(Bytes::copy_from_slice(piece)).is_ok();
            archive.chunks(700).all(fed);
        });
        let recipients = [identity.to_public()];
        let head = Head {
            format: Head::FORMAT,
            service: "email".to_owned(),
            version: "1.0".to_owned(),
            manifest_digest: String::new(),
            made_unix_ms: 0,
            parts: vec!["mail".to_owned()],
        };
        let packing = std::thread::spawn(move || pack(&recipients, most, &head, given, out));
        let mut all = Vec::new();
        while let Some(piece) = pieces.blocking_recv() {
            all.extend_from_slice(&piece);
        }
        feeding.join().unwrap();
        (all, packing.join().unwrap())
    }

    fn opens(identity: &Identity, backup: &[u8]) -> bool {
        let decryptor = age::Decryptor::new(backup).unwrap();
        let mut plain = decryptor
            .decrypt(std::iter::once(identity as &dyn age::Identity))
            .unwrap();
        plain.read_to_end(&mut Vec::new()).is_ok()
    }

    #[test]
    fn an_archive_is_whole_or_nothing_that_opens_comes_of_it() {
        use BackupFault::{Cut, Failed, NoFolder, Outside, TooLarge};
        use EntryType::{Directory, Regular, Symlink};
        let identity = Identity::generate();
        let zeros = [0; 4 * BLOCK];
        let good = archive(&[("data", Directory, b""), ("data/zeros", Regular, &zeros)]);
        let (backup, made) = packed(&identity, &good, 1 << 20, true);
        assert_eq!(made, Ok(()));
        assert!(opens(&identity, &backup), "control");
        let end = good.len() - 2 * BLOCK;
        let outside = archive(&[("data", Directory, b""), ("other/x", Regular, b"x")]);
        let link = archive(&[("data", Symlink, b"")]);
        let file = archive(&[("data", Regular, b"x")]);
        let folder = || NoFolder("mail".to_owned());
        for (what, archive, most, whole, fault) in [
            ("no end mark", &good[..end], 1 << 20, true, Cut),
            (
                "half a file of zeros",
                &good[..end - 2 * BLOCK],
                1 << 20,
                true,
                Cut,
            ),
            ("half a header", &good[..BLOCK + 100], 1 << 20, true, Cut),
            ("nothing", &[], 1 << 20, true, Cut),
            ("an end mark alone", &zeros[..2 * BLOCK], 1 << 20, true, Cut),
            ("outside", &outside, 1 << 20, true, Outside),
            ("a link in the folder's place", &link, 1 << 20, true, folder()),
            ("a file in the folder's place", &file, 1 << 20, true, folder()),
            ("above the ceiling", &good, 2000, true, TooLarge),
            ("nobody says that it is all", &good, 1 << 20, false, Failed),
        ] {
            let (backup, made) = packed(&identity, archive, most, whole);
            assert_eq!(made, Err(fault), "{what}");
            assert!(!opens(&identity, &backup), "{what}");
        }
    }

    #[test]
    fn it_ends_when_its_reader_goes() {
        let identity = Identity::generate();
        let (jobs, given) = mpsc::channel(1);
        let (out, pieces) = mpsc::channel(1);
        drop(pieces);
        drop(jobs);
        let head = Head {
            format: Head::FORMAT,
            service: String::new(),
            version: String::new(),
            manifest_digest: String::new(),
            made_unix_ms: 0,
            parts: Vec::new(),
        };
        let made = pack(&[identity.to_public()], 1, &head, given, out);
        assert_eq!(made, Err(BackupFault::Unread));
    }
}
