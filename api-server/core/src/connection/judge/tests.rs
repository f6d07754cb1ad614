use super::*;

const NOW: i64 = 1_800_000_000_000;

fn tunnel_at(ago: Option<i64>, keeps_alive: bool) -> Health {
    let seen = Seen::Tunnel {
        handshake_unix_ms: ago.map(|ago| NOW - ago),
        keeps_alive,
        unanswered: false,
    };
    judge(None, &seen, &Proof::default(), NOW).health
}

fn relay_at(success: Option<i64>, failure: Option<(i64, &str)>) -> Health {
    let seen = Seen::Relay(Relayed {
        listening: true,
        success_unix_ms: success.map(|ago| NOW - ago),
        failure_unix_ms: failure.map(|(ago, _)| NOW - ago),
        failure_reason: failure.map(|(_, reason)| reason.to_owned()).unwrap_or_default(),
        failure_detail: "of the test".to_owned(),
        probe: None,
    });
    judge(None, &seen, &Proof::default(), NOW).health
}

#[test]
fn a_tunnel_works_while_its_handshake_is_young() {
    for keeps_alive in [false, true] {
        assert_eq!(tunnel_at(Some(0), keeps_alive), Health::Working);
        assert_eq!(tunnel_at(Some(179_999), keeps_alive), Health::Working);
        assert_eq!(tunnel_at(None, keeps_alive), Health::Unknown);
    }
    assert_eq!(tunnel_at(Some(180_000), true), Health::Down);
    assert_eq!(tunnel_at(Some(180_000), false), Health::Unknown);
}

#[test]
fn a_relay_is_judged_by_what_came_last() {
    assert_eq!(relay_at(None, None), Health::Unknown);
    assert_eq!(relay_at(Some(10), None), Health::Working);
    for of_server in [
        "CONNECT_FAILED",
        "CONNECT_TIMEOUT",
        "PROTOCOL",
        "CREDENTIALS",
        "HOST_ID",
    ] {
        assert_eq!(relay_at(Some(10), Some((20, of_server))), Health::Working);
        assert_eq!(relay_at(Some(20), Some((10, of_server))), Health::Down);
        assert_eq!(relay_at(None, Some((10, of_server))), Health::Down);
    }
    assert_eq!(
        relay_at(Some(300_000), Some((300_000, "CONNECT_FAILED"))),
        Health::Unknown
    );
    let deaf = Seen::Relay(Relayed::default());
    assert_eq!(judge(None, &deaf, &Proof::default(), NOW).health, Health::Down);
}

/// One device that opens a connection to where nobody answers must not let all others out directly.
#[test]
fn what_a_destination_may_have_done_is_not_the_exits_fault() {
    for anybodys in ["REFUSED", "PAUSED", "HANDSHAKE_TIMEOUT", "CLOSED", "SECRET"] {
        assert_eq!(
            relay_at(Some(20), Some((10, anybodys))),
            Health::Working,
            "{anybodys}"
        );
        assert_eq!(
            relay_at(None, Some((10, anybodys))),
            Health::Unknown,
            "{anybodys}"
        );
        let proven = Seen::Relay(Relayed {
            listening: true,
            failure_unix_ms: Some(NOW),
            failure_reason: anybodys.to_owned(),
            ..Relayed::default()
        });
        let told = |success, failure| judge(None, &proven, &proof(success, failure), NOW);
        assert_eq!(told(Some(59_999), Some(5)).health, Health::Working, "{anybodys}");
        let amiss = told(Some(60_000), Some(5));
        assert_eq!(amiss.health, Health::Down, "its own questions tell, {anybodys}");
        assert_eq!(amiss.detail, "requests through it are not answered: of the test");
    }
}

#[test]
fn a_relay_that_answers_none_of_its_own_questions_is_down_unless_others_come_through() {
    let told = |came_through: i64| {
        let seen = Seen::Relay(Relayed {
            listening: true,
            success_unix_ms: Some(NOW - came_through),
            ..Relayed::default()
        });
        judge(None, &seen, &proof(Some(60_000), Some(5)), NOW).health
    };
    assert_eq!(told(59_999), Health::Working);
    assert_eq!(told(60_000), Health::Down);
}

#[test]
fn an_obstacle_outweighs_what_is_seen() {
    let seen = Seen::Tunnel {
        handshake_unix_ms: Some(NOW),
        keeps_alive: true,
        unanswered: false,
    };
    assert_eq!(judge(None, &seen, &Proof::default(), NOW).health, Health::Working);
    let all = [
        Obstacle::Secrets,
        Obstacle::Type,
        Obstacle::Name("no".to_owned()),
        Obstacle::NoEgress,
        Obstacle::NetdRefuses("no".to_owned()),
        Obstacle::EgressRefuses("no".to_owned()),
    ];
    for obstacle in all {
        let judged = judge(Some(&obstacle), &seen, &Proof::default(), NOW);
        assert_eq!(judged.health, Health::Down, "{obstacle:?}");
        assert!(!judged.detail.is_empty());
    }
    for nothing in [Seen::Nothing, Seen::Away("netd")] {
        assert_eq!(
            judge(None, &nothing, &Proof::default(), NOW).health,
            Health::Unknown
        );
    }
}

fn proof(success: Option<i64>, failure: Option<i64>) -> Proof {
    Proof {
        success_unix_ms: success.map(|ago| NOW - ago),
        failure_unix_ms: failure.map(|ago| NOW - ago),
        failure_detail: "of the test".to_owned(),
        lost: if failure.is_some() { 2 } else { 0 },
        marked: None,
    }
}

/// A question was just answered by the interface; what became of those by the mark.
fn marked(success: Option<i64>, failure: Option<i64>) -> Proof {
    Proof {
        marked: Some(Marked {
            success_unix_ms: success.map(|ago| NOW - ago),
            failure_unix_ms: failure.map(|ago| NOW - ago),
            failure_detail: "192.0.2.53:53: no route".to_owned(),
            lost: if failure.is_some() { 2 } else { 0 },
        }),
        ..proof(Some(1), None)
    }
}

#[test]
fn an_exit_that_answers_by_its_interface_alone_is_down() {
    let told = |proof: &Proof| tunnel_with(Some(10), false, proof);
    assert_eq!(told(&marked(Some(5), None)).health, Health::Working);
    assert_eq!(
        told(&marked(Some(59_999), Some(5))).health,
        Health::Working,
        "one lost question says nothing"
    );
    let amiss = told(&marked(Some(60_000), Some(5)));
    assert_eq!(amiss.health, Health::Down);
    assert_eq!(
        amiss.detail,
        "the exit answers, but not by its mark: 192.0.2.53:53: no route"
    );
    assert_eq!(amiss.proven_unix_ms, Some(NOW - 60_000), "no handshake counts");
    assert_eq!(told(&marked(None, Some(5))).proven_unix_ms, None);
    assert_eq!(
        told(&marked(Some(70_000), Some(60_000))).health,
        Health::Working,
        "netd gives no mark any more"
    );
    let relay = Seen::Relay(Relayed {
        listening: true,
        ..Relayed::default()
    });
    let relayed = judge(None, &relay, &marked(None, Some(5)), NOW);
    assert_eq!(
        (relayed.health, relayed.proven_unix_ms),
        (Health::Working, Some(NOW - 1))
    );
}

/// One was lost, and then the machine ran short of what questions take, or netd of marks: nobody knows what has become of the exit.
#[test]
fn one_lost_question_says_nothing_however_long_nobody_can_ask_again() {
    let lost = |count: u32, success: Option<i64>| Proof {
        lost: count,
        ..proof(success, Some(40_000))
    };
    let relay = Seen::Relay(Relayed {
        listening: true,
        ..Relayed::default()
    });
    let by_relay = |proof: &Proof| judge(None, &relay, proof, NOW).health;
    let by_tunnel = |proof: &Proof| tunnel_with(Some(10), false, proof).health;
    let one = lost(1, Some(60_000));
    assert_eq!(
        (by_tunnel(&one), by_relay(&one)),
        (Health::Working, Health::Unknown)
    );
    let at_first = lost(1, None);
    assert_eq!(
        (by_tunnel(&at_first), by_relay(&at_first)),
        (Health::Working, Health::Unknown),
        "after a start nothing is known"
    );
    for says in [lost(2, Some(60_000)), lost(2, None)] {
        assert_eq!(
            (by_tunnel(&says), by_relay(&says)),
            (Health::Down, Health::Down),
            "{says:?}"
        );
    }
    let by_mark = |count: u32, success: Option<i64>| {
        let mut proof = marked(success, Some(40_000));
        proof.marked = proof.marked.map(|marked| Marked {
            lost: count,
            ..marked
        });
        by_tunnel(&proof)
    };
    assert_eq!(by_mark(1, Some(60_000)), Health::Working);
    assert_eq!(by_mark(2, Some(60_000)), Health::Down);
    assert_eq!(by_mark(1, None), Health::Working);
    assert_eq!(by_mark(2, None), Health::Down);
}

fn tunnel_with(handshake: Option<i64>, unanswered: bool, proof: &Proof) -> Judged {
    let seen = Seen::Tunnel {
        handshake_unix_ms: handshake.map(|ago| NOW - ago),
        keeps_alive: false,
        unanswered,
    };
    judge(None, &seen, proof, NOW)
}

#[test]
fn a_request_that_came_back_outweighs_the_handshake() {
    let none = Proof::default();
    let health = |handshake, unanswered, proof: &Proof| tunnel_with(handshake, unanswered, proof).health;
    assert_eq!(health(None, false, &proof(Some(59_999), None)), Health::Working);
    assert_eq!(
        health(Some(10), false, &proof(Some(30_000), Some(5))),
        Health::Working,
        "one lost question says nothing"
    );
    assert_eq!(
        health(Some(10), false, &proof(Some(60_000), Some(5))),
        Health::Down,
        "a handshake alone carries nothing"
    );
    assert_eq!(
        health(Some(10), false, &proof(None, Some(60_000))),
        Health::Working,
        "an old failure is none"
    );
    assert_eq!(health(Some(180_000), false, &proof(None, Some(5))), Health::Down);
    assert_eq!(health(Some(180_000), true, &none), Health::Down);
    assert_eq!(health(Some(180_000), false, &none), Health::Unknown);
    assert_eq!(health(None, true, &proof(None, Some(5))), Health::Down);
    let gone = Seen::NoTunnel("no key".to_owned());
    assert_eq!(
        judge(None, &gone, &proof(Some(5), None), NOW).health,
        Health::Down
    );
}

#[test]
fn a_relay_is_proven_by_questions_too() {
    let seen = Seen::Relay(Relayed {
        listening: true,
        ..Relayed::default()
    });
    let health = |proof: &Proof| judge(None, &seen, proof, NOW).health;
    assert_eq!(health(&proof(Some(5), None)), Health::Working);
    assert_eq!(health(&proof(Some(30_000), Some(5))), Health::Working);
    assert_eq!(health(&proof(Some(60_000), Some(5))), Health::Down);
    assert_eq!(health(&proof(Some(60_000), Some(60_000))), Health::Unknown);
}

#[test]
fn what_came_back_last_is_told_whatever_it_was() {
    let told = |handshake, proof: &Proof| tunnel_with(handshake, false, proof).proven_unix_ms;
    assert_eq!(told(Some(10), &proof(Some(20), None)), Some(NOW - 10));
    assert_eq!(told(Some(20), &proof(Some(10), Some(1))), Some(NOW - 10));
    assert_eq!(told(None, &proof(None, Some(1))), None);
}

#[test]
fn an_idle_tunnel_is_no_dead_one() {
    let (young, old) = (Some(NOW - 1), Some(NOW - HANDSHAKE_MS));
    let idle = Silence::default().after(old, 500, NOW).after(old, 500, NOW);
    assert!(!idle.unanswered(), "nothing was sent");
    let asking = idle.after(old, 648, NOW);
    assert!(asking.unanswered(), "a handshake was asked for");
    assert!(
        asking.after(old, 648, NOW).unanswered(),
        "until there is an answer"
    );
    assert!(!asking.after(young, 740, NOW).unanswered());
    assert!(!asking.after(old, 0, NOW).unanswered(), "it was made anew");
    let new = Silence::default().after(None, 148, NOW);
    assert!(!new.unanswered() && new.after(None, 296, NOW).unanswered());
}

#[test]
fn where_there_is_no_tor_it_is_said_what_to_install() {
    let told = |reason: &str| {
        let relayed = Relayed {
            listening: true,
            failure_unix_ms: Some(NOW),
            failure_reason: reason.to_owned(),
            failure_detail: "no".to_owned(),
            ..Relayed::default()
        };
        judge(None, &Seen::Relay(relayed.of_tor()), &Proof::default(), NOW).detail
    };
    assert_eq!(
        told("CONNECT_FAILED"),
        "no; Tor runs where its program is installed: apt install tor (CONNECT_FAILED)"
    );
    assert_eq!(told("PROTOCOL"), "no (PROTOCOL)");
}

/// Tor's port as it was found `ago`, and what went through it.
fn tor(found: &str, ago: i64, success: Option<i64>, failure: Option<(i64, &str)>, proof: &Proof) -> Judged {
    let relayed = Relayed {
        listening: true,
        success_unix_ms: success.map(|ago| NOW - ago),
        failure_unix_ms: failure.map(|(ago, _)| NOW - ago),
        failure_reason: failure.map(|(_, reason)| reason.to_owned()).unwrap_or_default(),
        failure_detail: "not carried".to_owned(),
        probe: Some(Probe {
            at_unix_ms: NOW - ago,
            failure_reason: found.to_owned(),
            failure_detail: "not found".to_owned(),
        }),
    };
    judge(None, &Seen::Relay(relayed.of_tor()), proof, NOW)
}

#[test]
fn a_tor_that_is_not_there_is_told_from_one_that_does_not_get_through() {
    let none = Proof::default();
    let away = tor("CONNECT_FAILED", 5, None, None, &none);
    assert_eq!((away.health, away.seen_unix_ms), (Health::Down, Some(NOW - 5)));
    assert_eq!(
        away.detail,
        "Tor does not run: not found; Tor runs where its program is installed: apt install tor (CONNECT_FAILED)"
    );
    let stranger = tor("PROTOCOL", 5, None, None, &none);
    assert_eq!(stranger.health, Health::Down);
    assert!(
        stranger.detail.contains("does not speak SOCKS"),
        "{}",
        stranger.detail
    );
    let slow = |ago| tor("HANDSHAKE_TIMEOUT", 5, Some(ago), None, &none).health;
    assert_eq!(
        (slow(PROOF_MS - 1), slow(PROOF_MS)),
        (Health::Working, Health::Down)
    );
    assert_eq!(
        tor("CONNECT_FAILED", 5, Some(10), None, &none).health,
        Health::Down
    );
    let starting = tor("", 5, None, None, &none);
    assert_eq!(
        (starting.health, starting.seen_unix_ms),
        (Health::Unknown, Some(NOW - 5))
    );
    let stuck = tor("", 5, None, None, &proof(None, Some(10)));
    assert_eq!(stuck.health, Health::Down);
    assert!(
        stuck
            .detail
            .starts_with("Tor answers at its port, but does not get through: "),
        "{}",
        stuck.detail
    );
    let strange = tor("", 5, None, Some((10, "PROTOCOL")), &none);
    assert_eq!(
        (strange.health, &*strange.detail),
        (
            Health::Down,
            "Tor answers at its port, but does not get through: not carried (PROTOCOL)"
        )
    );
    let one_destination = tor("", 5, None, Some((10, "CLOSED")), &none);
    assert_eq!(one_destination.health, Health::Unknown);
}

#[test]
fn what_went_through_tor_is_worth_more_than_its_port() {
    let none = Proof::default();
    assert_eq!(tor("", 5, Some(10), None, &none).health, Health::Working);
    assert_eq!(
        tor("", 5, None, None, &proof(Some(10), None)).health,
        Health::Working
    );
    // Away since, and away before.
    assert_eq!(
        tor("CONNECT_FAILED", 5, Some(10), None, &none).health,
        Health::Down
    );
    assert_eq!(
        tor("CONNECT_FAILED", 10, Some(5), None, &none).health,
        Health::Working
    );
    // It is there again, and nothing has gone through it yet.
    let back = tor("", 5, None, Some((10, "CONNECT_FAILED")), &none);
    assert_eq!(back.health, Health::Unknown, "{}", back.detail);
    assert_eq!(
        tor("", 10, None, Some((5, "CONNECT_FAILED")), &none).health,
        Health::Down
    );
    // What was found a minute ago says nothing.
    assert_eq!(
        tor("CONNECT_FAILED", 60_000, None, None, &none).health,
        Health::Unknown
    );
}
