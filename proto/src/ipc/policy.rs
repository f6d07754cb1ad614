//! `[callers.LISTENER]` of a daemon's policy file: who may use a listener, by the names of users.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use super::CallerPolicy;

/// The part of a policy file; users are not looked up yet.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerNames {
    users: Vec<String>,
    #[serde(default)]
    unit: Option<String>,
}

/// Callers that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCaller {
    /// Nobody may call.
    #[error("callers.{listener}.users: name at least one user")]
    Nobody {
        /// Of which listener.
        listener: &'static str,
    },
    /// A user that does not exist here.
    #[error("callers.{listener}.users: there is no user \"{user}\" on this machine")]
    Unknown {
        /// Of which listener.
        listener: &'static str,
        /// Its name.
        user: String,
    },
}

impl CallerNames {
    /// Looks the users up by `uid_of`, e.g. [`uid_of`]. `listener` is the listener's name, for messages.
    ///
    /// # Errors
    /// When there is no user, or one that does not exist.
    pub fn resolve(
        self,
        listener: &'static str,
        uid_of: impl Fn(&str) -> Option<u32>,
    ) -> Result<CallerPolicy, InvalidCaller> {
        if self.users.is_empty() {
            return Err(InvalidCaller::Nobody { listener });
        }
        let looked_up = self
            .users
            .into_iter()
            .map(|user| uid_of(&user).ok_or(InvalidCaller::Unknown { listener, user }));
        Ok(CallerPolicy {
            uids: looked_up.collect::<Result<_, _>>()?,
            unit: self.unit,
        })
    }
}

/// The number of a user of this machine, by getpwnam(3).
pub fn uid_of(name: &str) -> Option<u32> {
    let user = nix::unistd::User::from_name(name).ok().flatten();
    user.map(|user| user.uid.as_raw())
}

/// Reads a policy file and has it parsed.
///
/// # Errors
/// Names the file.
pub fn read<C, E>(path: &Path, parse: impl FnOnce(&str) -> Result<C, E>) -> anyhow::Result<C>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    parse(&text).with_context(|| format!("{} is not in order", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn resolve(users: &[&str]) -> Result<CallerPolicy, InvalidCaller> {
        let names = CallerNames {
            users: users.iter().map(ToString::to_string).collect(),
            unit: Some("cell-api.service".to_owned()),
        };
        names.resolve("api", |user| (user == "cell-api").then_some(990))
    }

    #[test]
    fn users_are_looked_up() {
        let policy = resolve(&["cell-api"]).unwrap();
        assert_eq!(
            (policy.uids, policy.unit),
            (vec![990], Some("cell-api.service".to_owned()))
        );
        assert_eq!(uid_of("root"), Some(0));
    }

    #[test]
    fn nobody_and_an_unknown_user_are_refused() {
        let listener = "api";
        assert_eq!(resolve(&[]), Err(InvalidCaller::Nobody { listener }));
        let user = "nobody-here".to_owned();
        assert_eq!(
            resolve(&["cell-api", "nobody-here"]),
            Err(InvalidCaller::Unknown { listener, user })
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let missing = Path::new("/nonexistent/api.toml");
        let fault = read(missing, |_| Ok::<_, std::io::Error>(())).unwrap_err();
        assert!(fault.to_string().contains("/nonexistent/api.toml"), "{fault}");
    }
}
