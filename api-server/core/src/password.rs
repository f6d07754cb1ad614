//! Passwords in hand, and the rules for new ones.

use zeroize::Zeroizing;

/// Fewest characters of a new password.
pub const MIN_CHARACTERS: usize = 10;
/// Most characters; more would only be work for Argon2id.
pub const MAX_CHARACTERS: usize = 1024;

/// A password in hand. Has no `Debug`, no `Clone`, and is zeroed when dropped.
pub struct Password(Zeroizing<String>);

/// A new password that breaks a rule. Never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Too short or too long.
    #[error("must have {MIN_CHARACTERS} to {MAX_CHARACTERS} characters")]
    Length,
    /// Has a control character, which no two keyboards send alike.
    #[error("must not contain control characters")]
    Control,
    /// One character, over and over.
    #[error("must not be one character repeated")]
    Repeated,
    /// The user's own name, in whatever case.
    #[error("must not be the user's name")]
    Username,
}

impl Password {
    /// Takes a password in hand.
    pub fn new(text: String) -> Self {
        Password(Zeroizing::new(text))
    }

    /// Its bytes, for the hash alone.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether nobody could have such a password: longer than any that may be set. Saves the hash of a flood.
    pub fn is_impossible(&self) -> bool {
        self.0.chars().count() > MAX_CHARACTERS
    }

    /// Checks the rules for a new password of `username`.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check_new(&self, username: &str) -> Result<(), WeakPassword> {
        let mut characters = self.0.chars();
        let count = self.0.chars().count();
        if !(MIN_CHARACTERS..=MAX_CHARACTERS).contains(&count) {
            return Err(WeakPassword::Length);
        }
        if self.0.chars().any(char::is_control) {
            return Err(WeakPassword::Control);
        }
        let first = characters.next();
        if characters.all(|c| Some(c) == first) {
            return Err(WeakPassword::Repeated);
        }
        if self.0.to_lowercase() == username.to_lowercase() {
            Err(WeakPassword::Username)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_new_passwords() {
        let check = |text: &str| Password::new(text.to_owned()).check_new("administrator");
        assert_eq!(check("short"), Err(WeakPassword::Length));
        assert_eq!(check("ninechars"), Err(WeakPassword::Length));
        assert_eq!(check(&"ab".repeat(513)), Err(WeakPassword::Length));
        assert_eq!(check("tab\tin the middle"), Err(WeakPassword::Control));
        assert_eq!(check("aaaaaaaaaaaa"), Err(WeakPassword::Repeated));
        assert_eq!(check("Administrator"), Err(WeakPassword::Username));
        assert_eq!(check("ten chars!"), Ok(()));
        assert_eq!(check("пароль пароль"), Ok(()));
        assert_eq!(check(&"ab".repeat(512)), Ok(()));
    }
}
