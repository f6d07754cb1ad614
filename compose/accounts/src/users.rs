//! The file of users as a value: what its lines say, and what they will be.
//!
//! One line an account, `user:hash` for htpasswd(1), `user:{BLF-CRYPT}hash` for Dovecot's passwd-file. A line `#removing user` is
//! an account that is gone and whose folders are not yet: readers of the file take it for a comment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::name::User;

/// What reads the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `user:hash`: Radicale, Apache.
    Htpasswd,
    /// `user:{BLF-CRYPT}hash`: Dovecot.
    Passwd,
}

impl Format {
    fn scheme(self) -> &'static str {
        match self {
            Format::Htpasswd => "",
            Format::Passwd => "{BLF-CRYPT}",
        }
    }
}

/// A bcrypt hash as crypt(3) writes it, `$2y$…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hash(String);

impl Hash {
    /// Length of any.
    const LENGTH: usize = 60;

    /// From its text.
    pub fn new(text: &str) -> Option<Self> {
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/' | b'$');
        (text.len() == Self::LENGTH && text.starts_with("$2y$") && text.bytes().all(known))
            .then(|| Hash(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is wrong with a file: somebody else wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the file of users is not one of ours: put back the file, or take the line away")]
pub struct Corrupt {
    /// Which, from 1.
    pub line: usize,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Users {
    accounts: BTreeMap<User, Hash>,
    removing: BTreeSet<User>,
}

const REMOVING: &str = "#removing ";

impl Users {
    /// Most accounts.
    pub const MOST: usize = 10_000;

    /// Reads a file.
    ///
    /// # Errors
    /// A line that [`Users::render`] does not write: nothing is then changed, since it would be lost.
    pub fn parse(text: &str, format: Format) -> Result<Self, Corrupt> {
        let mut users = Users::default();
        for (n, line) in text.lines().enumerate() {
            users.line(line, format).ok_or(Corrupt { line: n + 1 })?;
        }
        Ok(users)
    }

    fn line(&mut self, line: &str, format: Format) -> Option<()> {
        if let Some(user) = line.strip_prefix(REMOVING) {
            let user = User::try_from(user).ok()?;
            (!self.accounts.contains_key(&user) && self.removing.insert(user)).then_some(())
        } else {
            let (user, hash) = line.split_once(':')?;
            let user = User::try_from(user).ok()?;
            let hash = Hash::new(hash.strip_prefix(format.scheme())?)?;
            (!self.removing.contains(&user) && self.accounts.insert(user, hash).is_none()).then_some(())
        }
    }

    /// As it is written.
    pub fn render(&self, format: Format) -> String {
        let mut text = String::new();
        for (user, hash) in &self.accounts {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{user}:{}{}", format.scheme(), hash.as_str());
        }
        for user in &self.removing {
            let _ = writeln!(text, "{REMOVING}{user}");
        }
        text
    }

    /// Whether there is such an account.
    pub fn has(&self, user: &User) -> bool {
        self.accounts.contains_key(user)
    }

    /// All accounts, in order.
    pub fn accounts(&self) -> impl Iterator<Item = &User> {
        self.accounts.keys()
    }

    /// Those whose folders are still to be removed.
    pub fn removing(&self) -> impl Iterator<Item = &User> {
        self.removing.iter()
    }

    /// How many there are, gone ones with folders too.
    pub fn count(&self) -> usize {
        self.accounts.len() + self.removing.len()
    }

    /// With this account, or with this hash for it. Not while its folders are being removed.
    #[must_use]
    pub fn with(&self, user: &User, hash: Hash) -> Option<Self> {
        let mut next = self.clone();
        if next.removing.contains(user) {
            return None;
        }
        next.accounts.insert(user.clone(), hash);
        Some(next)
    }

    /// Without this account, its folders still to be removed. None if it is not there.
    #[must_use]
    pub fn without(&self, user: &User) -> Option<Self> {
        let mut next = self.clone();
        next.accounts.remove(user)?;
        next.removing.insert(user.clone());
        Some(next)
    }

    /// With this account's folders removed.
    #[must_use]
    pub fn removed(&self, user: &User) -> Self {
        let mut next = self.clone();
        next.removing.remove(user);
        next
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn hash(fill: char) -> Hash {
        Hash::new(&format!("$2y$10${}", fill.to_string().repeat(53))).unwrap()
    }

    fn user(name: &str) -> User {
        User::try_from(name).unwrap()
    }

    #[test]
    fn an_account_is_a_line() {
        let users = Users::default().with(&user("bob"), hash('b')).unwrap();
        let users = users.with(&user("alice"), hash('a')).unwrap();
        let text = users.render(Format::Htpasswd);
        assert_eq!(
            text,
            format!("alice:{}\nbob:{}\n", hash('a').as_str(), hash('b').as_str())
        );
        let text = users.render(Format::Passwd);
        assert!(text.starts_with("alice:{BLF-CRYPT}$2y$10$aaa"), "{text}");
        let gone = users.without(&user("alice")).unwrap();
        assert!(!gone.has(&user("alice")) && gone.has(&user("bob")));
        assert!(gone.render(Format::Htpasswd).ends_with("\n#removing alice\n"));
        // A name is not given out again before what it had is away.
        assert_eq!(gone.with(&user("alice"), hash('c')), None);
        assert!(
            gone.removed(&user("alice"))
                .with(&user("alice"), hash('c'))
                .is_some()
        );
        assert_eq!(gone.without(&user("alice")), None);
    }

    #[test]
    fn a_foreign_line_stops_everything() {
        let good = format!("a:{}\n", hash('a').as_str());
        assert!(Users::parse(&good, Format::Htpasswd).is_ok());
        for (bad, line) in [
            (good.clone() + "\n", 2),
            (good.clone() + &good, 2),
            (good.clone() + "#removing a\n", 2),
            (good.clone() + "# hello\n", 2),
            (good.clone() + "b:plain\n", 2),
            ("../a:".to_owned() + hash('a').as_str(), 1),
            (format!("a:{{BLF-CRYPT}}{}\n", hash('a').as_str()), 1),
            (format!("a:{}:0:0\n", hash('a').as_str()), 1),
        ] {
            assert_eq!(
                Users::parse(&bad, Format::Htpasswd),
                Err(Corrupt { line }),
                "{bad:?}"
            );
        }
        assert!(Users::parse(&good, Format::Passwd).is_err());
    }

    fn names() -> impl Strategy<Value = User> {
        "[a-f][a-f0-9._-]{0,6}".prop_filter_map("a user", |text| User::try_from(text.as_str()).ok())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            steps in prop::collection::vec((names(), 0u8..3, prop::char::range('a', 'z')), 0..40),
            passwd in any::<bool>(),
        ) {
            let format = if passwd { Format::Passwd } else { Format::Htpasswd };
            let mut users = Users::default();
            for (name, what, fill) in steps {
                users = match what {
                    0 => users.with(&name, hash(fill)).unwrap_or(users),
                    1 => users.without(&name).unwrap_or(users),
                    _ => users.removed(&name),
                };
                // Never both there and going.
                prop_assert!(users.removing().all(|user| !users.has(user)));
            }
            let text = users.render(format);
            prop_assert_eq!(Users::parse(&text, format), Ok(users));
        }

        #[test]
        fn what_is_read_is_written_back(text in "([a-f#:\n$]|\\PC){0,80}") {
            if let Ok(users) = Users::parse(&text, Format::Htpasswd) {
                prop_assert_eq!(users.count(), text.lines().count());
            }
        }
    }
}
