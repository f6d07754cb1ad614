//! How long a far end that ended, or an exit that a peer left, went on carrying something.

use std::time::Duration;

use cell_lab::report::Report;

use crate::found::Form;
use crate::kind::Kind;
use crate::ways::BOUND;

/// After the API said so: it waits for netd 2 s at most, which may have been killed just then, and is back when a busy machine lets it.
const ACKNOWLEDGED: Duration = Duration::from_secs(20);
/// After that is in force, what had been said before may still be in flight: in the relay until it cuts the connection, in the tunnel or
/// the proxy, and in the far end's own programs, all of which share two processors with this test. Tor, with three relays on the way, was
/// seen to take one and a half seconds from the acknowledgement on.
pub const IN_FLIGHT: Duration = Duration::from_secs(5);

/// By exit type.
type Times = Vec<(Kind, Duration)>;

/// What was measured.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// From its far end's end to the last packet of a device through it.
    pub after_end: Times,
    /// From the moment when the API said that a peer is bound elsewhere until that was seen to be in force.
    pub until_force: Times,
    /// Where the far end was there all the while, from the moment when the API said that a peer is bound elsewhere to its last packet
    /// through it.
    pub after_move: Times,
    /// The same from the moment when that was in force at the latest.
    pub in_flight: Times,
    /// From that moment to the last that the peer said and that came through it, whatever became of the far end.
    pub said_after: Times,
}

impl Measured {
    /// A row for each type and what was measured of it.
    pub fn report(&self, report: &mut Report, form: Form) {
        let moved = "from a peer's assignment elsewhere";
        let of_what = [
            (
                "from its far end's end",
                " to the last packet through it",
                &self.after_end,
                None,
            ),
            (
                moved,
                ", acknowledged, until that was in force",
                &self.until_force,
                Some(ACKNOWLEDGED),
            ),
            (
                moved,
                ", acknowledged, to its last packet through it",
                &self.after_move,
                Some(ACKNOWLEDGED),
            ),
            (
                moved,
                ", in force, to its last packet through it",
                &self.in_flight,
                Some(IN_FLIGHT),
            ),
            (
                moved,
                ", in force, to the last that it said and that came through it",
                &self.said_after,
                Some(BOUND),
            ),
        ];
        for (from, to, times, bound) in of_what {
            for kind in Kind::ALL {
                let of_kind = times.iter().filter(|(of, _)| *of == kind);
                let times: Vec<Duration> = of_kind.map(|(_, time)| *time).collect();
                let name = format!("{kind}: {from}{to}, of {} times", times.len());
                row(report, name, times.into_iter().max(), bound, form);
            }
        }
    }
}

/// In the long form it must have happened.
fn row(report: &mut Report, name: String, longest: Option<Duration>, bound: Option<Duration>, form: Form) {
    let goal = bound.map_or_else(String::new, |bound| format!("<= {}", bound.as_millis()));
    let within = |longest| bound.is_none_or(|bound| longest <= bound);
    let ok = longest.map_or(!form.each_type, within);
    let longest = longest.map_or_else(|| "-".to_owned(), |longest| longest.as_millis().to_string());
    report.add(name, longest, "ms, the longest", &goal, ok);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_ok(measured: &Measured, each_type: bool) -> bool {
        let mut report = Report::new("times");
        let transitions = 1;
        measured.report(
            &mut report,
            Form {
                transitions,
                each_type,
            },
        );
        report.ok()
    }

    #[test]
    fn what_takes_longer_than_it_may_fails_and_so_does_what_was_not_measured_in_the_long_form() {
        let mut measured = Measured::default();
        assert!(is_ok(&measured, false) && !is_ok(&measured, true));
        let all = |time| Kind::ALL.map(|kind| (kind, time)).to_vec();
        measured.after_end = all(Duration::from_secs(60));
        measured.until_force = all(ACKNOWLEDGED);
        measured.after_move = all(ACKNOWLEDGED);
        measured.in_flight = all(IN_FLIGHT);
        measured.said_after = all(BOUND);
        assert!(is_ok(&measured, true));
        measured
            .said_after
            .push((Kind::Tor, BOUND + Duration::from_millis(1)));
        assert!(!is_ok(&measured, true) && !is_ok(&measured, false));
    }
}
