//! How soon what was changed is told: from the answer to who asked for it until a device's question to the DNS, and its question to the
//! proxy, have another answer. The proxy is asked at another service's address, so that netd, which follows too, is not in between.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cell_lab::report::Report;
use cell_lab::resolver::found;
use cell_lab::store::Apartment;

use crate::denied::is_answer;
use crate::story::{Found, Scene};

/// Zones and routes follow within a second.
const GOAL: Duration = Duration::from_secs(1);
/// How long they are waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// One question to the DNS.
const QUESTION: Duration = Duration::from_secs(1);
/// How often access is given and taken in the long form.
const TIMES: usize = 5;

/// From the end of its installation over access that is given and taken to its removal. The phone may use the service.
pub fn changes(report: &mut Report, scene: &Scene<'_>, id: &str, files: &Found) -> Result<()> {
    let Scene {
        wishes, phone, tv, ..
    } = *scene;
    let path = format!("/api/services/{id}");
    let told = wishes.until("it is installed", || {
        let told = wishes.get(&path)?.1;
        ensure!(told["phase"] == "installed", "{told}");
        Ok(told)
    })?;
    let mut judge = Judge {
        report,
        short: scene.short,
    };
    let service = Found::of(&told, id)?;
    let look = Look {
        service: &service,
        files,
    };
    judge.row("installed", look.until(phone, true)?);
    let url = format!("https://{}/", service.name);
    let page = wishes.until(&url, || {
        let page = phone.status(&url, &[])?;
        ensure!(is_answer(&page), "{page}");
        Ok(page)
    })?;
    judge.report.fact(
        format!("  {url}, of the other's catalog, by its name"),
        page,
        true,
    );

    let (mut given, mut taken) = ([Duration::ZERO; 2], [Duration::ZERO; 2]);
    for _ in 0..if scene.short { 1 } else { TIMES } {
        wishes.allow(id, &["phone", "tv"])?;
        given = longer(given, look.until(tv, true)?);
        wishes.allow(id, &["phone"])?;
        taken = longer(taken, look.until(tv, false)?);
    }
    judge.row("access given", given);
    judge.row("access taken", taken);
    wishes.remove(id)?;
    judge.row("removed", look.until(phone, false)?);
    wishes.gone(id)
}

fn longer(one: [Duration; 2], other: [Duration; 2]) -> [Duration; 2] {
    [one[0].max(other[0]), one[1].max(other[1])]
}

/// The service, and another that the device may use.
struct Look<'a> {
    service: &'a Found,
    files: &'a Found,
}

impl Look<'_> {
    /// Asks both until they say that the device may, or may not; when each did, from now.
    fn until(&self, device: &Apartment<'_>, may: bool) -> Result<[Duration; 2]> {
        let start = Instant::now();
        let (mut zone, mut route) = (None, None);
        loop {
            if zone.is_none() && self.is_found(device)? == Some(may) {
                zone = Some(start.elapsed());
            }
            if route.is_none() && self.is_led(device)? == may {
                route = Some(start.elapsed());
            }
            if let (Some(zone), Some(route)) = (zone, route) {
                return Ok([zone, route]);
            }
            ensure!(
                start.elapsed() < PATIENCE,
                "told by DNS {zone:?}, by the proxy {route:?}"
            );
        }
    }

    /// Whether the name has its address; None: neither that, nor that there is no such name.
    fn is_found(&self, device: &Apartment<'_>) -> Result<Option<bool>> {
        const NO_SUCH_NAME: u16 = 3;
        let address = self.service.address.parse()?;
        Ok(match device.ask(&self.service.name, QUESTION)? {
            Some(answer) if answer == found(address) => Some(true),
            Some((code, None)) if u16::from(code) == NO_SUCH_NAME => Some(false),
            Some(_) | None => None,
        })
    }

    /// Whether the proxy leads there, whether or not its program answers yet.
    fn is_led(&self, device: &Apartment<'_>) -> Result<bool> {
        let url = format!("https://{}/", self.service.name);
        let there = format!("{}:443:{}", self.service.name, self.files.address);
        let status = device.status(&url, &["--resolve", &there])?;
        Ok(is_answer(&status) || status == "502")
    }
}

struct Judge<'a> {
    report: &'a mut Report,
    short: bool,
}

impl Judge<'_> {
    fn row(&mut self, change: &str, [zone, route]: [Duration; 2]) {
        for (what, time) in [("the DNS", zone), ("the proxy", route)] {
            let goal = GOAL.as_millis();
            let (goal, ok) = if self.short {
                (format!("<= {goal} (full run)"), true)
            } else {
                (format!("<= {goal}"), time <= GOAL)
            };
            let name = format!("{change}, until {what} says so");
            self.report.add(name, time.as_millis(), "ms", &goal, ok);
        }
    }
}
