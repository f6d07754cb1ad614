//! `cellctl catalog`: remote catalogs.

use cell_proto::api::v1 as wire;
use cell_proto::api::v1::{
    AddRemoteCatalogRequest, ListRemoteCatalogsRequest, RefreshRemoteCatalogRequest,
    RemoveRemoteCatalogRequest,
};
use serde::Serialize;

use crate::cell::Cell;
use crate::cli::{Catalog, CatalogAdd};
use crate::failure::Failure;
use crate::output::Output;
use crate::{human, secret, view};

/// A remote catalog, as the REST API has it.
#[derive(Debug, Serialize)]
struct Remote {
    name: String,
    url: String,
    keys: Vec<String>,
    ca: Option<String>,
    connection_id: Option<String>,
    connection_name: Option<String>,
    serial: Option<u64>,
    issued_at: Option<String>,
    expires_at: Option<String>,
    expired: bool,
    services: u32,
    refreshed_at: Option<String>,
    error: Option<String>,
    refreshing: bool,
    fetched: u32,
    to_fetch: u32,
    next_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct Remotes {
    catalogs: Vec<Remote>,
}

#[derive(Debug, Serialize)]
struct Removed<'a> {
    removed: &'a str,
}

/// Carries out one of the commands.
pub(crate) async fn run(cell: &Cell, output: Output, command: Catalog) -> Result<(), Failure> {
    let mut client = cell.catalogs()?;
    match command {
        Catalog::List => {
            let list = Remotes {
                catalogs: all(cell).await?,
            };
            output.result(&list, || text(&list.catalogs))
        }
        Catalog::Show { name } => {
            let found = all(cell).await?.into_iter().find(|one| one.name == name);
            let absent = || Failure::Local(format!("there is no remote catalog named {name}"));
            let found = found.ok_or_else(absent)?;
            output.result(&found, || shown(&found))
        }
        Catalog::Add(add) => {
            let request = request(add)?;
            let answer = client.add_remote_catalog(request).await?.into_inner();
            let added = Remote::from(answer.catalog.unwrap_or_default());
            output.result(&added, || {
                format!(
                    "{0} is added and is being fetched: cellctl catalog refresh {0} says how that goes.",
                    added.name
                )
            })
        }
        Catalog::Refresh { name } => {
            let request = RefreshRemoteCatalogRequest { name };
            let answer = client.refresh_remote_catalog(request).await?.into_inner();
            let found = Remote::from(answer.catalog.unwrap_or_default());
            output.result(&found, || shown(&found))
        }
        Catalog::Remove { name } => {
            let request = RemoveRemoteCatalogRequest { name: name.clone() };
            client.remove_remote_catalog(request).await?;
            output.result(&Removed { removed: &name }, || format!("{name} is removed."))
        }
    }
}

async fn all(cell: &Cell) -> Result<Vec<Remote>, Failure> {
    let mut client = cell.catalogs()?;
    let answer = client.list_remote_catalogs(ListRemoteCatalogsRequest {}).await?;
    Ok(answer
        .into_inner()
        .catalogs
        .into_iter()
        .map(Remote::from)
        .collect())
}

fn request(add: CatalogAdd) -> Result<AddRemoteCatalogRequest, Failure> {
    let read = |path: &std::path::PathBuf| secret::whole_file(path).map(|text| text.to_string());
    Ok(AddRemoteCatalogRequest {
        keys: add.keys.iter().map(read).collect::<Result<_, _>>()?,
        ca: add.ca.as_ref().map(read).transpose()?.unwrap_or_default(),
        connection_id: add.via.unwrap_or_default(),
        name: add.name,
        url: add.url,
    })
}

fn text(all: &[Remote]) -> String {
    if all.is_empty() {
        return "There are no remote catalogs. Add one: cellctl catalog add NAME https://HOST/FOLDER/ --key cosign.pub"
            .to_owned();
    }
    let row = |one: &Remote| {
        let serial = one.serial.map(|serial| serial.to_string());
        vec![
            one.name.clone(),
            one.url.clone(),
            one.services.to_string(),
            serial.unwrap_or_else(|| "-".to_owned()),
            state(one),
        ]
    };
    human::table(&["NAME", "URL", "SERVICES", "SERIAL", ""], all.iter().map(row))
}

fn state(one: &Remote) -> String {
    match &one.error {
        _ if one.refreshing => format!("is being fetched ({} of {})", one.fetched, one.to_fetch),
        Some(_) => "the last look failed, see show".to_owned(),
        None if one.expired => "has expired".to_owned(),
        None if one.serial.is_none() => "not fetched yet".to_owned(),
        None => String::new(),
    }
}

fn shown(one: &Remote) -> String {
    let by = one.connection_name.as_ref().or(one.connection_id.as_ref());
    let by = by.map_or_else(
        || "the cell's own way".to_owned(),
        |name| format!("{name}, and no other way"),
    );
    let or_never = |at: &Option<String>| at.clone().unwrap_or_else(|| "never".to_owned());
    let mut rows = vec![
        ("Name", one.name.clone()),
        ("Url", one.url.clone()),
        ("Through", by),
        ("Services", one.services.to_string()),
        ("Fetched", or_never(&one.refreshed_at)),
    ];
    let serial = one.serial.map(|serial| serial.to_string());
    let optional = [
        ("Serial", serial),
        ("Made", one.issued_at.clone()),
        ("Ends", one.expires_at.clone()),
        ("State", Some(state(one))),
        ("Fault", one.error.clone()),
    ];
    for (name, text) in optional {
        rows.extend(text.filter(|text| !text.is_empty()).map(|text| (name, text)));
    }
    human::pairs(rows)
}

impl From<wire::RemoteCatalog> for Remote {
    fn from(told: wire::RemoteCatalog) -> Self {
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Remote {
            name: told.name,
            url: told.url,
            keys: told.public_keys,
            ca: some(told.ca),
            connection_id: some(told.connection_id),
            connection_name: some(told.connection_name),
            serial: Some(told.serial).filter(|serial| *serial > 0),
            issued_at: view::rfc3339(told.issued_unix_ms),
            expires_at: view::rfc3339(told.expires_unix_ms),
            expired: told.expired,
            services: told.services,
            refreshed_at: view::rfc3339(told.refreshed_unix_ms),
            error: some(told.error),
            refreshing: told.refreshing,
            fetched: told.fetched,
            to_fetch: told.to_fetch,
            next_at: view::rfc3339(told.next_unix_ms),
        }
    }
}
