//! What an installation would do, in words.

use cell_manifest::{Manifest, Purpose, Source};

use super::access::Access;
use super::{entry, labels, own};
use crate::connection::kind::Kind;

/// What is known beside the manifest.
#[derive(Debug, Clone)]
pub struct Around<'a> {
    /// What the service is called.
    pub service: &'a str,
    /// The instance's name, or nothing.
    pub instance: &'a str,
    /// Its network, or the one that it would get; none: it is one of the cell's own.
    pub subnet: Option<String>,
    /// Its address in the VPN, or the one that it would get.
    pub address: Option<String>,
    /// The cell's domain.
    pub domain: &'a str,
    /// Who may reach it.
    pub access: &'a Access,
    /// What carries its containers to the internet; none: it is one of the cell's own.
    pub way: Option<&'a Way>,
}

/// What carries containers to the internet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Nothing.
    Nowhere {
        /// The type of connection that its manifest asks for, where the cell does not have exactly one of it.
        lacks: Option<Kind>,
    },
    /// The cell's own way.
    Direct,
    /// The connection of this name.
    Exit(String),
}

/// The sentences, in the order in which it happens.
pub fn install(manifest: &Manifest, around: &Around<'_>) -> Vec<String> {
    let mut said = Vec::new();
    let count = manifest.containers.len();
    let memory: u64 = manifest
        .containers
        .iter()
        .map(|one| u64::from(one.limits.memory_mib))
        .sum();
    said.push(format!(
        "{} {} is installed as {}: {count} container{}, at most {memory} MiB of memory.",
        manifest.title,
        manifest.version,
        around.service,
        plural(count)
    ));
    match (manifest.purpose, &around.subnet) {
        (Purpose::Core, _) => {
            said.push("It is one of the cell's own, on the cell's network.".to_owned());
            if own::is_own(manifest) {
                said.push("It is part of the cell: the cell installs it by itself, and it stays.".to_owned());
            }
        }
        (Purpose::Store, subnet) => {
            let subnet = subnet.as_deref().unwrap_or("the lowest that is free");
            let (way, more) = carried(manifest, around.way);
            said.push(format!(
                "It gets a network of its own ({subnet}) {way}; other services do not reach it."
            ));
            said.extend(more);
        }
    }
    let images: Vec<String> = manifest
        .containers
        .iter()
        .filter_map(|one| one.image.registry().map(ToString::to_string))
        .collect();
    if !images.is_empty() {
        said.push(format!("Images are fetched by digest: {}.", images.join(", ")));
    }
    let volumes = manifest
        .containers
        .iter()
        .flat_map(|one| &one.mounts)
        .filter_map(|mount| match &mount.source {
            Source::Volume(name) => Some(name.as_str()),
            Source::Bind { .. } | Source::Tmpfs { .. } => None,
        });
    let volumes: std::collections::BTreeSet<&str> = volumes.collect();
    if !volumes.is_empty() {
        let volumes: Vec<&str> = volumes.into_iter().collect();
        said.push(format!("Its data is kept in volumes: {}.", volumes.join(", ")));
    }
    said.extend(reached(manifest, around));
    said
}

fn carried(manifest: &Manifest, way: Option<&Way>) -> (String, Option<String>) {
    let none = || "without a way to the internet".to_owned();
    match way {
        Some(Way::Direct) => ("with the cell's own way to the internet".to_owned(), None),
        Some(Way::Exit(name)) => (format!("with the way to the internet through {name} alone"), None),
        Some(Way::Nowhere { lacks: Some(kind) }) => {
            let more = format!(
                "Its manifest asks for a connection of type {kind}, and there is not exactly one: choose what carries it."
            );
            (none(), Some(more))
        }
        Some(Way::Nowhere { lacks: None }) | None if manifest.has_way_out() => (none(), None),
        Some(Way::Nowhere { lacks: None }) | None => (
            "that has no way to the internet, and can be given none".to_owned(),
            None,
        ),
    }
}

fn reached(manifest: &Manifest, around: &Around<'_>) -> Vec<String> {
    let Some(address) = &around.address else {
        return Vec::new();
    };
    let mut said = Vec::new();
    let names: Vec<String> = labels(manifest, around.instance)
        .keys()
        .map(|label| format!("{label}.{}", around.domain))
        .collect();
    if !names.is_empty() {
        said.push(format!(
            "Devices find it at {} ({address}), by HTTPS.",
            names.join(", ")
        ));
    }
    let ports: Vec<String> = entry::ports(manifest)
        .keys()
        .map(|(protocol, port)| format!("{} {port}", protocol.as_str()))
        .collect();
    if !ports.is_empty() {
        said.push(format!("Devices find it at {address}, {}.", ports.join(", ")));
    }
    let who: Vec<&str> = around.access.peers().collect();
    said.push(match (around.access.is_everyone(), who.is_empty()) {
        (true, _) => "Every device may reach it.".to_owned(),
        (false, true) => "No device may reach it until one is named.".to_owned(),
        (false, false) => format!("These devices may reach it: {}.", who.join(", ")),
    });
    said
}

/// Whether anything of a manifest is fetched.
pub fn fetches(manifest: &Manifest) -> bool {
    manifest
        .containers
        .iter()
        .any(|one| one.image.registry().is_some())
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
