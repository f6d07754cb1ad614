//! The policy on a host with legacy iptables: cell-iptables runs the programs, for netd starts none.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::time::Duration;

use cell_netd_core::model::{Family, Mark};
use cell_netd_core::observed::Policy;
use cell_netd_core::policy::iptables::{
    self, InvalidSave, Saved, SavedTable, Stage, Unsupported, Way, decode, encode, is_in_force, judges,
};
use cell_netd_core::policy::{Chain, Counter, ElementDelta, Elements, Ruleset};
use cell_proto::iptables::v1;
use cell_proto::iptables::v1::restore_ruleset_request::Text;
use cell_proto::iptables::v1::ruleset_service_client::RulesetServiceClient;
use cell_proto::{fault, ipc};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::nft::{Drops, Ownership};

/// Largest answer, bytes: all sets of 20,000 peers.
const ANSWER_MAX: usize = 64 << 20;
/// How long a text may take: the program waits five seconds for the lock of others.
const RESTORE: Duration = Duration::from_secs(25);
/// How long a look may take.
const SAVE: Duration = Duration::from_secs(10);

/// What legacy iptables, or the process that speaks to it, would not do.
#[derive(Debug, thiserror::Error)]
pub enum LegacyError {
    /// No answer.
    #[error("cell-iptables does not answer: see to it that it runs (cell-iptables.socket)")]
    Away,
    /// It refused, or a program that it ran did.
    #[error("cell-iptables: {reason}: {message}")]
    Refused {
        /// Its stable reason.
        reason: String,
        /// Its words.
        message: String,
    },
    /// The policy cannot be said in iptables' words.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// What is read back is not understood.
    #[error(transparent)]
    Save(#[from] InvalidSave),
    /// Elements were to be changed, and no policy was seen to be in force.
    #[error("there is no policy in force that could be changed")]
    NoPolicy,
}

/// iptables, ip6tables and ipset.
#[derive(Debug)]
pub struct Legacy {
    client: RulesetServiceClient<Channel>,
    /// What was last seen, or put, in force; by it single elements are changed.
    standing: Option<Ruleset>,
}

impl Legacy {
    /// Connects when it is first wanted. Needs a tokio runtime.
    pub fn new(socket: PathBuf) -> Self {
        Legacy {
            client: RulesetServiceClient::new(ipc::connect(socket)).max_decoding_message_size(ANSWER_MAX),
            standing: None,
        }
    }

    async fn save(&mut self, headers_only: bool) -> Result<(Saved, Vec<u64>), LegacyError> {
        let request = v1::SaveRulesetRequest { headers_only };
        let answer = tokio::time::timeout(SAVE, self.client.save_ruleset(request));
        let saved = answer.await.map_err(|_| LegacyError::Away)?.map_err(refused)?;
        let v1::SaveRulesetResponse {
            rules_v4,
            rules_v6,
            sets,
            entries,
        } = saved.into_inner();
        let saved = Saved {
            v4: iptables::parse_rules(&rules_v4)?,
            v6: iptables::parse_rules(&rules_v6)?,
            sets: iptables::parse_sets(&sets)?,
        };
        Ok((saved, entries))
    }

    async fn carry_out(&mut self, stages: Vec<Stage>) -> Result<(), LegacyError> {
        for stage in stages {
            let text = match stage {
                Stage::Sets(text) => Text::Sets(text),
                Stage::Rules(Family::V4, text) => Text::RulesV4(text),
                Stage::Rules(Family::V6, text) => Text::RulesV6(text),
            };
            let request = v1::RestoreRulesetRequest { text: Some(text) };
            let answer = tokio::time::timeout(RESTORE, self.client.restore_ruleset(request));
            answer.await.map_err(|_| LegacyError::Away)?.map_err(refused)?;
        }
        Ok(())
    }

    /// The chains and sets as they are, held against a wanted policy; none if there is none of ours.
    pub async fn observe(&mut self, wanted: Option<&Ruleset>) -> Result<Option<Policy>, LegacyError> {
        let (saved, _) = self.save(false).await?;
        self.standing = None;
        if !is_any(&saved) {
            return Ok(None);
        }
        let unsound = Policy {
            skeleton_matches: false,
            elements: Elements::new(),
        };
        let Some(wanted) = wanted else {
            return Ok(Some(unsound));
        };
        let mask = iptables::mask(wanted)?;
        let Some(elements) = decode(&saved.members(), mask) else {
            return Ok(Some(unsound));
        };
        let skeleton_matches = is_in_force(&saved, wanted, &elements)?;
        if skeleton_matches {
            self.standing = Some(Ruleset {
                elements: elements.clone(),
                ..wanted.clone()
            });
        }
        Ok(Some(Policy {
            skeleton_matches,
            elements,
        }))
    }

    /// Leads from whatever there is to the policy.
    pub async fn replace(&mut self, ruleset: Ruleset) -> Result<(), LegacyError> {
        self.standing = None;
        let (saved, _) = self.save(false).await?;
        self.carry_out(iptables::replace(&saved, &ruleset)?).await?;
        self.standing = Some(ruleset);
        Ok(())
    }

    /// Changes elements.
    pub async fn update(&mut self, delta: &ElementDelta) -> Result<(), LegacyError> {
        // Whatever fails, what stands then is not known.
        let mut ruleset = self.standing.take().ok_or(LegacyError::NoPolicy)?;
        apply(&mut ruleset.elements, delta);
        let saved = if delta.is_in_iptables_rules() {
            Some(self.save(true).await?.0)
        } else {
            None
        };
        let stages = iptables::update(&ruleset, delta, saved.as_ref())?;
        self.carry_out(stages).await?;
        self.standing = Some(ruleset);
        Ok(())
    }

    /// Takes everything of ours away.
    pub async fn remove(&mut self) -> Result<(), LegacyError> {
        self.standing = None;
        let (saved, _) = self.save(true).await?;
        self.carry_out(iptables::remove(&saved)).await
    }

    /// Reads back the elements that a change touched. All sets are read for it.
    pub async fn verify(&mut self, delta: &ElementDelta) -> Result<bool, LegacyError> {
        let mask = iptables::mask(self.standing.as_ref().ok_or(LegacyError::NoPolicy)?)?;
        let members = self.save(false).await?.0.members();
        let (added, removed) = (encode(&delta.added, mask), encode(&delta.removed, mask));
        let has = |set: &String, entry: &String| members.get(set).is_some_and(|found| found.contains(entry));
        let stays = |set: &String, entry: &String| added.get(set).is_some_and(|kept| kept.contains(entry));
        let came = added
            .iter()
            .all(|(set, entries)| entries.iter().all(|entry| has(set, entry)));
        let went = removed.iter().all(|(set, entries)| {
            let mut gone = entries.iter().filter(|entry| !stays(set, entry));
            gone.all(|entry| !has(set, entry))
        });
        Ok(came && went)
    }

    /// Whether chains of ours, of this netd or an earlier one, judge packets.
    pub async fn guards(&mut self, skeleton: &[Chain]) -> Result<bool, LegacyError> {
        Ok(judges(&self.save(true).await?.0, skeleton))
    }

    /// Another number where rules are others, or sets have more entries or fewer; and whose they are.
    pub async fn glance(&mut self) -> Result<(u32, Ownership), LegacyError> {
        let (saved, entries) = self.save(true).await?;
        let ownership = if is_any(&saved) {
            Ownership::Shared
        } else {
            Ownership::Absent
        };
        Ok((fingerprint(&saved, &entries), ownership))
    }

    /// Makes the way through others' rules in the table `filter` as it should be.
    pub async fn ensure_passage(&mut self, mark: Option<Mark>) -> Result<(Way, bool), LegacyError> {
        let (saved, _) = self.save(true).await?;
        let stages = iptables::passage(&saved, mark);
        let touched = !stages.is_empty();
        self.carry_out(stages).await?;
        Ok((iptables::way(&saved, mark), touched))
    }

    /// Others' chains that drop what is forwarded.
    pub async fn blockers(&mut self) -> Result<Vec<String>, LegacyError> {
        Ok(iptables::blockers(&self.save(true).await?.0))
    }

    /// What was dropped, by reason.
    pub async fn drops(&mut self) -> Result<BTreeMap<Counter, Drops>, LegacyError> {
        let drops = iptables::drops(&self.save(true).await?.0);
        let counted = |(counter, (packets, bytes))| (counter, Drops { packets, bytes });
        Ok(drops.into_iter().map(counted).collect())
    }
}

fn apply(elements: &mut Elements, delta: &ElementDelta) {
    for (set, gone) in &delta.removed {
        if let Some(found) = elements.get_mut(set) {
            found.retain(|element| !gone.contains(element));
        }
    }
    for (set, new) in &delta.added {
        elements.entry(*set).or_default().extend(new.iter().copied());
    }
    elements.retain(|_, found| !found.is_empty());
}

/// Whether there is a chain or a set of ours.
fn is_any(saved: &Saved) -> bool {
    let tables = saved.v4.values().chain(saved.v6.values());
    let mut chains = tables.flat_map(SavedTable::keys);
    !saved.sets.is_empty() || chains.any(|name| name.starts_with(iptables::PREFIX))
}

fn fingerprint(saved: &Saved, entries: &[u64]) -> u32 {
    let mut hasher = DefaultHasher::new();
    for tables in [&saved.v4, &saved.v6] {
        for (table, chains) in tables {
            table.name().hash(&mut hasher);
            for (name, chain) in chains {
                (name, chain.drops, &chain.rules).hash(&mut hasher);
            }
        }
    }
    for (name, set) in &saved.sets {
        (name, &set.header).hash(&mut hasher);
    }
    entries.hash(&mut hasher);
    // The lower half tells as much as is needed: a change that it misses is found by the next deep look.
    hasher.finish() as u32
}

fn refused(status: Status) -> LegacyError {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => LegacyError::Away,
        _ => LegacyError::Refused {
            reason: fault::reason(&status).unwrap_or_default(),
            message: status.message().to_owned(),
        },
    }
}
