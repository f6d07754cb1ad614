//! The store of a cell that is not there: one service in the catalog, which takes some looks to be installed or gone.

use std::pin::Pin;

use cell_proto::api::v1::store_service_server::StoreService;
use cell_proto::api::v1::*;
use cell_proto::fault::Fault;
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status};

use super::Service;

/// What the store knows and was told.
#[derive(Default)]
pub struct Store {
    pub service: Option<InstalledService>,
    /// How often it is asked for until it is done.
    pub looks: u32,
    /// What becomes of it, instead of what was asked for.
    pub fails: Option<&'static str>,
    pub installs: Vec<InstallServiceRequest>,
    pub removals: Vec<RemoveServiceRequest>,
    pub access: Vec<SetServiceAccessRequest>,
    pub runs: Vec<i32>,
    /// What CoreDNS logs.
    pub query_log: String,
    /// Numbers of alerts that somebody has seen.
    pub seen: Vec<String>,
    /// Whether its port answers.
    pub is_open: bool,
    pub configured: Vec<ConfigureServiceRequest>,
    /// Secrets that were set: service, name, value.
    pub secrets: Vec<(String, String, String)>,
    /// Whether backups break off in the middle.
    pub backup_breaks: bool,
}

impl Store {
    pub fn found(&mut self, name: &str) -> Result<&mut InstalledService, Status> {
        let found = self.service.as_mut().filter(|one| one.name == name);
        found.ok_or_else(|| {
            Fault::new(
                Code::NotFound,
                "api.cell",
                "NO_SERVICE",
                "no service of this name is installed",
            )
            .into()
        })
    }

    /// One look nearer to the end.
    fn looked(&mut self) {
        if self.looks > 0 {
            self.looks -= 1;
            return;
        }
        let Some(service) = &mut self.service else { return };
        match (service.phase.as_str(), self.fails) {
            ("installing", Some(code)) => {
                (service.phase, service.step) = ("failed".to_owned(), "installing".to_owned());
                service.error = Some(ServiceFault {
                    code: code.to_owned(),
                    message: "the broker would not".to_owned(),
                });
            }
            ("removing", _) => self.service = None,
            ("installing", None) => (service.phase, service.step) = ("installed".to_owned(), String::new()),
            _ => {}
        }
    }
}

type BackupStream = Pin<Box<dyn Stream<Item = Result<ReadServiceBackupResponse, Status>> + Send>>;

#[tonic::async_trait]
impl StoreService for Service {
    type ReadServiceBackupStream = BackupStream;

    async fn read_service_backup(
        &self,
        request: Request<ReadServiceBackupRequest>,
    ) -> Result<Response<BackupStream>, Status> {
        let store = &mut self.0.lock().unwrap().store;
        store.found(&request.into_inner().service)?;
        let piece = |file_name: &str, chunk: &str| ReadServiceBackupResponse {
            file_name: file_name.to_owned(),
            chunk: chunk.as_bytes().to_vec(),
        };
        let mut pieces = vec![
            Ok(piece("notes-2026-11-28.tar.age", "")),
            Ok(piece("", "half of it, ")),
        ];
        pieces.push(match store.backup_breaks {
            true => Err(Status::aborted("the service was updated")),
            false => Ok(piece("", "and the rest")),
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }

    async fn get_catalog(
        &self,
        _: Request<GetCatalogRequest>,
    ) -> Result<Response<GetCatalogResponse>, Status> {
        let field = |name: &str, default: Option<&str>| ServiceField {
            name: name.to_owned(),
            label: "Size".to_owned(),
            help: "is a number from 1 to 9".to_owned(),
            default: default.map(str::to_owned),
        };
        Ok(Response::new(GetCatalogResponse {
            services: vec![CatalogService {
                id: "notes".to_owned(),
                title: "Notes".to_owned(),
                version: "1.0.0".to_owned(),
                purpose: "store".to_owned(),
                form: vec![field("size", Some("3")), field("domain", None)],
                ..CatalogService::default()
            }],
            faults: vec!["services[1]: id is no name".to_owned()],
        }))
    }

    async fn list_service_secrets(
        &self,
        request: Request<ListServiceSecretsRequest>,
    ) -> Result<Response<ListServiceSecretsResponse>, Status> {
        let store = &mut self.0.lock().unwrap().store;
        store.found(&request.into_inner().service)?;
        Ok(Response::new(ListServiceSecretsResponse {
            secrets: vec![ServiceSecret {
                name: "dns_token".to_owned(),
                label: "Token".to_owned(),
                help: "is a Printable of at most 40 bytes".to_owned(),
                can_be_set: true,
                is_set: !store.secrets.is_empty(),
                ..ServiceSecret::default()
            }],
        }))
    }

    async fn set_service_secret(
        &self,
        request: Request<SetServiceSecretRequest>,
    ) -> Result<Response<SetServiceSecretResponse>, Status> {
        let SetServiceSecretRequest {
            service,
            secret,
            value,
        } = request.into_inner();
        let store = &mut self.0.lock().unwrap().store;
        let found = store.found(&service)?.clone();
        store.secrets.push((service, secret, value));
        Ok(Response::new(SetServiceSecretResponse { service: Some(found) }))
    }

    async fn remove_service_secret(
        &self,
        request: Request<RemoveServiceSecretRequest>,
    ) -> Result<Response<RemoveServiceSecretResponse>, Status> {
        let RemoveServiceSecretRequest { service, secret } = request.into_inner();
        let store = &mut self.0.lock().unwrap().store;
        let found = store.found(&service)?.clone();
        store.secrets.retain(|(_, name, _)| *name != secret);
        Ok(Response::new(RemoveServiceSecretResponse {
            service: Some(found),
        }))
    }

    async fn list_services(
        &self,
        _: Request<ListServicesRequest>,
    ) -> Result<Response<ListServicesResponse>, Status> {
        let services = self.0.lock().unwrap().store.service.clone().into_iter().collect();
        Ok(Response::new(ListServicesResponse { services }))
    }

    async fn get_service(
        &self,
        request: Request<GetServiceRequest>,
    ) -> Result<Response<GetServiceResponse>, Status> {
        let store = &mut self.0.lock().unwrap().store;
        store.looked();
        let service = Some(store.found(&request.into_inner().service)?.clone());
        Ok(Response::new(GetServiceResponse { service }))
    }

    async fn install_service(
        &self,
        request: Request<InstallServiceRequest>,
    ) -> Result<Response<InstallServiceResponse>, Status> {
        let store = &mut self.0.lock().unwrap().store;
        let request = request.into_inner();
        store.installs.push(request.clone());
        if request.validate_only {
            return Ok(Response::new(InstallServiceResponse {
                service: None,
                plan: vec!["Notes is installed.".to_owned()],
            }));
        }
        let service = InstalledService {
            name: request.id,
            title: "Notes".to_owned(),
            version: "1.0.0".to_owned(),
            phase: "installing".to_owned(),
            step: "images".to_owned(),
            address: "10.86.0.254".to_owned(),
            names: vec!["notes.home.cell".to_owned()],
            everyone: request.everyone,
            allowed_peers: request.allowed_peers,
            ..InstalledService::default()
        };
        store.service = Some(service.clone());
        Ok(Response::new(InstallServiceResponse {
            service: Some(service),
            plan: Vec::new(),
        }))
    }

    async fn update_service(
        &self,
        request: Request<UpdateServiceRequest>,
    ) -> Result<Response<UpdateServiceResponse>, Status> {
        let store = &mut self.0.lock().unwrap().store;
        let service = Some(store.found(&request.into_inner().service)?.clone());
        Ok(Response::new(UpdateServiceResponse { service }))
    }

    async fn configure_service(
        &self,
        request: Request<ConfigureServiceRequest>,
    ) -> Result<Response<ConfigureServiceResponse>, Status> {
        let store = &mut self.0.lock().unwrap().store;
        let request = request.into_inner();
        store.configured.push(request.clone());
        let ConfigureServiceRequest { service, parameters } = request;
        let found = store.found(&service)?;
        found.parameters = parameters;
        let service = Some(found.clone());
        Ok(Response::new(ConfigureServiceResponse { service }))
    }

    async fn set_service_access(
        &self,
        request: Request<SetServiceAccessRequest>,
    ) -> Result<Response<SetServiceAccessResponse>, Status> {
        let store = &mut self.0.lock().unwrap().store;
        let request = request.into_inner();
        store.access.push(request.clone());
        let found = store.found(&request.service)?;
        (found.everyone, found.allowed_peers) = (request.everyone, request.allowed_peers);
        let service = Some(found.clone());
        Ok(Response::new(SetServiceAccessResponse { service }))
    }

    async fn remove_service(
        &self,
        request: Request<RemoveServiceRequest>,
    ) -> Result<Response<RemoveServiceResponse>, Status> {
        let store = &mut self.0.lock().unwrap().store;
        let request = request.into_inner();
        store.removals.push(request.clone());
        let found = store.found(&request.service)?;
        if request.validate_only {
            let plan = vec!["Its data is kept in its volumes.".to_owned()];
            return Ok(Response::new(RemoveServiceResponse { plan }));
        }
        found.phase = "removing".to_owned();
        Ok(Response::new(RemoveServiceResponse { plan: Vec::new() }))
    }

    async fn run_service(
        &self,
        request: Request<RunServiceRequest>,
    ) -> Result<Response<RunServiceResponse>, Status> {
        let store = &mut self.0.lock().unwrap().store;
        let RunServiceRequest { service, run } = request.into_inner();
        store.runs.push(run);
        let found = store.found(&service)?;
        found.stopped = run == i32::from(ServiceRun::Stop);
        let service = Some(found.clone());
        Ok(Response::new(RunServiceResponse { service }))
    }

    async fn get_service_status(
        &self,
        request: Request<GetServiceStatusRequest>,
    ) -> Result<Response<GetServiceStatusResponse>, Status> {
        let store = &mut self.0.lock().unwrap().store;
        let service = Some(store.found(&request.into_inner().service)?.clone());
        Ok(Response::new(GetServiceStatusResponse {
            service,
            containers: vec![ServiceContainer {
                name: "main".to_owned(),
                address: "172.21.0.2".to_owned(),
                state: "running".to_owned(),
                health: "healthy".to_owned(),
            }],
            fault: String::new(),
        }))
    }

    async fn get_service_logs(
        &self,
        request: Request<GetServiceLogsRequest>,
    ) -> Result<Response<GetServiceLogsResponse>, Status> {
        let store = &mut self.0.lock().unwrap().store;
        let GetServiceLogsRequest {
            service,
            container,
            lines,
        } = request.into_inner();
        store.found(&service)?;
        Ok(Response::new(GetServiceLogsResponse {
            lines: vec![format!("{lines} lines of {container:?}")],
            container,
            truncated: false,
        }))
    }
}
