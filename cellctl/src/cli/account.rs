//! `cellctl account`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Makes an account at one or more services for a device's owner, at all of them or at none, and shows the passwords this once.
    Add(AccountAdd),
    /// Accounts of a service.
    List {
        /// The service.
        service: String,
    },
    /// Gives an account another password, and shows it this once.
    Password {
        /// The service.
        service: String,
        /// The account's name.
        user: String,
    },
    /// Removes an account with all that it has at the service, for good.
    Remove {
        /// The service.
        service: String,
        /// The account's name.
        user: String,
        /// Only says what it would do.
        #[arg(long)]
        validate_only: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AccountAdd {
    /// The device whose owner it is for.
    pub(crate) peer: String,
    /// Where: calendar,email. Can be given several times.
    #[arg(long = "service", value_name = "NAME", required = true, value_delimiter = ',')]
    pub(crate) services: Vec<String>,
    /// What the account is called: a-z, 0-9 and . _ -; without it as the device, in lower case.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
}
