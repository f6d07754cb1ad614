//! Messages that are none: tonic tells them as INTERNAL, with words alone, as if the daemon had failed.

use http::Response;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::fault::Fault;

/// The answer as it is, but for tonic's own word about a message that it could not decode: that becomes INVALID_ARGUMENT with
/// the reason `MALFORMED_MESSAGE`. It is known by its lack of details, which every [`Fault`] of a daemon has.
pub(super) fn told(answer: Response<Body>) -> Response<Body> {
    match Status::from_header_map(answer.headers()) {
        Some(status) if status.code() == Code::Internal && status.details().is_empty() => {
            let message = format!("the bytes are no message of this method: {}", status.message());
            let fault = Fault::new(Code::InvalidArgument, "ipc.cell", "MALFORMED_MESSAGE", message);
            Status::from(fault).into_http()
        }
        Some(_) | None => answer,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::fault::reason;

    fn code(answer: &Response<Body>) -> Option<(Code, Option<String>)> {
        Status::from_header_map(answer.headers()).map(|status| (status.code(), reason(&status)))
    }

    #[test]
    fn only_what_has_no_reason_is_the_callers_fault() {
        let undecoded = told(Status::internal("failed to decode").into_http());
        let malformed = Some((Code::InvalidArgument, Some("MALFORMED_MESSAGE".to_owned())));
        assert_eq!(code(&undecoded), malformed);
        let own = Fault::new(Code::Internal, "netd.cell", "KERNEL", "the kernel refused");
        let own = told(Status::from(own).into_http());
        assert_eq!(code(&own), Some((Code::Internal, Some("KERNEL".to_owned()))));
        assert_eq!(code(&told(Response::new(Body::empty()))), None);
    }
}
