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
const EXECUTIONS_LEAST: u64 = 2_000;
/// Longest input, bytes, of a target that is not among [`BOUNDS`].
const INPUT_MOST: usize = 4096;
/// What an input has beside what the bound is for: other parts, and a first byte that chooses.
const ROOM: usize = 512;
/// Where the longest of a parser's own bounds lies above [`INPUT_MOST`]: how long an input is that meets it, bytes. Inputs go beyond.
const BOUNDS: &[(&str, usize)] = &[
    // A line.
    ("access_log", 8 << 10),
    // A message to the broker: a manifest with sixteen signatures of images; what is shown of a log.
    ("api_messages", 256 << 10),
    // 256 services of one peer.
    ("apply_network", 16 << 10),
    ("catalog_index", 256 << 10),
    ("csr", 4096),
    // A message by TCP.
    ("dns_question", 64 << 10),
    // 50,000 records of DNS, which are least two bytes each.
    ("exit_messages", 128 << 10),
    // The file of peers, behind another.
    ("first_version", (2 << 20) + 4096),
    ("http_answers", 8 << 10),
    // The policy as it is saved.
    ("iptables_saved", 64 << 10),
    ("iptables_texts", 8 << 20),
    ("netd_messages", 16 << 10),
    ("openvpn_management", 8 << 10),
    ("openvpn_profile", 128 << 10),
    ("sealed_file", 4 << 20),
    ("service_manifest", 64 << 10),
    // A key and the server's keys.
    ("ssh_target", 33 << 10),
    ("wireguard_file", 64 << 10),
];

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
    for (bounded, _) in BOUNDS {
        ensure!(
            names.iter().any(|name| name == bounded),
            "there is no target {bounded}"
        );
    }
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

/// Where the longest of the target's own bounds is met.
fn bound(target: &str) -> usize {
    let found = BOUNDS.iter().find(|(name, _)| *name == target);
    found.map_or(INPUT_MOST, |(_, bound)| *bound)
}

/// Runs one target. What it finds is kept in the folder `artifacts` beside the targets, as cargo-fuzz(1) does.
fn one(options: &Options, target: &str) -> Result<Found> {
    let scratch = tempfile::tempdir()?;
    let corpus = options.fuzz.join("corpus").join(target);
    let artifacts = options.fuzz.join("artifacts").join(target);
    let prefix = if target == PLANTED {
        scratch.path()
    } else {
        std::fs::create_dir_all(&artifacts)?;
        &artifacts
    };
    let ready = || {
        let mut command = Command::new(options.programs.join(target));
        command
            .arg(format!("-artifact_prefix={}/", prefix.display()))
            // By the clock on the wall, beside tests that have the processors first.
            .arg("-timeout=60")
            .stdin(Stdio::null());
        command
    };
    let context = "the program of the target: build it first";
    let mut command = ready();
    let found = scratch.path().join("found");
    std::fs::create_dir(&found)?;
    command.arg(&found);
    if corpus.is_dir() {
        let above = stretched(&corpus, scratch.path(), bound(target))?;
        // Chance would seldom make one that long within a minute.
        let output = ready().args(above).output().context(context)?;
        if !output.status.success() {
            return Ok(judged(target, &output));
        }
        command.arg(&corpus);
    }
    let output = command
        .args([
            format!("-max_total_time={}", options.seconds),
            format!("-max_len={}", bound(target) + ROOM),
            "-print_final_stats=1".to_owned(),
        ])
        .output()
        .context(context)?;
    Ok(judged(target, &output))
}

/// Inputs above the bound, in files: each seed with itself behind it, or without its first byte, which may choose what it is, or with what
/// is behind the last byte that parts it.
fn stretched(corpus: &Path, folder: &Path, bound: usize) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in corpus.read_dir()? {
        let seed = std::fs::read(entry?.path())?;
        let parted = seed.iter().rposition(|byte| *byte <= 1).map_or(0, |at| at + 1);
        let mut places = vec![0, 1, parted];
        places.dedup();
        for again in places.into_iter().filter_map(|place| seed.get(place..)) {
            let file = folder.join(format!("above{}", files.len()));
            std::fs::write(&file, above(&seed, again, bound))?;
            files.push(file);
        }
    }
    Ok(files)
}

/// The seed with `again` behind it until it is longer than the bound. A message stays one, with more in its lists.
fn above(seed: &[u8], again: &[u8], bound: usize) -> Vec<u8> {
    let mut input = seed.to_vec();
    while input.len() <= bound && !again.is_empty() {
        input.extend_from_slice(again);
    }
    input
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
    fn a_seed_is_stretched_beyond_the_bound() {
        assert_eq!(above(b"dab", b"ab", 6), b"dababab");
        assert_eq!(above(b"dab", b"", 6), b"dab");
        assert_eq!(above(b"dab", b"dab", 2), b"dab");
    }

    #[test]
    fn the_last_number_counts() {
        let said = "#1 INITED cov: 3 ft: 4\n#9 DONE cov: 71 ft: 9\nstat::number_of_executed_units: 1234\n";
        assert_eq!(number_after(said, " cov:"), Some(71));
        assert_eq!(number_after(said, "stat::number_of_executed_units:"), Some(1234));
        assert_eq!(number_after("nothing", " cov:"), None);
    }
}
