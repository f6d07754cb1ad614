//! Services of the store: what the catalog offers, what becomes of one that is installed, where devices find it, and what
//! people read of it. What a service is made of is its manifest (`cell-manifest`); nothing here acts.

pub mod access;
pub mod accounts;
pub mod called;
pub mod catalog;
pub mod compose;
pub mod core_network;
pub mod entry;
pub mod exits;
pub mod form;
pub mod guard;
pub mod health;
pub mod images;
pub mod own;
pub mod phase;
pub mod plan;
pub mod probe;
pub mod remote;
pub mod secrets;
pub mod trial;

use std::collections::BTreeMap;

use cell_manifest::{Backend, Manifest, Name};

/// The network of the cell's own containers, at netd.
pub const CORE_NETWORK: &str = "cell";
/// Its bridge.
pub const CORE_BRIDGE: &str = "cellsvc0";
/// Names that no service has: the network of the cell's own containers and its bridge at the broker are called so, and paths of
/// the API.
pub const RESERVED: [&str; 3] = ["active", "cell", "network"];
/// Most entries of all services together; what netd takes (`services.entries_max` of netd.toml), less those of the cell itself.
pub const MOST_ENTRIES: usize = 4_000;
/// Most grants of services to named peers, all together: with what peers have of their own they fit one message to netd.
pub const MOST_GRANTS: usize = 150_000;
/// Most services that are installed at once, the cell's own among them.
pub const MOST: usize = 256;

/// The first labels of the names of a service of a manifest, each with what answers it. An instance has its name behind each.
pub fn labels<'a>(manifest: &'a Manifest, instance: &str) -> BTreeMap<String, &'a Backend> {
    let of_instance = |name: &Name| match instance {
        "" => name.to_string(),
        instance => format!("{name}-{instance}"),
    };
    let routing = manifest.routing.iter();
    routing
        .flat_map(|routing| {
            let main = (of_instance(&routing.subdomain), &routing.backend);
            let more = routing.extra.iter();
            std::iter::once(main).chain(more.map(move |(name, backend)| (of_instance(name), backend)))
        })
        .collect()
}
