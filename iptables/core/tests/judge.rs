//! What passes and what does not. Each denial stands beside a line that passes.
#![allow(clippy::unwrap_used, reason = "tests")]

use cell_iptables_core::{Family, NotOurs, TEXT_MAX, entries, judge_rules, judge_sets, own_rules, own_sets};
use proptest::prelude::*;

fn in_table(table: &str, line: &str) -> String {
    format!("*{table}\n:CELL-a - [0:0]\n{line}\nCOMMIT\n")
}

fn refused_at(judged: Result<(), NotOurs>) -> Option<usize> {
    match judged.unwrap_err() {
        NotOurs::Line { line, .. } => Some(line),
        NotOurs::TooLong => None,
    }
}

#[test]
fn rules_of_ours_pass() {
    for (table, line) in [
        ("mangle", "-A CELL-a -j DROP"),
        (
            "mangle",
            "-A CELL-a ! -i wg0 -p tcp -m set ! --match-set CELL-peers4 src,dst,dst -g CELL-b",
        ),
        (
            "mangle",
            "-A CELL-a -s 10.86.0.1/32 -m conntrack ! --ctstatus CONFIRMED -j SET --map-set CELL-m src --map-mark",
        ),
        ("mangle", "-A CELL-a -m conntrack --ctreplsrc 10.0.0.1 -j RETURN"),
        ("mangle", "-A CELL-a ! -i cellsvc+ -j RETURN"),
        (
            "mangle",
            "-A CELL-a -j CONNMARK --restore-mark --nfmask 0x0 --ctmask 0x1ff0",
        ),
        ("mangle", "-A CELL-a -m owner --uid-owner 54321 -j CELL-b"),
        (
            "nat",
            "-A CELL-a -p tcp -m connmark --mark 0x10a0/0x1ff0 -j DNAT --to-destination 169.254.67.1:9110",
        ),
        ("nat", "-A PREROUTING -j CELL-a"),
        ("nat", "-I POSTROUTING 1 -j CELL-a"),
        ("filter", "-I DOCKER-USER 1 -j CELL-a"),
        ("filter", "-D FORWARD -j CELL-a"),
        ("filter", "-D INPUT -j CELL-a"),
        ("nat", "-D KUBE-SERVICES -j CELL-a"),
        ("nat", "-D cali:in/eth0@2 -j CELL-a"),
        (
            "filter",
            "-A CELL-a -j REJECT --reject-with icmp-admin-prohibited",
        ),
        ("raw", "-F CELL-a"),
        ("raw", "-X CELL-a"),
    ] {
        assert_eq!(judge_rules(&in_table(table, line), Family::V4), Ok(()), "{line}");
    }
    let six = in_table("nat", "-A CELL-a -p tcp -j DNAT --to-destination [fd43::1]:9110");
    assert_eq!(judge_rules(&six, Family::V6), Ok(()));
    assert_eq!(
        refused_at(judge_rules(&six, Family::V4)),
        Some(3),
        "of the other family"
    );
}

#[test]
fn no_line_reaches_beyond_our_chains() {
    for (table, line) in [
        // Chains, policies and rules of others.
        ("filter", ":FORWARD DROP [0:0]"),
        ("filter", ":INPUT ACCEPT [0:0]"),
        ("filter", ":OTHER - [0:0]"),
        ("filter", "-P FORWARD ACCEPT"),
        ("filter", "-F FORWARD"),
        ("filter", "-F"),
        ("filter", "-X OTHER"),
        ("filter", "-A INPUT -j ACCEPT"),
        ("filter", "-A INPUT -j CELL-a"),
        ("filter", "-I FORWARD 1 -j ACCEPT"),
        ("filter", "-I FORWARD 3 -j CELL-a"),
        ("filter", "-D FORWARD 1"),
        ("filter", "-D --modprobe=x -j CELL-a"),
        ("filter", "-D -A -j CELL-a"),
        ("filter", "-D ! -j CELL-a"),
        ("filter", "-D  -j CELL-a"),
        ("filter", "-D a#b -j CELL-a"),
        ("filter", "-D INPUT -j ACCEPT"),
        ("filter", "-D INPUT -p tcp -j CELL-a"),
        ("filter", "-D FORWARD -j DOCKER-USER"),
        ("filter", "-R FORWARD 1 -j CELL-a"),
        ("filter", "-E OTHER CELL-a"),
        ("filter", "-Z"),
        ("filter", "-A CELL-a -j OTHER"),
        ("filter", "-A CELL-a -g OTHER"),
        ("filter", "-A CELL-a ! -j DROP"),
        // Sets of others.
        ("mangle", "-A CELL-a -m set --match-set f2b src -j DROP"),
        ("mangle", "-A CELL-a -j SET --add-set CELL-m src"),
        ("mangle", "-A CELL-a -j SET --map-set f2b src --map-mark"),
        // Names that are looked up, patterns, files, programs, modules.
        ("mangle", "-A CELL-a -s example.org -j DROP"),
        ("mangle", "-A CELL-a -i wg+ -j DROP"),
        ("mangle", "-A CELL-a -i + -j DROP"),
        ("mangle", "-A CELL-a -i cell+svc -j DROP"),
        ("mangle", "-A CELL-a -m owner --uid-owner root -j DROP"),
        ("mangle", "-A CELL-a -m bpf --object-pinned /sys/fs/bpf/x -j DROP"),
        ("mangle", "-A CELL-a -m recent --name x --set -j DROP"),
        ("mangle", "-A CELL-a -m ../../tmp/evil -j DROP"),
        ("mangle", "-A CELL-a -j ../../tmp/evil"),
        ("mangle", "-A CELL-a -j NFQUEUE"),
        ("mangle", "-A CELL-a -j LOG"),
        ("mangle", "-A CELL-a -j DROP --modprobe=/tmp/evil"),
        ("mangle", "-M /tmp/evil -A CELL-a -j DROP"),
        ("mangle", "-A CELL-a -t nat -j DROP"),
        ("mangle", "-A CELL-a -m comment --comment x -j DROP"),
        ("mangle", "-A CELL-a"),
        ("mangle", "-A CELL-a -m mark --mark 4 -j DROP"),
        ("mangle", "-A CELL-a -p all -j DROP"),
        ("mangle", "-A CELL- -j DROP"),
        ("mangle", "-A CELL-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa -j DROP"),
        // What reads differently than it looks.
        ("mangle", "-A CELL-a -j \"DROP\""),
        ("mangle", "-A CELL-a  -j DROP"),
        ("mangle", "-A CELL-a -j DROP\r"),
        ("mangle", "-A CELL-a\t-j DROP"),
        ("mangle", "# -A CELL-a -j DROP"),
        ("mangle", ""),
    ] {
        let judged = judge_rules(&in_table(table, line), Family::V4);
        assert_eq!(refused_at(judged), Some(3), "{line}");
    }
}

#[test]
fn tables_begin_and_end_and_stand_there_once() {
    assert_eq!(judge_rules("", Family::V4), Ok(()));
    for (text, line) in [
        ("*security\nCOMMIT\n", 1),
        ("*filter\n", 2),
        ("-A CELL-a -j DROP\n", 1),
        ("*filter\nCOMMIT\n*filter\nCOMMIT\n", 3),
        ("*filter\n*nat\nCOMMIT\n", 2),
        ("COMMIT\n", 1),
    ] {
        assert_eq!(refused_at(judge_rules(text, Family::V4)), Some(line), "{text}");
    }
    let long = "*filter\n".to_owned() + &" ".repeat(TEXT_MAX);
    assert_eq!(judge_rules(&long, Family::V4), Err(NotOurs::TooLong));
    assert_eq!(judge_sets(&long), Err(NotOurs::TooLong));
    let line = format!("add CELL-a {}", "1".repeat(2000));
    assert_eq!(refused_at(judge_sets(&line)), Some(1));
}

#[test]
fn sets_of_ours_pass_and_no_others() {
    for line in [
        "create CELL-a hash:ip family inet maxelem 1048576 skbinfo",
        "create CELL-a hash:net,iface family inet6 maxelem 1048576",
        "add CELL-a 10.86.0.4 skbmark 0x1000/0x1ff0",
        "add CELL-a 10.86.0.4,tcp:80,192.168.77.9",
        "add CELL-exit_links6 ::/0,wgext_0000",
        "add CELL-a 128.0.0.0/1,udp:53",
        "del CELL-a fd86::4",
        "destroy CELL-a",
    ] {
        assert_eq!(judge_sets(line), Ok(()), "{line}");
    }
    for line in [
        "create f2b hash:ip family inet maxelem 1048576",
        "create CELL-a list:set family inet maxelem 8",
        "create CELL-a hash:ip family inet maxelem 9 timeout 5",
        "add f2b 10.0.0.1",
        "add CELL-a example.org",
        "add CELL-a 10.0.0.1,http",
        "add CELL-a 10.0.0.1 nomatch",
        "add CELL-a 10.0.0.1 timeout 5",
        "add CELL-a 10.0.0.1-10.0.0.9",
        "add CELL-a 10.86.0.4,physdev:eth0",
        "destroy",
        "destroy f2b",
        "flush",
        "swap CELL-a f2b",
        "rename CELL-a f2b",
        "save -file /etc/passwd",
        "-file /etc/passwd",
        "quit",
        "",
    ] {
        let text = format!("destroy CELL-a\n{line}\n");
        assert_eq!(refused_at(judge_sets(&text)), Some(2), "{line}");
    }
}

#[test]
fn what_is_others_is_not_told() {
    let saved = "# Generated by iptables-save\n*filter\n:INPUT ACCEPT [1:2]\n:DOCKER-USER - [0:0]\n:f2b - [0:0]\n:CELL-a - [0:0]\n\
                 [1:2] -A INPUT -j f2b\n[0:0] -A f2b -s 192.0.2.7/32 -j DROP\n[3:4] -A CELL-a -j DROP\nCOMMIT\n";
    let own = "*filter\n:INPUT ACCEPT [1:2]\n:DOCKER-USER - [0:0]\n:CELL-a - [0:0]\n[1:2] -A INPUT -j f2b\n\
               [3:4] -A CELL-a -j DROP\nCOMMIT\n";
    assert_eq!(own_rules(saved), own);
    let sets = "create f2b hash:ip\nadd f2b 192.0.2.7\ncreate CELL-a hash:ip\nadd CELL-a 10.0.0.1\n";
    assert_eq!(own_sets(sets), "create CELL-a hash:ip\nadd CELL-a 10.0.0.1\n");
    let listed = "Name: f2b\nType: hash:ip\nRevision: 6\nHeader: family inet\nNumber of entries: 9\n\n\
                  Name: CELL-a\nType: hash:ip\nRevision: 6\nHeader: family inet maxelem 8\nReferences: 1\nNumber of entries: 2\n";
    let told = (
        "create CELL-a hash:ip family inet maxelem 8\n".to_owned(),
        vec![2],
    );
    assert_eq!(entries(listed), told);
}

proptest! {
    #[test]
    fn no_text_ends_the_judge(text in "[ -~\n]{0,200}", any in any::<String>()) {
        for text in [&text, &any] {
            let _ = (judge_rules(text, Family::V4), judge_rules(text, Family::V6), judge_sets(text));
            let _ = (own_rules(text), own_sets(text), entries(text));
        }
    }

    /// Whatever words are put together, a line that passes names chains and sets of ours alone; but for one that takes a jump to ours away.
    #[test]
    fn what_passes_names_ours_alone(words in proptest::collection::vec(
        prop::sample::select(vec!["-A", "-I", "-D", "-F", "-X", "-j", "-g", "CELL-a", "OTHER", "FORWARD", "INPUT", "1",
            "ACCEPT", "DROP", "-m", "set", "--match-set", "src", "!", "f2b", "-i", "wg0", "SET", "--map-set", "--map-mark"]), 1..9)) {
        let line = words.join(" ");
        if judge_rules(&in_table("filter", &line), Family::V4).is_ok() {
            let strange = ["OTHER", "INPUT", "f2b"].iter().any(|name| words.contains(name));
            prop_assert!(!strange || (words.len() == 4 && words[0] == "-D" && words[2..] == ["-j", "CELL-a"]), "{}", line);
            if words.contains(&"FORWARD") {
                prop_assert!(words.last() == Some(&"CELL-a"), "{}", line);
            }
        }
    }
}
