//! Writes `compose/catalog/index.json` from the manifests beside it, after it held each to the schema; with `--sign` it writes a catalog that
//! others can fetch instead.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use cell_lab::catalog::{self, Edition};
use clap::Parser;

/// Writes the catalog's index.
#[derive(Parser)]
struct Options {
    /// The folder with one folder for each manifest.
    #[arg(default_value = "compose/catalog")]
    catalog: PathBuf,
    /// Writes a signed catalog to --out instead, by this private key: PKCS #8 in PEM, ECDSA on P-256.
    #[arg(long, value_name = "FILE", requires = "out")]
    sign: Option<PathBuf>,
    /// Where to, e.g. the folder of a web server. What is there already stays, so that an index that was just fetched is still whole.
    #[arg(long, value_name = "FOLDER", requires = "sign")]
    out: Option<PathBuf>,
    /// The number of this index, greater than all before; without it, the seconds since 1970.
    #[arg(long, requires = "sign")]
    serial: Option<u64>,
    /// For how many days it counts.
    #[arg(long, default_value_t = 90, requires = "sign", value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let catalog = options.catalog;
    let (Some(key), Some(out)) = (options.sign, options.out) else {
        let path = catalog.join("index.json");
        return std::fs::write(&path, catalog::index(&catalog)?).with_context(|| path.display().to_string());
    };
    let pem = std::fs::read_to_string(&key).with_context(|| key.display().to_string())?;
    let key = catalog::signing_key(&pem).with_context(|| key.display().to_string())?;
    let issued_s = jiff::Timestamp::now().as_second();
    let serial = options.serial.unwrap_or(issued_s.unsigned_abs());
    ensure!(serial > 0, "--serial is 1 or more");
    let edition = Edition {
        serial,
        issued_s,
        expires_s: issued_s + i64::from(options.days) * 24 * 3600,
    };
    catalog::publish(&catalog, &key, edition, &out)?;
    println!("serial {serial}, in {}", out.display());
    Ok(())
}
