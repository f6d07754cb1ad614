//! One line for each check, and the sum.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use cell_lab::report::Report;

use crate::attempt::{Check, Outcome, make};
use crate::excuses;
use crate::lines::Attempt;
use crate::posture::Posture;
use crate::rpc::RpcCheck;
use crate::stance::Stance;
use crate::target::Target;
use crate::witness::Witness;

/// Why the kernel turns an attempt down. Anything else (EINVAL, say) means that the attempt was not what it was to be.
const REFUSALS: [&str; 10] = [
    "EACCES",
    "EPERM",
    "EROFS",
    // Not there for the attacker, though it is for root.
    "ENOENT",
    "ESRCH",
    "ENXIO",
    "ECONNREFUSED",
    "ENETUNREACH",
    "EAFNOSUPPORT",
    "SIGSYS",
];

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The attacker got through.
    Open,
    /// It did not, and could have without the sandbox's and the daemons' work.
    Closed,
    /// Proves nothing on this machine, for the reason given.
    Void(&'static str),
    /// Was to prove something and did not: the attack could not be made, or the daemon did not outlive it.
    Unproven,
}

/// One line.
struct Line {
    name: String,
    found: String,
    verdict: Verdict,
}

/// All lines so far.
#[derive(Default)]
pub struct Table {
    lines: Vec<Line>,
}

impl Table {
    /// Makes the three attempts of a process-level check and prints its line.
    ///
    /// # Errors
    /// When an attempt cannot be made.
    pub fn process_level(&mut self, attempt: Attempt, check: &Check, target: &Target) -> Result<()> {
        let [root, plain, inside] =
            [Stance::Root, Stance::Plain, Stance::Sandboxed].map(|stance| make(stance, target, attempt));
        self.judged(check, &root?, &plain?, &inside?);
        Ok(())
    }

    /// Prints the line of a process-level check whose attempts were made.
    pub fn judged(&mut self, check: &Check, root: &Outcome, plain: &Outcome, inside: &Outcome) {
        let verdict = judge(check.id, root, &expected(inside.clone()));
        self.line(check.id, check.what, &[root, plain, inside], verdict);
    }

    /// Looks at one running daemon and prints its line.
    pub fn posture(&mut self, posture: &Posture, target: &Target, log: &str) {
        let (outcome, why) = posture.look(target, log);
        let verdict = judge(posture.id, &Outcome::Open, &outcome);
        let what = format!(
            "{} is bound as its profile says{}{why}",
            posture.daemon.name(),
            if why.is_empty() { "" } else { ": " }
        );
        self.line(posture.id, &what, &[&outcome], verdict);
    }

    /// Makes the control, the attack and the control once more, and prints the line: the daemon must outlive the attack.
    ///
    /// # Errors
    /// When an attempt cannot be made.
    pub fn rpc_level(
        &mut self,
        at: usize,
        check: &RpcCheck,
        target: &Target,
        witness: Option<&Witness>,
    ) -> Result<()> {
        let control = make(Stance::Sandboxed, target, Attempt::Control(at))?;
        let attack = match &control {
            // Nobody is there to be attacked.
            Outcome::Void(_) => control.clone(),
            Outcome::Open | Outcome::Closed(_) if check.is_quiet => {
                unheard(witness, || make(check.stance, target, Attempt::Attack(at)))?
            }
            Outcome::Open | Outcome::Closed(_) => make(check.stance, target, Attempt::Attack(at))?,
        };
        let after = make(Stance::Sandboxed, target, Attempt::Control(at))?;
        let verdict = outlived(judge(check.id, &control, &attack), &after);
        let shown = [&control, &attack, &after];
        // The second control is worth a column only where it failed.
        let shown = if after == Outcome::Open {
            &shown[..2]
        } else {
            &shown[..]
        };
        self.line(check.id, check.what, shown, verdict);
        Ok(())
    }

    /// Prints a line whose control and attack were made by others.
    pub fn made(&mut self, id: &str, what: &str, (control, attack): &(Outcome, Outcome)) {
        let verdict = judge(id, control, attack);
        self.line(id, what, &[control, attack], verdict);
    }

    fn line(&mut self, id: &str, what: &str, outcomes: &[&Outcome], verdict: Verdict) {
        let mark = match verdict {
            Verdict::Open => "OPEN",
            Verdict::Closed => "ok",
            Verdict::Void(_) => "VOID",
            Verdict::Unproven => "FAIL",
        };
        let columns: Vec<_> = outcomes
            .iter()
            .map(|outcome| format!("{:<24}", outcome.to_string()))
            .collect();
        let why = match verdict {
            Verdict::Void(why) => format!("  {why}"),
            Verdict::Open | Verdict::Closed | Verdict::Unproven => String::new(),
        };
        println!("{id}  {mark:<4}  {what:<52}  {}{why}", columns.join("  "));
        let found = outcomes.last().map(ToString::to_string).unwrap_or_default();
        self.lines.push(Line {
            name: format!("{id} {what}"),
            found,
            verdict,
        });
    }

    fn count(&self, wanted: impl Fn(Verdict) -> bool) -> usize {
        self.lines.iter().filter(|line| wanted(line.verdict)).count()
    }

    /// Writes `reports/redteam.json` below `target`; fails when anything is open or unproven, or nothing was closed.
    ///
    /// # Errors
    /// When the report cannot be written.
    pub fn finish(self, target: &Path) -> Result<ExitCode> {
        let open = self.count(|verdict| verdict == Verdict::Open);
        let unproven = self.count(|verdict| verdict == Verdict::Unproven);
        let closed = self.count(|verdict| verdict == Verdict::Closed);
        let void = self.count(|verdict| matches!(verdict, Verdict::Void(_)));
        let mut report = Report::new("redteam");
        for Line { name, found, verdict } in &self.lines {
            match verdict {
                Verdict::Open | Verdict::Unproven => report.add(name, found, "", "closed", false),
                Verdict::Closed => report.add(name, found, "", "closed", true),
                Verdict::Void(why) => {
                    report.add(name, found, "", &format!("void on this machine: {why}"), true);
                }
            }
        }
        report.add("open", open, "checks", "0", open == 0);
        report.add(
            "to be tried, and not proven",
            unproven,
            "checks",
            "0",
            unproven == 0,
        );
        report.add("closed", closed, "checks", "at least 1", closed > 0);
        report.add("void on this machine", void, "checks", "", true);
        println!("{}", report.write(&target.join("reports"))?.display());
        println!("{closed} closed, {void} void, {unproven} unproven, {open} open");
        Ok(if open == 0 && unproven == 0 && closed > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// An attack of which Docker must hear nothing: where it does, it is open, whatever was answered.
fn unheard(witness: Option<&Witness>, attack: impl FnOnce() -> Result<Outcome>) -> Result<Outcome> {
    let Some(witness) = witness else {
        return Ok(Outcome::Void("nobody listens what Docker hears".to_owned()));
    };
    if !witness.heard_a_container_made()? {
        return Ok(Outcome::Void("no container was heard being made".to_owned()));
    }
    let before = witness.now()?;
    let outcome = attack()?;
    Ok(match witness.since(&before)? {
        Outcome::Closed(_) => outcome,
        heard @ (Outcome::Open | Outcome::Void(_)) => heard,
    })
}

/// Open counts whatever the control did; closed counts only beside an open control. All else must be excused by what root
/// was told: an attack that could not be made beside an open control proves nothing, and nothing excuses it.
fn judge(id: &str, control: &Outcome, attack: &Outcome) -> Verdict {
    match (control, attack) {
        (_, Outcome::Open) => Verdict::Open,
        (Outcome::Open, Outcome::Closed(_)) => Verdict::Closed,
        (Outcome::Open, Outcome::Void(_)) => Verdict::Unproven,
        (Outcome::Closed(_) | Outcome::Void(_), Outcome::Closed(_) | Outcome::Void(_)) => {
            excuses::why(id, &control.to_string()).map_or(Verdict::Unproven, Verdict::Void)
        }
    }
}

/// A daemon that hangs or is gone after the attack was not proof against it, whatever it answered.
fn outlived(verdict: Verdict, after: &Outcome) -> Verdict {
    match (verdict, after) {
        (Verdict::Closed, Outcome::Closed(_) | Outcome::Void(_)) => Verdict::Unproven,
        (verdict, Outcome::Open | Outcome::Closed(_) | Outcome::Void(_)) => verdict,
    }
}

/// A refusal for a reason that is none of the kernel's refusals is no proof.
fn expected(attack: Outcome) -> Outcome {
    match attack {
        Outcome::Closed(why) if !REFUSALS.contains(&why.as_str()) => {
            Outcome::Void(format!("{why} is no refusal"))
        }
        expected @ (Outcome::Open | Outcome::Closed(_) | Outcome::Void(_)) => expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(why: &str) -> Outcome {
        Outcome::Closed(why.to_owned())
    }

    fn void() -> Outcome {
        Outcome::Void("no answer in time".to_owned())
    }

    #[test]
    fn only_an_open_control_makes_a_refusal_count() {
        assert_eq!(judge("F01", &Outcome::Open, &closed("EPERM")), Verdict::Closed);
        for control in [&Outcome::Open, &closed("EPERM"), &void()] {
            assert_eq!(judge("F01", control, &Outcome::Open), Verdict::Open);
        }
    }

    #[test]
    fn what_proves_nothing_fails_unless_it_is_excused() {
        assert_eq!(judge("G28", &Outcome::Open, &void()), Verdict::Unproven);
        assert_eq!(judge("G28", &void(), &void()), Verdict::Unproven);
        assert_eq!(
            judge("S01", &closed("ENOENT"), &closed("ENOENT")),
            Verdict::Unproven
        );
        assert!(matches!(
            judge("K14", &closed("ENOSYS"), &closed("EPERM")),
            Verdict::Void(_)
        ));
    }

    #[test]
    fn a_daemon_that_the_attack_ended_fails_the_line() {
        assert_eq!(outlived(Verdict::Closed, &Outcome::Open), Verdict::Closed);
        assert_eq!(outlived(Verdict::Closed, &void()), Verdict::Unproven);
        assert_eq!(outlived(Verdict::Open, &void()), Verdict::Open);
    }

    #[test]
    fn an_attempt_that_went_wrong_is_no_refusal() {
        assert_eq!(expected(closed("EACCES")), closed("EACCES"));
        assert!(matches!(expected(closed("EINVAL")), Outcome::Void(_)));
    }
}
