//! From what the services know to what is answered.

use cell_api_core::services::form::{self, FormField as Field};
use cell_api_core::services::phase::Phase;

use super::{
    Catalog, CatalogService, FormField, Service, ServiceContainer, ServiceFault, ServiceLogs, ServiceOrPlan,
    ServicePhase, ServiceProgress, ServiceSecret, ServiceStatus, ServiceUpdate,
};
use crate::http::dto::convert::state_name;
use crate::http::dto::rfc3339;
use crate::service::catalog::{Catalog as Read, Item, Shown, purpose};
use crate::service::store::secrets::SecretView;
use crate::service::store::{ContainerState, LogsView, PlanView, StatusView, View};

impl Catalog {
    /// The catalog, with what is installed of it.
    pub fn of(read: Read, installed: &[View]) -> Self {
        Catalog {
            services: read
                .items
                .into_iter()
                .map(|item| CatalogService::of(item, installed))
                .collect(),
            faults: read.faults,
        }
    }
}

impl CatalogService {
    fn of(item: Item, installed: &[View]) -> Self {
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
        CatalogService {
            purpose: purpose.map(str::to_owned),
            form: form.into_iter().map(Into::into).collect(),
            id: line.id.to_string(),
            title: line.title,
            description: line.description,
            version: line.version,
            digest: line.digest.to_string(),
            instanceable,
            requires,
            has_way_out,
            exit_types: exit_types.into_iter().map(str::to_owned).collect(),
            default_exit_type,
            installed,
            faults,
            origin,
            deployable,
            deployable_fix,
        }
    }
}

impl From<View> for Service {
    fn from(view: View) -> Self {
        let View {
            service,
            manifest,
            address,
            names,
            live,
            update,
            notice,
        } = view;
        let (_, step) = service.phase.words();
        Service {
            id: manifest.id.to_string(),
            title: manifest.title.clone(),
            version: manifest.version.clone(),
            purpose: purpose(manifest.purpose).to_owned(),
            has_accounts: manifest.accounts.is_some(),
            form: form::form(&manifest).into_iter().map(Into::into).collect(),
            phase: phase(service.phase),
            step: step.to_owned(),
            progress: live.progress.map(|progress| ServiceProgress {
                image: progress.image,
                status: progress.status,
                current_bytes: progress.current_bytes,
                total_bytes: progress.total_bytes,
            }),
            waiting: live.waiting.map(|waiting| ServiceFault {
                code: waiting.code,
                message: waiting.message,
            }),
            error: service.fault.or(notice).map(|fault| ServiceFault {
                code: fault.code,
                message: fault.message,
            }),
            address: address.map(|address| address.to_string()),
            names,
            subnet: service.network.as_ref().map(|place| place.subnet.to_string()),
            bridge: service
                .network
                .as_ref()
                .map(cell_api_core::service_network::Place::bridge),
            everyone: service.access.is_everyone(),
            allowed_peers: service.access.peers().map(str::to_owned).collect(),
            update: update.map(|update| ServiceUpdate {
                version: update.version,
                digest: update.digest,
            }),
            created_at: rfc3339(service.created_unix_ms),
            updated_at: rfc3339(service.updated_unix_ms),
            stopped: service.stopped,
            published: service.published,
            name: service.name.to_string(),
            instance: service.instance,
            digest: service.make.digest,
            parameters: service.make.parameters,
        }
    }
}

impl From<View> for ServiceOrPlan {
    fn from(view: View) -> Self {
        ServiceOrPlan {
            service: Some(view.into()),
            plan: Vec::new(),
        }
    }
}

impl From<PlanView> for ServiceOrPlan {
    fn from(plan: PlanView) -> Self {
        ServiceOrPlan {
            service: None,
            plan: plan.sentences,
        }
    }
}

impl From<StatusView> for ServiceStatus {
    fn from(status: StatusView) -> Self {
        let StatusView {
            view,
            containers,
            fault,
        } = status;
        ServiceStatus {
            service: view.into(),
            containers: containers.into_iter().map(Into::into).collect(),
            fault,
        }
    }
}

impl From<ContainerState> for ServiceContainer {
    fn from(state: ContainerState) -> Self {
        let ContainerState { container, made } = state;
        ServiceContainer {
            name: container.name,
            address: container.address.to_string(),
            state: state_name(made.state()).to_owned(),
            health: Some(made.health.clone()).filter(|health| !health.is_empty()),
            started_at: Some(made.started_unix_ms).filter(|at| *at > 0).map(rfc3339),
            restart_count: made.restart_count,
        }
    }
}

impl From<LogsView> for ServiceLogs {
    fn from(logs: LogsView) -> Self {
        let LogsView {
            container,
            lines,
            truncated,
        } = logs;
        ServiceLogs {
            container,
            lines,
            truncated,
        }
    }
}

impl From<Field> for FormField {
    fn from(field: Field) -> Self {
        let Field {
            name,
            label,
            kind,
            min,
            max,
            pattern,
            max_length,
            values,
            default,
            help,
        } = field;
        FormField {
            name,
            label,
            kind: kind.to_owned(),
            min,
            max,
            pattern: pattern.map(str::to_owned),
            max_length,
            values,
            default,
            help,
        }
    }
}

fn phase(phase: Phase) -> ServicePhase {
    match phase {
        Phase::Installing(_) => ServicePhase::Installing,
        Phase::Installed => ServicePhase::Installed,
        Phase::Updating(_) => ServicePhase::Updating,
        Phase::Removing(_) => ServicePhase::Removing,
        Phase::Failed(_) => ServicePhase::Failed,
    }
}

impl From<SecretView> for ServiceSecret {
    fn from(view: SecretView) -> Self {
        let SecretView { field, is_set } = view;
        ServiceSecret {
            name: field.name.to_string(),
            label: field.label,
            help: field.help,
            optional: field.is_optional,
            generated: field.generate.is_some(),
            can_be_set: field.can_be_set,
            is_set,
        }
    }
}
