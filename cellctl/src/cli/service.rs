//! `cellctl store` and `cellctl service`.

use clap::{Args, Subcommand};

use super::ServiceUrl;

#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// What can be installed.
    List,
    /// One service: what it needs, and what can be set of it.
    Show {
        /// Its id in the catalog.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Services that are installed, or on their way.
    List,
    /// Installs a service of the catalog, and shows how far it is.
    Install(Install),
    /// Brings a service to the catalog's manifest of today. If the new one does not start, what ran runs again.
    Update {
        /// The service.
        service: String,
        /// Does not wait until it is done.
        #[arg(long)]
        no_wait: bool,
    },
    /// A service's configuration; with --set it is set, whole: fields that are not named get their defaults.
    Config(Configuration),
    /// A service's secrets: which there are, and whether they are set. Their values nobody is told.
    Secrets {
        /// The service.
        service: String,
    },
    /// Sets a secret of a service. Its containers are started anew with it.
    SetSecret {
        /// The service.
        service: String,
        /// The secret's name.
        secret: String,
        /// The file whose first line is the value; "-": standard input.
        #[arg(long, value_name = "FILE", default_value = "-")]
        from: std::path::PathBuf,
    },
    /// Removes a secret of a service. What needs it does not start any more.
    RemoveSecret {
        /// The service.
        service: String,
        /// The secret's name.
        secret: String,
    },
    /// Removes a service. Its data is kept, unless --delete-data is given. What is part of the cell (time, names, the proxy) stays.
    Remove(Removal),
    /// How a service and its containers are.
    Status {
        /// The service.
        service: String,
    },
    /// Tests a service: its containers, the ports that devices are led to, its names and its route.
    Test {
        /// The service.
        service: String,
    },
    /// How a service was: since when it runs, was down, or said that it does not work.
    Health {
        /// The service.
        service: String,
    },
    /// The last lines of a container's log.
    Logs(LogsOf),
    /// Saves what a service keeps to a file, encrypted by the cell for the keys that root has put into broker.toml. If the service writes
    /// meanwhile, what it writes may be there by half: stop it first where that matters.
    Backup {
        /// The service.
        service: String,
        /// The file, which is not there yet; without it the service's name and the day, in this folder.
        #[arg(long, short, value_name = "FILE")]
        output: Option<std::path::PathBuf>,
    },
    /// Says which devices may reach a service; takes the place of what was said before. Without a name: nobody.
    Access {
        /// The service.
        service: String,
        #[command(flatten)]
        access: Access,
    },
    /// Starts a service that was stopped.
    Start {
        /// The service.
        service: String,
    },
    /// Stops a service. It stays stopped until it is started.
    Stop {
        /// The service.
        service: String,
    },
    /// Stops and starts a service.
    Restart {
        /// The service.
        service: String,
    },
    /// Networks of all services, and which way each has to the internet.
    Networks,
    /// Says what carries a service's containers to the internet. Their open connections end.
    Exit(Way),
    /// Shows or says what single places a service's containers may reach besides, at home or at another service. Without an option it shows
    /// them.
    Reach(Reach),
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Its id in the catalog.
    pub(crate) id: String,
    /// Where there can be several: this one's name.
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<String>,
    /// A field of its configuration and the value. Can be given for each field. The domain, where a service asks for one, is the
    /// cell's own if it is left out.
    #[arg(long, value_name = "FIELD=VALUE", value_parser = field)]
    pub(crate) set: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) access: Access,
    /// What carries its containers to the internet: a connection's id, name or lone type, "direct" or "none". Left out: what its
    /// manifest has for it.
    #[arg(long, value_name = "CONNECTION")]
    pub(crate) exit: Option<String>,
    /// Only says what it would do.
    #[arg(long)]
    pub(crate) validate_only: bool,
    /// Does not wait until it is done.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Configuration {
    /// The service.
    pub(crate) service: String,
    /// A field and its value. Can be given for each field.
    #[arg(long, value_name = "FIELD=VALUE", value_parser = field)]
    pub(crate) set: Vec<(String, String)>,
    /// All fields get their defaults.
    #[arg(long, conflicts_with = "set")]
    pub(crate) defaults: bool,
    /// Only says whether it could be set so.
    #[arg(long)]
    pub(crate) check: bool,
    /// Does not wait until it is done.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Removal {
    /// The service.
    pub(crate) service: String,
    /// Deletes all of its data too, for good.
    #[arg(long)]
    pub(crate) delete_data: bool,
    /// Only says what it would do.
    #[arg(long)]
    pub(crate) validate_only: bool,
    /// Does not wait until it is done.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogsOf {
    /// The service.
    pub(crate) service: String,
    /// The container's name; without it the main one's.
    pub(crate) container: Option<String>,
    /// How many lines.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) lines: u32,
    /// Goes on as it grows, until the container ends or ten minutes are over.
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Way {
    /// The service.
    pub(crate) service: String,
    /// A connection's name, its id, or its type where one connection alone has it; "direct": the cell's own way; "none": no way.
    pub(crate) to: String,
    /// Whether it goes out directly while the connection does not work; without it the connection's type decides.
    #[arg(long, value_name = "TRUE|FALSE")]
    pub(crate) fail_open: Option<bool>,
    /// A connection that stands in while that one does not work. Can be given many times, the first first; without one nothing stands in.
    #[arg(long = "fallback", value_name = "CONNECTION")]
    pub(crate) fallbacks: Vec<String>,
    /// Takes the change back after so many seconds (5-3600), unless it is kept: at a terminal that is asked here, else by
    /// `cellctl change confirm`. Without this, 60 if you are logged in over SSH from a container of the service.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(5..=3600))]
    pub(crate) confirm_within: Option<u32>,
    /// Changes it for good at once, even where you are logged in from what is changed.
    #[arg(long, conflicts_with_all = ["confirm_within", "validate_only"])]
    pub(crate) at_once: bool,
    /// Only says what it would do.
    #[arg(long, conflicts_with = "confirm_within")]
    pub(crate) validate_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Reach {
    /// The service.
    pub(crate) service: String,
    /// Lets its containers reach one place more, e.g. tcp://192.168.1.20:445; IPv4 alone. Another service is reached at its container's
    /// address (`cellctl service status`). Can be given many times.
    #[arg(long = "add", value_name = "PROTOCOL://ADDRESS:PORT")]
    pub(crate) add: Vec<ServiceUrl>,
    /// Takes one place away; what is open to it ends. Can be given many times.
    #[arg(long = "remove", value_name = "PROTOCOL://ADDRESS:PORT")]
    pub(crate) remove: Vec<ServiceUrl>,
    /// Takes all places away.
    #[arg(long, conflicts_with_all = ["add", "remove"])]
    pub(crate) none: bool,
    /// Only says what it would do.
    #[arg(long)]
    pub(crate) validate_only: bool,
}

#[derive(Debug, Args)]
#[group(id = "who")]
pub(crate) struct Access {
    /// A device that may reach it. Can be given several times.
    #[arg(long = "peer", value_name = "NAME", conflicts_with = "everyone")]
    pub(crate) peers: Vec<String>,
    /// Every device may reach it, those that are added later too.
    #[arg(long)]
    pub(crate) everyone: bool,
}

fn field(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("must be FIELD=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_value_may_have_anything_but_the_first_sign() {
        assert_eq!(field("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert_eq!(field("a=").unwrap(), ("a".to_owned(), String::new()));
        assert!(field("a").is_err());
    }
}
