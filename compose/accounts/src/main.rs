//! Serves the accounts of one service. See the library.

#![forbid(unsafe_code)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cell_accounts::caller;
use cell_accounts::http::{Served, router};
use cell_accounts::setup;
use cell_accounts::store::{Places, Store};
use cell_accounts::users::Format;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Accounts of one service, over HTTP", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve, to the machine alone: whoever has the first address of a network of this container.
    Serve(Serve),
    /// Ask a server on this machine's loopback whether it works; for health checks.
    Check {
        #[arg(long, default_value_t = 8090)]
        port: u16,
    },
}

#[derive(clap::Args)]
struct Serve {
    /// Where to listen, on all addresses of the container.
    #[arg(long, default_value_t = 8090)]
    port: u16,
    /// The file of users.
    #[arg(long, default_value = "/accounts/users")]
    file: PathBuf,
    /// What reads it.
    #[arg(long, value_enum)]
    format: Format,
    /// A folder in which each user's folder lies; removed with the account. Repeatable.
    #[arg(long)]
    data: Vec<PathBuf>,
    /// Make a user's folder with the account.
    #[arg(long)]
    make_folders: bool,
    /// Where the service reads its certificate and key.
    #[arg(long)]
    certificate: Option<PathBuf>,
    /// Tell programs for mail of this domain how to set themselves up, on the port after --port.
    #[arg(long)]
    mail_domain: Option<setup::Domain>,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Serve(serve) => run(serve),
        Command::Check { port } => check(port),
    }
}

fn run(serve: Serve) -> anyhow::Result<()> {
    let served = Served {
        store: Arc::new(Store::open(Places {
            file: serve.file,
            format: serve.format,
            data: serve.data,
            make_folders: serve.make_folders,
        })?),
        interfaces: Arc::new(caller::interfaces),
        certificate: serve.certificate.map(Arc::new),
    };
    // One thread answers: what blocks is done by a few others.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, serve.port)).await?;
        if let Some(domain) = serve.mail_domain {
            let listener =
                tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, serve.port.saturating_add(1))).await?;
            tokio::spawn(async move { axum::serve(listener, setup::router(&domain)).await });
        }
        let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let service = router(served).into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service)
            .with_graceful_shutdown(async move {
                end.recv().await;
            })
            .await
    })?;
    Ok(())
}

fn check(port: u16) -> anyhow::Result<()> {
    let limit = Duration::from_secs(3);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    anyhow::ensure!(
        status.ends_with(b" 200"),
        "it answers {}",
        String::from_utf8_lossy(&status)
    );
    Ok(())
}
