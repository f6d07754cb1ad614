//! Everything that the broker can be asked: one enum is the door.

use std::fmt;

/// Who asks: one role per listener, known from the socket before a message is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The API server, on the listener `api`.
    Api,
}

/// A thing that can be asked. There is no verb to change or enter a container, none for networks, volumes or Docker itself,
/// and none that takes an image's or a container's name: what is absent here cannot be asked in any spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Lists own containers. Always allowed; each container is judged as for [`Verb::Show`].
    List,
    /// Shows an own container. Always allowed.
    Show,
    /// The end of an own container's log. Allowed in every state but `removing`.
    Logs,
    /// One reading of what an own container uses. Allowed while it runs or is paused.
    Stats,
    /// Reads volumes of a deployed service, encrypted for root's recipients. Allowed in every state but `removing`.
    Backup,
    /// Starts an own container. Allowed when [`crate::can_start`].
    Start,
    /// Stops an own container. Allowed when [`crate::can_stop`].
    Stop,
    /// Stops and starts an own container. Allowed when [`crate::can_restart`].
    Restart,
    /// Has an own container read its configuration again, by the signal of its manifest. Allowed while it runs.
    Reload,
    /// Hands in a signed manifest.
    PutManifest,
    /// Makes a service of a manifest that was handed in. Judged by [`crate::deploy::judge`].
    Deploy,
    /// Takes a deployed service away.
    Remove,
    /// Fetches the images that a manifest names.
    Pull,
}

impl Verb {
    /// Whether `role` may ask for this at all. A new role or verb does not compile until it is decided here.
    pub fn is_for(self, role: Role) -> bool {
        match (role, self) {
            (
                Role::Api,
                Verb::List
                | Verb::Show
                | Verb::Logs
                | Verb::Stats
                | Verb::Backup
                | Verb::Start
                | Verb::Stop
                | Verb::Restart
                | Verb::Reload
                | Verb::PutManifest
                | Verb::Deploy
                | Verb::Remove
                | Verb::Pull,
            ) => true,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verb::List => "list",
            Verb::Show => "show",
            Verb::Logs => "logs",
            Verb::Stats => "stats",
            Verb::Backup => "backup",
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
            Verb::Reload => "reload",
            Verb::PutManifest => "put-manifest",
            Verb::Deploy => "deploy",
            Verb::Remove => "remove",
            Verb::Pull => "pull",
        })
    }
}

/// What is to be done with one container, with its parameters. A [`crate::Permit`] is for one of these, so that leave to
/// read a log cannot be used to stop a container.
pub trait Act: Copy + fmt::Debug + Send + Sync + 'static + sealed::Sealed {
    /// The verb that it is.
    const VERB: Verb;
}

mod sealed {
    pub trait Sealed {}
}

/// The acts.
pub mod act {
    use super::{Act, Verb, sealed};
    use crate::model::{LogLines, StopTimeout};

    /// Show it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Show;
    /// Read the end of its log.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Logs {
        /// At most so many lines.
        pub lines: LogLines,
    }
    /// Read what it uses.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Stats;
    /// Read a folder of a volume that it mounts.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Backup;
    /// Start it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Start;
    /// Stop it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Stop {
        /// From SIGTERM to SIGKILL.
        pub timeout: StopTimeout,
    }
    /// Have it read its configuration again.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Reload;
    /// Stop and start it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Restart {
        /// From SIGTERM to SIGKILL.
        pub timeout: StopTimeout,
    }

    macro_rules! acts {
        ($($act:ident),+) => {$(
            impl sealed::Sealed for $act {}
            impl Act for $act {
                const VERB: Verb = Verb::$act;
            }
        )+};
    }
    acts!(Show, Logs, Stats, Backup, Start, Stop, Restart, Reload);
}
