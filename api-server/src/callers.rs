//! Who may use the automation socket: names from the policy file, looked up once, before the sandbox closes.

use std::collections::BTreeMap;

use nix::unistd::{Group, User};

use crate::config::AutomationCallers;

/// A name that cannot be looked up.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// The user or group database cannot be read.
    #[error("{0} cannot be looked up")]
    Lookup(String, #[source] nix::Error),
    /// No such user. A misspelt name must not silently let nobody in.
    #[error("there is no user {0}")]
    NoUser(String),
}

/// Callers by user id, with the name for the audit record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callers(pub BTreeMap<u32, String>);

/// Looks users and the members of groups up. A group that does not exist has no members: `cell-admin` is made when
/// somebody needs it.
///
/// # Errors
/// [`CallerError`].
pub fn resolve(automation: &AutomationCallers) -> Result<Callers, CallerError> {
    let mut callers = BTreeMap::new();
    for name in &automation.users {
        let user = user(name)?.ok_or_else(|| CallerError::NoUser(name.clone()))?;
        callers.insert(user.uid.as_raw(), user.name);
    }
    for name in &automation.groups {
        let group = Group::from_name(name).map_err(|error| CallerError::Lookup(name.clone(), error))?;
        let members = group.map(|group| group.mem).unwrap_or_default();
        for member in members {
            // A member that is gone can call nothing.
            if let Some(user) = user(&member)? {
                callers.insert(user.uid.as_raw(), user.name);
            }
        }
    }
    Ok(Callers(callers))
}

fn user(name: &str) -> Result<Option<User>, CallerError> {
    User::from_name(name).map_err(|error| CallerError::Lookup(name.to_owned(), error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn names(users: &[&str], groups: &[&str]) -> AutomationCallers {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        AutomationCallers {
            users: owned(users),
            groups: owned(groups),
        }
    }

    #[test]
    fn a_misspelt_user_is_an_error_and_an_absent_group_is_empty() {
        let callers = resolve(&names(&["root"], &["no-such-group-of-cell"])).unwrap();
        assert_eq!(callers, Callers([(0, "root".to_owned())].into()));
        assert!(matches!(
            resolve(&names(&["no-such-user-of-cell"], &[])),
            Err(CallerError::NoUser(_))
        ));
    }
}
