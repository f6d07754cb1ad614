//! The words of `cellctl connection`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
    /// Replaces what a connection is made of, its secrets included. Name, type, mark and table stay. It cannot be taken back.
    Replace {
        /// Its name.
        name: String,
        #[command(flatten)]
        import: Import,
        /// Only says what it would do: whose connections end, what is forgotten. Changes nothing.
        #[arg(long)]
        dry_run: bool,
        /// Replaces it even where the very device that you are logged in from goes by it.
        #[arg(long, conflicts_with = "dry_run")]
        at_once: bool,
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
