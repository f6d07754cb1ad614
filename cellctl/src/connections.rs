//! `cellctl connection`: exits.

use cell_proto::api::v1 as wire;
use cell_proto::api::v1::connection_service_client::ConnectionServiceClient;
use cell_proto::api::v1::{
    ConnectionImport, CreateConnectionRequest, DeleteConnectionRequest, ListConnectionsRequest,
    UpdateConnectionRequest,
};
use tonic::transport::Channel;
use zeroize::Zeroizing;

use crate::cell::Cell;
use crate::cli::{Connection, Import};
use crate::failure::Failure;
use crate::output::Output;
use crate::{careful, human, plan, secret, view};

/// Carries out one of the commands.
pub(crate) async fn run(cell: &Cell, output: Output, command: Connection) -> Result<(), Failure> {
    let mut client = cell.connections()?;
    match command {
        Connection::List => list(&mut client, output).await,
        Connection::Show { name } => {
            let connection = find(&mut client, &name).await?.into();
            output.result(&connection, || text(&connection))
        }
        Connection::Health { name } => {
            let found = find(&mut client, &name).await?;
            let status = view::Connection::from(found).status;
            output.result(&status, || {
                let seen = status.timestamp.as_ref().map(|at| format!(" ({at})"));
                format!(
                    "{}: {}{}; last proven: {}",
                    status.health,
                    status.detail,
                    seen.unwrap_or_default(),
                    proven(&status)
                )
            })
        }
        Connection::Add { name, kind, import } => {
            let request = CreateConnectionRequest {
                name,
                import: read(&kind, &import)?,
                r#type: kind,
            };
            let answer = client.create_connection(request).await?.into_inner();
            stored(output, answer.connection, &answer.notes)
        }
        Connection::Replace {
            name,
            import,
            dry_run,
            at_once,
        } => {
            let found = find(&mut client, &name).await?;
            let import = read(&found.r#type, &import)?;
            if dry_run {
                return planned(&mut client, output, found, import).await;
            }
            if !at_once {
                careful(cell, &found).await?;
            }
            change(&mut client, output, found, None, import).await
        }
        Connection::Rename { name, new_name } => {
            let found = find(&mut client, &name).await?;
            change(&mut client, output, found, Some(new_name), None).await
        }
        Connection::Remove { name } => {
            let id = find(&mut client, &name).await?.id;
            client.delete_connection(DeleteConnectionRequest { id }).await?;
            output.result(&view::RemovedConnection { removed: &name }, || {
                format!("{name} is removed.")
            })
        }
    }
}

async fn list(client: &mut ConnectionServiceClient<Channel>, output: Output) -> Result<(), Failure> {
    let list = view::ConnectionList {
        connections: all(client)
            .await?
            .into_iter()
            .map(view::Connection::from)
            .collect(),
    };
    output.result(&list, || {
        if list.connections.is_empty() {
            return "There are no connections yet. Add one: cellctl connection add NAME --type TYPE --from FILE"
                .to_owned();
        }
        let header = ["NAME", "TYPE", "TO", "MARK", "TABLE", "BY", "HEALTH", "LAST PROVEN"];
        human::table(&header, list.connections.iter().map(row))
    })
}

async fn all(client: &mut ConnectionServiceClient<Channel>) -> Result<Vec<wire::Connection>, Failure> {
    let answer = client.list_connections(ListConnectionsRequest {}).await?;
    Ok(answer.into_inner().connections)
}

/// The connection that a person means: names are unique, and ids are nothing to type.
async fn find(
    client: &mut ConnectionServiceClient<Channel>,
    name: &str,
) -> Result<wire::Connection, Failure> {
    let found = all(client).await?.into_iter().find(|one| one.name == name);
    found.ok_or_else(|| Failure::Local(format!("there is no connection named {name}")))
}

/// Such a change cannot wait, so who may cut off the way that they came by is asked to mean it.
async fn careful(cell: &Cell, found: &wire::Connection) -> Result<(), Failure> {
    let Some(own) = careful::own_device(cell).await? else {
        return Ok(());
    };
    if own.exit_connection_id != found.id && own.way_connection_id != found.id {
        return Ok(());
    }
    Err(Failure::Local(format!(
        "you are logged in from {}, which goes by {}: this cannot be taken back, since the vault keeps no secrets of before. \
         See what it would do with --dry-run, or say --at-once",
        own.name, found.name
    )))
}

/// Says what it would do, and what of the import is not used.
async fn planned(
    client: &mut ConnectionServiceClient<Channel>,
    output: Output,
    found: wire::Connection,
    import: Option<ConnectionImport>,
) -> Result<(), Failure> {
    let request = UpdateConnectionRequest {
        id: found.id,
        name: None,
        import,
        if_version: Some(found.version),
        validate_only: true,
    };
    let answer = client.update_connection(request).await?.into_inner();
    let shown = plan::show(output, answer.plan);
    for note in &answer.notes {
        output.note(note);
    }
    shown
}

async fn change(
    client: &mut ConnectionServiceClient<Channel>,
    output: Output,
    found: wire::Connection,
    name: Option<String>,
    import: Option<ConnectionImport>,
) -> Result<(), Failure> {
    let request = UpdateConnectionRequest {
        id: found.id,
        name,
        import,
        // Another may have its name by now.
        if_version: Some(found.version),
        validate_only: false,
    };
    let answer = client.update_connection(request).await?.into_inner();
    stored(output, answer.connection, &answer.notes)
}

fn stored(output: Output, connection: Option<wire::Connection>, notes: &[String]) -> Result<(), Failure> {
    let connection = view::Connection::from(connection.unwrap_or_default());
    let document = view::StoredConnection {
        connection: &connection,
        notes,
    };
    output.result(&document, || text(&connection))?;
    for note in notes {
        output.note(note);
    }
    Ok(())
}

/// What the options say of an import, with the contents of their files; nothing where there are none.
fn read(kind: &str, options: &Import) -> Result<Option<ConnectionImport>, Failure> {
    let Import {
        from,
        username,
        password_file,
        target,
        host_keys,
    } = options;
    let mut read = ConnectionImport {
        username: username.clone().unwrap_or_default(),
        target: target.clone().unwrap_or_default(),
        ..ConnectionImport::default()
    };
    let take = |text: Zeroizing<String>| text.as_str().to_owned();
    if let Some(path) = from {
        match kind {
            "proxy" => read.url = take(secret::from_file(path)?),
            "sshuttle" => read.private_key = take(secret::whole_file(path)?),
            // The cell says what is wrong with a file for a type that takes none.
            _ => read.file = take(secret::whole_file(path)?),
        }
    }
    if let Some(path) = password_file {
        read.password = take(secret::from_file(path)?);
    }
    if let Some(path) = host_keys {
        read.host_keys = take(secret::whole_file(path)?);
    }
    Ok(Some(read).filter(|read| *read != ConnectionImport::default()))
}

fn row(connection: &view::Connection) -> Vec<String> {
    vec![
        connection.name.clone(),
        connection.r#type.clone(),
        first_server(connection),
        connection.mark.clone(),
        connection.table.to_string(),
        by(connection),
        connection.status.health.clone(),
        proven(&connection.status),
    ]
}

/// When something last came back through it, as people say it.
fn proven(status: &view::ConnectionStatus) -> String {
    human::ago(status.proven_unix_ms, jiff::Timestamp::now().as_millisecond())
}

fn first_server(connection: &view::Connection) -> String {
    let servers = &connection.config.servers;
    match (servers.first(), servers.len()) {
        (None, _) => String::new(),
        (Some(server), 1) => place(server),
        (Some(server), n) => format!("{} and {} more", place(server), n - 1),
    }
}

fn place(server: &view::ConnectionServer) -> String {
    if server.host.contains(':') {
        format!("[{}]:{}", server.host, server.port)
    } else {
        format!("{}:{}", server.host, server.port)
    }
}

fn by(connection: &view::Connection) -> String {
    let port = connection.redirect_port.map(|port| format!("port {port}"));
    connection.iface.clone().or(port).unwrap_or_default()
}

fn text(connection: &view::Connection) -> String {
    let config = &connection.config;
    let servers = config
        .servers
        .iter()
        .map(|server| format!("{} {}", server.protocol, place(server)));
    let rows = [
        ("Name", connection.name.clone()),
        ("Type", connection.r#type.clone()),
        ("Servers", servers.collect::<Vec<_>>().join(", ")),
        ("User", config.username.clone().unwrap_or_default()),
        ("Addresses", config.addresses.join(" ")),
        ("Resolvers", config.resolvers.join(" ")),
        ("Server keys", config.host_public_keys.join(", ")),
        ("Mark", connection.mark.clone()),
        ("Table", connection.table.to_string()),
        ("By", by(connection)),
        ("Secrets", connection.vault_names.join(" ")),
        (
            "Health",
            format!("{}: {}", connection.status.health, connection.status.detail),
        ),
        ("Last proven", proven(&connection.status)),
        ("Id", connection.id.clone()),
    ];
    human::pairs(rows.into_iter().filter(|(_, value)| !value.is_empty()))
}
