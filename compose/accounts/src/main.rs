//! Serves the accounts of one service. See the library.

#![forbid(unsafe_code)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cell_accounts::http::{Served, Token, router};
use cell_accounts::setup;
use cell_accounts::store::{Places, Store};
use cell_accounts::users::Format;
use clap::{Parser, Subcommand};
use zeroize::Zeroizing;

#[derive(Parser)]
#[command(about = "Accounts of one service, over HTTP", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve. The token comes by the environment: ACCOUNTS_TOKEN, or a file named by ACCOUNTS_TOKEN_FILE.
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

fn token() -> anyhow::Result<Token> {
    let text = match (
        std::env::var("ACCOUNTS_TOKEN"),
        std::env::var_os("ACCOUNTS_TOKEN_FILE"),
    ) {
        (Ok(text), None) => Zeroizing::new(text),
        (Err(_), Some(path)) => {
            let text = Zeroizing::new(std::fs::read_to_string(path).context("read ACCOUNTS_TOKEN_FILE")?);
            Zeroizing::new(text.trim_end().to_owned())
        }
        _ => anyhow::bail!("set ACCOUNTS_TOKEN or ACCOUNTS_TOKEN_FILE, one of them"),
    };
    Token::new(text).context("the token has at least 32 characters and no space")
}

fn run(serve: Serve) -> anyhow::Result<()> {
    let served = Served {
        store: Arc::new(Store::open(Places {
            file: serve.file,
            format: serve.format,
            data: serve.data,
            make_folders: serve.make_folders,
        })?),
        token: token()?,
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
        axum::serve(listener, router(served))
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
