//! `cellctl store`: what can be installed.

use cell_proto::api::v1::{CatalogService, GetCatalogRequest};
use serde::Serialize;

use crate::cell::Cell;
use crate::cli::Store;
use crate::failure::Failure;
use crate::human;
use crate::output::Output;

/// A service of the catalog, as the REST API has it.
#[derive(Debug, Serialize)]
struct Offered {
    id: String,
    title: String,
    description: String,
    version: String,
    digest: String,
    purpose: Option<String>,
    instanceable: bool,
    requires: Vec<String>,
    form: Vec<Field>,
    installed: Vec<String>,
    faults: Vec<String>,
    origin: Option<String>,
    deployable: Option<bool>,
    deployable_fix: Option<String>,
}

#[derive(Debug, Serialize)]
struct Field {
    name: String,
    label: String,
    help: String,
    default: Option<String>,
}

#[derive(Debug, Serialize)]
struct Catalog {
    services: Vec<Offered>,
    faults: Vec<String>,
}

/// Carries out one of the commands.
pub(crate) async fn run(cell: &Cell, output: Output, command: Store) -> Result<(), Failure> {
    let told = cell
        .store()?
        .get_catalog(GetCatalogRequest {})
        .await?
        .into_inner();
    let catalog = Catalog {
        services: told.services.into_iter().map(Offered::from).collect(),
        faults: told.faults,
    };
    match command {
        Store::List => output.result(&catalog, || text(&catalog)),
        Store::Show { id } => {
            let found = catalog.services.iter().find(|one| one.id == id);
            let ids: Vec<&str> = catalog.services.iter().map(|one| one.id.as_str()).collect();
            let absent = || Failure::Local(format!("the catalog has no {id}; it has: {}", ids.join(", ")));
            let found = found.ok_or_else(absent)?;
            output.result(found, || shown(found))
        }
    }
}

fn text(catalog: &Catalog) -> String {
    let faults: String = catalog
        .faults
        .iter()
        .map(|fault| format!("Not usable: {fault}\n"))
        .collect();
    if catalog.services.is_empty() {
        return format!("The catalog is empty.\n{faults}");
    }
    let row = |one: &Offered| {
        let state = match (one.faults.is_empty(), one.installed.is_empty()) {
            (false, _) => "cannot be used, see show".to_owned(),
            (true, true) if one.deployable == Some(false) => {
                "the broker would refuse it, see show".to_owned()
            }
            (true, true) => String::new(),
            (true, false) => format!("installed: {}", one.installed.join(", ")),
        };
        vec![one.id.clone(), one.version.clone(), one.title.clone(), state]
    };
    human::table(&["ID", "VERSION", "TITLE", ""], catalog.services.iter().map(row)) + &faults
}

fn shown(one: &Offered) -> String {
    let mut rows = vec![
        ("Id", one.id.clone()),
        ("Title", one.title.clone()),
        ("Version", one.version.clone()),
        ("Digest", one.digest.clone()),
    ];
    for (name, text) in [
        ("Description", one.description.clone()),
        ("Needs", one.requires.join(", ")),
        ("Installed", one.installed.join(", ")),
        ("Catalog", one.origin.clone().unwrap_or_default()),
        ("Faults", one.faults.join("; ")),
        ("To do", one.deployable_fix.clone().unwrap_or_default()),
    ] {
        if !text.is_empty() {
            rows.push((name, text));
        }
    }
    let mut text = human::pairs(rows);
    if one.instanceable {
        text += "There can be several: name each with --instance.\n";
    }
    if !one.form.is_empty() {
        let row = |field: &Field| {
            let default = field
                .default
                .clone()
                .unwrap_or_else(|| "has to be set".to_owned());
            vec![
                field.name.clone(),
                field.label.clone(),
                field.help.clone(),
                default,
            ]
        };
        text += "\n";
        text += &human::table(&["FIELD", "", "TAKES", "DEFAULT"], one.form.iter().map(row));
    }
    text
}

impl From<CatalogService> for Offered {
    fn from(told: CatalogService) -> Self {
        Offered {
            id: told.id,
            title: told.title,
            description: told.description,
            version: told.version,
            digest: told.digest,
            purpose: Some(told.purpose).filter(|purpose| !purpose.is_empty()),
            instanceable: told.instanceable,
            requires: told.requires,
            form: told
                .form
                .into_iter()
                .map(|field| Field {
                    name: field.name,
                    label: field.label,
                    help: field.help,
                    default: field.default,
                })
                .collect(),
            installed: told.installed,
            faults: told.faults,
            origin: Some(told.origin).filter(|origin| !origin.is_empty()),
            deployable: told.deployable,
            deployable_fix: Some(told.deployable_fix).filter(|fix| !fix.is_empty()),
        }
    }
}
