//! Reads the policy file and looks its users up, before the sandbox closes.

use std::path::{Path, PathBuf};

use cell_proto::ipc::CallerPolicy;
use cell_vaultd_core::policy::CallerSpec;
use cell_vaultd_core::{Policy, PolicySpec, Violation};
use clap::Parser;
use nix::unistd::User;

/// Keeps the cell's keys: certificates, secrets, the WireGuard key. Started by its unit or by `make run`.
#[derive(Debug, Parser)]
#[command(name = "cell-vaultd", version)]
pub struct Arguments {
    /// The policy file.
    #[arg(long, value_name = "FILE", default_value = "/etc/cell/vaultd.toml")]
    pub config: PathBuf,
    /// Checks the policy file, prints what is in force, and exits.
    #[arg(long)]
    pub check: bool,
}

/// What vaultd was told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The ceiling.
    pub policy: Policy,
    /// Who may use the listener `api`.
    pub api: CallerPolicy,
    /// Who may use the listener `netd`.
    pub netd: CallerPolicy,
    /// Who may use the listener `egress`; no user: nobody.
    pub egress: CallerPolicy,
    /// Who may use the listener `openvpn`; no user: nobody.
    pub openvpn: CallerPolicy,
    /// Who may use the listener `broker`; no user: nobody.
    pub broker: CallerPolicy,
}

/// Why the policy file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, or with a key that is unknown or missing.
    #[error("{path}: {source}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// Values that do not hold.
    #[error("{path}:\n  {}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
    Values {
        /// Which file.
        path: PathBuf,
        /// Every fault.
        faults: Vec<Violation>,
    },
}

impl Config {
    /// Reads `path`.
    ///
    /// # Errors
    /// See [`ConfigError`]; faults are named all at once.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        let spec: PolicySpec = toml::from_str(&text).map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let values = |faults| ConfigError::Values {
            path: path.to_owned(),
            faults,
        };
        let policy = Policy::try_from(spec).map_err(values)?;
        let mut faults = Vec::new();
        let api = look_up("callers.api.users", &policy.api_callers, &mut faults);
        let netd = look_up("callers.netd.users", &policy.netd_callers, &mut faults);
        let egress = policy.egress_callers.as_ref();
        let egress = egress.map_or_else(nobody, |callers| {
            look_up("callers.egress.users", callers, &mut faults)
        });
        let openvpn = policy.openvpn_callers.as_ref();
        let openvpn = openvpn.map_or_else(nobody, |callers| {
            look_up("callers.openvpn.users", callers, &mut faults)
        });
        let broker = policy.broker_callers.as_ref();
        let broker = broker.map_or_else(nobody, |callers| {
            look_up("callers.broker.users", callers, &mut faults)
        });
        if faults.is_empty() {
            Ok(Config {
                policy,
                api,
                netd,
                egress,
                openvpn,
                broker,
            })
        } else {
            Err(values(faults))
        }
    }

    /// What is in force, for people.
    pub fn summary(&self) -> String {
        let Policy {
            state,
            scope,
            leaf_lifetime,
            issuances_per_hour,
            secrets_max,
            api_secret_prefixes,
            ..
        } = &self.policy;
        let prefixes = api_secret_prefixes
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>();
        format!(
            "state            {}\ncertifies\n  {}\nleaf lifetime    {} h, {issuances_per_hour} an hour at most\n\
             secrets          {secrets_max} at most; the API writes {}\nlistener api     users {:?}, unit {}\n\
             listener netd    users {:?}, unit {}\nlistener egress  users {:?}, unit {}\n\
             listener openvpn users {:?}, unit {}\nlistener broker  users {:?}, unit {}",
            state.display(),
            scope.encode().trim_end().replace('\n', "\n  "),
            leaf_lifetime / cell_vaultd_core::timestamp::HOUR,
            if prefixes.is_empty() {
                "none".to_owned()
            } else {
                prefixes.join("*, ") + "*"
            },
            self.api.uids,
            self.api.unit.as_deref().unwrap_or("any"),
            self.netd.uids,
            self.netd.unit.as_deref().unwrap_or("any"),
            self.egress.uids,
            self.egress.unit.as_deref().unwrap_or("any"),
            self.openvpn.uids,
            self.openvpn.unit.as_deref().unwrap_or("any"),
            self.broker.uids,
            self.broker.unit.as_deref().unwrap_or("any"),
        )
    }
}

fn nobody() -> CallerPolicy {
    CallerPolicy {
        uids: Vec::new(),
        unit: None,
    }
}

fn look_up(field: &str, spec: &CallerSpec, faults: &mut Vec<Violation>) -> CallerPolicy {
    let mut uids = Vec::new();
    for (index, name) in spec.users.iter().enumerate() {
        match User::from_name(name) {
            Ok(Some(user)) => uids.push(user.uid.as_raw()),
            Ok(None) => faults.push(Violation::new(
                format!("{field}[{index}]"),
                "there is no such user",
            )),
            Err(error) => faults.push(Violation::new(
                format!("{field}[{index}]"),
                format!("cannot be looked up: {error}"),
            )),
        }
    }
    CallerPolicy {
        uids,
        unit: spec.unit.clone(),
    }
}
