//! The policy file (`iptables.toml`): who may call. Unknown keys are refused.

use cell_proto::ipc::CallerPolicy;
use serde::Deserialize;

/// What the policy file says, users looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Who may use the listener `netd`.
    pub netd: CallerPolicy,
}

/// A policy file that cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// Not TOML, or not of this shape.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// A user that does not exist here.
    #[error("callers.netd.users: there is no user \"{0}\" on this machine")]
    UnknownUser(String),
    /// Nobody may call.
    #[error("callers.netd.users: name at least one user")]
    NoUser,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    callers: Callers,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Callers {
    netd: Caller,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Caller {
    users: Vec<String>,
    #[serde(default)]
    unit: Option<String>,
}

impl Config {
    /// Parses the text of a policy file. `uid_of` finds a user's id, e.g. by getpwnam(3).
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first fault.
    pub fn parse(text: &str, uid_of: impl Fn(&str) -> Option<u32>) -> Result<Self, InvalidConfig> {
        let Caller { users, unit } = toml::from_str::<File>(text)?.callers.netd;
        if users.is_empty() {
            return Err(InvalidConfig::NoUser);
        }
        let uids = users
            .into_iter()
            .map(|user| uid_of(&user).ok_or(InvalidConfig::UnknownUser(user)))
            .collect::<Result<_, _>>()?;
        Ok(Config {
            netd: CallerPolicy { uids, unit },
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn parse(text: &str) -> Result<Config, InvalidConfig> {
        Config::parse(text, |user| (user == "cell-netd").then_some(991))
    }

    #[test]
    fn the_documented_file_is_understood() {
        let config =
            parse("[callers.netd]\nusers = [\"cell-netd\"]\nunit = \"cell-netd.service\"\n").unwrap();
        assert_eq!(config.netd.uids, [991]);
        assert_eq!(config.netd.unit.as_deref(), Some("cell-netd.service"));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let fault = |text: &str| parse(text).unwrap_err().to_string();
        assert!(fault("[callers.netd]\nusers = [\"cell-netd\"]\nuid = 0\n").contains("unknown field `uid`"));
        assert!(fault("[callers.api]\nusers = [\"cell-netd\"]\n").contains("unknown field `api`"));
        assert!(fault("[callers.netd]\nusers = [\"nobody-here\"]\n").contains("nobody-here"));
        assert!(fault("[callers.netd]\nusers = []\n").contains("at least one"));
    }
}
