//! Each profile is entered with what its daemon is given, can do its work, and can do nothing of another's.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs::{self, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use cell_sandbox::{Capability, profiles};
use common::{Attempt, attempt, folder, in_child, io_outcome, outcome, socket};
use libc::{EACCES, EPERM};
use nix::sys::socket::{setsockopt, sockopt};

const NONE: &[Capability] = &[];
const NET_ADMIN: &[Capability] = &[Capability::CAP_NET_ADMIN];

fn write(path: &Path) -> Attempt {
    io_outcome(fs::write(path.join("new"), "x"))
}

fn inet() -> Attempt {
    socket(libc::AF_INET, libc::SOCK_DGRAM, 0)()
}

fn netlink() -> Attempt {
    socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER)()
}

fn unix() -> Attempt {
    socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)()
}

#[test]
fn api_keeps_its_folder_and_its_edges() {
    let (own, other) = (folder(), folder());
    let path = own.path().join("socket");
    let _daemon = UnixListener::bind(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
    let api = || Some(profiles::api(own.path(), Path::new("/nonexistent"), &[&path]));
    assert_eq!(attempt(api(), NONE, || write(own.path())), Ok(()));
    assert_eq!(
        attempt(api(), NONE, || io_outcome(UnixStream::connect(&path))),
        Ok(())
    );
    assert_eq!(attempt(api(), NONE, || write(other.path())), Err(EACCES));
    assert_eq!(attempt(api(), NONE, inet), Err(EPERM));
    assert_eq!(attempt(api(), NONE, netlink), Err(EPERM));
    assert_eq!(attempt(None, NONE, inet), Ok(()), "control");
    assert_eq!(attempt(None, NONE, netlink), Ok(()), "control");
}

#[test]
fn netd_has_netlink_and_sees_sysctls() {
    let own = folder();
    let netd = || Some(profiles::netd(own.path(), &[], false));
    let forwarding = Path::new("/proc/sys/net/ipv4/ip_forward");
    assert_eq!(attempt(netd(), NET_ADMIN, netlink), Ok(()));
    assert_eq!(attempt(netd(), NET_ADMIN, unix), Ok(()));
    assert_eq!(
        attempt(netd(), NET_ADMIN, || io_outcome(fs::read(forwarding))),
        Ok(())
    );
    let open = || io_outcome(OpenOptions::new().write(true).open(forwarding));
    assert_eq!(attempt(netd(), NET_ADMIN, open), Err(EACCES));
    assert_eq!(
        attempt(None, NET_ADMIN, open),
        Ok(()),
        "control: CAP_NET_ADMIN opens it"
    );
    assert_eq!(attempt(netd(), NET_ADMIN, inet), Err(EPERM));
    assert_eq!(attempt(netd(), NET_ADMIN, tun), Err(EACCES));
}

/// Makes a TUN device in this process's own network namespace.
fn tun() -> Attempt {
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    let file = file.map_err(|e| e.raw_os_error().unwrap())?;
    let mut request = [0_u8; 40];
    request[..5].copy_from_slice(b"cell0");
    request[16..18].copy_from_slice(&0x1001_u16.to_ne_bytes());
    // SAFETY: TUNSETIFF reads and writes a struct ifreq of 40 bytes, which outlives the call.
    outcome(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) }.into())
}

/// A network and a mount namespace of the child's own, with a TUN device that anybody may open, as udev makes it.
fn namespaces_with_tun(folder: &Path) {
    use nix::mount::{MsFlags, mount};
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET | nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let device = folder.join("tun");
    mknod(&device, SFlag::S_IFCHR, Mode::empty(), makedev(10, 200)).unwrap();
    fs::set_permissions(&device, fs::Permissions::from_mode(0o666)).unwrap();
    mount(Some(&device), "/dev/net/tun", none, MsFlags::MS_BIND, none).unwrap();
}

#[test]
fn netd_makes_tun_and_udp_for_userspace_wireguard() {
    let own = folder();
    let answer = in_child(|| {
        namespaces_with_tun(own.path());
        common::NOBODY.assume(NET_ADMIN).unwrap();
        profiles::netd(own.path(), &[], true).enter().unwrap();
        format!("{:?} {:?}", tun(), inet())
    });
    assert_eq!(answer, "Ok(()) Ok(())");
}

/// Starts a program, and tells its end: 0, or what kept it from starting.
fn start(program: &str, arguments: &[&str]) -> Attempt {
    let status = std::process::Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    let status = status.map_err(|error| error.raw_os_error().unwrap())?;
    status.success().then_some(()).ok_or(status.code().unwrap_or(-1))
}

#[test]
fn iptables_starts_its_programs_and_no_other() {
    const BOTH: &[Capability] = &[Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW];
    let programs = ["/usr/sbin/xtables-legacy-multi", "/usr/sbin/ipset"].map(Path::new);
    let own = folder();
    let iptables = || Some(profiles::iptables(&programs, &own.path().join("lock")));
    // Asks the kernel, for which it needs what its parent kept.
    assert_eq!(
        attempt(iptables(), BOTH, || start("/usr/sbin/ipset", &["list", "-n"])),
        Ok(())
    );
    for (program, arguments) in [
        ("/bin/true", &[][..]),
        ("/bin/sh", &["-c", "true"]),
        ("/usr/sbin/nft", &["--version"]),
        // By the loader of programs, which may be started: it cannot read what it is to load.
        ("/lib64/ld-linux-x86-64.so.2", &["/bin/true"]),
    ] {
        let refused = attempt(iptables(), BOTH, || start(program, arguments));
        assert!(refused.is_err(), "{program}");
        assert_eq!(
            attempt(None, BOTH, || start(program, arguments)),
            Ok(()),
            "control: {program}"
        );
    }
    assert_eq!(attempt(iptables(), BOTH, || start("/bin/true", &[])), Err(EACCES));
    assert_eq!(attempt(iptables(), BOTH, netlink), Ok(()));
    assert_eq!(attempt(iptables(), BOTH, inet), Err(EPERM));
    assert_eq!(attempt(iptables(), BOTH, unix), Err(EPERM));
    let raw = |protocol| move || socket(libc::AF_INET, libc::SOCK_RAW, protocol)();
    assert_eq!(attempt(iptables(), BOTH, raw(libc::IPPROTO_RAW)), Ok(()));
    assert_eq!(attempt(iptables(), BOTH, raw(libc::IPPROTO_ICMP)), Err(EPERM));
    assert_eq!(attempt(None, BOTH, raw(libc::IPPROTO_ICMP)), Ok(()), "control");
    assert_eq!(attempt(iptables(), BOTH, || write(own.path())), Err(EACCES));
    assert_eq!(
        attempt(iptables(), BOTH, || io_outcome(fs::read("/etc/passwd"))),
        Err(EACCES)
    );
}

#[test]
fn netd_makes_tuns_for_another_user_where_its_policy_names_one() {
    const TUNSETOWNER: libc::c_ulong = 0x4004_54cc;
    const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;
    const TUNSETGROUP: libc::c_ulong = 0x4004_54ce;
    let own = folder();
    let answer = in_child(|| {
        namespaces_with_tun(own.path());
        common::NOBODY.assume(NET_ADMIN).unwrap();
        let netd = profiles::netd(own.path(), &[], false);
        profiles::netd_with_tunnels(netd).enter().unwrap();
        let made = tun();
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .unwrap();
        // Without an interface each of them is answered by the TUN (EBADFD), or refused before it.
        let asked = [TUNSETOWNER, TUNSETPERSIST, TUNSETGROUP].map(|request| {
            // SAFETY: these take a number.
            outcome(unsafe { libc::ioctl(device.as_raw_fd(), request, 0) }.into())
        });
        format!("{made:?} {asked:?} {:?}", inet())
    });
    let [bad, refused] = [libc::EBADFD, EPERM].map(|errno| format!("Err({errno})"));
    assert_eq!(answer, format!("Ok(()) [{bad}, {bad}, {refused}] {refused}"));
}

#[test]
fn broker_keeps_docker_s_socket() {
    let own = folder();
    let path = own.path().join("docker.sock");
    let _docker = UnixListener::bind(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
    let broker = || Some(profiles::broker(own.path(), &path, &[], None));
    assert_eq!(
        attempt(broker(), NONE, || io_outcome(UnixStream::connect(&path))),
        Ok(())
    );
    assert_eq!(attempt(broker(), NONE, inet), Err(EPERM));
    assert_eq!(
        attempt(broker(), NONE, || io_outcome(fs::read("/etc/passwd"))),
        Err(EACCES)
    );
}

#[test]
fn vaultd_has_no_socket_of_any_kind() {
    let (own, credentials) = (folder(), folder());
    let vaultd = || Some(profiles::vaultd(own.path(), Some(credentials.path())));
    assert_eq!(attempt(vaultd(), NONE, || write(own.path())), Ok(()));
    let read = || io_outcome(fs::read(credentials.path().join("old")));
    assert_eq!(attempt(vaultd(), NONE, read), Ok(()));
    assert_eq!(attempt(vaultd(), NONE, || write(credentials.path())), Err(EACCES));
    for (made, allowed) in [
        (unix as fn() -> Attempt, unix()),
        (netlink, netlink()),
        (inet, inet()),
    ] {
        assert_eq!(allowed, Ok(()), "control");
        assert_eq!(attempt(vaultd(), NONE, made), Err(EPERM));
    }
}

#[test]
fn vaultd_starts_without_credentials() {
    let own = folder();
    let absent = own.path().join("absent");
    for credentials in [None, Some(absent.as_path())] {
        assert_eq!(
            attempt(Some(profiles::vaultd(own.path(), credentials)), NONE, || Ok(())),
            Ok(())
        );
    }
}

#[test]
fn wg_opens_nothing() {
    let own = folder();
    let wg = || Some(profiles::wg());
    let read = || io_outcome(fs::read(own.path().join("old")));
    assert_eq!(attempt(wg(), NONE, read), Err(EACCES));
    assert_eq!(attempt(None, NONE, read), Ok(()), "control");
    assert_eq!(attempt(wg(), NONE, unix), Err(EPERM));
    assert_eq!(attempt(wg(), NONE, inet), Err(EPERM));
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    assert_eq!(
        attempt(wg(), NONE, || io_outcome(udp.send_to(b"x", address))),
        Ok(()),
        "what was handed over works"
    );
}

#[test]
fn egress_dials_and_listens_on_the_redirect_ports() {
    let own = folder();
    let vault = own.path().join("vault.sock");
    let _vaultd = UnixListener::bind(&vault).unwrap();
    std::os::unix::fs::chown(&vault, Some(65534), Some(65534)).unwrap();
    let egress = || Some(profiles::egress(&vault, None));
    let ask = || io_outcome(std::os::unix::net::UnixStream::connect(&vault));
    assert_eq!(attempt(egress(), NONE, ask), Ok(()));
    let far_end = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = far_end.local_addr().unwrap();
    let connect = || io_outcome(std::net::TcpStream::connect(address));
    assert_eq!(attempt(egress(), NONE, connect), Ok(()));
    assert_eq!(attempt(Some(profiles::wg()), NONE, connect), Err(EPERM));
    let listen = |port: u16| move || io_outcome(std::net::TcpListener::bind(("127.0.0.1", port)));
    assert_eq!(attempt(egress(), NONE, listen(9199)), Ok(()));
    // Landlock has known TCP since Linux 6.7; without it the ports are left to the unit.
    if tells_tcp() {
        assert_eq!(attempt(egress(), NONE, listen(9200)), Err(EACCES));
    }
    assert_eq!(attempt(None, NONE, listen(9200)), Ok(()), "control");
    assert_eq!(netlink(), Ok(()), "control");
    assert_eq!(attempt(egress(), NONE, netlink), Err(EPERM));
    // Questions of DNS, out of the interface of an exit, without a capability.
    let asks = || {
        let socket = bound_to_loopback()?;
        io_outcome(socket.send_to(b"x", address))
    };
    assert_eq!(attempt(egress(), NONE, asks), Ok(()));
    assert_eq!(attempt(Some(profiles::wg()), NONE, asks), Err(EPERM));
    let read = || io_outcome(fs::read("/etc/passwd"));
    assert_eq!(attempt(egress(), NONE, read), Err(EACCES));
    assert_eq!(attempt(None, NONE, read), Ok(()), "control");
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a list of what is tried, a few lines for each"
)]
fn openvpn_runs_one_program_that_can_do_no_more() {
    let own = folder();
    let [vault, management] = ["vault.sock", "management.sock"].map(|name| own.path().join(name));
    let _daemons = [&vault, &management].map(|path| {
        let daemon = UnixListener::bind(path).unwrap();
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
        daemon
    });
    let [program, other] = ["/usr/bin/true", "/usr/bin/printf"];
    let openvpn = || Some(profiles::openvpn(&vault, &management, Path::new(program)));
    let run = |program: &'static str| {
        move || {
            let null = std::process::Stdio::inherit;
            let mut command = std::process::Command::new(program);
            // Neither says anything.
            command
                .arg("")
                .env_clear()
                .stdin(null())
                .stdout(null())
                .stderr(null());
            let status = command
                .status()
                .map_err(|error| error.raw_os_error().unwrap_or(-1))?;
            if status.success() { Ok(()) } else { Err(-2) }
        }
    };
    assert_eq!(attempt(openvpn(), NONE, run(program)), Ok(()));
    assert_eq!(attempt(openvpn(), NONE, run(other)), Err(EACCES));
    assert_eq!(attempt(None, NONE, run(other)), Ok(()), "control");
    assert_eq!(attempt(Some(profiles::wg()), NONE, run(program)), Err(EPERM));

    let far_end = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = far_end.local_addr().unwrap();
    let connect = || io_outcome(std::net::TcpStream::connect(address));
    assert_eq!(attempt(openvpn(), NONE, connect), Ok(()));
    assert_eq!(attempt(openvpn(), NONE, inet), Ok(()));
    let listen = || io_outcome(std::net::TcpListener::bind("127.0.0.1:0"));
    assert!(attempt(openvpn(), NONE, listen).is_err());
    assert_eq!(attempt(openvpn(), NONE, netlink), Err(EPERM));
    let ask = || io_outcome(UnixStream::connect(&management));
    assert_eq!(attempt(openvpn(), NONE, ask), Ok(()));
    assert_eq!(attempt(openvpn(), NONE, || write(own.path())), Err(EACCES));
    let read = || io_outcome(fs::read("/etc/passwd"));
    assert_eq!(attempt(openvpn(), NONE, read), Err(EACCES));
    assert_eq!(attempt(None, NONE, read), Ok(()), "control");
    // Code comes from files, and is not written; processes come from posix_spawn(3) alone.
    let map = |protection: i32| {
        move || {
            // SAFETY: a new anonymous mapping, which nobody uses.
            let at = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    4096,
                    protection,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            outcome(if at == libc::MAP_FAILED { -1 } else { 0 })
        }
    };
    let written_code = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    assert_eq!(attempt(openvpn(), NONE, map(written_code)), Err(EPERM));
    assert_eq!(attempt(None, NONE, map(written_code)), Ok(()), "control");
    let fork = || {
        // SAFETY: the child, if there is one, ends at once.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if child == 0 {
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        outcome(child)
    };
    assert_eq!(attempt(openvpn(), NONE, fork), Err(EPERM));
    assert_eq!(attempt(None, NONE, fork), Ok(()), "control");
}

/// A datagram socket that is bound to an interface.
fn bound_to_loopback() -> Result<std::net::UdpSocket, i32> {
    let socket =
        std::net::UdpSocket::bind("127.0.0.1:0").map_err(|error| error.raw_os_error().unwrap_or(-1))?;
    let bound = setsockopt(&socket, sockopt::BindToDevice, &"lo".into());
    bound.map(|()| socket).map_err(|errno| errno as i32)
}

#[test]
fn only_egress_and_openvpn_make_tcp_sockets() {
    let own = folder();
    let tcp = || socket(libc::AF_INET, libc::SOCK_STREAM, 0)();
    for (other, kept) in [
        (profiles::api(own.path(), Path::new("/nonexistent"), &[]), NONE),
        (profiles::netd(own.path(), &[], false), NET_ADMIN),
        (
            profiles::broker(own.path(), &own.path().join("docker.sock"), &[], None),
            NONE,
        ),
        (profiles::vaultd(own.path(), None), NONE),
        (profiles::wg(), NONE),
    ] {
        assert_eq!(attempt(Some(other), kept, tcp), Err(EPERM));
    }
    assert_eq!(
        attempt(
            Some(profiles::egress(&own.path().join("vault.sock"), None)),
            NONE,
            tcp
        ),
        Ok(()),
        "control"
    );
}

/// Whether the running kernel's Landlock has rules for TCP, asked of the kernel itself.
fn tells_tcp() -> bool {
    // SAFETY: with LANDLOCK_CREATE_RULESET_VERSION (1) the kernel reads no memory and answers a number.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, 1) };
    abi >= 4
}
