//! Files: copied by a program, mounted as a folder, managed in a browser.

use anyhow::{Result, ensure};
use cell_lab::report::Report;
use cell_lab::store::{Account, Apartment};

use crate::story::Found;
use crate::used::script;

/// All of it: the phone copies and mounts, the TV has a browser.
pub fn used(
    report: &mut Report,
    [phone, tv]: [&Apartment<'_>; 2],
    files: &Found,
    [alice, bob]: [&Account; 2],
) -> Result<()> {
    copied(report, phone, files, alice)?;
    mounted(report, phone, files, [alice, bob])?;
    browser(report, tv, files, bob)
}

fn copied(report: &mut Report, phone: &Apartment<'_>, files: &Found, account: &Account) -> Result<()> {
    let hidden = phone.run("rclone", &["obscure", &account.password])?;
    let remote = format!(
        ":webdav,url='https://{}/dav/{}/',user={},pass='{hidden}':",
        files.name, account.user, account.user
    );
    let local = phone.path("up");
    std::fs::create_dir_all(local.join("Größe & co"))?;
    std::fs::write(local.join("Größe & co/a b#c.txt"), "hello")?;
    std::fs::write(local.join("big"), vec![7; 3_000_000])?;
    let local = local.display().to_string();
    let few = ["--config=", "--retries=1", "--low-level-retries=2"];
    for what in [vec!["copy"], vec!["check", "--download"]] {
        let mut arguments = what;
        arguments.extend(few);
        arguments.extend([local.as_str(), &remote]);
        phone.run("rclone", &arguments)?;
    }
    let listed = phone.run(
        "rclone",
        &["--config=", "lsf", "--recursive", "--files-only", &remote],
    )?;
    let listed: Vec<&str> = listed.lines().collect();
    report.fact(
        "rclone writes and reads back",
        listed.join(", "),
        listed.len() == 2,
    );
    Ok(())
}

/// By davfs2, over FUSE: what was written is there when it is mounted anew, with nothing kept in between.
fn mounted(
    report: &mut Report,
    phone: &Apartment<'_>,
    files: &Found,
    [alice, bob]: [&Account; 2],
) -> Result<()> {
    let (script, root) = (script("mounted.sh"), phone.path("root.pem").display().to_string());
    let local = phone.path("up").display().to_string();
    let mount = |whose: &str, authority: &str| {
        let url = format!("https://{}/dav/{whose}/", files.name);
        let arguments = [&script, &url, &alice.user, &alice.password, authority, &local];
        phone.outcome("bash", &arguments)
    };
    let words = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let own = mount(&alice.user, &root)?;
    let (read, faults) = (words(&own), String::from_utf8_lossy(&own.stderr));
    ensure!(own.status.success(), "{read}\n{faults}");
    let read: Vec<&str> = read.lines().collect();
    report.fact(
        "davfs2 mounts, writes, mounts anew and reads back",
        read.join(", "),
        read == ["./Größe & co/a b#c.txt", "./big"],
    );
    for (what, whose, authority) in [
        ("  another's folder", &bob.user, root.as_str()),
        ("  her own with the authorities of the web alone", &alice.user, ""),
    ] {
        let refused = mount(whose, authority)?;
        let said = words(&refused);
        let last = said.lines().last().unwrap_or_default();
        let is_davfs = said.contains("mount.davfs: Mounting failed");
        report.fact(what, last, !refused.status.success() && is_davfs);
    }
    Ok(())
}

fn browser(report: &mut Report, tv: &Apartment<'_>, files: &Found, account: &Account) -> Result<()> {
    let (script, url) = (script("files_browser.mjs"), format!("https://{}/", files.name));
    let said = tv.run("node", &[&script, &url, &account.user, &account.password])?;
    report.fact(
        "the file manager in Chromium",
        &said,
        said.ends_with("the page works"),
    );
    Ok(())
}
