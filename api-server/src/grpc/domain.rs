//! The domain of services.

use cell_api_core::domain::DomainFields;
use cell_proto::api::v1::{DomainSetting, SetDomainRequest};
use zeroize::Zeroizing;

use crate::service::domain::{DomainInput, DomainView};

pub(super) fn input(request: SetDomainRequest) -> DomainInput {
    let SetDomainRequest { setting, token } = request;
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
    DomainInput {
        fields: DomainFields {
            mode,
            domain: given(domain),
            email: given(email),
            provider: given(provider),
            server: given(server),
            tsig_name: given(tsig_name),
            tsig_algorithm: given(tsig_algorithm),
            acme_directory: given(acme_directory),
            acme_authority: given(acme_authority),
        },
        token: given(token).map(Zeroizing::new),
    }
}

pub(super) fn shown(view: &DomainView) -> DomainSetting {
    let DomainFields {
        mode,
        domain,
        email,
        provider,
        server,
        tsig_name,
        tsig_algorithm,
        acme_directory,
        acme_authority,
    } = view.domain.fields();
    DomainSetting {
        mode,
        domain: domain.unwrap_or_default(),
        email: email.unwrap_or_default(),
        provider: provider.unwrap_or_default(),
        server: server.unwrap_or_default(),
        tsig_name: tsig_name.unwrap_or_default(),
        tsig_algorithm: tsig_algorithm.unwrap_or_default(),
        acme_directory: acme_directory.unwrap_or_default(),
        acme_authority: acme_authority.unwrap_or_default(),
    }
}
