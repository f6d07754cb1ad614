//! What is taken of a server: a key that is pinned, and messages that are as long as was agreed.

use cell_egress_core::pin::HostKey;
use russh::client;
use russh::keys::PublicKeyOrCertificate;
use russh::{ChannelId, Error};

use super::MESSAGE;

/// The longest that is taken, bytes. Some servers go no lower whatever they are told (paramiko's `MIN_PACKET_SIZE`).
const TAKEN: usize = 2 * MESSAGE;

/// Takes a server's key only if it is pinned.
pub(super) struct Pinned(pub(super) Vec<HostKey>);

impl client::Handler for Pinned {
    type Error = Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Error> {
        Ok(match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                let bytes = key.to_bytes()?;
                self.0.iter().any(|pin| pin.is(&bytes))
            }
            // None was asked for.
            PublicKeyOrCertificate::Certificate(_) => false,
        })
    }

    async fn data(&mut self, _: ChannelId, data: &[u8], _: &mut client::Session) -> Result<(), Error> {
        is_bounded(data)
    }

    async fn extended_data(
        &mut self,
        _: ChannelId,
        _: u32,
        data: &[u8],
        _: &mut client::Session,
    ) -> Result<(), Error> {
        is_bounded(data)
    }
}

/// The library takes what it is sent; a server that keeps to no bound loses its session with the first such message.
fn is_bounded(data: &[u8]) -> Result<(), Error> {
    match data.len() {
        0..=TAKEN => Ok(()),
        length => Err(Error::PacketSize(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_longer_than_was_agreed_ends_its_session() {
        assert!(is_bounded(&[0; TAKEN]).is_ok());
        assert!(matches!(is_bounded(&[0; TAKEN + 1]), Err(Error::PacketSize(length)) if length == TAKEN + 1));
    }
}
