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

/// Before at least so many of a hundred of them each type must have carried all that it can, in the long form: what is dead at all other
/// times would be seen to work at the start alone.
const WHOLE: usize = 50;
/// So often it is waited for that before each of them.
const TRIES: usize = 4;

/// How long it is waited for types that must be met, and for others: the short form is to be short.
pub const MUST: Duration = Duration::from_secs(10);
/// See [`MUST`].
const MAY: Duration = Duration::from_secs(2);
/// And for all that a type can carry, once it carries somebody. Most of it is seen without waiting.
const ALL_OF_IT: Duration = Duration::from_secs(3);

/// How long it is worth to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until each type carries somebody.
    pub carrying: Duration,
    /// And then until each carries all that it can.
    pub whole: Duration,
}

/// How often what happens to the whole machine met each type.
pub struct Met {
    form: Form,
    of: BTreeMap<String, One>,
}

struct One {
    transition: Transition,
    /// While the type carried somebody.
    times: [usize; Kind::ALL.len()],
    /// While it carried all that it can.
    whole: [usize; Kind::ALL.len()],
    tries: usize,
}

impl Met {
    /// Nothing yet, of what happens to the whole machine among these.
    pub fn expecting(transitions: impl IntoIterator<Item = Transition>, form: Form) -> Self {
        let all = transitions.into_iter().filter(|one| one.is_of_the_machine());
        let of = all.map(|transition| (transition.kind(), One::of(transition)));
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

    /// Before how many of them each type must have carried all that it can.
    fn goal_of_whole(&self) -> usize {
        let share = if self.form.each_type { WHOLE } else { 0 };
        (self.of.len() * share).div_ceil(100)
    }

    /// Before how many of them this type carried all that it can.
    fn whole(&self, of: Kind) -> usize {
        let all = self.of.values();
        all.filter(|one| one.whole[of.index()] > 0).count()
    }

    /// Whether it has not met each type as often as it must.
    fn lacks(&self, kind: &str, one: &One) -> bool {
        one.least() < self.goal(kind)
    }

    /// Whether it could meet a type that has carried all that it can before too few of them. Where that does not come, the run is to end
    /// some time.
    fn lacks_whole(&self, one: &One) -> bool {
        let too_few = |of: &Kind| one.whole[of.index()] == 0 && self.whole(*of) < self.goal_of_whole();
        one.tries < TRIES && Kind::ALL.iter().any(too_few)
    }

    /// How long it is worth to wait for the types, when this happens next; none: it has met them.
    pub fn wants(&self, transition: Transition) -> Option<Patience> {
        let kind = transition.kind();
        let one = self.of.get(&kind)?;
        let (lacks, lacks_whole) = (self.lacks(&kind, one), self.lacks_whole(one));
        let is_wanted = lacks || lacks_whole || one.least() == 0;
        is_wanted.then_some(Patience {
            carrying: if lacks { MUST } else { MAY },
            whole: if lacks_whole { ALL_OF_IT } else { Duration::ZERO },
        })
    }

    /// What has not met each type as it must.
    pub fn lacking(&self) -> Option<Transition> {
        let mut all = self.of.iter();
        let lacks = all.find(|(kind, one)| self.lacks(kind, one) || self.lacks_whole(one));
        lacks.map(|(_, one)| one.transition)
    }

    /// It happened while these carried somebody, and those all that they can.
    pub fn happened(&mut self, transition: Transition, carrying: &[Kind], whole: &[Kind]) {
        if let Some(one) = self.of.get_mut(&transition.kind()) {
            one.tries += 1;
            for kind in carrying {
                one.times[kind.index()] += 1;
            }
            for kind in whole {
                one.whole[kind.index()] += 1;
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
        let (goal, unit) = (self.goal_of_whole(), format!("of {} kinds", self.of.len()));
        for of in Kind::ALL {
            let whole = self.whole(of);
            let what = format!(
                "carried all that it can before what happens to the whole machine, IPv4 and IPv6: {of}"
            );
            let said = if goal == 0 {
                String::new()
            } else {
                format!(">= {goal}")
            };
            report.add(what, whole, &unit, &said, whole >= goal);
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
    fn of(transition: Transition) -> Self {
        let none = [0; Kind::ALL.len()];
        One {
            transition,
            times: none,
            whole: none,
            tries: 0,
        }
    }

    fn least(&self) -> usize {
        self.times.into_iter().min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
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
            let patience = met.wants(Transition::Flush).unwrap();
            assert!(patience.carrying == MUST && met.lacking().is_some() && !is_ok(&met));
            met.happened(Transition::Flush, &Kind::ALL[1..], &Kind::ALL);
            met.happened(Transition::Flush, &Kind::ALL[..1], &[]);
            met.happened(Transition::Uplink, &Kind::ALL, &Kind::ALL);
            met.happened(Transition::NoRules, &Kind::ALL, &[]);
        }
        assert!(met.wants(Transition::Flush).is_none() && is_ok(&met));
        assert_eq!(met.lacking(), None);
    }

    #[test]
    fn the_short_form_lacks_what_it_must_always_have_and_a_share_of_all() {
        let mut met = met(false);
        assert_eq!(met.lacking(), Some(Transition::Flush));
        met.happened(Transition::Flush, &Kind::ALL, &Kind::ALL);
        assert_eq!(met.lacking(), None);
        assert!(!is_ok(&met), "a third of all");
        let patience = Patience {
            carrying: MAY,
            whole: Duration::ZERO,
        };
        assert_eq!(met.wants(Transition::Uplink), Some(patience));
        met.happened(Transition::Uplink, &Kind::ALL[..3], &[]);
        assert!(met.wants(Transition::Uplink).is_some() && is_ok(&met));
    }

    #[test]
    fn a_type_that_never_carries_all_that_it_can_is_lacking_until_it_was_tried_often_enough() {
        let mut met = met(true);
        let machine = [Transition::Flush, Transition::Uplink, Transition::NoRules];
        for transition in machine.into_iter().cycle().take(machine.len() * TRIES) {
            assert!(met.wants(transition).unwrap().whole == ALL_OF_IT && met.lacking().is_some());
            met.happened(transition, &Kind::ALL, &Kind::ALL[1..]);
            assert!(!is_ok(&met));
        }
        assert_eq!(met.lacking(), None);
        met.happened(Transition::NoRules, &[], &Kind::ALL[..1]);
        assert!(!is_ok(&met), "before one of three");
        met.happened(Transition::Flush, &[], &Kind::ALL[..1]);
        assert!(is_ok(&met));
    }

    #[test]
    fn what_happens_to_one_exit_alone_is_not_asked_of_all() {
        let mut met = met(true);
        met.happened(Transition::Delete, &Kind::ALL, &Kind::ALL);
        assert_eq!(met.wants(Transition::Delete), None);
    }
}
