//! Entering fails closed, capabilities are what was kept, and the process attributes hold.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;

use cell_sandbox::{Capability, Error, Sandbox};
use common::{NOBODY, attempt, in_child, io_outcome};

fn entered(sandbox: Sandbox) -> String {
    match sandbox.enter() {
        Ok(report) => format!("entered {report}"),
        Err(e) => format!("{e:?}"),
    }
}

#[test]
fn root_does_not_enter() {
    assert_eq!(
        in_child(|| entered(Sandbox::new())),
        format!("{:?}", Error::RunningAsRoot)
    );
}

#[test]
fn a_group_of_root_does_not_enter() {
    let in_group_0 = cell_sandbox::identity::Identity { gid: 0, ..NOBODY };
    let answer = in_child(|| {
        in_group_0.assume(&[]).unwrap();
        entered(Sandbox::new())
    });
    assert_eq!(answer, format!("{:?}", Error::RunningAsRoot));
}

#[test]
fn beside_other_threads_nobody_enters() {
    let answer = in_child(|| {
        NOBODY.assume(&[]).unwrap();
        let (_stop, stopped) = std::sync::mpsc::channel::<()>();
        let _thread = std::thread::spawn(move || stopped.recv());
        entered(Sandbox::new())
    });
    assert_eq!(answer, "Threads(2)");
}

#[test]
fn a_path_that_must_exist_does() {
    let answer = in_child(|| {
        NOBODY.assume(&[]).unwrap();
        entered(Sandbox::new().read_only("/nonexistent"))
    });
    assert!(
        answer.starts_with("Landlock(Path { path: \"/nonexistent\""),
        "{answer}"
    );
}

#[test]
fn a_capability_that_is_kept_was_given() {
    let answer = in_child(|| {
        NOBODY.assume(&[]).unwrap();
        entered(Sandbox::new().keep_capabilities(&[Capability::CAP_NET_ADMIN]))
    });
    assert_eq!(answer, "Capabilities(NotGiven(CAP_NET_ADMIN))");
}

#[test]
fn a_bounding_set_that_nobody_emptied_is_refused() {
    let answer = in_child(|| {
        // What `su` does: the capabilities go, the bounding set stays.
        nix::unistd::setresgid(65534.into(), 65534.into(), 65534.into()).unwrap();
        nix::unistd::setresuid(65534.into(), 65534.into(), 65534.into()).unwrap();
        entered(Sandbox::new())
    });
    assert!(
        answer.starts_with("Capabilities(Left { set: \"bounding\""),
        "{answer}"
    );
}

#[test]
fn exactly_the_kept_capabilities_are_left() {
    let given = [
        Capability::CAP_NET_ADMIN,
        Capability::CAP_NET_RAW,
        Capability::CAP_SETPCAP,
    ];
    let sets = |kept: &'static [Capability]| {
        in_child(move || {
            NOBODY.assume(&given).unwrap();
            let report = Sandbox::new()
                .keep_capabilities(kept)
                .read_only("/proc/self")
                .enter()
                .unwrap();
            assert!(report.seccomp);
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let sets = status.lines().filter(|line| line.starts_with("Cap")).map(|line| {
                let (name, mask) = line.split_once(":\t").unwrap();
                format!("{name} {:x}", u64::from_str_radix(mask, 16).unwrap())
            });
            sets.collect::<Vec<_>>().join(", ")
        })
    };
    assert_eq!(sets(&[]), "CapInh 0, CapPrm 0, CapEff 0, CapBnd 0, CapAmb 0");
    let net_admin = sets(&[Capability::CAP_NET_ADMIN]);
    assert_eq!(
        net_admin,
        "CapInh 0, CapPrm 1000, CapEff 1000, CapBnd 1000, CapAmb 0"
    );
}

#[test]
fn a_kept_capability_works_and_a_dropped_one_does_not() {
    // A raw socket needs CAP_NET_RAW; an extra call lets it past the filter, so that the capability alone decides.
    let raw = || {
        // SAFETY: numbers only.
        common::outcome(unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP) }.into())
    };
    let given = [Capability::CAP_NET_RAW, Capability::CAP_SETPCAP];
    let sandbox = || Sandbox::new().allow_syscalls(&[libc::SYS_socket]);
    let kept = sandbox().keep_capabilities(&[Capability::CAP_NET_RAW]);
    assert_eq!(attempt(Some(kept), &given, raw), Ok(()));
    assert_eq!(attempt(Some(sandbox()), &given, raw), Err(libc::EPERM));
}

#[test]
fn the_process_attributes_hold() {
    let answer = in_child(|| {
        NOBODY.assume(&[]).unwrap();
        let calls = [libc::SYS_prctl, libc::SYS_getrlimit];
        let report = Sandbox::new()
            .read_only("/proc/self")
            .allow_syscalls(&calls)
            .enter()
            .unwrap();
        let (_, core) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_CORE).unwrap();
        let dumpable = nix::sys::prctl::get_dumpable().unwrap();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let lines: Vec<_> = status
            .lines()
            .filter(|l| l.starts_with("NoNewPrivs") || l.starts_with("Seccomp:"))
            .collect();
        format!(
            "{lines:?} core {core} dumpable {dumpable} {}",
            report.mdwe == report.missing.iter().all(|m| !m.contains("MDWE"))
        )
    });
    assert_eq!(
        answer,
        "[\"NoNewPrivs:\\t1\", \"Seccomp:\\t2\"] core 0 dumpable false true"
    );
}

#[test]
fn the_report_is_one_line_and_names_what_is_missing() {
    let answer = in_child(|| {
        NOBODY.assume(&[]).unwrap();
        entered(Sandbox::new())
    });
    assert!(answer.starts_with("entered sandbox: Landlock ABI "), "{answer}");
    assert_eq!(answer.lines().count(), 1);
}

#[test]
fn a_second_entry_is_refused_by_the_first() {
    let again = || match Sandbox::new().enter() {
        Ok(_) => Ok(()),
        Err(_) => Err(1),
    };
    assert_eq!(attempt(None, &[], again), Ok(()));
    assert_eq!(attempt(Some(Sandbox::new()), &[], again), Err(1));
}

#[test]
fn locked_memory_still_works_inside() {
    let touched = || {
        cell_sandbox::memory::lock_all().map_err(|e| e.raw_os_error().unwrap())?;
        io_outcome(cell_sandbox::memory::forbid_dump(&vec![1; 100_000]))
    };
    let answer = in_child(|| {
        // The test process has mapped more than an ordinary RLIMIT_MEMLOCK; this capability lifts it.
        NOBODY.assume(&[Capability::CAP_IPC_LOCK]).unwrap();
        Sandbox::new()
            .keep_capabilities(&[Capability::CAP_IPC_LOCK])
            .enter()
            .unwrap();
        format!("{:?}", touched())
    });
    assert_eq!(answer, "Ok(())");
}
