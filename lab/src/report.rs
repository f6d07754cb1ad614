//! What a demonstration or a benchmark found: a table for people, JSON for machines, an exit code for both.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fmt, fs};

use anyhow::{Context, Result};
use comfy_table::{Cell, Color, Table, presets::UTF8_FULL_CONDENSED};
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was looked at.
    pub name: String,
    /// What was found.
    pub value: String,
    /// Unit of value and goal; empty for a plain fact.
    pub unit: String,
    /// What it should be.
    pub goal: String,
    /// Whether it is.
    pub ok: bool,
}

/// All lines of one run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    name: String,
    rows: Vec<Row>,
}

impl Report {
    /// An empty report; `name` becomes the file's name.
    pub fn new(name: &str) -> Self {
        Report {
            name: name.to_owned(),
            rows: Vec::new(),
        }
    }

    /// Adds a line.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        value: impl fmt::Display,
        unit: &str,
        goal: &str,
        ok: bool,
    ) {
        let row = Row {
            name: name.into(),
            value: value.to_string(),
            unit: unit.into(),
            goal: goal.into(),
            ok,
        };
        self.rows.push(row);
    }

    /// Adds a fact that must hold: `found` is what was seen.
    pub fn fact(&mut self, name: impl Into<String>, found: impl fmt::Display, ok: bool) {
        self.add(name, found, "", "holds", ok);
    }

    /// Whether there are lines and all are ok: a run that looked at nothing shows nothing.
    pub fn ok(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.ok)
    }

    /// The lines so far.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Writes `DIR/NAME.json` and answers its path.
    ///
    /// # Errors
    /// As write(2).
    pub fn write(&self, dir: &Path) -> Result<PathBuf> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let path = dir.join(format!("{}.json", self.name));
        fs::write(&path, serde_json::to_vec_pretty(&self.rows)?)
            .with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Prints the table, writes the file below `target/reports`, and answers the exit code.
    ///
    /// # Errors
    /// As [`Report::write`].
    pub fn finish(&self, target: &Path) -> Result<ExitCode> {
        println!("{self}");
        println!("{}", self.write(&target.join("reports"))?.display());
        Ok(if self.ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table
            .load_preset(UTF8_FULL_CONDENSED)
            .set_header(["what", "found", "unit", "goal", ""]);
        for row in &self.rows {
            let verdict = if row.ok {
                Cell::new("ok").fg(Color::Green)
            } else {
                Cell::new("FAILED").fg(Color::Red)
            };
            table.add_row(
                [row.name.as_str(), &row.value, &row.unit, &row.goal]
                    .map(Cell::new)
                    .into_iter()
                    .chain([verdict]),
            );
        }
        write!(f, "{table}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn one_bad_line_or_none_at_all_is_no_success() {
        let mut report = Report::new("t");
        assert!(!report.ok());
        report.fact("a", "x", true);
        assert!(report.ok());
        report.add("b", 2, "ms", "1", false);
        assert!(!report.ok());
        assert!(report.to_string().contains("FAILED"));
    }

    #[test]
    fn the_file_holds_the_rows() {
        let dir = tempfile::tempdir().unwrap();
        let mut report = Report::new("t");
        report.add("peers", 3, "count", "3", true);
        let rows: serde_json::Value =
            serde_json::from_slice(&fs::read(report.write(dir.path()).unwrap()).unwrap()).unwrap();
        assert_eq!(
            rows,
            serde_json::json!([{"name": "peers", "value": "3", "unit": "count", "goal": "3", "ok": true}])
        );
    }
}
