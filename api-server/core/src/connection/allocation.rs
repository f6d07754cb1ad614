//! What a connection is given: a mark, a routing table, and an interface's name or a port. Chosen once, stored, and never
//! given to two: the lowest number that is free.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use super::id::ConnectionId;
use super::kind::{Carriage, Kind};

/// Marks of connections (the 12 bits of a packet's mark that are theirs).
pub const MARKS: RangeInclusive<u32> = 0x1000..=0x1fff;
/// Between two marks; what is between them is for marks derived from one.
pub const MARK_STEP: u32 = 0x10;
/// Routing tables of connections: as many as there are marks.
pub const TABLES: RangeInclusive<u32> = 1000..=1255;
/// Ports of `cell-egress`.
pub const REDIRECT_PORTS: RangeInclusive<u16> = 9100..=9199;
/// Digits of an id that make an interface's name. With the longest prefix it has 14 characters; the kernel takes 15
/// (IFNAMSIZ, include/uapi/linux/if.h).
const SUFFIX: usize = 8;

/// What one connection has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// Its packets' mark.
    pub mark: u32,
    /// Its routing table.
    pub table: u32,
    /// How traffic gets to it.
    pub device: Device,
}

/// How traffic gets to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// By this interface.
    Interface(String),
    /// By this port.
    RedirectPort(u16),
    /// By the link to another cell.
    Link,
}

/// What has run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// Of the marks.
    #[error("all 256 marks for connections are in use: delete a connection first")]
    Marks,
    /// Of the tables.
    #[error("all 256 routing tables for connections are in use: delete a connection first")]
    Tables,
    /// Of the ports.
    #[error("all 100 ports for tor, sshuttle and proxy connections are in use: delete one of these first")]
    RedirectPorts,
    /// Every name that the id could give is another's.
    #[error("no name for the connection's interface is free: try again")]
    Interfaces,
}

/// What two connections both claim, or what lies outside the pools: a stored state that must not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// Two have the same.
    #[error("two connections have {0}")]
    Twice(String),
    /// Not of the pools, or not of the connection's type.
    #[error("a connection has {0}, which is none of its type's")]
    Foreign(String),
}

/// What is in use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pools {
    marks: BTreeSet<u32>,
    tables: BTreeSet<u32>,
    ports: BTreeSet<u16>,
    interfaces: BTreeSet<String>,
}

impl Pools {
    /// Reads what stored connections have.
    ///
    /// # Errors
    /// [`Unsound`] at the first that collides, or that no allocation could have given.
    pub fn of<'a>(stored: impl IntoIterator<Item = (Kind, &'a Allocation)>) -> Result<Self, Unsound> {
        let mut pools = Pools::default();
        for (kind, allocation) in stored {
            pools.claim(kind, allocation)?;
        }
        Ok(pools)
    }

    /// Gives a connection what its type needs, and counts it as in use.
    ///
    /// # Errors
    /// [`Exhausted`]; nothing is in use that was not before, then.
    pub fn allocate(&mut self, id: &ConnectionId, kind: Kind) -> Result<Allocation, Exhausted> {
        let mark = lowest(MARKS.step_by(MARK_STEP as usize), &self.marks).ok_or(Exhausted::Marks)?;
        let table = lowest(TABLES, &self.tables).ok_or(Exhausted::Tables)?;
        let device = match kind.carriage() {
            Carriage::Interface { prefix } => {
                let name = names(id, prefix).find(|name| !self.interfaces.contains(name));
                Device::Interface(name.ok_or(Exhausted::Interfaces)?)
            }
            Carriage::Redirect => {
                Device::RedirectPort(lowest(REDIRECT_PORTS, &self.ports).ok_or(Exhausted::RedirectPorts)?)
            }
            Carriage::Link => Device::Link,
        };
        self.marks.insert(mark);
        self.tables.insert(table);
        match &device {
            Device::Interface(name) => _ = self.interfaces.insert(name.clone()),
            Device::RedirectPort(port) => _ = self.ports.insert(*port),
            Device::Link => {}
        }
        Ok(Allocation { mark, table, device })
    }

    fn claim(&mut self, kind: Kind, allocation: &Allocation) -> Result<(), Unsound> {
        let Allocation { mark, table, device } = allocation;
        let of_pool = MARKS.contains(mark) && mark.is_multiple_of(MARK_STEP);
        claim(&mut self.marks, *mark, of_pool, format_args!("mark {mark:#x}"))?;
        claim(
            &mut self.tables,
            *table,
            TABLES.contains(table),
            format_args!("routing table {table}"),
        )?;
        let carriage = kind.carriage();
        match device {
            Device::Interface(name) => {
                let of_pool = matches!(carriage, Carriage::Interface { prefix } if is_name(name, prefix));
                claim(
                    &mut self.interfaces,
                    name.clone(),
                    of_pool,
                    format_args!("interface {}", name.escape_default()),
                )
            }
            Device::RedirectPort(port) => {
                let of_pool = carriage == Carriage::Redirect && REDIRECT_PORTS.contains(port);
                claim(&mut self.ports, *port, of_pool, format_args!("port {port}"))
            }
            Device::Link if carriage == Carriage::Link => Ok(()),
            Device::Link => Err(Unsound::Foreign("no interface and no port".to_owned())),
        }
    }
}

fn lowest<T: Ord>(mut pool: impl Iterator<Item = T>, used: &BTreeSet<T>) -> Option<T> {
    pool.find(|candidate| !used.contains(candidate))
}

fn claim<T: Ord>(
    used: &mut BTreeSet<T>,
    value: T,
    of_pool: bool,
    what: fmt::Arguments<'_>,
) -> Result<(), Unsound> {
    if !of_pool {
        Err(Unsound::Foreign(what.to_string()))
    } else if !used.insert(value) {
        Err(Unsound::Twice(what.to_string()))
    } else {
        Ok(())
    }
}

/// The names that an id can give its interface: each run of eight of its digits, the first first.
fn names(id: &ConnectionId, prefix: &'static str) -> impl Iterator<Item = String> {
    let digits = id.digits();
    (0..=digits.len() - SUFFIX).map(move |at| format!("{prefix}{}", &digits[at..at + SUFFIX]))
}

fn is_name(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|suffix| {
        suffix.len() == SUFFIX && suffix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests;
