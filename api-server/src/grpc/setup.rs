//! The first run.

use cell_api_core::fault::Faults;
use cell_api_core::password::Password;
use cell_api_core::setup::Progress;
use cell_proto::api::v1::setup_service_server::SetupService;
use cell_proto::api::v1::setup_step::Step;
use cell_proto::api::v1::{
    CompleteSetupRequest, CompleteSetupResponse, GetSetupRequest, GetSetupResponse, SetupState,
    SubmitSetupStepRequest, SubmitSetupStepResponse,
};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{Automation, refused};
use crate::service::Remote;
use crate::service::setup::{self, StepInput};

#[tonic::async_trait]
impl SetupService for Automation {
    async fn get_setup(&self, _: Request<GetSetupRequest>) -> Result<Response<GetSetupResponse>, Status> {
        let progress = setup::progress(&self.app).map_err(refused)?;
        Ok(Response::new(GetSetupResponse {
            state: Some(state(&progress)),
        }))
    }

    async fn submit_setup_step(
        &self,
        request: Request<SubmitSetupStepRequest>,
    ) -> Result<Response<SubmitSetupStepResponse>, Status> {
        let SubmitSetupStepRequest { step, claim_token } = request.into_inner();
        let step = step.and_then(|step| step.step);
        let step = step.ok_or_else(|| refused(Faults::one("step", "is required").into()))?;
        let (token, input) = read(step, claim_token);
        let progress = setup::submit(&self.app, &Remote::local(), &token, input)
            .await
            .map_err(refused)?;
        Ok(Response::new(SubmitSetupStepResponse {
            state: Some(state(&progress)),
        }))
    }

    async fn complete_setup(
        &self,
        request: Request<CompleteSetupRequest>,
    ) -> Result<Response<CompleteSetupResponse>, Status> {
        let token = Zeroizing::new(request.into_inner().claim_token);
        let progress = setup::complete(&self.app, &Remote::local(), &token)
            .await
            .map_err(refused)?;
        Ok(Response::new(CompleteSetupResponse {
            state: Some(state(&progress)),
        }))
    }
}

fn read(step: Step, claim_token: String) -> (Zeroizing<String>, StepInput) {
    let optional = |text: String| Some(text).filter(|text| !text.is_empty());
    let token = Zeroizing::new(claim_token);
    match step {
        Step::Claim(step) => (Zeroizing::new(step.claim_token), StepInput::Claim),
        Step::Identity(step) => (
            token,
            StepInput::Identity {
                cell_name: step.cell_name,
                domain_mode: step.domain_mode,
            },
        ),
        Step::Network(step) => {
            let input = StepInput::Network {
                vpn_range_ipv4: step.vpn_range_ipv4,
                vpn_range_ipv6: optional(step.vpn_range_ipv6),
                endpoint_host: optional(step.endpoint_host),
            };
            (token, input)
        }
        Step::Admin(step) => (
            token,
            StepInput::Admin {
                username: step.username,
                password: Password::new(step.password),
            },
        ),
    }
}

fn state(progress: &Progress) -> SetupState {
    SetupState {
        complete: progress.complete,
        claimed: progress.claimed(),
        answered_steps: progress
            .answered
            .iter()
            .map(|step| step.as_str().to_owned())
            .collect(),
        next_step: progress
            .next()
            .map(|step| step.as_str().to_owned())
            .unwrap_or_default(),
    }
}
