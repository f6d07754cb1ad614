//! The tables of connections, by themselves: what is allocated is stored, never twice, and the lowest that is free.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;

use cell_api::service::{Actor, ServiceError};
use cell_api::store::Store;
use cell_api::store::connections::{self as table, StoredConnection};
use cell_api::store::transaction::Origin;
use cell_api_core::connection::allocation::{Allocation, Device};
use cell_api_core::connection::config::Config;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::input::{ConnectionInput, ImportInput};
use cell_api_core::connection::kind::Kind;
use cell_api_core::name::ConnectionName;
use proptest::prelude::*;
use zeroize::Zeroizing;

fn origin() -> Origin {
    let actor = Actor {
        name: "tester".to_owned(),
        role: None,
        remote: "-".to_owned(),
    };
    Origin::new(&actor, 1)
}

fn config(kind: Kind) -> Config {
    let file = "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\nAddress = 10.2.0.2/32\n[Peer]\n\
                PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\nAllowedIPs = ::/0\nEndpoint = [2001:db8::1]:1\n";
    let given = |text: &str| Some(Zeroizing::new(text.to_owned()));
    let import = match kind {
        Kind::WireguardExt => ImportInput {
            file: given(file),
            ..ImportInput::default()
        },
        Kind::Proxy => ImportInput {
            url: given("socks5://p.example.org"),
            ..ImportInput::default()
        },
        Kind::Tor => ImportInput::default(),
        Kind::CellRelay => return Config::CellRelay,
        Kind::Openvpn | Kind::Sshuttle => unreachable!("not used here"),
    };
    let input = ConnectionInput {
        name: "a".to_owned(),
        kind: kind.to_string(),
        import,
    };
    input.check().unwrap().imported.config
}

fn candidate(number: u32, kind: Kind) -> StoredConnection {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    StoredConnection {
        id: ConnectionId::from_random(bytes),
        name: ConnectionName::parse(&format!("c{number}")).unwrap(),
        allocation: Allocation {
            mark: 0x1000,
            table: 1000,
            device: Device::Link,
        },
        config: config(kind),
        secret_fields: vec!["a".to_owned(), "b".to_owned()],
        secrets_whole: true,
        revision: 1,
        secret_revision: 1,
        created_unix_ms: 1,
    }
}

async fn add(store: &Store, candidate: StoredConnection) -> Result<StoredConnection, ServiceError> {
    let insert = move |tx: &mut cell_api::store::Tx<'_>| {
        let allocation = table::allocate(tx, &candidate.id, candidate.config.kind())?;
        let stored = StoredConnection {
            allocation,
            ..candidate
        };
        table::insert(tx, &stored)?;
        tx.audit("test", "add", "");
        Ok(stored)
    };
    store.mutate(origin(), insert).await
}

async fn remove(store: &Store, id: ConnectionId) {
    let delete = move |tx: &mut cell_api::store::Tx<'_>| {
        table::delete(tx, &id)?;
        tx.audit("test", "remove", "");
        Ok(())
    };
    store.mutate(origin(), delete).await.unwrap();
}

fn open(folder: &std::path::Path) -> Store {
    Store::open(&folder.join("cell.db"), 1, Arc::new(|_| ())).unwrap()
}

const KINDS: [Kind; 4] = [Kind::WireguardExt, Kind::Tor, Kind::Proxy, Kind::CellRelay];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Adds, removals and restarts in any order, beside a model that keeps all in a map.
    #[test]
    fn allocations_are_the_lowest_free_and_stay(steps in prop::collection::vec((0..4usize, 0..12u32, any::<bool>()), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut store = open(folder.path());
        let mut model: BTreeMap<u32, StoredConnection> = BTreeMap::new();
        for (kind, number, restarts) in steps {
            let kind = KINDS[kind];
            if let Some(known) = model.remove(&number) {
                runtime.block_on(remove(&store, known.id));
            } else {
                let lowest = |all: Vec<u32>, from: u32, step: u32| {
                    (0..).map(|n| from + n * step).find(|value| !all.contains(value)).unwrap()
                };
                let of = |value: fn(&Allocation) -> Option<u32>| -> Vec<u32> {
                    model.values().filter_map(|one| value(&one.allocation)).collect()
                };
                let mark = lowest(of(|a| Some(a.mark)), 0x1000, 0x10);
                let routes = lowest(of(|a| Some(a.table)), 1000, 1);
                let port = lowest(of(|a| match a.device {
                    Device::RedirectPort(port) => Some(port.into()),
                    Device::Interface(_) | Device::Link => None,
                }), 9100, 1);
                let stored = runtime.block_on(add(&store, candidate(number, kind))).unwrap();
                prop_assert_eq!((stored.allocation.mark, stored.allocation.table), (mark, routes));
                let device = match kind {
                    Kind::WireguardExt => Device::Interface(format!("wgext_{}", &stored.id.digits()[..8])),
                    Kind::CellRelay => Device::Link,
                    _ => Device::RedirectPort(u16::try_from(port).unwrap()),
                };
                prop_assert_eq!(&stored.allocation.device, &device);
                model.insert(number, stored);
            }
            if restarts {
                drop(store);
                store = open(folder.path());
            }
            let mut expected: Vec<StoredConnection> = model.values().cloned().collect();
            expected.sort_by(|a, b| a.name.cmp(&b.name));
            prop_assert_eq!(store.read(table::list).unwrap(), expected);
        }
    }
}

/// What the code would never write, the database refuses too; what it would write is the control.
#[test]
fn the_database_itself_refuses_what_clashes_or_is_of_no_pool() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let database = rusqlite::Connection::open(folder.path().join("cell.db")).unwrap();
    let mut number = 0;
    let mut insert = |kind: &str, mark: u32, routes: u32, iface: Option<&str>, port: Option<u16>| {
        number += 1;
        let mut id = ConnectionId::from_random([number; 16]).to_string();
        id.truncate(36);
        let sql = "INSERT INTO connection VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, '{}', 1, 1, 0, 0)";
        database.execute(sql, (id, format!("n{number}"), kind, mark, routes, iface, port))
    };
    insert("wireguard_ext", 0x1000, 1000, Some("wgext_0"), None).unwrap();
    insert("tor", 0x1010, 1001, None, Some(9100)).unwrap();
    insert("cell_relay", 0x1020, 1002, None, None).unwrap();
    for (kind, mark, routes, iface, port) in [
        ("tor", 0x1000, 1010, None, Some(9110)),
        ("tor", 0x1100, 1000, None, Some(9110)),
        ("tor", 0x1100, 1010, None, Some(9100)),
        ("openvpn", 0x1100, 1010, Some("wgext_0"), None),
        ("tor", 0x1101, 1010, None, Some(9110)),
        ("tor", 0x0ff0, 1010, None, Some(9110)),
        ("tor", 0x1100, 999, None, Some(9110)),
        ("tor", 0x1100, 1256, None, Some(9110)),
        ("tor", 0x1100, 1010, None, Some(9200)),
        ("tor", 0x1100, 1010, None, None),
        ("tor", 0x1100, 1010, Some("wgext_1"), Some(9110)),
        ("openvpn", 0x1100, 1010, None, None),
        ("cell_relay", 0x1100, 1010, None, Some(9110)),
        ("nobody", 0x1100, 1010, None, None),
    ] {
        let refused = insert(kind, mark, routes, iface, port).unwrap_err();
        let code = refused.sqlite_error_code();
        assert_eq!(
            code,
            Some(rusqlite::ErrorCode::ConstraintViolation),
            "{kind} {mark:#x} {routes}"
        );
    }
    insert("tor", 0x1100, 1010, None, Some(9110)).unwrap();
}

#[tokio::test]
async fn names_are_one_connections_and_stored_nonsense_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let first = add(&store, candidate(1, Kind::Tor)).await.unwrap();
    let twin = StoredConnection {
        name: first.name.clone(),
        ..candidate(2, Kind::Tor)
    };
    let refused = add(&store, twin).await.unwrap_err();
    assert!(matches!(refused, ServiceError::ConnectionExists), "{refused}");
    let database = rusqlite::Connection::open(folder.path().join("cell.db")).unwrap();
    database
        .execute(
            "UPDATE connection SET config_json = '{\"type\":\"cell_relay\"}'",
            (),
        )
        .unwrap();
    let refused = store.read(table::list).unwrap_err();
    assert!(matches!(refused, ServiceError::Storage(_)), "{refused}");
}
