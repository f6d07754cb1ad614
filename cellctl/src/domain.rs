//! `cellctl domain`: under which domain services are found.

use std::path::PathBuf;

use cell_proto::api::v1::{DomainSetting, GetDomainRequest, SetDomainRequest};
use serde::Serialize;

use crate::cell::Cell;
use crate::cli::{Dns01, Domain, Http01};
use crate::failure::Failure;
use crate::human;
use crate::output::Output;
use crate::secret;

/// As `--json` shows it, and as REST does.
#[derive(Serialize)]
struct Shown {
    mode: String,
    domain: Option<String>,
    email: Option<String>,
    provider: Option<String>,
    server: Option<String>,
    tsig_name: Option<String>,
    tsig_algorithm: Option<String>,
    acme_directory: Option<String>,
    acme_authority: Option<String>,
    token_is_set: Option<bool>,
}

/// Shows it, or replaces it and shows it.
pub(crate) async fn run(cell: &Cell, output: Output, command: Domain) -> Result<(), Failure> {
    let mut client = cell.status()?;
    let asked = match command {
        Domain::Show => {
            let told = client.get_domain(GetDomainRequest {}).await?.into_inner();
            return show(output, told.setting, told.token_is_set);
        }
        Domain::Lan => SetDomainRequest {
            setting: Some(DomainSetting {
                mode: "lan".to_owned(),
                ..DomainSetting::default()
            }),
            token: String::new(),
        },
        Domain::Dns01(options) => asked(*options)?,
        Domain::Http01(options) => asked_by_http(options)?,
    };
    let told = client.set_domain(asked).await?.into_inner();
    show(output, told.setting, told.token_is_set)
}

fn asked(options: Dns01) -> Result<SetDomainRequest, Failure> {
    let Dns01 {
        domain,
        provider,
        token_file,
        email,
        server,
        tsig_name,
        tsig_algorithm,
        acme_directory,
        acme_authority,
    } = options;
    let token = match token_file {
        Some(path) => secret::from_file(&path)?.to_string(),
        None => String::new(),
    };
    let authority = authority(acme_authority)?;
    Ok(SetDomainRequest {
        setting: Some(DomainSetting {
            mode: "dns01".to_owned(),
            domain,
            email,
            provider,
            server,
            tsig_name,
            tsig_algorithm,
            acme_directory,
            acme_authority: authority,
        }),
        token,
    })
}

fn asked_by_http(options: Http01) -> Result<SetDomainRequest, Failure> {
    let Http01 {
        domain,
        email,
        acme_directory,
        acme_authority,
    } = options;
    Ok(SetDomainRequest {
        setting: Some(DomainSetting {
            mode: "http01".to_owned(),
            domain,
            email,
            acme_directory,
            acme_authority: authority(acme_authority)?,
            ..DomainSetting::default()
        }),
        token: String::new(),
    })
}

fn authority(file: Option<PathBuf>) -> Result<String, Failure> {
    match file {
        Some(path) => Ok(secret::whole_file(&path)?.to_string()),
        None => Ok(String::new()),
    }
}

fn show(output: Output, setting: Option<DomainSetting>, token_is_set: Option<bool>) -> Result<(), Failure> {
    let DomainSetting {
        mode,
        domain,
        email,
        provider,
        server,
        tsig_name,
        tsig_algorithm,
        acme_directory,
        acme_authority,
    } = setting.unwrap_or_default();
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let shown = Shown {
        mode,
        domain: given(domain),
        email: given(email),
        provider: given(provider),
        server: given(server),
        tsig_name: given(tsig_name),
        tsig_algorithm: given(tsig_algorithm),
        acme_directory: given(acme_directory),
        acme_authority: given(acme_authority),
        token_is_set,
    };
    output.result(&shown, || text(&shown))
}

fn text(shown: &Shown) -> String {
    let Some(domain) = &shown.domain else {
        return "Services are found under the cell's own domain alone (lan).".to_owned();
    };
    let token = match shown.token_is_set {
        Some(true) => "is there",
        Some(false) => "is missing: give it with --token-file",
        None => "not known: vaultd does not answer",
    };
    let or_none = |text: &Option<String>, none: &str| text.clone().unwrap_or_else(|| none.to_owned());
    let mut pairs = vec![("Domain", format!("{domain} ({})", shown.mode))];
    let is_by_dns = shown.provider.is_some();
    if let Some(provider) = &shown.provider {
        pairs.push(("Provider", provider.clone()));
    }
    if let Some(server) = &shown.server {
        let by = format!(
            "{server}, key {} ({})",
            or_none(&shown.tsig_name, "-"),
            or_none(&shown.tsig_algorithm, "-")
        );
        pairs.push(("Updates go to", by));
    }
    if is_by_dns {
        pairs.push(("Its token", token.to_owned()));
    }
    pairs.push(("Authority", or_none(&shown.acme_directory, "Let's Encrypt")));
    pairs.push(("It may write to", or_none(&shown.email, "nobody")));
    human::pairs(pairs)
}
