//! How things are timed: the best of some rounds, both sides of a ratio in turn, so that a busy machine slows both.

use std::time::Duration;

/// Runs two works in turn, `rounds` times, and gives the best time of each.
///
/// # Errors
/// The first error of either.
pub fn in_turn<E>(
    rounds: usize,
    mut one: impl FnMut() -> Result<Duration, E>,
    mut other: impl FnMut() -> Result<Duration, E>,
) -> Result<(Duration, Duration), E> {
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..rounds {
        best.0 = best.0.min(one()?);
        best.1 = best.1.min(other()?);
    }
    Ok(best)
}

/// `one / other`.
pub fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}
