//! The file of users and the users' folders.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::name::{Password, User};
use crate::users::{Corrupt, Format, Hash, Users};

/// bcrypt's cost, a power of two: some 50 ms, and a file of users that is stolen is no list of passwords.
const COST: u32 = 10;
/// Longest file of users that is read, bytes.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The file of users. Its folder is this program's to write.
    pub file: PathBuf,
    /// What reads it.
    pub format: Format,
    /// Folders in which each user's folder lies, named as the user.
    pub data: Vec<PathBuf>,
    /// Whether a user's folder is made with the account; else the service makes it when it is needed.
    pub make_folders: bool,
}

/// What an account can fail by.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The file is not ours.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// Too many accounts.
    #[error("there are {} accounts, the most there can be: remove one first", Users::MOST)]
    Full,
    /// The system said no.
    #[error("{what}: {source}")]
    Io {
        /// While doing what.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// bcrypt said no.
    #[error("the password could not be hashed")]
    Hash,
}

/// What became of a PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// There is an account more.
    Created,
    /// It was there and has this password now.
    Changed,
}

/// The accounts of one service. The only writer of its file.
#[derive(Debug)]
pub struct Store {
    places: Places,
    turn: Mutex<()>,
}

fn doing(what: &'static str) -> impl FnOnce(io::Error) -> Failed {
    move |source| Failed::Io { what, source }
}

impl Store {
    /// Opens it: makes an empty file where there is none, and finishes removals that were cut short.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn open(places: Places) -> Result<Self, Failed> {
        let store = Store {
            places,
            turn: Mutex::new(()),
        };
        let turn = store.turn();
        let users = store.read()?;
        if !store.places.file.exists() {
            store.write(&users)?;
        }
        for user in users.removing() {
            store.clear(user)?;
        }
        drop(turn);
        Ok(store)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        // Nothing of it is kept in memory: what panicked has left the file as it was.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The accounts there are.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn users(&self) -> Result<Users, Failed> {
        self.read()
    }

    /// Makes an account, or gives it another password.
    ///
    /// # Errors
    /// [`Failed`]; there is then no account that was not there, and one that was has its former password.
    pub fn put(&self, user: &User, password: &Password) -> Result<Put, Failed> {
        let hash = hash(password)?;
        let _turn = self.turn();
        let mut users = self.read()?;
        if users.removing().any(|gone| gone == user) {
            users = self.clear(user)?;
        }
        let put = if users.has(user) {
            Put::Changed
        } else {
            Put::Created
        };
        if put == Put::Created && users.count() >= Users::MOST {
            return Err(Failed::Full);
        }
        if self.places.make_folders {
            self.places
                .data
                .iter()
                .try_for_each(|data| folder(&data.join(user.as_str())))?;
        }
        let next = users.with(user, hash).ok_or(Failed::Full)?;
        self.write(&next)?;
        Ok(put)
    }

    /// Removes an account with all that is in its folders. Whether it was there.
    ///
    /// # Errors
    /// [`Failed`]. The account is there as before; or it is gone, and its folders go with the next call or start.
    pub fn delete(&self, user: &User) -> Result<bool, Failed> {
        let _turn = self.turn();
        let users = self.read()?;
        let was = match users.without(user) {
            Some(next) => {
                // From here on it is gone: what follows is finished after a crash.
                self.write(&next)?;
                true
            }
            None if users.removing().any(|gone| gone == user) => true,
            None => return Ok(false),
        };
        self.clear(user)?;
        Ok(was)
    }

    /// Removes the folders of one that is gone, and then the note that they are to be removed.
    fn clear(&self, user: &User) -> Result<Users, Failed> {
        for data in &self.places.data {
            // remove_dir_all follows no link, whoever puts one there meanwhile.
            match fs::remove_dir_all(data.join(user.as_str())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(doing("remove the folder of a user")(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        let users = self.read()?.removed(user);
        self.write(&users)?;
        Ok(users)
    }

    fn read(&self) -> Result<Users, Failed> {
        let file = &self.places.file;
        match fs::metadata(file) {
            Ok(about) if about.len() > FILE_MAX => {
                let error = io::Error::other("it is longer than this program writes");
                return Err(doing("read the file of users")(error));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Users::default()),
            Ok(_) => {}
            Err(error) => return Err(doing("read the file of users")(error)),
        }
        let text = fs::read_to_string(file).map_err(doing("read the file of users"))?;
        Ok(Users::parse(&text, self.places.format)?)
    }

    fn write(&self, users: &Users) -> Result<(), Failed> {
        replace(&self.places.file, users.render(self.places.format).as_bytes())
            .map_err(doing("write the file of users"))
    }
}

/// Replaces a file as a whole, for its owner and group alone: after a crash it is the former or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .ok_or_else(|| io::Error::other("a file lies in a folder"))?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o640))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

fn folder(path: &Path) -> Result<(), Failed> {
    match fs::DirBuilder::new().mode(0o750).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(doing("make the folder of a user")(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn hash(password: &Password) -> Result<Hash, Failed> {
    let parts = bcrypt::hash_with_result(password.as_bytes(), COST).map_err(|_| Failed::Hash)?;
    Hash::new(&parts.format_for_version(bcrypt::Version::TwoY)).ok_or(Failed::Hash)
}
