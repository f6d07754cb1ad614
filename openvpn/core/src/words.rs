//! OpenVPN's words: how a line of its profiles and of its management socket is cut (openvpn(8), "Configuration File"). One
//! writer for both, so that no value can be more than a value.

use zeroize::Zeroizing;

/// Most bytes that a word has here.
pub(crate) const WORD_MAX: usize = 256;

/// Whether a word can be written: it is not empty, and has no character that ends a line or that a terminal acts on.
pub(crate) fn is_word(text: &str) -> bool {
    (1..=WORD_MAX).contains(&text.len()) && text.chars().all(|c| !c.is_control())
}

/// Writes a word in double quotes, within which a backslash keeps the next character from its meaning.
pub(crate) fn quote(into: &mut Zeroizing<String>, word: &str) {
    into.push('"');
    for c in word.chars() {
        if matches!(c, '"' | '\\') {
            into.push('\\');
        }
        into.push(c);
    }
    into.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(word: &str) -> String {
        let mut text = Zeroizing::new(String::new());
        quote(&mut text, word);
        text.to_string()
    }

    #[test]
    fn a_word_stays_one() {
        assert_eq!(quoted("plain"), "\"plain\"");
        assert_eq!(quoted("a b"), "\"a b\"");
        assert_eq!(quoted("a\" up /bin/sh"), "\"a\\\" up /bin/sh\"");
        assert_eq!(quoted("a\\"), "\"a\\\\\"");
        assert_eq!(quoted("'#;"), "\"'#;\"");
        for bad in ["", "a\nup x", "a\rb", "\0", "\u{1b}[2J", &"x".repeat(257)] {
            assert!(!is_word(bad), "{bad:?}");
        }
        assert!(is_word(&"x".repeat(256)));
    }
}
