//! Fails for one input, to show that a fault of the other targets would be seen.
#![no_main]

use std::hint::black_box;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // Byte by byte: each right one is an edge of its own, by which the next is found. A comparison of all four at once is one edge.
    let mut right = 0;
    for (byte, planted) in input.iter().zip(black_box(b"cell")) {
        if byte != planted {
            break;
        }
        right += 1;
        match black_box(right) {
            1 => black_box("one"),
            2 => black_box("two"),
            3 => black_box("three"),
            _ => panic!("planted"),
        };
    }
});
