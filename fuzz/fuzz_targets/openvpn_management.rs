//! What OpenVPN says on its management socket, line by line: much of it is what a server, or whoever speaks for it, chose.
#![no_main]

use cell_openvpn_core::management::{Event, TOLD_MAX, event};
use cell_openvpn_core::pushed::{Pushed, RESOLVERS_MAX};
use cell_openvpn_core::session::{Answer, Session};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: &str| {
    let mut session = Session::new(false, Pushed::default());
    for line in lines.lines() {
        if let Event::AsksElse(told) | Event::Lost(told) | Event::Fatal(told) = event(line) {
            assert!(told.chars().count() <= TOLD_MAX && !told.chars().any(char::is_control));
        }
        let answer = session.hear(line);
        assert!(answer != Answer::Login, "there is nobody to sign in");
        assert!(session.pushed().resolvers.len() <= RESOLVERS_MAX);
        if let Some(trouble) = session.trouble() {
            // Its own words around what is told, which may have four bytes a character.
            assert!(trouble.to_string().len() <= 4 * TOLD_MAX + 128);
        }
    }
});
