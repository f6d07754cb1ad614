//! The closed set of rules, and faults against them.

use std::fmt;

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident),+ $(,)?) => {
        /// A rule that a manifest, a parameter or a finished request can break. The letters are those of the field policy: M mounts,
        /// P privilege, N namespaces and network, R resources and restart, I image and process, X the rest, J parser; S the manifest's
        /// own schema.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule { $($(#[$doc])* $rule),+ }

        impl Rule {
            /// All there are.
            pub const ALL: &[Rule] = &[$(Rule::$rule),+];

            /// Its stable code.
            pub fn code(self) -> &'static str {
                match self { $(Rule::$rule => stringify!($rule)),+ }
            }

            /// From its code.
            pub fn from_code(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|rule| rule.code() == code)
            }
        }
    };
}

rules! {
    /// Binds: registered roots alone, by id.
    M1,
    /// Options of mounts: read-only, propagation, sizes and modes.
    M2,
    /// Volumes: those that the broker made.
    M3,
    /// No volume driver.
    M4,
    /// Kinds of mounts: volume, tmpfs, registered binds.
    M5,
    /// Targets: absolute, clean, apart.
    M6,
    /// No volumes of another container.
    M7,
    /// No anonymous volumes.
    M8,
    /// Never privileged.
    P1,
    /// Capabilities: all dropped, few added.
    P2,
    /// The security options: an exact list.
    P3,
    /// Masked and read-only paths stay Docker's.
    P4,
    /// Devices: none, or the TUN of a gateway.
    P5,
    /// No other runtime, no annotations.
    P6,
    /// The user: a number, never root; no further groups.
    P7,
    /// The user namespace stays Docker's.
    P8,
    /// The root of the file system is read-only unless the manifest says otherwise.
    P9,
    /// Namespaces of its own.
    N1,
    /// Networks of its own.
    N2,
    /// The cell's cgroup.
    N3,
    /// Kernel parameters: an exact list.
    N4,
    /// Addresses and aliases: given by the broker.
    N5,
    /// Published ports: what the ceiling lists.
    N6,
    /// Resolvers: the cell's.
    N7,
    /// Limits of resources.
    R1,
    /// The out-of-memory killer.
    R2,
    /// Restarts and stops.
    R3,
    /// The image: by digest, from a listed registry, signed.
    I1,
    /// The process: from the manifest.
    I2,
    /// The working directory.
    I3,
    /// The environment.
    I4,
    /// Labels: the broker's own.
    I5,
    /// No file with the container's id.
    X1,
    /// No storage options.
    X2,
    /// An init process.
    X3,
    /// The host's name: generated.
    X4,
    /// Logs: kept, and bounded.
    X5,
    /// The container's name and platform: the broker's.
    X6,
    /// JSON: each key once, nothing after the end.
    J1,
    /// Sizes.
    J2,
    /// No path of a caller's.
    J3,
    /// Fields of Docker for Windows.
    WIN,
    /// A key or field that nobody knows.
    S1,
    /// A name that reaches DNS, a proxy or Docker.
    S2,
    /// A field of the configuration, or its value.
    S3,
    /// Parts of a manifest that do not fit each other.
    S4,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {description} ({rule})")]
pub struct Fault {
    /// Where: a path of keys, e.g. `containers[0].mounts[1].target`.
    pub path: String,
    /// Which rule.
    pub rule: Rule,
    /// What is wrong and what would be right.
    pub description: String,
}

/// At least one fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub(crate) Vec<Fault>);

impl Faults {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }

    /// Whether one of them is against `rule`.
    pub fn against(&self, rule: Rule) -> bool {
        self.0.iter().any(|fault| fault.rule == rule)
    }

    pub(crate) fn one(path: &str, rule: Rule, description: impl Into<String>) -> Self {
        Faults(vec![Fault {
            path: path.to_owned(),
            rule,
            description: description.into(),
        }])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Where faults are gathered, so that all are named at once.
#[derive(Debug, Default)]
pub(crate) struct Gather(Vec<Fault>);

impl Gather {
    pub(crate) fn add(&mut self, path: &str, rule: Rule, description: impl Into<String>) {
        self.0.push(Fault {
            path: path.to_owned(),
            rule,
            description: description.into(),
        });
    }

    /// Notes a fault unless `holds`.
    pub(crate) fn must(&mut self, holds: bool, path: &str, rule: Rule, description: &str) {
        if !holds {
            self.add(path, rule, description);
        }
    }

    /// The value, or none and a fault.
    pub(crate) fn take<T>(&mut self, path: &str, rule: Rule, made: Result<T, impl ToString>) -> Option<T> {
        made.map_err(|fault| self.add(path, rule, fault.to_string())).ok()
    }

    pub(crate) fn finish<T>(self, whole: Option<T>) -> Result<T, Faults> {
        match whole {
            Some(whole) if self.0.is_empty() => Ok(whole),
            _ => Err(Faults(self.0)),
        }
    }
}
