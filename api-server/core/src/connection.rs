//! Connections: the exits that a peer's traffic may take, what each is given of marks, tables, interfaces and ports, and
//! what its state means for a packet.

pub mod allocation;
pub mod choice;
pub mod config;
pub mod driven;
pub mod health;
pub mod id;
pub mod import;
pub mod input;
pub mod judge;
pub mod kind;
pub mod moves;
pub mod names;
pub mod reference;
pub mod relays;
pub mod steady;
