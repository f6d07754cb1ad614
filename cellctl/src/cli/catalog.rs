//! The words of `cellctl catalog`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Catalog {
    /// Remote catalogs, in the order in which they were added: of two that have a service, the first counts.
    List,
    /// One remote catalog.
    Show {
        /// Its name.
        name: String,
    },
    /// Adds a remote catalog. It is fetched from then on, once a day.
    Add(CatalogAdd),
    /// Fetches one now.
    Refresh {
        /// Its name.
        name: String,
    },
    /// Removes one. What was installed of it stays.
    Remove {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CatalogAdd {
    /// What it is to be called: a DNS label.
    pub(crate) name: String,
    /// Where it lies: https://HOST/FOLDER/
    pub(crate) url: String,
    /// A file with the public keys that may sign its index (cosign.pub); can be given several times.
    #[arg(long = "key", value_name = "FILE", required = true)]
    pub(crate) keys: Vec<PathBuf>,
    /// A file with the authorities of its server in PEM; without it those that this machine knows.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The connection that it is fetched through, and by no other way: its name, id or type; without it the cell's own way.
    #[arg(long, value_name = "CONNECTION")]
    pub(crate) via: Option<String>,
}
