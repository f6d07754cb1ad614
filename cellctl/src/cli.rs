//! The command line. No secret is ever an argument: arguments are seen by every process of the machine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused: the cell said no, and why
  2  the command line is wrong
  3  the cell cannot be reached";

/// Administers the cell on this machine. For root and members of the group cell-admin.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// The cell's automation socket [default: $CELL_HOME/run/api/api.sock if CELL_HOME is set, else /run/cell/api/api.sock]
    #[arg(long, global = true, env = "CELL_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Answer with one JSON document instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Where the cell listens.
    pub(crate) fn socket(&self) -> PathBuf {
        match (&self.socket, cell_home()) {
            (Some(socket), _) => socket.clone(),
            (None, Some(home)) => home.join("run/api/api.sock"),
            (None, None) => PathBuf::from("/run/cell/api/api.sock"),
        }
    }
}

/// The folder of a cell that was started by `make run`.
pub(crate) fn cell_home() -> Option<PathBuf> {
    std::env::var_os("CELL_HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The cell at a glance.
    Status {
        /// Stay, and show each change. With --json one document per line.
        #[arg(long)]
        watch: bool,
    },
    /// The first run: claim the cell, name it, choose its network, make an administrator.
    Setup {
        #[command(subcommand)]
        command: Setup,
    },
    /// Devices that may connect.
    Peer {
        #[command(subcommand)]
        command: Peer,
    },
    /// The change of the network that waits for its confirmation (`--confirm-within`).
    Change {
        #[command(subcommand)]
        command: Change,
    },
    /// Whether a device reaches something, and why: the rules that its first packet meets.
    Explain(Explain),
    /// Exits that the traffic of devices may take.
    Connection {
        #[command(subcommand)]
        command: Connection,
    },
    /// People who log in to the web UI.
    User {
        #[command(subcommand)]
        command: User,
    },
    /// The record of what was changed by whom.
    Audit {
        #[command(subcommand)]
        command: Audit,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Change {
    /// What waits, and whose it is.
    Show,
    /// Keeps it for good.
    Confirm,
    /// Takes it back at once.
    Rollback,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The device.
    pub(crate) peer: String,
    /// Where to: an address, alone for a ping, or with a port: 10.0.5.7:443, [fd00::7]:53.
    pub(crate) destination: String,
    /// UDP instead of TCP.
    #[arg(long)]
    pub(crate) udp: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Setup {
    /// How the first run stands, and which step is next.
    Status,
    /// Goes through all steps, asking for what is not given.
    Run(SetupRun),
    /// Where the one-time claim token is, and the token itself. Only for root.
    Token,
    /// Step 1: shows the one-time claim token.
    Claim(ClaimToken),
    /// Step 2: names the cell.
    Identity {
        /// 1-63 characters of a-z, 0-9 and hyphens.
        name: String,
        /// "lan": the cell's own certificate authority.
        #[arg(long, default_value = "lan", value_name = "MODE")]
        domain_mode: String,
        #[command(flatten)]
        token: ClaimToken,
    },
    /// Step 3: chooses the addresses of the VPN.
    Network {
        /// Private IPv4 range, e.g. 10.86.0.0/24.
        range: String,
        /// Unique local IPv6 range, e.g. fd12:3456:789a::/64; one is chosen at random if not given.
        #[arg(long, value_name = "RANGE")]
        ipv6: Option<String>,
        /// Host name or address that devices connect to from outside.
        #[arg(long, value_name = "HOST")]
        endpoint: Option<String>,
        #[command(flatten)]
        token: ClaimToken,
    },
    /// Step 4: makes the first administrator. The password is asked for, or read from a file.
    Admin {
        /// The administrator's user name.
        username: String,
        #[command(flatten)]
        password: Password,
        #[command(flatten)]
        token: ClaimToken,
    },
    /// Ends the first run.
    Complete(ClaimToken),
}

#[derive(Debug, Default, Args)]
pub(crate) struct SetupRun {
    /// Name of the cell.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Private IPv4 range of the VPN.
    #[arg(long, value_name = "RANGE")]
    pub(crate) range: Option<String>,
    /// Unique local IPv6 range of the VPN.
    #[arg(long, value_name = "RANGE")]
    pub(crate) ipv6: Option<String>,
    /// Host name or address that devices connect to from outside.
    #[arg(long, value_name = "HOST")]
    pub(crate) endpoint: Option<String>,
    /// User name of the administrator.
    #[arg(long, value_name = "NAME")]
    pub(crate) admin: Option<String>,
    #[command(flatten)]
    pub(crate) password: Password,
    #[command(flatten)]
    pub(crate) token: ClaimToken,
}

#[derive(Debug, Default, Args)]
pub(crate) struct ClaimToken {
    /// Reads the claim token from the first line of a file ("-": standard input). Without it the cell's own copy is read
    /// where it may be, else it is asked for.
    #[arg(long, value_name = "FILE")]
    pub(crate) claim_token_file: Option<PathBuf>,
}

#[derive(Debug, Default, Args)]
pub(crate) struct Password {
    /// Reads the password from the first line of a file ("-": standard input) instead of asking.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Peer {
    /// All peers.
    List,
    /// One peer.
    Show {
        /// Its name.
        name: String,
    },
    /// Adds a device and gives its configuration. Its private key is made here and not sent to the cell.
    Add(PeerAdd),
    /// Removes a device; its connection ends at once.
    Remove {
        /// Its name.
        name: String,
        /// Lets it back after so many seconds (5-3600), unless that is kept by `cellctl change confirm`.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(5..=3600))]
        confirm_within: Option<u32>,
    },
    /// Changes what a device may reach, what carries it to the Internet, or its key.
    Set(PeerSet),
    /// The device's configuration, without its private key: the device alone has that.
    Config(PeerConfig),
}

#[derive(Debug, Args)]
pub(crate) struct PeerConfig {
    /// Its name.
    pub(crate) name: String,
    /// Counts the device as up to date from now on: the configuration goes to it.
    #[arg(long)]
    pub(crate) delivered: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Connection {
    /// All connections.
    List,
    /// One connection.
    Show {
        /// Its name.
        name: String,
    },
    /// Whether a connection works, and why that is thought.
    Health {
        /// Its name.
        name: String,
    },
    /// Adds a connection. Its secrets go to the cell's vault and cannot be read back.
    Add {
        /// 1-64 characters of letters, digits, "_", "." and "-".
        name: String,
        /// What kind of exit it is.
        #[arg(long = "type", value_name = "TYPE", value_parser = CONNECTION_TYPES)]
        kind: String,
        #[command(flatten)]
        import: Import,
    },
    /// Replaces what a connection is made of, its secrets included. Name, type, mark and table stay.
    Replace {
        /// Its name.
        name: String,
        #[command(flatten)]
        import: Import,
    },
    /// Gives a connection another name.
    Rename {
        /// Its name.
        name: String,
        /// Its new name.
        new_name: String,
    },
    /// Removes a connection and its secrets.
    Remove {
        /// Its name.
        name: String,
    },
}

const CONNECTION_TYPES: [&str; 5] = ["wireguard_ext", "openvpn", "tor", "sshuttle", "proxy"];

/// What a connection is made of. Everything that may hold a secret comes from a file.
#[derive(Debug, Default, Args)]
pub(crate) struct Import {
    /// wireguard_ext: the WireGuard file; openvpn: the profile; proxy: a file with the URL, socks5://USER:PASSWORD@HOST:PORT
    /// or http://..., in its first line; sshuttle: the private key. "-": standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// openvpn: the user's name, where the profile asks for one.
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub(crate) username: Option<String>,
    /// openvpn: reads the user's password from the first line of a file ("-": standard input).
    #[arg(long, value_name = "FILE", requires = "username")]
    pub(crate) password_file: Option<PathBuf>,
    /// sshuttle: the server, USER@HOST or USER@HOST:PORT.
    #[arg(long, value_name = "TARGET")]
    pub(crate) target: Option<String>,
    /// sshuttle: a file with the server's public keys, as ssh-keyscan prints them ("-": standard input).
    #[arg(long, value_name = "FILE")]
    pub(crate) host_keys: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// All users.
    List,
    /// Sets a user's password, to be changed at the next login; ends the user's sessions and lifts the lock after
    /// failed logins. The password is asked for, or read from a file.
    ResetPassword {
        /// The user's name.
        username: String,
        #[command(flatten)]
        password: Password,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PeerAdd {
    /// 1-64 characters of letters, digits, "_", "." and "-".
    pub(crate) name: String,
    /// Lets it reach the Internet through the cell.
    #[arg(long)]
    pub(crate) internet: bool,
    /// Lets it reach other devices that have this too.
    #[arg(long)]
    pub(crate) peer_to_peer: bool,
    /// Lets it reach one service, e.g. tcp://192.168.1.5:443 or udp://[fd00::5]:53. Can be given many times.
    #[arg(long = "service", value_name = "PROTOCOL://ADDRESS:PORT")]
    pub(crate) services: Vec<ServiceUrl>,
    /// What goes through the tunnel: "full" (all) or "split" (only the cell) [default: full with --internet].
    #[arg(long, value_parser = ["full", "split"], value_name = "TUNNEL")]
    pub(crate) tunnel: Option<String>,
    /// The connection that carries what it sends to the Internet: its name or id [default: the cell's own way].
    #[arg(long, value_name = "CONNECTION")]
    pub(crate) exit: Option<String>,
    /// The device has a key pair already: its public key, base64.
    #[arg(long, conflicts_with = "server_key", value_name = "KEY")]
    pub(crate) public_key: Option<String>,
    /// The cell makes the key pair and so sees the private key, once.
    #[arg(long)]
    pub(crate) server_key: bool,
    /// Writes the configuration to a new file that only you can read, instead of printing it.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Draws the QR code even when the output is no terminal.
    #[arg(long, conflicts_with = "no_qr")]
    pub(crate) qr: bool,
    /// Draws no QR code.
    #[arg(long)]
    pub(crate) no_qr: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PeerSet {
    /// Its name.
    pub(crate) name: String,
    /// Whether it may reach the Internet through the cell.
    #[arg(long, value_name = "yes|no", value_parser = yes_or_no)]
    pub(crate) internet: Option<bool>,
    /// Whether it may reach other devices that may too.
    #[arg(long, value_name = "yes|no", value_parser = yes_or_no)]
    pub(crate) peer_to_peer: Option<bool>,
    /// Lets it reach one service more. Can be given many times.
    #[arg(long = "add-service", value_name = "PROTOCOL://ADDRESS:PORT")]
    pub(crate) add_services: Vec<ServiceUrl>,
    /// Takes one service away. Can be given many times.
    #[arg(long = "remove-service", value_name = "PROTOCOL://ADDRESS:PORT")]
    pub(crate) remove_services: Vec<ServiceUrl>,
    /// What goes through the tunnel: "full" or "split".
    #[arg(long, value_parser = ["full", "split"], value_name = "TUNNEL")]
    pub(crate) tunnel: Option<String>,
    /// The device's new public key, base64.
    #[arg(long, value_name = "KEY")]
    pub(crate) public_key: Option<String>,
    /// The connection that carries what it sends to the Internet: its name or id; "default": none, the cell's own way.
    #[arg(long, value_name = "CONNECTION")]
    pub(crate) exit: Option<String>,
    /// While that connection does not work: "yes", the device goes out directly; "no", it goes nowhere; "default", as the
    /// connection's type says (tor goes out directly, all others nowhere).
    #[arg(long, value_name = "yes|no|default", value_parser = fail_open)]
    pub(crate) fail_open: Option<FailOpen>,
    /// A connection that stands in while that one does not work. Can be given many times, the first first; takes the place
    /// of all that stood in before.
    #[arg(long = "fallback", value_name = "CONNECTION", conflicts_with = "no_fallbacks")]
    pub(crate) fallbacks: Vec<String>,
    /// Lets no connection stand in.
    #[arg(long)]
    pub(crate) no_fallbacks: bool,
    /// Takes the change back after so many seconds (5-3600), unless it is kept by `cellctl change confirm`.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(5..=3600))]
    pub(crate) confirm_within: Option<u32>,
}

/// A device's own word on failing open; `None`: it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FailOpen(pub(crate) Option<bool>);

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Checks that no record was changed, left out or put in.
    Verify,
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("say yes or no".to_owned()),
    }
}

fn fail_open(text: &str) -> Result<FailOpen, String> {
    match text {
        "yes" => Ok(FailOpen(Some(true))),
        "no" => Ok(FailOpen(Some(false))),
        "default" => Ok(FailOpen(None)),
        _ => Err("say yes, no or default".to_owned()),
    }
}

/// A service as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceUrl {
    pub(crate) protocol: &'static str,
    pub(crate) at: SocketAddr,
}

impl FromStr for ServiceUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form =
            || "write it as tcp://ADDRESS:PORT or udp://ADDRESS:PORT, an IPv6 address in brackets".to_owned();
        let (protocol, at) = text.split_once("://").ok_or_else(form)?;
        let protocol = match protocol {
            "tcp" => "tcp",
            "udp" => "udp",
            _ => return Err(form()),
        };
        let at: SocketAddr = at.trim_end_matches('/').parse().map_err(|_| form())?;
        if at.port() == 0 {
            Err("a port is 1-65535".to_owned())
        } else {
            Ok(ServiceUrl { protocol, at })
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn services_are_protocol_address_and_port() {
        let v6: ServiceUrl = "udp://[fd00::5]:53".parse().unwrap();
        assert_eq!((v6.protocol, v6.at), ("udp", "[fd00::5]:53".parse().unwrap()));
        for bad in [
            "10.0.0.1:80",
            "tcp://10.0.0.1",
            "tcp://nas:80",
            "http://10.0.0.1:80",
            "tcp://10.0.0.1:0",
            "tcp://",
        ] {
            assert!(bad.parse::<ServiceUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn no_argument_takes_a_secret() {
        fn long_names(command: &clap::Command) -> Vec<String> {
            let own = command
                .get_arguments()
                .filter_map(|a| a.get_long().map(str::to_owned));
            own.chain(command.get_subcommands().flat_map(long_names))
                .collect()
        }
        let names = long_names(&Cli::command());
        assert!(names.len() > 20);
        let secret =
            |name: &String| name.contains("password") || name.contains("token") || name.contains("private");
        assert!(
            names
                .iter()
                .filter(|name| secret(name))
                .all(|name| name.ends_with("-file")),
            "{names:?}"
        );
    }
}
