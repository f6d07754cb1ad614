//! The command line. No secret is ever an argument: arguments are seen by every process of the machine.

mod account;
mod catalog;
mod connection;
mod first_version;
mod peer;
mod service;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use account::{Account, AccountAdd};
pub(crate) use catalog::{Catalog, CatalogAdd};
pub(crate) use connection::{Connection, Import};
pub(crate) use first_version::FirstVersion;
pub(crate) use peer::{FailOpen, How, Peer, PeerAdd, PeerConfig, PeerSet, ServiceUrl};
pub(crate) use service::{Access, Configuration, Install, LogsOf, Reach, Removal, Service, Store, Way};

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
    /// Whether a device or a service reaches something, and why: the rules that its first packet meets.
    Explain(Explain),
    /// Exits that the traffic of devices may take.
    Connection {
        #[command(subcommand)]
        command: Connection,
    },
    /// Carries exits over from the original's first version (one of each type), and which device uses which.
    Import(FirstVersion),
    /// The catalog of services.
    Store {
        #[command(subcommand)]
        command: Store,
    },
    /// Remote catalogs: services that others sign and serve.
    Catalog {
        #[command(subcommand)]
        command: Catalog,
    },
    /// Services that are installed: who may reach them, how they are, how their containers get to the internet.
    Service {
        #[command(subcommand)]
        command: Service,
    },
    /// Accounts that devices' owners have at services: calendar, mail, files.
    Account {
        #[command(subcommand)]
        command: Account,
    },
    /// What is wrong with services: a container that does not run, an installation that failed, a certificate that cannot be had.
    Alerts {
        #[command(subcommand)]
        command: Option<Alerts>,
    },
    /// Under which domain services are found, beside the cell's own.
    Domain {
        #[command(subcommand)]
        command: Domain,
    },
    /// Where devices connect to, and which resolvers are asked.
    Config {
        #[command(subcommand)]
        command: Config,
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
#[command(allow_missing_positional = true)]
pub(crate) struct Explain {
    /// The device.
    #[arg(required_unless_present = "service", conflicts_with = "service")]
    pub(crate) peer: Option<String>,
    /// A service instead of a device: what its containers reach.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
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

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// The configuration.
    Show,
    /// Changes what of it can be changed after the first run.
    Set(ConfigSet),
    /// What the cell's DNS server for names of services logs; with a level, what it logs from now on.
    QueryLog {
        /// What is logged.
        level: Option<QueryLog>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Domain {
    /// The setting, and whether the provider's token is there.
    Show,
    /// The cell's own domain alone. The token is removed.
    Lan,
    /// A public domain as well, with a certificate of the web that is proven in its DNS. Nothing becomes reachable from the internet.
    Dns01(Box<Dns01>),
    /// A public domain as well, with a certificate of the web for each name, proven by HTTP. The internet reaches TCP 80 of the machine, which
    /// root opens in netd.toml (services.public_http), and names of services become public.
    Http01(Http01),
}

#[derive(Debug, Args)]
pub(crate) struct Http01 {
    /// The public domain, e.g. home.example.org: one of the cell's own, whose names all lead to this machine on the internet.
    pub(crate) domain: String,
    /// Where the authority may write to.
    #[arg(long, default_value = "", value_name = "MAILBOX")]
    pub(crate) email: String,
    /// The ACME directory of another authority than Let's Encrypt.
    #[arg(long, default_value = "", value_name = "URL")]
    pub(crate) acme_directory: String,
    /// A file of the certificates that the directory's own is checked by, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) acme_authority: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Dns01 {
    /// The public domain, e.g. home.example.org: one of the cell's own, since the cell answers for all its names.
    pub(crate) domain: String,
    /// Who answers for it on the internet: duckdns, cloudflare, or generic (a server that takes RFC 2136 updates).
    #[arg(long, value_name = "PROVIDER")]
    pub(crate) provider: String,
    /// Reads the provider's token, or the secret of the TSIG key, from the first line of a file ("-": standard input). Without it the
    /// one that is there stays.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Where the authority may write to.
    #[arg(long, default_value = "", value_name = "MAILBOX")]
    pub(crate) email: String,
    /// Of generic: the server, an IPv4 address with a port where it is not 53.
    #[arg(long, default_value = "", value_name = "ADDRESS")]
    pub(crate) server: String,
    /// Of generic: the name of its key.
    #[arg(long, default_value = "", value_name = "NAME")]
    pub(crate) tsig_name: String,
    /// Of generic: hmac-sha256 (the default), hmac-sha384 or hmac-sha512.
    #[arg(long, default_value = "", value_name = "ALGORITHM")]
    pub(crate) tsig_algorithm: String,
    /// The ACME directory of another authority than Let's Encrypt.
    #[arg(long, default_value = "", value_name = "URL")]
    pub(crate) acme_directory: String,
    /// A file of the certificates that the directory's own is checked by, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) acme_authority: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum QueryLog {
    /// Nothing.
    Off,
    /// Failures alone.
    Errors,
    /// Every question as well: the log then has what each device looks up.
    Questions,
}

impl QueryLog {
    /// As the cell has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            QueryLog::Off => "off",
            QueryLog::Errors => "errors",
            QueryLog::Questions => "questions",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Alerts {
    /// Notes that you have seen one. It stays until it is over.
    Acknowledge {
        /// Its number.
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConfigSet {
    /// Host name or address that devices connect to from outside; "": not known.
    #[arg(long, value_name = "HOST")]
    pub(crate) endpoint: Option<String>,
    /// A resolver for devices without an exit: 9.9.9.9, 192.168.1.1:5353, [2620:fe::fe]:53. Can be given up to 8 times; takes the
    /// place of all before.
    #[arg(long = "dns", value_name = "ADDRESS", conflicts_with = "default_dns")]
    pub(crate) dns: Vec<String>,
    /// Goes back to the default resolvers.
    #[arg(long)]
    pub(crate) default_dns: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Checks that no record was changed, left out or put in.
    Verify,
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
    fn a_device_or_a_service_is_explained_and_not_both() {
        let asked = |words: &[&str]| {
            let words = ["cellctl", "explain"].iter().chain(words);
            match Cli::try_parse_from(words).ok()?.command {
                Command::Explain(Explain {
                    peer,
                    service,
                    destination,
                    udp: _,
                }) => Some((peer, service, destination)),
                other => panic!("{other:?}"),
            }
        };
        let text = |text: &str| Some(text.to_owned());
        let to = "10.0.5.7:443";
        assert_eq!(asked(&["phone", to]), Some((text("phone"), None, to.to_owned())));
        let of_service = Some((None, text("files"), to.to_owned()));
        assert_eq!(asked(&["--service", "files", to]), of_service);
        assert_eq!(asked(&[to, "--service", "files"]), of_service);
        assert_eq!(asked(&["--service", "files", "phone", to]), None);
        assert_eq!(asked(&[to]), None);
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
