//! What the last run of each proof found, in one table: what `make demo` and `make test` end with. Nothing is measured here;
//! each line says when it was.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use cell_lab::report::{Report, Row};
use clap::Parser;

/// Shows what the last run of each proof found.
#[derive(Parser)]
struct Options {
    /// Where the proofs write their reports.
    #[arg(long, default_value = "target/reports")]
    reports: PathBuf,
    /// Fail where one of these was not run, or found that something does not hold.
    #[arg(long, value_delimiter = ',')]
    require: Vec<String>,
    /// Show what did not hold, line by line, and nothing else: what is read first of a run that failed.
    #[arg(long, conflicts_with = "require")]
    failures: bool,
}

/// What is proven, by the target that proves it.
const PROOFS: [(&str, &str); 20] = [
    ("demo", "who reaches what, and how soon it ends"),
    ("chaos", "killed at random: nothing lost, nothing let through"),
    (
        "leaktest-short",
        "nothing of a bound peer leaks, in 200 transitions of each kind",
    ),
    ("leaktest", "the same in 2,000, each kind with each type of exit"),
    ("leaktest-iptables-short", "the same in 60, with legacy iptables"),
    ("redteam", "a web process that was taken over gets nothing"),
    (
        "brokertest",
        "nothing that was not signed and allowed is made; the broker is killed at random",
    ),
    (
        "storetest-short",
        "services found by name, used and denied; killed four times, nothing is left",
    ),
    ("storetest", "the same, killed a hundred times"),
    ("fuzz", "parsers under random input"),
    ("badinput", "malformed requests change nothing"),
    ("browsertest", "the web UI, driven in Chromium"),
    ("systemtest", "the package under systemd, in a container"),
    ("systemtest-vm", "the same in two virtual machines"),
    ("composetest", "the whole cell in containers, and its split"),
    ("bench-short", "that everything can be measured"),
    ("bench", "speed and memory beside others"),
    ("bench-net-short", "that all of the next can be measured"),
    ("bench-store", "the broker, names and routes, memory, a click"),
    ("bench-net", "10,000 peers over 200 exits beside others"),
];

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let known = |name: &String| PROOFS.iter().any(|(target, _)| target == name);
    if let Some(unknown) = options.require.iter().find(|name| !known(name)) {
        bail!("--require: there is no proof {unknown}");
    }
    if options.failures {
        return failures(&options.reports);
    }
    let mut report = Report::new("proofs");
    let mut missed = false;
    for (target, what) in PROOFS {
        let required = options.require.iter().any(|name| name == target);
        let (found, ok) = match read(&options.reports, target)? {
            Some((rows, when)) => {
                let held = rows.iter().filter(|row| row.ok).count();
                let all = held == rows.len() && !rows.is_empty();
                (format!("{held} of {} lines, {when}", rows.len()), all)
            }
            None => ("not run here yet".to_owned(), !required),
        };
        missed |= required && !ok;
        report.add(format!("make {target}: {what}"), found, "", "all", ok);
    }
    println!("{report}");
    // What was not asked for is shown and decides nothing.
    Ok(if missed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Every line of every report that does not hold.
fn failures(folder: &Path) -> Result<ExitCode> {
    let (mut report, mut read_any) = (Report::new("failures"), false);
    for (target, _) in PROOFS {
        let Some((rows, when)) = read(folder, target)? else {
            continue;
        };
        read_any = true;
        if rows.is_empty() {
            report.add(format!("make {target}, {when}"), "no lines", "", "some", false);
        }
        for row in rows.into_iter().filter(|row| !row.ok) {
            let name = format!("make {target}, {when}: {}", row.name);
            report.add(name, row.value, &row.unit, &row.goal, false);
        }
    }
    if report.rows().is_empty() {
        println!(
            "{}: what failed is no line of a report; see above",
            if read_any {
                "every line of every report holds"
            } else {
                "there is no report"
            }
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("{report}");
    Ok(ExitCode::FAILURE)
}

/// The lines of a report and when it was written; none: there is no such report.
fn read(folder: &Path, target: &str) -> Result<Option<(Vec<Row>, String)>> {
    let path = folder.join(format!("{target}.json"));
    let Ok(text) = std::fs::read(&path) else {
        return Ok(None);
    };
    let rows = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    let written = jiff::Timestamp::try_from(std::fs::metadata(&path)?.modified()?)?;
    Ok(Some((rows, written.strftime("%Y-%m-%d %H:%M UTC").to_string())))
}
