//! Where the secrets of exits come from. They are never part of a request: egress reads them itself, when it needs them.

use zeroize::Zeroizing;

/// A secret's bytes, wiped when they go.
pub type Secret = Zeroizing<Vec<u8>>;

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSecret {
    /// The source does not have it.
    #[error("there is no secret {0}")]
    Absent(String),
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

/// Gives out secrets by their vault names, `conn_<id>_<field>`.
#[tonic::async_trait]
pub trait Secrets: Send + Sync + 'static {
    /// Reads one.
    ///
    /// # Errors
    /// [`NoSecret`]; the connection that needs it is then refused.
    async fn read(&self, name: &str) -> Result<Secret, NoSecret>;
}
