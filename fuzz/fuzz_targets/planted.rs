//! Fails for one input, to show that a fault of the other targets would be seen.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    assert!(!input.starts_with(b"cell"), "planted");
});
