//! What happened to each type of exit, of all that happens to one exit, while it carried somebody; and what came back and carried
//! somebody again. To an exit that nobody uses anything may happen.

use std::collections::BTreeMap;
use std::time::Duration;

use cell_lab::report::Report;

use crate::back::{Back, Part};
use crate::found::Form;
use crate::kind::Kind;
use crate::met::MUST;
use crate::transition::Transition;

/// Of all pairs of what happens and a type the short forms must have met at least so many of a hundred: they wait for none of them, which on
/// a busy machine leaves a quarter, and the one of 60 transitions deals half of them at most, for it has one of each kind first.
const SHORT_SHARE: usize = 10;

/// How often each pair met.
pub struct Each {
    form: Form,
    met: BTreeMap<(String, Kind), usize>,
    back: Back,
}

impl Each {
    /// Nothing yet.
    pub fn expecting(form: Form) -> Self {
        Each {
            form,
            met: BTreeMap::new(),
            back: Back::default(),
        }
    }

    /// How long it is worth to wait until these types carry somebody, when this happens to them next; none: all of them have met it.
    pub fn wants(&self, transition: Transition, types: &[Kind]) -> Option<Duration> {
        let lacks = |of: &Kind| !self.met.contains_key(&(transition.kind(), *of));
        (self.form.each_type && types.iter().any(lacks)).then_some(MUST)
    }

    /// It met these types, of which those that carried somebody just before count.
    pub fn happened(&mut self, transition: Transition, met: &[Kind], carrying: &[Kind]) {
        for kind in met.iter().copied().filter(|kind| carrying.contains(kind)) {
            *self.met.entry((transition.kind(), kind)).or_default() += 1;
        }
    }

    /// Keeps what came back.
    pub fn settle(&mut self, back: &Back) {
        self.back.clone_from(back);
    }

    fn share(&self) -> usize {
        if self.form.each_type { 100 } else { SHORT_SHARE }
    }

    /// A row for each pair, and one for all.
    pub fn report(&self, report: &mut Report) {
        let mut all = Vec::new();
        for (kind, types) in Transition::each_type_meets() {
            for of in types {
                let times = self.met.get(&(kind.to_owned(), *of)).copied();
                let what = format!("of these, {of} that carried somebody: {kind}");
                all.push((what, times.unwrap_or_default()));
            }
        }
        for part in Part::ALL {
            for of in part.types() {
                let what = format!("came back and carried somebody again, {of}: {part}");
                all.push((what, self.back.times(part, *of)));
            }
        }
        let met = all.iter().filter(|(_, times)| *times > 0).count();
        let (pairs, goal) = (all.len(), (all.len() * self.share()).div_ceil(100));
        for (what, times) in all {
            let goal = if self.form.each_type { ">= 1" } else { "" };
            report.add(what, times, "times", goal, times > 0 || !self.form.each_type);
        }
        let what =
            "types of exits met at work by what happens to one of them, and that came back, each by each";
        let unit = format!("of {pairs}");
        report.add(what, met, &unit, &format!(">= {goal}"), met >= goal && pairs > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(transitions: usize, each_type: bool) -> Each {
        Each::expecting(Form {
            transitions,
            each_type,
        })
    }

    fn is_ok(each: &Each) -> bool {
        let mut report = Report::new("each");
        each.report(&mut report);
        report.ok()
    }

    /// All that can happen to these types happens to them.
    fn meet(each: &mut Each, types: &[Kind]) {
        let all = Transition::each_type_meets().map(|(kind, of)| (kind.to_owned(), of));
        for (kind, of) in all.collect::<Vec<_>>() {
            for of in of.iter().filter(|of| types.contains(of)) {
                each.met.insert((kind.clone(), *of), 1);
            }
        }
    }

    #[test]
    fn the_long_form_wants_each_pair_and_what_came_back() {
        let mut each = each(2000, true);
        assert!(!is_ok(&each));
        meet(&mut each, &Kind::ALL);
        assert!(!is_ok(&each), "nothing came back");
        let mut back = Back::default();
        for part in Part::ALL {
            for kind in part.types() {
                back.may_carry(part, *kind, Duration::ZERO);
            }
        }
        back.look(|_, _| true);
        each.settle(&back);
        assert!(is_ok(&each));
        let swapped = Transition::Swap(0, Kind::Tor).kind();
        assert_eq!(each.met.remove(&(swapped, Kind::Tor)), Some(1));
        assert!(!is_ok(&each));
    }

    #[test]
    fn short_forms_want_a_share_of_them() {
        let mut each = each(200, false);
        assert!(!is_ok(&each));
        meet(&mut each, &Kind::ALL[..1]);
        assert!(is_ok(&each));
        assert_eq!(each.wants(Transition::FarEnd(Kind::Tor), &[Kind::Tor]), None);
    }

    #[test]
    fn it_waits_for_a_type_that_has_not_met_it() {
        let mut each = each(2000, true);
        let swap = Transition::Swap(0, Kind::Tor);
        let both = [Kind::Tor, Kind::Ssh];
        each.happened(swap, &both, &[Kind::Tor, Kind::Openvpn]);
        assert_eq!(each.wants(swap, &both), Some(MUST));
        each.happened(swap, &both, &both);
        assert_eq!(each.wants(swap, &both), None);
        assert_eq!(each.wants(Transition::FarEnd(Kind::Tor), &[]), None);
    }
}
