//! The catalog that is shipped is right, and its index is of exactly its files.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use cell_lab::catalog::index;

fn catalog() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../compose/catalog"))
}

#[test]
fn the_index_is_of_the_manifests_that_are_there() {
    let written = fs::read_to_string(catalog().join("index.json")).unwrap();
    assert!(
        written == index(catalog()).unwrap(),
        "a manifest has changed: target/debug/cell-catalog writes the index anew"
    );
}

#[test]
fn a_changed_byte_is_another_index_and_a_fault_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("chrony")).unwrap();
    let path = dir.path().join("chrony/manifest.json");
    let text = fs::read_to_string(catalog().join("chrony/manifest.json")).unwrap();
    fs::write(&path, &text).unwrap();
    let first = index(dir.path()).unwrap();
    fs::write(&path, format!("{text}\n")).unwrap();
    assert_ne!(first, index(dir.path()).unwrap());
    fs::write(&path, text.replace("\"20004:20004\"", "\"0:0\"")).unwrap();
    let fault = format!("{:#}", index(dir.path()).unwrap_err());
    assert!(
        fault.contains("chrony/manifest.json") && fault.contains("containers[0].user"),
        "{fault}"
    );
    fs::write(&path, text.replace("\"id\": \"chrony\"", "\"id\": \"time\"")).unwrap();
    assert!(
        index(dir.path())
            .unwrap_err()
            .to_string()
            .contains("has the id time")
    );
}
