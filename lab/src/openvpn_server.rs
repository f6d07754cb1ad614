//! Whoever offers OpenVPN: the stock program, with certificates that are made for it.

use std::fs::read_to_string;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::netns::Namespace;
use crate::process::{Process, run};

/// Where it listens.
pub const PORT: u16 = 1194;
const STARTED: Duration = Duration::from_secs(20);
const ENDED: Duration = Duration::from_secs(10);
/// Of its clients' addresses; IPv6 is for whoever starts it.
const ALWAYS: &str = "dev tun\ntopology subnet\nserver 10.99.0.0 255.255.255.0\nport 1194\n\
    ca ca.crt\ncert server.crt\nkey server.key\ndh none\ntls-crypt ta.key\nkeepalive 1 4\nverb 3\n";
/// The line that gives clients IPv6 addresses too.
pub const V6: &str = "server-ipv6 fd99::/64\n";

/// Certificates, keys and configuration.
#[derive(Debug)]
pub struct OpenvpnServer {
    folder: tempfile::TempDir,
}

impl OpenvpnServer {
    /// Makes keys: an authority, `server`, `client`, and what they share.
    ///
    /// # Errors
    /// With the words of openssl or openvpn.
    pub fn new() -> Result<Self> {
        let server = OpenvpnServer {
            folder: tempfile::tempdir()?,
        };
        server.certify()?;
        Ok(server)
    }

    /// Its folder, in which paths of its configuration begin.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Starts it with these lines beside its own.
    ///
    /// # Errors
    /// With its output.
    pub fn start(&self, namespace: &Namespace, lines: &str) -> Result<Process> {
        std::fs::write(self.folder().join("server.conf"), format!("{ALWAYS}{lines}"))?;
        let mut command = Command::new("openvpn");
        command
            .args(["--config", "server.conf"])
            .current_dir(self.folder());
        let mut process = namespace.spawn("openvpn server", &mut command)?;
        process.wait_for(STARTED, "the server is up", |output| {
            output.contains("Initialization Sequence Completed").then_some(())
        })?;
        Ok(process)
    }

    /// A file of those that were made: ca.crt, client.crt, client.key, ta.key.
    ///
    /// # Errors
    /// As read(2).
    pub fn file(&self, name: &str) -> Result<String> {
        read_to_string(self.folder().join(name)).with_context(|| name.to_owned())
    }

    /// A profile as providers sell it, with these lines beside what each has.
    ///
    /// # Errors
    /// As read(2).
    pub fn profile(&self, at: SocketAddr, lines: &str) -> Result<String> {
        Ok(format!(
            "client\ndev tun\nremote {} {}\nnobind\npersist-key\npersist-tun\nremote-cert-tls server\nverb 3\n{lines}\
             <ca>\n{}</ca>\n<cert>\n{}</cert>\n<key>\n{}</key>\n<tls-crypt>\n{}</tls-crypt>\n",
            at.ip(),
            at.port(),
            self.file("ca.crt")?,
            self.file("client.crt")?,
            self.file("client.key")?,
            self.file("ta.key")?,
        ))
    }

    fn certify(&self) -> Result<()> {
        let curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        let authority = "-keyout ca.key -out ca.crt -subj /CN=ca -days 30";
        self.run("openssl", &format!("req -x509 {curve} {authority}"))?;
        for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
            let made = format!("-keyout {name}.key -out {name}.csr -subj /CN={name}");
            self.run("openssl", &format!("req {curve} {made}"))?;
            let uses = format!("keyUsage=digitalSignature\nextendedKeyUsage={usage}\n");
            std::fs::write(self.folder().join("ext"), uses)?;
            let by = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile ext";
            let signed = format!("x509 -req -in {name}.csr -out {name}.crt {by}");
            self.run("openssl", &signed)?;
        }
        self.run("openvpn", "--genkey tls-crypt ta.key")
    }

    fn run(&self, program: &str, arguments: &str) -> Result<()> {
        let mut command = Command::new(program);
        command.args(arguments.split(' ')).current_dir(self.folder());
        run(&mut command).map(drop)
    }
}

/// Ends a server as a crash would: its clients are told nothing.
///
/// # Errors
/// When it does not end.
pub fn crash(mut server: Process) -> Result<()> {
    server.signal(Signal::SIGKILL)?;
    server.wait(ENDED).map(drop)
}
