//! VaultStatusService. The status is answered by a sealed vault too, and tells why it is.

use cell_proto::common::v1::{Condition, ConditionStatus};
use cell_proto::ipc::Caller;
use cell_proto::vault::v1::vault_status_service_server::VaultStatusService;
use cell_proto::vault::v1::{
    GetVaultStatusRequest, GetVaultStatusResponse, GetWireguardPublicKeyRequest,
    GetWireguardPublicKeyResponse, VaultStatus,
};
use cell_vaultd_core::Role;
use tonic::{Request, Response, Status};

use super::{ApiListener, Shared};
use crate::error::VaultError;
use crate::vault::Aspect;

#[tonic::async_trait]
impl VaultStatusService for ApiListener {
    async fn get_vault_status(
        &self,
        request: Request<GetVaultStatusRequest>,
    ) -> Result<Response<GetVaultStatusResponse>, Status> {
        let extensions = request.extensions();
        let unit_checked = extensions
            .get::<Caller>()
            .is_some_and(|caller| caller.unit_checked);
        let told = self
            .0
            .with(Role::Api, extensions, |vault, asker| vault.status(asker))
            .await;
        let mut aspects = vec![self.0.0.memory_locked.clone(), unit_aspect(unit_checked)];
        let mut status = VaultStatus::default();
        match told {
            Ok(facts) => {
                aspects.insert(0, Aspect::holding("Unsealed", "UNSEALED"));
                aspects.extend(facts.aspects);
                status.intermediate_not_after_unix_ms = facts.intermediate_not_after.0;
                status.secret_count = facts.secret_count;
            }
            Err(VaultError::Sealed(reason)) => {
                aspects.insert(0, Aspect::failing("Unsealed", reason.code(), reason.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
        status.conditions = aspects
            .into_iter()
            .map(|aspect| condition(&self.0, aspect))
            .collect();
        Ok(Response::new(GetVaultStatusResponse { status: Some(status) }))
    }

    async fn get_wireguard_public_key(
        &self,
        request: Request<GetWireguardPublicKeyRequest>,
    ) -> Result<Response<GetWireguardPublicKeyResponse>, Status> {
        let encode = |key: [u8; 32]| GetWireguardPublicKeyResponse {
            public_key: key.to_vec(),
        };
        self.0
            .answer(
                Role::Api,
                request.extensions(),
                |vault, asker| vault.wireguard_public_key(asker),
                encode,
            )
            .await
    }
}

fn unit_aspect(checked: bool) -> Aspect {
    if checked {
        return Aspect::holding("CallerUnitChecked", "UNIT_CHECKED");
    }
    let message =
        "callers are known by their user alone: no unit is configured, or the kernel cannot tell it";
    Aspect::failing("CallerUnitChecked", "USER_ONLY", message)
}

fn condition(shared: &Shared, aspect: Aspect) -> Condition {
    let Aspect {
        kind,
        holds,
        reason,
        message,
    } = aspect;
    let status = if holds {
        ConditionStatus::True
    } else {
        ConditionStatus::False
    };
    Condition {
        r#type: kind.to_owned(),
        status: status.into(),
        reason: reason.to_owned(),
        message,
        // What is told here is found out once, at start.
        last_transition_unix_ms: shared.0.started.0,
    }
}
