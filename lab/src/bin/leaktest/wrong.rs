//! What came out at a far end of whom that exit was not: the rows of it, and of the control that it would be seen.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use cell_lab::process::until;
use cell_lab::report::Report;

use crate::lab::Lab;
use crate::speaker::Speaker;
use crate::times::IN_FLIGHT;
use crate::ways::{BOUND, Count, Place, Ways};

/// How long it may take until what is planted is seen at each far end: Tor opens new circuits for it.
const PLANTED: Duration = Duration::from_secs(90);
const AFTER: Duration = Duration::from_secs(2);

type Counts = BTreeMap<Place, Count>;

/// It.
#[derive(Default)]
pub struct Wrong {
    found: Counts,
    planted: Counts,
    after: Counts,
}

fn counts(ways: &Ways) -> Counts {
    Place::all().map(|place| (place, ways.count(place))).collect()
}

fn of(counts: &Counts, place: Place) -> Count {
    counts.get(&place).copied().unwrap_or_default()
}

fn since(ways: &Ways, before: &Counts) -> Counts {
    let mut all = counts(ways);
    for (place, count) in &mut all {
        count.wrong -= of(before, *place).wrong;
        count.heard -= of(before, *place).heard;
    }
    all
}

impl Wrong {
    /// Keeps what was found, before any is planted.
    pub fn settle(&mut self, ways: &Ways) {
        self.found = counts(ways);
    }

    /// Each peer and each service is led by an exit that is not its own, and that must be seen at each far end, of each kind that it
    /// carries; once they are led back, no more of it.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn plant(&mut self, lab: &mut Lab, speakers: &[Speaker]) -> Result<()> {
        let before = counts(&lab.ways);
        lab.lead(1, speakers)?;
        // That it was not is what the report says.
        let _seen = until(PLANTED, "planted wrong exits to be seen", || {
            let planted = since(&lab.ways, &before);
            let all = planted.values().all(|count| count.wrong > 0);
            all.then_some(())
        });
        self.planted = since(&lab.ways, &before);
        lab.lead(0, speakers)?;
        lab.converged()?;
        // What was said meanwhile is under way, by Tor for as long as it may.
        std::thread::sleep(IN_FLIGHT + BOUND);
        let undone = counts(&lab.ways);
        std::thread::sleep(AFTER);
        self.after = since(&lab.ways, &undone);
        drop(lab.ways.news());
        Ok(())
    }

    /// What was found.
    pub fn report(&self, report: &mut Report) {
        for place in Place::all() {
            let Count { heard, wrong } = of(&self.found, place);
            // Where nothing was heard, nothing could come wrongly.
            let ok = wrong == 0 && heard > 0;
            let unit = format!("of {heard} heard there");
            report.add(format!("came by a wrong exit: {place}"), wrong, &unit, "0", ok);
        }
        for place in Place::all() {
            let planted = of(&self.planted, place).wrong;
            let what = format!("control: a planted wrong exit is seen, {place}");
            report.add(what, planted, "heard", ">= 1", planted > 0);
        }
        let after: u64 = self.after.values().map(|count| count.wrong).sum();
        let heard: u64 = self.after.values().map(|count| count.heard).sum();
        let unit = format!("of {heard} heard in 2 s");
        let ok = after == 0 && heard > 0;
        report.add(
            "once they are led back, came by a wrong exit",
            after,
            &unit,
            "0",
            ok,
        );
    }
}
