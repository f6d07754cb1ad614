#![allow(clippy::unwrap_used, reason = "tests")]

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const NOW: i64 = 1_800_000_000;

fn signer(byte: u8) -> SigningKey {
    SigningKey::from_slice(&[byte; 32]).unwrap()
}

fn pem(byte: u8) -> String {
    signer(byte)
        .verifying_key()
        .to_public_key_pem(LineEnding::LF)
        .unwrap()
}

fn sign(byte: u8, bytes: &[u8]) -> Vec<u8> {
    let signature: DerSignature = signer(byte).sign(bytes);
    STANDARD.encode(signature.as_bytes()).into_bytes()
}

fn written(serial: u64, services: &[Value]) -> Vec<u8> {
    let whole = json!({"schema_version": 2, "serial": serial, "issued_unix_s": NOW, "expires_unix_s": NOW + 1000,
        "services": services});
    serde_json::to_vec(&whole).unwrap()
}

fn entry(id: &str) -> Value {
    json!({"id": id, "title": "A", "version": "1", "digest": digest_of(id.as_bytes()).as_str()})
}

fn index(serial: u64) -> RemoteIndex {
    RemoteIndex::parse(&written(serial, &[])).unwrap()
}

#[test]
fn only_what_a_key_signed_is_read() {
    let bytes = written(1, &[entry("b"), entry("a"), entry("a"), json!({"id": "../x"})]);
    let keys = keys(&[pem(1) + &pem(2)]).unwrap();
    assert_eq!(keys.len(), 2);
    for byte in [1, 2] {
        let found = RemoteIndex::open(&bytes, &sign(byte, &bytes), &keys).unwrap();
        let ids: Vec<&str> = found.lines.iter().map(|line| line.id.as_str()).collect();
        assert_eq!((ids, found.faults.len()), (vec!["a", "b"], 2), "{found:?}");
    }
    let mut changed = bytes.clone();
    changed.push(b' ');
    for (bytes, signature) in [
        (&changed, sign(1, &bytes)),
        (&bytes, sign(3, &bytes)),
        (&bytes, Vec::new()),
        (&bytes, vec![0xff; 20]),
        (&bytes, vec![b'A'; 1000]),
    ] {
        let refused = RemoteIndex::open(bytes, &signature, &keys).unwrap_err();
        assert_eq!(refused, Refused::Signature);
    }
    let not_ours = json!({"schema_version": 1, "services": []})
        .to_string()
        .into_bytes();
    let refused = RemoteIndex::open(&not_ours, &sign(1, &not_ours), &keys).unwrap_err();
    assert!(matches!(refused, Refused::Index(_)), "{refused:?}");
}

#[test]
fn an_older_index_does_not_come_back() {
    let kept = Kept {
        serial: 7,
        digest: index(7).digest.to_string(),
    };
    assert_eq!(index(8).replaces(Some(&kept), NOW), Ok(true));
    assert_eq!(index(7).replaces(Some(&kept), NOW), Ok(false));
    assert_eq!(index(1).replaces(None, NOW), Ok(true));
    let rollback = Refused::Rollback { found: 6, kept: 7 };
    assert_eq!(index(6).replaces(Some(&kept), NOW), Err(rollback));
    let other = RemoteIndex::parse(&written(7, &[entry("a")])).unwrap();
    assert_eq!(other.replaces(Some(&kept), NOW), Err(Refused::SameSerial(7)));
    assert_eq!(index(8).replaces(Some(&kept), NOW + 1000), Err(Refused::Expired));
    assert_eq!(
        index(8).replaces(Some(&kept), NOW - 100_000),
        Err(Refused::Future)
    );
    // The one that is kept goes on, and is told to have ended.
    assert_eq!(index(7).replaces(Some(&kept), NOW + 1000), Ok(false));
    assert!(index(7).is_expired(NOW + 1000) && !index(7).is_expired(NOW + 999));
}

#[test]
fn addresses_are_https_and_folders() {
    let good = CatalogUrl::parse(" https://Catalog.Example.org/cell/index.json ").unwrap();
    assert_eq!(good.to_string(), "https://catalog.example.org/cell/");
    assert_eq!(
        (good.port(), good.authority().as_str()),
        (443, "catalog.example.org")
    );
    let digest = digest_of(b"");
    let file = good.path(&signature_file(&digest));
    assert!(
        file.starts_with("/cell/manifests/e3b0c44") && file.ends_with(".json.sig"),
        "{file}"
    );
    let by_address = CatalogUrl::parse("https://[2001:db8::1]:8443").unwrap();
    assert_eq!(by_address.to_string(), "https://[2001:db8::1]:8443/");
    assert!(by_address.address().is_some());
    // It is read as it is written.
    assert_eq!(CatalogUrl::parse(&by_address.to_string()).unwrap(), by_address);
    for (bad, why) in [
        ("http://catalog.example.org/", InvalidUrl::NotHttps),
        ("file:///etc/shadow", InvalidUrl::NotHttps),
        ("https://me:secret@catalog.example.org/", InvalidUrl::User),
        ("https://catalog.example.org/?a=1", InvalidUrl::Query),
        ("https://catalog.example.org/#a", InvalidUrl::Query),
        ("https://localhost/", InvalidUrl::Host),
        ("https://a_%20b.example/", InvalidUrl::NoUrl),
        ("catalog.example.org", InvalidUrl::NoUrl),
        ("", InvalidUrl::NoUrl),
    ] {
        assert_eq!(CatalogUrl::parse(bad), Err(why), "{bad}");
    }
    let long = format!("https://catalog.example.org/{}", "a".repeat(600));
    assert_eq!(CatalogUrl::parse(&long), Err(InvalidUrl::TooLong));
}

#[test]
fn keys_are_keys_of_cosign() {
    for bad in [
        vec![],
        vec!["x".to_owned()],
        vec![pem(1) + "x"],
        vec![pem(1); 9],
        vec!["a".repeat(PEM_MAX_BYTES + 1)],
    ] {
        assert!(keys(&bad).is_err(), "{bad:?}");
    }
    assert_eq!(keys(&[pem(1), pem(2)]).unwrap().len(), 2, "control");
}

#[test]
fn what_the_cell_has_is_not_shadowed() {
    let remotes = [("one", vec!["files", "wiki"]), ("two", vec!["chat", "wiki"])];
    let (counts, faults) = merge(["files", "email"], &remotes);
    assert_eq!(counts["one"], BTreeSet::from(["wiki"]));
    assert_eq!(counts["two"], BTreeSet::from(["chat"]));
    assert_eq!(faults.len(), 2);
    assert!(faults[0].contains("came with the cell"), "{faults:?}");
    assert!(faults[1].contains("one, which was added first"), "{faults:?}");
}

proptest! {
    #[test]
    fn nothing_ends_it(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in ".{0,80}") {
        drop(RemoteIndex::parse(&bytes));
        drop(RemoteIndex::open(&bytes, &bytes, &[]));
        drop(keys(std::slice::from_ref(&text)));
        if let Ok(url) = CatalogUrl::parse(&text) {
            prop_assert_eq!(CatalogUrl::parse(&url.to_string()), Ok(url));
        }
    }

    #[test]
    fn numbers_alone_decide(found in 1u64..50, kept in 1u64..50) {
        let kept_index = index(kept);
        let before = Kept { serial: kept, digest: kept_index.digest.to_string() };
        let verdict = index(found).replaces(Some(&before), NOW);
        match found.cmp(&kept) {
            std::cmp::Ordering::Less => prop_assert!(verdict.is_err()),
            std::cmp::Ordering::Equal => prop_assert_eq!(verdict, Ok(false)),
            std::cmp::Ordering::Greater => prop_assert_eq!(verdict, Ok(true)),
        }
    }

    #[test]
    fn each_id_counts_once(ids in proptest::collection::vec(proptest::collection::vec("[a-c]", 0..4), 0..4)) {
        let names = ["one", "two", "three", "four"];
        let remotes: Vec<(&str, Vec<&str>)> = names.iter().copied()
            .zip(ids.iter().map(|ids| ids.iter().map(String::as_str).collect::<BTreeSet<_>>().into_iter().collect()))
            .collect();
        let (counts, _) = merge(["a"], &remotes);
        let all: Vec<&str> = counts.values().flatten().copied().collect();
        let distinct: BTreeSet<&str> = all.iter().copied().collect();
        prop_assert_eq!(all.len(), distinct.len());
        prop_assert!(!distinct.contains("a"));
        let offered: BTreeSet<&str> = remotes.iter().flat_map(|(_, ids)| ids).copied().filter(|id| *id != "a").collect();
        prop_assert_eq!(distinct, offered);
    }
}
