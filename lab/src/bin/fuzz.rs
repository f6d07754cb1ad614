//! `make fuzz`: every fuzz target for a while, two at a time, from its kept corpus. A target that is meant to fail shows that
//! a failure would be seen.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};
use cell_lab::report::Report;
use clap::Parser;

/// Panics for one input in particular, so that it must be found.
const PLANTED: &str = "planted";
/// A target that ran less has not run.
const EXECUTIONS_LEAST: u64 = 1_000;
/// Longest input, bytes.
const INPUT_MOST: u32 = 4096;

/// Runs fuzz targets that were built with coverage, and reports.
#[derive(Parser)]
struct Options {
    /// How long each target runs, seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// How many run at the same time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: u32,
    /// The targets' folder, `fuzz` in the checkout.
    #[arg(long, default_value = "fuzz")]
    fuzz: PathBuf,
    /// Where their programs are.
    #[arg(long)]
    programs: PathBuf,
    /// The name that the report is written under.
    #[arg(long, default_value = "fuzz")]
    report: String,
}

/// What became of one target.
struct Found {
    target: String,
    executions: u64,
    edges: u64,
    /// The last lines that it said, if it ended with a fault.
    fault: Option<String>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let targets = targets(&options.fuzz)?;
    let found = all(&options, &targets)?;
    let mut report = Report::new(&options.report);
    for Found {
        target,
        executions,
        edges,
        fault,
    } in &found
    {
        if target == PLANTED {
            report.fact("a planted fault is found", fault.is_some(), fault.is_some());
            continue;
        }
        let ran = *executions >= EXECUTIONS_LEAST && *edges > 0;
        report.add(
            format!("{target}: inputs tried, {edges} edges seen"),
            executions,
            "inputs",
            &format!("no fault, at least {EXECUTIONS_LEAST}"),
            fault.is_none() && ran,
        );
        if let Some(fault) = fault {
            eprintln!("{target}:\n{fault}");
        }
    }
    report.finish(Path::new("target"))
}

/// The names of the targets: those that have a program's text.
fn targets(fuzz: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fuzz.join("fuzz_targets").read_dir()? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str());
        names.push(name.context("a target's name is text")?.to_owned());
    }
    names.sort();
    ensure!(
        names.iter().any(|name| name == PLANTED),
        "there is no target {PLANTED}"
    );
    Ok(names)
}

fn all(options: &Options, targets: &[String]) -> Result<Vec<Found>> {
    let queue = Mutex::new(targets.iter());
    let next = || queue.lock().map_or(None, |mut targets| targets.next());
    let worker = || -> Result<Vec<Found>> {
        let mut found = Vec::new();
        while let Some(target) = next() {
            eprintln!("==> {target}");
            found.push(one(options, target).with_context(|| target.clone())?);
        }
        Ok(found)
    };
    let mut found = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.jobs).map(|_| scope.spawn(worker)).collect();
        let mut found = Vec::new();
        for worker in workers {
            let Ok(done) = worker.join() else {
                bail!("a thread panicked")
            };
            found.extend(done?);
        }
        Ok(found)
    })?;
    found.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(found)
}

/// Runs one target. What it finds is kept in the folder `artifacts` beside the targets, as cargo-fuzz(1) does.
fn one(options: &Options, target: &str) -> Result<Found> {
    let scratch = tempfile::tempdir()?;
    let corpus = options.fuzz.join("corpus").join(target);
    let artifacts = options.fuzz.join("artifacts").join(target);
    let mut command = Command::new(options.programs.join(target));
    command.arg(scratch.path());
    if corpus.is_dir() {
        command.arg(&corpus);
    }
    if target == PLANTED {
        command.arg(format!("-artifact_prefix={}/", scratch.path().display()));
    } else {
        std::fs::create_dir_all(&artifacts)?;
        command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    }
    let output = command
        .args([
            format!("-max_total_time={}", options.seconds),
            format!("-max_len={INPUT_MOST}"),
            "-timeout=10".to_owned(),
            "-print_final_stats=1".to_owned(),
        ])
        .stdin(Stdio::null())
        .output()
        .context("the program of the target: build it first")?;
    Ok(judged(target, &output))
}

fn judged(target: &str, output: &Output) -> Found {
    let said = String::from_utf8_lossy(&output.stderr);
    let fault = (!output.status.success()).then(|| {
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    });
    Found {
        target: target.to_owned(),
        executions: number_after(&said, "stat::number_of_executed_units:").unwrap_or_default(),
        edges: number_after(&said, " cov:").unwrap_or_default(),
        fault,
    }
}

/// The number behind the last `word`.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once(word)?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_counts() {
        let said = "#1 INITED cov: 3 ft: 4\n#9 DONE cov: 71 ft: 9\nstat::number_of_executed_units: 1234\n";
        assert_eq!(number_after(said, " cov:"), Some(71));
        assert_eq!(number_after(said, "stat::number_of_executed_units:"), Some(1234));
        assert_eq!(number_after("nothing", " cov:"), None);
    }
}
