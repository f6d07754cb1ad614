//! What met whom: of all that happens to the whole machine, how often each type of exit was carrying somebody when it did. A flush
//! while nothing goes by an exit says nothing of that exit.

use std::collections::BTreeMap;
use std::time::Duration;

use cell_lab::report::Report;

use crate::found::Form;
use crate::kind::Kind;
use crate::transition::Transition;

/// So often each of them meets each type in the long form.
const OFTEN: usize = 3;
/// Those that meet each type in the short form too.
const ALWAYS: [&str; 2] = ["SIGKILL of netd", "nft flush ruleset"];
/// And of all pairs the short form must have met at least so many of a hundred: it does not wait for what takes its time after it was
/// killed, as Tor does, and all of them on a busy machine.
const SHORT_SHARE: usize = 50;

/// How long it is waited for types that must be met, and for others: the short form is to be short.
const MUST: Duration = Duration::from_secs(10);
/// See [`MUST`].
const MAY: Duration = Duration::from_secs(2);

/// How often what happens to the whole machine met each type.
pub struct Met {
    form: Form,
    of: BTreeMap<String, One>,
}

struct One {
    transition: Transition,
    times: [usize; Kind::ALL.len()],
}

impl Met {
    /// Nothing yet, of what happens to the whole machine among these.
    pub fn expecting(transitions: impl IntoIterator<Item = Transition>, form: Form) -> Self {
        let times = [0; Kind::ALL.len()];
        let all = transitions.into_iter().filter(|one| one.is_of_the_machine());
        let of = all.map(|transition| (transition.kind(), One { transition, times }));
        Met {
            form,
            of: of.collect(),
        }
    }

    fn goal(&self, kind: &str) -> usize {
        match self.form.each_type {
            true => OFTEN,
            false => usize::from(ALWAYS.contains(&kind)),
        }
    }

    /// How long it is worth to wait until each type carries somebody, when this happens next; none: it has met them.
    pub fn wants(&self, transition: Transition) -> Option<Duration> {
        let kind = transition.kind();
        let least = self.of.get(&kind)?.least();
        if least < self.goal(&kind) {
            return Some(MUST);
        }
        (least == 0).then_some(MAY)
    }

    /// What has not met each type as often as it must.
    pub fn lacking(&self) -> Option<Transition> {
        let mut all = self.of.iter();
        let lacks = all.find(|(kind, one)| one.least() < self.goal(kind));
        lacks.map(|(_, one)| one.transition)
    }

    /// It happened while these carried somebody.
    pub fn happened(&mut self, transition: Transition, carrying: &[Kind]) {
        if let Some(one) = self.of.get_mut(&transition.kind()) {
            for kind in carrying {
                one.times[kind.index()] += 1;
            }
        }
    }

    /// A row for each, and one for all.
    pub fn report(&self, report: &mut Report) {
        for (kind, one) in &self.of {
            let goal = self.goal(kind);
            let times = Kind::ALL.map(|of| format!("{of} {}", one.times[of.index()]));
            let said = if goal == 0 {
                String::new()
            } else {
                format!(">= {goal} each")
            };
            let what = format!("of these, met a peer that was being carried by: {kind}");
            report.add(what, times.join(", "), "times", &said, one.least() >= goal);
        }
        let all = self.of.len() * Kind::ALL.len();
        let times = self.of.values().flat_map(|one| one.times);
        let met = times.filter(|times| *times > 0).count();
        let share = if self.form.each_type { 100 } else { SHORT_SHARE };
        let goal = (all * share).div_ceil(100);
        let what = "types of exits met by what happens to the whole machine, each by each";
        let unit = format!("of {all}");
        report.add(what, met, &unit, &format!(">= {goal}"), met >= goal && all > 0);
    }
}

impl One {
    fn least(&self) -> usize {
        self.times.into_iter().min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(each_type: bool) -> Met {
        let form = Form {
            transitions: 1,
            each_type,
        };
        let all = [
            Transition::Flush,
            Transition::Uplink,
            Transition::NoRules,
            Transition::Delete,
        ];
        Met::expecting(all, form)
    }

    fn is_ok(met: &Met) -> bool {
        let mut report = Report::new("met");
        met.report(&mut report);
        report.ok()
    }

    #[test]
    fn it_lacks_until_each_type_was_met_often_enough() {
        let mut met = met(true);
        for _ in 0..OFTEN {
            assert!(met.wants(Transition::Flush) == Some(MUST) && met.lacking().is_some() && !is_ok(&met));
            met.happened(Transition::Flush, &Kind::ALL[1..]);
            met.happened(Transition::Flush, &Kind::ALL[..1]);
            met.happened(Transition::Uplink, &Kind::ALL);
            met.happened(Transition::NoRules, &Kind::ALL);
        }
        assert!(met.wants(Transition::Flush).is_none() && is_ok(&met));
        assert_eq!(met.lacking(), None);
    }

    #[test]
    fn the_short_form_lacks_what_it_must_always_have_and_a_share_of_all() {
        let mut met = met(false);
        assert_eq!(met.lacking(), Some(Transition::Flush));
        met.happened(Transition::Flush, &Kind::ALL);
        assert_eq!(met.lacking(), None);
        assert!(!is_ok(&met), "a third of all");
        assert_eq!(met.wants(Transition::Uplink), Some(MAY));
        met.happened(Transition::Uplink, &Kind::ALL[..3]);
        assert!(met.wants(Transition::Uplink).is_some() && is_ok(&met));
    }

    #[test]
    fn what_happens_to_one_exit_alone_is_not_asked_of_all() {
        let mut met = met(true);
        met.happened(Transition::Delete, &Kind::ALL);
        assert_eq!(met.wants(Transition::Delete), None);
    }
}
