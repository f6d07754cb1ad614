//! `cellctl config`: the cell's configuration.

use cell_proto::api::v1::{CellConfig, DnsUpstreams, GetCellConfigRequest, UpdateCellConfigRequest};
use serde::Serialize;

use crate::cell::Cell;
use crate::cli::{Config, ConfigSet};
use crate::failure::Failure;
use crate::human;
use crate::managers;
use crate::output::Output;

/// As `--json` shows it, and as REST does.
#[derive(Serialize)]
struct Shown {
    cell_name: String,
    domain_mode: String,
    domain: String,
    vpn_range_ipv4: String,
    vpn_range_ipv6: String,
    vpn_address_ipv4: String,
    vpn_address_ipv6: String,
    endpoint_host: Option<String>,
    wireguard_port: u32,
    dns_upstreams: Vec<String>,
}

/// Shows it, or changes it and shows it.
pub(crate) async fn run(cell: &Cell, output: Output, command: Config) -> Result<(), Failure> {
    let mut client = cell.status()?;
    let config = match command {
        Config::QueryLog { level } => return managers::query_log(cell, output, level).await,
        Config::Show => {
            client
                .get_cell_config(GetCellConfigRequest {})
                .await?
                .into_inner()
                .config
        }
        Config::Set(options) => {
            client
                .update_cell_config(asked(options)?)
                .await?
                .into_inner()
                .config
        }
    };
    let shown = Shown::from(config.unwrap_or_default());
    output.result(&shown, || text(&shown))
}

fn asked(options: ConfigSet) -> Result<UpdateCellConfigRequest, Failure> {
    let ConfigSet {
        endpoint,
        dns,
        default_dns,
    } = options;
    let sets_dns = default_dns || !dns.is_empty();
    if endpoint.is_none() && !sets_dns {
        return Err(Failure::Usage(
            "there is nothing to change: name at least one option".to_owned(),
        ));
    }
    Ok(UpdateCellConfigRequest {
        endpoint_host: endpoint,
        dns_upstreams: sets_dns.then_some(DnsUpstreams { addresses: dns }),
    })
}

fn text(shown: &Shown) -> String {
    let endpoint = shown
        .endpoint_host
        .as_deref()
        .unwrap_or("not known yet: cellctl config set --endpoint HOST");
    human::pairs([
        ("Name", shown.cell_name.clone()),
        ("Domain", format!("{} ({})", shown.domain, shown.domain_mode)),
        (
            "VPN",
            format!("{} {}", shown.vpn_range_ipv4, shown.vpn_range_ipv6),
        ),
        (
            "Its addresses",
            format!("{} {}", shown.vpn_address_ipv4, shown.vpn_address_ipv6),
        ),
        ("Devices connect to", endpoint.to_owned()),
        ("UDP port", shown.wireguard_port.to_string()),
        ("Resolvers", shown.dns_upstreams.join(" ")),
    ])
}

impl From<CellConfig> for Shown {
    fn from(wire: CellConfig) -> Self {
        let CellConfig {
            cell_name,
            domain_mode,
            domain,
            vpn_range_ipv4,
            vpn_range_ipv6,
            vpn_address_ipv4,
            vpn_address_ipv6,
            endpoint_host,
            wireguard_port,
            dns_upstreams,
        } = wire;
        Shown {
            cell_name,
            domain_mode,
            domain,
            vpn_range_ipv4,
            vpn_range_ipv6,
            vpn_address_ipv4,
            vpn_address_ipv6,
            endpoint_host: Some(endpoint_host).filter(|host| !host.is_empty()),
            wireguard_port,
            dns_upstreams,
        }
    }
}
