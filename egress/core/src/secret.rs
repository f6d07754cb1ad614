//! Which secret an exit means. The vault keeps secrets by name, and a connection that is imported anew has another under the same
//! name, for another server: so that neither server is told the other's, an exit says of which import its secret is.

use std::fmt;

use crate::exit::ExitId;

/// A secret of one import of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    name: String,
    revision: u64,
}

impl Wanted {
    /// The secret in a field of an exit's connection, of a revision; 0: of none, stored before there were any.
    pub fn new(exit: &ExitId, field: &str, revision: u64) -> Self {
        Wanted {
            name: exit.secret_name(field),
            revision,
        }
    }

    /// The vault's name of it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether what the vault has under the name is it. What has no revision is of an exit that has none: cell-api gives both at
    /// once, so one without the other is of two imports.
    pub fn is_of(&self, kept_revision: u64) -> bool {
        self.revision == kept_revision
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_secret_is_of_its_import_alone() {
        let exit = ExitId::parse("6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5b").unwrap();
        let wanted = |revision| Wanted::new(&exit, "password", revision);
        assert_eq!(
            wanted(2).to_string(),
            "conn_6f1d2c3a0b4e4d5f8a9b0c1d2e3f4a5b_password"
        );
        for (told, kept, is) in [
            // Both are of before there were revisions.
            (0, 0, true),
            (2, 2, true),
            // The vault is ahead, and ApplyExits comes.
            (2, 3, false),
            (0, 3, false),
            // The vault is behind, as one that was put back.
            (3, 2, false),
            (3, 0, false),
        ] {
            assert_eq!(wanted(told).is_of(kept), is, "{told} and {kept}");
        }
    }
}
