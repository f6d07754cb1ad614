#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use proptest::prelude::*;

fn id(number: u8) -> ExitId {
    ExitId::parse(&format!("6f1d2c3a-0b4e-4d5f-8a9b-0c1d2e3f4a{number:02x}")).unwrap()
}

fn peer(number: u8) -> IpAddr {
    [10, 8, 0, number].into()
}

/// Lets connections of one peer in until no more are; how many were, and what ended it.
fn flood(ledger: &mut Ledger, exit: u8) -> (u32, Full) {
    let mut admitted = 0;
    loop {
        match ledger.admit(&id(exit), peer(exit)) {
            Ok(()) => admitted += 1,
            Err(full) => return (admitted, full),
        }
    }
}

fn all(ledger: &Ledger) -> u32 {
    ledger.open.values().map(|through| through.count).sum()
}

#[test]
fn a_flood_borrows_and_leaves_every_other_its_share() {
    let mut ledger = Ledger::new(Limits::try_new(600, 600, 600).unwrap());
    ledger.deal(2);
    // A share of 100 for each of two, and for one that may come; 300 to lend.
    assert_eq!(flood(&mut ledger, 1), (400, Full::Lent));
    assert_eq!(flood(&mut ledger, 2), (100, Full::Lent));
    ledger.release(&id(1), peer(1));
    assert_eq!(
        flood(&mut ledger, 2),
        (1, Full::Lent),
        "what comes back is lent again"
    );
    ledger.deal(3);
    assert_eq!(
        flood(&mut ledger, 3),
        (75, Full::Lent),
        "a third exit finds its share"
    );
}

#[test]
fn one_exit_has_what_one_may_have() {
    let mut ledger = Ledger::new(Limits::try_new(600, 150, 150).unwrap());
    ledger.deal(2);
    assert_eq!(flood(&mut ledger, 1), (150, Full::Exit));
}

#[test]
fn a_greedy_peer_takes_nothing_from_another() {
    let mut ledger = Ledger::new(Limits::try_new(10, 10, 2).unwrap());
    ledger.deal(1);
    let admitted: Vec<_> = (0..3).map(|_| ledger.admit(&id(1), peer(1))).collect();
    assert_eq!(admitted, [Ok(()), Ok(()), Err(Full::Peer)]);
    let mapped = "::ffff:10.8.0.1".parse().unwrap();
    assert_eq!(ledger.admit(&id(1), mapped), Err(Full::Peer), "the same peer");
    assert_eq!(ledger.admit(&id(1), peer(2)), Ok(()));
}

/// One thing that happens: of the exit and the peer, in or out.
fn steps(exits: u8) -> impl Strategy<Value = Vec<(bool, u8, u8)>> {
    prop::collection::vec((prop::bool::weighted(0.7), 0..exits, 0u8..4), 0..400)
}

fn run(ledger: &mut Ledger, open: &mut Vec<(u8, u8)>, steps: Vec<(bool, u8, u8)>) {
    for (enter, exit, who) in steps {
        if enter {
            if ledger.admit(&id(exit), peer(who)).is_ok() {
                open.push((exit, who));
            }
        } else if let Some(at) = open.iter().position(|one| *one == (exit, who)) {
            open.swap_remove(at);
            ledger.release(&id(exit), peer(who));
        }
    }
}

proptest! {
    /// Whatever happened, and however often exits were dealt anew: never more than the total, and none of one exit or peer.
    #[test]
    fn no_limit_is_ever_exceeded(
        (total, per_exit, per_peer) in (1u32..60, 1u32..60, 1u32..60),
        rounds in prop::collection::vec((0usize..8, steps(6)), 1..4),
    ) {
        let limits = Limits::try_new(total, per_exit.min(total), per_peer.min(per_exit).min(total)).unwrap();
        let (mut ledger, mut open) = (Ledger::new(limits), Vec::new());
        for (exits, steps) in rounds {
            ledger.deal(exits);
            run(&mut ledger, &mut open, steps);
            prop_assert!(all(&ledger) <= total);
            prop_assert!((0..6).all(|exit| ledger.open_through(&id(exit)) <= limits.per_exit()));
            let most = ledger.open.values().flat_map(|through| through.peers.values()).max();
            prop_assert!(most.is_none_or(|most| *most <= limits.per_peer()));
        }
    }

    /// Whatever the others hold, each exit has its share, all of them at once; and so has one exit that comes then.
    #[test]
    fn a_share_is_always_available((total, exits) in (12u32..200, 1u8..6), before in steps(5)) {
        let limits = Limits::try_new(total.max(2 * (u32::from(exits) + 2)), total, total).unwrap();
        let mut ledger = Ledger::new(limits);
        ledger.deal(exits.into());
        let before = before.into_iter().map(|(enter, exit, who)| (enter, exit % exits, who)).collect();
        run(&mut ledger, &mut Vec::new(), before);
        flood(&mut ledger, 0);
        for dealt in [exits, exits + 1] {
            ledger.deal(dealt.into());
            let share = limits.guaranteed(dealt.into());
            for exit in 0..dealt {
                while ledger.open_through(&id(exit)) < share {
                    prop_assert_eq!(ledger.admit(&id(exit), peer(9)), Ok(()), "exit {} of {}", exit, dealt);
                }
            }
        }
    }

    /// What leaves is had again to the last place, and nothing is kept of who left.
    #[test]
    fn what_is_released_comes_back(exits in 1u8..6, before in steps(5)) {
        let limits = Limits::try_new(60, 60, 60).unwrap();
        let mut ledger = Ledger::new(limits);
        ledger.deal(exits.into());
        let first = flood(&mut ledger, 0);
        (0..first.0).for_each(|_| ledger.release(&id(0), peer(0)));
        let mut open = Vec::new();
        run(&mut ledger, &mut open, before);
        for exit in 0..5 {
            let through = open.iter().filter(|(of, _)| *of == exit).count();
            prop_assert_eq!(ledger.open_through(&id(exit)) as usize, through);
        }
        for (exit, who) in open {
            ledger.release(&id(exit), peer(who));
        }
        prop_assert!(ledger.open.is_empty());
        prop_assert_eq!(flood(&mut ledger, 0), first);
    }
}
