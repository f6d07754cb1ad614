//! The configuration over the automation socket: what REST has, by the same rules.
#![allow(clippy::unwrap_used, reason = "tests: a case is one story")]

mod support;

use cell_proto::api::v1::cell_service_client::CellServiceClient;
use cell_proto::api::v1::{CellConfig, DnsUpstreams, GetCellConfigRequest, UpdateCellConfigRequest};
use cell_proto::{fault, ipc};
use serde_json::{Value, json};
use support::Cell;
use support::client::Client;

/// As REST shows it.
fn as_rest(config: &CellConfig) -> Value {
    let endpoint = Some(&config.endpoint_host).filter(|host| !host.is_empty());
    json!({"cell_name": config.cell_name, "domain_mode": config.domain_mode, "domain": config.domain,
        "vpn_range_ipv4": config.vpn_range_ipv4, "vpn_range_ipv6": config.vpn_range_ipv6,
        "vpn_address_ipv4": config.vpn_address_ipv4, "vpn_address_ipv6": config.vpn_address_ipv6,
        "endpoint_host": endpoint, "wireguard_port": config.wireguard_port, "dns_upstreams": config.dns_upstreams})
}

async fn rest(admin: &Client) -> Value {
    admin.get("/api/config").await.expect(200).json()
}

fn dns(addresses: &[&str]) -> UpdateCellConfigRequest {
    let addresses = addresses.iter().map(|at| (*at).to_owned()).collect();
    UpdateCellConfigRequest {
        endpoint_host: None,
        dns_upstreams: Some(DnsUpstreams { addresses }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_automation_socket_reads_and_changes_what_rest_does() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let mut service = CellServiceClient::new(ipc::connect(&cell.automation));
    let read = service.get_cell_config(GetCellConfigRequest {}).await.unwrap();
    let by_default = rest(&admin).await;
    assert_eq!(as_rest(&read.into_inner().config.unwrap()), by_default);
    let chosen = dns(&["192.0.2.53", "[2001:db8::53]:5353"]);
    let set = service
        .update_cell_config(chosen)
        .await
        .unwrap()
        .into_inner()
        .config
        .unwrap();
    let now = rest(&admin).await;
    assert_eq!(
        (as_rest(&set), &now["dns_upstreams"]),
        (now.clone(), &json!(["192.0.2.53", "[2001:db8::53]:5353"]))
    );
    let moved = UpdateCellConfigRequest {
        endpoint_host: Some("other.example.net".to_owned()),
        dns_upstreams: None,
    };
    service.update_cell_config(moved).await.unwrap();
    let now = rest(&admin).await;
    assert_eq!(
        (&now["endpoint_host"], &now["dns_upstreams"][0]),
        (&json!("other.example.net"), &json!("192.0.2.53"))
    );
    let wrong = service
        .update_cell_config(dns(&["192.0.2.53", "nonsense"]))
        .await
        .unwrap_err();
    let fields: Vec<String> = fault::violations(&wrong)
        .into_iter()
        .map(|one| one.field)
        .collect();
    assert_eq!(fields, ["dns_upstreams[1]"]);
    service.update_cell_config(dns(&[])).await.unwrap();
    assert_eq!(rest(&admin).await["dns_upstreams"], by_default["dns_upstreams"]);
    let audit = admin.get("/api/audit").await.expect(200).text;
    assert!(
        audit.contains("dns_upstreams") && audit.contains("local:"),
        "{audit}"
    );
}
