//! Our table, and one rule in Docker's world, over nfnetlink: no program is run and no C library is linked.

mod batch;
pub mod blockers;
mod compare;
mod decode;
mod element;
mod encode;
mod expression;
pub mod flows;
pub mod passage;
mod read;
mod socket;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use cell_netd_core::model::TableName;
use cell_netd_core::observed::Policy;
use cell_netd_core::policy::{Chain, Counter, Element, ElementDelta, Elements, Ruleset, SetId};

pub use socket::{NftError, NftSocket};

/// What the kernel says of a table of our name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// There is none.
    Absent,
    /// Ours, and nobody without our socket can change it (NFT_TABLE_F_OWNER).
    Owned,
    /// Ours, and not protected: made by a netd that is gone, or the kernel does not know ownership.
    Unowned,
    /// Ours, but somebody switched it off (NFT_TABLE_F_DORMANT): it judges nothing.
    Dormant,
    /// Somebody else's.
    Foreign,
    /// Ours, in tables of legacy iptables, which have no owners.
    Shared,
}

impl Ownership {
    /// Whether packets meet the table, as far as its flags tell.
    pub fn is_in_force(self) -> bool {
        match self {
            Ownership::Owned | Ownership::Unowned | Ownership::Shared => true,
            Ownership::Absent | Ownership::Dormant | Ownership::Foreign => false,
        }
    }
}

/// Whether the kernel is asked to keep others from the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// Where it can (Linux 6.9).
    IfKnown,
    /// Never, as on older kernels.
    Never,
}

/// Packets and bytes of one named counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drops {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The table, through one socket: the kernel ties ownership to it.
#[derive(Debug)]
pub struct Nft {
    socket: NftSocket,
    table: TableName,
    /// Whether the kernel takes OWNER|PERSIST (Linux 6.9); found out at the first replacement.
    owner_flags: bool,
}

impl Nft {
    /// Opens the socket.
    ///
    /// # Errors
    /// Of socket(2); without CAP_NET_ADMIN the later calls fail.
    pub fn open(table: TableName, owners: Owners) -> io::Result<Self> {
        Ok(Nft::with(NftSocket::open()?, table, owners))
    }

    /// Through this socket.
    pub fn with(socket: NftSocket, table: TableName, owners: Owners) -> Self {
        Nft {
            socket,
            table,
            owner_flags: owners == Owners::IfKnown,
        }
    }

    /// Whose the table is.
    pub fn ownership(&mut self) -> Result<Ownership, NftError> {
        let Some(table) = self.socket.table(&self.table)? else {
            return Ok(Ownership::Absent);
        };
        Ok(decode::ownership(&table, self.socket.port()))
    }

    /// Counts up with every transaction of anybody: the same number, the same rules.
    pub fn generation(&mut self) -> Result<u32, NftError> {
        self.socket.generation()
    }

    /// The table as it is, held against a wanted one; none if there is none.
    pub fn observe(&mut self, wanted: Option<&Ruleset>) -> Result<Option<Policy>, NftError> {
        let ownership = self.ownership()?;
        if ownership == Ownership::Absent {
            return Ok(None);
        }
        let mut sound = wanted.is_some() && ownership != Ownership::Dormant;
        let mut elements = Elements::new();
        let kinds = self.socket.sets(&self.table)?;
        for set in SetId::ALL {
            if !kinds.iter().any(|message| decode::is_set(message, set)) {
                sound = false;
                continue;
            }
            let keys = self.socket.elements(&self.table, set.name())?;
            match decode::elements(set, keys) {
                Some(found) if found.is_empty() => {}
                Some(found) => drop(elements.insert(set, found)),
                None => sound = false,
            }
        }
        if let Some(wanted) = wanted {
            sound &= kinds.len() == SetId::ALL.len();
            let chains = self.socket.chains(&self.table)?;
            let rules = self.socket.rules(&self.table)?;
            sound &= compare::chains_match(&wanted.chains, &chains)
                && compare::rules_match(&wanted.chains, &rules);
            sound &= self.drops()?.len() == Counter::ALL.len();
        }
        Ok(Some(Policy {
            skeleton_matches: sound,
            elements,
        }))
    }

    /// Replaces the whole table in one transaction.
    pub fn replace(&mut self, ruleset: &Ruleset) -> Result<(), NftError> {
        if self.owner_flags {
            match self.socket.commit(encode::replace(ruleset, true)) {
                Err(refusal) if is_refusal_of_flags(&refusal) => self.owner_flags = false,
                outcome => return outcome,
            }
        }
        self.socket.commit(encode::replace(ruleset, false))
    }

    /// Makes a table of an earlier netd our own, without touching what is in it.
    pub fn adopt(&mut self) -> Result<(), NftError> {
        let ownership = self.ownership()?;
        if self.owner_flags && matches!(ownership, Ownership::Unowned | Ownership::Dormant) {
            match self.socket.commit(encode::adopt(&self.table)) {
                // Then it stays without an owner, as after a first start there, and the drift watch holds it.
                Err(refusal) if is_refusal_of_flags(&refusal) => self.owner_flags = false,
                outcome => return outcome,
            }
        }
        if ownership == Ownership::Dormant {
            self.socket.commit(encode::wake(&self.table))?;
        }
        Ok(())
    }

    /// Whether there is a table of a netd, this or an earlier one, that judges packets: of that, what can be told without
    /// the spec that it was made for.
    pub fn guards(&mut self, skeleton: &[Chain]) -> Result<bool, NftError> {
        if !self.ownership()?.is_in_force() {
            return Ok(false);
        }
        let chains = self.socket.chains(&self.table)?;
        let with_rules = self.socket.chains_with_rules(&self.table)?;
        let has_rules =
            |chain: &Chain| !chain.name.always_has_rules() || with_rules.contains(chain.name.as_str());
        Ok(compare::chains_match(skeleton, &chains) && skeleton.iter().all(has_rules))
    }

    /// Changes elements in one transaction.
    pub fn update(&mut self, delta: &ElementDelta) -> Result<(), NftError> {
        self.socket.commit(encode::update(&self.table, delta))
    }

    /// Takes the table away.
    pub fn remove(&mut self) -> Result<(), NftError> {
        self.socket.commit(encode::remove(&self.table))
    }

    /// Reads back exactly the elements that a change touched: those added must be there, those removed must not.
    pub fn verify(&mut self, delta: &ElementDelta) -> Result<bool, NftError> {
        for (elements, wanted) in [(&delta.added, true), (&delta.removed, false)] {
            for (set, elements) in elements {
                if !self.all_present(*set, elements, wanted)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn all_present(
        &mut self,
        set: SetId,
        elements: &BTreeSet<Element>,
        wanted: bool,
    ) -> Result<bool, NftError> {
        for element in elements {
            if self.socket.has_element(&self.table, set, *element)? != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The named counters.
    pub fn drops(&mut self) -> Result<BTreeMap<Counter, Drops>, NftError> {
        Ok(decode::counters(&self.socket.objects(&self.table)?))
    }

    /// The socket, for the rule in Docker's world.
    pub fn socket(&mut self) -> &mut NftSocket {
        &mut self.socket
    }
}

/// Kernels before 6.9 refuse PERSIST at the first operation, before anything is done.
fn is_refusal_of_flags(error: &NftError) -> bool {
    matches!(
        error,
        NftError::Refused { operation, errno: libc::EOPNOTSUPP | libc::EINVAL } if *operation <= 1
    )
}
