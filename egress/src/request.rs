//! Requests from the wire to the core, which checks them, and answers back.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use cell_egress_core::policy::Reach;
use cell_egress_core::request::{self as checked, AskedExit, AskedKind};
use cell_egress_core::table::Table;
use cell_proto::common::v1::Endpoint;
use cell_proto::egress::v1;
use cell_proto::egress::v1::exit::Kind;
use cell_proto::fault::Violation;
use cell_proto::net::InvalidNet;

use crate::counters::LastProbe;
use crate::engine::Seen;

/// `ApplyExitsRequest`, checked.
///
/// # Errors
/// Every fault of the request.
pub fn apply_exits(request: &v1::ApplyExitsRequest, reach: &Reach) -> Result<Table, Vec<Violation>> {
    let asked: Vec<_> = request.exits.iter().map(asked).collect();
    checked::table(&asked, reach).map_err(|faults| {
        let told = |fault: checked::Violation| Violation::new(fault.field, fault.description);
        faults.into_iter().map(told).collect()
    })
}

fn asked(exit: &v1::Exit) -> AskedExit<'_> {
    let kind = exit.kind.as_ref().map(|kind| match kind {
        Kind::Socks5(exit) => AskedKind::Socks5(server(exit.server.as_ref()), &exit.username),
        Kind::HttpConnect(exit) => AskedKind::HttpConnect(server(exit.server.as_ref()), &exit.username),
        Kind::Tor(exit) => AskedKind::Tor(server(exit.server.as_ref())),
        Kind::Ssh(exit) => AskedKind::Ssh(server(exit.server.as_ref()), &exit.username, &exit.host_keys),
    });
    AskedExit {
        id: &exit.id,
        port: exit.redirect_port,
        kind,
        secret_revision: exit.secret_revision,
    }
}

fn server(wire: Option<&Endpoint>) -> Result<SocketAddr, String> {
    let address = wire.ok_or(InvalidNet::Missing).and_then(SocketAddr::try_from);
    address.map_err(|error| error.to_string())
}

/// An exit as it is told.
pub fn status(seen: Seen) -> v1::ExitStatus {
    let counters = seen.counters;
    let failure = counters.last_failure();
    v1::ExitStatus {
        id: seen.id.to_string(),
        redirect_port: seen.port.into(),
        listening: seen.listening,
        open_connections: counters.open.load(Ordering::Relaxed),
        carried_connections: counters.carried.load(Ordering::Relaxed),
        refused_connections: counters.refused.load(Ordering::Relaxed),
        failed_connections: counters.failed.load(Ordering::Relaxed),
        sent_bytes: counters.sent.load(Ordering::Relaxed),
        received_bytes: counters.received.load(Ordering::Relaxed),
        last_success_unix_ms: counters.last_success(),
        last_failure_unix_ms: failure.as_ref().map_or(0, |failure| failure.unix_ms),
        last_failure_reason: failure
            .as_ref()
            .map(|failure| failure.reason.to_owned())
            .unwrap_or_default(),
        last_failure_detail: failure.map(|failure| failure.detail).unwrap_or_default(),
        probe: counters.last_probe().map(probe),
    }
}

fn probe(seen: LastProbe) -> v1::ServerProbe {
    let (reason, detail) = seen.failure.unwrap_or_default();
    v1::ServerProbe {
        unix_ms: seen.unix_ms,
        failure_reason: reason.to_owned(),
        failure_detail: detail,
    }
}
