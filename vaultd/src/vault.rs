//! The open vault: every verb judges first, records the verdict, and only then acts.

mod anchoring;
mod certificates;
mod exits;
mod opening;
mod secrets;
mod status;
mod wireguard_key;

use std::sync::Arc;

use cell_vaultd_core::access_log::Record;
use cell_vaultd_core::profile::Serial;
use cell_vaultd_core::rate::Window;
use cell_vaultd_core::{Action, Policy, Role, Timestamp, may};

use crate::anchors::AnchorFile;
use crate::authority::Authority;
use crate::clock::Clock;
use crate::error::VaultError;
use crate::keyring::random;
use crate::log::AccessLog;
use crate::store::Store;

pub use certificates::{CertificateRequest, Chain};
pub use exits::ExitSecret;
pub use opening::{Surroundings, open};
pub use secrets::SecretInfo;
pub use status::{Aspect, Status};

/// Requests that are recorded, on each listener, in any minute: bounds how fast a caller can fill the disk with records.
pub const RECORDED_PER_MINUTE: u32 = 300;
/// Secrets of exits and services read in any minute, on each listener: all of 256 exits once, each with a key and 8 preshared ones.
/// Of its own, so that exits that come up at once leave room for everything else.
pub const EXIT_READS_PER_MINUTE: u32 = 2304;
/// Anchors in any minute, 80 bytes each: bounds how fast a caller can fill the disk with them, 7 MB a day. A newer head
/// covers those before it, so whoever has more to tell waits and sends the newest.
pub const ANCHORS_PER_MINUTE: u32 = 60;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// Who asks, as the listener knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// By the listener.
    pub role: Role,
    /// By SO_PEERCRED.
    pub uid: u32,
    /// By SO_PEERCRED, for the log.
    pub pid: Option<i32>,
}

/// A vault that is open.
pub struct Vault {
    policy: Policy,
    clock: Arc<dyn Clock>,
    store: Store,
    log: AccessLog,
    anchors: Result<AnchorFile, String>,
    root: Authority,
    intermediate: Authority,
    findings: Findings,
    issuances: Window,
    requests: [Window; Role::ALL.len()],
    exit_reads: [Window; Role::ALL.len()],
    anchorings: Window,
}

/// What was found amiss at start that does not keep the vault sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Secrets whose files are damaged.
    pub(crate) damaged_secrets: Vec<String>,
    /// What is wrong with an access log that was set aside.
    pub(crate) damaged_log: Option<String>,
}

impl Vault {
    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether the asker may do this at all; to be asked first by every verb.
    fn permit(&self, asker: &Asker, action: Action) -> Result<(), VaultError> {
        Ok(may(asker.role, action, None, &self.policy)?)
    }

    /// Records what was judged, on the disk when this returns, and hands the judgement on: without a record there is
    /// neither an act nor an answer.
    fn record<T>(
        &mut self,
        asker: &Asker,
        action: Action,
        names: Vec<String>,
        judged: Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let verdict = match &judged {
            Ok(_) => "ALLOWED",
            Err(error) => error.reason(),
        };
        if judged.is_ok() && !action.is_recorded() {
            tracing::debug!(role = %asker.role, uid = asker.uid, %action, verdict, "request");
            return judged;
        }
        tracing::info!(role = %asker.role, uid = asker.uid, %action, verdict, "request");
        let windows = match action {
            Action::ReadExitSecret | Action::ReadServiceSecret => &mut self.exit_reads,
            Action::IssueServerCertificate
            | Action::GetTrustBundle
            | Action::PutSecret
            | Action::ListSecrets
            | Action::RotateSecret
            | Action::GenerateSecret
            | Action::DeleteSecret
            | Action::GetWireguardPrivateKey
            | Action::GetWireguardPublicKey
            | Action::GetVaultStatus
            | Action::AppendAuditAnchor
            | Action::ListAuditAnchors => &mut self.requests,
        };
        let [api, netd, egress, openvpn, broker] = windows;
        let window = match asker.role {
            Role::Api => api,
            Role::Netd => netd,
            Role::Egress => egress,
            Role::Openvpn => openvpn,
            Role::Broker => broker,
        };
        if let Err(full) = window.admit(self.clock.steady()) {
            return Err(VaultError::Rate {
                retry_after: full.retry_after,
            });
        }
        self.log.append(Record {
            number: 0,
            time: self.clock.now(),
            generation: self.store.index().generation,
            role: asker.role,
            uid: asker.uid,
            pid: asker.pid,
            action,
            names,
            verdict,
        })?;
        judged
    }
}

fn serial() -> Result<Serial, VaultError> {
    Ok(Serial::from_random(random()?))
}
