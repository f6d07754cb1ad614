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
const PEBBLE: &str = "v2.10.3";

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
    unpacked("caddy", "caddy", "usr/bin/caddy")
}

/// A program of Debian's package `package`, which is not installed for it.
fn unpacked(name: &str, package: &str, path: &str) -> Result<PathBuf> {
    kept(&format!("{name}-debian"), Path::new(path), |folder| {
        run(Command::new("apt-get")
            .args(["download", package])
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

/// Caddy as the cell's image has it, with the cell's own modules: built from the sources beside this, which Go looks at each time.
///
/// # Errors
/// When it cannot be built.
pub fn cell_caddy() -> Result<PathBuf> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../compose/images/caddy");
    let program = cache()?.join("cell-caddy");
    run(Command::new("go")
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"])
        .args(["-tags", "nobadger,nomysql,nopgx", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(sources)
        .env("GOFLAGS", "-mod=readonly")
        .env("CGO_ENABLED", "0"))?;
    Ok(program)
}

/// Pebble, Let's Encrypt's ACME server for tests, built by Go from its module, whose sum Go checks.
///
/// # Errors
/// When it is not there and cannot be built.
pub fn pebble() -> Result<PathBuf> {
    kept(&format!("pebble-{PEBBLE}"), Path::new("pebble"), |folder| {
        let module = format!("github.com/letsencrypt/pebble/v2/cmd/pebble@{PEBBLE}");
        run(Command::new("go")
            .args(["install", "-trimpath", "-ldflags=-s -w", &module])
            .env("GOBIN", folder)
            .env("CGO_ENABLED", "0"))
    })
}

/// BIND's name server, of Debian's package, whose libraries bind9-dnsutils brings. Never the machine's own: where that is installed,
/// AppArmor lets it read what is its own alone.
///
/// # Errors
/// When it is not there and cannot be fetched.
pub fn named() -> Result<PathBuf> {
    unpacked("named", "bind9", "usr/sbin/named")
}

/// A file of the cache's folder, made in a folder of its own and put there whole: several tests may want it at once.
fn kept(name: &str, file: &Path, make: impl FnOnce(&Path) -> Result<String>) -> Result<PathBuf> {
    let cache = cache()?;
    let place = cache.join(name);
    let wanted = place.join(file);
    if wanted.exists() {
        return Ok(wanted);
    }
    // Who comes second waits for it: two would take twice as long each.
    let lock = fs::File::create(cache.join(format!(".{name}.lock")))?;
    lock.lock()?;
    if wanted.exists() {
        return Ok(wanted);
    }
    let making = tempfile::Builder::new().prefix(name).tempdir_in(&cache)?;
    let folder = making.path().to_owned();
    make(&folder).with_context(|| format!("making {name}"))?;
    // Who comes second finds it there.
    if fs::rename(&folder, &place).is_ok() {
        let _ = making.keep();
    }
    anyhow::ensure!(wanted.exists(), "{} was not made", wanted.display());
    Ok(wanted)
}

fn cache() -> Result<PathBuf> {
    let cache = env::var_os("CELL_LAB_CACHE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lab-cache"),
        PathBuf::from,
    );
    fs::create_dir_all(&cache)?;
    // Absolute: Go takes no other.
    Ok(fs::canonicalize(cache)?)
}
