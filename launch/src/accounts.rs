//! Users and groups, looked up once and all of them.

use std::collections::BTreeMap;

use cell_sandbox::identity::Identity;
use nix::unistd::{Gid, Group, Uid, User};

use crate::error::Error;
use crate::house::{Daemon, EDGES};

/// What the machine calls the users and groups of the house.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    users: BTreeMap<&'static str, Uid>,
    groups: BTreeMap<&'static str, Gid>,
}

impl Accounts {
    /// Looks all of them up.
    ///
    /// # Errors
    /// One line that names those which are missing and the command that makes them.
    pub fn look_up() -> Result<Accounts, Error> {
        let mut accounts = Accounts::default();
        let mut missing = Vec::new();
        let users = Daemon::ALL.map(Daemon::user);
        let called = Daemon::ALL
            .iter()
            .flat_map(|daemon| daemon.edges().iter().copied());
        let groups = EDGES
            .iter()
            .map(|edge| edge.group)
            .chain(Daemon::ALL.map(Daemon::user))
            .chain(called);
        for name in users.into_iter().chain(["root"]) {
            match User::from_name(name).map_err(Error::call(format!("looking up user {name}")))? {
                Some(user) => drop(accounts.users.insert(name, user.uid)),
                None => missing.push(name),
            }
        }
        for name in groups.chain(["root"]) {
            match Group::from_name(name).map_err(Error::call(format!("looking up group {name}")))? {
                Some(group) => drop(accounts.groups.insert(name, group.gid)),
                None => missing.push(name),
            }
        }
        for name in Daemon::ALL.iter().flat_map(|daemon| daemon.optional_groups()) {
            let group = Group::from_name(name).map_err(Error::call(format!("looking up group {name}")))?;
            accounts.groups.extend(group.map(|group| (*name, group.gid)));
        }
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(accounts);
        }
        Err(Error::fault(format!(
            "users or groups are missing ({}): systemd-sysusers \"$PWD/systemd/sysusers.d/cell.conf\" makes them",
            missing.join(", ")
        )))
    }

    /// The id of a user of the house, or of a container, which has no name on the machine but its number.
    ///
    /// # Errors
    /// For a name that is not in the house.
    pub fn user(&self, name: &str) -> Result<Uid, Error> {
        self.users
            .get(name)
            .copied()
            .or_else(|| name.parse().ok().map(Uid::from_raw))
            .ok_or_else(|| Error::fault(format!("no user {name}")))
    }

    /// The id of a group of the house.
    ///
    /// # Errors
    /// For a name that is not in the house.
    pub fn group(&self, name: &str) -> Result<Gid, Error> {
        self.groups
            .get(name)
            .copied()
            .ok_or_else(|| Error::fault(format!("no group {name}")))
    }

    /// Who `daemon` runs as.
    ///
    /// # Errors
    /// None once [`Accounts::look_up`] succeeded.
    pub fn identity(&self, daemon: Daemon) -> Result<Identity, Error> {
        let mut groups = Vec::new();
        for name in daemon.edges() {
            groups.push(self.group(name)?.as_raw());
        }
        groups.extend(
            daemon
                .optional_groups()
                .iter()
                .filter_map(|name| self.groups.get(name))
                .map(|gid| gid.as_raw()),
        );
        Ok(Identity {
            uid: self.user(daemon.user())?.as_raw(),
            gid: self.group(daemon.user())?.as_raw(),
            groups,
        })
    }
}
