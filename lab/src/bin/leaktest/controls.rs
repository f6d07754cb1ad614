//! That what is looked for would be seen.

use std::time::Duration;

use anyhow::Result;
use cell_lab::process::until;

use crate::found::Found;
use crate::isp;
use crate::key::{Key, Meant, Protocol};
use crate::lab::Lab;
use crate::speaker::Speaker;

const PLANTED: Duration = Duration::from_secs(60);

/// Leaks are made by hand, and must be seen by the same counters; once they are taken away, no more of them.
///
/// # Errors
/// When counters cannot be read, or the cell does not do as it must.
pub fn planted(lab: &mut Lab, found: &mut Found, speakers: &[Speaker]) -> Result<()> {
    found.wrong.plant(lab, speakers)?;
    let (before, strangers) = (
        isp::read(&lab.world.internet)?,
        isp::strangers(&lab.world.internet)?,
    );
    lab.plant_questions()?;
    let is_question = |key: &Key| key.protocol == Protocol::Dns && key.meant != Meant::Direct;
    let seen = until(PLANTED, "the planted questions to be seen", || {
        let leaked = isp::read(&lab.world.internet).ok()?.since(&before);
        let others = isp::strangers(&lab.world.internet).ok()? - strangers;
        // Each question is of another key, and all of them are strangers; so is TCP, which is nobody's.
        let mut questions = Key::all().filter(is_question);
        let all = questions.all(|key| leaked.of(key) == 1);
        (all && others > Key::all().filter(is_question).count() as u64).then_some(())
    });
    found.planted_questions(seen.is_ok());
    let before = isp::read(&lab.world.internet)?;
    lab.plant()?;
    let all = Key::all().filter(|key| key.meant != Meant::Direct).count();
    let caught = until(PLANTED, "the planted leak to be seen", || {
        let leaked = isp::read(&lab.world.internet).ok()?.since(&before);
        (leaked.bound().len() == all).then_some(())
    });
    let leaked = isp::read(&lab.world.internet)?.since(&before);
    lab.unplant()?;
    std::thread::sleep(Duration::from_millis(200));
    let undone = isp::read(&lab.world.internet)?;
    std::thread::sleep(Duration::from_secs(2));
    let after = isp::read(&lab.world.internet)?.since(&undone);
    found.planted(leaked, after, caught.is_ok());
    Ok(())
}
