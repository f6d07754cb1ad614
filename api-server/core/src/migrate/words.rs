//! The words of a plan: REST, gRPC and cellctl show these and no others.

use std::collections::BTreeMap;

use super::exit::fixed;
use super::file::first;
use super::plan::{Bind, Make, Plan, Target};

impl Plan {
    /// What is to be done, a sentence each; one that says so where there is nothing.
    pub fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = self.make.iter().flat_map(Make::words).collect();
        for keep in &self.keep {
            words.push(format!(
                "The exit of type {} is here already: {}.",
                keep.kind, keep.name
            ));
        }
        let mut bound: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut opened: BTreeMap<bool, Vec<String>> = BTreeMap::new();
        for Bind {
            peer,
            over: _,
            to,
            fail_open,
        } in &self.bind
        {
            if let Some(target) = to {
                bound
                    .entry(self.name_of(target))
                    .or_default()
                    .push(peer.to_string());
            }
            if let Some(flag) = fail_open {
                opened.entry(*flag).or_default().push(peer.to_string());
            }
        }
        for (name, peers) in bound {
            let (shown, more) = first(&peers);
            words.push(format!("{shown}{more}: bound to {name}."));
        }
        for (open, peers) in opened {
            let (shown, more) = first(&peers);
            let what = if open { "directly" } else { "nowhere" };
            words.push(format!("{shown}{more}: out {what} while the exit does not work."));
        }
        if self.is_done() {
            words.push("There is nothing to do.".to_owned());
        }
        words
    }

    /// What a target is called.
    pub fn name_of(&self, target: &Target) -> String {
        match target {
            Target::Made(kind) => {
                let made = self.make.iter().find(|make| make.kind() == *kind);
                made.map_or_else(|| kind.to_string(), |make| make.name.to_string())
            }
            Target::There(id) => self.called.get(id).cloned().unwrap_or_else(|| id.to_string()),
        }
    }
}

impl Make {
    fn words(&self) -> Vec<String> {
        let kind = self.kind();
        let old = fixed(kind).map_or_else(String::new, |(mark, table)| {
            format!(" in place of {mark:#x} and {table}")
        });
        let name = &self.name;
        let mut words = vec![format!(
            "A connection {name} of type {kind} is made, with a mark and a table of its own{old}."
        )];
        let fields: Vec<String> = self
            .imported
            .secrets
            .iter()
            .map(|secret| format!("conn_<id>_{}", secret.field))
            .collect();
        if !fields.is_empty() {
            words.push(format!(
                "Secrets of {name} go to the vault: {}.",
                fields.join(", ")
            ));
        }
        words
    }
}
