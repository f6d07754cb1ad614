//! Whoever publishes a catalog: a key of openssl's, the program `cell-catalog`, and a web server on what stands for the internet.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::cell::program;
use crate::https::Https;
use crate::netns::Namespace;
use crate::process::run;
use crate::resolver;
use crate::topology::FAR_HOST;

/// The web server's name; what stands for the internet's resolver has it.
pub const HOST: &str = "catalog.example.org";
/// Where the catalog is.
pub const URL: &str = "https://catalog.example.org/cell/";

/// It, with its folders.
#[derive(Debug)]
pub struct Publisher {
    folder: tempfile::TempDir,
}

impl Publisher {
    /// Makes its key.
    ///
    /// # Errors
    /// With openssl's words.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("cell-publisher-").tempdir()?;
        let publisher = Publisher { folder };
        let curve = "ec_paramgen_curve:P-256";
        let mut making = Command::new("openssl");
        making.args(["genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out"]);
        run(making.arg(publisher.path("catalog.key")))?;
        let mut telling = Command::new("openssl");
        telling
            .args(["pkey", "-pubout", "-in"])
            .arg(publisher.path("catalog.key"));
        run(telling.arg("-out").arg(publisher.path("cosign.pub")))?;
        Ok(publisher)
    }

    /// Its public key, in PEM.
    ///
    /// # Errors
    /// As read(2).
    pub fn key(&self) -> Result<String> {
        let path = self.path("cosign.pub");
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// Writes the manifest of a service, for the next publication.
    ///
    /// # Errors
    /// As write(2), and for a manifest without an id.
    pub fn write(&self, manifest: &Value) -> Result<()> {
        let id = manifest["id"].as_str().context("a manifest without an id")?;
        let folder = self.path("source").join(id);
        std::fs::create_dir_all(&folder)?;
        Ok(std::fs::write(
            folder.join("manifest.json"),
            serde_json::to_vec(manifest)?,
        )?)
    }

    /// Signs all that was written, and puts it where the web server has it.
    ///
    /// # Errors
    /// With the words of `cell-catalog`.
    pub fn publish(&self, serial: u64) -> Result<()> {
        let mut publishing = Command::new(program("cell-catalog")?);
        publishing
            .arg(self.path("source"))
            .arg("--sign")
            .arg(self.path("catalog.key"));
        publishing.arg("--out").arg(self.path("www/cell"));
        run(publishing.args(["--serial", &serial.to_string()])).map(drop)
    }

    /// What is published, as files.
    pub fn published(&self) -> PathBuf {
        self.path("www/cell")
    }

    /// The web server, far out on the internet, and a resolver there that has its name.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn serve(&self, internet: &Namespace) -> Result<Https> {
        let address: Ipv4Addr = FAR_HOST.v4;
        resolver::serve(internet, SocketAddr::new(address.into(), 53), address)?;
        let listener = internet.inside(|| TcpListener::bind((address, 443)))??;
        Https::serve(listener, self.path("www"), HOST)
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }
}
