//! The words of `cellctl peer`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};

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
    /// Removes a device; its connection ends at once. Its owner's accounts at services stay, unless --delete-accounts is given.
    Remove {
        /// Its name.
        name: String,
        /// Removes its owner's accounts at services too, with all that they have.
        #[arg(long, conflicts_with = "confirm_within")]
        delete_accounts: bool,
        #[command(flatten)]
        how: How,
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
    /// While that connection does not work: "yes", the device goes out directly; "no", it goes nowhere [default: as the
    /// connection's type says; tor goes out directly, all others nowhere].
    #[arg(long, value_name = "yes|no|default", value_parser = fail_open)]
    pub(crate) fail_open: Option<FailOpen>,
    /// A connection that stands in while that one does not work. Can be given many times, the first first.
    #[arg(long = "fallback", value_name = "CONNECTION", requires = "exit")]
    pub(crate) fallbacks: Vec<String>,
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
    #[command(flatten)]
    pub(crate) how: How,
}

/// For good, or not.
#[derive(Debug, Default, Args)]
pub(crate) struct How {
    /// Takes the change back after so many seconds (5-3600), unless it is kept: at a terminal that is asked here, else by
    /// `cellctl change confirm`. Without this, 60 if you are logged in over SSH from the very device that is changed.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(5..=3600))]
    pub(crate) confirm_within: Option<u32>,
    /// Changes it for good at once, even the very device that you are logged in from.
    #[arg(long, conflicts_with_all = ["confirm_within", "dry_run"])]
    pub(crate) at_once: bool,
    /// Only says what it would do: who gains and who loses which reach, what is cut. Changes nothing.
    #[arg(long, conflicts_with = "confirm_within")]
    pub(crate) dry_run: bool,
}

/// A device's own word on failing open; `None`: it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FailOpen(pub(crate) Option<bool>);

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
