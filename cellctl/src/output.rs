//! Where answers go: results to standard output (text, or one JSON document), everything else to standard error.

use std::io::Write;

use serde::Serialize;

use crate::failure::Failure;

/// In which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// A result: `document` with `--json`, else what `text` makes.
    pub(crate) fn result(
        self,
        document: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let text = if self.json { pretty(document)? } else { text() };
        Self::print(&text)
    }

    /// One of many results: a line of JSON, or text.
    pub(crate) fn one_of_many(
        self,
        document: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let line = if self.json {
            serde_json::to_string(document).map_err(local)?
        } else {
            text()
        };
        Self::print(&line)
    }

    /// For a person, while something goes on; nothing with `--json`.
    pub(crate) fn note(self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }

    /// A failure, on standard error.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.json {
            eprintln!(
                "{}",
                pretty(&failure.document()).unwrap_or_else(|_| failure.to_string())
            );
            return;
        }
        eprintln!("cellctl: {failure}");
        if let Failure::Refused(refused) = failure {
            for violation in &refused.violations {
                eprintln!("  {}: {}", violation.field, violation.description);
            }
        }
        if let Some(advice) = failure.advice() {
            eprintln!("{advice}");
        }
    }

    /// A reader that went away (`| head`) is no error of ours.
    fn print(text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(local(error)),
            _ => Ok(()),
        }
    }
}

fn pretty(document: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(document).map_err(local)
}

fn local(error: impl std::fmt::Display) -> Failure {
    Failure::Local(error.to_string())
}
