//! What is true after all attacks: the policy stood while netd was killed, and nothing of the attacker stayed behind.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cell_lab::process::run;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::attempt::{Outcome, in_child};
use crate::stance;
use crate::target::{Target, attacker};

/// How long netd may take to be back.
const BACK: Duration = Duration::from_secs(20);
/// And how long it is watched after that, while it adopts what it finds.
const WATCHED: Duration = Duration::from_secs(2);

/// G19. Control: netd's table drops what is not allowed. Attack: netd is killed, and all the while that it is away and comes
/// back, the table is to be the same, rule for rule.
///
/// # Errors
/// When netd does not run, or does not come back.
pub fn policy_without_netd(target: &Target) -> Result<(Outcome, Outcome)> {
    let pid = *target.pids.get("netd").context("netd does not run")?;
    let network = File::open(format!("/proc/{pid}/ns/net"))?;
    let before = policy(&network)?;
    if !before.contains("counter name \"from_peer_default\" drop") {
        return void("netd's table drops nothing");
    }
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    let (start, mut back, mut looks) = (Instant::now(), None, 0_u32);
    while back.is_none_or(|back: Instant| back.elapsed() < WATCHED) {
        anyhow::ensure!(start.elapsed() < BACK + WATCHED, "netd is not back");
        match policy(&network) {
            Ok(now) if now == before => looks += 1,
            Ok(other) => {
                println!("     the table is another after {looks} looks:\n{other}");
                return Ok((Outcome::Open, Outcome::Open));
            }
            Err(error) => {
                println!("     there is no table after {looks} looks: {error:#}");
                return Ok((Outcome::Open, Outcome::Open));
            }
        }
        let id = fs::read_to_string(target.run.join("pids/netd")).unwrap_or_default();
        if back.is_none() && id.trim().parse() != Ok(pid) {
            back = Some(Instant::now());
        }
    }
    Ok((Outcome::Open, Outcome::Closed(format!("the same {looks} times"))))
}

fn void(why: &str) -> Result<(Outcome, Outcome)> {
    let outcome = Outcome::Void(why.to_owned());
    Ok((outcome.clone(), outcome))
}

/// The table as nft writes it, without counters and without the word whose it is, which goes and comes with netd.
fn policy(network: &File) -> Result<String> {
    let namespace = format!("--net=/proc/{}/fd/{}", std::process::id(), network.as_raw_fd());
    let text = run(Command::new("nsenter").args([
        &namespace,
        "nft",
        "--stateless",
        "list",
        "table",
        "inet",
        "cell",
    ]))?;
    // Indented once; the flags of sets are twice.
    let of_table = |line: &&str| line.starts_with("table ") || line.starts_with("\tflags");
    Ok(text
        .lines()
        .filter(|line| !of_table(line))
        .fold(String::new(), |text, line| text + line + "\n"))
}

/// Where a foothold would lie, beside the folders of the cell.
const PLACES: [&str; 8] = [
    "/etc",
    "/usr/local",
    "/opt",
    "/var/spool",
    "/var/tmp",
    "/dev/shm",
    "/run",
    "/tmp",
];
/// What the control leaves behind.
const FOOTHOLD: &str = "/run/redteam/foothold";

/// G44. Control: a file of the plain user's is found. Attack: all that was tried before; no file of the user's may be anywhere
/// but in its own state.
///
/// # Errors
/// When the control cannot be made, or find(1) fails.
pub fn footholds(target: &Target) -> Result<(Outcome, Outcome)> {
    let folder = Path::new(FOOTHOLD).parent().context("it lies in a folder")?;
    fs::create_dir_all(folder)?;
    std::os::unix::fs::chown(folder, Some(attacker()?.uid), None)?;
    let planted = in_child(stance::become_attacker, || fs::write(FOOTHOLD, "").into())?;
    let control = found(target)?;
    fs::remove_dir_all(folder)?;
    if planted != Outcome::Open || !control.contains(FOOTHOLD) {
        return void("the control was not found");
    }
    let found = found(target)?;
    Ok(match found.lines().next() {
        None => (
            Outcome::Open,
            Outcome::Closed("nothing outside its state".to_owned()),
        ),
        Some(first) => {
            println!("     {first}");
            (Outcome::Open, Outcome::Open)
        }
    })
}

/// Paths that belong to the user, its own state, and what the launcher gives it, left out.
fn found(target: &Target) -> Result<String> {
    let places = PLACES.iter().map(Path::new).filter(|place| is_own(place));
    let mut find = Command::new("find");
    find.args(places).args([&target.etc, &target.run, &target.lib]);
    find.args(["-xdev", "-path"])
        .arg(target.state("api"))
        .args(["-prune", "-o"]);
    find.arg("-path")
        .arg(target.run.join("notify/api"))
        .args(["-prune", "-o"]);
    find.args(["-user", &attacker()?.uid.to_string(), "-print"]);
    run(&mut find)
}

/// /tmp is everybody's: only where it is this cell's alone, a file in it is of this attacker.
fn is_own(place: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|found| found.dev());
    let shared = ["/tmp", "/var/tmp", "/dev/shm"].map(Path::new).contains(&place);
    device(place).is_some() && (!shared || device(place) != device(Path::new("/")))
}
