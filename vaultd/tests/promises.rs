//! docs/security.md names the test that holds each promise; every one of them exists.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

/// `file.rs` › `function`, in backquotes.
fn named(document: &str) -> Vec<(String, String)> {
    let words: Vec<&str> = document.split('`').collect();
    let pair = |at: usize| (words[at - 1].to_owned(), words[at + 1].to_owned());
    (1..words.len() - 1)
        .filter(|at| words[*at].trim() == "›")
        .map(pair)
        .collect()
}

#[test]
fn every_test_that_the_promises_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let document = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let named = named(&document);
    assert!(named.len() > 30, "only {} tests are named", named.len());
    let missing: Vec<_> = named
        .into_iter()
        .filter(|(file, function)| {
            let text = fs::read_to_string(root.join(file)).unwrap_or_default();
            !text.contains(&format!("fn {function}("))
        })
        .collect();
    assert!(missing.is_empty(), "named and not there: {missing:?}");
}
