//! Packet marks, always with a mask.

use std::fmt;
use std::str::FromStr;

/// Some bits of the packet mark and their value; the other bits belong to others (Tailscale: 0xff0000, kube-proxy:
/// 0xc000).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    value: u32,
    mask: u32,
}

/// Not a mark.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a mark is written 0xVALUE/0xMASK, the mask is not 0 and the value lies within it")]
pub struct InvalidMark;

impl FromStr for Mark {
    type Err = InvalidMark;

    fn from_str(text: &str) -> Result<Self, InvalidMark> {
        let hex = |part: &str| {
            part.strip_prefix("0x")
                .and_then(|digits| u32::from_str_radix(digits, 16).ok())
                .ok_or(InvalidMark)
        };
        let (value, mask) = text.split_once('/').ok_or(InvalidMark)?;
        let (value, mask) = (hex(value)?, hex(mask)?);
        if mask == 0 || value & !mask != 0 || value == 0 {
            return Err(InvalidMark);
        }
        Ok(Mark { value, mask })
    }
}

impl Mark {
    /// The bits that are set.
    pub fn value(self) -> u32 {
        self.value
    }

    /// The bits that are ours.
    pub fn mask(self) -> u32 {
        self.mask
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}
