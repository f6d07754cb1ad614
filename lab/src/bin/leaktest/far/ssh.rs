//! OpenSSH's sshd.

use std::process::Command;

use anyhow::Result;
use cell_lab::topology::Device;
use serde_json::{Value, json};

use super::Server;
use super::program::{Program, folder};

const PORT: u16 = 22;

/// It, and the keys of both sides.
pub struct Ssh<'a> {
    device: &'a Device,
    folder: tempfile::TempDir,
    running: Option<Program>,
}

impl<'a> Ssh<'a> {
    /// Makes keys and configuration.
    ///
    /// # Errors
    /// When ssh-keygen fails.
    pub fn new(device: &'a Device) -> Result<Self> {
        let folder = folder()?;
        for name in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
                .arg(folder.path().join(name))
                .status()?;
            anyhow::ensure!(made.success(), "ssh-keygen: {made}");
        }
        let text = format!(
            "ListenAddress {}\nHostKey {}\nAuthorizedKeysFile {}\nPermitRootLogin prohibit-password\n\
             StrictModes no\nUsePAM no\nPidFile none\nAllowTcpForwarding yes\nMaxStartups 200\nLogLevel ERROR\n",
            device.address.v4,
            folder.path().join("host").display(),
            folder.path().join("user.pub").display(),
        );
        std::fs::write(folder.path().join("sshd"), text)?;
        let running = None;
        Ok(Ssh {
            device,
            folder,
            running,
        })
    }
}

impl Server for Ssh<'_> {
    fn up(&mut self) -> Result<()> {
        // Its folder of privilege separation, which the service manager makes for it.
        let script =
            "mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -e -f \"$1\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "bash", "-c", script, "bash"]);
        command.arg(self.folder.path().join("sshd"));
        self.running = Some(Program::start(self.device, "sshd", PORT, &command)?);
        Ok(())
    }

    fn down(&mut self) {
        self.running = None;
    }

    fn import(&self, _is_first: bool) -> Result<Option<Value>> {
        let read = |name: &str| std::fs::read_to_string(self.folder.path().join(name));
        Ok(Some(json!({
            "target": format!("root@{}:{PORT}", self.device.address.v4),
            "private_key": read("user")?,
            "host_keys": read("host.pub")?,
        })))
    }
}
