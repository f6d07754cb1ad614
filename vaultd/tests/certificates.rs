//! Certificates as other programs see them: OpenSSL, rustls-webpki and x509-parser read what was issued.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::too_many_lines, reason = "tables of cases read best in one piece")]

mod common;

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cell_vaultd::authority::{Authority, AuthorityKey, root_pem};
use cell_vaultd::csr;
use cell_vaultd::files::StateFolder;
use cell_vaultd::vault::{CertificateRequest, Chain, Vault};
use cell_vaultd_core::Timestamp;
use cell_vaultd_core::profile::{self, Serial, ServerProfile};
use cell_vaultd_core::timestamp::{DAY, HOUR, SECOND};
use common::{API, KEK, machine_clock, open_with, request, some_day};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

fn vault(folder: &Path) -> Vault {
    open_with(Arc::new(StateFolder::new(folder)), machine_clock(), &KEK).unwrap()
}

/// What `openssl verify` says of a leaf for a name or an address.
fn openssl(
    root: &[u8],
    intermediate: &[u8],
    leaf: &[u8],
    host: Option<&str>,
    address: Option<&str>,
) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, der: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, root_pem(der)).unwrap();
        path
    };
    let mut command = Command::new("openssl");
    command
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"])
        .arg(file("root.pem", root));
    command
        .arg("-untrusted")
        .arg(file("intermediate.pem", intermediate));
    if let Some(host) = host {
        command.args(["-verify_hostname", host]);
    }
    if let Some(address) = address {
        command.args(["-verify_ip", address]);
    }
    let output = command.arg(file("leaf.pem", leaf)).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&told).into_owned())
    }
}

fn webpki(
    root: &[u8],
    intermediate: &[u8],
    leaf: &[u8],
    name: &str,
    now: Timestamp,
) -> Result<(), webpki::Error> {
    let root = CertificateDer::from(root);
    let (leaf, intermediate) = (CertificateDer::from(leaf), CertificateDer::from(intermediate));
    let leaf = EndEntityCert::try_from(&leaf)?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(now.unix_seconds() as u64));
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    let anchors = [anchor_from_trusted_cert(&root)?];
    leaf.verify_for_usage(
        algorithms,
        &anchors,
        &[intermediate],
        at,
        KeyUsage::server_auth(),
        None,
        None,
    )?;
    leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name.to_owned()).unwrap())
}

fn now() -> Timestamp {
    use cell_vaultd::clock::{Clock as _, SystemClock};
    SystemClock::default().now()
}

#[test]
fn a_certificate_verifies_with_openssl_and_webpki_for_its_names_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = vault(folder.path());
    let names = ["home.cell", "a.home.arpa"];
    let Chain { leaf, intermediate } = vault
        .issue_server_certificate(&API, &request(&names, &[&[10, 1, 2, 3], &[0xfd; 16]]))
        .unwrap();
    let root = vault.trust_bundle(&API).unwrap();
    let v6 = IpAddr::from([0xfd_u8; 16]).to_string();
    for name in names {
        assert_eq!(openssl(&root, &intermediate, &leaf.der, Some(name), None), Ok(()));
        assert_eq!(webpki(&root, &intermediate, &leaf.der, name, now()), Ok(()));
    }
    for address in ["10.1.2.3", v6.as_str()] {
        assert_eq!(
            openssl(&root, &intermediate, &leaf.der, None, Some(address)),
            Ok(())
        );
        assert_eq!(webpki(&root, &intermediate, &leaf.der, address, now()), Ok(()));
    }
    assert!(openssl(&root, &intermediate, &leaf.der, Some("other.cell"), None).is_err());
    assert!(webpki(&root, &intermediate, &leaf.der, "other.cell", now()).is_err());
    let tomorrow = now().plus(DAY + HOUR);
    assert!(
        webpki(&root, &intermediate, &leaf.der, "home.cell", tomorrow).is_err(),
        "24 hours and no more"
    );
}

/// As the vault would sign if its own check of names failed: the constraints in root and intermediate hold anyway.
#[test]
fn names_outside_do_not_verify_even_when_signed() {
    let folder = tempfile::tempdir().unwrap();
    let scope = common::policy(folder.path()).scope;
    let now = now();
    let serial = |n| Serial::from_random([n; 16]);
    let (root_key, key) = (
        AuthorityKey::generate().unwrap(),
        AuthorityKey::generate().unwrap(),
    );
    let root =
        Authority::self_signed("test", &profile::root("test", &scope, serial(1), now), &root_key).unwrap();
    let below = profile::intermediate("test", &scope, serial(2), now, root.validity);
    let intermediate = root.certify(&root_key, &below, &key).unwrap();
    let requested = csr::read(&request(&[], &[]).csr_der).unwrap();
    let verify = |names: &[&str], addresses: &[IpAddr], wanted: &str| {
        let profile = ServerProfile {
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            addresses: addresses.to_vec(),
            validity: profile::Validity::starting(now, 24 * HOUR),
            serial: serial(3),
        };
        let leaf = intermediate.issue(&key, &profile, &requested).unwrap();
        let by_openssl = openssl(
            &root.certificate,
            &intermediate.certificate,
            &leaf.der,
            None,
            None,
        );
        let by_webpki = webpki(
            &root.certificate,
            &intermediate.certificate,
            &leaf.der,
            wanted,
            now,
        );
        (by_openssl, by_webpki)
    };
    let good = verify(&["a.cell"], &["10.0.0.1".parse().unwrap()], "a.cell");
    assert_eq!(good, (Ok(()), Ok(())), "the control");
    let address = |text: &str| vec![text.parse::<IpAddr>().unwrap()];
    let outside: [(&[&str], Vec<IpAddr>, &str); 9] = [
        (&["google.com"], vec![], "google.com"),
        (&["a.cell.example"], vec![], "a.cell.example"),
        (&["evilhome.arpa"], vec![], "evilhome.arpa"),
        (&["arpa"], vec![], "arpa"),
        (&["a.cell", "google.com"], vec![], "a.cell"),
        (&[], address("8.8.8.8"), "8.8.8.8"),
        (&[], address("11.0.0.1"), "11.0.0.1"),
        (&[], address("2001:db8::1"), "2001:db8::1"),
        (&["a.cell"], address("192.0.2.1"), "a.cell"),
    ];
    for (names, addresses, wanted) in outside {
        let (by_openssl, by_webpki) = verify(names, &addresses, wanted);
        let told = by_openssl.unwrap_err();
        assert!(
            told.contains("permitted subtree violation"),
            "{names:?} {addresses:?}: {told}"
        );
        assert_eq!(
            by_webpki,
            Err(webpki::Error::NameConstraintViolation),
            "{names:?} {addresses:?}"
        );
    }
}

#[test]
fn a_scope_without_names_or_without_addresses_excludes_them_all() {
    let now = now();
    let serial = Serial::from_random([9; 16]);
    let scope = common::policy(Path::new("/state")).scope;
    for (names_only, wanted, other) in [(true, "a.cell", "10.0.0.1"), (false, "10.0.0.1", "a.cell")] {
        let mut scope = scope.clone();
        if names_only {
            scope.address_prefixes.clear()
        } else {
            scope.dns_suffixes.clear()
        }
        let (root_key, key) = (
            AuthorityKey::generate().unwrap(),
            AuthorityKey::generate().unwrap(),
        );
        let root =
            Authority::self_signed("test", &profile::root("test", &scope, serial, now), &root_key).unwrap();
        let below = profile::intermediate("test", &scope, serial, now, root.validity);
        let intermediate = root.certify(&root_key, &below, &key).unwrap();
        let requested = csr::read(&request(&[], &[]).csr_der).unwrap();
        for (name, verifies) in [(wanted, true), (other, false)] {
            let mut profile = ServerProfile {
                names: vec![],
                addresses: vec![],
                validity: below.validity,
                serial,
            };
            match name.parse() {
                Ok(address) => profile.addresses.push(address),
                Err(_) => profile.names.push(name.parse().unwrap()),
            }
            let leaf = intermediate.issue(&key, &profile, &requested).unwrap();
            let by_openssl = openssl(
                &root.certificate,
                &intermediate.certificate,
                &leaf.der,
                None,
                None,
            );
            assert_eq!(by_openssl.is_ok(), verifies, "{name}: {by_openssl:?}");
            let by_webpki = webpki(&root.certificate, &intermediate.certificate, &leaf.der, name, now);
            assert_eq!(by_webpki.is_ok(), verifies, "{name}: {by_webpki:?}");
        }
    }
}

fn extensions<'c>(certificate: &'c X509Certificate<'c>) -> Vec<(&'c ParsedExtension<'c>, bool)> {
    certificate
        .extensions()
        .iter()
        .map(|extension| (extension.parsed_extension(), extension.critical))
        .collect()
}

/// The profile of a leaf, whatever the request asks for.
#[test]
fn nothing_of_a_request_but_its_key_is_in_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = vault(folder.path());
    let key = KeyPair::generate().unwrap();
    let mut greedy = CertificateParams::new(vec!["google.com".to_owned()]).unwrap();
    greedy
        .distinguished_name
        .push(rcgen::DnType::CommonName, "google.com");
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any, ExtendedKeyUsagePurpose::ClientAuth];
    greedy
        .subject_alt_names
        .push(SanType::URI("https://google.com".try_into().unwrap()));
    let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    unknown.set_criticality(true);
    greedy.custom_extensions.push(unknown);
    let csr_der = greedy.serialize_request(&key).unwrap().der().to_vec();
    let request = CertificateRequest {
        csr_der,
        names: vec!["home.cell".into()],
        addresses: vec![vec![10, 0, 0, 1]],
    };
    let Chain { leaf, .. } = vault.issue_server_certificate(&API, &request).unwrap();

    let (rest, certificate) = X509Certificate::from_der(&leaf.der).unwrap();
    assert!(rest.is_empty());
    assert_eq!(
        certificate.public_key().subject_public_key.data,
        rcgen::PublicKeyData::der_bytes(&key)
    );
    assert_eq!(certificate.subject().iter().count(), 0, "an empty subject");
    assert_eq!(certificate.raw_serial().len(), 16);
    assert_eq!(certificate.raw_serial(), leaf.serial.as_bytes());
    assert!(certificate.raw_serial()[0] < 0x80);
    let life =
        certificate.validity().not_after.timestamp() - certificate.validity().not_before.timestamp() + 1;
    assert_eq!(life, 24 * 3600);
    let mut seen = Vec::new();
    for (extension, critical) in extensions(&certificate) {
        match extension {
            ParsedExtension::BasicConstraints(basic) => {
                assert!(!basic.ca && basic.path_len_constraint.is_none() && critical);
                seen.push("basic constraints");
            }
            ParsedExtension::KeyUsage(usage) => {
                assert!(usage.flags == 1 && usage.digital_signature() && critical);
                seen.push("key usage");
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                assert!(usage.server_auth && !usage.any && !usage.client_auth && usage.other.is_empty());
                seen.push("extended key usage");
            }
            ParsedExtension::SubjectAlternativeName(names) => {
                let expected = [
                    GeneralName::DNSName("home.cell"),
                    GeneralName::IPAddress(&[10, 0, 0, 1]),
                ];
                assert_eq!(names.general_names, expected);
                assert!(critical, "critical, because the subject is empty");
                seen.push("alternative names");
            }
            ParsedExtension::AuthorityKeyIdentifier(_) => seen.push("authority key"),
            ParsedExtension::SubjectKeyIdentifier(_) => seen.push("subject key"),
            other => panic!("not in the profile: {other:?}"),
        }
    }
    seen.sort_unstable();
    let profile = [
        "alternative names",
        "authority key",
        "basic constraints",
        "extended key usage",
        "key usage",
        "subject key",
    ];
    assert_eq!(seen, profile);
}

#[test]
fn root_and_intermediate_are_as_their_profiles_say() {
    let folder = tempfile::tempdir().unwrap();
    let mut vault = vault(folder.path());
    let root = vault.trust_bundle(&API).unwrap();
    let Chain { intermediate, .. } = vault
        .issue_server_certificate(&API, &request(&["a.cell"], &[]))
        .unwrap();
    for (der, path_length, years) in [(&root, 1, 10), (&intermediate, 0, 2)] {
        let (_, certificate) = X509Certificate::from_der(der).unwrap();
        let basic = certificate.basic_constraints().unwrap().unwrap();
        assert!(basic.critical && basic.value.ca);
        assert_eq!(basic.value.path_len_constraint, Some(path_length));
        let usage = certificate.key_usage().unwrap().unwrap();
        assert!(
            usage.critical
                && usage.value.key_cert_sign()
                && usage.value.crl_sign()
                && usage.value.flags == 0x60
        );
        let names = certificate.name_constraints().unwrap().unwrap();
        assert!(names.critical);
        assert_eq!(
            names.value.permitted_subtrees.as_ref().unwrap().len(),
            5,
            "two suffixes and three prefixes"
        );
        let days = (certificate.validity().not_after.timestamp()
            - certificate.validity().not_before.timestamp())
            / 86_400;
        assert!((years * 365 - 1..=years * 366).contains(&days), "{days}");
        let only_servers = certificate.extended_key_usage().unwrap();
        assert_eq!(
            only_servers.is_some_and(|usage| usage.value.server_auth),
            path_length == 0
        );
    }
    let root_parsed = X509Certificate::from_der(&root).unwrap().1;
    root_parsed.verify_signature(None).unwrap();
    let below = X509Certificate::from_der(&intermediate).unwrap().1;
    below.verify_signature(Some(root_parsed.public_key())).unwrap();
}

#[test]
fn serials_differ_and_the_rate_holds_for_any_hour() {
    let folder = tempfile::tempdir().unwrap();
    let clock = some_day();
    let mut vault = open_with(Arc::new(StateFolder::new(folder.path())), clock.clone(), &KEK).unwrap();
    let mut issue = || {
        vault
            .issue_server_certificate(&API, &request(&["a.cell"], &[]))
            .map(|chain| chain.leaf.serial)
    };
    let mut serials: Vec<Serial> = Vec::new();
    for _ in 0..5 {
        let serial = issue().unwrap();
        assert!(!serials.contains(&serial));
        serials.push(serial);
    }
    assert_eq!(issue().unwrap_err().reason(), "RATE");
    clock.turn(HOUR - SECOND);
    assert_eq!(issue().unwrap_err().reason(), "RATE");
    clock.turn(SECOND);
    assert!(issue().is_ok());
}

#[test]
fn the_intermediate_is_renewed_in_good_time_under_the_same_root() {
    let folder = tempfile::tempdir().unwrap();
    let clock = some_day();
    let mut vault = open_with(Arc::new(StateFolder::new(folder.path())), clock.clone(), &KEK).unwrap();
    let root = vault.trust_bundle(&API).unwrap();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for _ in 0..10 * 12 - 2 {
        let before = vault.intermediate_validity();
        let now = {
            use cell_vaultd::clock::Clock as _;
            clock.now()
        };
        let Chain { leaf, intermediate } = vault
            .issue_server_certificate(&API, &request(&["a.cell"], &[]))
            .unwrap();
        assert_eq!(
            webpki(&root, &intermediate, &leaf.der, "a.cell", now),
            Ok(()),
            "at {now:?}, {before:?}"
        );
        if seen.last() != Some(&intermediate) {
            seen.push(intermediate);
        }
        clock.turn(30 * DAY);
    }
    assert!(
        (6..=9).contains(&seen.len()),
        "{} intermediates in ten years",
        seen.len()
    );
    assert_eq!(vault.trust_bundle(&API).unwrap(), root);
    clock.turn(400 * DAY);
    let refused = vault
        .issue_server_certificate(&API, &request(&["a.cell"], &[]))
        .unwrap_err();
    assert_eq!(
        refused.reason(),
        "CLOCK_UNSET",
        "beyond the root's life nothing is issued"
    );
}

/// A request made by the openssl program.
fn openssl_csr(arguments: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("openssl")
        .args([
            "req", "-new", "-nodes", "-outform", "DER", "-subj", "/CN=x", "-keyout",
        ])
        .arg(folder.path().join("key.pem"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[test]
fn good_keys_of_each_kind_are_taken_from_openssl() {
    for arguments in [
        &["-newkey", "rsa:2048"][..],
        &["-newkey", "rsa:2048", "-sha512"],
        &[
            "-newkey",
            "rsa:2048",
            "-sigopt",
            "rsa_padding_mode:pss",
            "-sigopt",
            "rsa_pss_saltlen:digest",
        ],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-sha384"],
        &["-newkey", "ed25519"],
    ] {
        let read = csr::read(&openssl_csr(arguments));
        assert!(read.is_ok(), "{arguments:?}: {:?}", read.err());
    }
}

#[test]
fn weak_and_unknown_keys_are_refused() {
    use cell_vaultd::csr::InvalidCsr::{KeyType, SignatureAlgorithm, WeakKey};
    use cell_vaultd_core::request::WeakKey::{RsaBits, RsaExponent};
    for (arguments, expected) in [
        (&["-newkey", "rsa:1024"][..], WeakKey(RsaBits(1024))),
        (&["-newkey", "rsa:2048", "-sha1"], SignatureAlgorithm),
        (
            &["-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"],
            WeakKey(RsaExponent),
        ),
        (&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"], KeyType),
        (
            &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
            KeyType,
        ),
        (&["-newkey", "ed448"], SignatureAlgorithm),
    ] {
        assert_eq!(
            csr::read(&openssl_csr(arguments)).err(),
            Some(expected),
            "{arguments:?}"
        );
    }
}

/// Nothing signs the outermost tags, about which the parser is not strict: whatever is taken certifies the same key, and
/// no changed bit of the signed part is.
#[test]
fn no_changed_bit_of_a_request_certifies_another_key() {
    let good = request(&[], &[]).csr_der;
    let key = csr::read(&good).unwrap().spki_der();
    let parsed = X509CertificationRequest::from_der(&good).unwrap().1;
    let signed = parsed.certification_request_info.raw;
    let start = good
        .windows(signed.len())
        .position(|window| window == signed)
        .unwrap();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            if let Ok(read) = csr::read(&bad) {
                assert!(
                    !(start..start + signed.len()).contains(&at),
                    "byte {at}, bit {bit} is signed"
                );
                assert_eq!(read.spki_der(), key, "byte {at}, bit {bit}");
            }
        }
    }
    for length in 0..good.len() {
        assert!(csr::read(&good[..length]).is_err(), "cut at {length}");
    }
    let followed = [good.as_slice(), b"\0"].concat();
    assert_eq!(csr::read(&followed).err(), Some(csr::InvalidCsr::TrailingBytes));
    assert_eq!(csr::read(&[0x30; 4097]).err(), Some(csr::InvalidCsr::TooLong));
    assert_eq!(
        csr::read(b"-----BEGIN CERTIFICATE REQUEST-----").err(),
        Some(csr::InvalidCsr::Malformed)
    );
}
