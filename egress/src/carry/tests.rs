#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

fn bytes(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + seed + at / 251) as u8).collect()
}

/// Through pipes of one byte to more than a piece: every byte, in order, and each end is passed on by itself.
#[tokio::test]
async fn every_byte_arrives_in_order_whatever_the_pipes_take() {
    for pipe in [1, 7, 4096, PIECE - 1, PIECE, 3 * PIECE] {
        let kept = Kept::of_exit(&Kept::of_all());
        let ((mut peer, mut near), (mut far, mut server)) = (duplex(pipe), duplex(pipe));
        let carrying = async { carry(&mut near, &mut far, b"early".to_vec(), &kept).await };
        let length = (pipe * 5).min(5 * PIECE);
        let talk = async {
            let (mut reads, mut writes) = tokio::io::split(&mut peer);
            let sending = async {
                writes.write_all(&bytes(1, length)).await.unwrap();
                writes.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            tokio::join!(sending, async { reads.read_to_end(&mut got).await.unwrap() });
            got
        };
        let serve = async {
            let mut asked = Vec::new();
            server.read_to_end(&mut asked).await.unwrap();
            // Only after the other direction has ended.
            server.write_all(&bytes(2, length)).await.unwrap();
            server.shutdown().await.unwrap();
            asked
        };
        let (carried, got, asked) = tokio::join!(carrying, talk, serve);
        carried.unwrap();
        assert_eq!(asked, bytes(1, length), "pipes of {pipe}");
        assert_eq!(
            got,
            [b"early".to_vec(), bytes(2, length)].concat(),
            "pipes of {pipe}"
        );
        assert_eq!(kept.bytes(), 0);
    }
}

/// What one connection keeps that nobody reads from, whose far side has said more than fits: bytes, beside what was kept before.
async fn kept_by_one(kept: &Arc<Kept>) -> usize {
    let before = kept.bytes();
    let ((_peer, mut near), (mut far, mut server)) = (duplex(16), duplex(4 * PIECE));
    server.write_all(&bytes(0, 4 * PIECE)).await.unwrap();
    let mut carrying = Box::pin(carry(&mut near, &mut far, Vec::new(), kept));
    assert!(futures_poll(&mut carrying).await.is_pending());
    let keeps = kept.bytes() - before;
    drop(carrying);
    assert_eq!(kept.bytes(), before, "it goes with its connection");
    keeps + 16
}

/// What waits for a reader is kept once and counted, with its exit and with all.
#[tokio::test]
async fn what_is_kept_is_counted_and_much_of_it_is_read_in_small_pieces() {
    let all = Kept::of_all();
    let exit = Kept::of_exit(&all);
    assert_eq!(kept_by_one(&exit).await, PIECE);
    exit.add(MUCH_OF_EXIT - 1);
    assert_eq!(kept_by_one(&exit).await, PIECE);
    exit.add(1);
    assert_eq!(kept_by_one(&exit).await, SMALL_PIECE);
    assert_eq!((exit.bytes(), all.bytes()), (MUCH_OF_EXIT, MUCH_OF_EXIT));
    exit.take(MUCH_OF_EXIT);
    assert_eq!(kept_by_one(&exit).await, PIECE, "as before");
    assert_eq!((exit.bytes(), all.bytes()), (0, 0));
}

/// 1,024 connections that are stuck, of one peer, and what another exit's are read in.
#[tokio::test]
async fn what_is_stuck_of_one_exit_slows_no_other() {
    let all = Kept::of_all();
    let [stuck, other] = [(); 2].map(|()| Kept::of_exit(&all));
    let mut held = Vec::new();
    for _ in 0..1024 {
        let (peer, mut near) = duplex(16);
        let (mut far, mut server) = duplex(2 * PIECE);
        server.write_all(&bytes(0, 2 * PIECE)).await.unwrap();
        let kept = Arc::clone(&stuck);
        let carrying = async move { carry(&mut near, &mut far, Vec::new(), &kept).await };
        let mut carrying = Box::pin(carrying);
        assert!(futures_poll(&mut carrying).await.is_pending());
        held.push((peer, server, carrying));
    }
    assert!((MUCH_OF_EXIT..MUCH_OF_EXIT + 1024 * SMALL_PIECE).contains(&stuck.bytes()));
    assert_eq!(stuck.bytes(), all.bytes());
    assert_eq!(kept_by_one(&stuck).await, SMALL_PIECE, "control: it slows itself");
    assert_eq!(kept_by_one(&other).await, PIECE);
    drop(held);
    assert_eq!((stuck.bytes(), all.bytes()), (0, 0));
}

/// Exits that each keep less than is much are much together.
#[tokio::test]
async fn all_exits_together_are_held_too() {
    let all = Kept::of_all();
    let exits: Vec<_> = (0..10).map(|_| Kept::of_exit(&all)).collect();
    let each = MUCH_OF_EXIT - 1;
    for exit in &exits[..8] {
        exit.add(each);
    }
    assert_eq!(kept_by_one(&exits[9]).await, PIECE, "8 bytes are left");
    exits[8].add(MUCH - 8 * each);
    for exit in [&exits[0], &exits[9]] {
        assert_eq!(kept_by_one(exit).await, SMALL_PIECE);
    }
    exits[8].take(1);
    assert_eq!(kept_by_one(&exits[9]).await, PIECE);
}

async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await
}

#[tokio::test]
async fn a_side_that_breaks_ends_it() {
    let kept = Kept::of_exit(&Kept::of_all());
    let ((mut peer, mut near), (mut far, server)) = (duplex(64), duplex(64));
    drop(server);
    peer.write_all(b"x").await.unwrap();
    assert!(carry(&mut near, &mut far, Vec::new(), &kept).await.is_err());
}
