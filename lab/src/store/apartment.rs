//! A device's side: programs run in its network, with the cell's relay as their resolver and the cell's authority as the one they
//! trust. No address of a service is told to them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::household::CELL_IN_VPN;
use crate::resolver::{Ended, ask};
use crate::stock::Client;
use crate::topology::Device;

/// Longest run of a client, seconds.
const PATIENCE: &str = "120";
/// Puts the resolver's file over the machine's, in a mount namespace of its own.
const SCRIPT: &str = "mount --bind \"$1\" \"$(readlink -f /etc/resolv.conf)\" && shift && exec \"$@\"";

/// It.
#[derive(Debug)]
pub struct Apartment<'a> {
    device: &'a Device,
    /// Its tunnel.
    pub client: Client<'a>,
    folder: tempfile::TempDir,
}

impl<'a> Apartment<'a> {
    /// Of a device whose tunnel is up, which has installed the cell's root certificate (PEM).
    ///
    /// # Errors
    /// As write(2), or with certutil's words.
    pub fn new(device: &'a Device, client: Client<'a>, root: &[u8]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("cell-device-").tempdir()?;
        std::fs::write(
            folder.path().join("resolv.conf"),
            format!("nameserver {CELL_IN_VPN}\n"),
        )?;
        std::fs::write(folder.path().join("root.pem"), root)?;
        let apartment = Apartment {
            device,
            client,
            folder,
        };
        apartment.trust()?;
        Ok(apartment)
    }

    /// A file of its own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where browsers look for authorities (NSS).
    fn trust(&self) -> Result<()> {
        let store = self.path(".pki/nssdb");
        std::fs::create_dir_all(&store)?;
        let database = format!("sql:{}", store.display());
        let root = self.path("root.pem").display().to_string();
        for arguments in [
            vec!["-N", "--empty-password", "-d", &database],
            vec!["-A", "-n", "cell", "-t", "C,,", "-d", &database, "-i", &root],
        ] {
            crate::process::run(Command::new("certutil").args(arguments))?;
        }
        Ok(())
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn outcome(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let root = self.path("root.pem");
        let mut command = Command::new("timeout");
        command.args([PATIENCE, "unshare", "--mount", "sh", "-c", SCRIPT, "sh"]);
        command.arg(self.path("resolv.conf")).arg(program).args(arguments);
        command.env("HOME", self.folder.path()).stdin(Stdio::null());
        for name in [
            "REQUESTS_CA_BUNDLE",
            "SSL_CERT_FILE",
            "CURL_CA_BUNDLE",
            "NODE_EXTRA_CA_CERTS",
        ] {
            command.env(name, &root);
        }
        for name in [
            "http_proxy",
            "https_proxy",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
        ] {
            command.env_remove(name);
        }
        let output = self.device.namespace.inside(|| command.output())?;
        output.with_context(|| format!("{program} cannot be started"))
    }

    /// What it printed.
    ///
    /// # Errors
    /// With its words, when it fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.outcome(program, arguments)?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{program} {arguments:?}: {}\n{said}\n{words}",
            output.status
        );
        Ok(said)
    }

    /// The address that a name has for this device, by its own question to the relay: `NXDOMAIN` and other refusals as words.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn dig(&self, name: &str) -> Result<String> {
        let server = format!("@{CELL_IN_VPN}");
        let said = self.run("dig", &[&server, name, "A", "+tries=2", "+time=3"])?;
        let status = said
            .split("status: ")
            .nth(1)
            .and_then(|rest| rest.split(',').next());
        let answer = said
            .lines()
            .find(|line| !line.starts_with(';') && line.contains("\tA\t"));
        Ok(answer
            .and_then(|line| line.split_whitespace().last())
            .or(status)
            .context(said.clone())?
            .to_owned())
    }

    /// The same by a question of ours, which starts no program; None: no answer within `patience`.
    ///
    /// # Errors
    /// As [`crate::resolver::ask`].
    pub fn ask(&self, name: &str, patience: Duration) -> Result<Option<Ended>> {
        let relay = SocketAddr::new(CELL_IN_VPN.parse()?, 53);
        ask(&self.device.namespace, relay, name, false, patience)
    }

    /// The status that a URL answers, or how curl(1) failed: `curl 7` is a connection that was refused, 28 one that nobody answered.
    ///
    /// # Errors
    /// When curl cannot be started.
    pub fn status(&self, url: &str, more: &[&str]) -> Result<String> {
        let mut arguments = vec!["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5"];
        arguments.extend(more);
        arguments.push(url);
        let output = self.outcome("curl", &arguments)?;
        Ok(match output.status.code() {
            Some(0) => String::from_utf8_lossy(&output.stdout).into_owned(),
            code => format!("curl {}", code.unwrap_or(-1)),
        })
    }
}
