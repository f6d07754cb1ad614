//! One container of a service.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::image::ImageSource;
use crate::name::Name;
use crate::path::{AbsolutePath, BelowRoot};
use crate::secret::Secret;
use crate::template::Template;

macro_rules! capabilities {
    ($($variant:ident = $word:literal),+ $(,)?) => {
        /// What a container may be given back of the capabilities that are all taken from it (capabilities(7)). Closed: what is
        /// not here cannot be written in a manifest.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Capability {
            $(#[doc = $word] $variant),+
        }

        impl Capability {
            /// All there are.
            pub const ALL: &[Capability] = &[$(Capability::$variant),+];

            /// Its name without `CAP_`.
            pub fn word(self) -> &'static str {
                match self { $(Capability::$variant => $word),+ }
            }
        }
    };
}

capabilities! {
    Chown = "CHOWN",
    Setuid = "SETUID",
    Setgid = "SETGID",
    DacOverride = "DAC_OVERRIDE",
    Fowner = "FOWNER",
    NetBindService = "NET_BIND_SERVICE",
    NetAdmin = "NET_ADMIN",
}

impl Capability {
    /// By its exact name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|capability| capability.word() == word)
    }
}

/// A numeric user and group, neither below 1,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl TryFrom<&str> for User {
    type Error = &'static str;

    fn try_from(text: &str) -> Result<Self, &'static str> {
        let number = |text: &str| {
            let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
            text.parse::<u32>()
                .ok()
                .filter(|n| plain && (1000..u32::MAX).contains(n))
        };
        let ids = text
            .split_once(':')
            .and_then(|(uid, gid)| Some((number(uid)?, number(gid)?)));
        let (uid, gid) = ids.ok_or("is uid:gid, two numbers of at least 1000")?;
        Ok(User { uid, gid })
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A volume of the service's own, made by the broker.
    Volume(Name),
    /// A folder below a root that the ceiling registers by id.
    Bind {
        /// The root's id.
        root: Name,
        /// Below it.
        below: BelowRoot,
    },
    /// Memory.
    Tmpfs {
        /// MiB, 1-256.
        size_mib: u32,
        /// Mode bits, at most 01777.
        mode: u32,
    },
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What.
    pub source: Source,
    /// Where.
    pub target: AbsolutePath,
    /// Whether it cannot be written to.
    pub read_only: bool,
}

/// What a container may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// MiB, at least 6. No swap.
    pub memory_mib: u32,
    /// Thousandths of a processor, at least 10.
    pub cpu_milli: u32,
    /// Processes and threads, 1-4,096.
    pub pids: u32,
    /// Shared memory, MiB, 1-64.
    pub shm_mib: u32,
    /// Open files, 64-65,536.
    pub files: u32,
}

/// How Docker asks whether it works: the exit status of a program in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Program and arguments, run without a shell.
    pub command: Vec<Template>,
    /// Seconds between two questions, 5-3,600.
    pub interval_seconds: u32,
    /// Seconds for one, 1-60.
    pub timeout_seconds: u32,
    /// Failures in a row that mean unhealthy, 1-10.
    pub retries: u32,
    /// Seconds from the start in which failures do not count, 0-600.
    pub start_period_seconds: u32,
}

/// When the broker starts it again by itself. Docker never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    No,
    /// When it ended with a failure, at most so often, 1-10.
    OnFailure(u32),
    /// Always, until it is stopped.
    UnlessStopped,
}

/// What tells it to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
}

impl StopSignal {
    /// All there are.
    pub const ALL: [StopSignal; 5] = [
        StopSignal::Term,
        StopSignal::Int,
        StopSignal::Quit,
        StopSignal::Hup,
        StopSignal::Usr1,
    ];

    /// Its name as Docker takes it.
    pub fn word(self) -> &'static str {
        match self {
            StopSignal::Term => "SIGTERM",
            StopSignal::Int => "SIGINT",
            StopSignal::Quit => "SIGQUIT",
            StopSignal::Hup => "SIGHUP",
            StopSignal::Usr1 => "SIGUSR1",
        }
    }
}

/// What has a program read its configuration again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadSignal {
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
}

impl ReloadSignal {
    /// All there are.
    pub const ALL: [ReloadSignal; 2] = [ReloadSignal::Hup, ReloadSignal::Usr1];

    /// Its name as Docker takes it.
    pub fn word(self) -> &'static str {
        match self {
            ReloadSignal::Hup => "SIGHUP",
            ReloadSignal::Usr1 => "SIGUSR1",
        }
    }

    /// By its exact name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.word() == word)
    }
}

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As Docker writes it.
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// Where a port of the container is published on the machine. The ceiling has to list it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// One address, never all of them.
    pub address: IpAddr,
    /// At least 1,024.
    pub port: u16,
}

/// A port that the container listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Number.
    pub port: u16,
    /// Transport.
    pub protocol: Protocol,
    /// Where on the machine, if anywhere.
    pub published: Option<Published>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name in the service's network.
    pub name: Name,
    /// Its image.
    pub image: ImageSource,
    /// Instead of the image's; empty: the image's.
    pub entrypoint: Vec<Template>,
    /// Instead of the image's; empty: the image's.
    pub command: Vec<Template>,
    /// Variables.
    pub environment: BTreeMap<String, Template>,
    /// Where it starts; none: the image's.
    pub working_dir: Option<AbsolutePath>,
    /// Whom it runs as.
    pub user: User,
    /// Whether its root cannot be written to.
    pub read_only_root: bool,
    /// Whether it may make a TUN and configure its own network: the gateways of exits.
    pub gateway: bool,
    /// Given back.
    pub capabilities: Vec<Capability>,
    /// Mounts, no two of which overlap.
    pub mounts: Vec<Mount>,
    /// What it is given as files below `/run/secrets`, no name twice.
    pub secrets: Vec<Secret>,
    /// What it may use.
    pub limits: Limits,
    /// Its check, if it has one.
    pub health: Option<Health>,
    /// Restarts.
    pub restart: Restart,
    /// What tells it to end.
    pub stop_signal: StopSignal,
    /// What has it read its configuration again; none: nothing does.
    pub reload_signal: Option<ReloadSignal>,
    /// Seconds until it is killed, 0-60.
    pub stop_timeout_seconds: u32,
    /// Ports.
    pub ports: Vec<Port>,
}
