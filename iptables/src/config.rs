//! The policy file (`iptables.toml`): who may call. Unknown keys are refused.

use cell_proto::ipc::CallerPolicy;
use cell_proto::ipc::policy::{CallerNames, InvalidCaller};
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
    /// Nobody may call, or who does not exist.
    #[error(transparent)]
    Callers(#[from] InvalidCaller),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    callers: Callers,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Callers {
    netd: CallerNames,
}

impl Config {
    /// Parses the text of a policy file. `uid_of` finds a user's id, e.g. by getpwnam(3).
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first fault.
    pub fn parse(text: &str, uid_of: impl Fn(&str) -> Option<u32>) -> Result<Self, InvalidConfig> {
        let netd = toml::from_str::<File>(text)?
            .callers
            .netd
            .resolve("netd", uid_of)?;
        Ok(Config { netd })
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
