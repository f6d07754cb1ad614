//! The policy file (`openvpn.toml`): who may call, and the ceiling. Unknown keys are refused.

use std::path::PathBuf;

use cell_openvpn_core::request::Ceiling;
use cell_proto::ipc::CallerPolicy;
use cell_proto::ipc::policy::{CallerNames, InvalidCaller};
use serde::Deserialize;

/// Most exits that may be allowed: each is a process of its own.
const EXITS_MAX: usize = 256;

/// What the policy file says, users looked up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who may use the listener `api`.
    pub api: CallerPolicy,
    /// vaultd's socket for this daemon.
    pub vault_socket: PathBuf,
    /// What the programs connect to: the listener `management`, by its path.
    pub management_socket: PathBuf,
    /// OpenVPN.
    pub program: PathBuf,
    /// The ceiling.
    pub ceiling: Ceiling,
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
    /// Every name begins with nothing.
    #[error("interface_prefix: 1-14 bytes")]
    Prefix,
    /// Out of range.
    #[error("max_exits: 1-{EXITS_MAX}")]
    MaxExits,
    /// Not a path that means one file, or that OpenVPN can be told.
    #[error("{0}: is an absolute path without control characters, of at most 100 bytes")]
    Path(&'static str),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    vault_socket: PathBuf,
    management_socket: PathBuf,
    program: PathBuf,
    interface_prefix: String,
    max_exits: usize,
    callers: Callers,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Callers {
    api: CallerNames,
}

impl Config {
    /// Parses the text of a policy file. `uid_of` finds a user's id, e.g. by getpwnam(3).
    ///
    /// # Errors
    /// [`InvalidConfig`] names the first fault.
    pub fn parse(text: &str, uid_of: impl Fn(&str) -> Option<u32>) -> Result<Self, InvalidConfig> {
        let file: File = toml::from_str(text)?;
        for (key, path) in [
            ("management_socket", &file.management_socket),
            ("program", &file.program),
        ] {
            // A socket's path has at most 107 bytes (unix(7)).
            let told = path
                .to_str()
                .filter(|text| text.len() <= 100 && !text.chars().any(char::is_control));
            if told.is_none() || !path.is_absolute() {
                return Err(InvalidConfig::Path(key));
            }
        }
        if !(1..=14).contains(&file.interface_prefix.len()) {
            return Err(InvalidConfig::Prefix);
        }
        if !(1..=EXITS_MAX).contains(&file.max_exits) {
            return Err(InvalidConfig::MaxExits);
        }
        let api = file.callers.api.resolve("api", uid_of)?;
        Ok(Config {
            api,
            vault_socket: file.vault_socket,
            management_socket: file.management_socket,
            program: file.program,
            ceiling: Ceiling {
                interface_prefix: file.interface_prefix,
                exits_max: file.max_exits,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// The example of docs/runtime.md, so that the page and the parser cannot part.
    fn documented() -> String {
        let page = include_str!("../../docs/runtime.md");
        let start = page.find("# openvpn.toml").unwrap();
        page[start..start + page[start..].find("```").unwrap()].to_owned()
    }

    fn parse(text: &str) -> Result<Config, InvalidConfig> {
        Config::parse(text, |user| (user == "cell-api").then_some(990))
    }

    #[test]
    fn the_documented_file_is_understood() {
        let config = parse(&documented()).unwrap();
        assert_eq!(config.api.uids, [990]);
        assert_eq!(config.ceiling.interface_prefix, "ovpn_");
        assert_eq!(config.program, PathBuf::from("/usr/sbin/openvpn"));
        let shipped = parse(include_str!("../../systemd/etc/openvpn.toml")).unwrap();
        assert_eq!(shipped.ceiling, config.ceiling);
    }

    #[test]
    fn what_cannot_be_in_force_is_refused() {
        let fault = |from: &str, to: &str| {
            let text = documented();
            assert!(text.contains(from), "{from}");
            parse(&text.replace(from, to)).unwrap_err().to_string()
        };
        assert!(fault("\"/usr/sbin/openvpn\"", "\"openvpn\"").contains("program"));
        assert!(fault("/run/cell/programs/", "/run/cell/\\n/").contains("management_socket"));
        assert!(fault("\"ovpn_\"", "\"\"").contains("interface_prefix"));
        assert!(fault("max_exits = 32", "max_exits = 0").contains("max_exits"));
        assert!(fault("[\"cell-api\"]", "[\"nobody-here\"]").contains("nobody-here"));
        assert!(fault("[\"cell-api\"]", "[]").contains("at least one"));
        assert!(fault("[callers.api]", "shell = true\n[callers.api]").contains("unknown field `shell`"));
    }
}
