//! `cellctl setup run`: asks for what was not given, and again for what the cell refuses.

use std::io::{IsTerminal, Write};

use cell_proto::api::v1::setup_service_client::SetupServiceClient;
use cell_proto::api::v1::setup_step::Step;
use cell_proto::api::v1::{IdentityStep, SetupState};
use tonic::transport::Channel;

use crate::cli::SetupRun;
use crate::failure::Failure;
use crate::output::Output;
use crate::{secret, setup};

/// All steps in their order, then the end of the first run. Nothing is sent when setup is complete already.
pub(crate) async fn run(
    client: &mut SetupServiceClient<Channel>,
    output: Output,
    given: &SetupRun,
) -> Result<SetupState, Failure> {
    let state = setup::state(client).await?;
    if state.complete {
        return Ok(state);
    }
    refuse_gaps(given)?;
    let token = secret::claim_token(&given.token)?;
    setup::submit(client, setup::claim(&token), &token).await?;
    output.note("Claimed.");
    step(client, output, &token, given, identity).await?;
    step(client, output, &token, given, network).await?;
    step(client, output, &token, given, admin).await?;
    setup::complete(client, &token).await
}

/// Asks and sends until the cell takes it. What was given counts once: after a refusal all is asked for. Where nobody can be
/// asked, the first refusal is the last.
async fn step(
    client: &mut SetupServiceClient<Channel>,
    output: Output,
    token: &str,
    given: &SetupRun,
    ask: impl Fn(&SetupRun) -> Result<Step, Failure>,
) -> Result<(), Failure> {
    let nothing = SetupRun::default();
    let mut given = given;
    loop {
        match setup::submit(client, ask(given)?, token).await {
            Err(failure @ Failure::Refused(_)) if can_ask() && is_about_fields(&failure) => {
                output.failure(&failure);
                given = &nothing;
            }
            outcome => return outcome.map(drop),
        }
    }
}

fn is_about_fields(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(refused) if !refused.violations.is_empty())
}

fn identity(given: &SetupRun) -> Result<Step, Failure> {
    let cell_name = answer(given.name.as_ref(), "Name of the cell", "home")?;
    Ok(Step::Identity(IdentityStep {
        cell_name,
        domain_mode: "lan".to_owned(),
    }))
}

fn network(given: &SetupRun) -> Result<Step, Failure> {
    let range = answer(given.range.as_ref(), "IPv4 range of the VPN", "10.86.0.0/24")?;
    let ipv6 = optional(
        given.ipv6.as_ref(),
        "IPv6 range of the VPN (empty: one is chosen)",
    )?;
    let endpoint = optional(
        given.endpoint.as_ref(),
        "Host name or address for devices outside (empty: later)",
    )?;
    Ok(setup::network(range, ipv6, endpoint))
}

fn admin(given: &SetupRun) -> Result<Step, Failure> {
    let username = answer(given.admin.as_ref(), "User name of the administrator", "admin")?;
    Ok(setup::admin(username, &secret::new_password(&given.password)?))
}

fn can_ask() -> bool {
    std::io::stdin().is_terminal()
}

/// Without a terminal everything that must be answered must be given, and all gaps are named at once, before any step.
fn refuse_gaps(given: &SetupRun) -> Result<(), Failure> {
    if can_ask() {
        return Ok(());
    }
    let needed = [
        ("--name", given.name.is_none()),
        ("--range", given.range.is_none()),
        ("--admin", given.admin.is_none()),
        ("--password-file", given.password.password_file.is_none()),
    ];
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(_, gap)| *gap)
        .map(|(option, _)| *option)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "there is no terminal to ask on; give {}",
        missing.join(", ")
    )))
}

/// What was given (the first time), or what a person says; Enter takes the default.
fn answer(given: Option<&String>, question: &str, default: &str) -> Result<String, Failure> {
    match given {
        Some(given) => Ok(given.clone()),
        None => Ok(line(&format!("{question} [{default}]: "))?.unwrap_or_else(|| default.to_owned())),
    }
}

fn optional(given: Option<&String>, question: &str) -> Result<Option<String>, Failure> {
    match given {
        Some(given) => Ok(Some(given.clone())),
        None if can_ask() => line(&format!("{question}: ")),
        None => Ok(None),
    }
}

/// One line from the terminal; `None` for an empty one.
fn line(prompt: &str) -> Result<Option<String>, Failure> {
    let failed = |error: std::io::Error| Failure::Local(error.to_string());
    eprint!("{prompt}");
    std::io::stderr().flush().map_err(failed)?;
    let mut text = String::new();
    if std::io::stdin().read_line(&mut text).map_err(failed)? == 0 {
        return Err(Failure::Local(
            "setup was broken off; run it again to go on".to_owned(),
        ));
    }
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}
