//! What cell-egress sends to the listener `mark` beside a socket (docs/egress.md): a byte of version, and the id of the exit whose mark
//! the socket is to have.

use crate::model::ExitId;

/// Version of the message.
const VERSION: u8 = 1;
/// Bytes of a whole message, at most: those of the version and of an exit's id.
pub const BYTES_MAX: usize = 1 + 64;

/// Bytes that are no such message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message is version {VERSION}, and the id of an exit")]
pub struct Malformed;

/// The exit that a message names.
///
/// # Errors
/// [`Malformed`], also for a later version.
pub fn exit_of(message: &[u8]) -> Result<ExitId, Malformed> {
    let (&VERSION, id) = message.split_first().ok_or(Malformed)? else {
        return Err(Malformed);
    };
    let id = std::str::from_utf8(id).map_err(|_| Malformed)?;
    id.parse().map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn messages_that_are_none_are_refused() {
        let long = [&[VERSION], [b'a'; BYTES_MAX].as_slice()].concat();
        for message in [
            b"".as_slice(),
            b"\x01",
            b"\x02exit-a",
            b"\x01a b",
            b"\x01\xff",
            &long,
        ] {
            assert_eq!(exit_of(message), Err(Malformed), "{message:?}");
        }
        let longest = &long[..BYTES_MAX];
        assert_eq!(exit_of(longest).unwrap().as_str().len() + 1, BYTES_MAX);
    }
}
