//! The wg-quick text that the cell gives out, and the private key that is put into it on this side.

use zeroize::Zeroizing;

use crate::failure::Failure;

/// `text` with `private` on its one empty `PrivateKey` line.
///
/// # Errors
/// When there is not exactly one such line, or it is not empty: the cell must not have chosen a key when we did.
pub(crate) fn with_private_key(text: &str, private: &str) -> Result<Zeroizing<String>, Failure> {
    let mut filled = Zeroizing::new(String::with_capacity(text.len() + private.len() + 16));
    let mut places = 0;
    for line in text.lines() {
        match private_key(line) {
            Some("") => {
                places += 1;
                filled.push_str("PrivateKey = ");
                filled.push_str(private);
            }
            Some(_) => return Err(unexpected("it holds a private key that was not made here")),
            None => filled.push_str(line),
        }
        filled.push('\n');
    }
    if places == 1 {
        Ok(filled)
    } else {
        Err(unexpected("it has no place for the private key"))
    }
}

/// Whether `text` holds a private key.
pub(crate) fn has_private_key(text: &str) -> bool {
    text.lines()
        .any(|line| private_key(line).is_some_and(|key| !key.is_empty()))
}

/// The value on a `PrivateKey` line.
fn private_key(line: &str) -> Option<&str> {
    let (key, value) = line.split_once('=')?;
    key.trim()
        .eq_ignore_ascii_case("PrivateKey")
        .then(|| value.trim())
}

fn unexpected(what: &str) -> Failure {
    Failure::Local(format!("the configuration from the cell cannot be used: {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_key_goes_to_its_one_place() {
        let text = "[Interface]\nPrivateKey = \nAddress = 10.0.0.2/32\n\n[Peer]\nPublicKey = x=\n";
        let filled = with_private_key(text, "abc=").unwrap();
        assert_eq!(
            *filled,
            "[Interface]\nPrivateKey = abc=\nAddress = 10.0.0.2/32\n\n[Peer]\nPublicKey = x=\n"
        );
        assert!(has_private_key(&filled) && !has_private_key(text));
    }

    #[test]
    fn a_text_with_a_key_or_without_a_place_is_refused() {
        for bad in [
            "",
            "[Interface]\n",
            "PrivateKey = other=\n",
            "PrivateKey =\nPrivateKey =\n",
        ] {
            assert!(with_private_key(bad, "abc=").is_err(), "{bad:?}");
        }
    }
}
