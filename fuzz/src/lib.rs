//! What the targets share.
#![forbid(unsafe_code)]

use cell_proto::strict::unknown_field;
use prost::{Message, Name};

/// A request as a listener decodes it: what has a field that this version does not know is none.
pub fn request<T: Message + Name + Default>(bytes: &[u8]) -> Option<T> {
    if unknown_field(&T::full_name(), bytes).is_some() {
        return None;
    }
    T::decode(bytes).ok()
}

/// The same once more, after a journey.
pub fn again<T: Message + Name + Default>(message: &T) -> T {
    request(&message.encode_to_vec()).expect("what was read can be sent")
}

/// What the first byte chooses, and the rest.
pub fn chosen(input: &[u8]) -> Option<(u8, &[u8])> {
    input.split_first().map(|(first, rest)| (*first, rest))
}

/// A user's number, whatever the name.
pub fn uid_of(user: &str) -> Option<u32> {
    Some(user.bytes().map(u32::from).sum())
}
