//! What was counted, and the report of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use anyhow::Result;
use cell_lab::report::Report;

use crate::each::Each;
use crate::isp;
use crate::key::{Key, Meant, Protocol, Tally};
use crate::kind::Kind;
use crate::lab::Lab;
use crate::met::Met;
use crate::speaker::Speaker;
use crate::times::Measured;
use crate::transition::Transition;
use crate::wrong::Wrong;

/// How many transitions are told of where something leaked.
const RECENT: usize = 4;
const NOTHING: Tally = Tally([0; Key::COUNT]);

/// What a form of the test must hold.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// At least so many transitions.
    pub transitions: usize,
    /// Each kind of transition with each type of exit, and not each kind alone.
    pub each_type: bool,
}

/// What was found.
pub struct Found {
    transitions: BTreeMap<String, usize>,
    /// What met each type of exit at work, of what happens to one.
    pub each: Each,
    /// The same of what happens to the whole machine.
    pub met: Met,
    /// What came by a wrong exit.
    pub wrong: Wrong,
    /// The last ones, for messages: what leaks now may have been begun by one before.
    recent: VecDeque<String>,
    /// What the ISP saw, all of it and up to the last look.
    seen: Tally,
    strangers: u64,
    arrived: Tally,
    sent: Tally,
    times: Measured,
    planted_questions: bool,
    planted: Tally,
    caught: bool,
    after: Tally,
}

impl Found {
    /// Nothing yet, of kinds each of which must happen.
    pub fn expecting(kinds: &BTreeSet<String>, each: Each, met: Met) -> Self {
        Found {
            transitions: kinds.iter().map(|kind| (kind.clone(), 0)).collect(),
            each,
            met,
            wrong: Wrong::default(),
            recent: VecDeque::new(),
            seen: NOTHING,
            strangers: 0,
            arrived: NOTHING,
            sent: NOTHING,
            times: Measured::default(),
            planted_questions: false,
            planted: NOTHING,
            caught: false,
            after: NOTHING,
        }
    }

    /// Keeps that it happened.
    pub fn happened(&mut self, number: usize, transition: Transition, took: Duration) {
        *self.transitions.entry(transition.kind()).or_default() += 1;
        self.recent
            .push_back(format!("{number}, {transition} ({} ms)", took.as_millis()));
        while self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// Looks what the ISP saw, and tells at once what leaked.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn look(&mut self, lab: &Lab) -> Result<()> {
        let (seen, strangers) = (
            isp::read(&lab.world.internet)?,
            isp::strangers(&lab.world.internet)?,
        );
        let leaked = seen.since(&self.seen).bound();
        let wrong = lab.ways.news();
        if !leaked.is_empty() || !wrong.is_empty() || strangers > self.strangers {
            let recent: Vec<_> = self.recent.iter().map(String::as_str).collect();
            println!("  LEAK after: {}", recent.join("; "));
        }
        for (key, packets) in leaked {
            println!("    {packets} packets, {key}");
        }
        for one in wrong {
            println!("    by a wrong exit: {one}");
        }
        if strangers > self.strangers {
            let packets = strangers - self.strangers;
            let seen = isp::seen(&lab.world.internet)?.join("\n    ");
            println!("    {packets} packets to nobody's target, so far:\n    {seen}");
        }
        (self.seen, self.strangers) = (seen, strangers);
        Ok(())
    }

    /// How far it is.
    pub fn tell(&self, number: usize, of: usize, since: Duration, lab: &Lab) {
        println!(
            "  {number} of {of} transitions, {} s, {} packets leaked, {} by a wrong exit",
            since.as_secs(),
            self.leaked(),
            lab.ways.wrong()
        );
    }

    /// Packets of bound peers that the ISP saw.
    fn leaked(&self) -> u64 {
        self.seen
            .bound()
            .into_iter()
            .map(|(_, packets)| packets)
            .sum::<u64>()
            + self.strangers
    }

    /// Keeps what was sent and carried, before a leak is planted.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn settle(&mut self, lab: &Lab, speakers: &[Speaker]) -> Result<()> {
        self.arrived = crate::arrived(lab)?;
        self.seen = isp::read(&lab.world.internet)?;
        self.strangers = isp::strangers(&lab.world.internet)?;
        for speaker in speakers {
            let sent = speaker.sent();
            for (sum, packets) in self.sent.0.iter_mut().zip(sent.0) {
                *sum += packets;
            }
        }
        self.times.clone_from(&lab.times);
        self.each.settle(&lab.back);
        self.wrong.settle(&lab.ways);
        Ok(())
    }

    /// Keeps whether all planted questions were seen.
    pub fn planted_questions(&mut self, seen: bool) {
        self.planted_questions = seen;
    }

    /// Keeps what became of the planted leak.
    pub fn planted(&mut self, leaked: Tally, after: Tally, caught: bool) {
        (self.planted, self.after, self.caught) = (leaked, after, caught);
    }

    /// All of it.
    pub fn report(&self, name: &str, seed: u64, form: Form) -> Report {
        let mut report = Report::new(name);
        report.add("seed", seed, "", "", true);
        self.transitions(&mut report, form);
        self.met.report(&mut report);
        for key in Key::all().filter(|key| key.meant != Meant::Direct) {
            let (leaked, sent) = (self.seen.of(key), self.sent.of(key));
            // Where nothing was sent, nothing could leak.
            let ok = leaked == 0 && sent > 0;
            report.add(
                format!("leaked: {key}"),
                leaked,
                &format!("packets, {sent} sent"),
                "0",
                ok,
            );
        }
        let strangers = self.strangers;
        let what = "leaked: anything else from the cell's uplink";
        report.add(what, strangers, "packets", "0", strangers == 0);
        self.wrong.report(&mut report);
        self.controls(&mut report);
        self.times.report(&mut report, form);
        report
    }

    fn transitions(&self, report: &mut Report, form: Form) {
        let (all, least) = (self.transitions.values().sum::<usize>(), form.transitions);
        report.add("transitions", all, "", &format!(">= {least}"), all >= least);
        for (kind, times) in &self.transitions {
            report.add(format!("of these: {kind}"), times, "times", ">= 1", *times > 0);
        }
        self.each.report(report);
    }

    fn controls(&self, report: &mut Report) {
        for key in Key::all() {
            let (place, must) = match key.meant {
                Meant::For(_) | Meant::Service(_) => ("far end", key.is_carried()),
                Meant::Direct => ("ISP", true),
            };
            let packets = self.arrived.of(key);
            let (goal, ok) = if must {
                (">= 1", packets > 0)
            } else {
                ("0", packets == 0)
            };
            report.add(
                format!("arrived at the {place}: {key}"),
                packets,
                "packets",
                goal,
                ok,
            );
        }
        let seen = self.planted_questions;
        let what =
            "control: planted questions of the relay's kind are seen, one of each type and family, and TCP";
        report.fact(what, if seen { "all seen" } else { "not all seen" }, seen);
        self.planted_leaks(report, "", Meant::For);
        self.planted_leaks(report, " of services", Meant::Service);
    }

    fn planted_leaks(&self, report: &mut Report, whose: &str, meant: fn(Kind) -> Meant) {
        for (protocol, v6) in Protocol::ALL
            .into_iter()
            .flat_map(|one| [(one, false), (one, true)])
        {
            let of = |tally: &Tally| -> u64 {
                let all = Kind::ALL.into_iter().map(meant);
                all.map(|meant| tally.of(Key { meant, protocol, v6 })).sum()
            };
            let (leaked, after) = (of(&self.planted), of(&self.after));
            let family = if v6 { "IPv6" } else { "IPv4" };
            let what = format!("control: a planted leak{whose} is seen, {protocol}, {family}");
            report.add(what, leaked, "packets", ">= 1", leaked > 0 && self.caught);
            let what = format!("once it is taken away{whose}, {protocol}, {family}");
            report.add(what, after, "packets in 2 s", "0", after == 0);
        }
    }
}
