//! The table of `docs/runtime.md`: who runs, as whom, with what, and which sockets join them. `tests/units.rs` holds the
//! units in `systemd/` to the same table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use cell_sandbox::Capability;

/// The processes of a cell, in the order in which they are started: who is called before who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Daemon {
    /// Certificate authority and secrets.
    Vaultd,
    /// Userspace WireGuard, only where the kernel has none.
    Wg,
    /// iptables-restore and ipset, only where netd renders for legacy iptables.
    Iptables,
    /// WireGuard and nftables.
    Netd,
    /// Debian's Tor, where it is installed: a program of others.
    Tor,
    /// Supervisor of OpenVPN, which it starts by itself.
    Openvpn,
    /// Relay of exits.
    Egress,
    /// Docker.
    Broker,
    /// Web and automation API.
    Api,
}

/// Where Debian's package `tor` has it.
pub const TOR: &str = "/usr/bin/tor";

/// The network of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The cell's own: the host's, or a namespace with a name.
    Cell,
    /// An empty one; what the process needs was bound outside and handed over.
    Empty,
}

impl Daemon {
    /// All, in the order of their start.
    pub const ALL: [Daemon; 9] = [
        Daemon::Vaultd,
        Daemon::Wg,
        Daemon::Iptables,
        Daemon::Netd,
        Daemon::Tor,
        Daemon::Openvpn,
        Daemon::Egress,
        Daemon::Broker,
        Daemon::Api,
    ];

    /// Short name, as in policy file, state folder and log prefix.
    pub const fn name(self) -> &'static str {
        match self {
            Daemon::Vaultd => "vaultd",
            Daemon::Wg => "wg",
            Daemon::Iptables => "iptables",
            Daemon::Netd => "netd",
            Daemon::Tor => "tor",
            Daemon::Openvpn => "openvpn",
            Daemon::Egress => "egress",
            Daemon::Broker => "broker",
            Daemon::Api => "api",
        }
    }

    /// User and primary group, which bear one name; the program too, if it is ours.
    pub const fn user(self) -> &'static str {
        match self {
            Daemon::Vaultd => "cell-vaultd",
            Daemon::Wg => "cell-wg",
            Daemon::Iptables => "cell-iptables",
            Daemon::Netd => "cell-netd",
            Daemon::Tor => "cell-tor",
            Daemon::Openvpn => "cell-openvpn",
            Daemon::Egress => "cell-egress",
            Daemon::Broker => "cell-broker",
            Daemon::Api => "cell-api",
        }
    }

    /// Supplementary groups that must exist: the edges that it may call.
    pub const fn edges(self) -> &'static [&'static str] {
        match self {
            Daemon::Netd => &["cell-edge-keys", "cell-edge-wg", "cell-edge-iptables"],
            Daemon::Openvpn => &["cell-edge-openvpn-keys", "cell-edge-programs"],
            Daemon::Egress => &["cell-edge-exit-keys", "cell-edge-marks"],
            Daemon::Broker => &["cell-edge-broker-keys"],
            Daemon::Api => &[
                "cell-edge-netd",
                "cell-edge-egress",
                "cell-edge-openvpn",
                "cell-edge-broker",
                "cell-edge-vault",
                "cell-edge-caddy",
            ],
            Daemon::Vaultd | Daemon::Wg | Daemon::Iptables | Daemon::Tor => &[],
        }
    }

    /// Its program, `bin` being the folder of ours.
    pub fn program(self, bin: &Path) -> PathBuf {
        match self {
            Daemon::Tor => PathBuf::from(TOR),
            Daemon::Vaultd
            | Daemon::Wg
            | Daemon::Netd
            | Daemon::Openvpn
            | Daemon::Iptables
            | Daemon::Egress
            | Daemon::Broker
            | Daemon::Api => bin.join(self.user()),
        }
    }

    /// Arguments of its program, before the path of its policy.
    pub const fn arguments(self) -> &'static [&'static str] {
        match self {
            // Without Debian's own settings.
            Daemon::Tor => &["--defaults-torrc", "/dev/null", "-f"],
            Daemon::Vaultd
            | Daemon::Wg
            | Daemon::Netd
            | Daemon::Openvpn
            | Daemon::Iptables
            | Daemon::Egress
            | Daemon::Broker
            | Daemon::Api => &["--config"],
        }
    }

    /// The name of its policy file.
    pub fn policy_name(self) -> String {
        match self {
            Daemon::Tor => "torrc".to_owned(),
            Daemon::Vaultd
            | Daemon::Wg
            | Daemon::Netd
            | Daemon::Openvpn
            | Daemon::Iptables
            | Daemon::Egress
            | Daemon::Broker
            | Daemon::Api => {
                format!("{}.toml", self.name())
            }
        }
    }

    /// Supplementary groups that it gets where they exist.
    pub const fn optional_groups(self) -> &'static [&'static str] {
        match self {
            Daemon::Broker => &["docker"],
            Daemon::Vaultd
            | Daemon::Wg
            | Daemon::Netd
            | Daemon::Tor
            | Daemon::Openvpn
            | Daemon::Iptables
            | Daemon::Egress
            | Daemon::Api => &[],
        }
    }

    /// Its capabilities: bounding, permitted, effective and ambient.
    pub const fn capabilities(self) -> &'static [Capability] {
        match self {
            Daemon::Netd => &[Capability::CAP_NET_ADMIN],
            // iptables speaks to the kernel by a raw socket.
            Daemon::Iptables => &[Capability::CAP_NET_ADMIN, Capability::CAP_NET_RAW],
            Daemon::Vaultd
            | Daemon::Wg
            | Daemon::Tor
            | Daemon::Openvpn
            | Daemon::Egress
            | Daemon::Broker
            | Daemon::Api => &[],
        }
    }

    /// Its network.
    pub const fn network(self) -> Network {
        match self {
            Daemon::Netd | Daemon::Iptables | Daemon::Tor | Daemon::Openvpn | Daemon::Egress => Network::Cell,
            Daemon::Vaultd | Daemon::Wg | Daemon::Broker | Daemon::Api => Network::Empty,
        }
    }

    /// Whether it keeps anything on disk.
    pub const fn has_state(self) -> bool {
        !matches!(
            self,
            Daemon::Wg | Daemon::Iptables | Daemon::Openvpn | Daemon::Egress
        )
    }

    /// Whether it sees /proc/sys, read-only: netd reports whether forwarding is on.
    pub const fn sees_settings(self) -> bool {
        matches!(self, Daemon::Netd)
    }

    /// Whether it uses TUNs, where `userspace` says whether WireGuard runs in cell-wg: netd makes them, for cell-wg and for OpenVPN.
    pub const fn uses_tuns(self, userspace: bool, openvpn: bool) -> bool {
        match self {
            Daemon::Netd => userspace || openvpn,
            Daemon::Openvpn => true,
            Daemon::Vaultd
            | Daemon::Wg
            | Daemon::Iptables
            | Daemon::Tor
            | Daemon::Egress
            | Daemon::Broker
            | Daemon::Api => false,
        }
    }

    /// Whether it reads the file by which programs that replace tables of iptables wait for each other.
    pub const fn shares_tables_lock(self) -> bool {
        matches!(self, Daemon::Iptables)
    }

    /// Whether it locks its memory, keys being in it.
    pub const fn locks_memory(self) -> bool {
        matches!(self, Daemon::Vaultd)
    }

    /// Files that it may have open, as the unit's `LimitNOFILE=`: each connection that `cell-egress` carries has two.
    pub const fn most_files(self) -> u64 {
        match self {
            Daemon::Egress => 36_864,
            Daemon::Vaultd
            | Daemon::Wg
            | Daemon::Iptables
            | Daemon::Netd
            | Daemon::Tor
            | Daemon::Openvpn
            | Daemon::Broker
            | Daemon::Api => 8192,
        }
    }

    /// The policy as shipped: one source for the package and for `make run`.
    pub const fn shipped_policy(self) -> &'static str {
        match self {
            Daemon::Vaultd => include_str!("../../systemd/etc/vaultd.toml"),
            Daemon::Wg => include_str!("../../systemd/etc/wg.toml"),
            Daemon::Iptables => include_str!("../../systemd/etc/iptables.toml"),
            Daemon::Netd => include_str!("../../systemd/etc/netd.toml"),
            Daemon::Tor => include_str!("../../systemd/etc/torrc"),
            Daemon::Openvpn => include_str!("../../systemd/etc/openvpn.toml"),
            Daemon::Egress => include_str!("../../systemd/etc/egress.toml"),
            Daemon::Broker => include_str!("../../systemd/etc/broker.toml"),
            Daemon::Api => include_str!("../../systemd/etc/api.toml"),
        }
    }
}

/// The kind of a Unix socket (unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SOCK_STREAM.
    Stream,
    /// SOCK_SEQPACKET.
    SeqPacket,
}

/// One edge: a Unix socket in a folder of its own, or in one with the same group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Folder below the run folder.
    pub folder: &'static str,
    /// File in it.
    pub file: &'static str,
    /// Group of folder and file.
    pub group: &'static str,
    /// Who serves it.
    pub server: Daemon,
    /// The listener's name there.
    pub listener: &'static str,
    /// Its kind.
    pub kind: Kind,
}

/// All edges.
pub const EDGES: [Edge; 15] = [
    edge(
        "netd",
        "netd.sock",
        "cell-edge-netd",
        Daemon::Netd,
        "api",
        Kind::Stream,
    ),
    edge(
        "marks",
        "mark.sock",
        "cell-edge-marks",
        Daemon::Netd,
        "mark",
        Kind::SeqPacket,
    ),
    edge(
        "egress",
        "egress.sock",
        "cell-edge-egress",
        Daemon::Egress,
        "api",
        Kind::Stream,
    ),
    edge(
        "openvpn",
        "openvpn.sock",
        "cell-edge-openvpn",
        Daemon::Openvpn,
        "api",
        Kind::Stream,
    ),
    edge(
        "programs",
        "management.sock",
        "cell-edge-programs",
        Daemon::Openvpn,
        "management",
        Kind::Stream,
    ),
    edge(
        "broker",
        "broker.sock",
        "cell-edge-broker",
        Daemon::Broker,
        "api",
        Kind::Stream,
    ),
    edge(
        "vault",
        "vault.sock",
        "cell-edge-vault",
        Daemon::Vaultd,
        "api",
        Kind::Stream,
    ),
    edge(
        "keys",
        "vault.sock",
        "cell-edge-keys",
        Daemon::Vaultd,
        "netd",
        Kind::Stream,
    ),
    edge(
        "exit-keys",
        "vault.sock",
        "cell-edge-exit-keys",
        Daemon::Vaultd,
        "egress",
        Kind::Stream,
    ),
    edge(
        "openvpn-keys",
        "vault.sock",
        "cell-edge-openvpn-keys",
        Daemon::Vaultd,
        "openvpn",
        Kind::Stream,
    ),
    edge(
        "broker-keys",
        "vault.sock",
        "cell-edge-broker-keys",
        Daemon::Vaultd,
        "broker",
        Kind::Stream,
    ),
    edge("wg", "wg.sock", "cell-edge-wg", Daemon::Wg, "netd", Kind::Stream),
    edge(
        "wg",
        "device.sock",
        "cell-edge-wg",
        Daemon::Wg,
        "device",
        Kind::SeqPacket,
    ),
    edge(
        "iptables",
        "iptables.sock",
        "cell-edge-iptables",
        Daemon::Iptables,
        "netd",
        Kind::Stream,
    ),
    edge(
        "api",
        "api.sock",
        "cell-admin",
        Daemon::Api,
        "automation",
        Kind::Stream,
    ),
];

/// Mode of the folder of an edge.
pub const EDGE_FOLDER_MODE: u32 = 0o750;
/// Mode of the socket of an edge.
pub const EDGE_SOCKET_MODE: u32 = 0o660;

/// The hidden service addresses (ADR 0004), where HTTPS for peers listens.
pub const HIDDEN: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 67, 1)), HIDDEN_PORT),
    SocketAddr::new(
        IpAddr::V6(Ipv6Addr::new(0xfd43, 0x454c, 0x4c00, 0, 0, 0, 0, 1)),
        HIDDEN_PORT,
    ),
];
const HIDDEN_PORT: u16 = 3443;

const fn edge(
    folder: &'static str,
    file: &'static str,
    group: &'static str,
    server: Daemon,
    listener: &'static str,
    kind: Kind,
) -> Edge {
    Edge {
        folder,
        file,
        group,
        server,
        listener,
        kind,
    }
}
