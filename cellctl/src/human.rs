//! Amounts, times and tables for people.

use comfy_table::{Table, presets};

/// `12 s`, `3 min`, `5 h`, `2 d`.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// How long ago `unix_ms` was, seen from `now_ms`; "never" for 0. Clocks that differ a little do not make it negative.
pub(crate) fn ago(unix_ms: i64, now_ms: i64) -> String {
    if unix_ms == 0 {
        return "never".to_owned();
    }
    let seconds = u64::try_from(now_ms.saturating_sub(unix_ms) / 1000).unwrap_or(0);
    format!("{} ago", duration(seconds))
}

/// `512 B`, `1.5 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let step = (bytes.ilog2() / 10).min(6);
    let tenths = (u128::from(bytes) * 10) >> (10 * step);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[step as usize - 1])
}

/// A table without lines, as commands print them.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    trimmed(&table)
}

/// Names and values, one pair per line.
pub(crate) fn pairs(rows: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    trimmed(&table)
}

fn trimmed(table: &Table) -> String {
    let text = table.to_string();
    let lines = text
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (amount, text) in cases {
            assert_eq!(bytes(amount), text);
        }
        let cases = [
            (59, "59 s"),
            (60, "1 min"),
            (3660, "1 h 1 min"),
            (90_000, "1 d 1 h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn a_clock_that_is_behind_does_not_make_the_past_the_future() {
        assert_eq!(ago(5_000, 1_000), "0 s ago");
        assert_eq!(ago(0, 1_000), "never");
    }
}
