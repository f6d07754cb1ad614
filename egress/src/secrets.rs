//! Where the secrets of exits come from. They are never part of a request: egress reads them itself, when it needs them.

use cell_egress_core::exit::ExitId;
use cell_egress_core::secret::Wanted;
use zeroize::Zeroizing;

/// A secret's bytes, wiped when they go.
pub type Secret = Zeroizing<Vec<u8>>;

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSecret {
    /// The source does not have it.
    #[error("there is no secret {0}")]
    Absent(String),
    /// The source has one of another import of the connection, which may be another server's. ApplyExits tells of which it is to be.
    #[error("the vault has another secret {0} than this exit was told of")]
    Other(String),
    /// The source was not asked: this machine has too little of something, which says nothing of the source or the secret.
    #[error("this machine lacks what it takes to read the secret {0}")]
    Shortage(String),
    /// The source cannot be asked.
    #[error("the secret {name} cannot be read: {why}")]
    Unreadable {
        /// Its name.
        name: String,
        /// Why, without its content.
        why: String,
    },
    /// It is there and of no use.
    #[error("the secret {name} is of no use: {why}")]
    Unusable {
        /// Its name.
        name: String,
        /// Why, without its content.
        why: String,
    },
}

/// Gives out secrets by their vault names, `conn_<id>_<field>`, of the import that is meant and of no other.
#[tonic::async_trait]
pub trait Secrets: Send + Sync + 'static {
    /// Reads one.
    ///
    /// # Errors
    /// [`NoSecret`]; the connection that needs it is then refused.
    async fn read(&self, wanted: &Wanted) -> Result<Secret, NoSecret>;

    /// What is held of an exit is no longer needed: it is gone, or means another secret now.
    fn forget(&self, _exit: &ExitId) {}
}
