//! What the original's first version kept of exits, read and turned into connections: one exit for each type, with fixed
//! marks and tables, peers that name a type, secrets in the file (ADR 0020). Bytes become a bounded model, the model and
//! what the cell has become a plan. Nothing that the file says is dropped in silence: it is carried, it is a note, or it
//! is a fault. No value of the file but names of peers and connections is ever in a note, a fault or a plan's words: any
//! could be a secret.

mod exit;
mod file;
mod findings;
mod node;
mod peers;
mod plan;
mod sources;
mod vault;
mod wireguard;
mod words;

pub use file::{CONFIG_MAX, File, First, PEERS_MAX, SECRETS_MAX, Texts, read};
pub use plan::{Bind, Carried, Cell, Keep, Make, Plan, Target, plan};

#[cfg(test)]
mod tests;
