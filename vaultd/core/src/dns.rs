//! DNS names that may stand in a certificate.

use std::fmt;
use std::str::FromStr;

/// A host name in lower case, of labels as RFC 1123 section 2.1 has them, without a trailing dot, a wildcard, an
/// underscore or an internationalised label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DnsName(String);

/// Why a name is refused. Does not repeat the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDnsName {
    /// No character at all.
    #[error("must not be empty")]
    Empty,
    /// More than 253 characters (RFC 1035 section 2.3.4, without the root's dot).
    #[error("must have at most 253 characters")]
    TooLong,
    /// An empty label or one of more than 63 characters.
    #[error("each label must have 1 to 63 characters, and no dot may follow the last one")]
    Label,
    /// A character outside the rule.
    #[error("must hold only a to z, 0 to 9, - and dots; wildcards are not issued")]
    Character,
    /// A label that starts or ends with a hyphen.
    #[error("a label must not start or end with -")]
    Hyphen,
    /// `xn--` and its like (RFC 5890 section 2.3.1): two different names can look the same to people.
    #[error("internationalised labels (xn--) are not issued")]
    Internationalised,
}

impl DnsName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `suffix` or lies below it, as a `dNSName` constraint of RFC 5280 section 4.2.1.10 has it.
    pub fn is_within(&self, suffix: &DnsName) -> bool {
        self.0
            .strip_suffix(&suffix.0)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl FromStr for DnsName {
    type Err = InvalidDnsName;

    fn from_str(text: &str) -> Result<Self, InvalidDnsName> {
        if text.is_empty() {
            return Err(InvalidDnsName::Empty);
        }
        if text.len() > 253 {
            return Err(InvalidDnsName::TooLong);
        }
        if !text
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
        {
            return Err(InvalidDnsName::Character);
        }
        for label in text.split('.') {
            check_label(label)?;
        }
        Ok(DnsName(text.to_owned()))
    }
}

fn check_label(label: &str) -> Result<(), InvalidDnsName> {
    if label.is_empty() || label.len() > 63 {
        return Err(InvalidDnsName::Label);
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(InvalidDnsName::Hyphen);
    }
    if label.get(2..4) == Some("--") {
        return Err(InvalidDnsName::Internationalised);
    }
    Ok(())
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    #[test]
    fn within_means_the_same_or_below_at_a_dot() {
        let suffix = name("home.arpa");
        assert!(name("home.arpa").is_within(&suffix));
        assert!(name("a.home.arpa").is_within(&suffix));
        assert!(name("a.b.home.arpa").is_within(&suffix));
        assert!(!name("evilhome.arpa").is_within(&suffix));
        assert!(!name("arpa").is_within(&suffix));
        assert!(!name("home.arpa.example").is_within(&suffix));
    }

    #[test]
    fn odd_names_are_refused_with_their_cause() {
        use InvalidDnsName::{Character, Empty, Hyphen, Internationalised, Label, TooLong};
        let cases = [
            ("", Empty),
            (".", Label),
            ("a..cell", Label),
            (".cell", Label),
            ("a.cell.", Label),
            ("*.cell", Character),
            ("A.cell", Character),
            ("a_b.cell", Character),
            ("a b.cell", Character),
            ("a\0.cell", Character),
            ("\u{430}.cell", Character),
            ("user@a.cell", Character),
            ("https://a.cell", Character),
            ("-a.cell", Hyphen),
            ("a-.cell", Hyphen),
            ("xn--80ak6aa92e.cell", Internationalised),
            ("ab--c.cell", Internationalised),
        ];
        for (text, cause) in cases {
            assert_eq!(text.parse::<DnsName>(), Err(cause), "{text:?}");
        }
        assert_eq!(format!("{}.cell", "a".repeat(64)).parse::<DnsName>(), Err(Label));
        assert_eq!(
            format!("{}cell", "a.".repeat(125)).parse::<DnsName>(),
            Err(TooLong)
        );
    }
}
