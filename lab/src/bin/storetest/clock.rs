//! The cell's time, asked for by a second chronyd, which sets nothing. It is the image's own, since the machine need not have one.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use cell_lab::household::CELL_IN_VPN;
use cell_lab::report::Report;
use cell_lab::topology::{CELL, CELL_ON_LAN};

use crate::story::Scene;

/// Largest difference of the machine's time from itself, seconds.
const OFFSET_MAX: f64 = 0.1;
/// chronyd's, in its container.
const SOCKET: &str = "/run/chrony/own/chronyd.sock";
/// How long whoever is not answered asks, seconds.
const ASKS: &str = "4";

/// The phone is told by the tunnel; nobody is who is not in the VPN.
pub fn told(report: &mut Report, scene: &Scene<'_>) -> Result<()> {
    let root = scene.house.unpacked("chrony")?.display().to_string();
    let arguments = |server: &str, seconds: &str| -> Vec<String> {
        let server = format!("server {server} iburst maxsamples 4");
        let words = [
            &root,
            "/usr/sbin/chronyd",
            "-Q",
            "-x",
            "-U",
            "-u",
            "cell",
            "-t",
            seconds,
            &server,
        ];
        words.map(str::to_owned).to_vec()
    };
    let phone = |server: &str, seconds: &str| {
        let arguments = arguments(server, seconds);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        scene
            .phone
            .outcome("chroot", &arguments)
            .map(|output| words(&output))
    };
    let said = scene.wishes.until("the time", || {
        let said = phone(CELL_IN_VPN, "20")?;
        ensure!(offset(&said).is_ok(), "{said}");
        Ok(said)
    })?;
    let offset_s = offset(&said)?;
    let what = format!("chronyd asks {CELL_IN_VPN}");
    report.add(what, offset_s, "s", "< 0.1", offset_s.abs() < OFFSET_MAX);

    asked_by_chronyc(report, scene)?;

    // By a way that is there: they speak with the same machine otherwise.
    let (lan, far) = (CELL_ON_LAN.v4.to_string(), CELL.v4.to_string());
    for (who, namespace, near) in [
        ("LAN", &scene.world.lan, &lan),
        ("internet", &scene.world.internet, &far),
    ] {
        let pinged = namespace.run("ping", &["-c", "1", "-W", "5", near]);
        report.fact(
            format!("  control: a host of the {who} pings {near}"),
            "",
            pinged.is_ok(),
        );
        for server in [near.as_str(), CELL_IN_VPN] {
            let arguments = arguments(server, ASKS);
            let output = namespace.inside(|| Command::new("chroot").args(arguments).output())??;
            let said = words(&output);
            let last = said.lines().last().unwrap_or_default();
            let is_unanswered = offset(&said).is_err() && said.contains("Timeout reached");
            report.fact(
                format!("  a host of the {who} asks {server}"),
                last,
                is_unanswered,
            );
        }
    }
    Ok(())
}

/// As root of the machine asks: chronyd takes commands from nobody else.
fn asked_by_chronyc(report: &mut Report, scene: &Scene<'_>) -> Result<()> {
    let id = scene.docker.say(&["ps", "--quiet", "--filter", "name=chrony"])?;
    let asked = |what: &str| {
        let chronyc = ["exec", &id, "/usr/bin/chronyc", "-n", "-h", SOCKET, what];
        scene.docker.say(&chronyc)
    };
    let stratum = number(&asked("tracking")?, "Stratum");
    let is_set = stratum.is_some_and(|stratum| stratum < 16);
    report.fact(
        "chronyc tracking, the stratum",
        stratum.unwrap_or_default(),
        is_set,
    );
    let packets = number(&asked("serverstats")?, "NTP packets received");
    let what = "chronyc serverstats, packets of the phone";
    report.fact(what, packets.unwrap_or_default(), packets > Some(0));
    Ok(())
}

/// What chronyc says of one thing: its name, a colon, a number.
fn number(told: &str, what: &str) -> Option<u64> {
    let rest = told.lines().find_map(|line| line.strip_prefix(what))?;
    rest.trim_start_matches([' ', ':']).parse().ok()
}

fn words(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes))
        .concat()
}

/// What chronyd found, seconds.
fn offset(said: &str) -> Result<f64> {
    let number = said
        .split("System clock wrong by ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    Ok(number.with_context(|| said.to_owned())?.parse()?)
}
