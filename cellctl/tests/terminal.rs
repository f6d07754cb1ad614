//! A change that waits, at a terminal: the seconds run, and a word keeps it or takes it back.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::FakeCell;

/// The program at a terminal of its own, and all that it showed there.
struct Terminal {
    child: Child,
    keys: File,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(cell: &FakeCell, args: &[&str]) -> Terminal {
        let pty = openpty(None, None).unwrap();
        let end = || pty.slave.try_clone().unwrap();
        // Whoever runs tests in the background ignores Ctrl-C (sh(1), "Asynchronous Lists"), and so would the program.
        let child = Command::new("env")
            .args(["--default-signal=INT", env!("CARGO_BIN_EXE_cellctl")])
            .args(args)
            .env("CELL_SOCKET", cell.dir.path().join("api.sock"))
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        drop(pty.slave);
        let keys = File::from(pty.master);
        let (mut screen, shown) = (keys.try_clone().unwrap(), Arc::<Mutex<String>>::default());
        let seen = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The terminal's end is an error where its last user has gone.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                seen.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Terminal { child, keys, shown }
    }

    fn text(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    fn sees(&self, what: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        while !self.text().contains(what) {
            assert!(Instant::now() < until, "{what:?} is not in {:?}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn types(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).unwrap();
    }

    fn ends(&mut self) -> Option<i32> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            if Instant::now() > until {
                self.child.kill().unwrap();
                panic!("it goes on: {:?}", self.text());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn settled(cell: &FakeCell) -> Vec<&'static str> {
    cell.state.lock().unwrap().settled.clone()
}

fn set(cell: &FakeCell, seconds: &str) -> Terminal {
    let change = [
        "peer",
        "set",
        "laptop",
        "--internet",
        "yes",
        "--confirm-within",
        seconds,
    ];
    let terminal = Terminal::start(cell, &change);
    terminal.sees("Press Enter or type yes");
    terminal
}

#[test]
fn a_word_keeps_the_change_or_takes_it_back_while_the_seconds_run() {
    let cell = FakeCell::start();
    cell.say(&["peer", "add", "laptop"]);
    for (keys, how, code) in [
        ("\n", "confirmed", 0),
        ("yes\n", "confirmed", 0),
        ("no\n", "taken back", 1),
    ] {
        let mut terminal = set(&cell, "60");
        terminal.sees("59 s left");
        terminal.sees("58 s left");
        assert!(settled(&cell).is_empty(), "nobody has said anything");
        terminal.types("what?\n");
        terminal.sees("type yes to keep it, no to take it back");
        terminal.types(keys);
        assert_eq!(terminal.ends(), Some(code), "{keys:?}: {}", terminal.text());
        assert_eq!(
            std::mem::take(&mut cell.state.lock().unwrap().settled),
            [how],
            "{keys:?}"
        );
    }
}

#[test]
fn silence_ctrl_c_and_a_hand_elsewhere_keep_nothing() {
    let cell = FakeCell::start();
    cell.say(&["peer", "add", "laptop"]);
    let mut terminal = set(&cell, "5");
    terminal.sees("1 s left");
    cell.state.lock().unwrap().waiting = None;
    assert_eq!(terminal.ends(), Some(1));
    terminal.sees("taken back: nobody kept it in time");
    let mut terminal = set(&cell, "60");
    // What Ctrl-C sends where the terminal is the controlling one.
    let child = Pid::from_raw(i32::try_from(terminal.child.id()).unwrap());
    kill(child, Signal::SIGINT).unwrap();
    assert_eq!(terminal.ends(), None);
    assert!(
        cell.state.lock().unwrap().waiting.is_some(),
        "its deadline decides"
    );
    let mut terminal = set(&cell, "60");
    cell.state.lock().unwrap().waiting = None;
    assert_eq!(terminal.ends(), Some(1));
    terminal.sees("somebody else has kept the change or taken it back");
    assert!(settled(&cell).is_empty());
}

#[test]
fn without_a_terminal_it_is_said_how_to_keep_it() {
    let cell = FakeCell::start();
    cell.say(&["peer", "add", "laptop"]);
    let output = cell.run(&[
        "peer",
        "set",
        "laptop",
        "--internet",
        "yes",
        "--confirm-within",
        "60",
    ]);
    let note = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && note.contains("in 60 seconds") && note.contains("cellctl change confirm"),
        "{note}"
    );
    assert!(settled(&cell).is_empty() && cell.state.lock().unwrap().waiting.is_some());
}
