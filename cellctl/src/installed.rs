//! `cellctl service`: services of the store that are installed, and what becomes of them.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use cell_proto::api::v1 as wire;
use cell_proto::api::v1::store_service_client::StoreServiceClient;
use serde::Serialize;
use tonic::Code;
use tonic::transport::Channel;

use crate::cell::Cell;
use crate::cli::{Access, Configuration, Install, LogsOf, Removal, Service};
use crate::failure::Failure;
use crate::human;
use crate::managers;
use crate::output::Output;
use crate::{backup, secrets, services};

/// How often it is asked how far it is.
const LOOK: Duration = Duration::from_millis(300);
/// Characters of a bar.
const BAR: u64 = 24;

/// A service, as the REST API has it.
#[derive(Debug, Serialize)]
struct Installed {
    name: String,
    id: String,
    purpose: String,
    title: String,
    version: String,
    digest: String,
    phase: String,
    step: String,
    waiting: Option<Fault>,
    error: Option<Fault>,
    stopped: bool,
    published: bool,
    address: Option<String>,
    names: Vec<String>,
    subnet: Option<String>,
    everyone: bool,
    allowed_peers: Vec<String>,
    update_version: Option<String>,
}

#[derive(Debug, Serialize)]
struct Fault {
    code: String,
    message: String,
}

#[derive(Debug, Serialize)]
struct All {
    services: Vec<Installed>,
}

#[derive(Debug, Serialize)]
struct Plan {
    plan: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Gone {
    service: String,
    removed: bool,
}

#[derive(Debug, Serialize)]
struct Status {
    service: Installed,
    containers: Vec<Container>,
    fault: Option<String>,
}

#[derive(Debug, Serialize)]
struct Container {
    name: String,
    address: String,
    state: String,
    health: Option<String>,
}

#[derive(Debug, Serialize)]
struct Logs {
    container: String,
    lines: Vec<String>,
    truncated: bool,
}

pub(crate) type Client = StoreServiceClient<Channel>;

/// Carries out one of the commands.
pub(crate) async fn run(cell: &Cell, output: Output, command: Service) -> Result<(), Failure> {
    let mut client = cell.store()?;
    match command {
        Service::List => list(&mut client, output).await,
        Service::Install(wanted) => install(cell, &mut client, output, wanted).await,
        Service::Update { service, no_wait } => {
            let request = wire::UpdateServiceRequest { service };
            let begun = client.update_service(request).await?.into_inner().service;
            finish(&mut client, output, begun, no_wait).await
        }
        Service::Config(wanted) => configure(cell, &mut client, output, wanted).await,
        Service::Secrets { service } => secrets::list(&mut client, output, service).await,
        Service::SetSecret {
            service,
            secret,
            from,
        } => {
            let set = secrets::set(&mut client, service, secret, &from).await?;
            one(output, set)
        }
        Service::RemoveSecret { service, secret } => {
            let request = wire::RemoveServiceSecretRequest { service, secret };
            let left = client.remove_service_secret(request).await?.into_inner().service;
            one(output, left)
        }
        Service::Remove(removal) => remove(&mut client, output, removal).await,
        Service::Access { service, access } => {
            let (everyone, allowed_peers) = access.who();
            let request = wire::SetServiceAccessRequest {
                service,
                everyone,
                allowed_peers,
            };
            let set = client.set_service_access(request).await?.into_inner().service;
            one(output, set)
        }
        Service::Status { service } => status(&mut client, output, service).await,
        Service::Test { service } => managers::test(cell, output, service).await,
        Service::Health { service } => managers::health(cell, output, service).await,
        Service::Logs(wanted) if wanted.follow => managers::follow(cell, output, wanted).await,
        Service::Logs(wanted) => logs(&mut client, output, wanted).await,
        Service::Backup { service, output: to } => backup::save(&mut client, output, service, to).await,
        Service::Start { service } => act(&mut client, output, service, wire::ServiceRun::Start).await,
        Service::Stop { service } => act(&mut client, output, service, wire::ServiceRun::Stop).await,
        Service::Restart { service } => act(&mut client, output, service, wire::ServiceRun::Restart).await,
        Service::Networks => services::list(cell, output).await,
        Service::Exit(way) => services::exit(cell, output, way).await,
        Service::Reach(wanted) => services::reach(cell, output, wanted).await,
    }
}

/// Shows the configuration, says whether it could be set, or sets it.
async fn configure(
    cell: &Cell,
    client: &mut Client,
    output: Output,
    wanted: Configuration,
) -> Result<(), Failure> {
    let Configuration {
        service,
        set,
        defaults,
        check,
        no_wait,
    } = wanted;
    let is_look = set.is_empty() && !defaults;
    let parameters = parameters(set);
    if check {
        return managers::check(cell, output, service, parameters).await;
    }
    if is_look {
        return managers::config(cell, output, service).await;
    }
    let request = wire::ConfigureServiceRequest { service, parameters };
    let begun = client.configure_service(request).await?.into_inner().service;
    finish(client, output, begun, no_wait).await
}

async fn remove(client: &mut Client, output: Output, removal: Removal) -> Result<(), Failure> {
    let Removal {
        service,
        delete_data,
        validate_only,
        no_wait,
    } = removal;
    let request = wire::RemoveServiceRequest {
        service: service.clone(),
        delete_volumes: delete_data,
        validate_only,
    };
    let plan = client.remove_service(request).await?.into_inner().plan;
    if validate_only {
        return planned(output, plan);
    }
    removed(client, output, service, no_wait).await
}

async fn logs(client: &mut Client, output: Output, wanted: LogsOf) -> Result<(), Failure> {
    let LogsOf {
        service,
        container,
        lines,
        follow: _,
    } = wanted;
    let request = wire::GetServiceLogsRequest {
        service,
        container: container.unwrap_or_default(),
        lines,
    };
    let told = client.get_service_logs(request).await?.into_inner();
    let logs = Logs {
        container: told.container,
        lines: told.lines,
        truncated: told.truncated,
    };
    output.result(&logs, || logs.lines.join("\n"))
}

async fn list(client: &mut Client, output: Output) -> Result<(), Failure> {
    let told = client
        .list_services(wire::ListServicesRequest {})
        .await?
        .into_inner();
    let all = All {
        services: told.services.into_iter().map(Installed::from).collect(),
    };
    output.result(&all, || {
        if all.services.is_empty() {
            return "No service is installed. See what there is: cellctl store list".to_owned();
        }
        let row = |one: &Installed| {
            let update = one
                .update_version
                .as_ref()
                .map(|version| format!("{version} is there"));
            vec![
                one.name.clone(),
                one.version.clone(),
                stands(one),
                one.address.clone().unwrap_or_default(),
                who(one),
                update.unwrap_or_default(),
            ]
        };
        let header = ["NAME", "VERSION", "STATE", "ADDRESS", "FOR", "UPDATE"];
        human::table(&header, all.services.iter().map(row))
    })
}

async fn install(cell: &Cell, client: &mut Client, output: Output, wanted: Install) -> Result<(), Failure> {
    let Install {
        id,
        instance,
        mut set,
        access,
        exit,
        validate_only,
        no_wait,
    } = wanted;
    if asks_for_domain(client, &id, &set).await? {
        let domain = own_domain(cell).await?;
        output.note(&format!("{DOMAIN}={domain}: the cell's own, since none was set."));
        set.push((DOMAIN.to_owned(), domain));
    }
    let (everyone, allowed_peers) = access.who();
    let request = wire::InstallServiceRequest {
        id,
        instance: instance.unwrap_or_default(),
        parameters: parameters(set),
        everyone,
        allowed_peers,
        validate_only,
        connection_id: exit.unwrap_or_default(),
    };
    let answer = client.install_service(request).await?.into_inner();
    if validate_only {
        return planned(output, answer.plan);
    }
    finish(client, output, answer.service, no_wait).await
}

/// The field of a service that is nearly always the cell's own domain; the web UI proposes it in its form.
const DOMAIN: &str = "domain";

/// Whether a service asks for a domain, proposes none, and was given none.
async fn asks_for_domain(client: &mut Client, id: &str, set: &[(String, String)]) -> Result<bool, Failure> {
    if set.iter().any(|(name, _)| name == DOMAIN) {
        return Ok(false);
    }
    let catalog = client.get_catalog(wire::GetCatalogRequest {}).await?.into_inner();
    let mut fields = catalog
        .services
        .iter()
        .filter(|one| one.id == id)
        .flat_map(|one| &one.form);
    Ok(fields.any(|field| field.name == DOMAIN && field.default.is_none()))
}

async fn own_domain(cell: &Cell) -> Result<String, Failure> {
    let mut status = cell.status()?;
    let told = status.get_cell_config(wire::GetCellConfigRequest {}).await?;
    Ok(told.into_inner().config.unwrap_or_default().domain)
}

async fn status(client: &mut Client, output: Output, service: String) -> Result<(), Failure> {
    let request = wire::GetServiceStatusRequest { service };
    let told = client.get_service_status(request).await?.into_inner();
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let containers = told.containers.into_iter().map(|one| Container {
        name: one.name,
        address: one.address,
        state: one.state,
        health: given(one.health),
    });
    let status = Status {
        containers: containers.collect(),
        fault: given(told.fault),
        service: told.service.unwrap_or_default().into(),
    };
    output.result(&status, || {
        let row = |one: &Container| {
            let health = one.health.clone().unwrap_or_default();
            vec![one.name.clone(), one.address.clone(), one.state.clone(), health]
        };
        let header = ["CONTAINER", "ADDRESS", "STATE", "HEALTH"];
        let mut text = described(&status.service);
        text += &human::table(&header, status.containers.iter().map(row));
        if let Some(fault) = &status.fault {
            text += &format!("Nothing is known of some containers: {fault}\n");
        }
        text
    })
}

async fn act(
    client: &mut Client,
    output: Output,
    service: String,
    run: wire::ServiceRun,
) -> Result<(), Failure> {
    let request = wire::RunServiceRequest {
        service,
        run: run.into(),
    };
    let answer = client.run_service(request).await?.into_inner();
    one(output, answer.service)
}

/// Shows how far it is until it is done; a failure is one of this command too.
async fn finish(
    client: &mut Client,
    output: Output,
    begun: Option<wire::InstalledService>,
    no_wait: bool,
) -> Result<(), Failure> {
    let mut service = begun.unwrap_or_default();
    let name = service.name.clone();
    let mut shown = Shown::new(output);
    while !no_wait && is_under_way(&service) {
        shown.show(&service);
        tokio::time::sleep(LOOK).await;
        let request = wire::GetServiceRequest {
            service: name.clone(),
        };
        service = client
            .get_service(request)
            .await?
            .into_inner()
            .service
            .unwrap_or_default();
    }
    shown.end();
    let installed = Installed::from(service);
    match &installed.error {
        Some(Fault { code, message }) if !no_wait => Err(Failure::Local(format!(
            "{name} is {}: {message} ({code})",
            stands(&installed)
        ))),
        _ => output.result(&installed, || described(&installed)),
    }
}

async fn removed(client: &mut Client, output: Output, service: String, no_wait: bool) -> Result<(), Failure> {
    let mut shown = Shown::new(output);
    let mut is_gone = false;
    while !no_wait && !is_gone {
        let request = wire::GetServiceRequest {
            service: service.clone(),
        };
        match client.get_service(request).await {
            Err(status) if status.code() == Code::NotFound => is_gone = true,
            Err(status) => return Err(status.into()),
            Ok(answer) => {
                let told = answer.into_inner().service.unwrap_or_default();
                if let (Some(error), false) = (&told.error, is_under_way(&told)) {
                    shown.end();
                    let text = format!("{service} is not removed: {} ({})", error.message, error.code);
                    return Err(Failure::Local(text));
                }
                shown.show(&told);
                tokio::time::sleep(LOOK).await;
            }
        }
    }
    shown.end();
    let gone = Gone {
        removed: is_gone,
        service,
    };
    output.result(&gone, || match gone.removed {
        true => format!("{} is removed.", gone.service),
        false => format!("{} is being removed.", gone.service),
    })
}

fn planned(output: Output, plan: Vec<String>) -> Result<(), Failure> {
    let plan = Plan { plan };
    output.result(&plan, || plan.plan.join("\n"))
}

fn one(output: Output, service: Option<wire::InstalledService>) -> Result<(), Failure> {
    let installed = Installed::from(service.unwrap_or_default());
    output.result(&installed, || described(&installed))
}

fn parameters(set: Vec<(String, String)>) -> Vec<wire::ServiceParameter> {
    set.into_iter()
        .map(|(name, text)| wire::ServiceParameter { name, text })
        .collect()
}

fn is_under_way(service: &wire::InstalledService) -> bool {
    matches!(service.phase.as_str(), "installing" | "updating" | "removing")
}

fn stands(one: &Installed) -> String {
    match (one.phase.as_str(), one.stopped, &one.error) {
        ("installed", true, _) => "stopped".to_owned(),
        ("installed", false, Some(_)) => "installed, see status".to_owned(),
        (phase, _, _) if one.step.is_empty() => phase.to_owned(),
        (phase, _, _) => format!("{phase} ({})", one.step),
    }
}

fn who(one: &Installed) -> String {
    match (one.everyone, one.allowed_peers.is_empty()) {
        _ if one.purpose == "core" => "the cell itself".to_owned(),
        (true, _) => "everyone".to_owned(),
        (false, true) => "nobody".to_owned(),
        (false, false) => one.allowed_peers.join(", "),
    }
}

fn described(one: &Installed) -> String {
    let mut rows = vec![
        ("Service", format!("{} ({} {})", one.name, one.title, one.version)),
        ("State", stands(one)),
        ("For", who(one)),
    ];
    if let Some(address) = &one.address {
        rows.push(("Address", address.clone()));
    }
    if !one.names.is_empty() {
        rows.push(("Names", one.names.join(", ")));
    }
    if let Some(subnet) = &one.subnet {
        rows.push(("Network", subnet.clone()));
    }
    if let Some(version) = &one.update_version {
        rows.push((
            "Update",
            format!("{version} is in the catalog: cellctl service update {}", one.name),
        ));
    }
    for (name, fault) in [("Waits for", &one.waiting), ("Error", &one.error)] {
        if let Some(fault) = fault {
            rows.push((name, format!("{} ({})", fault.message, fault.code)));
        }
    }
    human::pairs(rows)
}

/// What a person sees while something goes on: one line that is written over, or a line for each step where it is no terminal.
struct Shown {
    output: Output,
    is_terminal: bool,
    last: String,
}

impl Shown {
    fn new(output: Output) -> Self {
        Shown {
            is_terminal: std::io::stderr().is_terminal(),
            last: String::new(),
            output,
        }
    }

    fn show(&mut self, service: &wire::InstalledService) {
        let step = format!("{}: {} ({})", service.name, service.phase, service.step);
        let line = match (&service.waiting, &service.progress) {
            (Some(waiting), _) => format!("{step}, waits: {}", waiting.message),
            (None, Some(progress)) if self.is_terminal => format!("{step} {}", bar(progress)),
            (None, _) => step,
        };
        if line == self.last {
            return;
        }
        if self.is_terminal && !self.output.json {
            let line: String = line.chars().take(110).collect();
            let mut err = std::io::stderr().lock();
            // A terminal that went away is no fault of the service.
            let _ = write!(err, "\r\x1b[2K{line}").and_then(|()| err.flush());
        } else {
            self.output.note(&line);
        }
        self.last = line;
    }

    fn end(&self) {
        if self.is_terminal && !self.output.json && !self.last.is_empty() {
            eprint!("\r\x1b[2K");
        }
    }
}

fn bar(progress: &wire::PullProgress) -> String {
    let wire::PullProgress {
        image: _,
        status,
        current_bytes,
        total_bytes,
    } = progress;
    if *total_bytes == 0 {
        return status.clone();
    }
    let done = (current_bytes.min(total_bytes) * BAR) / total_bytes;
    let full = "#".repeat(usize::try_from(done).unwrap_or_default());
    let empty = "-".repeat(usize::try_from(BAR - done).unwrap_or_default());
    format!(
        "[{full}{empty}] {} of {} {status}",
        human::bytes(*current_bytes),
        human::bytes(*total_bytes)
    )
}

impl Access {
    fn who(self) -> (bool, Vec<String>) {
        (self.everyone, self.peers)
    }
}

impl From<wire::InstalledService> for Installed {
    fn from(told: wire::InstalledService) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let fault = |found: wire::ServiceFault| Fault {
            code: found.code,
            message: found.message,
        };
        Installed {
            name: told.name,
            id: told.id,
            purpose: told.purpose,
            title: told.title,
            version: told.version,
            digest: told.digest,
            phase: told.phase,
            step: told.step,
            waiting: told.waiting.map(fault),
            error: told.error.map(fault),
            stopped: told.stopped,
            published: told.published,
            address: given(told.address),
            names: told.names,
            subnet: given(told.subnet),
            everyone: told.everyone,
            allowed_peers: told.allowed_peers,
            update_version: given(told.update_version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_how_far_it_is() {
        let progress = |current, total| wire::PullProgress {
            image: "a".to_owned(),
            status: "Downloading".to_owned(),
            current_bytes: current,
            total_bytes: total,
        };
        assert_eq!(bar(&progress(0, 0)), "Downloading");
        assert_eq!(
            bar(&progress(512, 1024)),
            "[############------------] 512 B of 1.0 KiB Downloading"
        );
        assert!(
            bar(&progress(9, 3)).starts_with("[########################]"),
            "never more than all"
        );
    }
}
