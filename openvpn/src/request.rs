//! Requests from the wire to the core, which checks them, and answers back.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::UNIX_EPOCH;

use cell_openvpn_core::exit::{Exit, ExitId};
use cell_openvpn_core::request::{self as checked, AskedExit, Ceiling};
use cell_openvpn_core::session::{Phase, Trouble};
use cell_proto::common::v1::Protocol;
use cell_proto::fault::Violation;
use cell_proto::net::InvalidNet;
use cell_proto::openvpn::v1;

use crate::run::Known;

/// `ApplyExitsRequest`, checked.
///
/// # Errors
/// Every fault of the request.
pub fn apply_exits(
    request: &v1::ApplyExitsRequest,
    ceiling: &Ceiling,
) -> Result<BTreeMap<ExitId, Exit>, Vec<Violation>> {
    let asked: Vec<_> = request.exits.iter().map(asked).collect();
    checked::exits(&asked, ceiling).map_err(|faults| {
        let told = |fault: checked::Violation| Violation::new(fault.field, fault.description);
        faults.into_iter().map(told).collect()
    })
}

fn asked(exit: &v1::Exit) -> AskedExit<'_> {
    let v1::Exit {
        id,
        interface,
        remotes,
        directives,
        certificates,
        sealed_blocks,
        has_login,
        revision,
        secret_revision,
    } = exit;
    let remote = |wire: &v1::Remote| {
        let server = wire
            .server
            .as_ref()
            .ok_or(InvalidNet::Missing)
            .and_then(SocketAddr::try_from);
        let tcp = match Protocol::try_from(wire.protocol) {
            Ok(Protocol::Tcp) => Ok(true),
            Ok(Protocol::Udp) => Ok(false),
            Ok(Protocol::Unspecified) | Err(_) => Err(InvalidNet::Protocol.to_string()),
        };
        (server.map_err(|error| error.to_string()), tcp)
    };
    AskedExit {
        id,
        interface,
        remotes: remotes.iter().map(remote).collect(),
        directives: directives.iter().map(|line| line.words.as_slice()).collect(),
        certificates: certificates
            .iter()
            .map(|one| (one.block.as_str(), one.pem.as_str()))
            .collect(),
        sealed: sealed_blocks,
        has_login: *has_login,
        revision: *revision,
        secret_revision: *secret_revision,
    }
}

/// An exit as it is told.
pub fn status((id, known): (ExitId, Known)) -> v1::ExitStatus {
    let Known {
        phase,
        since,
        pushed,
        trouble,
        starts,
    } = known;
    let state = match phase {
        Phase::Connecting => v1::State::Connecting,
        Phase::Connected => v1::State::Connected,
        Phase::Waiting => v1::State::Waiting,
    };
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let addresses = pushed
        .v4
        .map(IpAddr::V4)
        .into_iter()
        .chain(pushed.v6.map(IpAddr::V6));
    v1::ExitStatus {
        id: id.to_string(),
        state: state.into(),
        since_unix_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        addresses: addresses.map(Into::into).collect(),
        resolvers: pushed.resolvers.into_iter().map(Into::into).collect(),
        mtu_bytes: pushed.mtu.unwrap_or_default().into(),
        reason: trouble
            .as_ref()
            .map(Trouble::reason)
            .unwrap_or_default()
            .to_owned(),
        detail: trouble.map(|trouble| trouble.to_string()).unwrap_or_default(),
        starts,
    }
}
