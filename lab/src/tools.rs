//! Programs that derived configurations are held against: CoreDNS at the version that cells run, and Debian's Caddy. What the
//! machine has not is built or fetched once, into `target/lab-cache` (`CELL_LAB_CACHE`), and never installed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::run;

/// As `compose/images` builds it.
const COREDNS: &str = "v1.15.0";

/// CoreDNS with all its plugins, built by Go from its module, whose sum Go checks.
///
/// # Errors
/// When it is not there and cannot be built.
pub fn coredns() -> Result<PathBuf> {
    kept(&format!("coredns-{COREDNS}"), Path::new("coredns"), |folder| {
        let module = format!("github.com/coredns/coredns@{COREDNS}");
        run(Command::new("go")
            .args(["install", "-trimpath", "-ldflags=-s -w", &module])
            .env("GOBIN", folder)
            .env("CGO_ENABLED", "0"))
    })
}

/// Caddy: the machine's own, else that of Debian's package.
///
/// # Errors
/// When it is not there and cannot be fetched.
pub fn caddy() -> Result<PathBuf> {
    let installed = Path::new("/usr/bin/caddy");
    if installed.exists() {
        return Ok(installed.to_owned());
    }
    kept("caddy-debian", Path::new("usr/bin/caddy"), |folder| {
        run(Command::new("apt-get")
            .args(["download", "caddy"])
            .current_dir(folder))?;
        let package = fs::read_dir(folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get downloaded no package")?;
        let unpacked = run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(folder))?;
        fs::remove_file(package)?;
        Ok(unpacked)
    })
}

/// A file of the cache's folder, made in a folder of its own and put there whole: several tests may want it at once.
fn kept(name: &str, file: &Path, make: impl FnOnce(&Path) -> Result<String>) -> Result<PathBuf> {
    let cache = env::var_os("CELL_LAB_CACHE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lab-cache"),
        PathBuf::from,
    );
    let place = cache.join(name);
    let wanted = place.join(file);
    if wanted.exists() {
        return Ok(wanted);
    }
    fs::create_dir_all(&cache)?;
    let making = tempfile::Builder::new().prefix(name).tempdir_in(&cache)?;
    // Absolute: Go takes no other.
    let folder = fs::canonicalize(making.path())?;
    make(&folder).with_context(|| format!("making {name}"))?;
    // Who comes second finds it there.
    if fs::rename(&folder, &place).is_ok() {
        let _ = making.keep();
    }
    anyhow::ensure!(wanted.exists(), "{} was not made", wanted.display());
    Ok(wanted)
}
