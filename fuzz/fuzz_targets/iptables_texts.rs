//! Texts that netd hands to cell-iptables for programs, and what those programs print: whatever passes names what is Cell's alone.
#![no_main]

use cell_iptables_core::{Family, entries, judge_rules, judge_sets, own_rules, own_sets};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for family in [Family::V4, Family::V6] {
        if judge_rules(text, family).is_ok() {
            for line in text.lines() {
                let mut words = line.split(' ');
                match words.next() {
                    Some("-F" | "-X") => assert!(words.next().is_some_and(|chain| chain.starts_with("CELL-"))),
                    Some("-I" | "-D") => assert!(line.rsplit(' ').next().is_some_and(|to| to.starts_with("CELL-"))),
                    _ => assert!(!line.contains(['"', '\'', '\\', '#', '\r'])),
                }
            }
        }
    }
    if judge_sets(text).is_ok() {
        let ours = |line: &str| line.split(' ').nth(1).is_some_and(|set| set.starts_with("CELL-"));
        assert!(text.lines().all(ours));
    }
    let kept = own_sets(text);
    assert!(kept.lines().all(|line| line.contains(" CELL-")));
    let _ = (own_rules(text), entries(text));
});
