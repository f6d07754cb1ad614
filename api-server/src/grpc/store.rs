//! The store.

use std::pin::Pin;

use cell_api_core::fault::Faults;
use cell_api_core::services::form::FormField;
use cell_proto::api::v1 as wire;
use cell_proto::api::v1::store_service_server::StoreService;
use futures_util::{Stream, StreamExt as _, stream};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{Automation, refused};
use crate::http::dto::convert::state_name;
use crate::service::ServiceError;
use crate::service::catalog::{self, Item, Shown};
use crate::service::store::{self, InstallInput, Run, View};
use crate::store::services::Parameters;

#[tonic::async_trait]
impl StoreService for Automation {
    async fn get_catalog(
        &self,
        _: Request<wire::GetCatalogRequest>,
    ) -> Result<Response<wire::GetCatalogResponse>, Status> {
        let mut read = catalog::read(&self.app).await.map_err(refused)?;
        catalog::judge(&self.app, &mut read).await.map_err(refused)?;
        let installed = store::list(&self.app).await.map_err(refused)?;
        let services = read.items.into_iter().map(|item| offered(item, &installed));
        Ok(Response::new(wire::GetCatalogResponse {
            services: services.collect(),
            faults: read.faults,
        }))
    }

    async fn list_services(
        &self,
        _: Request<wire::ListServicesRequest>,
    ) -> Result<Response<wire::ListServicesResponse>, Status> {
        self.set_up()?;
        let all = store::list(&self.app).await.map_err(refused)?;
        Ok(Response::new(wire::ListServicesResponse {
            services: all.into_iter().map(installed).collect(),
        }))
    }

    async fn get_service(
        &self,
        request: Request<wire::GetServiceRequest>,
    ) -> Result<Response<wire::GetServiceResponse>, Status> {
        self.set_up()?;
        let view = store::get(&self.app, &request.into_inner().service).await;
        let service = Some(installed(view.map_err(refused)?));
        Ok(Response::new(wire::GetServiceResponse { service }))
    }

    async fn install_service(
        &self,
        request: Request<wire::InstallServiceRequest>,
    ) -> Result<Response<wire::InstallServiceResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let wire::InstallServiceRequest {
            id,
            instance,
            parameters,
            everyone,
            allowed_peers,
            validate_only,
            connection_id,
        } = request.into_inner();
        let input = InstallInput {
            instance,
            parameters: set(parameters)?,
            everyone,
            allowed_peers,
            exit: Some(connection_id).filter(|text| !text.is_empty()),
        };
        let answer = if validate_only {
            let plan = store::plan_install(&self.app, &actor, &id, input).await;
            wire::InstallServiceResponse {
                service: None,
                plan: plan.map_err(refused)?.sentences,
            }
        } else {
            let view = store::install(&self.app, &actor, &id, input).await;
            wire::InstallServiceResponse {
                service: Some(installed(view.map_err(refused)?)),
                plan: Vec::new(),
            }
        };
        Ok(Response::new(answer))
    }

    async fn update_service(
        &self,
        request: Request<wire::UpdateServiceRequest>,
    ) -> Result<Response<wire::UpdateServiceResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let view = store::update(&self.app, &actor, &request.into_inner().service).await;
        let service = Some(installed(view.map_err(refused)?));
        Ok(Response::new(wire::UpdateServiceResponse { service }))
    }

    async fn configure_service(
        &self,
        request: Request<wire::ConfigureServiceRequest>,
    ) -> Result<Response<wire::ConfigureServiceResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let wire::ConfigureServiceRequest { service, parameters } = request.into_inner();
        let parameters = set(parameters)?;
        let view = store::configure(&self.app, &actor, &service, parameters).await;
        let service = Some(installed(view.map_err(refused)?));
        Ok(Response::new(wire::ConfigureServiceResponse { service }))
    }

    async fn list_service_secrets(
        &self,
        request: Request<wire::ListServiceSecretsRequest>,
    ) -> Result<Response<wire::ListServiceSecretsResponse>, Status> {
        self.set_up()?;
        let all = store::secrets::list(&self.app, &request.into_inner().service).await;
        let secrets = all.map_err(refused)?.into_iter().map(secret);
        Ok(Response::new(wire::ListServiceSecretsResponse {
            secrets: secrets.collect(),
        }))
    }

    async fn set_service_secret(
        &self,
        request: Request<wire::SetServiceSecretRequest>,
    ) -> Result<Response<wire::SetServiceSecretResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let wire::SetServiceSecretRequest {
            service,
            secret,
            value,
        } = request.into_inner();
        let value = Zeroizing::new(value);
        let view = store::secrets::set(&self.app, &actor, &service, &secret, value).await;
        let service = Some(installed(view.map_err(refused)?));
        Ok(Response::new(wire::SetServiceSecretResponse { service }))
    }

    async fn remove_service_secret(
        &self,
        request: Request<wire::RemoveServiceSecretRequest>,
    ) -> Result<Response<wire::RemoveServiceSecretResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let wire::RemoveServiceSecretRequest { service, secret } = request.into_inner();
        let view = store::secrets::remove(&self.app, &actor, &service, &secret).await;
        let service = Some(installed(view.map_err(refused)?));
        Ok(Response::new(wire::RemoveServiceSecretResponse { service }))
    }

    async fn set_service_access(
        &self,
        request: Request<wire::SetServiceAccessRequest>,
    ) -> Result<Response<wire::SetServiceAccessResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let wire::SetServiceAccessRequest {
            service,
            everyone,
            allowed_peers,
        } = request.into_inner();
        let view = store::set_access(&self.app, &actor, &service, everyone, &allowed_peers).await;
        let service = Some(installed(view.map_err(refused)?));
        Ok(Response::new(wire::SetServiceAccessResponse { service }))
    }

    async fn remove_service(
        &self,
        request: Request<wire::RemoveServiceRequest>,
    ) -> Result<Response<wire::RemoveServiceResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let wire::RemoveServiceRequest {
            service,
            delete_volumes,
            validate_only,
        } = request.into_inner();
        let plan = if validate_only {
            let plan = store::plan_remove(&self.app, &actor, &service, delete_volumes).await;
            plan.map_err(refused)?.sentences
        } else {
            let removing = store::remove(&self.app, &actor, &service, delete_volumes).await;
            removing.map_err(refused)?;
            Vec::new()
        };
        Ok(Response::new(wire::RemoveServiceResponse { plan }))
    }

    async fn run_service(
        &self,
        request: Request<wire::RunServiceRequest>,
    ) -> Result<Response<wire::RunServiceResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let request = request.into_inner();
        let run = match request.run() {
            wire::ServiceRun::Start => Run::Start,
            wire::ServiceRun::Stop => Run::Stop,
            wire::ServiceRun::Restart => Run::Restart,
            wire::ServiceRun::Unspecified => {
                let faults = Faults::one("run", "is required: start, stop or restart");
                return Err(refused(ServiceError::from(faults)));
            }
        };
        let view = store::run(&self.app, &actor, &request.service, run).await;
        let service = Some(installed(view.map_err(refused)?));
        Ok(Response::new(wire::RunServiceResponse { service }))
    }

    async fn get_service_status(
        &self,
        request: Request<wire::GetServiceStatusRequest>,
    ) -> Result<Response<wire::GetServiceStatusResponse>, Status> {
        self.set_up()?;
        let status = store::status(&self.app, &request.into_inner().service).await;
        let store::StatusView {
            view,
            containers,
            fault,
        } = status.map_err(refused)?;
        let containers = containers.into_iter().map(|one| wire::ServiceContainer {
            name: one.container.name,
            address: one.container.address.to_string(),
            state: state_name(one.made.state()).to_owned(),
            health: one.made.health,
        });
        Ok(Response::new(wire::GetServiceStatusResponse {
            containers: containers.collect(),
            fault: fault.unwrap_or_default(),
            service: Some(installed(view)),
        }))
    }

    async fn get_service_logs(
        &self,
        request: Request<wire::GetServiceLogsRequest>,
    ) -> Result<Response<wire::GetServiceLogsResponse>, Status> {
        self.set_up()?;
        let wire::GetServiceLogsRequest {
            service,
            container,
            lines,
        } = request.into_inner();
        let logs = store::logs(&self.app, &service, &container, lines).await;
        let store::LogsView {
            container,
            lines,
            truncated,
        } = logs.map_err(refused)?;
        Ok(Response::new(wire::GetServiceLogsResponse {
            container,
            lines,
            truncated,
        }))
    }

    type ReadServiceBackupStream =
        Pin<Box<dyn Stream<Item = Result<wire::ReadServiceBackupResponse, Status>> + Send>>;

    async fn read_service_backup(
        &self,
        request: Request<wire::ReadServiceBackupRequest>,
    ) -> Result<Response<Self::ReadServiceBackupStream>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let backup = store::backup(&self.app, &actor, &request.into_inner().service).await;
        let backup = backup.map_err(refused)?;
        let first = wire::ReadServiceBackupResponse {
            file_name: backup.file_name.clone(),
            chunk: Vec::new(),
        };
        let ended = self.app.events.ended();
        let rest = stream::unfold((backup, ended), |(mut backup, ended)| async move {
            let piece = tokio::select! {
                () = ended.cancelled() => Err(refused(ServiceError::Unreachable("cell-api"))),
                piece = backup.next() => piece?.map_err(|fault| refused(store::refused(fault))),
            };
            let answer = piece.map(|chunk| wire::ReadServiceBackupResponse {
                file_name: String::new(),
                chunk,
            });
            Some((answer, (backup, ended)))
        });
        Ok(Response::new(Box::pin(stream::iter([Ok(first)]).chain(rest))))
    }
}

pub(super) fn set(parameters: Vec<wire::ServiceParameter>) -> Result<Parameters, Status> {
    let count = parameters.len();
    let set: Parameters = parameters.into_iter().map(|one| (one.name, one.text)).collect();
    if set.len() == count {
        return Ok(set);
    }
    let faults = Faults::one("parameters", "must name each field once");
    Err(refused(ServiceError::from(faults)))
}

fn offered(item: Item, installed: &[View]) -> wire::CatalogService {
    let Shown {
        line,
        purpose,
        instanceable,
        requires,
        has_way_out,
        exit_types,
        default_exit_type,
        form,
        installed,
        faults,
        origin,
        deployable,
        deployable_fix,
    } = item.shown(installed);
    wire::CatalogService {
        purpose: purpose.unwrap_or_default().to_owned(),
        form: form.into_iter().map(field).collect(),
        id: line.id.to_string(),
        title: line.title,
        description: line.description,
        version: line.version,
        digest: line.digest.to_string(),
        instanceable,
        requires,
        has_way_out,
        exit_types: exit_types.into_iter().map(str::to_owned).collect(),
        default_exit_type: default_exit_type.unwrap_or_default(),
        installed,
        faults,
        origin: origin.unwrap_or_default(),
        deployable,
        deployable_fix: deployable_fix.unwrap_or_default(),
    }
}

fn secret(view: store::secrets::SecretView) -> wire::ServiceSecret {
    let store::secrets::SecretView { field, is_set } = view;
    wire::ServiceSecret {
        name: field.name.to_string(),
        label: field.label,
        help: field.help,
        optional: field.is_optional,
        generated: field.generate.is_some(),
        can_be_set: field.can_be_set,
        is_set,
    }
}

pub(super) fn field(field: FormField) -> wire::ServiceField {
    wire::ServiceField {
        name: field.name,
        label: field.label,
        help: field.help,
        default: field.default,
    }
}

fn installed(view: View) -> wire::InstalledService {
    let View {
        service,
        manifest,
        address,
        names,
        live,
        update,
        notice,
    } = view;
    let (phase, step) = service.phase.words();
    let fault = |code: String, message: String| wire::ServiceFault { code, message };
    wire::InstalledService {
        purpose: catalog::purpose(manifest.purpose).to_owned(),
        id: manifest.id.to_string(),
        title: manifest.title.clone(),
        version: manifest.version.clone(),
        phase: phase.to_owned(),
        step: step.to_owned(),
        progress: live.progress.map(|progress| wire::PullProgress {
            image: progress.image,
            status: progress.status,
            current_bytes: progress.current_bytes,
            total_bytes: progress.total_bytes,
        }),
        waiting: live.waiting.map(|waiting| fault(waiting.code, waiting.message)),
        error: service
            .fault
            .or(notice)
            .map(|found| fault(found.code, found.message)),
        stopped: service.stopped,
        published: service.published,
        address: address.map(|address| address.to_string()).unwrap_or_default(),
        names,
        subnet: service
            .network
            .as_ref()
            .map(|place| place.subnet.to_string())
            .unwrap_or_default(),
        everyone: service.access.is_everyone(),
        allowed_peers: service.access.peers().map(str::to_owned).collect(),
        update_version: update.map(|update| update.version).unwrap_or_default(),
        name: service.name.to_string(),
        digest: service.make.digest,
        parameters: service
            .make
            .parameters
            .into_iter()
            .map(|(name, text)| wire::ServiceParameter { name, text })
            .collect(),
    }
}
