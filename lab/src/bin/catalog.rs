//! Writes `compose/catalog/index.json` from the manifests beside it, after it held each to the schema.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser;

/// Writes the catalog's index.
#[derive(Parser)]
struct Options {
    /// The folder with one folder for each manifest.
    #[arg(default_value = "compose/catalog")]
    catalog: PathBuf,
}

fn main() -> Result<()> {
    let catalog = Options::parse().catalog;
    let path = catalog.join("index.json");
    std::fs::write(&path, cell_lab::catalog::index(&catalog)?).with_context(|| path.display().to_string())
}
