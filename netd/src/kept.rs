//! The last good state on netd's disk, for as long as a change waits for its confirmation: one file, replaced in one step,
//! and with a checksum, so that what is read is what was written or is known to be damaged.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use cell_proto::netd::v1::KeptState;
use nix::fcntl::OFlag;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

const NAME: &str = "last-good";
/// Written here first; what a crash leaves of it is overwritten.
const NEW: &str = "last-good.new";
/// What could not be read is kept for people, once.
const DAMAGED: &str = "last-good.damaged";
/// Then the version, the digest of the rest, and the rest: a `KeptState`.
const MAGIC: [u8; 8] = *b"CELLGOOD";
const VERSION: u32 = 1;
const DIGEST: usize = 32;
const HEAD: usize = MAGIC.len() + 4 + DIGEST;
/// Twice what a request may have: what is left out in a request is written out here.
const MAX_BYTES: usize = HEAD + 2 * cell_proto::ipc::serve::MAX_MESSAGE_BYTES;

/// Why the file does not tell.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The disk.
    #[error("{NAME} cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Not what was written.
    #[error("{NAME} is damaged: {0}")]
    Damaged(&'static str),
    /// Another netd's.
    #[error("{NAME} has version {0}, which this netd does not know")]
    Version(u32),
}

/// netd's state folder.
#[derive(Debug, Clone)]
pub struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// In `folder`, which is there and netd's alone.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Kept {
            folder: folder.into(),
        }
    }

    /// What is kept; none: nothing is.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(&self) -> Result<Option<KeptState>, Unreadable> {
        let file = match open(OpenOptions::new().read(true), &self.folder.join(NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut content = Vec::new();
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut content)?;
        decode(&content).map(Some)
    }

    /// Keeps `state` instead of what is kept. When this returns, it is on the disk.
    ///
    /// # Errors
    /// What the kernel answers; what was kept before is kept still, or `state` is.
    pub fn write(&self, state: &KeptState) -> io::Result<()> {
        let content = encode(state);
        if content.len() > MAX_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let new = self.folder.join(NEW);
        let mut options = OpenOptions::new();
        let mut file = open(options.write(true).create(true).truncate(true).mode(0o600), &new)?;
        file.write_all(&content)?;
        file.sync_all()?;
        fs::rename(&new, self.folder.join(NAME))?;
        self.sync()
    }

    /// Keeps nothing any more. When this returns, that is on the disk.
    ///
    /// # Errors
    /// What the kernel answers; whether something is kept is not known then.
    pub fn forget(&self) -> io::Result<()> {
        match fs::remove_file(self.folder.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.sync()
    }

    /// Moves what cannot be read out of the way, in place of what was moved there before.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set_aside(&self) -> io::Result<()> {
        match fs::rename(self.folder.join(NAME), self.folder.join(DAMAGED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

/// Never through a symbolic link: the folder is ours alone, so a link in it is not of our making.
fn open(options: &mut OpenOptions, path: &std::path::Path) -> io::Result<File> {
    options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

fn encode(state: &KeptState) -> Vec<u8> {
    framed(&state.encode_to_vec())
}

/// A file with that message in it.
#[doc(hidden)]
pub fn framed(body: &[u8]) -> Vec<u8> {
    let version = VERSION.to_le_bytes();
    [&MAGIC[..], &version, &Sha256::digest(body)[..], body].concat()
}

/// What a file says.
#[doc(hidden)]
#[allow(clippy::missing_errors_doc, reason = "for tests: Kept::read has them")]
pub fn decode(content: &[u8]) -> Result<KeptState, Unreadable> {
    if content.len() > MAX_BYTES {
        return Err(Unreadable::Damaged("it is too long"));
    }
    let short = || Unreadable::Damaged("it is too short");
    let (magic, rest) = content.split_first_chunk::<8>().ok_or_else(short)?;
    if *magic != MAGIC {
        return Err(Unreadable::Damaged("it is not a file of netd's"));
    }
    let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(Unreadable::Version(version));
    }
    let (digest, body) = rest.split_first_chunk::<DIGEST>().ok_or_else(short)?;
    if Sha256::digest(body)[..] != digest[..] {
        return Err(Unreadable::Damaged("its content is not what was written"));
    }
    KeptState::decode(body).map_err(|_| Unreadable::Damaged("its content is no message"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn state(etag: &str) -> KeptState {
        KeptState {
            pending_etag: etag.to_owned(),
            last_good: Some(Default::default()),
            ..KeptState::default()
        }
    }

    #[test]
    fn what_is_kept_is_read_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path());
        assert_eq!(kept.read().unwrap(), None);
        for etag in ["a", "b"] {
            kept.write(&state(etag)).unwrap();
            assert_eq!(kept.read().unwrap(), Some(state(etag)));
        }
        // What a crash left is in nobody's way.
        fs::write(folder.path().join(NEW), b"half").unwrap();
        assert_eq!(kept.read().unwrap(), Some(state("b")));
        kept.write(&state("c")).unwrap();
        for _ in 0..2 {
            kept.forget().unwrap();
            assert_eq!(kept.read().unwrap(), None);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let whole = encode(&state("an etag"));
        assert_eq!(decode(&whole).unwrap(), state("an etag"));
        for at in 0..whole.len() {
            assert!(decode(&whole[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                assert!(decode(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
        let mut newer = whole;
        newer[MAGIC.len()] = 2;
        assert!(matches!(decode(&newer), Err(Unreadable::Version(2))));
    }

    #[test]
    fn a_link_is_not_followed_and_a_damaged_file_is_moved_once() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(folder.path());
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join(NAME)).unwrap();
        assert!(matches!(kept.read(), Err(Unreadable::Io(_))));
        for content in ["one", "two"] {
            kept.forget().unwrap();
            fs::write(folder.path().join(NAME), content).unwrap();
            assert!(matches!(kept.read(), Err(Unreadable::Damaged(_))));
            kept.set_aside().unwrap();
            assert_eq!(kept.read().unwrap(), None);
        }
        assert_eq!(fs::read(folder.path().join(DAMAGED)).unwrap(), b"two");
    }
}
