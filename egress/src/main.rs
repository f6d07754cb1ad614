//! `cell-egress`: carries the redirected connections of peers through their exits.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use cell_egress::catalog::CatalogCeiling;
use cell_egress::config::Config;
use cell_egress::connect::Connector;
use cell_egress::dns::canary::{self, PROOFS_MAX};
use cell_egress::dns::listen::{self, Sockets};
use cell_egress::dns::marker::Marker;
use cell_egress::dns::relay::{Relay, WAITING_FOR_AUTHORITY_MAX, WAITING_MAX};
use cell_egress::dns::serve::{self, CONNECTIONS};
use cell_egress::engine::Engine;
use cell_egress::probe::PROBES_MAX;
use cell_egress::service;
use cell_egress::vault::{Cached, Vault};
use cell_egress_core::policy::Limits;
use cell_proto::ipc::{Listeners, policy};
use cell_sandbox::{Readiness, profiles};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Descriptors beside those of connections: listeners, callers, cell-api's connections, the runtime's own, and those of DNS.
const DESCRIPTORS_BESIDE: u64 =
    512 + (WAITING_MAX + WAITING_FOR_AUTHORITY_MAX + CONNECTIONS + PROOFS_MAX + PROBES_MAX) as u64;

/// Carries redirected connections through exits, for cell-api.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Policy file.
    #[arg(long, default_value = "/etc/cell/egress.toml")]
    config: PathBuf,
    /// Parse the policy file, print what is in force, and exit.
    #[arg(long)]
    check: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // The libraries would log what servers say, and names.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,russh=off,hickory_proto=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    if arguments.check {
        println!("{:#?}", load(&arguments.config)?);
        return Ok(());
    }
    let listeners = Listeners::take()?;
    let mut config = load(&arguments.config)?;
    config.rules.limits = raise_descriptors(config.rules.limits)?;
    // Without a ceiling for DNS nobody may be answered.
    let questions = match &config.dns {
        Some(_) => listen::listen_on(&config.rules.listen).context("the port for DNS cannot be bound")?,
        None => Sockets::default(),
    };
    let readiness = Readiness::connect()?;
    let report = profiles::egress(&config.vault_socket, config.mark_socket.as_deref()).enter()?;
    tracing::info!("{report}");
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(config, listeners, questions, readiness))
}

fn load(path: &Path) -> anyhow::Result<Config> {
    policy::read(path, |text| Config::parse(text, policy::uid_of))
}

/// Of each connection the peer's and the server's, and those beside.
fn wanted_descriptors(connections: u32) -> u64 {
    2 * u64::from(connections) + DESCRIPTORS_BESIDE
}

/// As many descriptors as the connections that are allowed need; where the process may not have them, as many connections as it has
/// descriptors for, so that those of DNS and of the calls are left whatever comes. Later nobody may raise them.
fn raise_descriptors(limits: Limits) -> anyhow::Result<Limits> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let affordable = hard.saturating_sub(DESCRIPTORS_BESIDE) / 2;
    let total = limits.total();
    let wanted = wanted_descriptors(total);
    let within = limits
        .within(affordable.try_into().unwrap_or(u32::MAX))
        .with_context(|| {
            format!(
                "limits.total = {total} needs {wanted} descriptors, and the process may have {hard}: raise LimitNOFILE="
            )
        })?;
    if within != limits {
        let carried = within.total();
        tracing::warn!(
            total,
            carried,
            wanted,
            hard,
            "fewer connections than limits.total says are carried: raise LimitNOFILE="
        );
    }
    let wanted = wanted_descriptors(within.total());
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)?;
    }
    Ok(within)
}

async fn run(
    config: Config,
    mut listeners: Listeners,
    questions: Sockets,
    readiness: Readiness,
) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let secrets = Cached::new(Vault::new(config.vault_socket));
    let engine = Arc::new(Engine::new(config.rules, Box::new(secrets)));
    let relay = Arc::new(Relay::new(
        Arc::clone(&engine),
        config.mark_socket.map(Marker::new),
    ));
    let answering = serve::serve(Arc::clone(&relay), questions);
    let proving = canary::prove(Arc::clone(&relay));
    let authorities = config.dns.as_ref().map(|dns| dns.authorities.clone());
    let authorities = authorities.unwrap_or_default();
    let calls = cell_proto::ipc::serve(
        listeners.unix("api")?,
        config.api,
        service::routes(
            Arc::clone(&engine),
            config.dns.map(|ceiling| (relay, ceiling)),
            Connector::new(config.services.clone(), authorities),
            CatalogCeiling {
                ports: config.catalog_ports,
                reach: engine.rules().reach.clone(),
                services: config.services,
                listen: engine.rules().listen.clone(),
            },
        ),
        std::future::pending(),
    );
    readiness.ready()?;
    tokio::select! {
        served = calls => served.map_err(Into::into),
        ended = answering => ended.map_err(Into::into),
        () = proving => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// The value of a `key = 1` or `key=1`.
    fn number(text: &str, key: &str) -> u64 {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        let digits = line[key.len()..].trim_start_matches([' ', '=']);
        let end = digits.find(|letter: char| !letter.is_ascii_digit());
        digits[..end.unwrap_or(digits.len())].parse().unwrap()
    }

    #[test]
    fn the_unit_has_the_descriptors_that_the_shipped_policy_needs() {
        let total = number(include_str!("../../systemd/etc/egress.toml"), "total");
        let unit = include_str!("../../systemd/cell-egress.service");
        assert!(wanted_descriptors(total.try_into().unwrap()) <= number(unit, "LimitNOFILE"));
    }
}
