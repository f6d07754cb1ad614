//! From a bundle to a request: what is approved can be rendered and passes the last look, and each reason is given by its code.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/looked/mod.rs"]
mod looked;
mod support;

use std::collections::BTreeSet;

use cell_broker_core::Role;
use cell_broker_core::deploy::{
    Ceiling, FIELDS, FieldClass, ImagePolicy, Key, Order, Owner, Place, Unverified, Verified, judge, recheck,
};
use serde_json::{Value, json};
use support::{
    DIGEST, REGISTRY, bundle, bundle_by, ceiling, given, image, judged, judged_as, manifest, name, pem,
    place, rich, signer, verified,
};

fn bodies(ceiling: &Ceiling, manifest: &Value) -> Vec<Value> {
    let approved = judged(ceiling, manifest, &[]).unwrap();
    let given = given(ceiling, &approved);
    (0..approved.containers().len())
        .map(|n| approved.finish(ceiling, &given, n).unwrap().body().clone())
        .collect()
}

#[test]
fn all_72_fields_are_sent_and_no_other() {
    let sent: BTreeSet<String> = bodies(&ceiling(), &rich(&image()))
        .iter()
        .flat_map(looked::paths)
        .collect();
    let emit: BTreeSet<String> = FIELDS
        .iter()
        .filter(|(_, class, _)| *class == FieldClass::Emit)
        .map(|(name, ..)| name.to_owned())
        .collect();
    assert_eq!(sent, emit);
}

#[test]
fn the_least_manifest_has_every_limit() {
    let body = &bodies(&ceiling(), &manifest(&image()))[0];
    let host = &body["HostConfig"];
    assert_eq!(host["Privileged"], json!(false));
    assert_eq!(host["CapDrop"], json!(["ALL"]));
    assert_eq!(host["CapAdd"], json!([]));
    assert_eq!(host["Memory"], host["MemorySwap"]);
    assert_eq!(host["Memory"], json!(32 * 1024 * 1024));
    assert_eq!(host["ReadonlyRootfs"], json!(true));
    assert_eq!(body["Image"], json!(image()));
    assert_eq!(body["Labels"]["cell.owner"], json!("default"));
    assert_eq!(body["Healthcheck"], json!({"Test": ["NONE"]}));
}

fn bad_changes() -> Vec<(&'static str, Value)> {
    vec![
        ("/HostConfig/Privileged", json!(true)),
        ("/HostConfig/privileged", json!(true)),
        ("/hostconfig", json!({"Privileged": true})),
        ("/Ho\u{17f}tConfig", json!({"Privileged": true})),
        ("/HostConfig/CapAdd", json!(["SYS_ADMIN"])),
        ("/HostConfig/CapAdd", json!(["CHOWN", "CHOWN"])),
        ("/HostConfig/Binds", json!([])),
        ("/HostConfig/Memory", json!(0)),
        ("/HostConfig/MemorySwap", json!(-1)),
        ("/HostConfig/NetworkMode", json!("host")),
        ("/HostConfig/NetworkMode", json!("cd".repeat(32))),
        ("/HostConfig/Mounts/0/Source", json!("cell-other.data")),
        ("/HostConfig/Mounts/1/Source", json!("/srv/cell/database")),
        ("/HostConfig/Mounts/1/Source", json!("/srv/cell/data/../x")),
        ("/HostConfig/Mounts/1/Source", json!("/srv/cell/data/other")),
        ("/HostConfig/Mounts/1/ReadOnly", json!(false)),
        ("/HostConfig/Mounts/1/BindOptions/Propagation", json!("rshared")),
        ("/HostConfig/Mounts/0/Type", json!("bind")),
        ("/HostConfig/SecurityOpt", json!(["no-new-privileges"])),
        ("/HostConfig/SecurityOpt/0", json!("no-new-privileges=false")),
        ("/HostConfig/Ulimits", json!([])),
        ("/HostConfig/LogConfig/Config", json!({})),
        ("/HostConfig/New", json!(null)),
        ("/Image", json!(format!("{REGISTRY}/store/files:1@{DIGEST}"))),
        ("/Image", json!(format!("other.example/files@{DIGEST}"))),
        ("/User", json!("0")),
        ("/Labels/extra", json!("x")),
        ("/Labels/cell.owner", json!("other")),
        ("/Env/0", json!("LD_PRELOAD=/x")),
        ("/Volumes", json!({})),
    ]
}

/// Each change of a finished body is found, whoever made it.
#[test]
fn the_last_look_finds_each_change() {
    let ceiling = ceiling();
    let approved = judged(&ceiling, &rich(&image()), &[]).unwrap();
    let given = given(&ceiling, &approved);
    let body = approved.finish(&ceiling, &given, 0).unwrap().body().clone();
    assert_eq!(recheck(&body, &ceiling, Some(&given)), Ok(()), "control");
    for (pointer, value) in bad_changes() {
        let mut changed = body.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match changed.pointer_mut(parent).unwrap() {
            Value::Object(map) => {
                map.insert(key.to_owned(), value);
            }
            Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
            other => panic!("{other}"),
        }
        assert!(recheck(&changed, &ceiling, Some(&given)).is_err(), "{pointer}");
    }
    for (section, key) in [
        ("", "User"),
        ("", "Labels"),
        ("/HostConfig", "CapDrop"),
        ("/HostConfig", "SecurityOpt"),
        ("/HostConfig", "Privileged"),
    ] {
        let mut changed = body.clone();
        changed
            .pointer_mut(section)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(key);
        assert!(
            recheck(&changed, &ceiling, Some(&given)).is_err(),
            "without {key}"
        );
    }
}

#[test]
fn only_what_a_key_of_the_ceiling_signed_is_read() {
    let keys = ceiling().manifest_keys;
    let good = bundle(&manifest(&image()));
    assert!(Verified::open(good.clone(), &keys).is_ok(), "control");
    assert_eq!(Verified::open(good.clone(), &[]), Err(Unverified::Signature));
    let mut changed = good.clone();
    changed.manifest.push(b' ');
    assert_eq!(Verified::open(changed, &keys), Err(Unverified::Signature));
    let other = bundle_by(&manifest(&image()), &signer(3), &signer(2));
    assert_eq!(Verified::open(other, &keys), Err(Unverified::Signature));
    // Signed and wrong is told by its faults; unsigned and wrong is not read.
    let mut wrong = manifest(&image());
    wrong["containers"][0]["user"] = json!("0:0");
    assert!(matches!(
        Verified::open(bundle(&wrong), &keys),
        Err(Unverified::Manifest(_))
    ));
    assert_eq!(
        Verified::open(bundle_by(&wrong, &signer(3), &signer(2)), &keys),
        Err(Unverified::Signature)
    );
}

#[test]
fn an_unsigned_image_is_refused_told_or_let_through_as_the_ceiling_says() {
    let mut ceiling = ceiling();
    let by_other = Verified::open(
        bundle_by(&manifest(&image()), &signer(1), &signer(3)),
        &ceiling.manifest_keys,
    )
    .unwrap();
    assert!(
        judged_as(&ceiling, &by_other, &[])
            .unwrap_err()
            .has("I1_UNSIGNED")
    );
    assert!(
        judged(&ceiling, &manifest(&image()), &[])
            .unwrap()
            .warnings()
            .is_empty(),
        "control"
    );
    ceiling.image_policy = ImagePolicy::Warn;
    assert_eq!(judged_as(&ceiling, &by_other, &[]).unwrap().warnings().len(), 1);
    ceiling.image_policy = ImagePolicy::Off;
    assert!(judged_as(&ceiling, &by_other, &[]).unwrap().warnings().is_empty());
    ceiling.image_policy = ImagePolicy::Enforce;
    ceiling.image_keys = vec![Key::from_pem(&pem(&signer(3))).unwrap()];
    assert!(judged_as(&ceiling, &by_other, &[]).is_ok());
    // A signature of another image, or of this digest under another name, is not this image's.
    let mut elsewhere = bundle(&manifest(&image()));
    elsewhere.images[0].payload = support::payload("127.0.0.1:5000/store/other", DIGEST);
    elsewhere.images[0].signature = support::sign(&signer(3), &elsewhere.images[0].payload);
    let elsewhere = Verified::open(elsewhere, &ceiling.manifest_keys).unwrap();
    assert!(
        judged_as(&ceiling, &elsewhere, &[])
            .unwrap_err()
            .has("I1_UNSIGNED")
    );
}

#[test]
fn each_part_above_the_ceiling_has_its_own_code() {
    let with = |pointer: &str, value: Value| {
        let mut changed = manifest(&image());
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        changed.pointer_mut(parent).unwrap()[key] = value;
        changed
    };
    let cases = [
        (
            with(
                "/containers/0/image",
                json!(format!("evil.example/miner@{DIGEST}")),
            ),
            "I1_REGISTRY",
        ),
        (
            with("/containers/0/capabilities", json!(["SETUID"])),
            "P2_CAPABILITY",
        ),
        (with("/containers/0/gateway", json!(true)), "P5_GATEWAY"),
        (with("/containers/0/limits/memory_mib", json!(513)), "R1_LIMIT"),
        (with("/containers/0/limits/cpu_milli", json!(1001)), "R1_LIMIT"),
        (with("/containers/0/limits/pids", json!(257)), "R1_LIMIT"),
        (
            with(
                "/containers/0/ports",
                json!([{"port": 80, "publish": {"address": "127.0.0.1", "port": 30000}}]),
            ),
            "N6_PUBLISHED",
        ),
        (
            with(
                "/containers/0/ports",
                json!([{"port": 80, "publish": {"address": "192.168.1.1", "port": 20000}}]),
            ),
            "N6_PUBLISHED",
        ),
        (with("/kind", json!("core")), "N2_CORE"),
    ];
    for (manifest, code) in cases {
        let denied = judged(&ceiling(), &manifest, &[]).unwrap_err();
        assert!(
            denied.has(code) && denied.iter().count() == 1,
            "{code}: {denied:?}"
        );
    }
    let mut bind = rich(&image());
    bind["containers"][0]["mounts"][1]["root"] = json!("etc");
    assert!(judged(&ceiling(), &bind, &[]).unwrap_err().has("M1_BIND_ROOT"));
    bind["containers"][0]["mounts"][1]["root"] = json!("media");
    bind["containers"][0]["mounts"][1]["read_only"] = json!(false);
    assert!(
        judged(&ceiling(), &bind, &[])
            .unwrap_err()
            .has("M2_BIND_READ_ONLY")
    );
    assert!(judged(&ceiling(), &manifest(&image()), &[]).is_ok(), "control");
}

#[test]
fn quotas_names_and_networks_are_judged() {
    let (ceiling, verified) = (ceiling(), verified(&manifest(&image())));
    let parameters = std::collections::BTreeMap::new();
    let taken = BTreeSet::from(["files".to_owned()]);
    let none = BTreeSet::new();
    let (places, local) = (BTreeSet::from([place(7)]), support::local());
    let order = |n, others, others_memory_mib, taken| Order {
        instance: "",
        parameters: &parameters,
        place: Some(place(n)),
        places: &places,
        local: &local,
        others,
        others_memory_mib,
        taken,
        owner: None,
    };
    let judge = |order: Order<'_>| judge(&ceiling, Role::Api, &verified, &order);
    let good = judge(order(3, 7, 2016, &none)).unwrap();
    assert_eq!(good.network().subnet.to_string(), "172.21.0.48/28");
    assert_eq!(good.network().bridge, "cellsvc3");
    assert_eq!(good.containers()[0].address.to_string(), "172.21.0.50");
    assert!(judge(order(1, 8, 0, &none)).unwrap_err().has("R1_SERVICES"));
    assert!(
        judge(order(1, 0, 2017, &none))
            .unwrap_err()
            .has("R1_TOTAL_MEMORY")
    );
    assert!(judge(order(1, 0, 0, &taken)).unwrap_err().has("N5_NAME_TAKEN"));
    assert!(
        judged(&ceiling, &rich(&image()), &[("quota", "101")])
            .unwrap_err()
            .has("S3_PARAMETER")
    );
    assert!(
        judged(&ceiling, &rich(&image()), &[("Privileged", "true")])
            .unwrap_err()
            .has("S3_PARAMETER")
    );
    let mut core = manifest(&image());
    (core["kind"], core["id"]) = (json!("core"), json!("caddy"));
    let core = judged(&ceiling, &core, &[]).unwrap();
    assert!(core.is_core() && core.network().name == "cell-network");
    assert_eq!(
        (core.network().bridge.as_str(), core.network().subnet.to_string()),
        ("cellsvc0", "172.20.0.0/24".to_owned())
    );
    assert_eq!(core.containers()[0].address.to_string(), "172.20.0.2");
    assert_eq!(core.service(), &name("caddy"));
}

#[test]
fn a_service_lies_where_nobody_else_does_and_the_ceiling_lets_it() {
    let ceiling = ceiling();
    let parameters = std::collections::BTreeMap::new();
    let (others, local) = (BTreeSet::from([place(7)]), support::local());
    let none = BTreeSet::new();
    let said = |verified: &Verified, place: Option<Place>| {
        let order = Order {
            instance: "",
            parameters: &parameters,
            place,
            places: &others,
            local: &local,
            others: 1,
            others_memory_mib: 0,
            taken: &none,
            owner: None,
        };
        judge(&ceiling, Role::Api, verified, &order)
    };
    let at = |number, subnet: &str| {
        let subnet = subnet.parse().unwrap();
        Some(Place { number, subnet })
    };
    let store = verified(&manifest(&image()));
    let good = said(&store, at(1023, "172.21.255.240/28")).unwrap();
    assert_eq!(good.network().bridge, "cellsvc1023", "control");
    for (place, code) in [
        (None, "N2_PLACE"),
        (at(0, "172.21.0.0/28"), "N2_PLACE"),
        (at(1024, "172.21.0.0/28"), "N2_PLACE"),
        (at(1, "172.21.0.0/27"), "N2_PLACE"),
        (at(1, "172.21.0.0/29"), "N2_PLACE"),
        (at(1, "172.21.0.1/28"), "N2_PLACE"),
        (at(1, "172.20.0.0/28"), "N2_PLACE"),
        (at(1, "10.0.0.0/28"), "N2_PLACE"),
        (at(7, "172.21.0.0/28"), "N2_PLACE_TAKEN"),
        (at(1, "172.21.0.112/28"), "N2_PLACE_TAKEN"),
    ] {
        let denied = said(&store, place).unwrap_err();
        assert!(
            denied.has(code) && denied.iter().count() == 1,
            "{place:?}: {denied:?}"
        );
    }
    let mut core = manifest(&image());
    (core["kind"], core["id"]) = (json!("core"), json!("caddy"));
    let core = verified(&core);
    assert!(said(&core, None).is_ok(), "control");
    assert!(said(&core, at(1, "172.21.0.0/28")).unwrap_err().has("N2_PLACE"));
}

#[test]
fn the_resolver_is_the_bridges_own_address_and_docker_starts_nothing_by_itself() {
    let ceiling = ceiling();
    let mut wanted = manifest(&image());
    wanted["containers"][0]["restart"] = json!({"policy": "unless-stopped"});
    let body = &bodies(&ceiling, &wanted)[0];
    assert_eq!(body["HostConfig"]["Dns"], json!(["172.21.0.17"]));
    assert_eq!(body["HostConfig"]["RestartPolicy"]["Name"], json!("no"));
    assert_eq!(recheck(body, &ceiling, None), Ok(()), "control");
    for (pointer, value) in [
        ("/HostConfig/Dns/0", json!("172.21.0.18")),
        ("/HostConfig/Dns/0", json!("172.20.0.1")),
        ("/HostConfig/Dns/0", json!("1.1.1.1")),
        ("/HostConfig/Dns", json!([])),
        ("/HostConfig/RestartPolicy/Name", json!("unless-stopped")),
        ("/HostConfig/RestartPolicy/Name", json!("on-failure")),
        ("/HostConfig/RestartPolicy/MaximumRetryCount", json!(1)),
    ] {
        let mut changed = body.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        assert!(recheck(&changed, &ceiling, None).is_err(), "{pointer}");
    }
    let mut core = manifest(&image());
    (core["kind"], core["id"]) = (json!("core"), json!("caddy"));
    assert_eq!(
        bodies(&ceiling, &core)[0]["HostConfig"]["Dns"],
        json!(["172.20.0.1"])
    );
}

#[test]
fn an_image_that_root_built_is_used_by_its_id_and_no_other_id_is() {
    let mut ceiling = ceiling();
    // Nobody signs it: that root listed it is enough.
    ceiling.image_keys.clear();
    let approved = judged(&ceiling, &manifest("local:caddy"), &[]).unwrap();
    assert!(approved.warnings().is_empty());
    let given = given(&ceiling, &approved);
    let body = approved.finish(&ceiling, &given, 0).unwrap().body().clone();
    assert_eq!(body["Image"], json!(DIGEST));
    assert_eq!(recheck(&body, &ceiling, Some(&given)), Ok(()), "control");
    let denied = judged(&ceiling, &manifest("local:unlisted"), &[]).unwrap_err();
    assert!(denied.has("I1_LOCAL") && denied.iter().count() == 1, "{denied:?}");
    let mut other = body.clone();
    other["Image"] = json!(format!("sha256:{}", "1e".repeat(32)));
    for image in [
        json!(format!("sha256:{}", "1e".repeat(32))),
        json!("local:caddy"),
        json!("sha256:00"),
    ] {
        let mut other = body.clone();
        other["Image"] = image;
        assert!(recheck(&other, &ceiling, Some(&given)).is_err(), "{other}");
    }
    ceiling.local_images = None;
    assert!(
        recheck(&body, &ceiling, Some(&given)).is_err(),
        "the ceiling has no list"
    );
}

#[test]
fn a_root_of_the_cells_own_is_for_the_cells_own_containers() {
    let ceiling = ceiling();
    let mut wanted = manifest(&image());
    wanted["containers"][0]["mounts"] =
        json!([{"type": "bind", "root": "dns", "target": "/etc/coredns", "read_only": true}]);
    wanted["flags"] = json!({"has_storage": true});
    let denied = judged(&ceiling, &wanted, &[]).unwrap_err();
    assert!(
        denied.has("M1_CORE_ROOT") && denied.iter().count() == 1,
        "{denied:?}"
    );
    let mut core = wanted.clone();
    (core["kind"], core["id"]) = (json!("core"), json!("caddy"));
    let body = bodies(&ceiling, &core)[0].clone();
    assert_eq!(recheck(&body, &ceiling, None), Ok(()), "control");
    // The same folder in a body that lies in a service's network.
    let mut moved = bodies(&ceiling, &manifest(&image()))[0].clone();
    assert_eq!(recheck(&moved, &ceiling, None), Ok(()), "control");
    moved["HostConfig"]["Mounts"] = body["HostConfig"]["Mounts"].clone();
    assert!(recheck(&moved, &ceiling, None).is_err());
}

/// What comes close to the bind of a container's secrets and is another.
fn other_binds() -> Vec<(&'static str, Value)> {
    vec![
        ("Source", json!("/run/cell/broker-secrets")),
        ("Source", json!("/run/cell/broker-secrets/")),
        ("Source", json!("/run/cell/broker-secrets/gateway")),
        ("Source", json!("/run/cell/broker-secrets/gateway/side")),
        ("Source", json!("/run/cell/broker-secrets/files/main")),
        ("Source", json!("/run/cell/broker-secrets/gateway/main/token")),
        ("Source", json!("/run/cell/broker-secrets/gateway/main/..")),
        ("Source", json!("/run/cell/broker-secrets/gateway/../files/main")),
        ("Source", json!("/run/cell/broker-secretsx/gateway/main")),
        ("Source", json!("/run/cell")),
        ("Target", json!("/etc/secrets")),
        ("Target", json!("/run/secrets/more")),
        ("ReadOnly", json!(false)),
        (
            "BindOptions",
            json!({"Propagation": "rshared", "ReadOnlyForceRecursive": true}),
        ),
        (
            "BindOptions",
            json!({"Propagation": "rprivate", "ReadOnlyForceRecursive": false}),
        ),
        ("BindOptions", json!({"Propagation": "rprivate"})),
    ]
}

/// One bind of the folder of this very container, and nothing else of what lies there, whoever made the body.
#[test]
fn secrets_are_one_bind_of_the_containers_own_folder() {
    let ceiling = ceiling();
    let mut wanted = rich(&image());
    wanted["containers"][0]["secrets"] = json!([{"name": "token"}, {"name": "other", "optional": true}]);
    let approved = judged(&ceiling, &wanted, &[]).unwrap();
    let given = given(&ceiling, &approved);
    let both = [0, 1].map(|n| approved.finish(&ceiling, &given, n).unwrap().body().clone());
    let body = &both[0];
    let at = body["HostConfig"]["Mounts"].as_array().unwrap().len() - 1;
    let expected = json!({
        "Type": "bind", "Source": "/run/cell/broker-secrets/gateway/main", "Target": "/run/secrets", "ReadOnly": true,
        "BindOptions": {"Propagation": "rprivate", "ReadOnlyForceRecursive": true},
    });
    assert_eq!(body["HostConfig"]["Mounts"][at], expected);
    assert!(
        !both[1].to_string().contains("broker-secrets"),
        "who names none has none"
    );
    for look in [Some(&given), None] {
        assert_eq!(recheck(body, &ceiling, look), Ok(()), "control");
        for (key, value) in other_binds() {
            let mut changed = body.clone();
            changed["HostConfig"]["Mounts"][at][key] = value.clone();
            assert!(recheck(&changed, &ceiling, look).is_err(), "{key} {value}");
        }
        // What is another's by its labels or its name is not given these.
        for (pointer, value) in [("/Labels/cell.part-of", "files"), ("/Hostname", "side")] {
            let mut changed = body.clone();
            *changed.pointer_mut(pointer).unwrap() = json!(value);
            assert!(recheck(&changed, &ceiling, look).is_err(), "{pointer}");
        }
    }
    // A bind root that meets the folder gives nothing of it either.
    let mut open = ceiling.clone();
    let root = open.bind_roots.get_mut(&name("media")).unwrap();
    root.path = "/run/cell".to_owned();
    let mut changed = body.clone();
    changed["HostConfig"]["Mounts"][1]["Source"] = json!("/run/cell/broker-secrets/files/main");
    assert!(recheck(&changed, &open, None).is_err());

    let without = Ceiling {
        secrets: None,
        ..ceiling
    };
    let denied = judged(&without, &wanted, &[]).unwrap_err();
    assert!(
        denied.has("M1_SECRETS") && denied.iter().count() == 1,
        "{denied:?}"
    );
    assert!(recheck(body, &without, None).is_err());
}

#[test]
fn a_network_is_internal_unless_somebody_beyond_it_is_answered() {
    let internal = |change: &dyn Fn(&mut Value)| {
        let mut changed = manifest(&image());
        change(&mut changed);
        judged(&ceiling(), &changed, &[]).unwrap().network().internal
    };
    let routed = json!({"subdomain": "files", "backend": "main:8080"});
    assert!(internal(&|_| {}), "control: no port");
    let behind_proxy = |changed: &mut Value| {
        changed["containers"][0]["ports"] = json!([{"port": 8080}]);
        changed["flags"] = json!({"has_subdomain": true});
        changed["routing"] = routed.clone();
    };
    assert!(internal(&behind_proxy), "the proxy has a leg in it");
    assert!(!internal(&|changed| {
        behind_proxy(changed);
        changed["containers"][0]["ports"] = json!([{"port": 8080}, {"port": 993}]);
    }));
    assert!(!internal(
        &|changed| changed["containers"][0]["ports"] = json!([{"port": 8080}])
    ));
    assert!(!internal(
        &|changed| changed["containers"][0]["ports"] = json!([{"port": 53, "protocol": "udp"}])
    ));
    let published = json!([{"port": 80, "publish": {"address": "127.0.0.1", "port": 20001}}]);
    assert!(!internal(
        &|changed| changed["containers"][0]["ports"] = published.clone()
    ));
    assert!(!internal(&|changed| {
        changed["flags"] = json!({"has_egress": true});
        changed["egress"] = json!({"allowed": ["tor"], "default": "tor"});
    }));
}

/// A service is its name at Docker: whoever may sign something comes by nothing that another's manifest made under that name.
#[test]
fn a_name_is_followed_by_its_owner_alone() {
    let mut ceiling = ceiling();
    ceiling
        .manifest_keys
        .push(Key::from_pem(&pem(&signer(3))).unwrap());
    let by = |n: u8, keys: &[Key]| {
        Verified::open(bundle_by(&manifest(&image()), &signer(n), &signer(2)), keys).unwrap()
    };
    let (first, third) = (by(1, &ceiling.manifest_keys), by(3, &ceiling.manifest_keys));
    let shipped = Verified::shipped(bundle(&manifest(&image()))).unwrap();
    let owner = |verified: &Verified, id: &str| Owner {
        id: name(id),
        signer: verified.signer().clone(),
    };
    let said = |ceiling: &Ceiling, verified: &Verified, owner: &Owner| {
        let order = Order {
            instance: "",
            parameters: &std::collections::BTreeMap::new(),
            place: Some(place(1)),
            places: &BTreeSet::new(),
            local: &support::local(),
            others: 0,
            others_memory_mib: 0,
            taken: &BTreeSet::new(),
            owner: Some(owner),
        };
        judge(ceiling, Role::Api, verified, &order)
    };
    let of = first.manifest().id.as_str();
    for next in [&first, &shipped] {
        assert!(
            said(&ceiling, next, &owner(&first, of)).is_ok(),
            "control: {:?}",
            next.signer()
        );
    }
    for (next, before) in [
        (&third, owner(&first, of)),
        (&third, owner(&shipped, of)),
        (&first, owner(&shipped, of)),
        // The same name by an instance.
        (&first, owner(&first, "fil")),
    ] {
        let denied = said(&ceiling, next, &before).unwrap_err();
        assert!(
            denied.has("N5_NAME_TAKEN") && denied.iter().count() == 1,
            "{denied:?}"
        );
    }
    // Root has taken the key away and given another: its holder goes on.
    ceiling.manifest_keys.remove(0);
    assert!(said(&ceiling, &third, &owner(&first, of)).is_ok());
    assert!(said(&ceiling, &third, &owner(&shipped, of)).is_err());
}

/// Where root ships manifests, a signature makes none of the cell's own containers.
#[test]
fn the_cells_own_containers_are_those_that_root_shipped() {
    let mut ceiling = ceiling();
    let mut core = manifest(&image());
    (core["kind"], core["id"]) = (json!("core"), json!("caddy"));
    let shipped = Verified::shipped(bundle(&core)).unwrap();
    assert!(
        judged(&ceiling, &core, &[]).is_ok(),
        "control: nothing is shipped"
    );
    ceiling.shipped = Some("/usr/share/cell/catalog".to_owned());
    let denied = judged(&ceiling, &core, &[]).unwrap_err();
    assert!(denied.has("N2_CORE") && denied.iter().count() == 1, "{denied:?}");
    assert!(judged_as(&ceiling, &shipped, &[]).is_ok(), "control");
}

/// The last look knows whether this very manifest is a gateway.
#[test]
fn a_tun_is_given_to_gateways_alone() {
    let ceiling = ceiling();
    let mut tunnel = manifest(&image());
    tunnel["id"] = json!("gateway");
    tunnel["containers"][0]["gateway"] = json!(true);
    tunnel["containers"][0]["capabilities"] = json!(["NET_ADMIN"]);
    let approved = judged(&ceiling, &tunnel, &[]).unwrap();
    let mut given = given(&ceiling, &approved);
    let body = approved.finish(&ceiling, &given, 0).unwrap().body().clone();
    assert_eq!(recheck(&body, &ceiling, Some(&given)), Ok(()), "control");
    given.gateway = false;
    let refused = recheck(&body, &ceiling, Some(&given)).unwrap_err().to_string();
    for field in ["HostConfig.Devices", "HostConfig.Sysctls", "HostConfig.CapAdd"] {
        assert!(refused.contains(field), "{field}: {refused}");
    }
}
