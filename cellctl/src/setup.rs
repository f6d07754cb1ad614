//! `cellctl setup`: the first run, step by step.

use cell_proto::api::v1::setup_service_client::SetupServiceClient;
use cell_proto::api::v1::setup_step::Step;
use cell_proto::api::v1::{
    AdminStep, ClaimStep, CompleteSetupRequest, GetSetupRequest, IdentityStep, NetworkStep, SetupState,
    SetupStep, SubmitSetupStepRequest,
};
use tonic::transport::Channel;

use crate::cell::Cell;
use crate::cli::Setup;
use crate::failure::Failure;
use crate::output::Output;
use crate::{human, secret, view, wizard};

/// Carries out one of the commands.
pub(crate) async fn run(cell: &Cell, output: Output, command: Setup) -> Result<(), Failure> {
    let state = match command {
        Setup::Token => return token(output),
        Setup::Status => state(&mut cell.setup()?).await?,
        Setup::Run(options) => wizard::run(&mut cell.setup()?, output, &options).await?,
        Setup::Claim(token) => {
            let token = secret::claim_token(&token)?;
            submit(&mut cell.setup()?, claim(&token), &token).await?
        }
        Setup::Identity {
            name,
            domain_mode,
            token,
        } => {
            let step = Step::Identity(IdentityStep {
                cell_name: name,
                domain_mode,
            });
            submit(&mut cell.setup()?, step, &secret::claim_token(&token)?).await?
        }
        Setup::Network {
            range,
            ipv6,
            endpoint,
            token,
        } => {
            let step = network(range, ipv6, endpoint);
            submit(&mut cell.setup()?, step, &secret::claim_token(&token)?).await?
        }
        Setup::Admin {
            username,
            password,
            token,
        } => {
            let token = secret::claim_token(&token)?;
            let password = secret::new_password(&password)?;
            submit(&mut cell.setup()?, admin(username, &password), &token).await?
        }
        Setup::Complete(token) => complete(&mut cell.setup()?, &secret::claim_token(&token)?).await?,
    };
    let state = view::Setup::from(state);
    output.result(&state, || text(&state))
}

/// How the first run stands.
pub(crate) async fn state(client: &mut SetupServiceClient<Channel>) -> Result<SetupState, Failure> {
    Ok(client
        .get_setup(GetSetupRequest {})
        .await?
        .into_inner()
        .state
        .unwrap_or_default())
}

/// Answers one step.
pub(crate) async fn submit(
    client: &mut SetupServiceClient<Channel>,
    step: Step,
    token: &str,
) -> Result<SetupState, Failure> {
    let claim_token = token.to_owned();
    let request = SubmitSetupStepRequest {
        step: Some(SetupStep { step: Some(step) }),
        claim_token,
    };
    Ok(client
        .submit_setup_step(request)
        .await?
        .into_inner()
        .state
        .unwrap_or_default())
}

/// Ends the first run.
pub(crate) async fn complete(
    client: &mut SetupServiceClient<Channel>,
    token: &str,
) -> Result<SetupState, Failure> {
    let request = CompleteSetupRequest {
        claim_token: token.to_owned(),
    };
    Ok(client
        .complete_setup(request)
        .await?
        .into_inner()
        .state
        .unwrap_or_default())
}

pub(crate) fn claim(token: &str) -> Step {
    Step::Claim(ClaimStep {
        claim_token: token.to_owned(),
    })
}

pub(crate) fn network(range: String, ipv6: Option<String>, endpoint: Option<String>) -> Step {
    Step::Network(NetworkStep {
        vpn_range_ipv4: range,
        vpn_range_ipv6: ipv6.unwrap_or_default(),
        endpoint_host: endpoint.unwrap_or_default(),
    })
}

pub(crate) fn admin(username: String, password: &str) -> Step {
    Step::Admin(AdminStep {
        username,
        password: password.to_owned(),
    })
}

fn token(output: Output) -> Result<(), Failure> {
    let path = secret::claim_token_path();
    let token = secret::from_file(&path).map_err(|_| {
        Failure::Local(format!(
            "there is no claim token to be read at {}: the cell was claimed, was never started, or you are not root",
            path.display()
        ))
    })?;
    let path = path.display().to_string();
    let text = format!(
        "{}\n(from {path}; it is removed when the cell is claimed)",
        *token
    );
    output.result(
        &view::ClaimToken {
            path,
            claim_token: &token,
        },
        || text,
    )
}

fn text(state: &view::Setup) -> String {
    if state.complete {
        return "The cell is set up. Add a device: cellctl peer add NAME --internet".to_owned();
    }
    let answered = if state.answered_steps.is_empty() {
        "none".to_owned()
    } else {
        state.answered_steps.join(", ")
    };
    let next = match state.next_step.as_deref() {
        Some(step) => format!("cellctl setup {step}, or cellctl setup run for all that is left"),
        None => "cellctl setup complete".to_owned(),
    };
    human::pairs([
        ("Claimed", if state.claimed { "yes" } else { "no" }.to_owned()),
        ("Answered", answered),
        ("Next", next),
    ])
}
