//! One line for each check, and the sum.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use cell_lab::report::Report;

use crate::attempt::{Check, Outcome, make};
use crate::posture::Posture;
use crate::rpc::RpcCheck;
use crate::stance::Stance;
use crate::target::{Neighbour, Target};

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The attacker got through.
    Open,
    /// It did not, and could have without the sandbox's and the daemons' work.
    Closed,
    /// Proves nothing here.
    Void,
}

/// All lines so far.
#[derive(Default)]
pub struct Table {
    lines: Vec<(String, String, Verdict)>,
}

impl Table {
    /// Makes the three attempts of a process-level check and prints its line.
    ///
    /// # Errors
    /// When an attempt cannot be made.
    pub fn process_level(&mut self, check: &Check, target: &Target) -> Result<()> {
        let _neighbour = Neighbour::listen()?;
        let [root, plain, inside] = [Stance::Root, Stance::Plain, Stance::Sandboxed]
            .map(|stance| make(stance, target, check.attempt));
        let (root, plain, inside) = (root?, plain?, inside?);
        let verdict = judge(&root, &inside);
        self.line(check.id, check.what, &[&root, &plain, &inside], verdict);
        Ok(())
    }

    /// Looks at one running daemon and prints its line.
    pub fn posture(&mut self, posture: &Posture, target: &Target) {
        let (outcome, why) = posture.look(target);
        let verdict = judge(&Outcome::Open, &outcome);
        let what = format!(
            "{} is bound as its profile says{}{why}",
            posture.daemon,
            if why.is_empty() { "" } else { ": " }
        );
        self.line(posture.id, &what, &[&outcome], verdict);
    }

    /// Makes the control and the attack of an RPC-level check, both inside the sandbox, and prints its line.
    ///
    /// # Errors
    /// When an attempt cannot be made.
    pub fn rpc_level(&mut self, check: &RpcCheck, target: &Target) -> Result<()> {
        let control = make(Stance::Sandboxed, target, check.control)?;
        let attack = match &control {
            // Nobody is there to be attacked.
            Outcome::Void(_) => control.clone(),
            Outcome::Open | Outcome::Closed(_) => make(check.stance, target, check.attack)?,
        };
        let verdict = judge(&control, &attack);
        self.line(check.id, check.what, &[&control, &attack], verdict);
        Ok(())
    }

    fn line(&mut self, id: &str, what: &str, outcomes: &[&Outcome], verdict: Verdict) {
        let mark = match verdict {
            Verdict::Open => "OPEN",
            Verdict::Closed => "ok",
            Verdict::Void => "VOID",
        };
        let columns: Vec<_> = outcomes
            .iter()
            .map(|outcome| format!("{:<24}", outcome.to_string()))
            .collect();
        println!("{id}  {mark:<4}  {what:<52}  {}", columns.join("  "));
        let found = outcomes.last().map(ToString::to_string).unwrap_or_default();
        self.lines.push((format!("{id} {what}"), found, verdict));
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.lines.iter().filter(|(_, _, each)| *each == verdict).count()
    }

    /// Writes `reports/redteam.json` below `target`; fails when anything is open, or nothing was tried.
    ///
    /// # Errors
    /// When the report cannot be written.
    pub fn finish(self, target: &Path) -> Result<ExitCode> {
        let [open, closed, void] = [Verdict::Open, Verdict::Closed, Verdict::Void].map(|v| self.count(v));
        let mut report = Report::new("redteam");
        for (name, found, verdict) in &self.lines {
            // What is void proves nothing: it is no line of the report, only of the count below.
            if *verdict != Verdict::Void {
                report.add(name, found, "", "closed", *verdict == Verdict::Closed);
            }
        }
        report.add("open", open, "checks", "0", open == 0);
        report.add("closed", closed, "checks", "at least 1", closed > 0);
        report.add("void on this machine", void, "checks", "", true);
        println!("{}", report.write(&target.join("reports"))?.display());
        println!("{closed} closed, {void} void, {open} open");
        Ok(if open == 0 && closed > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Open counts whatever the control did; closed counts only beside an open control.
fn judge(control: &Outcome, attack: &Outcome) -> Verdict {
    match (control, attack) {
        (_, Outcome::Open) => Verdict::Open,
        (Outcome::Open, Outcome::Closed(_)) => Verdict::Closed,
        _ => Verdict::Void,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_open_control_makes_a_refusal_count() {
        let (open, closed) = (Outcome::Open, Outcome::Closed("EPERM".to_owned()));
        let void = Outcome::Void("no daemon".to_owned());
        assert_eq!(judge(&open, &closed), Verdict::Closed);
        assert_eq!(judge(&closed, &closed), Verdict::Void);
        assert_eq!(judge(&void, &closed), Verdict::Void);
        assert_eq!(judge(&open, &void), Verdict::Void);
        for control in [&open, &closed, &void] {
            assert_eq!(judge(control, &open), Verdict::Open);
        }
    }
}
