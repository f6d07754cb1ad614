//! The files that an access log is made of: their names, and how one gives way to the next.

use std::io;
use std::path::Path;

use cell_vaultd_core::access_log::Damaged;

use super::{FILE, Limits};
use crate::files::Files;

/// Beginning of the names under which damaged logs are kept.
pub const DAMAGED: &str = "access.log.damaged-";
/// The file that is next, until it takes the place of [`FILE`].
const NEXT: &str = "access.log.next";

/// The name of a closed file. Numbers count from 1 and are written with at least six digits, so that `ls` sorts them.
pub(super) fn closed_name(number: u64) -> String {
    format!("{FILE}.{number:06}")
}

fn closed_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(FILE)?.strip_prefix('.')?.parse().ok()?;
    (closed_name(number) == name).then_some(number)
}

/// The numbers of the closed files, in order.
pub(super) fn closed(files: &dyn Files, folder: &Path) -> io::Result<Vec<u64>> {
    let names = files.list(folder)?.unwrap_or_default();
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| closed_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Whether no closed file is missing but the oldest ones, and those only if there were too many.
pub(super) fn check_complete(closed: &[u64], limits: Limits) -> Result<(), Damaged> {
    let Some(first) = closed.first() else {
        return Ok(());
    };
    if *first != 1 && closed.len() < limits.closed_files {
        return Err(Damaged::File(first.saturating_sub(1)));
    }
    match (*first..)
        .zip(closed)
        .find(|(expected, found)| expected != *found)
    {
        Some((missing, _)) => Err(Damaged::File(missing)),
        None => Ok(()),
    }
}

/// Writes the next file beside, on the disk when this returns.
pub(super) fn prepare_next(files: &dyn Files, folder: &Path, header: &str) -> io::Result<()> {
    let next = folder.join(NEXT);
    files.remove(&next)?;
    files.create(&next, header.as_bytes())?;
    files.sync(&next)
}

/// Gives the file that is written to its number, and its name to the next.
pub(super) fn advance(files: &dyn Files, folder: &Path, number: u64) -> io::Result<()> {
    files.rename(&folder.join(FILE), &folder.join(closed_name(number)))?;
    files.rename(&folder.join(NEXT), &folder.join(FILE))?;
    files.sync(folder)
}

/// Ends what a crash interrupted. Whether the next file is the right one is seen when it is read.
pub(super) fn settle(files: &dyn Files, folder: &Path) -> io::Result<()> {
    let names = files.list(folder)?.unwrap_or_default();
    let there = |wanted: &str| names.iter().any(|name| name == wanted);
    match (there(FILE), there(NEXT)) {
        (_, false) => Ok(()),
        (true, true) => files.remove(&folder.join(NEXT)),
        (false, true) => {
            files.rename(&folder.join(NEXT), &folder.join(FILE))?;
            files.sync(folder)
        }
    }
}

/// Keeps a damaged log beside as evidence, under a number of its own, the file that is written to last: until it is gone
/// every start finds the damage again.
///
/// # Errors
/// What the kernel answers.
pub fn set_aside(files: &dyn Files, folder: &Path) -> io::Result<()> {
    let names = files.list(folder)?.unwrap_or_default();
    let aside = (1_u64..)
        .map(|number| format!("{DAMAGED}{number}"))
        .find(|aside| !names.iter().any(|name| name.starts_with(aside.as_str())))
        .unwrap_or_default();
    for number in closed(files, folder)? {
        let name = closed_name(number);
        let kept = format!("{aside}{}", name.trim_start_matches(FILE));
        files.rename(&folder.join(&name), &folder.join(kept))?;
    }
    // A log that is gone altogether is damage as well, and leaves nothing to keep.
    if names.iter().any(|name| name == FILE) {
        files.rename(&folder.join(FILE), &folder.join(aside))?;
    }
    Ok(())
}
