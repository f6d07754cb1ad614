//! The codec of every service: what a caller sends in fields that this version does not know is refused, not dropped.
//! A request whose meaning lies in a field that the receiver skips would be carried out as another request.
//!
//! Requests alone: an answer with a field more than its reader knows is read without it.

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::OnceLock;

use bytes::Buf;
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::{Code, Status};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use crate::fault::Fault;

/// Deepest nesting that is looked at; prost decodes no deeper.
const DEPTH_MAX: usize = 100;

/// prost's codec, with the check before its decoder.
#[derive(Debug, Clone)]
pub struct StrictCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for StrictCodec<T, U> {
    fn default() -> Self {
        StrictCodec(PhantomData)
    }
}

impl<T, U> Codec for StrictCodec<T, U>
where
    T: prost::Message + Send + 'static,
    U: prost::Message + prost::Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::new().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder(ProstDecoder::default())
    }
}

/// See [`StrictCodec`].
#[derive(Debug, Clone, Default)]
pub struct StrictDecoder<U>(ProstDecoder<U>);

impl<U: prost::Message + prost::Name + Default> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if U::NAME.ends_with("Request") {
            // tonic gathers a message in one piece; were it not so, the check must not see less than prost does.
            let message = buffer.chunk();
            if message.len() != buffer.remaining() {
                return Err(Status::internal("a message came in pieces"));
            }
            if let Some(unknown) = unknown_field(&U::full_name(), message) {
                return Err(unknown.into());
            }
        }
        self.0.decode(buffer)
    }
}

/// A field that the receiver's version of a message does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownField {
    /// Full name of the message that it stands in.
    pub message: String,
    /// Its number.
    pub number: u32,
}

impl From<UnknownField> for Status {
    fn from(UnknownField { message, number }: UnknownField) -> Status {
        let told =
            format!("{message} has no field {number}; leave it out, or use the version that the cell runs");
        Fault::new(Code::InvalidArgument, "ipc.cell", "UNKNOWN_FIELD", told)
            .with("message", message)
            .with("field", number)
            .into()
    }
}

/// The first field in `bytes`, at any depth, that the message called `name` does not have. What is no message at all is
/// for the decoder to refuse.
pub fn unknown_field(name: &str, bytes: &[u8]) -> Option<UnknownField> {
    let shapes = Shapes::known();
    let Some(at) = shapes.by_name.get(name) else {
        // Not one of ours: no field of it is known.
        return Some(UnknownField {
            message: name.to_owned(),
            number: 0,
        });
    };
    shapes.walk(*at, bytes, DEPTH_MAX)
}

/// The fields of every message, from the compiled protos.
struct Shapes {
    by_name: HashMap<String, usize>,
    all: Vec<Shape>,
}

struct Shape {
    name: String,
    /// By number; for a field that is a message, which one.
    fields: BTreeMap<u32, Option<usize>>,
}

impl Shapes {
    fn known() -> &'static Shapes {
        static KNOWN: OnceLock<Shapes> = OnceLock::new();
        KNOWN.get_or_init(|| {
            // The set is compiled in. Were it unreadable, no message would be known and every request refused.
            Shapes::of(&FileDescriptorSet::decode(crate::DESCRIPTORS).unwrap_or_default())
        })
    }

    fn of(set: &FileDescriptorSet) -> Shapes {
        let mut messages = Vec::new();
        for file in &set.file {
            let package = file.package().to_owned();
            file.message_type
                .iter()
                .for_each(|message| gather(&package, message, &mut messages));
        }
        let by_name: HashMap<String, usize> = (0..)
            .zip(&messages)
            .map(|(at, (name, _))| (name.clone(), at))
            .collect();
        let all = messages
            .iter()
            .map(|(name, message)| Shape {
                name: name.clone(),
                fields: message
                    .field
                    .iter()
                    .map(|field| numbered(field, &by_name))
                    .collect(),
            })
            .collect();
        Shapes { by_name, all }
    }

    fn walk(&self, at: usize, mut bytes: &[u8], depth: usize) -> Option<UnknownField> {
        let shape = &self.all[at];
        while !bytes.is_empty() {
            let (number, wire_type) = decode_key(&mut bytes).ok()?;
            let Some(inner) = shape.fields.get(&number) else {
                return Some(UnknownField {
                    message: shape.name.clone(),
                    number,
                });
            };
            match (inner, wire_type) {
                (Some(inner), WireType::LengthDelimited) => {
                    let length = usize::try_from(decode_varint(&mut bytes).ok()?).ok()?;
                    let (message, rest) = bytes.split_at_checked(length)?;
                    let unknown = self.walk(*inner, message, depth.checked_sub(1)?);
                    if unknown.is_some() {
                        return unknown;
                    }
                    bytes = rest;
                }
                (
                    Some(_) | None,
                    WireType::Varint
                    | WireType::SixtyFourBit
                    | WireType::LengthDelimited
                    | WireType::StartGroup
                    | WireType::EndGroup
                    | WireType::ThirtyTwoBit,
                ) => skip_field(wire_type, number, &mut bytes, DecodeContext::default()).ok()?,
            }
        }
        None
    }
}

/// A message and those declared in it, with their full names.
fn gather<'d>(scope: &str, message: &'d DescriptorProto, found: &mut Vec<(String, &'d DescriptorProto)>) {
    let name = format!("{scope}.{}", message.name());
    for nested in &message.nested_type {
        gather(&name, nested, found);
    }
    found.push((name, message));
}

fn numbered(
    field: &prost_types::FieldDescriptorProto,
    by_name: &HashMap<String, usize>,
) -> (u32, Option<usize>) {
    let is_message = matches!(field.r#type(), Type::Message | Type::Group);
    let inner = is_message
        .then(|| by_name.get(field.type_name().trim_start_matches('.')).copied())
        .flatten();
    (field.number().unsigned_abs(), inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::netd::v1::{ApplyNetworkRequest, NetworkSpec, PeerSpec};

    fn request() -> ApplyNetworkRequest {
        let peers = ["a", "b"].map(|name| PeerSpec {
            name: name.to_owned(),
            ..Default::default()
        });
        ApplyNetworkRequest {
            spec: Some(NetworkSpec {
                peers: peers.into(),
                ..Default::default()
            }),
            etag: "e".to_owned(),
            validate_only: true,
            confirm_within_seconds: 0,
        }
    }

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }

    #[test]
    fn an_unknown_field_is_found_at_any_depth() {
        let name = "cell.netd.v1.ApplyNetworkRequest";
        let good = request().encode_to_vec();
        assert_eq!(unknown_field(name, &good), None, "control");
        assert_eq!(unknown_field(name, &[]), None);
        let peers = NetworkSpec {
            peers: vec![PeerSpec::default()],
            ..Default::default()
        };
        let of_peers = peers.encode_to_vec()[0] >> 3;
        let unknown = field(15, b"x");
        let at = |message: &str| {
            Some(UnknownField {
                message: format!("cell.netd.v1.{message}"),
                number: 15,
            })
        };
        let in_spec = [good.clone(), field(1, &unknown)].concat();
        assert_eq!(unknown_field(name, &in_spec), at("NetworkSpec"));
        let in_peer = [good.clone(), field(1, &field(of_peers, &unknown))].concat();
        assert_eq!(unknown_field(name, &in_peer), at("PeerSpec"));
        let in_request = [unknown, good].concat();
        assert_eq!(unknown_field(name, &in_request), at("ApplyNetworkRequest"));
    }

    #[test]
    fn what_is_cut_is_left_to_the_decoder_and_never_ends_the_check_badly() {
        let name = "cell.netd.v1.ApplyNetworkRequest";
        let good = request().encode_to_vec();
        for length in 0..good.len() {
            assert_eq!(unknown_field(name, &good[..length]), None, "length {length}");
        }
        for byte in 0..=u8::MAX {
            let _ = unknown_field(name, &[byte; 64]);
        }
    }

    /// The check goes by this name.
    #[test]
    fn what_any_service_takes_is_known_and_called_a_request() {
        let set = FileDescriptorSet::decode(crate::DESCRIPTORS).unwrap();
        let mut methods = 0;
        for method in set
            .file
            .iter()
            .flat_map(|file| &file.service)
            .flat_map(|service| &service.method)
        {
            let name = method.input_type().trim_start_matches('.');
            assert!(name.ends_with("Request"), "{name}");
            assert_eq!(unknown_field(name, &[]), None, "{name} is known");
            let beyond = unknown_field(name, &[0xf8, 0xff, 0xff, 0xff, 0x0f, 0]);
            assert_eq!(beyond.unwrap().number, (1 << 29) - 1, "{name}");
            methods += 1;
        }
        assert!(methods > 30, "{methods}");
    }
}
