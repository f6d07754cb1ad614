//! Why something was not done, as one line for the person at the terminal.

use std::io;
use std::path::{Path, PathBuf};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder.
    #[error("{}: {doing}: {source}", path.display())]
    File {
        /// What was tried, e.g. "cannot be made".
        doing: &'static str,
        /// On which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A system call on something without a path.
    #[error("{what}: {source}")]
    Call {
        /// The call and what it was for.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// A program of the machine (ip, nft) that failed.
    #[error("`{command}` failed: {output}")]
    Program {
        /// Its command line.
        command: String,
        /// What it said.
        output: String,
    },
    /// Any number of faults of the machine or of the options, one a line.
    #[error("{}", .0.join("\n"))]
    Faults(Vec<String>),
}

impl Error {
    /// For `map_err` on file operations.
    pub fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { doing, path, source }
    }

    /// For `map_err` on other system calls.
    pub fn call<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
        let what = what.into();
        move |source| Error::Call {
            what,
            source: source.into(),
        }
    }

    /// One fault in words.
    pub fn fault(line: impl Into<String>) -> Error {
        Error::Faults(vec![line.into()])
    }
}
