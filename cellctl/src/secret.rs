//! Secrets from people and files. Never from arguments or the environment.

use std::io::{BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::cli;
use crate::failure::Failure;

/// Longest first line that is read, bytes.
const LONGEST: u64 = 8 * 1024;
/// Largest file that is read whole, bytes: the cell takes no larger import.
const LARGEST: usize = 128 * 1024;

/// The first line of `path`, or of standard input for "-".
pub(crate) fn from_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let cannot = |error: std::io::Error| Failure::Local(format!("cannot read {}: {error}", path.display()));
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(cannot)?)
    };
    let mut line = Zeroizing::new(String::new());
    std::io::BufReader::new(source.take(LONGEST))
        .read_line(&mut line)
        .map_err(cannot)?;
    let kept = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(kept);
    if line.is_empty() {
        Err(Failure::Local(format!(
            "{} has an empty first line",
            path.display()
        )))
    } else {
        Ok(line)
    }
}

/// The whole of `path`, or of standard input for "-".
pub(crate) fn whole_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    file_of(path, LARGEST)
}

/// The same of a file that has `largest` bytes at the most.
pub(crate) fn file_of(path: &Path, largest: usize) -> Result<Zeroizing<String>, Failure> {
    let cannot =
        |why: &dyn std::fmt::Display| Failure::Local(format!("cannot read {}: {why}", path.display()));
    let mut source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(|error| cannot(&error))?)
    };
    // Room for all of it from the start: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(largest + 1));
    let mut limited = source.by_ref().take(largest as u64 + 1);
    limited.read_to_end(&mut bytes).map_err(|error| cannot(&error))?;
    if bytes.len() > largest {
        return Err(cannot(&format!("it has more than {} KiB", largest / 1024)));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| cannot(&"it is not UTF-8"))?;
    if text.trim().is_empty() {
        return Err(cannot(&"it is empty"));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// Asks on the terminal, without echo. `missing` says what to give where there is none.
pub(crate) fn ask(prompt: &str, missing: &str) -> Result<Zeroizing<String>, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "there is no terminal to ask on; give {missing}"
        )));
    }
    let answer = rpassword::prompt_password(prompt).map_err(|error| Failure::Local(error.to_string()))?;
    Ok(Zeroizing::new(answer))
}

/// A new password: from a file, or asked for twice.
pub(crate) fn new_password(options: &cli::Password) -> Result<Zeroizing<String>, Failure> {
    if let Some(path) = &options.password_file {
        return from_file(path);
    }
    loop {
        let first = ask("Password (10 characters or more): ", "--password-file")?;
        if first == ask("The same again: ", "--password-file")? {
            return Ok(first);
        }
        eprintln!("They differ; once more.");
    }
}

/// The claim token: from a file, from where the cell keeps it, or asked for.
pub(crate) fn claim_token(options: &cli::ClaimToken) -> Result<Zeroizing<String>, Failure> {
    if let Some(path) = &options.claim_token_file {
        return from_file(path);
    }
    from_file(&claim_token_path()).or_else(|_| ask("Claim token: ", "--claim-token-file"))
}

/// Where the cell keeps the token until it is claimed.
pub(crate) fn claim_token_path() -> PathBuf {
    match cli::cell_home() {
        Some(home) => home.join("lib/api/claim-token"),
        None => PathBuf::from("/var/lib/cell/api/claim-token"),
    }
}
