//! All of the project's privileges on one page: what each daemon keeps, and why.
//!
//! The units in `systemd/` say the same once more from outside; the red-team binary attacks from inside [`api`].

use std::ops::RangeInclusive;
use std::path::Path;

use caps::Capability;

use crate::calls::Family;
use crate::enter::Sandbox;

/// The web process: reads what strangers send, so it has nothing but its own folder and its edges to other daemons.
///
/// - `state`: database, claim token, session key.
/// - `catalog`: what the store offers; root's, where the cell has one.
/// - `sockets`: netd's, the broker's, vaultd's and egress's; connected again when a daemon was started anew.
pub fn api(state: &Path, catalog: &Path, sockets: &[&Path]) -> Sandbox {
    connecting(keeping(state).read_only_if_exists(catalog), sockets)
}

/// The network daemon: one capability, over the network alone.
///
/// - `state`: the last good spec, while a change waits for its confirmation.
/// - `sockets`: vaultd's (the WireGuard key), cell-wg's, and cell-iptables', where the policy is rendered for it.
/// - `userspace`: whether WireGuard runs in cell-wg. Then netd makes the TUN device and the UDP sockets and hands them
///   over, so that cell-wg needs no right at all.
pub fn netd(state: &Path, sockets: &[&Path], userspace: bool) -> Sandbox {
    let sandbox = connecting(keeping(state), sockets)
        // Links, addresses, routes, WireGuard and nftables, over netlink.
        .keep_capabilities(&[Capability::CAP_NET_ADMIN])
        .sockets(&[Family::Netlink])
        // Netlink's messages name the kernel, and what cell-wg gets goes along with one.
        .messages()
        // Forwarding is seen, not set: sysctl.d sets it. Absent in a network namespace without IPv6, for one.
        .read_only_if_exists("/proc/sys/net");
    if !userspace {
        return sandbox;
    }
    sandbox
        .device("/dev/net/tun")
        .allow_ioctls(&[TUNSETIFF, TUNSETOFFLOAD, TUNGETIFF])
        .sockets(&[Family::Inet4Datagram, Family::Inet6Datagram])
}

/// netd where it also makes TUNs for another user, whose programs carry exits (`[exits] tunnel_user`): persistent ones, which
/// that user alone may attach to. Left out where the machine has no TUNs; such exits have no interface then, and netd says so.
pub fn netd_with_tunnels(netd: Sandbox) -> Sandbox {
    netd.device_if_exists("/dev/net/tun")
        .allow_ioctls(&[TUNSETIFF, TUNSETOWNER, TUNSETPERSIST])
}

/// The Docker broker: whoever may speak to Docker is root on the machine, so it may do nothing else.
///
/// - `state`: its own records.
/// - `docker_socket`: reached through the group of the socket, no capability.
/// - `owned`: what root put there for it: the list of images that were built on the machine, and shipped manifests.
/// - `secrets`: its folder for secrets of services, and vaultd's socket where they come from.
pub fn broker(
    state: &Path,
    docker_socket: &Path,
    owned: &[&Path],
    secrets: Option<(&Path, &Path)>,
) -> Sandbox {
    let sandbox = connecting(keeping(state), &[docker_socket]);
    let sandbox = owned
        .iter()
        .fold(sandbox, |sandbox, path| sandbox.read_only_if_exists(path));
    match secrets {
        Some((folder, vault)) => connecting(sandbox.read_write(folder), &[vault]),
        None => sandbox,
    }
}

/// The vault: keys and secrets, and no way out but the answers on its five listeners. It makes no socket of any kind.
///
/// - `state`: sealed secrets, the authority, the audit anchors.
/// - `credentials`: `CREDENTIALS_DIRECTORY`; absent when there is no key-encryption key, which vaultd reports as sealed.
pub fn vaultd(state: &Path, credentials: Option<&Path>) -> Sandbox {
    let sandbox = keeping(state);
    match credentials {
        Some(folder) => sandbox.read_only_if_exists(folder),
        None => sandbox,
    }
}

/// Userspace WireGuard: parses what the whole Internet sends, over descriptors made by netd. No path, no new socket.
pub fn wg() -> Sandbox {
    Sandbox::new()
        .log_refusals()
        .allow_ioctls(&[TUNGETIFF])
        // Each datagram goes to its peer's endpoint.
        .messages()
}

/// What runs iptables-restore and ipset, where netd renders for legacy iptables: the one process that starts programs, and those
/// alone. They have its capabilities and this sandbox. Their arguments are its own, and what it gives them was judged before.
///
/// - `programs`: the files themselves, no links; they read their modules below /usr/lib.
/// - `lock`: what keeps programs from replacing each other's tables; whoever is root has made it.
pub fn iptables(programs: &[&Path], lock: &Path) -> Sandbox {
    let sandbox = Sandbox::new()
        .log_refusals()
        // Tables and sets; iptables asks for them by a raw socket, which takes the other.
        .keep_capabilities(&[Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW])
        .sockets(&[Family::Netlink, Family::Tables])
        .messages()
        .read_only_if_exists(lock)
        // ipset asks what number "tcp" has.
        .read_only_if_exists("/etc/protocols")
        .read_only_if_exists("/etc/nsswitch.conf");
    programs
        .iter()
        .fold(sandbox, |sandbox, program| sandbox.program(program))
}

/// The relay behind redirect exits and of DNS: parses what exits, peers and resolvers send, and is the one process that speaks TCP
/// and UDP of its own. No capability; over TCP it listens on the redirect ports alone, and on the ports for DNS that it has bound
/// before. Where it sends to is held by netd's rules for its user.
///
/// - `vault`: vaultd's socket for the secrets of its exits.
/// - `marks`: netd's, where sockets are given marks: they go along with messages.
pub fn egress(vault: &Path, marks: Option<&Path>) -> Sandbox {
    let sockets: Vec<&Path> = marks.into_iter().chain([vault]).collect();
    connecting(Sandbox::new().log_refusals(), &sockets)
        .sockets(&[Family::Inet4Stream, Family::Inet6Stream])
        .tcp(REDIRECT_PORTS)
        // Questions to resolvers, and answers to whoever asked.
        .sockets(&[Family::Inet4Datagram, Family::Inet6Datagram])
        .messages()
}

/// The supervisor of OpenVPN, and each OpenVPN that it starts: a child inherits all of this, and gains nothing by execve(2). So
/// this is what the two need together. The program parses what strangers send; it has no capability, runs no other program, reads
/// its libraries, and uses the TUNs that netd made for its user. Where it sends to is held by netd's rules for that user.
///
/// - `vault`: vaultd's socket for the secrets of its exits.
/// - `management`: what its programs connect to.
/// - `program`: OpenVPN.
pub fn openvpn(vault: &Path, management: &Path, program: &Path) -> Sandbox {
    connecting(Sandbox::new().log_refusals(), &[vault, management])
        .program_if_exists(program)
        .sockets(&[Family::Inet4Stream, Family::Inet6Stream])
        .sockets(&[Family::Inet4Datagram, Family::Inet6Datagram])
        .tcp_connect()
        .messages()
        .device_if_exists("/dev/net/tun")
        .allow_ioctls(&[TUNSETIFF])
        // The settings of OpenSSL.
        .read_only_if_exists("/etc/ssl/openssl.cnf")
}

/// A daemon with a folder of its own. SQLite seeds its generator from /dev/urandom, and from the clock where it cannot.
fn keeping(state: &Path) -> Sandbox {
    Sandbox::new()
        .log_refusals()
        .read_write(state)
        .read_only("/dev/urandom")
}

fn connecting(sandbox: Sandbox, sockets: &[&Path]) -> Sandbox {
    let sandbox = sandbox.sockets(&[Family::Unix]);
    sockets
        .iter()
        .fold(sandbox, |sandbox, socket| sandbox.connect_unix(socket))
}

/// Where netd redirects the connections of peers to.
const REDIRECT_PORTS: RangeInclusive<u16> = 9100..=9199;
/// ioctl(2) requests of linux/if_tun.h: makes a device or attaches to one.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
/// For which user a device is, and whether it stays without a descriptor.
const TUNSETOWNER: libc::c_ulong = 0x4004_54cc;
const TUNSETPERSIST: libc::c_ulong = 0x4004_54cb;
/// Which segmentation offloads the reader understands.
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
/// Asks for name and flags.
const TUNGETIFF: libc::c_ulong = 0x8004_54d2;
