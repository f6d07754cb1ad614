//! What the cell's own containers take.

use anyhow::{Context, Result};
use cell_lab::store::CORE;

use crate::Lab;

/// Adds a row for each.
pub fn run(lab: &mut Lab<'_>) -> Result<()> {
    for id in CORE {
        let used = used(lab, id)?;
        lab.bench.number(format!("memory of {id}"), used, "MiB");
    }
    Ok(())
}

/// MiB of a service's one container: what the kernel counts less what it can drop at any time, as docker(1) tells it.
pub fn used(lab: &Lab<'_>, id: &str) -> Result<f64> {
    let filter = format!("name={id}");
    let container = lab.docker.say(&["ps", "--quiet", "--filter", &filter])?;
    let format = "{{.MemUsage}}";
    let told = lab
        .docker
        .say(&["stats", "--no-stream", "--format", format, &container])?;
    mebibytes(&told).with_context(|| told.clone())
}

/// Of `12.3MiB / 128MiB` the first.
fn mebibytes(told: &str) -> Option<f64> {
    let first = told.split('/').next()?.trim();
    let digits = first.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().ok()?;
    match &first[digits.len()..] {
        "B" => Some(number / f64::from(1 << 20)),
        "KiB" => Some(number / 1024.0),
        "MiB" => Some(number),
        "GiB" => Some(number * 1024.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood_and_others_are_not_guessed() {
        assert_eq!(mebibytes("12.5MiB / 128MiB"), Some(12.5));
        assert_eq!(mebibytes("512KiB / 32MiB"), Some(0.5));
        assert_eq!(mebibytes("1.5GiB / 2GiB"), Some(1536.0));
        assert_eq!(mebibytes("12 apples / 128MiB"), None);
        assert_eq!(mebibytes(""), None);
    }
}
