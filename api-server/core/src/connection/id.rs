//! What a connection is called by everything but people.

use std::fmt;

/// A connection's identity: a random UUID (RFC 9562, version 4), shown in lower case with hyphens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId([u8; 16]);

/// Text that is no [`ConnectionId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the id of a connection: a UUID in lower case, e.g. 6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a5b")]
pub struct InvalidId;

/// Characters of a UUID's text.
const TEXT: usize = 36;
/// Where its hyphens are.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

impl ConnectionId {
    /// Makes one of 16 random bytes, six bits of which the version and variant take.
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        ConnectionId(bytes)
    }

    /// Reads the one form that is written.
    ///
    /// # Errors
    /// [`InvalidId`] for any other text: one connection has one name.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let hyphens_fit = text
            .char_indices()
            .all(|(at, c)| (c == '-') == HYPHENS.contains(&at));
        if text.len() != TEXT || !hyphens_fit {
            return Err(InvalidId);
        }
        let bytes = hex::decode(text.replace('-', "")).map_err(|_| InvalidId)?;
        let id = ConnectionId(bytes.try_into().map_err(|_| InvalidId)?);
        if id == ConnectionId::from_random(id.0) && id.to_string() == text {
            Ok(id)
        } else {
            Err(InvalidId)
        }
    }

    /// Its 32 hexadecimal digits.
    pub fn digits(&self) -> String {
        hex::encode(self.0)
    }

    /// The vault's name for a secret of the connection, `conn_<id>_<field>`. The id is written without hyphens there:
    /// the vault's names have none.
    pub fn secret_name(&self, field: &str) -> String {
        format!("conn_{}_{field}", self.digits())
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digits();
        let (a, b, c, d, e) = (
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..],
        );
        write!(f, "{a}-{b}-{c}-{d}-{e}")
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({self})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_reads_back(bytes: [u8; 16]) {
            let id = ConnectionId::from_random(bytes);
            prop_assert_eq!(ConnectionId::parse(&id.to_string()), Ok(id));
        }

        #[test]
        fn nothing_else_is_read(text in ".{0,40}") {
            if let Ok(id) = ConnectionId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn other_ways_to_write_it_are_refused() {
        let id = ConnectionId::from_random([0xab; 16]);
        let good = id.to_string();
        assert_eq!(good, "abababab-abab-4bab-abab-abababababab");
        let version_1 = good.replacen("-4", "-1", 1);
        for bad in [
            good.to_uppercase(),
            id.digits(),
            format!("{{{good}}}"),
            version_1,
            format!("{good}0"),
        ] {
            assert_eq!(ConnectionId::parse(&bad), Err(InvalidId), "{bad}");
        }
        assert_eq!(
            id.secret_name("password"),
            "conn_abababababab4bababababababababab_password"
        );
    }
}
