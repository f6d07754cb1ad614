//! Exits that a program carries by a TUN that netd made for its user: stock WireGuard client, netd, Debian's OpenVPN as that user
//! without any right, and a real server. Nothing goes the machine's own way while the program, netd or the TUN is away, or the
//! addresses are not known. Needs root and the package `openvpn`.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/openvpn.rs"]
mod openvpn;
mod support;
#[path = "support/tunnel.rs"]
mod tunnel;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use cell_lab::process::{Process, until};
use cell_lab::topology::FAR_HOST;
use cell_proto::netd::v1::ExitState;
use nix::sys::signal::Signal;
use openvpn::near;
use support::PATIENCE;
use tunnel::{ALL, BOTH, EXIT, LINK, Setup, USER};

/// Which everybody may run.
const PYTHON: &str = "/usr/bin/python3";

/// OpenVPN without a supervisor, as the user and without any right.
fn run(setup: &Setup, folder: &Path) -> Result<Process> {
    let login = folder.join("login");
    std::fs::write(&login, format!("{}\n{}\n", openvpn::USERNAME, openvpn::PASSWORD))?;
    let profile = setup
        .server
        .profile()
        .replace("dev tun", &format!("dev {LINK}\ndev-type tun"));
    let profile = profile.replace("auth-user-pass", &format!("auth-user-pass {}", login.display()));
    let config = folder.join("client.conf");
    std::fs::write(
        &config,
        format!("{profile}\nifconfig-noexec\nroute-noexec\nscript-security 0\ndisable-dco\n"),
    )?;
    let user = USER.to_string();
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid",
            &user,
            "--regid",
            &user,
            "--clear-groups",
            "--inh-caps=-all",
        ])
        .args(["--bounding-set=-all", "--no-new-privs", "openvpn", "--config"])
        .arg(&config);
    let mut command = cell_lab::tun::with_node(&command, folder)?;
    let mut process = setup.world.cell.spawn("openvpn", &mut command)?;
    process.wait_for(PATIENCE, "OpenVPN has a session", |output| {
        output.contains("Initialization Sequence Completed").then_some(())
    })?;
    Ok(process)
}

/// A folder that the user may read.
fn folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(folder)
}

#[test]
fn a_program_carries_what_its_far_end_gave_addresses_for_and_nothing_else_leaves() -> Result<()> {
    let mut setup = Setup::new(BOTH)?;
    let folder = folder()?;
    setup.apply("", &[])?;
    let device = Arc::clone(&setup.device);
    let _client = setup.client(&device)?;
    cell_lab::probe::EchoServer::start(&setup.world.internet, 80)?;
    until(PATIENCE, "control: the machine's own way", || {
        (setup.answered() == ALL).then_some(())
    })?;
    assert!(setup.leaked() > 0, "control: it is counted");
    setup.apply(EXIT, &[])?;
    setup.controls += setup.leaked();
    let link = setup.cell(&format!("ip -d link show {LINK}"))?;
    assert!(
        link.contains("tun type tun pi off") && link.contains("user bin"),
        "{link}"
    );
    setup.carries_nothing();
    let mut program = run(&setup, folder.path())?;
    setup.carries_nothing();
    setup.apply(EXIT, &near())?;
    setup.carries(ALL)?;
    setup.apply(EXIT, &near()[..1])?;
    setup.carries(ALL / 2)?;
    setup.apply(EXIT, &near())?;
    setup.carries(ALL)?;

    program.signal(Signal::SIGKILL)?;
    program.wait(PATIENCE)?;
    setup.carries_nothing();
    let mut program = run(&setup, folder.path())?;
    setup.carries(ALL)?;

    // What the program carries goes on while netd is away, and after.
    setup.netd.process.signal(Signal::SIGKILL)?;
    setup.netd.process.wait(PATIENCE)?;
    setup.carries(ALL)?;
    setup.netd.restart(&setup.world.cell)?;
    setup.apply(EXIT, &near())?;
    setup.carries(ALL)?;

    program.signal(Signal::SIGKILL)?;
    program.wait(PATIENCE)?;
    let mut spec = setup.spec("", &near());
    spec.exits.clear();
    setup.netd.apply(spec, "")?;
    assert!(
        setup.cell(&format!("ip link show {LINK}")).is_err(),
        "it goes with the exit"
    );
    Ok(())
}

#[test]
fn a_tun_that_others_touch_is_made_anew_or_left_to_them() -> Result<()> {
    let setup = Setup::new(BOTH)?;
    let folder = folder()?;
    setup.apply(EXIT, &near())?;
    let device = Arc::clone(&setup.device);
    let _client = setup.client(&device)?;
    let first = run(&setup, folder.path())?;
    setup.carries(ALL)?;
    setup.cell(&format!("ip link del {LINK}"))?;
    until(PATIENCE, "the TUN is there again", || {
        let link = setup.cell(&format!("ip -d link show {LINK}")).ok()?;
        (link.contains("user bin") && setup.state() == Some(ExitState::Ready)).then_some(())
    })?;
    setup.carries_nothing();
    drop(first);
    let second = run(&setup, folder.path())?;
    setup.carries(ALL)?;
    drop(second);

    // Somebody else's.
    setup.cell(&format!("ip link del {LINK}"))?;
    let taken = until(PATIENCE, "somebody is faster", || {
        let _gone = setup.cell(&format!("ip link del {LINK}"));
        setup
            .cell(&format!("ip tuntap add dev {LINK} mode tun user daemon"))
            .ok()
    });
    taken?;
    until(PATIENCE, "netd sees whose it is", || {
        let alias = setup.cell(&format!("ip link show {LINK}")).ok()?;
        (!alias.contains("made by") && setup.state() == Some(ExitState::Foreign)).then_some(())
    })?;
    setup.carries_nothing();
    setup.cell(&format!("ip link del {LINK}"))?;
    until(PATIENCE, "netd has its own again", || {
        (setup.state() == Some(ExitState::Ready)).then_some(())
    })?;
    let _third = run(&setup, folder.path())?;
    setup.carries(ALL)
}

/// One datagram and one attempt to connect, by a socket of that user.
fn said_by(setup: &Setup, user: u32, to: SocketAddr) -> Result<bool> {
    let script = "import socket, sys\n\
                  family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n\
                  s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(1)\n\
                  try:\n  s.sendto(b'x', (sys.argv[1], int(sys.argv[2]))); s.recv(9)\n\
                  except OSError: sys.exit(1)";
    let user = user.to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        .args([PYTHON, "-c", script, &to.ip().to_string(), &to.port().to_string()]);
    let ended = setup.world.cell.inside(|| command.output())?.context("python3")?;
    Ok(ended.status.success())
}

/// Whoever takes the program over reaches its servers, and nothing else.
#[test]
fn the_user_of_tunnels_speaks_to_their_servers_alone() -> Result<()> {
    let setup = Setup::new(BOTH)?;
    cell_lab::probe::EchoServer::start(&setup.world.internet, 80)?;
    setup.apply("", &[])?;
    for far in FAR_HOST.each() {
        let to = SocketAddr::new(far, 80);
        assert!(said_by(&setup, 0, to)?, "control: others may");
        let (before, counted) = (setup.netd.dropped("tunnel_stranger")?, setup.leaked());
        assert!(!said_by(&setup, USER, to)?, "{to}");
        assert!(setup.netd.dropped("tunnel_stranger")? > before);
        assert_eq!(setup.leaked(), counted, "nothing left the machine");
    }
    // The right host and port by the wrong protocol.
    let before = setup.netd.dropped("tunnel_stranger")?;
    let at = setup.server.at();
    let tcp = format!(
        "import socket; socket.create_connection(('{}', {}), 1)",
        at.ip(),
        at.port()
    );
    let user = USER.to_string();
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        &user,
        "--regid",
        &user,
        "--clear-groups",
        PYTHON,
        "-c",
        &tcp,
    ]);
    let _refused = setup.world.cell.inside(|| command.output())?;
    assert!(setup.netd.dropped("tunnel_stranger")? > before);
    let folder = folder()?;
    let stranger = setup.netd.dropped("tunnel_stranger")?;
    let _program = run(&setup, folder.path()).context("control: its servers answer it")?;
    assert_eq!(setup.netd.dropped("tunnel_stranger")?, stranger);
    Ok(())
}
