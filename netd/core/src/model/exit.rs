//! What tells one exit from another: id, mark, routing table, interface.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{InterfaceName, InvalidInterfaceName};

/// Id of an exit: 1-64 of `[A-Za-z0-9_.-]`, starting with a letter or digit. Shared by its clones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExitId(Arc<str>);

/// Not the id of an exit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an exit's id has 1-64 characters of A-Z a-z 0-9 _ . - and starts with a letter or digit")]
pub struct InvalidExitId;

impl FromStr for ExitId {
    type Err = InvalidExitId;

    fn from_str(text: &str) -> Result<Self, InvalidExitId> {
        let valid = text.len() <= 64
            && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        valid.then(|| ExitId(text.into())).ok_or(InvalidExitId)
    }
}

impl ExitId {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ExitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The mark of an exit's packets and flows: not 0, which is the mark of what goes the machine's own way. Made of a number by
/// [`crate::ceiling::ExitCeiling::mark`], which knows the bits that are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExitMark(u32);

impl ExitMark {
    /// `None` for 0.
    pub fn try_new(value: u32) -> Option<Self> {
        (value != 0).then_some(ExitMark(value))
    }

    /// The bits.
    pub fn value(self) -> u32 {
        self.0
    }
}

impl fmt::Display for ExitMark {
    /// As nft(8) writes marks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// A routing table that is an exit's: from 256 on, since those below are the kernel's or have names of the distribution's
/// (rt_tables).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableId(u32);

impl TableId {
    /// `None` below 256.
    pub fn try_new(number: u32) -> Option<Self> {
        (number >= 256).then_some(TableId(number))
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Name of an exit's interface, as the kernel compares names: 16 bytes, the rest NUL. Small enough to be copied into each
/// element of a set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExitInterface([u8; 16]);

impl From<&InterfaceName> for ExitInterface {
    fn from(name: &InterfaceName) -> Self {
        let mut bytes = [0; 16];
        // A name has at most 15 bytes.
        bytes[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
        ExitInterface(bytes)
    }
}

impl FromStr for ExitInterface {
    type Err = InvalidInterfaceName;

    fn from_str(text: &str) -> Result<Self, InvalidInterfaceName> {
        text.parse::<InterfaceName>()
            .map(|name| ExitInterface::from(&name))
    }
}

impl TryFrom<&[u8]> for ExitInterface {
    type Error = InvalidInterfaceName;

    /// From the kernel's bytes.
    fn try_from(bytes: &[u8]) -> Result<Self, InvalidInterfaceName> {
        let text = std::str::from_utf8(bytes).map_err(|_| InvalidInterfaceName)?;
        text.trim_end_matches('\0').parse()
    }
}

impl ExitInterface {
    /// 16 bytes, the rest NUL.
    pub fn padded(&self) -> &[u8; 16] {
        &self.0
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        // Made of text alone.
        std::str::from_utf8(&self.0[..length]).unwrap_or_default()
    }
}

impl fmt::Display for ExitInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ExitInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn ids_and_numbers_that_cannot_be_are_not() {
        for id in ["exit-a", "9", "a.b_c"] {
            assert_eq!(id.parse::<ExitId>().unwrap().as_str(), id);
        }
        for id in ["", "-a", "a b", &"x".repeat(65)] {
            assert_eq!(id.parse::<ExitId>(), Err(InvalidExitId), "{id}");
        }
        assert_eq!(ExitMark::try_new(0), None);
        assert_eq!(ExitMark::try_new(0x1010).unwrap().to_string(), "0x00001010");
        assert_eq!(TableId::try_new(255), None);
        assert_eq!(TableId::try_new(256).unwrap().number(), 256);
    }

    #[test]
    fn an_interface_is_its_bytes_and_back() {
        let interface: ExitInterface = "wgext_0123abcd".parse().unwrap();
        assert_eq!(interface.as_str(), "wgext_0123abcd");
        assert_eq!(
            ExitInterface::try_from(interface.padded().as_slice()),
            Ok(interface)
        );
        assert!(ExitInterface::try_from([0; 16].as_slice()).is_err());
        assert!(
            "wgext_0123abcdef".parse::<ExitInterface>().is_err(),
            "16 characters"
        );
    }
}
