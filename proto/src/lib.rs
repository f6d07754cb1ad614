//! The wire between Cell's processes: generated messages, the Unix sockets they travel on, who may call, and how a
//! refusal is told. Nothing here knows the domain.

#![forbid(unsafe_code)]

pub mod fault;
pub mod ipc;
pub mod net;
mod redact;
pub mod strict;

/// Values shared by all daemons.
pub mod common {
    /// `cell.common.v1`
    #[allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        reason = "generated; the protos carry the comments"
    )]
    pub mod v1 {
        tonic::include_proto!("cell.common.v1");
    }
}

/// WireGuard, nftables, routes.
pub mod netd {
    /// `cell.netd.v1`
    #[allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        reason = "generated; the protos carry the comments"
    )]
    pub mod v1 {
        tonic::include_proto!("cell.netd.v1");
    }
}

/// Userspace WireGuard.
pub mod wg {
    /// `cell.wg.v1`
    #[allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        reason = "generated; the protos carry the comments"
    )]
    pub mod v1 {
        tonic::include_proto!("cell.wg.v1");
    }
}

/// iptables and ipset, where nftables is not what the host uses.
pub mod iptables {
    /// `cell.iptables.v1`
    #[allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        reason = "generated; the protos carry the comments"
    )]
    pub mod v1 {
        tonic::include_proto!("cell.iptables.v1");
    }
}

/// The relay behind redirect exits.
pub mod egress {
    /// `cell.egress.v1`
    #[allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        reason = "generated; the protos carry the comments"
    )]
    pub mod v1 {
        tonic::include_proto!("cell.egress.v1");
    }
}

/// The supervisor of OpenVPN.
pub mod openvpn {
    /// `cell.openvpn.v1`
    #[allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        reason = "generated; the protos carry the comments"
    )]
    pub mod v1 {
        tonic::include_proto!("cell.openvpn.v1");
    }
}

/// The Docker broker.
pub mod broker {
    /// `cell.broker.v1`
    #[allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        reason = "generated; the protos carry the comments"
    )]
    pub mod v1 {
        tonic::include_proto!("cell.broker.v1");
    }
}

/// Keys, certificates, secrets.
pub mod vault {
    /// `cell.vault.v1`
    #[allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        reason = "generated; the protos carry the comments"
    )]
    pub mod v1 {
        tonic::include_proto!("cell.vault.v1");
    }
}

/// The automation API.
pub mod api {
    /// `cell.api.v1`
    #[allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        clippy::restriction,
        reason = "generated; the protos carry the comments"
    )]
    pub mod v1 {
        tonic::include_proto!("cell.api.v1");
    }
}

/// The compiled descriptors of all packages, for tests that review the protos (no key in an answer, no unnamed RPC).
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptors");
