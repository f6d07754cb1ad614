//! After a change that waits: asks at a terminal whether to keep it, while the seconds run.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use cell_proto::api::v1::{
    ConfirmNetworkChangeRequest, GetNetworkChangeRequest, RollBackNetworkChangeRequest,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::cell::Cell;
use crate::failure::Failure;
use crate::output::Output;

/// How long after its deadline a change may still be said to wait.
const GRACE: Duration = Duration::from_secs(10);
/// How long the cell may take for one look, so that the seconds go on running.
const LOOK: Duration = Duration::from_millis(500);

/// What a person answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Keep,
    TakeBack,
}

/// Waits for somebody's word on a change that was made to wait for so many seconds; without a terminal says how it is given.
///
/// # Errors
/// [`Failure::TakenBack`] when the change does not stand in the end.
pub(crate) async fn for_word(cell: &Cell, output: Output, seconds: Option<u32>) -> Result<(), Failure> {
    let Some(seconds) = seconds else { return Ok(()) };
    let at_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if output.json || !at_terminal {
        output.note(&format!(
            "This is taken back in {seconds} seconds. Keep it: cellctl change confirm"
        ));
        return Ok(());
    }
    eprintln!("Press Enter or type yes to keep this. Type no to take it back; Ctrl-C lets it be taken back.");
    let deadline = Instant::now() + Duration::from_secs(seconds.into());
    let word = ask(cell, deadline).await?;
    let mut client = cell.changes()?;
    match word {
        Some(Word::Keep) => {
            client
                .confirm_network_change(ConfirmNetworkChangeRequest {})
                .await?;
            eprintln!("The change is kept.");
            Ok(())
        }
        Some(Word::TakeBack) => {
            client
                .roll_back_network_change(RollBackNetworkChangeRequest {})
                .await?;
            Err(Failure::TakenBack("as you said"))
        }
        None => over(cell, deadline).await,
    }
}

/// Counts down until somebody answers; `None`: the change waits no more, or nobody is there to answer.
async fn ask(cell: &Cell, deadline: Instant) -> Result<Option<Word>, Failure> {
    let mut words = words();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut is_open = true;
    loop {
        tokio::select! {
            word = words.recv(), if is_open => match word {
                Some(Some(word)) => return Ok(Some(word)),
                Some(None) => eprintln!("Press Enter or type yes to keep it, no to take it back."),
                // Nobody types any more; the deadline decides.
                None => is_open = false,
            },
            _ = ticks.tick() => {
                let left = deadline.saturating_duration_since(Instant::now()).as_secs_f64().ceil();
                count(left);
                if left <= 0.0 || !still_waits(cell).await {
                    clear();
                    return Ok(None);
                }
            }
        }
    }
}

/// What is typed, line by line, on a thread of its own: a read of a terminal cannot be given up, and must not hold the end of
/// the process.
fn words() -> mpsc::Receiver<Option<Word>> {
    let (tell, words) = mpsc::channel(8);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if tell.blocking_send(word(&line)).is_err() {
                return;
            }
        }
    });
    words
}

fn word(line: &str) -> Option<Word> {
    match line.trim().to_ascii_lowercase().as_str() {
        "" | "y" | "yes" | "keep" => Some(Word::Keep),
        "n" | "no" | "undo" => Some(Word::TakeBack),
        _ => None,
    }
}

/// Over what was counted before, in one line.
fn count(left: f64) {
    let mut err = std::io::stderr().lock();
    let _ = write!(err, "\r{left:>4} s left ").and_then(|()| err.flush());
}

fn clear() {
    eprintln!();
}

/// Whether the change waits; a cell that does not answer may be the very thing that the change did.
async fn still_waits(cell: &Cell) -> bool {
    let Ok(mut client) = cell.changes() else {
        return true;
    };
    match timeout(LOOK, client.get_network_change(GetNetworkChangeRequest {})).await {
        Ok(Ok(answer)) => answer.into_inner().waiting.is_some(),
        Ok(Err(_)) | Err(_) => true,
    }
}

/// What became of it: before its deadline somebody else has settled it, and after it netd has taken it back.
async fn over(cell: &Cell, deadline: Instant) -> Result<(), Failure> {
    if Instant::now() + Duration::from_secs(1) < deadline {
        return Err(Failure::Local(
            "somebody else has kept the change or taken it back: see cellctl peer show".to_owned(),
        ));
    }
    while still_waits(cell).await {
        if Instant::now() > deadline + GRACE {
            return Err(Failure::Local(
                "its time is over, and the cell does not say whether it is taken back: see cellctl change show".to_owned(),
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(Failure::TakenBack("nobody kept it in time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_and_yes_keep_and_no_takes_back() {
        for keeps in ["", "  ", "yes", "Y", "keep"] {
            assert_eq!(word(keeps), Some(Word::Keep), "{keeps}");
        }
        for takes_back in ["no", "N ", "undo"] {
            assert_eq!(word(takes_back), Some(Word::TakeBack), "{takes_back}");
        }
        for neither in ["yess", "confirm", "?"] {
            assert_eq!(word(neither), None, "{neither}");
        }
    }
}
