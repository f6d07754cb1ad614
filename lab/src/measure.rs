//! How numbers are shown and judged.

use std::time::Duration;

use crate::report::Report;

/// The rows of one run. A short run shows that everything is measured; its numbers are too few to be judged.
pub struct Bench {
    /// The rows so far.
    pub report: Report,
    /// Whether goals are judged.
    pub judged: bool,
}

/// What a ratio should be.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Goal {
    fn holds(self, value: f64) -> bool {
        match self {
            Goal::AtMost(limit) => value <= limit,
            Goal::AtLeast(limit) => value >= limit,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Goal::AtMost(limit) => write!(f, "<= {limit}"),
            Goal::AtLeast(limit) => write!(f, ">= {limit}"),
        }
    }
}

impl Bench {
    /// Adds a number that has no goal of its own; it must be one all the same.
    pub fn number(&mut self, name: impl Into<String>, value: f64, unit: &str) {
        let ok = value.is_finite() && value > 0.0;
        self.report.add(name, shown(value), unit, "", ok);
    }

    /// Adds a time, in ms.
    pub fn time(&mut self, name: impl Into<String>, time: Duration) {
        self.number(name, time.as_secs_f64() * 1e3, "ms");
    }

    /// Adds a number with a goal.
    pub fn judge(&mut self, name: impl Into<String>, value: f64, unit: &str, goal: Goal) {
        let number = value.is_finite() && value > 0.0;
        if self.judged {
            self.report.add(
                name,
                shown(value),
                unit,
                &goal.to_string(),
                number && goal.holds(value),
            );
        } else {
            self.report
                .add(name, shown(value), unit, &format!("{goal} (full run)"), number);
        }
    }

    /// Adds the ratio of two times.
    pub fn ratio(&mut self, name: impl Into<String>, one: Duration, other: Duration, goal: Goal) {
        self.judge(name, one.as_secs_f64() / other.as_secs_f64(), "ratio", goal);
    }
}

/// Three digits that matter.
fn shown(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// The middle one; none of nothing.
pub fn median<T: Ord>(mut values: Vec<T>) -> Option<T> {
    values.sort();
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| values.swap_remove(middle))
}
