//! A private Tor network: three authorities, which are relays too, and one exit relay of another address. A consensus every ten
//! seconds, so that a client finds its way in less than half a minute.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cell_launch::house::{Daemon, TOR};

use crate::activation;
use crate::netns::Namespace;
use crate::process::{Process, run_with_input, until};
use crate::topology::Device;

const AUTHORITIES: [&str; 3] = ["red", "green", "blue"];
/// How fast they vote; and without a history of a relay they know too little to call it an exit or a guard.
const VOTING: &str = "AuthoritativeDirectory 1\nV3AuthoritativeDirectory 1\nContactInfo lab\nExitPolicy reject *:*\n\
    TestingV3AuthInitialVotingInterval 10\nTestingV3AuthInitialVoteDelay 2\nTestingV3AuthInitialDistDelay 2\n\
    V3AuthVotingInterval 10\nV3AuthVoteDelay 2\nV3AuthDistDelay 2\nV3AuthNIntervalsValid 3\n\
    TestingDirAuthVoteExit *\nTestingDirAuthVoteGuard *\nTestingMinExitFlagThreshold 0\n";

/// How long the first consensus may take: they vote every ten seconds.
const AGREED: Duration = Duration::from_secs(90);

/// What the exit relay is called.
const LEAVER: &str = "leaver";

/// The network. Dropping it ends its relays.
#[derive(Debug)]
pub struct TorNetwork {
    folder: tempfile::TempDir,
    common: String,
    exit: String,
    /// Whoever votes; held, not looked at.
    authorities: Vec<Process>,
    leaver: Option<Process>,
}

impl TorNetwork {
    /// Starts it: the authorities at one host, the exit relay at another.
    ///
    /// # Errors
    /// With the words of the program that failed.
    pub fn start(authorities: &Device, exit: &Device) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
        let mut common = "TestingTorNetwork 1\nAssumeReachable 1\n".to_owned();
        for (number, name) in AUTHORITIES.into_iter().enumerate() {
            common += &authority(&folder.path().join(name), name, number, authorities)?;
        }
        let at = exit.address.v4;
        let exit_own = format!(
            "Address {at}\nORPort {at}:5010\nExitRelay 1\nIPv6Exit 1\nExitPolicyRejectPrivate 0\nExitPolicy accept *:*\n\
             ContactInfo lab\n"
        );
        let mut network = TorNetwork {
            folder,
            common,
            exit: exit_own,
            authorities: Vec::new(),
            leaver: None,
        };
        for (number, name) in AUTHORITIES.into_iter().enumerate() {
            let at = authorities.address.v4;
            let own = format!(
                "{VOTING}Address {at}\nORPort {at}:{}\nDirPort {at}:{}\n",
                or(number),
                dir(number)
            );
            let authority = network.relay(&authorities.namespace, name, &own)?;
            network.authorities.push(authority);
        }
        network.exit_up(exit)?;
        // A client that asks before there is a consensus is told 404, and while requests wait at it asks for nothing else any more.
        until(AGREED, "the authorities of Tor to agree on their relays", || {
            network.has_consensus().then_some(())
        })?;
        Ok(network)
    }

    /// Whether each authority has a consensus to give, with the exit relay in it.
    fn has_consensus(&self) -> bool {
        AUTHORITIES.into_iter().all(|name| {
            let file = self.folder.path().join(name).join("cached-microdesc-consensus");
            fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("\nr {LEAVER} ")))
        })
    }

    /// What every member must know, as lines of a torrc: who the authorities are.
    pub fn membership(&self) -> &str {
        &self.common
    }

    /// Ends the exit relay as a crash would.
    pub fn exit_down(&mut self) {
        self.leaver = None;
    }

    /// Starts the exit relay, as the one that it was, at the host that it was at, unless it runs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn exit_up(&mut self, exit: &Device) -> Result<()> {
        if self.leaver.is_none() {
            self.leaver = Some(self.relay(&exit.namespace, LEAVER, &self.exit)?);
        }
        Ok(())
    }

    fn relay(&self, namespace: &Namespace, name: &str, own: &str) -> Result<Process> {
        let data = self.folder.path().join(name);
        fs::create_dir_all(&data)?;
        fs::set_permissions(&data, PermissionsExt::from_mode(0o700))?;
        let file = self.folder.path().join(format!("{name}.torrc"));
        let text = format!(
            "{}Nickname {name}\nDataDirectory {}\nSocksPort 0\n{own}",
            self.common,
            data.display()
        );
        fs::write(&file, text)?;
        let mut command = Command::new(TOR);
        command.args(["--defaults-torrc", "/dev/null", "-f"]).arg(file);
        namespace.spawn(name, &mut command)
    }

    /// The cell's Tor, by the torrc that is shipped, as a member of this network instead of the world's; and its control socket,
    /// which the shipped one does not have.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn client(&self, namespace: &Namespace, uid: u32) -> Result<(Process, PathBuf)> {
        let folder = self.folder.path();
        let (data, defaults, torrc) = (
            folder.join("client"),
            folder.join("defaults"),
            folder.join("torrc"),
        );
        fs::create_dir_all(&data)?;
        fs::set_permissions(&data, PermissionsExt::from_mode(0o700))?;
        chown(&data, Some(uid), Some(uid))?;
        let control = data.join("control");
        fs::write(
            &defaults,
            format!("{}ControlSocket {}\n", self.common, control.display()),
        )?;
        let shipped = Daemon::Tor.shipped_policy();
        fs::write(
            &torrc,
            shipped.replace("/var/lib/cell/tor", data.to_str().context("path")?),
        )?;
        let path = |path: &Path| path.display().to_string();
        let (defaults, torrc) = (path(&defaults), path(&torrc));
        let arguments = ["--defaults-torrc", &defaults, "-f", &torrc];
        let mut command = activation::command(Path::new(TOR), &arguments, uid, &[])?;
        Ok((namespace.spawn("cell-tor", &mut command)?, control))
    }
}

const fn or(number: usize) -> usize {
    5001 + number
}

const fn dir(number: usize) -> usize {
    7001 + number
}

/// Makes the keys of an authority, and the line by which all others know it.
fn authority(data: &Path, name: &str, number: usize, at: &Device) -> Result<String> {
    let keys = data.join("keys");
    fs::create_dir_all(&keys)?;
    for folder in [data, &keys] {
        fs::set_permissions(folder, PermissionsExt::from_mode(0o700))?;
    }
    let address = format!("{}:{}", at.address.v4, dir(number));
    let certificate = keys.join("authority_certificate");
    let mut gencert = Command::new("tor-gencert");
    gencert
        .args([
            "--create-identity-key",
            "--passphrase-fd",
            "0",
            "-m",
            "12",
            "-a",
            &address,
        ])
        .arg("-i")
        .arg(keys.join("authority_identity_key"))
        .arg("-s")
        .arg(keys.join("authority_signing_key"))
        .arg("-c")
        .arg(&certificate);
    run_with_input(&mut gencert, "lab\n")?;
    // A relay's fingerprint is asked of a relay.
    let mut list = Command::new(TOR);
    list.args([
        "--defaults-torrc",
        "/dev/null",
        "-f",
        "/dev/null",
        "--ignore-missing-torrc",
        "--list-fingerprint",
    ])
    .args([
        "--ORPort",
        &or(number).to_string(),
        "--Nickname",
        name,
        "--DataDirectory",
    ])
    .arg(data);
    let said = run_with_input(&mut list, "")?;
    let (_, fingerprint) = said
        .trim()
        .lines()
        .last()
        .and_then(|line| line.split_once(' '))
        .context("a fingerprint")?;
    let identity = fs::read_to_string(certificate)?
        .lines()
        .find_map(|line| line.strip_prefix("fingerprint ").map(str::to_owned))
        .context("an identity")?;
    Ok(format!(
        "DirAuthority {name} orport={} no-v2 v3ident={identity} {address} {}\n",
        or(number),
        fingerprint.replace(' ', "")
    ))
}
