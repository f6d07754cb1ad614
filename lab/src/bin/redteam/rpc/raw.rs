//! Calls by path, with bytes as they are: for RPCs that no proto has, and messages that no client would make.

use std::path::PathBuf;

use bytes::{Buf, BufMut};
use cell_proto::ipc::connect;
use http::uri::PathAndQuery;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Response, Status};

/// Bytes in, bytes out.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

/// Calls `method`, e.g. `/cell.broker.v1.ContainerService/CreateContainer`, with `body`.
pub async fn call(socket: PathBuf, method: &'static str, body: Vec<u8>) -> Result<Response<Vec<u8>>, Status> {
    let mut client = tonic::client::Grpc::new(connect(socket));
    client
        .ready()
        .await
        .map_err(|e| Status::unavailable(e.to_string()))?;
    client
        .unary(Request::new(body), PathAndQuery::from_static(method), Raw)
        .await
}
