//! What an HTTP proxy answers, in the pieces it comes in: the first byte of the input says how long these are.
#![no_main]

use cell_egress_core::destination::Destination;
use cell_egress_core::handshake::{Handshake, Step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((size, answers)) = input.split_first() else { return };
    let local = ([10, 8, 0, 1], 9100).into();
    let destination = Destination::judge(([192, 0, 2, 7], 443).into(), local).expect("a host");
    let mut machine = Handshake::http_connect(destination, None);
    assert!(!machine.start().bytes().is_empty());
    let (mut taken, mut sent) = (0, 0);
    for piece in answers.chunks(usize::from(*size).max(1)) {
        taken += piece.len();
        match machine.receive(piece) {
            Ok(Step::Wait) => {}
            Ok(Step::Send(_)) => sent += 1,
            Ok(Step::Open(early)) => {
                // What is the destination's is the end of what came, byte for byte.
                assert!(answers[..taken].ends_with(&early));
                return;
            }
            Err(_) => {
                assert!(machine.receive(piece).is_err(), "what has failed stays failed");
                return;
            }
        }
        assert!(sent <= 0 && taken <= cell_egress_core::http_connect::HEAD_MAX, "an answer has an end");
    }
});
