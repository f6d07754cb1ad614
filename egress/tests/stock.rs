//! The servers that people have: OpenSSH's sshd, microsocks, tinyproxy, as Debian packages them. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use cell_lab::process::{Process, until};
use cell_proto::egress::v1;
use cell_proto::egress::v1::exit::Kind;
use support::inside::Kept;
use support::servers::{echo, serve};
use support::sshd::{key, private_text, public_line};
use support::vault::Vault;
use support::{Ceiling, Daemon, FAR, Lab, PATIENCE, beyond, exit, http, is_reset, server, socks5};

/// More than windows and buffers hold.
const BYTES: usize = 3_000_000;

fn far(port: u16) -> SocketAddr {
    format!("{FAR}:{port}").parse().unwrap()
}

fn ssh(pin: &str) -> Kind {
    Kind::Ssh(v1::SshExit {
        server: server(far(22)),
        username: "root".to_owned(),
        host_keys: vec![pin.to_owned()],
    })
}

/// A program in the far namespace, until it takes connections.
fn started(lab: &Lab, name: &str, command: &mut Command, port: u16) -> Result<Process> {
    let process = lab.far.spawn(name, command)?;
    let open = || {
        let tried = lab
            .far
            .inside(|| std::net::TcpStream::connect(far(port)).map(drop));
        tried.ok()?.ok()
    };
    until(PATIENCE, name, open).with_context(|| process.output())?;
    Ok(process)
}

fn sshd(lab: &Lab, folder: &Path) -> Result<Process> {
    let write = |name: &str, text: &str, mode| -> Result<String> {
        let path = folder.join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        Ok(path.display().to_string())
    };
    let host = write("host", &private_text(&key(1)), 0o600)?;
    let authorized = write("authorized", &public_line(&key(2)), 0o644)?;
    let config = write(
        "sshd_config",
        &format!(
            "ListenAddress {}\nHostKey {host}\nAuthorizedKeysFile {authorized}\nPermitRootLogin prohibit-password\n\
             StrictModes no\nUsePAM no\nPidFile none\nAllowTcpForwarding yes\n",
            far(22)
        ),
        0o644,
    )?;
    // Its folder of privilege separation, which the service manager makes for it.
    let script = "mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -e -f \"$1\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-c", script, "bash", &config]);
    started(lab, "sshd", &mut command, 22)
}

fn tinyproxy(lab: &Lab, folder: &Path) -> Result<Process> {
    let config = folder.join("tinyproxy.conf");
    let text = format!("Listen {FAR}\nPort 3128\nTimeout 600\nMaxClients 100\nBasicAuth hans hunter2\n");
    std::fs::write(&config, text)?;
    let mut command = Command::new("tinyproxy");
    command.arg("-d").arg("-c").arg(&config);
    started(lab, "tinyproxy", &mut command, 3128)
}

fn microsocks(lab: &Lab) -> Result<Process> {
    let mut command = Command::new("microsocks");
    command.args(["-i", FAR, "-p", "1080", "-u", "hans", "-P", "hunter2"]);
    started(lab, "microsocks", &mut command, 1080)
}

#[test]
fn stock_servers_carry_both_families_and_take_no_wrong_secret() -> Result<()> {
    let lab = Lab::new()?;
    for family in [0, 1] {
        for number in 0..3 {
            serve(&lab.far, beyond(family, number), echo);
        }
    }
    let folder = tempfile::tempdir()?;
    let _servers = [
        microsocks(&lab)?,
        tinyproxy(&lab, folder.path())?,
        sshd(&lab, folder.path())?,
    ];
    let kept = |password: &str, user: u8| {
        Kept::default()
            .with(0, "password", password)
            .with(1, "password", password)
            .with(2, "private_key", &private_text(&key(user)))
    };
    let exits = |pin| {
        vec![
            exit(0, socks5(far(1080), "hans")),
            exit(1, http(far(3128), "hans")),
            exit(2, ssh(&public_line(&key(pin)))),
        ]
    };
    let said: Vec<u8> = (0..BYTES).map(|number| (number % 251) as u8).collect();
    {
        let vault = Vault::start(kept("hunter2", 2))?;
        let daemon = Daemon::start(&lab, &ceiling(&vault))?;
        daemon.apply(exits(1))?;
        for family in [0, 1] {
            for number in 0..3 {
                let told = carried(lab.connect(beyond(family, number))?, &said)?;
                assert!(told == said, "family {family}, exit {number}");
            }
        }
        daemon.apply(exits(3))?;
        is_reset(lab.connect(beyond(0, 2)));
        let told = daemon.settles(2, |exit| exit.failed_connections == 1)?;
        assert_eq!(told.last_failure_reason, "HOST_ID");
    }
    let vault = Vault::start(kept("wrong", 3))?;
    let daemon = Daemon::start(&lab, &ceiling(&vault))?;
    daemon.apply(exits(1))?;
    for number in 0..3 {
        is_reset(lab.connect(beyond(0, number)));
        let told = daemon.settles(number, |exit| exit.failed_connections == 1)?;
        assert_eq!(told.last_failure_reason, "CREDENTIALS", "{told:?}");
    }
    lab.nothing_went_directly()
}

/// There and back at once. Small proxies know no half-closed connection, so nobody ends it before all is there.
fn carried(mut stream: TcpStream, said: &[u8]) -> io::Result<Vec<u8>> {
    let mut writer = stream.try_clone()?;
    let mut answer = vec![0; said.len()];
    std::thread::scope(|scope| {
        let written = scope.spawn(move || writer.write_all(said));
        let read = stream.read_exact(&mut answer);
        written.join().unwrap().and(read)
    })?;
    Ok(answer)
}

fn ceiling(vault: &Vault) -> Ceiling {
    Ceiling {
        vault: vault.socket(),
        ..Ceiling::default()
    }
}
