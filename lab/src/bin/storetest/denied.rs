//! A device without access fails at the view of the DNS, at netd and at the proxy, each on its own: what the others would have said
//! is given to it by hand. Beside each stands a device, or a service, for which the same goes through.

use std::time::Duration;

use anyhow::Result;
use cell_lab::process::until;
use cell_lab::report::Report;
use cell_lab::store::{Apartment, Wishes};
use cell_lab::topology::World;

use crate::story::Found;

/// netd's counters are up to a second old, and the machine is busy.
const COUNTED: Duration = Duration::from_secs(5);
/// What netd counts a packet to a service under whose device has no grant.
const COUNTER: &str = "entry_denied";

/// Each. The TV may use `files`, not `calendar`; the phone both.
pub fn each(
    report: &mut Report,
    world: &World,
    wishes: &Wishes<'_>,
    [phone, tv]: [&Apartment<'_>; 2],
    [calendar, files]: [&Found; 2],
) -> Result<()> {
    // The view: it is told that there is no such name.
    let (denied, own, phones) = (
        tv.dig(&calendar.name)?,
        tv.dig(&files.name)?,
        phone.dig(&calendar.name)?,
    );
    report.fact("DNS: the TV asks for calendar", &denied, denied == "NXDOMAIN");
    report.fact("  control: the TV asks for files", &own, own == files.address);
    report.fact(
        "  control: the phone asks for calendar",
        &phones,
        phones == calendar.address,
    );

    // netd: it knows the address.
    let url = format!("https://{}/", calendar.name);
    let there = format!("{}:443:{}", calendar.name, calendar.address);
    let before = counted(world)?;
    let answer = tv.status(&url, &["--resolve", &there])?;
    let more = until(COUNTED, "netd's counter", || {
        counted(world).ok().filter(|now| *now > before)
    });
    let shown = format!(
        "{answer}, {COUNTER} {before} -> {}",
        more.as_ref().unwrap_or(&before)
    );
    report.fact(
        "netd: the TV opens calendar's address",
        shown,
        answer == "curl 28" && more.is_ok(),
    );
    let open = phone.status(&url, &["--resolve", &there])?;
    report.fact("  control: the phone does", &open, is_answer(&open));
    let open = tv.status(&format!("https://{}/", files.name), &[])?;
    report.fact("  control: the TV opens files'", &open, is_answer(&open));

    // The proxy: at the address of the service that it may use, it asks for the other, which the same proxy stands before.
    let beside = format!("{}:443:{}", calendar.name, files.address);
    let denied = tv.status(&url, &["--resolve", &beside])?;
    report.fact(
        "proxy: the TV asks for calendar at files' address",
        &denied,
        denied == "403",
    );
    let open = phone.status(&url, &["--resolve", &beside])?;
    report.fact("  control: the phone does", &open, is_answer(&open));

    at_once(report, wishes, tv, calendar)
}

/// What is given and taken is in force at all three within seconds.
fn at_once(report: &mut Report, wishes: &Wishes<'_>, tv: &Apartment<'_>, calendar: &Found) -> Result<()> {
    let url = format!("https://{}/", calendar.name);
    let there = format!("{}:443:{}", calendar.name, calendar.address);
    wishes.allow("calendar", &["phone", "tv"])?;
    let given = until(COUNTED, "the grant", || {
        let found = tv.dig(&calendar.name).ok()? == calendar.address;
        (found && is_answer(&tv.status(&url, &[]).ok()?)).then_some(())
    });
    report.fact(
        "control: the TV is given access to calendar",
        "name and page",
        given.is_ok(),
    );
    wishes.allow("calendar", &["phone"])?;
    let taken = until(COUNTED, "the revocation", || {
        let gone = tv.dig(&calendar.name).ok()? == "NXDOMAIN";
        (gone && tv.status(&url, &["--resolve", &there]).ok()? == "curl 28").then_some(())
    });
    report.fact(
        "and it is taken away again",
        "no name, no connection",
        taken.is_ok(),
    );
    Ok(())
}

/// Whether the service answered, asking who it is.
pub fn is_answer(status: &str) -> bool {
    ["200", "302", "401"].contains(&status)
}

fn counted(world: &World) -> Result<u64> {
    let text = world
        .cell
        .run("nft", &["list", "counter", "inet", "cell", COUNTER])?;
    let packets = text
        .split("packets ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    Ok(packets.unwrap_or_default().parse()?)
}
